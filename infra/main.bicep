// Everything that ticketbridge needs in Azure, in one resource group: the function app on the Flex Consumption plan, its identity, its
// storage, where its logs go and who is told when something is wrong, and the relay through which Entra calls. No key and no password has to be known to
// anybody: the app signs in to storage, to its logs, to Key Vault and to Graph with its identity. What the identity may do in Microsoft Graph is
// not given here but by an access package catalog.
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

// How Entra calls

@description('Whether Entra calls a Logic App (Consumption) that hands its calls on: what Microsoft documents. Otherwise it calls the function itself, where the tenant allows that.')
param relay bool = true

@description('Whether the app\'s package was published before. The Functions host has the key of the function callout, which the relay sends, only from then on: until then the relay is left out, and a relay that is there is left as it is. So: deploy, publish, and deploy again with true, as `make deploy` does.')
param appPublished bool = false

// The app's size

@description('Instances that are always warm for HTTP. 0: after a pause the first call starts one, which takes some seconds. The relay waits for that; Entra, which gives up after a second or two and repeats the call once at most, does not.')
@minValue(0)
@maxValue(20)
param alwaysReadyInstances int = relay ? 0 : 1

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

// Who is told

@description('Whether there are alerts: requests that need a person, no sweep, a deadline that is near, callouts that are not taken, ServiceNow or Graph that does not serve, a relay that gave up.')
param alerts bool = true

@description('The e-mail addresses that alerts go to.')
param alertEmails string[] = []

@description('The resource id of an action group that exists, for alerts to go to as well. Empty: none.')
param alertActionGroupId string = ''

@description('Whether there is a workbook: requests by state and age, times, failures, calls.')
param workbook bool = true

// The network

@description('Whether the app calls out through a virtual network of its own, and reaches its storage and the Key Vault at private addresses; the storage then takes no calls from outside, and commands on its data work inside the network only. The resource provider Microsoft.App must be registered.')
param privateNetwork bool = false

@description('The addresses of that network: a /26 or larger.')
param networkAddressPrefix string = '10.90.0.0/26'

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

@description('When set, callouts need a token of this tenant with this audience, and the relay sends one: api://<application id> of the application that `handler connect` makes.')
param calloutAudience string = ''

@description('The application ids whose tokens are taken for callouts. None: entitlement management\'s.')
param calloutCallers string[] = []

@description('The object id of the managed identity of a relay that is not made here, whose tokens are taken for callouts too. Empty: there is none.')
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

@description('The application (client) id with which people sign in to the console, by App Service authentication. Empty: there is no console. Who is assigned to the application sees it: let it require assignment.')
param consoleClientId string = ''

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

// The portal takes a Logic App as the target of a custom extension only while its resource id has at most 150 characters: a long name is cut where the
// resource group's is long.
var workflowIdLength = 150
var workflowName = take(name, max(workflowIdLength - length(resourceId('Microsoft.Logic/workflows', 'x')) + 1, 1))
var workflowId = resourceId('Microsoft.Logic/workflows', workflowName)
var relayId = length(workflowId) <= workflowIdLength
  ? workflowId
  : fail('The resource id of the relay would have ${length(workflowId)} characters, and Entra takes at most ${workflowIdLength}: use a resource group with a shorter name, or relay = false')

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

resource relayIdentity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = if (relay) {
  name: '${appName}-relay'
  location: location
  tags: tags
}

module network 'modules/network.bicep' = if (privateNetwork) {
  params: {
    name: appName
    location: location
    tags: tags
    addressPrefix: networkAddressPrefix
  }
}

module storage 'modules/storage.bicep' = {
  params: {
    name: '${take(replace(name, '-', ''), 11)}${suffix}'
    location: location
    tags: tags
    redundancy: storageRedundancy
    private: privateNetwork
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

module storageEndpoints 'modules/endpoint.bicep' = [
  for service in ['blob', 'queue', 'table']: if (privateNetwork) {
    params: {
      name: '${appName}-${service}'
      location: location
      tags: tags
      targetId: storage.outputs.id
      service: service
      zoneName: 'privatelink.${service}.${environment().suffixes.storage}'
      networkId: network!.outputs.id
      subnetId: network!.outputs.endpointsSubnetId
    }
  }
]

module vaultEndpoint 'modules/endpoint.bicep' = if (privateNetwork && !empty(keyVaultName)) {
  params: {
    name: '${appName}-vault'
    location: location
    tags: tags
    targetId: secrets!.outputs.vaultId
    service: 'vault'
    zoneName: replace(environment().suffixes.keyvaultDns, '.vault.', 'privatelink.vaultcore.')
    networkId: network!.outputs.id
    subnetId: network!.outputs.endpointsSubnetId
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
    subnetId: privateNetwork ? network!.outputs.appSubnetId : ''
    consoleClientId: consoleClientId
    audiences: filter(union([calloutAudience], [closeAudience]), audience => !empty(audience))
    settings: {
      // What the Functions host itself needs, and the app reads too.
      AzureWebJobsStorage__credential: 'managedidentity'
      AzureWebJobsStorage__clientId: identity.properties.clientId
      AzureWebJobsStorage__blobServiceUri: storage.outputs.blobServiceUri
      AzureWebJobsStorage__queueServiceUri: storage.outputs.queueServiceUri
      AzureWebJobsStorage__tableServiceUri: storage.outputs.tableServiceUri
      APPLICATIONINSIGHTS_CONNECTION_STRING: monitoring.outputs.connectionString
      APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'ClientId=${identity.properties.clientId};Authorization=AAD'
      OVERRIDE_USE_MI_FIC_ASSERTION_CLIENTID: empty(consoleClientId) ? '' : identity.properties.clientId
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
      RELAY_PRINCIPAL_ID: empty(calloutAudience) ? '' : relay ? relayIdentity!.properties.principalId : relayPrincipalId
      CLOSE_AUDIENCE: closeAudience
      CLOSE_CALLERS: join(closeCallers, ',')
      CLOSE_ROLE: closeRole
      CLOSE_HMAC_KEY: secretReference.closeHmacKey
      CATALOG_IDS: join(catalogIds, ',')
      TICKETS_FILE: ticketsFile
      CONSOLE_AUTH: empty(consoleClientId) ? '' : 'easyauth'
      CHECK_INTERVAL: checkInterval
      RETENTION_DAYS: string(retentionDays)
      LOG_LEVEL: logLevel
    }
  }
  // The references are resolved as the app starts, and the package is read: the role and the addresses must be there. The other modules are waited for through their outputs.
  dependsOn: [secrets, storageEndpoints, vaultEndpoint]
}

module relayWorkflow 'modules/relay.bicep' = if (relay && appPublished) {
  params: {
    name: last(split(relayId, '/'))
    location: location
    tags: tags
    identityId: relayIdentity.id
    functionAppName: appName
    calloutUrl: '${app.outputs.url}/api/callout'
    calloutAudience: calloutAudience
  }
}

module watch 'modules/alerts.bicep' = if (alerts) {
  params: {
    name: name
    location: location
    tags: tags
    workspaceId: monitoring.outputs.workspaceId
    relayId: relay && appPublished ? relayId : ''
    emails: alertEmails
    actionGroupId: alertActionGroupId
  }
  dependsOn: [relayWorkflow]
}

module book 'modules/workbook.bicep' = if (workbook) {
  params: {
    name: name
    location: location
    tags: tags
    workspaceId: monitoring.outputs.workspaceId
  }
}

@description('For `func azure functionapp publish`.')
output functionAppName string = app.outputs.name

@description('The app, for `handler doctor --url`.')
output appUrl string = app.outputs.url

@description('Where Entra, or the relay, sends callouts; the function key goes into the header x-functions-key.')
output calloutUrl string = '${app.outputs.url}/api/callout'

@description('Where ServiceNow reports closed tickets; the function key goes into the header x-functions-key.')
output ticketClosedUrl string = '${app.outputs.url}/api/ticket-closed'

@description('The console, where there is one.')
output consoleUrl string = empty(consoleClientId) ? '' : '${app.outputs.url}/api/console/'

@description('The object id of the app\'s identity: give it the role "Access package assignment manager" on the catalog and, with SERVICENOW_AUTH=entra, make it the User ID of the integration user.')
output identityObjectId string = identity.properties.principalId

@description('The client id of the app\'s identity.')
output identityClientId string = identity.properties.clientId

@description('For commands on an operator\'s machine: AzureWebJobsStorage__accountName.')
output storageAccountName string = storage.outputs.name

@description('The relay, for `handler connect --relay`; empty: there is none.')
output relayResourceId string = relay ? relayId : ''

@description('The object id of the relay\'s identity, for `handler connect --relay-identity`; empty: there is none.')
output relayObjectId string = relay ? relayIdentity!.properties.principalId : ''

@description('The command that sets up Entra; the catalog, and what else it asks for, is yours to say.')
output connectCommand string = relay
  ? 'handler connect --catalog \'…\' --package \'…\' --relay ${relayId} --relay-identity ${relayIdentity!.properties.principalId} --identity ${identity.properties.principalId}'
  : 'handler connect --catalog \'…\' --package \'…\' --function \'${app.outputs.url}/api/callout?code=…\' --identity ${identity.properties.principalId}'
