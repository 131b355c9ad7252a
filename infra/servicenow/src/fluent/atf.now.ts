// A test for the instance's own Automated Test Framework: nothing is sent, and all that it makes is rolled back.
import { Test } from '@servicenow/sdk/core'

Test(
    {
        $id: Now.ID['test-outbox'],
        name: 'Ticketbridge: a ticket of ours goes to the outbox',
        description: 'A ticket with our correlation gets a row in the outbox that says what ticketbridge expects; another one gets none',
        active: true,
        failOnServerError: true,
    },
    (atf) => {
        atf.server.recordInsert({
            $id: Now.ID['test-outbox-ticket'],
            table: 'incident',
            fieldValues: {
                short_description: 'Ticketbridge: test of the outbox',
                correlation_display: 'ticketbridge',
                correlation_id: '00000000-0000-4000-8000-000000000001/00000000-0000-4000-8000-000000000002',
            },
            assert: 'record_successfully_inserted',
            enforceSecurity: false,
        })
        atf.server.runServerSideScript({
            $id: Now.ID['test-outbox-script'],
            script: Now.include('../scripts/test-outbox.js'),
        })
    }
)
