// Guard: who may send a request.

package realtimeadmin

import (
	"crypto/sha256"
	"crypto/subtle"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rodando/realtime/internal/admission"
	"github.com/rodando/realtime/internal/ratelimit"
)

// operator returns who sends the request. If ok is false it has answered the request.
func (v *View) operator(w http.ResponseWriter, r *http.Request) (name string, ok bool) {
	if v.opts.Operator != nil {
		if name, ok = v.opts.Operator(r); !ok {
			refuse(w, http.StatusForbidden, "this is for operators")
		}
		return name, ok
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		refuse(w, http.StatusUnauthorized, "the token of operators is needed")
		return "", false
	}
	addr, _, _ := admission.Address(r, v.opts.TrustedProxies)
	if wait := v.guesses.wait(addr); wait > 0 { // also if this one is right: otherwise guesses would not be limited
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
		refuse(w, http.StatusTooManyRequests, "too many wrong tokens")
		return "", false
	}
	given := [sha256.Size]byte{}
	if len(token) <= maxToken {
		given = sha256.Sum256([]byte(token))
	}
	if subtle.ConstantTimeCompare(given[:], v.token[:]) != 1 {
		v.guesses.wrong(addr)
		v.log.Warn("realtimeadmin: wrong token", "address", addr)
		refuse(w, http.StatusUnauthorized, "wrong token")
		return "", false
	}
	return "token", true
}

// guessRate is the rate of wrong tokens from one address, and of those from addresses for which the
// table has no room together.
var guessRate = ratelimit.Rate{PerSecond: 0.1, Burst: 5}.Quota()

// maxAddresses is the number of addresses that are remembered.
const maxAddresses = 4096

// guesses limits wrong tokens. Its methods may be called concurrently.
type guesses struct {
	start time.Time

	mu     sync.Mutex // guards the fields below
	by     map[netip.Prefix]ratelimit.Bucket
	others ratelimit.Bucket // of addresses that are not in by
}

// wait returns how long an address has to wait until its next token is looked at.
func (g *guesses) wait(addr netip.Addr) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	bucket, _ := g.bucketLocked(network(addr))
	return bucket.Wait(guessRate, time.Since(g.start))
}

// wrong records a wrong token.
func (g *guesses) wrong(addr netip.Addr) {
	now, from := time.Since(g.start), network(addr)
	g.mu.Lock()
	defer g.mu.Unlock()
	bucket, own := g.bucketLocked(from)
	bucket.Allow(guessRate, now)
	if !own {
		g.others = bucket
		return
	}
	if g.by == nil {
		g.by = map[netip.Prefix]ratelimit.Bucket{}
	}
	g.by[from] = bucket
}

// bucketLocked returns the bucket of a network, and whether it is its own.
func (g *guesses) bucketLocked(from netip.Prefix) (bucket ratelimit.Bucket, own bool) {
	bucket, own = g.by[from]
	if own || len(g.by) < maxAddresses {
		return bucket, true
	}
	now := time.Since(g.start)
	for other, b := range g.by {
		if b.Full(now) {
			delete(g.by, other)
		}
	}
	if len(g.by) < maxAddresses {
		return ratelimit.Bucket{}, true
	}
	return g.others, false
}

// network returns what one client can have many addresses of: with IPv6 a /64.
func network(addr netip.Addr) netip.Prefix {
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	p, err := addr.WithZone("").Prefix(bits)
	if err != nil { // there is no address
		return netip.Prefix{}
	}
	return p
}

// header is a header that the page sends with each request for data. A page of another origin cannot send
// it without asking first, which is never granted.
const header = "X-Realtime-Admin"

// sameOrigin reports whether a request comes from the page, or from no browser. Otherwise it has
// answered the request.
func sameOrigin(w http.ResponseWriter, r *http.Request) bool {
	site := r.Header.Get("Sec-Fetch-Site")
	if r.Header.Get(header) == "" || new(http.CrossOriginProtection).Check(r) != nil || site != "" && site != "same-origin" {
		refuse(w, http.StatusForbidden, "this is not the page of operators")
		return false
	}
	return true
}
