package servicenow

// SampleGroup is a group that a sample instance has.
const SampleGroup = "Service Desk"

// SampleItem is a catalog item that a sample instance has: its variable correlation_id takes the reference by which an order is found again.
func SampleItem() CatalogItem {
	return CatalogItem{
		Name: "Access to an application", ShortDescription: "Somebody needs access to an application",
		Variables: []Variable{
			{Name: "access_package", Label: "Access package", Mandatory: true},
			{Name: "justification", Label: "Business justification"},
			{Name: "correlation_id", Label: "Reference"},
		},
		Tasks: []string{"Give access", "Check access"},
	}
}
