//go:build !contracts

package entra

import "ticketbridge/handler/simulator/entra/csdl"

// publishedSchema returns nil: only builds with the tag "contracts" compare with the published schema.
func publishedSchema() *csdl.Model { return nil }
