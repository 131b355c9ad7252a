// What the parameters leave as it is, once the app is published: the relay, no always-ready instance, public addresses, and a secret for ServiceNow in a Key Vault.
using '../main.bicep'

param appPublished = true
param serviceNowUrl = 'https://example.service-now.com'
param serviceNowClientId = '00000000000000000000000000000001'
param keyVaultName = 'example-vault'
param serviceNowSecretName = 'servicenow-client-secret'
