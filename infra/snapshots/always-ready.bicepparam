// Instances that are always warm, and larger ones; an API key for ServiceNow.
using '../main.bicep'

param appPublished = true
param alwaysReadyInstances = 2
param maximumInstances = 100
param instanceMemory = 2048
param storageRedundancy = 'Standard_GZRS'
param serviceNowUrl = 'https://example.service-now.com'
param serviceNowAuth = 'api-key'
param keyVaultName = 'example-vault'
param serviceNowSecretName = 'servicenow-api-key'
param alerts = false
param workbook = false
