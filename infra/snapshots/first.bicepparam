// The first deployment, before the app is published: the relay waits.
using '../main.bicep'

param serviceNowUrl = 'https://example.service-now.com'
param serviceNowAuth = 'entra'
param serviceNowAudience = 'api://00000000-0000-0000-0000-00000000000a'
param alerts = false
param workbook = false
