// Package companion holds tests only: the companion app for ServiceNow (infra/servicenow) as it is packaged, its scripts run against the stand-in
// ServiceNow and our real close endpoint; and the page for those who build the notification by hand.
package companion
