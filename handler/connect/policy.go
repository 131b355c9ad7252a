package connect

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"ticketbridge/handler/entra/graphapi"
	"ticketbridge/handler/fault"
)

// A policy is one as Graph shows it, whole: what connect does not know is written back as it came. Its stage settings are not in a plain answer, and
// neither are its questions and its access package, which a PUT loses when it does not hold them.
type policy struct {
	id       string
	name     string
	scope    string // allowedTargetScope
	expires  bool
	body     map[string]json.RawMessage
	settings []setting
}

// setting is one of a policy's stage settings.
type setting struct {
	body  map[string]json.RawMessage // what is not below, as it came
	stage string
	ext   reference
	name  string // the extension's
}

type reference struct {
	Type string `json:"@odata.type"`
	ID   string `json:"id"`
}

const stageSettings = "customExtensionStageSettings"

func (c *Connector) policy(ctx context.Context, id string) (*policy, error) {
	var raw json.RawMessage
	err := c.Graph.Get(ctx, "read the policy", management+graphapi.Path("assignmentPolicies", id), url.Values{
		"$expand": {stageSettings + "($expand=customExtension),accessPackage($select=id),questions"},
	}, &raw)
	if err != nil {
		return nil, advise(err, partPolicy)
	}
	return readPolicy(raw)
}

func readPolicy(raw json.RawMessage) (*policy, error) {
	p := &policy{}
	var known struct {
		ID         string `json:"id"`
		Name       string `json:"displayName"`
		Scope      string `json:"allowedTargetScope"`
		Expiration struct {
			Type string `json:"type"`
		} `json:"expiration"`
		Settings []json.RawMessage `json:"customExtensionStageSettings"`
	}
	if err := json.Unmarshal(raw, &known); err != nil || known.ID == "" {
		return nil, unreadable("a policy", err)
	}
	if err := json.Unmarshal(raw, &p.body); err != nil {
		return nil, unreadable("a policy", err)
	}
	if _, there := p.body[stageSettings]; !there { // without them nothing can be written back
		return nil, unreadable("the policy "+known.ID+" came without its stage settings", nil)
	}
	p.id, p.name, p.scope = known.ID, known.Name, known.Scope
	p.expires = known.Expiration.Type == "afterDateTime" || known.Expiration.Type == "afterDuration"
	for name := range p.body {
		if at := strings.Index(name, "@"); at >= 0 && name != "@odata.type" { // what Graph says about its answer, not about the policy
			delete(p.body, name)
		}
	}
	for _, s := range known.Settings {
		one := setting{}
		var parts struct {
			Stage     string `json:"stage"`
			Extension *struct {
				reference
				Name string `json:"displayName"`
			} `json:"customExtension"`
		}
		if err := json.Unmarshal(s, &parts); err != nil || parts.Stage == "" {
			return nil, unreadable("a stage of the policy "+p.id, err)
		}
		if err := json.Unmarshal(s, &one.body); err != nil {
			return nil, unreadable("a stage of the policy "+p.id, err)
		}
		if parts.Extension == nil || parts.Extension.ID == "" { // it cannot be written back
			return nil, unreadable("the stage "+parts.Stage+" of the policy "+p.id+" came without its extension", nil)
		}
		one.stage, one.ext, one.name = parts.Stage, parts.Extension.reference, parts.Extension.Name
		for name := range one.body {
			if name == "stage" || name == "customExtension" || strings.Contains(name, "@") && name != "@odata.type" {
				delete(one.body, name)
			}
		}
		p.settings = append(p.settings, one)
	}
	delete(p.body, stageSettings)
	return p, nil
}

// at returns what a policy calls at a stage; nil when it calls nothing.
func (p *policy) at(stage string) *setting {
	if i := slices.IndexFunc(p.settings, func(s setting) bool { return strings.EqualFold(s.stage, stage) }); i >= 0 {
		return &p.settings[i]
	}
	return nil
}

// with returns the policy's stage settings with one changed: put in place of what is there, else at the end.
func with(settings []setting, stage string, to reference) []setting {
	out := slices.Clone(settings)
	for i := range out {
		if strings.EqualFold(out[i].stage, stage) {
			out[i].ext = to
			return out
		}
	}
	return append(out, setting{stage: stage, ext: to})
}

// without returns the policy's stage settings without a stage.
func without(settings []setting, stage string) []setting {
	return slices.DeleteFunc(slices.Clone(settings), func(s setting) bool { return strings.EqualFold(s.stage, stage) })
}

// written is the policy as it is put back, whole, with these stage settings.
func (p *policy) written(settings []setting) map[string]any {
	body := map[string]any{}
	for name, v := range p.body {
		body[name] = v
	}
	list := []any{}
	for _, s := range settings {
		one := map[string]any{"stage": s.stage, "customExtension": s.ext}
		for name, v := range s.body {
			one[name] = v
		}
		list = append(list, one)
	}
	body[stageSettings] = list
	return body
}

// same says whether two readings of a policy differ, but for what the extensions themselves are like.
func (p *policy) same(other *policy) bool {
	a, errA := json.Marshal(p.written(p.settings))
	b, errB := json.Marshal(other.written(other.settings))
	return errA == nil && errB == nil && bytes.Equal(a, b)
}

// putPolicy writes a policy whole, if it is still what the plan saw.
func (c *Connector) putPolicy(ctx context.Context, saw *policy, change func([]setting) []setting) error {
	const op = "change the policy"
	now, err := c.policy(ctx, saw.id)
	if err != nil {
		return err
	}
	if !now.same(saw) {
		return &fault.Error{Op: op, Reason: fault.Conflict, Detail: fmt.Sprintf("somebody changed the policy %q (%s) since the plan was made; it was not written to", saw.name, saw.id), Advice: adviseAgain}
	}
	if err := c.Graph.Put(ctx, op, management+graphapi.Path("assignmentPolicies", saw.id), now.written(change(now.settings)), nil); err != nil {
		return advise(err, partPolicy)
	}
	return nil
}
