//go:build contracts

package entra

import (
	"fmt"
	"os"
	"path/filepath"

	"ticketbridge/handler/simulator/entra/csdl"
)

// publishedSchema reads Microsoft's schema of Graph v1.0 from the folder that CONTRACTS_DIR names. It panics without it: a build with
// the tag "contracts" that checked nothing would be a lie.
func publishedSchema() *csdl.Model {
	dir := os.Getenv("CONTRACTS_DIR")
	if dir == "" {
		panic("entra: built with the tag \"contracts\", but CONTRACTS_DIR is not set: it names the folder with graph-v1.0.csdl")
	}
	file, err := os.Open(filepath.Join(dir, "graph-v1.0.csdl"))
	if err != nil {
		panic(fmt.Sprintf("entra: CONTRACTS_DIR: %v", err))
	}
	defer file.Close()
	m, err := csdl.Parse(file)
	if err != nil {
		panic(fmt.Sprintf("entra: CONTRACTS_DIR: %v", err))
	}
	m.AllowAbstract("customExtensionCallbackConfiguration") // as Microsoft's own examples do
	// The file is cut down to the types used here; this navigation is documented at Microsoft's (servicePrincipal: List appRoleAssignments granted).
	m.Type("servicePrincipal").Navigations["appRoleAssignedTo"] = csdl.Property{
		Name: "appRoleAssignedTo", Ref: csdl.Ref{Type: m.Type("appRoleAssignment").Name, Collection: true},
	}
	return m
}
