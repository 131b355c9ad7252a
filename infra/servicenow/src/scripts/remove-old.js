new TicketbridgeOutbox().removeOld();
