// The rule's condition has found that the ticket is closed. This runs after the change and on its own, so whoever closed the ticket does not wait for us.
(function executeRule(current) {
    var outbox = new TicketbridgeOutbox();
    var row = outbox.enqueue(current);
    if (row) {
        outbox.send(row);
    }
})(current);
