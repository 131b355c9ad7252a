new TicketbridgeOutbox().sendDue();
