// The workbook: what an operator looks at when nothing calls him. Each part is one query of the log in queries/workbook.

param name string
param location string
param tags { *: string }

@description('The workspace that holds the log.')
param workspaceId string

type part = {
  query: string
  title: string
  show: 'table' | 'barchart' | 'timechart' | 'unstackedbar'

  @description('In percent of the page.')
  width: 50 | 100
}

var parts part[] = [
  {
    query: loadTextContent('../queries/workbook/requests-by-state.kql')
    title: 'Requests by state'
    show: 'table'
    width: 50
  }
  {
    query: loadTextContent('../queries/workbook/waiting-by-age.kql')
    title: 'Waiting requests by age'
    show: 'table'
    width: 50
  }
  {
    query: loadTextContent('../queries/workbook/time-to-ticket.kql')
    title: 'Time to ticket, in minutes'
    show: 'timechart'
    width: 50
  }
  {
    query: loadTextContent('../queries/workbook/time-to-close.kql')
    title: 'Time to close, in hours'
    show: 'timechart'
    width: 50
  }
  {
    query: loadTextContent('../queries/workbook/ends.kql')
    title: 'What became of them'
    show: 'barchart'
    width: 50
  }
  {
    query: loadTextContent('../queries/workbook/failures.kql')
    title: 'Failed and held, by reason'
    show: 'table'
    width: 50
  }
  {
    query: loadTextContent('../queries/workbook/calls.kql')
    title: 'Calls of ServiceNow and Graph'
    show: 'table'
    width: 50
  }
  {
    query: loadTextContent('../queries/workbook/callouts.kql')
    title: 'Answers to callouts'
    show: 'table'
    width: 50
  }
  {
    query: loadTextContent('../queries/workbook/sweeps.kql')
    title: 'Sweeps'
    show: 'timechart'
    width: 100
  }
]

var lines = loadTextContent('../queries/lines.kql')

resource workbook 'Microsoft.Insights/workbooks@2023-06-01' = {
  name: guid(resourceGroup().id, name)
  location: location
  tags: tags
  kind: 'shared'
  properties: {
    displayName: name
    description: 'Access requests and their tickets'
    category: 'workbook'
    sourceId: workspaceId
    version: 'Notebook/1.0'
    serializedData: string({
      version: 'Notebook/1.0'
      isLocked: false
      fallbackResourceIds: [workspaceId]
      items: concat(
        [
          {
            type: 9
            name: 'parameters'
            content: {
              version: 'KqlParameterItem/1.0'
              style: 'pills'
              queryType: 0
              resourceType: 'microsoft.operationalinsights/workspaces'
              parameters: [
                {
                  id: guid(resourceGroup().id, name, 'time')
                  version: 'KqlParameterItem/1.0'
                  name: 'Time'
                  label: 'Time range'
                  type: 4
                  isRequired: true
                  value: {
                    durationMs: 2592000000
                  }
                  typeSettings: {
                    allowCustom: true
                    selectableValues: [
                      { durationMs: 86400000 }
                      { durationMs: 604800000 }
                      { durationMs: 2592000000 }
                      { durationMs: 7776000000 }
                    ]
                  }
                }
              ]
            }
          }
        ],
        map(parts, part => {
          type: 3
          name: part.title
          customWidth: string(part.width)
          content: {
            version: 'KqlItem/1.0'
            query: '${lines}${part.query}'
            size: 0
            title: part.title
            timeContextFromParameter: 'Time'
            queryType: 0
            resourceType: 'microsoft.operationalinsights/workspaces'
            crossComponentResources: [workspaceId]
            visualization: part.show
          }
        })
      )
    })
  }
}
