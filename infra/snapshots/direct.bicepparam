// No relay: Entra calls the function itself, and an instance is always warm for it.
using '../main.bicep'

param appPublished = true
param relay = false
param serviceNowUrl = 'https://example.service-now.com'
param serviceNowAuth = 'entra'
param serviceNowAudience = 'api://00000000-0000-0000-0000-00000000000a'
param calloutAudience = 'api://00000000-0000-0000-0000-00000000000b'
param alerts = false
param workbook = false
