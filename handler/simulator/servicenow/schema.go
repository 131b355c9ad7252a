package servicenow

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Kind is a column's type, spelled as in sys_dictionary.
type Kind string

// The kinds of columns that the stand-in knows.
const (
	String    Kind = "string"
	Integer   Kind = "integer"
	Boolean   Kind = "boolean"
	Reference Kind = "reference"
	DateTime  Kind = "glide_date_time"
	// Journal is written like any field, appends, and reads as empty; its entries are in sys_journal_field.
	Journal Kind = "journal_input"
)

// Choice is a value of a choice list with the label people see.
type Choice struct{ Value, Label string }

// Column is a column of a table.
type Column struct {
	Name  string
	Label string
	Kind  Kind // default String
	// Refers is the table that a Reference points to.
	Refers string
	// Max is the maximum length in characters; 0 is 40, what a new string column gets. A longer value is cut off without
	// a word where Max is at most 255; above that ServiceNow documents that it does not enforce the length.
	Max     int
	Choices []Choice
	Default string
	// Mandatory is what forms insist on. As on a real instance the Table API does not: a [Policy] does.
	Mandatory bool

	readOnly bool
}

// Table is a table of the customer's own.
type Table struct {
	Name, Label string
	// Extends is its parent; default task.
	Extends string
	// Prefix begins its record numbers; default empty, and then there are none unless the parent has some.
	Prefix  string
	Columns []Column
	// Closed are the values of state in which a record is not active; default those of the parent.
	Closed []string
	// Outcomes are the field values that [Instance.Close] writes; default those of the parent.
	Outcomes map[Outcome]map[string]string
}

// Outcome is how a person closes a ticket.
type Outcome string

// The outcomes a person can choose.
const (
	Complete   Outcome = "complete"
	Incomplete Outcome = "incomplete"
	Cancelled  Outcome = "cancelled"
	Rejected   Outcome = "rejected"
)

type table struct {
	name, label string
	parent      *table
	prefix      string
	next        int
	own         []string // columns defined here, in order
	columns     map[string]*Column
	order       []string // all columns, parents' first
	display     string   // the column that stands for a record
	closed      []string
	outcomes    map[Outcome]map[string]string
	virtual     bool // written by the instance alone
}

func (t *table) is(name string) bool {
	for ; t != nil; t = t.parent {
		if t.name == name {
			return true
		}
	}
	return false
}

func (t *table) add(columns ...Column) {
	for _, c := range columns {
		if c.Kind == "" {
			c.Kind = String
		}
		if c.Max == 0 {
			c.Max = 40
		}
		if c.Label == "" {
			c.Label = label(c.Name)
		}
		if _, known := t.columns[c.Name]; !known {
			t.order = append(t.order, c.Name)
		}
		t.own = append(t.own, c.Name)
		t.columns[c.Name] = &c
	}
}

// label makes "Short description" of short_description.
func label(name string) string {
	words := strings.ReplaceAll(strings.TrimPrefix(name, "u_"), "_", " ")
	if words == "" {
		return name
	}
	return strings.ToUpper(words[:1]) + words[1:]
}

func choices(pairs ...string) []Choice {
	var list []Choice
	for n := 0; n < len(pairs); n += 2 {
		list = append(list, Choice{pairs[n], pairs[n+1]})
	}
	return list
}

var (
	taskStates     = choices("-5", "Pending", "1", "Open", "2", "Work in Progress", "3", "Closed Complete", "4", "Closed Incomplete", "7", "Closed Skipped")
	incidentStates = choices("1", "New", "2", "In Progress", "3", "On Hold", "6", "Resolved", "7", "Closed", "8", "Canceled")
	changeStates   = choices("-5", "New", "-4", "Assess", "-3", "Authorize", "-2", "Scheduled", "-1", "Implement", "0", "Review", "3", "Closed", "4", "Canceled")
	requestStates  = choices("requested", "Pending Approval", "in_process", "Approved", "closed_complete", "Closed Complete",
		"closed_incomplete", "Closed Incomplete", "closed_cancelled", "Closed Cancelled", "closed_rejected", "Closed Rejected")
	approvals = choices("not requested", "Not Yet Requested", "requested", "Requested", "approved", "Approved", "rejected", "Rejected")
	levels    = choices("1", "High", "2", "Medium", "3", "Low")
	priority  = choices("1", "Critical", "2", "High", "3", "Moderate", "4", "Low", "5", "Planning")
)

func newSchema(cfg Config) (map[string]*table, error) {
	tables := map[string]*table{}
	define := func(t *table, parent string, columns ...Column) {
		t.columns = map[string]*Column{}
		if p := tables[parent]; p != nil {
			t.parent, t.columns, t.order = p, maps.Clone(p.columns), slices.Clone(p.order)
			if t.display == "" {
				t.display = p.display
			}
			if t.closed == nil {
				t.closed = p.closed
			}
			if t.outcomes == nil {
				t.outcomes = p.outcomes
			}
			if t.prefix == "" {
				t.prefix, t.next = p.prefix, p.next
			}
		} else {
			t.add(
				Column{Name: "sys_id", Label: "Sys ID", Max: 32, readOnly: true},
				Column{Name: "sys_created_on", Label: "Created", Kind: DateTime, readOnly: true},
				Column{Name: "sys_created_by", Label: "Created by", readOnly: true},
				Column{Name: "sys_updated_on", Label: "Updated", Kind: DateTime, readOnly: true},
				Column{Name: "sys_updated_by", Label: "Updated by", readOnly: true},
				Column{Name: "sys_mod_count", Label: "Updates", Kind: Integer, readOnly: true},
			)
		}
		t.add(columns...)
		tables[t.name] = t
	}
	user := func(name string) Column { return Column{Name: name, Kind: Reference, Refers: "sys_user"} }

	define(&table{name: "sys_user", label: "User", display: "name"}, "",
		Column{Name: "user_name", Label: "User ID"}, Column{Name: "name", Max: 151}, Column{Name: "first_name", Max: 50},
		Column{Name: "last_name", Max: 50}, Column{Name: "email", Max: 100}, Column{Name: "title", Max: 60},
		Column{Name: "active", Kind: Boolean, Default: "true"},
		Column{Name: "locked_out", Kind: Boolean, Default: "false"},
		Column{Name: "web_service_access_only", Kind: Boolean, Default: "false"})
	define(&table{name: "sys_user_group", label: "Group", display: "name"}, "",
		Column{Name: "name", Max: 80}, Column{Name: "description", Max: 1000}, Column{Name: "email", Max: 100},
		Column{Name: "active", Kind: Boolean, Default: "true"})
	define(&table{name: "sc_cat_item", label: "Catalog item", display: "name"}, "",
		Column{Name: "name", Max: 100}, Column{Name: "short_description", Max: 200},
		Column{Name: "active", Kind: Boolean, Default: "true"})
	define(&table{name: "item_option_new_set", label: "Variable set", display: "internal_name", virtual: true}, "", Column{Name: "internal_name", Max: 100})
	define(&table{name: "io_set_item", label: "Catalog variable set", display: "sys_id", virtual: true}, "",
		Column{Name: "sc_cat_item", Kind: Reference, Refers: "sc_cat_item"}, Column{Name: "variable_set", Kind: Reference, Refers: "item_option_new_set"})
	define(&table{name: "item_option_new", label: "Variable", display: "question_text", virtual: true}, "",
		Column{Name: "name", Max: 100}, Column{Name: "question_text", Max: 255}, Column{Name: "type", Kind: Integer, Default: "6"},
		Column{Name: "mandatory", Kind: Boolean, Default: "false"}, Column{Name: "active", Kind: Boolean, Default: "true"},
		Column{Name: "cat_item", Kind: Reference, Refers: "sc_cat_item"}, Column{Name: "variable_set", Kind: Reference, Refers: "item_option_new_set"})
	define(&table{name: "sc_item_option", label: "Option", display: "value", virtual: true}, "",
		Column{Name: "item_option_new", Label: "Question", Kind: Reference, Refers: "item_option_new"}, Column{Name: "value", Max: 4000})
	define(&table{name: "sc_item_option_mtom", label: "Item option ownership", display: "sys_id", virtual: true}, "",
		Column{Name: "request_item", Kind: Reference, Refers: "sc_req_item"}, Column{Name: "sc_item_option", Label: "Dependent item", Kind: Reference, Refers: "sc_item_option"})
	define(&table{name: "sys_journal_field", label: "Journal entry", display: "value", virtual: true}, "",
		Column{Name: "name"}, Column{Name: "element_id", Max: 32}, Column{Name: "element"}, Column{Name: "value", Max: 4000})

	taskOutcomes := map[Outcome]map[string]string{
		Complete: {"state": "3"}, Incomplete: {"state": "4"}, Cancelled: {"state": "7"}, Rejected: {"state": "4", "approval": "rejected"},
	}
	define(&table{name: "task", label: "Task", prefix: "TASK", next: 20001, display: "number", closed: []string{"3", "4", "7"}, outcomes: taskOutcomes}, "",
		Column{Name: "number"},
		Column{Name: "sys_class_name", Label: "Task type", Max: 80, readOnly: true},
		Column{Name: "sys_domain", Label: "Domain", Kind: Reference, Refers: "sys_user_group", Default: "global", readOnly: true},
		Column{Name: "state", Kind: Integer, Choices: taskStates, Default: "1"},
		Column{Name: "active", Kind: Boolean, Default: "true"},
		Column{Name: "approval", Choices: approvals, Default: "not requested"},
		Column{Name: "short_description", Max: 160}, Column{Name: "description", Max: 4000},
		user("opened_by"), Column{Name: "opened_at", Kind: DateTime},
		user("assigned_to"), Column{Name: "assignment_group", Kind: Reference, Refers: "sys_user_group"},
		Column{Name: "impact", Kind: Integer, Choices: levels, Default: "3"},
		Column{Name: "urgency", Kind: Integer, Choices: levels, Default: "3"},
		Column{Name: "priority", Kind: Integer, Choices: priority, Default: "4"},
		Column{Name: "parent", Kind: Reference, Refers: "task"},
		Column{Name: "due_date", Kind: DateTime},
		Column{Name: "correlation_id", Label: "Correlation ID", Max: 100},
		Column{Name: "correlation_display", Label: "Correlation display", Max: 100},
		Column{Name: "contact_type"},
		Column{Name: "closed_at", Kind: DateTime}, user("closed_by"), Column{Name: "close_notes", Max: 4000},
		Column{Name: "work_notes", Kind: Journal, Max: 4000}, Column{Name: "comments", Label: "Additional comments", Kind: Journal, Max: 4000})

	define(&table{name: "incident", label: "Incident", prefix: "INC", next: 10001, closed: []string{"7", "8"}, outcomes: map[Outcome]map[string]string{
		Complete: {"state": "6", "close_code": "Solution provided"}, Incomplete: {"state": "8"}, Cancelled: {"state": "8"},
		Rejected: {"state": "8", "approval": "rejected"},
	}}, "task",
		Column{Name: "state", Kind: Integer, Choices: incidentStates, Default: "1"},
		Column{Name: "incident_state", Kind: Integer, Choices: incidentStates, Default: "1"},
		user("caller_id"), Column{Name: "category"}, Column{Name: "close_code", Label: "Resolution code"},
		Column{Name: "resolved_at", Kind: DateTime}, user("resolved_by"))
	define(&table{name: "sc_request", label: "Request", prefix: "REQ", next: 10001, outcomes: map[Outcome]map[string]string{
		Complete: {"request_state": "closed_complete"}, Incomplete: {"request_state": "closed_incomplete"},
		Cancelled: {"request_state": "closed_cancelled"}, Rejected: {"request_state": "closed_rejected", "approval": "rejected"},
	}}, "task",
		Column{Name: "request_state", Choices: requestStates, Default: "requested"},
		Column{Name: "stage", Default: "requested"},
		user("requested_for"), Column{Name: "requested_date", Kind: DateTime}, Column{Name: "special_instructions", Max: 4000})
	define(&table{name: "sc_req_item", label: "Requested item", prefix: "RITM", next: 10001}, "task",
		Column{Name: "request", Kind: Reference, Refers: "sc_request"}, Column{Name: "cat_item", Label: "Item", Kind: Reference, Refers: "sc_cat_item"},
		user("requested_for"), Column{Name: "quantity", Kind: Integer, Default: "1"}, Column{Name: "stage", Default: "waiting_for_approval"})
	define(&table{name: "sc_task", label: "Catalog task", prefix: "SCTASK", next: 10001}, "task",
		Column{Name: "request", Kind: Reference, Refers: "sc_request"}, Column{Name: "request_item", Kind: Reference, Refers: "sc_req_item"})
	define(&table{name: "change_request", label: "Change request", prefix: "CHG", next: 30001, closed: []string{"3", "4"}, outcomes: map[Outcome]map[string]string{
		Complete: {"state": "3", "close_code": "successful"}, Incomplete: {"state": "3", "close_code": "unsuccessful"},
		Cancelled: {"state": "4"}, Rejected: {"state": "4", "approval": "rejected"},
	}}, "task",
		Column{Name: "state", Kind: Integer, Choices: changeStates, Default: "-5"},
		Column{Name: "type", Default: "normal"}, user("requested_by"),
		Column{Name: "close_code", Choices: choices("successful", "Successful", "successful_issues", "Successful with issues", "unsuccessful", "Unsuccessful")},
		Column{Name: "start_date", Kind: DateTime}, Column{Name: "end_date", Kind: DateTime})

	if cfg.TutorialColumns {
		for _, name := range []string{"sc_request", "sc_req_item", "sc_task"} {
			tables[name].add(
				Column{Name: "u_accesspackageassignmentrequestid", Label: "AccessPackageAssignmentRequestId"},
				Column{Name: "u_accesspackageassignmentstage", Label: "AccessPackageAssignmentStage"},
				Column{Name: "u_stageinstanceid", Label: "StageInstanceId"},
				Column{Name: "u_entrauserobjectid", Label: "EntraUserObjectId"})
		}
	}
	for _, t := range cfg.Tables {
		parent := t.Extends
		if parent == "" {
			parent = "task"
		}
		if tables[parent] == nil {
			return nil, fmt.Errorf("the table %s extends %s, which is not there", t.Name, parent)
		}
		if tables[t.Name] != nil {
			return nil, fmt.Errorf("the table %s is there already", t.Name)
		}
		name := t.Label
		if name == "" {
			name = label(t.Name)
		}
		define(&table{name: t.Name, label: name, prefix: t.Prefix, next: 1001, closed: t.Closed, outcomes: t.Outcomes}, parent, t.Columns...)
	}
	for name, columns := range cfg.Columns {
		if tables[name] == nil {
			return nil, fmt.Errorf("columns are added to the table %s, which is not there", name)
		}
		for _, t := range tables {
			if t.is(name) {
				t.add(columns...)
				if t.name != name {
					t.own = t.own[:len(t.own)-len(columns)] // inherited, not defined here
				}
			}
		}
	}

	define(&table{name: "sys_scope", label: "Application", display: "name", virtual: true}, "", Column{Name: "name", Max: 100}, Column{Name: "scope", Max: 18},
		Column{Name: "sys_class_name", Max: 80})
	define(&table{name: "sys_db_object", label: "Table", display: "name", virtual: true}, "",
		Column{Name: "name", Max: 80}, Column{Name: "label", Max: 80}, Column{Name: "super_class", Kind: Reference, Refers: "sys_db_object"})
	define(&table{name: "sys_dictionary", label: "Dictionary entry", display: "element", virtual: true}, "",
		Column{Name: "name", Max: 80}, Column{Name: "element", Max: 80}, Column{Name: "column_label", Max: 80}, Column{Name: "internal_type"},
		Column{Name: "max_length", Kind: Integer}, Column{Name: "reference", Max: 80}, Column{Name: "mandatory", Kind: Boolean, Default: "false"},
		Column{Name: "read_only", Kind: Boolean, Default: "false"}, Column{Name: "active", Kind: Boolean, Default: "true"})
	define(&table{name: "sys_choice", label: "Choice", display: "label", virtual: true}, "",
		Column{Name: "name", Max: 80}, Column{Name: "element", Max: 80}, Column{Name: "value", Max: 100}, Column{Name: "label", Max: 100},
		Column{Name: "inactive", Kind: Boolean, Default: "false"})
	return tables, nil
}

// describeSchema writes sys_db_object, sys_dictionary and sys_choice. As on a real instance a column is listed under
// the table that defines it and not again under the tables that inherit it.
func (i *Instance) describeSchema() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.insert(i.tables["sys_scope"], map[string]string{"name": "Global", "scope": "global", "sys_class_name": "sys_scope"}, systemUser)
	names := slices.Sorted(maps.Keys(i.tables))
	ids := map[string]string{}
	for _, name := range names {
		ids[name] = i.insert(i.tables["sys_db_object"], map[string]string{"name": name, "label": i.tables[name].label}, systemUser).id()
	}
	for _, name := range names {
		t := i.tables[name]
		if t.parent != nil {
			i.records[ids[name]].fields["super_class"] = ids[t.parent.name]
		}
		i.insert(i.tables["sys_dictionary"], map[string]string{"name": name, "column_label": t.label, "internal_type": "collection"}, systemUser)
		for _, column := range t.own {
			c := t.columns[column]
			i.insert(i.tables["sys_dictionary"], map[string]string{
				"name": name, "element": c.Name, "column_label": c.Label,
				"internal_type": string(c.Kind), "max_length": strconv.Itoa(c.Max), "reference": c.Refers,
				"mandatory": strconv.FormatBool(c.Mandatory), "read_only": strconv.FormatBool(c.readOnly),
			}, systemUser)
			for _, choice := range c.Choices {
				i.insert(i.tables["sys_choice"], map[string]string{"name": name, "element": c.Name, "value": choice.Value, "label": choice.Label}, systemUser)
			}
		}
	}
}
