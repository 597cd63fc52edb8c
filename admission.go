// Admission: who may open a connection, before anything is allocated for it.

package realtime

import (
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/rodando/realtime/internal/engineio"
)

// maxSources bounds the addresses that are remembered; further ones share an
// entry, so that an attacker with many addresses fills no memory and, at worst,
// gets in the way of other new ones.
const maxSources = 1 << 16

// admission counts connections, in all and by address.
//
// admission.mu guards everything below it, and the counts of every source.
type admission struct {
	rt *Server

	mu              sync.Mutex
	warned          bool
	all             int
	unauthenticated int
	sources         map[netip.Addr]*source
	crowd           *source // shared by addresses beyond maxSources
	sweepAt         int     // number of sources at which those without use are dropped
}

// source is an address that clients connect from.
type source struct {
	connections     int
	unauthenticated int
	handshakes      *rate.Limiter
}

// visitor is a connection, from its first request to its end. It is the
// socketio connection's Data.
//
// admission.mu guards unauthenticated; connects and limit belong to visitor.mu.
type visitor struct {
	from  *source // nil when its address is not limited
	token string  // of the Authorization header, or of the query where that is allowed

	mu              sync.Mutex
	connects        uint16 // CONNECTs so far, as long as they pass unasked
	unauthenticated bool
	older           bool          // it speaks Engine.IO 3; set once
	limit           *rate.Limiter // of further CONNECTs
}

func (a *admission) init(rt *Server) {
	a.rt = rt
	a.sources = map[netip.Addr]*source{}
	a.sweepAt = 1024
}

// enter lets a connection in, or says why not.
func (a *admission) enter(r *http.Request) (*visitor, *engineio.Busy) {
	l := &a.rt.opts.Limits
	address, limited := a.address(r)
	a.mu.Lock()
	v := &visitor{unauthenticated: true}
	if limited {
		v.from = a.sourceLocked(address)
	}
	which, status := "", http.StatusServiceUnavailable
	switch {
	case above(a.all, l.Connections):
		which = "Connections"
	case above(a.unauthenticated, l.Unauthenticated):
		which = "Unauthenticated"
	case v.from == nil:
	case above(v.from.connections, l.ConnectionsPerIP):
		which, status = "ConnectionsPerIP", http.StatusTooManyRequests
	case above(v.from.unauthenticated, l.UnauthenticatedPerIP):
		which, status = "UnauthenticatedPerIP", http.StatusTooManyRequests
	case !v.from.handshakes.Allow():
		which, status = "Rates.Handshake", http.StatusTooManyRequests
	}
	if which == "" {
		a.countLocked(v, 1)
		a.all++
		if v.from != nil {
			v.from.connections++
		}
	}
	a.mu.Unlock()
	if which == "" {
		return v, nil
	}
	a.rt.limited(which)
	return nil, &engineio.Busy{Status: status, RetryAfter: time.Second + rand.N(4*time.Second)}
}

func above(n, limit int) bool { return limit >= 0 && n >= limit }

func (a *admission) countLocked(v *visitor, n int) {
	a.unauthenticated += n
	if v.from != nil {
		v.from.unauthenticated += n
	}
}

func (a *admission) sourceLocked(address netip.Addr) *source {
	s := a.sources[address]
	if s != nil {
		return s
	}
	if len(a.sources) >= a.sweepAt {
		a.sweepLocked()
	}
	if len(a.sources) >= maxSources {
		if a.crowd == nil {
			a.crowd = &source{handshakes: a.rt.opts.Rates.Handshake.limiter()}
		}
		return a.crowd
	}
	s = &source{handshakes: a.rt.opts.Rates.Handshake.limiter()}
	a.sources[address] = s
	return s
}

// sweepLocked drops the addresses that have no connection and all of their
// handshakes left, of which there is nothing to remember.
func (a *admission) sweepLocked() {
	for address, s := range a.sources {
		if s.connections == 0 && s.handshakes.Tokens() >= float64(s.handshakes.Burst()) {
			delete(a.sources, address)
		}
	}
	a.sweepAt = max(1024, 2*len(a.sources))
}

// authenticated says that the connection has passed a handshake.
func (a *admission) authenticated(v *visitor) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if v.unauthenticated {
		v.unauthenticated = false
		a.countLocked(v, -1)
	}
}

// leave says that the connection is over.
func (a *admission) leave(v *visitor) {
	a.authenticated(v) // or at least not waiting to be
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all--
	if v.from != nil {
		v.from.connections--
	}
}

// mayConnect reports whether a CONNECT may cost the host a question. A connection
// normally has a few, which need no bucket.
func (a *admission) mayConnect(v *visitor) bool {
	r := a.rt.opts.Rates.Connect
	if r.PerSecond < 0 {
		return true
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.connects++
	if v.limit == nil && int(v.connects) <= min(3, r.Burst) {
		return true
	}
	if v.limit == nil {
		v.limit = r.limiter()
		v.limit.AllowN(time.Now(), int(v.connects)-1)
	}
	return v.limit.Allow()
}

// limiter makes the bucket of a rate.
func (r Rate) limiter() *rate.Limiter {
	if r.PerSecond < 0 {
		return rate.NewLimiter(rate.Inf, 0)
	}
	return rate.NewLimiter(rate.Limit(r.PerSecond), r.Burst)
}

// address returns where a client comes from, and false when that is not known:
// the address is a proxy's that nobody has named, or none at all.
func (a *admission) address(r *http.Request) (netip.Addr, bool) {
	trusted := a.rt.opts.TrustedProxies
	peer, ok := parseAddress(r.RemoteAddr)
	if !ok {
		return netip.Addr{}, false
	}
	if !contains(trusted, peer) {
		if peer.IsPrivate() || peer.IsLoopback() || peer.IsLinkLocalUnicast() {
			if len(r.Header["X-Forwarded-For"]) > 0 {
				a.warn()
			}
			return netip.Addr{}, false
		}
		return network(peer), true
	}
	return network(forwarded(r.Header["X-Forwarded-For"], trusted, peer)), true
}

// forwarded walks back from the proxy that connected to the first address that
// no trusted proxy has. What clients wrote themselves stands further left, and is
// never reached.
func forwarded(headers []string, trusted []netip.Prefix, peer netip.Addr) netip.Addr {
	for _, line := range slices.Backward(headers) {
		for more := line != ""; more; {
			i := strings.LastIndexByte(line, ',')
			hop := line[i+1:]
			line, more = line[:max(i, 0)], i >= 0
			addr, ok := parseAddress(strings.TrimSpace(hop))
			if !ok {
				return peer
			}
			peer = addr
			if !contains(trusted, peer) {
				return peer
			}
		}
	}
	return peer
}

// parseAddress reads an address with or without a port.
func parseAddress(s string) (netip.Addr, bool) {
	if len(s) > 64 {
		return netip.Addr{}, false
	}
	if host, _, err := net.SplitHostPort(s); err == nil {
		s = host
	}
	addr, err := netip.ParseAddr(strings.Trim(s, "[]"))
	return addr.Unmap().WithZone(""), err == nil
}

// network is what counts as one address: of IPv6 the part that a provider gives
// to one customer.
func network(addr netip.Addr) netip.Addr {
	if addr.Is4() {
		return addr
	}
	prefix, err := addr.Prefix(64)
	if err != nil { // cannot happen: the address is valid
		return addr
	}
	return prefix.Addr()
}

func contains(prefixes []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// warn tells the operator, once, of a proxy that is not named.
func (a *admission) warn() {
	a.mu.Lock()
	first := !a.warned
	a.warned = true
	a.mu.Unlock()
	if first {
		a.rt.log.Warn("realtime: behind a proxy that is not in Options.TrustedProxies: addresses are not limited")
	}
}
