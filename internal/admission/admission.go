// Package admission decides which connections are accepted, before anything is
// allocated for them. It counts connections in all and by address, and closes
// unauthenticated ones to make room for new ones.
//
// A stranger is a connection that has not passed a handshake yet. When a limit on
// strangers is reached, the oldest stranger is closed instead of refusing the new
// connection: otherwise one client could occupy all places and lock everybody out.
// A stranger whose handshake is under way is not closed.
package admission

import (
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/rodando/realtime/internal/ratelimit"
)

// Config configures a Control. A negative number means no limit.
type Config struct {
	Connections          int // in all
	ConnectionsPerIP     int // of one address
	Unauthenticated      int // strangers, in all
	UnauthenticatedPerIP int // strangers of one address

	Handshake ratelimit.Rate // new connections of one address
	Connect   ratelimit.Rate // CONNECTs of one connection

	TrustedProxies []netip.Prefix

	// UnnamedProxy is called once, when a request was forwarded by a proxy on a private
	// address that is not in TrustedProxies.
	UnnamedProxy func()
}

// Limit names a limit of Config.
type Limit uint8

// The limits. NoLimit means that none was reached.
const (
	NoLimit Limit = iota
	LimitConnections
	LimitConnectionsPerIP
	LimitUnauthenticated
	LimitUnauthenticatedPerIP
	LimitHandshake
)

const (
	// maxIdle is the maximum number of addresses that are remembered without a
	// connection, because their handshake rate has not refilled yet.
	maxIdle = 1 << 16
	// siteDivisor: at most 1/siteDivisor of Config.Unauthenticated belongs to one site.
	siteDivisor = 8
	// maxOverRate is the number of CONNECTs beyond Config.Connect that are refused; the
	// next one ends the connection.
	maxOverRate = 10
)

// Control counts the connections. Its methods may be called concurrently.
type Control struct {
	cfg       Config
	perSite   int
	handshake ratelimit.Quota
	connect   ratelimit.Quota
	start     time.Time
	warn      sync.Once

	mu          sync.Mutex // guards the fields below, and all fields of every address, site, Conn and stranger
	connections int
	strangers   group
	addresses   map[Network]*address // those with a connection, and the idle ones
	sites       map[Network]*site    // those with a stranger
	idle        idleList
}

// Conn is Control's part of a connection. Embed it in the caller's own record.
//
// There is one for each idle connection, so it holds the bytes of the address: a
// netip.Addr is larger, and a pointer to the table's entry is work for the collector.
type Conn struct {
	addr     [16]byte  // see netip.Addr.As16; zero when unknown
	stranger *stranger // nil once the connection is authenticated
	connects ratelimit.Bucket
	overRate uint8 // CONNECTs beyond the rate
	counted  bool  // it counts for limits per address
}

// Addr returns the address that the connection comes from: the client's, or that of a
// proxy that is not trusted. It is not valid when it is unknown.
func (c *Conn) Addr() netip.Addr {
	if c.addr == ([16]byte{}) {
		return netip.Addr{}
	}
	return netip.AddrFrom16(c.addr).Unmap()
}

// Network returns the network for whose limits the connection counts; ok is false when
// its address does not identify a client.
func (c *Conn) Network() (n Network, ok bool) {
	if !c.counted {
		return 0, false
	}
	return network(c.Addr()), true
}

// New returns a Control.
func New(c Config) *Control {
	a := &Control{
		cfg: c, perSite: -1, handshake: c.Handshake.Quota(), connect: c.Connect.Quota(), start: time.Now(),
		addresses: map[Network]*address{}, sites: map[Network]*site{},
	}
	if c.Unauthenticated >= 0 && c.UnauthenticatedPerIP >= 0 {
		a.perSite = max(c.Unauthenticated/siteDivisor, c.UnauthenticatedPerIP)
	}
	return a
}

// Admit admits a new connection as a stranger and returns the status 0, or returns the
// HTTP status with which to refuse it: 429 for a limit of its address or site, 503 for a
// limit of the server. It also returns the limit that was reached, if any. A limit with
// the status 0 means that another stranger was evicted.
func (a *Control) Admit(c *Conn, r *http.Request) (status int, reached Limit) {
	addr, known, forwarded := Address(r, a.cfg.TrustedProxies)
	if forwarded {
		a.warn.Do(a.cfg.UnnamedProxy)
	}
	a.mu.Lock()
	reached, status, ended := a.admitLocked(c, addr, known, time.Since(a.start))
	a.mu.Unlock()
	if addr.IsValid() {
		c.addr = addr.As16()
	}
	if ended != nil {
		ended()
	}
	return status, reached
}

// admitLocked also returns the function that closes the evicted stranger, if any.
func (a *Control) admitLocked(c *Conn, addr netip.Addr, known bool, now time.Duration) (reached Limit, status int, ended func()) {
	var from *address
	if known {
		key := network(addr)
		if from = a.addresses[key]; from == nil {
			from = &address{key: key} // entered into the table if it is admitted
		}
	}
	switch {
	case above(a.connections, a.cfg.Connections):
		return LimitConnections, http.StatusServiceUnavailable, nil
	case from == nil:
	case above(from.connections, a.cfg.ConnectionsPerIP):
		return LimitConnectionsPerIP, http.StatusTooManyRequests, nil
	case !from.handshakes.Allow(a.handshake, now):
		return LimitHandshake, http.StatusTooManyRequests, nil
	}
	var at *site
	if from != nil {
		at = a.siteLocked(from.key)
	}
	reached, status, ended = a.evictLocked(from, at)
	if status != 0 {
		return reached, status, nil
	}
	a.connections++
	if from != nil {
		a.useLocked(from, now)
		if at.n == 0 {
			a.sites[at.key] = at
		}
	}
	*c = Conn{counted: known, stranger: &stranger{from: from, site: at}}
	a.addLocked(c.stranger, 1)
	a.queueLocked(c.stranger, false)
	return reached, 0, ended
}

func above(n, limit int) bool { return limit >= 0 && n >= limit }

// Opened sets the function that closes an admitted connection as long as it is a
// stranger. end is called at most once, on any goroutine, and possibly before Opened
// returns.
func (a *Control) Opened(c *Conn, end func()) {
	a.mu.Lock()
	s := c.stranger
	evicted := s != nil && s.ended
	if s != nil && !evicted {
		s.end = end
	}
	a.mu.Unlock()
	if evicted {
		end()
	}
}

// Verdict says what to do with a CONNECT.
type Verdict uint8

// The verdicts.
const (
	Pass   Verdict = iota // process it
	Refuse                // refuse it: Config.Connect is exceeded
	End                   // refuse it for the same reason and close the connection
	Ended                 // refuse it: the connection was evicted and is being closed
)

// Charge charges a CONNECT to its connection's rate, for one that is decided without
// the host.
func (a *Control) Charge(c *Conn) Verdict {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.chargeLocked(c)
}

func (a *Control) chargeLocked(c *Conn) Verdict {
	if c.connects.Allow(a.connect, time.Since(a.start)) {
		return Pass
	}
	if c.overRate++; c.overRate > maxOverRate {
		c.overRate = maxOverRate
		return End
	}
	return Refuse
}

// Begin is Charge for a CONNECT about which the host is asked. If it passes, the
// connection is not evicted until Decided is called.
func (a *Control) Begin(c *Conn) Verdict {
	a.mu.Lock()
	defer a.mu.Unlock()
	v := a.chargeLocked(c)
	s := c.stranger
	if s != nil && s.ended {
		return Ended
	}
	if s != nil && v == Pass {
		a.unqueueLocked(s)
		s.deciding++
	}
	return v
}

// Decided ends a handshake that Begin passed. A connection that is still a stranger is
// the next to be evicted.
func (a *Control) Decided(c *Conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := c.stranger
	if s == nil {
		return
	}
	if s.deciding--; s.deciding == 0 {
		a.queueLocked(s, true)
	}
}

// Authenticated records that the connection has passed a handshake. It is not a
// stranger any more.
func (a *Control) Authenticated(c *Conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.leaveStrangersLocked(c)
}

func (a *Control) leaveStrangersLocked(c *Conn) {
	s := c.stranger
	c.stranger = nil
	if s == nil || s.ended {
		return
	}
	a.unqueueLocked(s)
	a.addLocked(s, -1)
}

// Release removes a closed connection from the counts. It is called once per admitted
// connection.
func (a *Control) Release(c *Conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.leaveStrangersLocked(c)
	a.connections--
	if key, ok := c.Network(); ok {
		from := a.addresses[key] // present as long as it has a connection
		if from.connections--; from.connections == 0 {
			a.idleLocked(from)
		}
	}
}
