// What the app adds to the tickets: columns for the correlation, and the rule that notices that one is closed.
import { BusinessRule, Record } from '@servicenow/sdk/core'

// The columns of Microsoft's tutorial, on task, so that every kind of ticket has them. Nothing depends on them: ticketbridge finds its tickets by correlation_id. They
// are for lists, reports and flows, and tickets.yaml fills them. They are records, because Table({ augments }) would close task to web services.
Record({
    $id: Now.ID['column-request-id'],
    table: 'sys_dictionary',
    data: {
        name: 'task',
        element: 'x_tkbr_bridge_request_id',
        column_label: 'AccessPackageAssignmentRequestId',
        comments: 'The access package assignment request in Microsoft Entra',
        internal_type: 'string',
        max_length: 64,
        active: true,
        read_only: false,
        mandatory: false,
        display: false,
    },
})
Record({
    $id: Now.ID['column-stage'],
    table: 'sys_dictionary',
    data: {
        name: 'task',
        element: 'x_tkbr_bridge_stage',
        column_label: 'AccessPackageAssignmentStage',
        comments: 'The stage of the policy at which Microsoft Entra called out',
        internal_type: 'string',
        max_length: 64,
        active: true,
        read_only: false,
        mandatory: false,
        display: false,
    },
})
Record({
    $id: Now.ID['column-stage-instance-id'],
    table: 'sys_dictionary',
    data: {
        name: 'task',
        element: 'x_tkbr_bridge_stage_instance_id',
        column_label: 'StageInstanceId',
        comments: 'The paused stage that is resumed when the ticket is closed',
        internal_type: 'string',
        max_length: 64,
        active: true,
        read_only: false,
        mandatory: false,
        display: false,
    },
})
Record({
    $id: Now.ID['column-user-object-id'],
    table: 'sys_dictionary',
    data: {
        name: 'task',
        element: 'x_tkbr_bridge_user_object_id',
        column_label: 'EntraUserObjectId',
        comments: 'Whom the access is for, by the object id in Microsoft Entra',
        internal_type: 'string',
        max_length: 64,
        active: true,
        read_only: false,
        mandatory: false,
        display: false,
    },
})

// A rule on another scope's table may only be async, and then "changes" is known to its condition alone. It is on task, so it sees every kind of ticket. Ours have a
// correlation_id with a slash in it, which the script looks at more closely; correlation_display is whatever tickets.yaml makes of it. Closed
// is: no longer active; closed otherwise than before; rejected by an approver; or, for what stays active then, resolved (an incident's state 6).
BusinessRule({
    $id: Now.ID['rule-closed'],
    name: 'Ticketbridge: ticket closed',
    description: 'Puts a ticket of ticketbridge that was closed into the outbox, and tells ticketbridge',
    table: 'task',
    when: 'async',
    action: ['update'],
    order: 1000,
    priority: 100,
    active: true,
    filterCondition: 'correlation_idLIKE/^activeCHANGESTOfalse^NQcorrelation_idLIKE/^active=false^stateVALCHANGES^NQcorrelation_idLIKE/^approvalCHANGESTOrejected^NQcorrelation_idLIKE/^sys_class_name=incident^stateCHANGESTO6',
    script: Now.include('../scripts/closed.js'),
})
