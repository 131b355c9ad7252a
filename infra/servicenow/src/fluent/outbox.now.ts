// What ticketbridge is to hear, and the scripts that tell it.
import { ChoiceColumn, DateTimeColumn, IntegerColumn, RestMessage, ScheduledScript, ScriptInclude, StringColumn, Table } from '@servicenow/sdk/core'

export const x_tkbr_bridge_outbox = Table({
    name: 'x_tkbr_bridge_outbox',
    label: 'Ticketbridge outbox',
    display: 'ticket_number',
    actions: ['read'],
    allowWebServiceAccess: false,
    createAccessControls: false,
    schema: {
        ticket_number: StringColumn({ label: 'Ticket', maxLength: 40, readOnly: true }),
        ticket_table: StringColumn({ label: 'Table', maxLength: 80, readOnly: true }),
        ticket_sys_id: StringColumn({ label: 'Ticket sys_id', maxLength: 32, readOnly: true }),
        ticket_state: StringColumn({ label: 'Ticket state', maxLength: 40, readOnly: true }),
        correlation_id: StringColumn({ label: 'Correlation ID', maxLength: 100, readOnly: true }),
        state: ChoiceColumn({
            label: 'State',
            dropdown: 'dropdown_without_none',
            choices: {
                waiting: { label: 'Waiting', sequence: 1 },
                acknowledged: { label: 'Acknowledged', sequence: 2 },
                failed: { label: 'Failed', sequence: 3 },
            },
            default: 'waiting',
        }),
        attempts: IntegerColumn({ label: 'Attempts', default: 0 }),
        last_attempt: DateTimeColumn({ label: 'Last attempt', readOnly: true }),
        next_attempt: DateTimeColumn({ label: 'Next attempt' }),
        last_status: IntegerColumn({ label: 'Last status', readOnly: true, hint: 'HTTP status; 0: no answer; -1: nothing was sent, because a property is wrong' }),
        last_error: StringColumn({ label: 'Last error', maxLength: 1000, readOnly: true }),
        acknowledged_on: DateTimeColumn({ label: 'Acknowledged', readOnly: true }),
    },
    index: [
        { name: 'due', element: ['state', 'next_attempt'], unique: false },
        { name: 'ticket', element: ['ticket_sys_id', 'state'], unique: false },
    ],
})

ScriptInclude({
    $id: Now.ID['script-outbox'],
    name: 'TicketbridgeOutbox',
    apiName: 'x_tkbr_bridge.TicketbridgeOutbox',
    description: 'Keeps what ticketbridge is to hear, and tells it until it has heard',
    accessibleFrom: 'package_private',
    clientCallable: false,
    active: true,
    script: Now.include('../scripts/outbox.js'),
})

ScheduledScript({
    $id: Now.ID['job-send-due'],
    name: 'Ticketbridge: send again',
    active: true,
    frequency: 'periodically',
    executionInterval: { minutes: 1 },
    script: Now.include('../scripts/send-due.js'),
})

ScheduledScript({
    $id: Now.ID['job-remove-old'],
    name: 'Ticketbridge: remove what was acknowledged long ago',
    active: true,
    frequency: 'daily',
    executionTime: { hours: 3, minutes: 17, seconds: 0 },
    timeZone: 'UTC',
    script: Now.include('../scripts/remove-old.js'),
})

// The URL, the key and the signature are put in by the script, from the properties: an endpoint of a record holds 200 characters, and no secret.
RestMessage({
    $id: Now.ID['message'],
    name: 'Ticketbridge',
    description: 'The close endpoint of ticketbridge. The URL is the property x_tkbr_bridge.close_url.',
    endpoint: 'https://ticketbridge.invalid/api/ticket-closed',
    authenticationType: 'noAuthentication',
    access: 'packagePrivate',
    headers: [
        { $id: Now.ID['message-accept'], name: 'Accept', value: 'application/json' },
        { $id: Now.ID['message-content-type'], name: 'Content-Type', value: 'application/json' },
    ],
    functions: [{ name: 'ticket closed', httpMethod: 'POST', endpoint: 'https://ticketbridge.invalid/api/ticket-closed', authenticationType: 'noAuthentication' }],
})
