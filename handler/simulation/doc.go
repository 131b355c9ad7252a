// Package simulation is tests only: seeded days in the life of several instances of the handler, in simulated time. The workflow and the storage
// above its embedded twin are the real ones; ServiceNow, Entra with Graph, the Functions host and the people are models, and one scheduler decides from the
// seed what happens next, what fails, and who dies. A seed that breaks a promise breaks it again, exactly.
package simulation
