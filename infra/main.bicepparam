// The parameters of a deployment: copy this file, change it, and say so: make deploy RESOURCE_GROUP=… PARAMETERS=infra/ours.bicepparam
// Every parameter with its default is in main.bicep.
using 'main.bicep'

// The ServiceNow instance.
param serviceNowUrl = 'https://example.service-now.com'

// How to sign in there. With entra, ServiceNow trusts the app's own identity and no secret exists anywhere:
//   param serviceNowAuth = 'entra'
//   param serviceNowAudience = 'api://00000000-0000-0000-0000-000000000000'
// Otherwise a secret in a Key Vault is named, here that of an OAuth registration in ServiceNow:
param serviceNowAuth = 'client-credentials'
param serviceNowClientId = '00000000000000000000000000000000'
param keyVaultName = 'example-vault'
param serviceNowSecretName = 'servicenow-client-secret'
// In another resource group than the app: param keyVaultResourceGroup = '…'

// Callouts for other catalogs are refused when this lists any.
param catalogIds = []

// Beside the function key, tokens can be asked of the callers: of entitlement management where it calls the function directly, and of the relay's
// identity (its object id).
//   param calloutAudience = 'api://00000000-0000-0000-0000-000000000000'
//   param relayPrincipalId = '00000000-0000-0000-0000-000000000000'
// And of ServiceNow, when it reports a closed ticket; or a signature, with a key that both know:
//   param closeAudience = 'api://00000000-0000-0000-0000-000000000000'
//   param closeCallers = ['00000000-0000-0000-0000-000000000000']
//   param closeHmacKeySecretName = 'servicenow-close-key'

// One instance is kept warm, so that Entra's callout, which waits a second or two, never meets a cold start. 0 saves its price.
param alwaysReadyInstances = 1

// The relay is made once the app is published: `make deploy` says so on its command line, azd by this variable of its environment.
param appPublished = bool(readEnvironmentVariable('APP_PUBLISHED', 'false'))
