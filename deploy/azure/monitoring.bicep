// Application Insights for the live figures of runs (voxload run --azure-monitor), and alerts on them.
//
//   az deployment group create --resource-group GROUP --template-file deploy/azure/monitoring.bicep \
//     --parameters name=loadtest actionGroupIds='["/subscriptions/…/actionGroups/oncall"]'

@description('First part of the names of all resources.')
@minLength(3)
@maxLength(40)
param name string = 'voxload'

param location string = resourceGroup().location

@description('What the scenario says as telemetry.prefix: the first part of the metrics\' names.')
param prefix string = 'voxload'

@description('Mean voice latency (final transcript to first agent audio) in ms over the window, above which is alerted.')
@minValue(1)
param voiceLatencyMs int = 300

@description('Mean latency of a turn as the caller hears it, in ms, above which is alerted.')
@minValue(1)
param turnLatencyMs int = 3500

@description('Completed calls of a hundred attempted, below which is alerted.')
@minValue(1)
@maxValue(100)
param callSuccessPercent int = 95

@description('0 (critical) to 4 (verbose).')
@minValue(0)
@maxValue(4)
param severity int = 2

@description('How far back each evaluation looks.')
@allowed([
  'PT1M'
  'PT5M'
  'PT15M'
])
param windowSize string = 'PT5M'

@description('Resource ids of the action groups that are told.')
param actionGroupIds array = []

@description('Days that figures are kept.')
@minValue(30)
@maxValue(730)
param retentionDays int = 30

// custom metrics of Application Insights are in this namespace
var metricNamespace = 'azure.applicationinsights'

var alerts = [
  {
    suffix: 'voice-latency'
    metric: '${prefix}.voice.latency'
    operator: 'GreaterThan'
    threshold: voiceLatencyMs
    description: 'The agent\'s mean voice latency is above the threshold during a load test.'
  }
  {
    suffix: 'turn-latency'
    metric: '${prefix}.turn.latency'
    operator: 'GreaterThan'
    threshold: turnLatencyMs
    description: 'Callers wait longer for replies than the threshold during a load test.'
  }
  {
    suffix: 'call-success'
    metric: '${prefix}.call.success'
    operator: 'LessThan'
    // each call is a 1 or a 0: their mean is a share; Bicep has no fractions but by json()
    threshold: json(callSuccessPercent == 100 ? '1.0' : '0.${padLeft(string(callSuccessPercent), 2, '0')}')
    description: 'Fewer calls than the threshold complete during a load test.'
  }
]

resource workspace 'Microsoft.OperationalInsights/workspaces@2023-09-01' = {
  name: '${name}-logs'
  location: location
  properties: {
    sku: {
      name: 'PerGB2018'
    }
    retentionInDays: retentionDays
  }
}

resource appInsights 'Microsoft.Insights/components@2020-02-02' = {
  name: name
  location: location
  kind: 'web'
  properties: {
    Application_Type: 'web'
    WorkspaceResourceId: workspace.id
    IngestionMode: 'LogAnalytics'
  }
}

resource metricAlerts 'Microsoft.Insights/metricAlerts@2018-03-01' = [for alert in alerts: {
  name: '${name}-${alert.suffix}'
  location: 'global'
  properties: {
    description: alert.description
    severity: severity
    enabled: true
    scopes: [
      appInsights.id
    ]
    evaluationFrequency: 'PT1M'
    windowSize: windowSize
    autoMitigate: true
    criteria: {
      'odata.type': 'Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria'
      allOf: [
        {
          criterionType: 'StaticThresholdCriterion'
          name: alert.suffix
          metricNamespace: metricNamespace
          metricName: alert.metric
          operator: alert.operator
          threshold: alert.threshold
          timeAggregation: 'Average'
          // the metric is not there before the first run has sent it
          skipMetricValidation: true
        }
      ]
    }
    actions: [for group in actionGroupIds: {
      actionGroupId: group
    }]
  }
}]

// it holds the key to send with: read it when it is needed, az monitor app-insights component show --app NAME
output applicationInsightsName string = appInsights.name
output applicationInsightsId string = appInsights.id
