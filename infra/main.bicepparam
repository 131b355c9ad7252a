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

// Entra calls a Logic App, the relay, which hands its calls on: it is made with the rest. Where the tenant lets Entra call the function itself: false.
param relay = true

// Beside the function key, tokens can be asked of those who call: of the relay, or of entitlement management where it calls the function itself. First run `handler connect`, which makes the
// application that the tokens are for; then name it here, with the role that connect gives to the relay, and deploy again:
//   param calloutAudience = 'api://00000000-0000-0000-0000-000000000000'
//   param calloutRole = 'Callout.Send'
// And of ServiceNow, when it reports a closed ticket; or a signature, with a key that both know:
//   param closeAudience = 'api://00000000-0000-0000-0000-000000000000'
//   param closeCallers = ['00000000-0000-0000-0000-000000000000']
//   param closeRole = 'Ticket.Close'
//   param closeHmacKeySecretName = 'servicenow-close-key'

// Instances that are always warm. With the relay none has to be: it waits, and Entra has its answer. Entra itself waits a second or two.
//   param alwaysReadyInstances = 1

// Who is told when something is wrong: e-mail addresses, and an action group that exists. Without either the alerts show in the portal only.
param alertEmails = []
//   param alertActionGroupId = '/subscriptions/…/providers/Microsoft.Insights/actionGroups/…'

// A console for operators: the application with which they sign in. It needs the redirect URI https://<app>.azurewebsites.net/.auth/login/aad/callback, a federated
// credential for the app's identity, ID tokens, and should require assignment: who is assigned sees the console.
//   param consoleClientId = '00000000-0000-0000-0000-000000000000'

// Storage and Key Vault at private addresses of a virtual network of the app's own.
//   param privateNetwork = true

// On everything that takes tags.
param tags = {}

// The relay is made once the app is published: `make deploy` says so on its command line, azd by this variable of its environment.
param appPublished = bool(readEnvironmentVariable('APP_PUBLISHED', 'false'))
