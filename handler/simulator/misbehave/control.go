package misbehave

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// wireFault is a Fault as a person writes it: durations as "1.5s", what works only in process left out.
type wireFault struct {
	ID          int               `json:"id,omitempty"`
	Match       string            `json:"match,omitempty"`
	Skip        int               `json:"skip,omitempty"`
	Times       int               `json:"times,omitempty"`
	Delay       string            `json:"delay,omitempty"`
	DelayAnswer string            `json:"delayAnswer,omitempty"`
	Status      int               `json:"status,omitempty"`
	Body        string            `json:"body,omitempty"`
	ContentType string            `json:"contentType,omitempty"`
	RetryAfter  string            `json:"retryAfter,omitempty"`
	Header      map[string]string `json:"header,omitempty"`
	TakeEffect  bool              `json:"takeEffect,omitempty"`
	DropCall    bool              `json:"dropCall,omitempty"`
	LoseAnswer  bool              `json:"loseAnswer,omitempty"`
	Duplicate   bool              `json:"duplicate,omitempty"`
	Seen        *int              `json:"seen,omitempty"`
	Hits        *int              `json:"hits,omitempty"`
}

func onWire(s Standing) wireFault {
	f := s.Fault
	w := wireFault{
		ID: s.ID, Match: f.Match, Skip: f.Skip, Times: f.Times, Status: f.Status, Body: f.Body, ContentType: f.ContentType,
		RetryAfter: f.RetryAfter, Header: f.Header, TakeEffect: f.TakeEffect, DropCall: f.DropCall, LoseAnswer: f.LoseAnswer,
		Duplicate: f.Duplicate, Seen: &s.Seen, Hits: &s.Hits,
	}
	if f.Delay > 0 {
		w.Delay = f.Delay.String()
	}
	if f.DelayAnswer > 0 {
		w.DelayAnswer = f.DelayAnswer.String()
	}
	return w
}

func (w wireFault) fault() (Fault, error) {
	f := Fault{
		Match: w.Match, Skip: w.Skip, Times: w.Times, Status: w.Status, Body: w.Body, ContentType: w.ContentType,
		RetryAfter: w.RetryAfter, Header: w.Header, TakeEffect: w.TakeEffect, DropCall: w.DropCall, LoseAnswer: w.LoseAnswer,
		Duplicate: w.Duplicate,
	}
	if w.Status != 0 && (w.Status < 200 || w.Status > 999) {
		return Fault{}, fmt.Errorf("status is %d; it should be a final HTTP status, 200 or more", w.Status)
	}
	for _, d := range []struct {
		name, text string
		into       *time.Duration
	}{{"delay", w.Delay, &f.Delay}, {"delayAnswer", w.DelayAnswer, &f.DelayAnswer}} {
		if d.text == "" {
			continue
		}
		parsed, err := time.ParseDuration(d.text)
		if err != nil || parsed < 0 {
			return Fault{}, fmt.Errorf("%s is %q; it should be a duration such as 1.5s", d.name, d.text)
		}
		*d.into = parsed
	}
	return f, nil
}

// Handler serves the desk to a person with curl, at [ControlPath]: GET lists the faults with what they did so far,
// POST adds one or an array of them, DELETE clears the desk, DELETE with /{id} takes one off.
//
//	curl -d '{"match":"POST /api/now/","times":3,"status":429,"retryAfter":"2"}' http://127.0.0.1:…/_simulator/faults
func (d *Desk) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+ControlPath, func(w http.ResponseWriter, r *http.Request) { d.list(w, http.StatusOK) })
	mux.HandleFunc("POST "+ControlPath, func(w http.ResponseWriter, r *http.Request) {
		faults, err := readFaults(http.MaxBytesReader(w, r.Body, 1<<20))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		for _, f := range faults {
			d.add(f)
		}
		d.list(w, http.StatusCreated)
	})
	mux.HandleFunc("DELETE "+ControlPath, func(w http.ResponseWriter, r *http.Request) {
		d.Clear()
		d.list(w, http.StatusOK)
	})
	mux.HandleFunc("DELETE "+ControlPath+"/{id}", func(w http.ResponseWriter, r *http.Request) {
		id, err := strconv.Atoi(r.PathValue("id"))
		if err != nil || !d.remove(id) {
			http.Error(w, "there is no fault "+strconv.Quote(r.PathValue("id")), http.StatusNotFound)
			return
		}
		d.list(w, http.StatusOK)
	})
	return mux
}

func (d *Desk) list(w http.ResponseWriter, status int) {
	list := []wireFault{}
	for _, s := range d.Faults() {
		list = append(list, onWire(s))
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(list)
}

// readFaults reads one fault or an array of them; a misspelt field is an error, not a fault that does nothing.
func readFaults(r io.Reader) ([]Fault, error) {
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("reading the fault: %w", err)
	}
	text = bytes.TrimSpace(text)
	if !bytes.HasPrefix(text, []byte("[")) {
		text = bytes.Join([][]byte{[]byte("["), text, []byte("]")}, nil)
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	var wires []wireFault
	if err := dec.Decode(&wires); err != nil {
		return nil, fmt.Errorf("reading the fault: %w", err)
	}
	var faults []Fault
	for _, wire := range wires {
		f, err := wire.fault()
		if err != nil {
			return nil, fmt.Errorf("reading the fault: %w", err)
		}
		faults = append(faults, f)
	}
	return faults, nil
}
