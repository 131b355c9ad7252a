// What calls a person, and whom. Each alert is one query of the log in queries/alerts; what to do about it stands in docs/operations.md.

param name string
param location string
param tags { *: string }

@description('The workspace that holds the log.')
param workspaceId string

@description('The relay, which is watched by its own count of failed runs. Empty: there is none.')
param relayId string

@description('Who is told, by e-mail.')
param emails string[]

@description('An action group that exists and is told as well. Empty: none.')
param actionGroupId string

type alert = {
  query: string
  title: string
  description: string

  @description('1: error, 2: warning.')
  severity: 1 | 2

  every: string
  window: string
}

var alerts alert[] = [
  {
    query: loadTextContent('../queries/alerts/needs-person.kql')
    title: 'needs-person'
    description: 'A request failed, or is held for a person to decide. `handler requests list --state failed,held` says why and what to do.'
    severity: 2
    every: 'PT5M'
    window: 'PT5M'
  }
  {
    query: loadTextContent('../queries/alerts/sweep-missing.kql')
    title: 'sweep-missing'
    description: 'No sweep came to its end for 30 minutes: the app does not run, or its timer does not, or its storage does not serve. `handler doctor` says which.'
    severity: 1
    every: 'PT15M'
    window: 'PT30M'
  }
  {
    query: loadTextContent('../queries/alerts/deadline-near.kql')
    title: 'deadline-near'
    description: 'Entra gives up waiting for a request within two days: its ticket has to be closed, or the request be decided.'
    severity: 2
    every: 'PT1H'
    window: 'PT2H'
  }
  {
    query: loadTextContent('../queries/alerts/callout-errors.kql')
    title: 'callout-errors'
    description: 'Callouts are answered 5xx, or refused: requests may not reach ServiceNow.'
    severity: 1
    every: 'PT5M'
    window: 'PT15M'
  }
  {
    query: loadTextContent('../queries/alerts/servicenow-unreachable.kql')
    title: 'servicenow-unreachable'
    description: 'ServiceNow does not serve, so calls are held back. They go on by themselves when it serves again.'
    severity: 2
    every: 'PT5M'
    window: 'PT15M'
  }
  {
    query: loadTextContent('../queries/alerts/graph-unreachable.kql')
    title: 'graph-unreachable'
    description: 'Microsoft Graph does not serve, so requests are not resumed. They go on by themselves when it serves again.'
    severity: 2
    every: 'PT5M'
    window: 'PT15M'
  }
]

var lines = loadTextContent('../queries/lines.kql')

resource group 'Microsoft.Insights/actionGroups@2023-01-01' = {
  name: name
  location: 'global'
  tags: tags
  properties: {
    enabled: true
    groupShortName: take(name, 12)
    emailReceivers: [
      for email in emails: {
        name: email
        emailAddress: email
        useCommonAlertSchema: true
      }
    ]
  }
}

var groups = concat([group.id], empty(actionGroupId) ? [] : [actionGroupId])

resource rules 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = [
  for alert in alerts: {
    name: '${name}-${alert.title}'
    location: location
    tags: tags
    kind: 'LogAlert'
    properties: {
      displayName: '${name}: ${alert.title}'
      description: alert.description
      severity: alert.severity
      enabled: true
      scopes: [workspaceId]
      targetResourceTypes: ['Microsoft.OperationalInsights/workspaces']
      evaluationFrequency: alert.every
      windowSize: alert.window
      criteria: {
        allOf: [
          {
            query: '${lines}${alert.query}'
            timeAggregation: 'Count'
            operator: 'GreaterThan'
            threshold: 0
            failingPeriods: {
              numberOfEvaluationPeriods: 1
              minFailingPeriodsToAlert: 1
            }
          }
        ]
      }
      autoMitigate: true
      skipQueryValidation: true // the workspace is new, and may not have its tables yet
      actions: {
        actionGroups: groups
      }
    }
  }
]

// A call that the Functions host turns away, for its key, never reaches the app, and nobody else would see it.
resource relayFailed 'Microsoft.Insights/metricAlerts@2018-03-01' = if (!empty(relayId)) {
  name: '${name}-relay-failed'
  location: 'global'
  tags: tags
  properties: {
    description: 'The relay gave a callout up: the app refused it, or did not serve for half a day. The request fails at its deadline unless the run is submitted again.'
    severity: 1
    enabled: true
    scopes: [relayId]
    evaluationFrequency: 'PT5M'
    windowSize: 'PT15M'
    criteria: {
      'odata.type': 'Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria'
      allOf: [
        {
          name: 'failed'
          criterionType: 'StaticThresholdCriterion'
          metricNamespace: 'Microsoft.Logic/workflows'
          metricName: 'RunsFailed'
          timeAggregation: 'Total'
          operator: 'GreaterThan'
          threshold: 0
        }
      ]
    }
    autoMitigate: true
    actions: [for id in groups: { actionGroupId: id }]
  }
}
