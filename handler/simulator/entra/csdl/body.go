package csdl

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Violation is one departure from the schema.
type Violation struct {
	At     string // where: "body.data.stage", "$select", "path"
	Detail string
}

func (v Violation) String() string { return v.At + ": " + v.Detail }

// Decode reads exactly one JSON value, keeping numbers as they were written, as the checks of this package want them.
func Decode(body []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one JSON value")
	}
	return v, nil
}

// CheckValue says where a decoded JSON value departs from a type. "at" begins the place of every violation.
func (m *Model) CheckValue(at string, ref Ref, v any) []Violation {
	ref.Type = m.full(ref.Type)
	c := bodyCheck{m: m}
	c.value(at, ref, v)
	return c.found
}

// CheckParameters says where a decoded body departs from the parameters of an action.
func (m *Model) CheckParameters(at string, op *Operation, v any) []Violation {
	c := bodyCheck{m: m}
	if v == nil && len(op.Parameters) == 0 {
		return nil
	}
	object, ok := v.(map[string]any)
	if !ok {
		c.add(at, "the parameters of %s must be an object, not %s", op.Name, kindOf(v))
		return c.found
	}
	for _, name := range slices.Sorted(maps.Keys(object)) {
		i := slices.IndexFunc(op.Parameters, func(p Property) bool { return p.Name == name })
		if i < 0 {
			c.add(at+"."+name, "the action %s has no such parameter", op.Name)
			continue
		}
		c.property(at+"."+name, op.Parameters[i], object[name])
	}
	return c.found
}

type bodyCheck struct {
	m     *Model
	found []Violation
}

func (c *bodyCheck) add(at, format string, args ...any) {
	c.found = append(c.found, Violation{At: at, Detail: fmt.Sprintf(format, args...)})
}

func (c *bodyCheck) property(at string, p Property, v any) {
	if v == nil {
		switch {
		case p.Ref.Collection:
			c.add(at, "null for %s", p.Ref)
		case p.Required:
			c.add(at, "null, which %s does not take here", p.Ref)
		}
		return
	}
	c.value(at, p.Ref, v)
}

func (c *bodyCheck) value(at string, ref Ref, v any) {
	if !ref.Collection {
		c.single(at, ref.Type, v)
		return
	}
	list, ok := v.([]any)
	if !ok {
		c.add(at, "%s for %s", kindOf(v), ref)
		return
	}
	for i, item := range list {
		c.single(fmt.Sprintf("%s[%d]", at, i), ref.Type, item)
	}
}

func (c *bodyCheck) single(at, typ string, v any) {
	if strings.HasPrefix(typ, "Edm.") {
		if problem := primitive(typ, v); problem != "" {
			c.add(at, "%s", problem)
		}
		return
	}
	t := c.m.types[typ]
	if t == nil {
		return // a schema that was cut down mentions types without declaring them
	}
	if t.Kind == Enum {
		s, ok := v.(string)
		if !ok {
			c.add(at, "%s for the enumeration %s", kindOf(v), typ)
		} else if !slices.Contains(t.Members, s) {
			c.add(at, "%q is no member of %s", s, typ)
		}
		return
	}
	c.object(at, t, v)
}

func (c *bodyCheck) object(at string, declared *Type, v any) {
	object, ok := v.(map[string]any)
	if !ok {
		c.add(at, "%s for %s", kindOf(v), declared.Name)
		return
	}
	t := c.actual(at, declared, object)
	if t == nil {
		return
	}
	for _, key := range slices.Sorted(maps.Keys(object)) {
		place := at + "." + key
		if name, annotation, found := strings.Cut(key, "@"); found {
			c.annotation(place, t, name, annotation)
			continue
		}
		p, _, ok := c.m.Property(t.Name, key)
		if !ok {
			if !c.m.Open(t.Name) {
				c.add(place, "%s has no such property", t.Name)
			}
			continue
		}
		c.property(place, p, object[key])
	}
}

// actual returns the type that an object says it is, or is declared to be; nil when that cannot be.
func (c *bodyCheck) actual(at string, declared *Type, object map[string]any) *Type {
	t := declared
	if said, ok := object["@odata.type"]; ok {
		s, isString := said.(string)
		if !isString {
			c.add(at+".@odata.type", "%s, want a string", kindOf(said))
			return nil
		}
		t = c.m.types[c.m.full(strings.TrimPrefix(s, "#"))]
		if t == nil {
			c.add(at+".@odata.type", "there is no type %q", s)
			return nil
		}
		if !c.m.Derives(t.Name, declared.Name) {
			c.add(at+".@odata.type", "%s is not derived from %s", t.Name, declared.Name)
			return nil
		}
	}
	if t.Abstract && !c.m.lenient[t.Name] {
		c.add(at, "%s is abstract: @odata.type must name one of its derived types", t.Name)
		return nil
	}
	return t
}

func (c *bodyCheck) annotation(at string, t *Type, property, annotation string) {
	if !strings.HasPrefix(annotation, "odata.") && !strings.HasPrefix(annotation, "microsoft.graph.") {
		c.add(at, "unknown annotation")
		return
	}
	if property == "" {
		return
	}
	_, navigation, ok := c.m.Property(t.Name, property)
	switch {
	case !ok && !c.m.Open(t.Name):
		c.add(at, "%s has no property %s", t.Name, property)
	case ok && annotation == "odata.bind" && !navigation:
		c.add(at, "%s of %s is not a navigation property", property, t.Name)
	}
}

// An Edm.Duration has days and smaller units only: no weeks, months or years, whatever else ISO 8601 allows.
var (
	guidForm     = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
	durationForm = regexp.MustCompile(`^-?P(\d+D)?(T(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?$`)
)

// primitive says what is wrong with a value of an Edm type, or "". Types it does not know are taken as they are.
func primitive(typ string, v any) string {
	wrong := fmt.Sprintf("%s for %s", kindOf(v), typ)
	text, isText := v.(string)
	number, isNumber := v.(json.Number)
	check := func(ok bool) string {
		if !isText {
			return wrong
		}
		if !ok {
			return fmt.Sprintf("%q is not of the form of %s", text, typ)
		}
		return ""
	}
	switch typ {
	case "Edm.String":
		return check(true)
	case "Edm.Boolean":
		if _, ok := v.(bool); !ok {
			return wrong
		}
		return ""
	case "Edm.Guid":
		return check(guidForm.MatchString(text))
	case "Edm.DateTimeOffset":
		_, err := time.Parse(time.RFC3339Nano, text)
		return check(err == nil)
	case "Edm.Date":
		_, err := time.Parse(time.DateOnly, text)
		return check(err == nil)
	case "Edm.TimeOfDay":
		_, err := time.Parse("15:04:05.9999999", text)
		return check(err == nil)
	case "Edm.Duration":
		return check(durationForm.MatchString(text) && !strings.HasSuffix(text, "T") && !strings.HasSuffix(text, "P"))
	case "Edm.Binary":
		_, err := base64.StdEncoding.DecodeString(text)
		return check(err == nil)
	case "Edm.Byte", "Edm.SByte", "Edm.Int16", "Edm.Int32", "Edm.Int64":
		if !isNumber {
			return wrong
		}
		n, err := strconv.ParseInt(number.String(), 10, 64)
		low, high := bounds(typ)
		if err != nil || n < low || n > high {
			return fmt.Sprintf("%s is not within %s", number, typ)
		}
		return ""
	case "Edm.Single", "Edm.Double", "Edm.Decimal":
		if isNumber || text == "INF" || text == "-INF" || text == "NaN" {
			return ""
		}
		return wrong
	default:
		return ""
	}
}

func bounds(typ string) (low, high int64) {
	switch typ {
	case "Edm.Byte":
		return 0, math.MaxUint8
	case "Edm.SByte":
		return math.MinInt8, math.MaxInt8
	case "Edm.Int16":
		return math.MinInt16, math.MaxInt16
	case "Edm.Int32":
		return math.MinInt32, math.MaxInt32
	default:
		return math.MinInt64, math.MaxInt64
	}
}

// kindOf says in a word what a decoded JSON value is.
func kindOf(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "a boolean"
	case string:
		return "a string"
	case json.Number, float64:
		return "a number"
	case []any:
		return "a list"
	default:
		return "an object"
	}
}

// ParseDuration reads an Edm.Duration, as in "P14D" or "PT0.25S". A day has 24 hours.
func ParseDuration(s string) (time.Duration, error) {
	if !durationForm.MatchString(s) || strings.HasSuffix(s, "T") || strings.HasSuffix(s, "P") {
		return 0, fmt.Errorf("%q is not an Edm.Duration", s)
	}
	date, clock, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(s, "-"), "P"), "T")
	total := time.Duration(0)
	if date != "" {
		days, err := strconv.Atoi(strings.TrimSuffix(date, "D"))
		if err != nil || days > 100_000 {
			return 0, fmt.Errorf("%q is too long", s)
		}
		total = time.Duration(days) * 24 * time.Hour
	}
	if clock != "" {
		d, err := time.ParseDuration(strings.ToLower(clock))
		if err != nil {
			return 0, fmt.Errorf("%q: %w", s, err)
		}
		total += d
	}
	if strings.HasPrefix(s, "-") {
		total = -total
	}
	return total, nil
}
