// Who may do what. The app gives rights on what is its own and on nothing else: an access rule of its own on, say, incident would take the place of the rules that
// the table inherits, for everybody. What the integration user needs on the request tables is in docs/servicenow-app.md, to be granted by hand.
import { Acl, ApplicationMenu, Record, Role } from '@servicenow/sdk/core'

export const admin = Role({
    name: 'x_tkbr_bridge.admin',
    description: 'Sets the properties of Ticketbridge, and reads and mends its outbox',
})
export const integration = Role({
    name: 'x_tkbr_bridge.integration',
    description: 'For the user as which ticketbridge signs in. It may fill the columns that the app adds to tickets, and nothing else.',
})

Acl({ $id: Now.ID['outbox-read'], type: 'record', table: 'x_tkbr_bridge_outbox', operation: 'read', roles: [admin], adminOverrides: true, active: true })
Acl({ $id: Now.ID['outbox-write'], type: 'record', table: 'x_tkbr_bridge_outbox', operation: 'write', roles: [admin], adminOverrides: true, active: true })
Acl({ $id: Now.ID['outbox-delete'], type: 'record', table: 'x_tkbr_bridge_outbox', operation: 'delete', roles: [admin], adminOverrides: true, active: true })

Acl({
    $id: Now.ID['fill-request-id'],
    type: 'record',
    table: 'task',
    field: 'x_tkbr_bridge_request_id',
    operation: 'write',
    roles: [integration],
    adminOverrides: true,
    active: true,
})
Acl({
    $id: Now.ID['fill-stage'],
    type: 'record',
    table: 'task',
    field: 'x_tkbr_bridge_stage',
    operation: 'write',
    roles: [integration],
    adminOverrides: true,
    active: true,
})
Acl({
    $id: Now.ID['fill-stage-instance-id'],
    type: 'record',
    table: 'task',
    field: 'x_tkbr_bridge_stage_instance_id',
    operation: 'write',
    roles: [integration],
    adminOverrides: true,
    active: true,
})
Acl({
    $id: Now.ID['fill-user-object-id'],
    type: 'record',
    table: 'task',
    field: 'x_tkbr_bridge_user_object_id',
    operation: 'write',
    roles: [integration],
    adminOverrides: true,
    active: true,
})

const menu = ApplicationMenu({
    $id: Now.ID['menu'],
    title: 'Ticketbridge',
    hint: 'Tells ticketbridge when its tickets are closed',
    roles: [admin],
    active: true,
})
Record({
    $id: Now.ID['module-outbox'],
    table: 'sys_app_module',
    data: {
        title: 'Outbox',
        order: 100,
        application: menu,
        link_type: 'LIST',
        name: 'x_tkbr_bridge_outbox',
        filter: '',
        roles: ['x_tkbr_bridge.admin'],
        active: true,
    },
})
Record({
    $id: Now.ID['module-unheard'],
    table: 'sys_app_module',
    data: {
        title: 'Not yet acknowledged',
        order: 200,
        application: menu,
        link_type: 'LIST',
        name: 'x_tkbr_bridge_outbox',
        filter: 'state!=acknowledged',
        roles: ['x_tkbr_bridge.admin'],
        active: true,
    },
})
