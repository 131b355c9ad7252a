// Package delivery holds the tests of how the app gets into Azure: what `make package` makes of the sources, what `make deploy` calls, and what
// azure.yaml and the workflow say. There is no Azure here: stand-ins take the place of the commands `az` and `func`, and write down what was asked
// of them. There is nothing here but tests.
package delivery
