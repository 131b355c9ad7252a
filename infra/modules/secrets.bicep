// Lets the app's identity read the secrets it needs in a Key Vault that exists: these secrets, not the vault.

param vaultName string
param secretNames string[]

@description('The resource id of the app\'s identity: it names the role assignments.')
param identityId string

@description('The object id of the app\'s identity: it is given the roles.')
param principalId string

var secretsUser = '4633458b-17de-408a-b874-0445c86b69e6'

resource vault 'Microsoft.KeyVault/vaults@2024-11-01' existing = {
  name: vaultName
}

resource secrets 'Microsoft.KeyVault/vaults/secrets@2024-11-01' existing = [
  for secret in secretNames: {
    parent: vault
    name: secret
  }
]

resource assignments 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for (secret, i) in secretNames: {
    name: guid(secrets[i].id, identityId, secretsUser)
    scope: secrets[i]
    properties: {
      description: 'Key Vault Secrets User'
      principalId: principalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', secretsUser)
    }
  }
]

output vaultId string = vault.id
