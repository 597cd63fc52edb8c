// Package jwks finds the keys of tokens in the JSON Web Key Set of an issuer, for
// realtime.NewJWTVerifier. It is an example to copy: it keeps the keys, follows a rotation, and
// bounds how often it asks.
package jwks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/rodando/realtime"
)

const (
	// maxAge is how long a key is used after the set was read last. A key that the issuer has
	// removed is refused after this time.
	maxAge = 10 * time.Minute
	// minInterval is the least time between two requests: a token with an invented kid must not
	// make the server ask the issuer.
	minInterval = 30 * time.Second
	timeout     = 4 * time.Second // below the server's Timeouts.Repo
	maxSet      = 1 << 20         // bytes
)

// Keys are the keys of one issuer. Its methods may be called concurrently.
type Keys struct {
	url    string
	client *http.Client

	mu      sync.Mutex // guards the fields below
	keys    map[string]any
	read    time.Time     // when keys were read; zero: never
	tried   time.Time     // when the last request began
	failed  error         // of the last request
	running chan struct{} // closed when the request under way has ended; nil: there is none
}

// New returns the keys of the set at a URL. It makes no request yet. client may be nil, for
// http.DefaultClient.
func New(url string, client *http.Client) *Keys {
	if client == nil {
		client = http.DefaultClient
	}
	return &Keys{url: url, client: client}
}

// Keyfunc is what realtime.NewJWTVerifier takes as a key.
func (k *Keys) Keyfunc(ctx context.Context) jwt.Keyfunc {
	return func(token *jwt.Token) (any, error) {
		kid, _ := token.Header["kid"].(string)
		return k.find(ctx, kid)
	}
}

// find returns a key. Its error wraps realtime.ErrUnavailable if the issuer could not be asked: the
// token may be valid then, so that nobody is refused for it, and the client tries again.
func (k *Keys) find(ctx context.Context, kid string) (any, error) {
	for asked := false; ; asked = true {
		k.mu.Lock()
		key, known := k.keys[kid]
		fresh := known && time.Since(k.read) < maxAge
		if k.running == nil && !fresh && !asked && time.Since(k.tried) >= minInterval {
			k.ask()
		}
		running, failed := k.running, k.failed
		k.mu.Unlock()
		switch {
		case fresh:
			return key, nil
		case running != nil && !asked:
			select {
			case <-running:
			case <-ctx.Done():
				return nil, errors.Join(realtime.ErrUnavailable, ctx.Err())
			}
		case failed != nil && known:
			return key, nil // the issuer does not answer: better an old key than none
		case failed != nil:
			return nil, fmt.Errorf("%w: %w", realtime.ErrUnavailable, failed)
		default:
			return nil, errors.New("unknown kid")
		}
	}
}

// ask begins a request, which no caller's ctx ends. The caller holds mu.
func (k *Keys) ask() {
	running := make(chan struct{})
	k.running, k.tried = running, time.Now()
	go func() {
		defer close(running)
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		keys, err := k.request(ctx)
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.running, k.failed = nil, err; err == nil {
			k.keys, k.read = keys, time.Now()
		}
	}()
}

func (k *Keys) request(ctx context.Context) (map[string]any, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, k.url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := k.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the key set's status is %d", resp.StatusCode)
	}
	var set struct {
		Keys []webKey `json:"keys"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxSet)).Decode(&set); err != nil {
		return nil, fmt.Errorf("the key set is malformed: %w", err)
	}
	keys := map[string]any{}
	for _, w := range set.Keys {
		if key, err := w.public(); err == nil && w.ID != "" && (w.Use == "" || w.Use == "sig") {
			keys[w.ID] = key
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("the key set has no key that can verify a signature")
	}
	return keys, nil
}
