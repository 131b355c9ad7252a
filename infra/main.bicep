// Everything that ticketbridge needs in Azure, in one resource group: the function app on the Flex Consumption plan, its identity, its
// storage, and where its logs go. No key and no password is stored: the app signs in to storage, to its logs, to Key Vault and to Graph with
// its identity. What the identity may do in Microsoft Graph is not given here but by an access package catalog.
targetScope = 'resourceGroup'

metadata name = 'ticketbridge'
metadata description = 'Opens a ServiceNow ticket for each paused Microsoft Entra access package request, and resumes the request when the ticket is closed.'

@description('What the names of the resources begin with: lower-case letters, digits and hyphens.')
@minLength(2)
@maxLength(24)
param name string = 'ticketbridge'

@description('The region of all resources. Flex Consumption must be offered there.')
param location string = resourceGroup().location

@description('Tags of all resources.')
param tags { *: string } = {}

// The app's size

@description('Instances that are always warm for the callout, which Entra gives up after a second or two. 0: the first call after a pause may come too late, and Entra repeats it once at most.')
@minValue(0)
@maxValue(20)
param alwaysReadyInstances int = 1

@description('The most instances that each of the app\'s parts may grow to.')
@minValue(1)
@maxValue(1000)
param maximumInstances int = 40

@description('The memory of an instance in MB.')
@allowed([512, 2048, 4096])
param instanceMemory int = 512

@description('The redundancy of the storage account, which holds what is waiting. Regions without availability zones have Standard_LRS and Standard_GRS only.')
@allowed(['Standard_LRS', 'Standard_ZRS', 'Standard_GRS', 'Standard_GZRS'])
param storageRedundancy string = 'Standard_ZRS'

@description('How many days logs are kept.')
@minValue(30)
@maxValue(730)
param logRetentionDays int = 90

// ServiceNow

@description('The ServiceNow instance, as in https://example.service-now.com, with a base path if there is one.')
param serviceNowUrl string

@description('How the app signs in to ServiceNow. entra needs no stored secret.')
@allowed(['client-credentials', 'basic', 'api-key', 'entra'])
param serviceNowAuth string = 'client-credentials'

@description('For client-credentials: the client id of the OAuth registration in ServiceNow.')
param serviceNowClientId string = ''

@description('For basic: the integration user\'s name.')
param serviceNowUsername string = ''

@description('For entra: the audience that ServiceNow\'s OIDC provider expects, as in api://<application id>.')
param serviceNowAudience string = ''

@description('The longest that one call to ServiceNow may take.')
param serviceNowTimeout string = '30s'

@description('How long after an unclear create ServiceNow may still be finishing it.')
param serviceNowSettle string = '65s'

// Secrets

@description('The Key Vault (with Azure RBAC) that holds the secrets named below; they must exist. Empty: no secret is used.')
param keyVaultName string = ''

@description('The resource group of the Key Vault.')
param keyVaultResourceGroup string = resourceGroup().name

@description('The Key Vault secret with ServiceNow\'s client secret, password or API key, whichever serviceNowAuth needs. Unused with entra.')
param serviceNowSecretName string = ''

@description('The Key Vault secret with the key, in base64, that ServiceNow signs its close notifications with. Empty: no signature is asked for.')
param closeHmacKeySecretName string = ''

@description('The Key Vault secret with the client certificate, in PEM, for an instance or a gateway that asks for one. Empty: there is none.')
param serviceNowCertificateSecretName string = ''

@description('The Key Vault secret with the certificate\'s private key, in PEM. Empty: it stands beside the certificate.')
param serviceNowPrivateKeySecretName string = ''

@description('The Key Vault secret with headers for each call of ServiceNow, as a gateway may want: Name: value on each line. Empty: none.')
param serviceNowHeadersSecretName string = ''

// Who may call. The function key is asked for in any case.

@description('When set, callouts need a token of this tenant with this audience.')
param calloutAudience string = ''

@description('The application ids whose tokens are taken for callouts. None: entitlement management\'s.')
param calloutCallers string[] = []

@description('The object id of the relay\'s managed identity, whose tokens are taken for callouts too. Empty: there is no relay.')
param relayPrincipalId string = ''

@description('The app role that a caller of the callout must have too, as in Callout.Send. Empty: none.')
param calloutRole string = ''

@description('When set, close notifications need a token of this tenant with this audience.')
param closeAudience string = ''

@description('The application ids whose tokens are taken for close notifications.')
param closeCallers string[] = []

@description('The app role that a caller of the close notification must have too, as in Ticket.Close. Empty: none.')
param closeRole string = ''

@description('When not empty, callouts for other catalogs than these (ids) are refused.')
param catalogIds string[] = []

@description('The rules file, relative to the folder of host.json. Empty: tickets.yaml there, and without it the built-in rules.')
param ticketsFile string = ''

@description('Who may see the console: easyauth, those whom App Service authentication lets in; empty: there is no console.')
@allowed(['', 'easyauth'])
param consoleAuth string = ''

// The rest of the settings

@description('What the names of the tables and the queue begin with: lower-case letters and digits, the first a letter.')
@minLength(1)
@maxLength(48)
param storagePrefix string = 'ticketbridge'

@description('When the sweep runs, as a cron expression with seconds. It finds closed tickets that nobody reported, and what got stuck.')
param sweepSchedule string = '0 * * * * *'

@description('How often the sweep looks at a waiting ticket and at its request.')
param checkInterval string = '10m'

@description('For how many days what has ended is kept, with its timeline; 0 is for ever.')
@minValue(0)
@maxValue(36500)
param retentionDays int = 90

@description('Microsoft Graph, with its version; another one in national clouds.')
param graphUrl string = 'https://graph.microsoft.com/v1.0'

@description('The longest that one call to Graph may take: 1s to 30s.')
param graphTimeout string = '30s'

@description('Whether Graph is asked for the e-mail address and principal name of people of whom a callout says neither.')
param directoryLookup bool = true

@allowed(['trace', 'debug', 'info', 'warn', 'error'])
param logLevel string = 'info'

var suffix = uniqueString(resourceGroup().id)
var appName = '${name}-${suffix}'

var secretNames = {
  serviceNow: serviceNowAuth == 'entra' ? '' : serviceNowSecretName
  closeHmacKey: closeHmacKeySecretName
  certificate: serviceNowCertificateSecretName
  privateKey: serviceNowPrivateKeySecretName
  headers: serviceNowHeadersSecretName
}
var secretReference = mapValues(
  secretNames,
  secret =>
    empty(keyVaultName) || empty(secret) ? '' : '@Microsoft.KeyVault(VaultName=${keyVaultName};SecretName=${secret})'
)

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: appName
  location: location
  tags: tags
}

module storage 'modules/storage.bicep' = {
  params: {
    name: '${take(replace(name, '-', ''), 11)}${suffix}'
    location: location
    tags: tags
    redundancy: storageRedundancy
    identityId: identity.id
    principalId: identity.properties.principalId
  }
}

module monitoring 'modules/monitoring.bicep' = {
  params: {
    name: appName
    location: location
    tags: tags
    retentionDays: logRetentionDays
    identityId: identity.id
    principalId: identity.properties.principalId
  }
}

module secrets 'modules/secrets.bicep' = if (!empty(keyVaultName)) {
  scope: resourceGroup(keyVaultResourceGroup)
  params: {
    vaultName: keyVaultName
    secretNames: filter(map(items(secretNames), secret => secret.value), secret => !empty(secret))
    identityId: identity.id
    principalId: identity.properties.principalId
  }
}

module app 'modules/app.bicep' = {
  params: {
    name: appName
    location: location
    tags: tags
    identityId: identity.id
    packageContainerUri: storage.outputs.packageContainerUri
    alwaysReadyInstances: alwaysReadyInstances
    maximumInstances: maximumInstances
    instanceMemory: instanceMemory
    settings: {
      // What the Functions host itself needs, and the app reads too.
      AzureWebJobsStorage__credential: 'managedidentity'
      AzureWebJobsStorage__clientId: identity.properties.clientId
      AzureWebJobsStorage__blobServiceUri: storage.outputs.blobServiceUri
      AzureWebJobsStorage__queueServiceUri: storage.outputs.queueServiceUri
      AzureWebJobsStorage__tableServiceUri: storage.outputs.tableServiceUri
      APPLICATIONINSIGHTS_CONNECTION_STRING: monitoring.outputs.connectionString
      APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'ClientId=${identity.properties.clientId};Authorization=AAD'
      // What the bindings in functions/ name: the Functions host finds a function in error when one of these is missing.
      STORAGE_PREFIX: storagePrefix
      SWEEP_SCHEDULE: sweepSchedule
      // What only the app reads. An empty one counts as not set and is left out.
      AZURE_TENANT_ID: tenant().tenantId
      AZURE_CLIENT_ID: identity.properties.clientId
      AZURE_AUTHORITY_HOST: environment().authentication.loginEndpoint
      GRAPH_URL: graphUrl
      GRAPH_TIMEOUT: graphTimeout
      DIRECTORY_LOOKUP: string(directoryLookup)
      SERVICENOW_URL: serviceNowUrl
      SERVICENOW_AUTH: serviceNowAuth
      SERVICENOW_CLIENT_ID: serviceNowClientId
      SERVICENOW_CLIENT_SECRET: serviceNowAuth == 'client-credentials' ? secretReference.serviceNow : ''
      SERVICENOW_USERNAME: serviceNowUsername
      SERVICENOW_PASSWORD: serviceNowAuth == 'basic' ? secretReference.serviceNow : ''
      SERVICENOW_API_KEY: serviceNowAuth == 'api-key' ? secretReference.serviceNow : ''
      SERVICENOW_AUDIENCE: serviceNowAudience
      SERVICENOW_CERTIFICATE: secretReference.certificate
      SERVICENOW_PRIVATE_KEY: secretReference.privateKey
      SERVICENOW_HEADERS: secretReference.headers
      SERVICENOW_TIMEOUT: serviceNowTimeout
      SERVICENOW_SETTLE: serviceNowSettle
      CALLOUT_AUDIENCE: calloutAudience
      CALLOUT_CALLERS: join(calloutCallers, ',')
      CALLOUT_ROLE: calloutRole
      RELAY_PRINCIPAL_ID: relayPrincipalId
      CLOSE_AUDIENCE: closeAudience
      CLOSE_CALLERS: join(closeCallers, ',')
      CLOSE_ROLE: closeRole
      CLOSE_HMAC_KEY: secretReference.closeHmacKey
      CATALOG_IDS: join(catalogIds, ',')
      TICKETS_FILE: ticketsFile
      CONSOLE_AUTH: consoleAuth
      CHECK_INTERVAL: checkInterval
      RETENTION_DAYS: string(retentionDays)
      LOG_LEVEL: logLevel
    }
  }
  // The references are resolved as the app starts: the role must be there. The other modules are waited for through their outputs.
  dependsOn: [secrets]
}

@description('For `func azure functionapp publish`.')
output functionAppName string = app.outputs.name

@description('Where Entra, or the relay, sends callouts; the function key goes into the header x-functions-key.')
output calloutUrl string = '${app.outputs.url}/api/callout'

@description('Where ServiceNow reports closed tickets; the function key goes into the header x-functions-key.')
output ticketClosedUrl string = '${app.outputs.url}/api/ticket-closed'

@description('The console, where consoleAuth gives one.')
output consoleUrl string = empty(consoleAuth) ? '' : '${app.outputs.url}/api/console/'

@description('The object id of the app\'s identity: give it the role "Access package assignment manager" on the catalog and, with SERVICENOW_AUTH=entra, make it the User ID of the integration user.')
output identityObjectId string = identity.properties.principalId

@description('The client id of the app\'s identity.')
output identityClientId string = identity.properties.clientId

@description('For commands on an operator\'s machine: AzureWebJobsStorage__accountName.')
output storageAccountName string = storage.outputs.name
