// The longest name: that of the relay is cut, so that its resource id stays within what Entra takes.
using '../main.bicep'

param name = 'ticketbridge-production-'
param appPublished = true
param serviceNowUrl = 'https://example.service-now.com'
param serviceNowAuth = 'entra'
param serviceNowAudience = 'api://00000000-0000-0000-0000-00000000000a'
param alerts = false
param workbook = false
