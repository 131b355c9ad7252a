package callers

import (
	"context"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"

	"ticketbridge/handler/fault"
)

const (
	defaultPatience = 500 * time.Millisecond // callers wait 1 s, and get their answer within 800 ms
	fetchTimeout    = 10 * time.Second
	maxKeySet       = 1 << 20
	minKeyBits      = 2048

	// refreshAfter is the age at which the keys are fetched again while they are used: Microsoft asks for at least daily.
	refreshAfter = 6 * time.Hour
	// staleAfter is the age from which a fetch is waited for before a key is used: where calls are rare, one that was withdrawn long ago would do
	// once more. When the authority does not answer, the key is used all the same.
	staleAfter = 24 * time.Hour
	// missEvery is how often an unknown key may cause a fetch: anybody can make up key ids.
	missEvery = 30 * time.Second
	// pauseAfterFailure keeps an authority that is down from being called for every request.
	pauseAfterFailure = time.Second
)

// keys are the signing keys of a tenant: fetched when first needed, kept, and fetched again when they are old or an unknown one is named. What was
// fetched last stays in use for as long as the authority does not answer. A fetch belongs to nobody's request: whoever loses patience
// with it leaves it to those who come after.
type keys struct {
	url      string
	client   *http.Client
	patience time.Duration

	mu      sync.Mutex
	known   map[string]*rsa.PublicKey // replaced, never changed
	fetched time.Time                 // when known was; zero before
	missed  time.Time                 // when an unknown key last caused a fetch
	failed  time.Time                 // when the last fetch failed; zero after one that worked
	failure error
	running chan struct{} // closed when the fetch under way has ended; nil when none is
}

func newKeys(url string, transport http.RoundTripper, patience time.Duration) *keys {
	if patience <= 0 {
		patience = defaultPatience
	}
	return &keys{url: url, patience: patience, client: &http.Client{
		Transport: transport, Timeout: fetchTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("the authority redirects") },
	}}
}

// get returns the key with this id. It is Unauthorized when the tenant has none such, and Unreachable when that cannot be said now.
func (k *keys) get(ctx context.Context, kid string) (*rsa.PublicKey, error) {
	key, running, err := k.lookup(kid)
	if running == nil {
		return key, err
	}
	patience := time.NewTimer(k.patience)
	defer patience.Stop()
	select {
	case <-running:
	case <-patience.C:
		err = unavailable("they did not come in time", nil)
	case <-ctx.Done():
		err = unavailable("they did not come in time", ctx.Err())
	}
	switch {
	case err != nil && key != nil:
		return key, nil
	case err != nil:
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if key := k.known[kid]; key != nil { // also when the fetch failed
		return key, nil
	}
	return nil, k.missing()
}

// lookup returns the key, or a fetch to wait for, or both when the key is old, or why there is neither.
func (k *keys) lookup(kid string) (*rsa.PublicKey, <-chan struct{}, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	if key := k.known[kid]; key != nil {
		age := now.Sub(k.fetched)
		if age > refreshAfter && now.Sub(k.failed) > missEvery {
			k.start()
			if age > staleAfter {
				return key, k.running, nil
			}
		}
		return key, nil, nil
	}
	if k.running != nil {
		return nil, k.running, nil
	}
	if now.Sub(k.failed) < pauseAfterFailure || !k.fetched.IsZero() && now.Sub(k.missed) < missEvery && k.failure == nil {
		return nil, nil, k.missing()
	}
	if !k.fetched.IsZero() {
		k.missed = now
	}
	k.start()
	return nil, k.running, nil
}

// missing says why a key is not there after a fetch. The caller holds k.mu.
func (k *keys) missing() error {
	if k.failure != nil {
		return unavailable("the authority could not be asked", k.failure)
	}
	return unauthorized("the token is signed with a key that the tenant does not have")
}

func unavailable(detail string, err error) error {
	return &fault.Error{
		Op: opCheck, Reason: fault.Unreachable, Detail: "the tenant's signing keys cannot be had: " + detail, Err: err, After: time.Second,
		Advice: "Check that the function can reach AZURE_AUTHORITY_HOST.",
	}
}

func (k *keys) prefetch() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fetched.IsZero() {
		k.start()
	}
}

// start fetches in the background unless a fetch is under way. The caller holds k.mu.
func (k *keys) start() {
	if k.running != nil {
		return
	}
	done := make(chan struct{})
	k.running = done
	go func() {
		known, err := k.fetch()
		k.mu.Lock()
		defer k.mu.Unlock()
		now := time.Now()
		if err != nil {
			k.failed, k.failure = now, err
		} else {
			k.known, k.fetched, k.failed, k.failure = known, now, time.Time{}, nil
		}
		k.running = nil
		close(done)
	}()
}

// fetch reads the tenant's key document. Keys of a kind that we do not use, or cannot read, are passed over.
func (k *keys) fetch() (known map[string]*rsa.PublicKey, err error) {
	defer func() { // a panic in a goroutine of its own would end the process
		if p := recover(); p != nil {
			known, err = nil, fmt.Errorf("reading the key document: %v", p)
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), fetchTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, k.url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := k.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the key document: status %d", resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxKeySet))
	if err != nil {
		return nil, fmt.Errorf("reading the key document: %w", err)
	}
	return parseKeys(body)
}

func parseKeys(body []byte) (map[string]*rsa.PublicKey, error) {
	var doc struct {
		Keys []json.RawMessage `json:"keys"`
	}
	// What is read of a key. Its certificates are not: that one of them is odd must not cost us the key.
	type public struct {
		Kty string `json:"kty"`
		Use string `json:"use,omitempty"`
		Kid string `json:"kid"`
		N   string `json:"n"`
		E   string `json:"e"`
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		return nil, errors.New("the key document is not JSON")
	}
	known := map[string]*rsa.PublicKey{}
	for _, raw := range doc.Keys {
		var p public
		if json.Unmarshal(raw, &p) != nil || p.Kty != "RSA" || p.Kid == "" || p.Use != "" && p.Use != "sig" {
			continue
		}
		cut, err := json.Marshal(p)
		if err != nil {
			continue
		}
		var jwk jose.JSONWebKey
		if jwk.UnmarshalJSON(cut) != nil {
			continue
		}
		if key, ok := jwk.Key.(*rsa.PublicKey); ok && key.N.BitLen() >= minKeyBits {
			known[jwk.KeyID] = key
		}
	}
	if len(known) == 0 {
		return nil, errors.New("the key document holds no usable key")
	}
	return known, nil
}
