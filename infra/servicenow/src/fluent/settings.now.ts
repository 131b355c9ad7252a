// What an administrator sets after the installation. They come with the first installation only, so that an upgrade leaves them as they are set. Secrets are encrypted,
// and stay out of update sets.
import { Property } from '@servicenow/sdk/core'
import { admin } from './access.now'

Property({
    $id: Now.ID['property-close-url'],
    $meta: { installMethod: 'first install' },
    name: 'x_tkbr_bridge.close_url',
    type: 'string',
    description: 'The https URL of the close endpoint: https://<app>.azurewebsites.net/api/ticket-closed',
    value: '',
    isPrivate: true,
    roles: { read: [admin], write: [admin] },
})
Property({
    $id: Now.ID['property-function-key'],
    $meta: { installMethod: 'first install' },
    name: 'x_tkbr_bridge.function_key',
    type: 'password2',
    description: 'The function key of the close endpoint, sent as x-functions-key. Azure asks for it whatever else proves the call.',
    value: '',
    isPrivate: true,
    roles: { read: [admin], write: [admin] },
})
Property({
    $id: Now.ID['property-proof'],
    $meta: { installMethod: 'first install' },
    name: 'x_tkbr_bridge.proof',
    type: 'choicelist',
    choices: ['function_key', 'hmac', 'oauth'],
    description: 'What proves a call: the function key alone, a signature (hmac_key, CLOSE_HMAC_KEY of ticketbridge), or a token of Microsoft Entra (oauth_profile, CLOSE_AUDIENCE and CLOSE_CALLERS of ticketbridge)',
    value: 'function_key',
    isPrivate: true,
    roles: { read: [admin], write: [admin] },
})
Property({
    $id: Now.ID['property-hmac-key'],
    $meta: { installMethod: 'first install' },
    name: 'x_tkbr_bridge.hmac_key',
    type: 'password2',
    description: 'For proof hmac: the key in base64, 32 bytes, as in CLOSE_HMAC_KEY of ticketbridge',
    value: '',
    isPrivate: true,
    roles: { read: [admin], write: [admin] },
})
Property({
    $id: Now.ID['property-oauth-profile'],
    $meta: { installMethod: 'first install' },
    name: 'x_tkbr_bridge.oauth_profile',
    type: 'string',
    description: 'For proof oauth: the sys_id of the OAuth entity profile that gets tokens by client credentials from Microsoft Entra',
    value: '',
    isPrivate: true,
    roles: { read: [admin], write: [admin] },
})
Property({
    $id: Now.ID['property-max-attempts'],
    $meta: { installMethod: 'first install' },
    name: 'x_tkbr_bridge.max_attempts',
    type: 'integer',
    description: 'Attempts after which a row of the outbox is failed. With 30, that is after about a day.',
    value: 30,
    roles: { read: [admin], write: [admin] },
})
Property({
    $id: Now.ID['property-keep-days'],
    $meta: { installMethod: 'first install' },
    name: 'x_tkbr_bridge.keep_days',
    type: 'integer',
    description: 'How many days a row stays in the outbox after it was acknowledged',
    value: 30,
    roles: { read: [admin], write: [admin] },
})
