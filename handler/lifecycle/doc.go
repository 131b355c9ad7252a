// Package lifecycle holds the tests of the handler as it is deployed: the binary that make build made, started by the stand-in for the Functions
// host, on Azurite, between stand-ins for Entra, Graph and ServiceNow, each on a port of its own. What became of a request is taken from the
// records of those stand-ins. There is nothing here but tests.
package lifecycle
