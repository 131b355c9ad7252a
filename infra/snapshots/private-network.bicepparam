// A virtual network, with storage and Key Vault at private addresses; and every secret that there may be.
using '../main.bicep'

param appPublished = true
param privateNetwork = true
param serviceNowUrl = 'https://example.service-now.com'
param serviceNowAuth = 'basic'
param serviceNowUsername = 'ticketbridge'
param keyVaultName = 'example-vault'
param keyVaultResourceGroup = 'secrets'
param serviceNowSecretName = 'servicenow-password'
param closeHmacKeySecretName = 'servicenow-close-key'
param serviceNowCertificateSecretName = 'servicenow-certificate'
param serviceNowPrivateKeySecretName = 'servicenow-private-key'
param serviceNowHeadersSecretName = 'servicenow-headers'
param tags = {
  owner: 'identity'
}
param alerts = false
param workbook = false
