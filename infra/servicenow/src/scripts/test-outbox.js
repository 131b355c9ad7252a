// A step of the ATF test. The ticket is the one that the step before it made; everything is rolled back afterwards, and nothing is sent.
(function (outputs, steps, params, stepResult, assertEqual) {
    var ticket = new GlideRecord('incident');
    ticket.addQuery('correlation_id', '00000000-0000-4000-8000-000000000001/00000000-0000-4000-8000-000000000002');
    ticket.setLimit(1);
    ticket.query();
    assertEqual({ name: 'the ticket of the step before is there', shouldbe: true, value: ticket.next() });

    var outbox = new TicketbridgeOutbox();
    var row = outbox.enqueue(ticket);
    assertEqual({ name: 'the row waits', shouldbe: 'waiting', value: String(row.getValue('state')) });
    var said = JSON.parse(outbox.body(row));
    assertEqual({ name: 'table', shouldbe: 'incident', value: said.table });
    assertEqual({ name: 'sys_id', shouldbe: String(ticket.getUniqueValue()), value: said.sys_id });
    assertEqual({ name: 'number', shouldbe: String(ticket.getValue('number')), value: said.number });
    assertEqual({ name: 'correlation_id', shouldbe: String(ticket.getValue('correlation_id')), value: said.correlation_id });

    ticket.setValue('correlation_id', 'somebody else\'s');
    assertEqual({ name: 'a ticket that is not ours is left alone', shouldbe: true, value: outbox.enqueue(ticket) === null });
})(outputs, steps, params, stepResult, assertEqual);
