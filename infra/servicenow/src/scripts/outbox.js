// The outbox: what ticketbridge is to hear, kept until it has answered that it heard. ES5, as the app's JavaScript level says.
//
// A row is written before the first call and changed before each further one, so that a node that dies in between leaves a row that is due again. A repeated call
// is harmless: ticketbridge takes it as a hint and reads the ticket for itself.
var TicketbridgeOutbox = Class.create();
TicketbridgeOutbox.prototype = {
    initialize: function () {
        this.table = 'x_tkbr_bridge_outbox';
        this.first = 60; // seconds from the first attempt to the second; then twice as long each time
        this.longest = 3600;
        this.timeout = 10000; // milliseconds for one call: ticketbridge answers within one second
        this.batch = 100; // rows in one run of the scheduled script
        this.silences = 3; // calls in a row without any answer, after which a run ends
    },

    // isOurs says whether ticketbridge opened the ticket: its correlation_id is <request id>/<stage instance id>, with /2, /3 for further tickets of one request.
    isOurs: function (ticket) {
        var guid = '[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}';
        return new RegExp('^' + guid + '/' + guid + '(/[0-9]+)?$', 'i').test(String(ticket.getValue('correlation_id') || ''));
    },

    // enqueue puts a closed ticket into the outbox and returns the row; null for a ticket that is not ours. A row of the ticket that is still waiting is used again.
    enqueue: function (ticket) {
        if (!this.isOurs(ticket)) {
            return null;
        }
        var row = new GlideRecord(this.table);
        row.addQuery('ticket_sys_id', ticket.getUniqueValue());
        row.addQuery('state', 'waiting');
        row.setLimit(1);
        row.query();
        var waits = row.next();
        if (!waits) {
            row = new GlideRecord(this.table);
            row.initialize();
            row.setValue('ticket_sys_id', ticket.getUniqueValue());
            row.setValue('state', 'waiting');
            row.setValue('attempts', 0);
        }
        row.setValue('ticket_table', ticket.getRecordClassName());
        row.setValue('ticket_number', ticket.getValue('number'));
        row.setValue('ticket_state', ticket.getValue('state'));
        row.setValue('correlation_id', ticket.getValue('correlation_id'));
        row.setValue('next_attempt', this._in(this.first)); // if this script gets no further, the scheduled one does
        if (waits) {
            row.update();
        } else {
            row.insert();
        }
        return row;
    },

    // body is what a row says to ticketbridge, in ASCII, so that no character set comes between the signature and the bytes.
    body: function (row) {
        return JSON.stringify({
            table: String(row.getValue('ticket_table') || ''),
            sys_id: String(row.getValue('ticket_sys_id') || ''),
            number: String(row.getValue('ticket_number') || ''),
            state: String(row.getValue('ticket_state') || ''),
            correlation_id: String(row.getValue('correlation_id') || '')
        }).replace(/[\u007f-\uffff]/g, function (c) {
            return '\\u' + ('000' + c.charCodeAt(0).toString(16)).slice(-4);
        });
    },

    // send makes one attempt, and returns the HTTP status; 0 when there was no answer, -1 when nothing was sent because a property is wrong.
    send: function (row) {
        var attempts = (parseInt(row.getValue('attempts'), 10) || 0) + 1;
        var delay = Math.min(this.first * Math.pow(2, attempts - 1), this.longest);
        row.setValue('attempts', attempts);
        row.setValue('last_attempt', this._in(0));
        row.setValue('next_attempt', this._in(delay));
        row.update();

        var status = 0, error = '', wait = 0;
        try {
            var message = this._message(this.body(row));
            try {
                var response = message.execute();
                status = parseInt(response.getStatusCode(), 10) || 0;
                wait = parseInt(response.getHeader('Retry-After'), 10) || 0;
                if (status < 200 || status > 299) {
                    error = status === 0 ? String(response.getErrorMessage() || 'no answer') : String(response.getBody() || '');
                }
            } catch (e) {
                error = 'no answer: ' + String(e);
            }
        } catch (e) {
            status = -1;
            error = String(e.message || e);
        }
        row.setValue('last_status', status);
        row.setValue('last_error', error.substring(0, 1000));
        if (status >= 200 && status <= 299) {
            row.setValue('state', 'acknowledged');
            row.setValue('acknowledged_on', this._in(0));
        } else if (attempts >= this._number('max_attempts', 30)) {
            row.setValue('state', 'failed');
            gs.error('Ticketbridge: gave up telling of ' + row.getValue('ticket_number') + ' after ' + attempts + ' attempts; the last one: ' + status + ' ' + error.substring(0, 200));
        } else if (wait > delay) {
            row.setValue('next_attempt', this._in(Math.min(wait, this.longest)));
        }
        row.update();
        return status;
    },

    // sendDue makes an attempt for each row that is due, the longest due first.
    sendDue: function () {
        var row = new GlideRecord(this.table);
        row.addQuery('state', 'waiting');
        row.addQuery('next_attempt', '<=', this._in(0));
        row.orderBy('next_attempt');
        row.setLimit(this.batch);
        row.query();
        var silent = 0;
        while (silent < this.silences && row.next()) {
            silent = this.send(row) === 0 ? silent + 1 : 0;
        }
    },

    // removeOld deletes what was acknowledged long ago. What failed stays until somebody deletes it.
    removeOld: function () {
        var row = new GlideRecord(this.table);
        row.addQuery('state', 'acknowledged');
        row.addQuery('acknowledged_on', '<', this._in(-this._number('keep_days', 30) * 86400));
        row.deleteMultiple();
    },

    // _message makes the call, which proves itself as the properties say. It throws what is wrong with them: nothing is sent unproven.
    _message: function (body) {
        var url = this._property('close_url');
        if (!/^https:\/\/[^\s]+$/.test(url)) {
            throw new Error('The property x_tkbr_bridge.close_url must hold the https URL of ticketbridge: https://<app>.azurewebsites.net/api/ticket-closed');
        }
        var message = new sn_ws.RESTMessageV2('x_tkbr_bridge.Ticketbridge', 'ticket closed');
        message.setEndpoint(url);
        message.setHttpTimeout(this.timeout);
        message.setRequestBody(body);

        var proof = this._property('proof') || 'function_key';
        var key = this._property('function_key');
        if (key) {
            message.setRequestHeader('x-functions-key', key);
        } else if (proof === 'function_key') {
            throw new Error('The property x_tkbr_bridge.function_key is empty');
        }
        if (proof === 'hmac') {
            var secret = this._property('hmac_key');
            if (!secret) {
                throw new Error('The property x_tkbr_bridge.hmac_key is empty');
            }
            var timestamp = String(Math.floor(new GlideDateTime().getNumericValue() / 1000));
            var signer = typeof GlideCertificateEncryption === 'undefined' ? new CertificateEncryption() : new GlideCertificateEncryption();
            message.setRequestHeader('X-Ticketbridge-Timestamp', timestamp);
            message.setRequestHeader('X-Ticketbridge-Signature', String(signer.generateMac(secret, 'HmacSHA256', timestamp + '.' + body)));
        } else if (proof === 'oauth') {
            var profile = this._property('oauth_profile');
            if (!/^[0-9a-f]{32}$/.test(profile)) {
                throw new Error('The property x_tkbr_bridge.oauth_profile must hold the sys_id of an OAuth entity profile');
            }
            message.setAuthenticationProfile('oauth2', profile);
        } else if (proof !== 'function_key') {
            throw new Error('The property x_tkbr_bridge.proof must be function_key, hmac or oauth');
        }
        return message;
    },

    _property: function (name) {
        return String(gs.getProperty('x_tkbr_bridge.' + name, '') || '').trim();
    },

    _number: function (name, otherwise) {
        var n = parseInt(this._property(name), 10);
        return n > 0 ? n : otherwise;
    },

    // _in is the time that many seconds from now, as GlideRecord takes and compares it: in UTC.
    _in: function (seconds) {
        var at = new GlideDateTime();
        at.addSeconds(seconds);
        return at.getValue();
    },

    type: 'TicketbridgeOutbox'
};
