package callout

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"ticketbridge/handler/fault"
)

// fatal is what testing's and rapid's have in common.
type fatal interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

func sample(t fatal, name string) []byte {
	t.Helper()
	body, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func parse(t fatal, body []byte) *Callout {
	t.Helper()
	c, err := Parse(body)
	if err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return c
}

// What Microsoft's example holds, whole.
func TestACalloutIsReadWhole(t *testing.T) {
	t.Parallel()
	id := func(end string) string { return "3c1a4b0e-7d51-4a8f-9f10-0a4c5f8f000" + end }
	want := &Callout{
		RequestID: "7d1f0a52-6c1e-4e0b-9a3c-00000000000a", StageInstanceID: "c0a6e2d4-52f7-4a9e-8f0e-00000000000a",
		CallbackURIPath: "/identityGovernance/entitlementManagement/accessPackageAssignmentRequests/7d1f0a52-6c1e-4e0b-9a3c-00000000000a/resume",
		Stage:           StageApproved, RequestType: "onBehalfAdd", State: "delivering", Status: "WaitingForCallback",
		Wait: 14 * 24 * time.Hour, Waits: true,
		Answers: []Answer{{"Which region?", "EMEA"}, {"Why is it needed?", "Month-end close.\nUntil the end of the year."}},
		Package: Named{id("1"), "SAP Finance reader", "Read access to SAP FI"},
		Catalog: Named{id("2"), "Finance", "Everything Finance"},
		Assigned: Assignment{
			ID: id("3"), State: "delivering", Status: "WaitingForCallback",
			Target: Person{ID: id("4"), ObjectID: id("5"), Name: "Ada Example", Email: "ada@example.com", PrincipalName: "ada@corp.example.com"},
			Policy: Named{ID: id("6"), Name: "Employees"},
		},
		By: Person{ID: id("7"), ObjectID: id("8"), Name: "Max Example", Email: "max@example.com"},
	}
	if diff := cmp.Diff(want, parse(t, sample(t, "approved-on-behalf"))); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	guest := parse(t, sample(t, "approved-guest"))
	if guest.Assigned.Target.Organization.Name != "Partner Ltd" || guest.By.Organization.ID != id("9") {
		t.Errorf("the guest's organization: %+v", guest.Assigned.Target)
	}
}

func TestEachShapeSaysWhetherItWaitsAndWhatItIs(t *testing.T) {
	t.Parallel()
	type kind struct{ Waits, Expiring, Removing, Test bool }
	want := map[string]kind{
		"approved-add": {Waits: true}, "approved-extend": {Waits: true}, "approved-guest": {Waits: true}, "approved-on-behalf": {Waits: true}, "approved-update": {Waits: true},
		"camel-case": {Waits: true}, "created-add": {Waits: true}, "created-extend": {Waits: true}, "created-update": {Waits: true}, "granted-add": {Waits: true},
		"created-remove": {Waits: true, Removing: true}, "removed": {Waits: true, Removing: true},
		"fourteen-days": {Expiring: true}, "one-day": {Expiring: true},
		"launch-and-continue": {}, "nulls": {}, "unknown-stage": {Waits: true}, "odd-shapes": {Waits: true},
		"connection-test": {Test: true}, "connection-test-old": {Test: true},
	}
	files, err := filepath.Glob(filepath.Join("testdata", "*.json"))
	if err != nil || len(files) != len(want) {
		t.Errorf("%d samples, of which %d are known here; %v", len(files), len(want), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		c := parse(t, sample(t, name))
		if got := (kind{c.WaitsForResume(), c.Expiring(), c.Removing(), c.Test}); got != want[name] {
			t.Errorf("%s: %+v, want %+v", name, got, want[name])
		}
		if odd := len(c.Problems) > 0; odd != (name == "odd-shapes") {
			t.Errorf("%s: problems %q", name, c.Problems)
		}
	}
}

// A warning before expiration never waits, whatever is sent beside it.
func TestAWarningBeforeExpirationNeverWaits(t *testing.T) {
	t.Parallel()
	for _, stage := range []string{"assignmentFourteenDaysBeforeExpiration", "ASSIGNMENTONEDAYBEFOREEXPIRATION"} {
		c := parse(t, []byte(`{"Stage":"`+stage+`","CallbackConfiguration":{"DurationBeforeTimeout":"P1D"}}`))
		if !c.Waits || c.WaitsForResume() || !c.Expiring() {
			t.Errorf("%s: %+v", stage, c)
		}
	}
}

// respell writes every property name anew, at every depth.
func respell(t fatal, body []byte, as func(string) string) []byte {
	t.Helper()
	var walk func(v any) any
	walk = func(v any) any {
		switch v := v.(type) {
		case map[string]any:
			out := map[string]any{}
			for name, inner := range v {
				out[as(name)] = walk(inner)
			}
			return out
		case []any:
			for i := range v {
				v[i] = walk(v[i])
			}
		}
		return v
	}
	var v any
	if err := json.Unmarshal(body, &v); err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(walk(v))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestPropertyNamesAreTakenInAnyCase(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"approved-on-behalf", "approved-guest", "removed", "one-day", "odd-shapes", "connection-test", "connection-test-old"} {
		want := parse(t, sample(t, name))
		for _, as := range []func(string) string{
			strings.ToLower, strings.ToUpper,
			func(s string) string { return strings.ToLower(s[:1]) + s[1:] },
			func(s string) string { return strings.ToUpper(s[:1]) + s[1:] },
		} {
			body := respell(t, sample(t, name), as)
			if diff := cmp.Diff(want, parse(t, body)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", body, diff)
			}
		}
		rapid.Check(t, func(t *rapid.T) {
			bits := rapid.SliceOfN(rapid.Bool(), 40, 40).Draw(t, "upper")
			body := respell(t, sample(t, name), func(s string) string {
				out := []rune(strings.ToLower(s))
				for i := range out {
					if bits[i%len(bits)] {
						out[i] = []rune(strings.ToUpper(string(out[i])))[0]
					}
				}
				return string(out)
			})
			if diff := cmp.Diff(want, parse(t, body)); diff != "" {
				t.Fatalf("%s (-want +got):\n%s", body, diff)
			}
		})
	}
}

func TestOfTwoSpellingsOfOneNameTheSameIsAlwaysTaken(t *testing.T) {
	t.Parallel()
	for range 50 {
		c := parse(t, []byte(`{"STAGE":"c","stage":"a","sTAGE":"b","state":"z","State":"exact","STATE":"y"}`))
		if c.Stage != "c" || c.State != "exact" {
			t.Fatalf("stage %q, state %q", c.Stage, c.State)
		}
	}
}

func TestAPropertyWithoutANameIsNoOther(t *testing.T) {
	t.Parallel()
	c := parse(t, []byte(`{"":"CustomExtensionConnectionTest","Assignment":{"":"x"}}`))
	if diff := cmp.Diff(&Callout{}, c); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestWhatIsAbsentOrNullIsEmptyAndNoProblem(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		`{}`,
		`{"Assignment":{},"AccessPackage":{},"Requestor":{},"Answers":[]}`,
		`{"Assignment":{"Target":null,"AssignmentPolicy":null,"Id":null},"Requestor":{"ConnectedOrganization":null,"Email":null},"Answers":null,"CallbackConfiguration":null}`,
		`{"Assignment": null ,"Stage" : null, "Unknown":{"Stage":"x"}}`,
	} {
		if diff := cmp.Diff(&Callout{}, parse(t, []byte(body))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", body, diff)
		}
	}
	c := parse(t, []byte(`{"Answers":[null,{},{"AnsweredQuestion":null,"Value":null},{"AnsweredQuestion":{"TextString":null},"Value":"x"}]}`))
	if diff := cmp.Diff([]Answer{{}, {}, {}, {Value: "x"}}, c.Answers); diff != "" || len(c.Problems) > 0 {
		t.Errorf("problems %q, -want +got:\n%s", c.Problems, diff)
	}
}

func TestEachWayAQuestionIsWrittenIsRead(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]Answer{
		`{"AnsweredQuestion":{"TextString":"Why?"},"Value":"x"}`:                               {"Why?", "x"},
		`{"answeredQuestion":{"text":"Why?"},"value":"x"}`:                                     {"Why?", "x"},
		`{"answeredQuestion":{"text":{"defaultText":"Why?"}},"displayValue":"x"}`:              {"Why?", "x"},
		`{"AnsweredQuestion":"Why?","Value":"x"}`:                                              {"Why?", "x"},
		`{"AnsweredQuestion":{"TextString":"","Text":"Why?"},"Value":"x","DisplayValue":"y"}`:  {"Why?", "x"},
		`{"AnsweredQuestion":{"TextString":"Why?"},"Value":true}`:                              {"Why?", "true"},
		`{"AnsweredQuestion":{"TextString":"How many?"},"Value":12}`:                           {"How many?", "12"},
		`{"AnsweredQuestion":{"TextString":"\ud83d\ude00\u00e4 \"q\""},"Value":"a\nb\u0000c"}`: {"😀ä \"q\"", "a\nb\x00c"},
	} {
		c := parse(t, []byte(`{"Answers":[`+body+`]}`))
		if len(c.Answers) != 1 || c.Answers[0] != want || len(c.Problems) > 0 {
			t.Errorf("%s: %+v, problems %q", body, c.Answers, c.Problems)
		}
	}
}

// A call with a part of an odd shape can be remembered all the same: the part is read as absent, and named.
func TestAnOddPartIsReadAsAbsentAndNamedWithoutItsValue(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{"Stage":{"x":"secret"}}`:                                     "Stage must be a string",
		`{"Stage":["secret"]}`:                                         "Stage must be a string",
		`{"AccessPackage":"secret"}`:                                   "AccessPackage must be an object",
		`{"AccessPackage":["secret"]}`:                                 "AccessPackage must be an object",
		`{"AccessPackageCatalog":{"DisplayName":["secret"]}}`:          "AccessPackageCatalog.DisplayName must be a string",
		`{"Assignment":1}`:                                             "Assignment must be an object",
		`{"Assignment":{"Target":"secret"}}`:                           "Assignment.Target must be an object",
		`{"Assignment":{"Target":{"ConnectedOrganization":"secret"}}}`: "Assignment.Target.ConnectedOrganization must be an object",
		`{"Requestor":false}`:                                          "Requestor must be an object",
		`{"Answers":"secret"}`:                                         "Answers must be a list of objects",
		`{"Answers":["secret"]}`:                                       "Answers must be a list of objects",
		`{"Answers":[{"Value":["secret"]}]}`:                           "Answers[0].Value must be a string",
		`{"Answers":[{},{"AnsweredQuestion":["secret"]}]}`:             "Answers[1].AnsweredQuestion must be an object",
		`{"Answers":[{"AnsweredQuestion":{"Text":["secret"]}}]}`:       "Answers[0].AnsweredQuestion.Text must be a string",
		`{"CallbackConfiguration":"secret"}`:                           "CallbackConfiguration must be an object",
		`{"CallbackConfiguration":{"DurationBeforeTimeout":"secret"}}`: `CallbackConfiguration.DurationBeforeTimeout is not an ISO 8601 duration such as "P14D" or "PT1H"`,
		`{"CallbackConfiguration":{"TimeoutDuration":{"x":1}}}`:        "CallbackConfiguration.TimeoutDuration must be a string",
	} {
		c := parse(t, []byte(body))
		if len(c.Problems) != 1 || c.Problems[0] != want {
			t.Errorf("%s: %q, want %q", body, c.Problems, want)
		}
		c.Problems, c.Waits, c.Answers = nil, false, nil
		if diff := cmp.Diff(&Callout{}, c); diff != "" {
			t.Errorf("%s is not read as absent (-want +got):\n%s", body, diff)
		}
	}
	odd := parse(t, sample(t, "odd-shapes"))
	if diff := cmp.Diff([]string{
		"AccessPackage must be an object", "Answers must be a list of objects", "Assignment.Target must be an object",
		`CallbackConfiguration.DurationBeforeTimeout is not an ISO 8601 duration such as "P14D" or "PT1H"`,
	}, odd.Problems); diff != "" || odd.State != "7" || odd.Wait != 0 || odd.Catalog.Name != "Finance" {
		t.Errorf("%+v\n%s", odd, diff)
	}
}

// A callback configuration makes a request wait however long it says.
func TestARequestWaitsAlsoWhenItsDurationCannotBeRead(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]time.Duration{
		`{}`:                                                        0,
		`{"DurationBeforeTimeout":null}`:                            0,
		`{"DurationBeforeTimeout":"P14D"}`:                          14 * 24 * time.Hour,
		`{"durationbeforetimeout":"PT5M"}`:                          5 * time.Minute,
		`{"TimeoutDuration":"PT2H"}`:                                2 * time.Hour,
		`{"timeoutDuration":"P1DT12H"}`:                             36 * time.Hour,
		`{"DurationBeforeTimeout":"P1Y"}`:                           0,
		`{"DurationBeforeTimeout":"soon"}`:                          0,
		`{"DurationBeforeTimeout":1209600}`:                         0,
		`{"DurationBeforeTimeout":"PT1H","TimeoutDuration":"PT2H"}`: time.Hour,
		`{"DurationBeforeTimeout":"","TimeoutDuration":"PT2H"}`:     2 * time.Hour,
	} {
		c := parse(t, []byte(`{"Stage":"assignmentRequestApproved","CallbackConfiguration":`+body+`}`))
		if !c.WaitsForResume() || c.Wait != want {
			t.Errorf("%s: waits %v, %s; want %s", body, c.WaitsForResume(), c.Wait, want)
		}
	}
}

func TestStagesAndTypesAreSpelledAsTheEnumerationsAre(t *testing.T) {
	t.Parallel()
	for _, known := range stages {
		if c := parse(t, []byte(`{"Stage":"`+strings.ToUpper(known)+`"}`)); c.Stage != known {
			t.Errorf("%s is read as %s", known, c.Stage)
		}
	}
	for _, known := range requestTypes {
		c := parse(t, []byte(`{"RequestType":"`+strings.ToUpper(known[:1])+known[1:]+`"}`))
		if c.RequestType != known || c.Removing() != slices.Contains([]string{"userRemove", "adminRemove", "systemRemove", "approverRemove"}, known) {
			t.Errorf("%s is read as %s, removing %v", known, c.RequestType, c.Removing())
		}
	}
	if c := parse(t, []byte(`{"Stage":"assignmentRequestBlessed","RequestType":"UserExtend"}`)); c.Stage != "assignmentRequestBlessed" || c.RequestType != "userExtend" {
		t.Errorf("%q, %q", c.Stage, c.RequestType)
	}
	if c := parse(t, []byte(`{"RequestType":"UserBless"}`)); c.RequestType != "UserBless" {
		t.Errorf("an unknown type is not kept as it was sent: %q", c.RequestType)
	}
}

func TestOnlyAConnectionTestIsTakenForOne(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]bool{
		`{"Stage":"CustomExtensionConnectionTest"}`:                                true,
		`{"stage":"customextensionconnectiontest"}`:                                true,
		`{"Event":"CustomActionConnectionTest"}`:                                   true,
		`{"event":"customactionconnectiontest","Stage":null}`:                      true,
		`{"Stage":"CustomActionConnectionTest"}`:                                   false,
		`{"Event":"CustomExtensionConnectionTest"}`:                                false,
		`{"Event":"x","Stage":"assignmentRequestApproved"}`:                        false,
		`{"Status":"CustomExtensionConnectionTest"}`:                               false,
		`{"Assignment":{"Stage":"CustomExtensionConnectionTest"},"Answers":["x"]}`: false,
	} {
		if c := parse(t, []byte(body)); c.Test != want {
			t.Errorf("%s: %v", body, c.Test)
		}
	}
}

func TestWhatIsNoObjectOrTooLargeIsRefusedWithoutRepeatingIt(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		"":                        "is not a JSON object: syntax error at byte 0",
		"Ada":                     "is not a JSON object: syntax error at byte 1",
		`"Ada"`:                   "is not a JSON object: found string",
		`["Ada"]`:                 "is not a JSON object: found array",
		"null":                    "is null; a JSON object is expected",
		"12":                      "is not a JSON object: found number",
		`{"Stage":"Ada"`:          "is not a JSON object: syntax error at byte 14",
		`{"Stage":"Ada"}{}`:       "is not a JSON object: syntax error at byte 16",
		"{'Stage':'Ada'}":         "is not a JSON object: syntax error at byte 2",
		"\xff\xfe{\x00}\x00":      "is not a JSON object: syntax error at byte 1",
		"Stage=Ada&State=Example": "is not a JSON object: syntax error at byte 1",
		strings.Repeat(`{"a":`, 20000) + "1" + strings.Repeat("}", 20000): "is not a JSON object: syntax error at byte 50001",
	} {
		_, err := Parse([]byte(body))
		if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "(body): "+want) || strings.Contains(err.Error(), "Ada") {
			t.Errorf("%.40q: %v, want %s", body, err, want)
		}
	}
	full := []byte(`{"Stage":"` + strings.Repeat("x", MaxBytes-len(`{"Stage":""}`)) + `"}`)
	if c := parse(t, full); len(full) != MaxBytes || len(c.Stage) != MaxBytes-12 {
		t.Errorf("%d bytes, stage of %d", len(full), len(c.Stage))
	}
	if _, err := Parse(append(full, ' ')); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "(body): has 1047553 bytes") {
		t.Errorf("one byte too many: %v", err)
	}
}

func TestAByteOrderMarkAndSpaceAroundAreNoMatter(t *testing.T) {
	t.Parallel()
	for _, body := range []string{"\xef\xbb\xbf{\"Stage\":\"x\"}", " \r\n\t{ \"Stage\" :\n\"x\" }\n"} {
		if c := parse(t, []byte(body)); c.Stage != "x" {
			t.Errorf("%q: %+v", body, c)
		}
	}
}

func TestDurationsAreReadOrRefused(t *testing.T) {
	t.Parallel()
	day := 24 * time.Hour
	for text, want := range map[string]time.Duration{
		"P14D": 14 * day, "P2W": 14 * day, "PT5M": 5 * time.Minute, "PT1H": time.Hour, "PT90S": 90 * time.Second, "P1DT2H3M4S": day + 2*time.Hour + 3*time.Minute + 4*time.Second,
		"PT1.5S": time.Second, "P1WT1H": 7*day + time.Hour, "P0DT1H": time.Hour, "PT336H": 14 * day, "P366D": 366 * day, "P014D": 14 * day,
		"": 0, "P": 0, "PT": 0, "14D": 0, "P14": 0, "P1Y": 0, "P1M": 0, "P-1D": 0, "-P1D": 0, "P1.5D": 0, "p14d": 0, " P14D": 0, "P14D ": 0, "P14D\n": 0, "P0D": 0, "PT0.9S": 0,
		"P1H": 0, "PT1D": 0, "P1D1W": 0, "PT1M1H": 0, "P367D": 0, "P53W": 0, "P366DT1S": 0, "P99999999999999999999D": 0, "14.00:00:00": 0, "P١D": 0,
	} {
		got, err := ParseDuration(text)
		if got != want || (err == nil) != (want > 0) {
			t.Errorf("%q: %s, %v; want %s", text, got, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	files, err := filepath.Glob(filepath.Join("testdata", "*.json"))
	if err != nil || len(files) == 0 {
		f.Fatalf("no samples: %v", err)
	}
	for _, file := range files {
		f.Add(sample(f, strings.TrimSuffix(filepath.Base(file), ".json")))
	}
	f.Add([]byte(`{"":"x","Answers":[{"AnsweredQuestion":"q"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		c, err := Parse(body)
		if err != nil {
			if !fault.Is(err, fault.Invalid) || c != nil {
				t.Errorf("%v, %v", c, err)
			}
			var o map[string]json.RawMessage
			if len(body) <= MaxBytes && json.Unmarshal(bytes.TrimPrefix(body, []byte("\xef\xbb\xbf")), &o) == nil && o != nil {
				t.Errorf("an object is refused: %v", err)
			}
			return
		}
		if c.Wait < 0 || c.Wait > 0 && !c.Waits || c.WaitsForResume() && c.Expiring() {
			t.Errorf("waits %v for %s at %q", c.Waits, c.Wait, c.Stage)
		}
		again, err := Parse(body)
		if err != nil || !cmp.Equal(c, again) {
			t.Errorf("read twice it differs: %v\n%s", err, cmp.Diff(c, again))
		}
		// Unknown properties change nothing.
		if trimmed := bytes.TrimSpace(bytes.TrimPrefix(body, []byte("\xef\xbb\xbf"))); len(trimmed) > 2 && len(body)+20 < MaxBytes {
			more := append([]byte(`{"x-unknown":[{}],`), trimmed[1:]...)
			if got, err := Parse(more); err == nil && !cmp.Equal(c, got) {
				t.Errorf("an unknown property changes it:\n%s", cmp.Diff(c, got))
			}
		}
	})
}

func FuzzParseDuration(f *testing.F) {
	for _, s := range []string{"P14D", "PT5M", "P1DT2H3M4.5S", "P2W", "PT0S"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := ParseDuration(text)
		if (err == nil) != (d > 0) || d > 366*24*time.Hour {
			t.Errorf("%q: %s, %v", text, d, err)
		}
	})
}
