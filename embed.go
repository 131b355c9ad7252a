// Package ticketbridge holds the function app as the Functions host reads it: host.json, the functions' bindings, and the rules file. A program that
// needs the app's folder without a build, such as the demo, lays it out from here.
package ticketbridge

import "embed"

// App holds host.json, and below functions/ a folder with one function.json for each function. The host looks for these folders
// beside host.json: whoever lays the app out leaves functions/ away.
//
//go:embed host.json all:functions
var App embed.FS

// TicketRules is tickets.yaml, the rules file as it is shipped.
//
//go:embed tickets.yaml
var TicketRules []byte
