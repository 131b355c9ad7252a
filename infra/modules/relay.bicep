// The relay: entitlement management is documented to call Logic Apps only, and proves itself with a token that is bound to the call (proof of
// possession), which only Logic Apps on the Consumption plan take. So it calls this one, which does nothing but hand the body on to the app.

param name string
param location string
param tags { *: string }

@description('The resource id of the relay\'s own identity, with which it signs in to the app.')
param identityId string

param functionAppName string

@description('Where callouts go: the app\'s URL with the path of the function.')
param calloutUrl string

@description('Whom the relay\'s tokens are for. Empty: it sends no token, since the app asks for none.')
param calloutAudience string

// The Functions host asks for the function's key in any case. It makes the key itself when the app is published, and it is read here while this is deployed:
// nobody sees it, and it is in no parameter and no output. The workflow keeps it as a secure string, which Azure gives back to nobody. After the
// key was renewed, deploy again.
resource function 'Microsoft.Web/sites/functions@2024-11-01' existing = {
  name: '${functionAppName}/callout'
}

var managerHost = split(environment().resourceManager, '/')[2]
var issuer = environment().name == 'AzureChinaCloud' ? 'https://sts.chinacloudapi.cn' : 'https://sts.windows.net'
var id = resourceId('Microsoft.Logic/workflows', name)

// Neither what arrives nor what is sent stands in the run history: callouts say who asks for what.
var hidden = {
  secureData: {
    properties: [
      'inputs'
      'outputs'
    ]
  }
}

resource relay 'Microsoft.Logic/workflows@2019-05-01' = {
  name: name
  location: location
  tags: tags
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${identityId}': {}
    }
  }
  properties: {
    state: 'Enabled'
    accessControl: {
      triggers: {
        // Otherwise whoever knows the signed URL may call, and the policy is not enforced. The compiler's types do not know it.
        #disable-next-line BCP037
        sasAuthenticationPolicy: {
          state: 'Disabled'
        }
        openAuthenticationPolicies: {
          policies: {
            entitlementManagement: {
              type: 'AADPOP'
              claims: [
                {
                  name: 'iss'
                  value: '${issuer}/${tenant().tenantId}/'
                }
                {
                  name: 'aud'
                  value: 'https://${managerHost}'
                }
                {
                  name: 'appid' // entitlement management, in every tenant
                  value: '810dcf14-1858-4bf2-8134-4c369fa3235b'
                }
                {
                  name: 'm'
                  value: 'POST'
                }
                {
                  name: 'u'
                  value: managerHost
                }
                {
                  name: 'p'
                  value: id
                }
              ]
            }
          }
        }
      }
    }
    // How long runs are kept: what they say is when a call came and whether the app took it. Longer than the tries, so that none is given up early. On the Consumption plan it
    // can only be shortened, and runs may stay up to a week longer. The compiler's types do not know it.
    #disable-next-line BCP037
    runtimeConfiguration: {
      lifetime: {
        unit: 'day'
        count: 7
      }
    }
    parameters: {
      functionKey: {
        value: function.listKeys().default
      }
    }
    definition: {
      '$schema': 'https://schema.management.azure.com/providers/Microsoft.Logic/schemas/2016-06-01/workflowdefinition.json#'
      contentVersion: '1.0.0.0'
      parameters: {
        functionKey: {
          type: 'SecureString'
        }
      }
      triggers: {
        manual: {
          type: 'Request'
          kind: 'Http'
          inputs: {
            method: 'POST'
            schema: {}
          }
          runtimeConfiguration: hidden
        }
      }
      actions: {
        // There is no Response action: Entra is answered 202 as soon as the workflow has the call, and the workflow is what does not lose it from then on.
        forward: {
          type: 'Http'
          runAfter: {}
          inputs: union(
            {
              method: 'POST'
              uri: calloutUrl
              headers: {
                'Content-Type': 'application/json'
                'x-functions-key': '@parameters(\'functionKey\')'
              }
              body: '@triggerBody()'
              // The app answers 503 when its storage does not serve, and takes a repeated callout for the same one: twenty tries, over half a day.
              retryPolicy: {
                type: 'exponential'
                count: 20
                interval: 'PT10S'
                minimumInterval: 'PT5S'
                maximumInterval: 'PT1H'
              }
            },
            empty(calloutAudience)
              ? {}
              : {
                  authentication: {
                    type: 'ManagedServiceIdentity'
                    identity: identityId
                    audience: calloutAudience
                  }
                }
          )
          limit: {
            timeout: 'PT30S'
          }
          operationOptions: 'DisableAsyncPattern' // the app's 202 is its last word
          runtimeConfiguration: hidden
        }
      }
      outputs: {}
    }
  }
}
