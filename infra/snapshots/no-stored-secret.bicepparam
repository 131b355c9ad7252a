// No secret anywhere: ServiceNow trusts the app's identity, and all callers bring tokens. And a console, and who is told.
using '../main.bicep'

param appPublished = true
param serviceNowUrl = 'https://example.service-now.com'
param serviceNowAuth = 'entra'
param serviceNowAudience = 'api://00000000-0000-0000-0000-00000000000a'
param calloutAudience = 'api://00000000-0000-0000-0000-00000000000b'
param calloutRole = 'Callout.Send'
param closeAudience = 'api://00000000-0000-0000-0000-00000000000b'
param closeCallers = ['00000000-0000-0000-0000-00000000000c']
param closeRole = 'Ticket.Close'
param consoleClientId = '00000000-0000-0000-0000-00000000000d'
param catalogIds = ['00000000-0000-0000-0000-00000000000e']
param alertEmails = ['access@example.com']
param alertActionGroupId = '/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/operations/providers/Microsoft.Insights/actionGroups/on-call'
param tags = {
  owner: 'identity'
}
