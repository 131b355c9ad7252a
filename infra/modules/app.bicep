// The function app: a custom handler on the Flex Consumption plan, with one user-assigned identity for everything.

param name string
param location string
param tags { *: string }

@description('The resource id of the app\'s identity.')
param identityId string

@description('The blob container that the package is deployed to.')
param packageContainerUri string

param alwaysReadyInstances int
param maximumInstances int
param instanceMemory int

@description('The subnet through which the app calls out. Empty: none.')
param subnetId string

@description('The application with which people sign in to the console. Empty: App Service authentication is off.')
param consoleClientId string

@description('Whom the tokens of those who call the functions are for: App Service authentication, while it is on, looks at each token that comes.')
param audiences string[]

@description('The app settings; those that are empty are left out.')
param settings { *: string }

resource plan 'Microsoft.Web/serverfarms@2024-11-01' = {
  name: name
  location: location
  tags: tags
  kind: 'functionapp'
  sku: {
    name: 'FC1'
    tier: 'FlexConsumption'
  }
  properties: {
    reserved: true
  }
}

resource app 'Microsoft.Web/sites@2024-11-01' = {
  name: name
  location: location
  tags: union(tags, { 'azd-service-name': 'handler' }) // by which azd finds the app that it publishes to
  kind: 'functionapp,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${identityId}': {}
    }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    clientAffinityEnabled: false
    keyVaultReferenceIdentity: identityId
    virtualNetworkSubnetId: empty(subnetId) ? null : subnetId
    siteConfig: {
      minTlsVersion: '1.2'
      scmMinTlsVersion: '1.2'
      ftpsState: 'Disabled'
      http20Enabled: true
    }
    functionAppConfig: {
      runtime: {
        name: 'custom'
        version: '1.0'
      }
      scaleAndConcurrency: {
        instanceMemoryMB: instanceMemory
        maximumInstanceCount: maximumInstances
        alwaysReady: alwaysReadyInstances == 0
          ? []
          : [
              {
                name: 'http'
                instanceCount: alwaysReadyInstances
              }
            ]
      }
      deployment: {
        storage: {
          type: 'blobContainer'
          value: packageContainerUri
          authentication: {
            type: 'UserAssignedIdentity'
            userAssignedIdentityResourceId: identityId
          }
        }
      }
    }
  }

  resource appSettings 'config' = {
    name: 'appsettings'
    properties: toObject(
      filter(items(settings), setting => !empty(setting.value)),
      setting => setting.key,
      setting => setting.value
    )
  }

  // Whoever is not signed in is let through, with what proves him taken away: the functions ask for their keys and tokens themselves, and the console turns him away.
  // Nobody has to sign in for the function's paths, and a token that comes with a callout or with a close notification is one of these audiences.
  resource authentication 'config' = if (!empty(consoleClientId)) {
    name: 'authsettingsV2'
    properties: {
      platform: {
        enabled: true
      }
      globalValidation: {
        requireAuthentication: false
        unauthenticatedClientAction: 'AllowAnonymous'
        excludedPaths: [
          '/api/callout'
          '/api/ticket-closed'
        ]
      }
      httpSettings: {
        requireHttps: true
      }
      identityProviders: {
        azureActiveDirectory: {
          enabled: true
          registration: {
            clientId: consoleClientId
            openIdIssuer: uri(environment().authentication.loginEndpoint, '${tenant().tenantId}/v2.0')
            // No secret: the app's identity vouches for the application, which has to trust it (a federated credential).
            clientSecretSettingName: 'OVERRIDE_USE_MI_FIC_ASSERTION_CLIENTID'
          }
          validation: {
            allowedAudiences: concat(
              [consoleClientId],
              audiences,
              map(audiences, audience => replace(audience, 'api://', '')) // as tokens of version 2 have it
            )
          }
        }
      }
      login: {
        preserveUrlFragmentsForLogins: false
        tokenStore: {
          enabled: false
        }
      }
    }
    dependsOn: [appSettings]
  }

  // Publishing asks for an Entra sign-in; user names with passwords are off.
  resource ftp 'basicPublishingCredentialsPolicies' = {
    name: 'ftp'
    properties: {
      allow: false
    }
  }

  resource scm 'basicPublishingCredentialsPolicies' = {
    name: 'scm'
    properties: {
      allow: false
    }
  }
}

output name string = app.name
output id string = app.id
output url string = 'https://${app.properties.defaultHostName}'
