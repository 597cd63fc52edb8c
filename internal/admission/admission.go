// Package admission decides which connections are accepted, before anything is allocated
// for them. It counts connections in all and by address, and closes connections without a
// user to make room for new ones.
//
// A connection has a user while it has a socket with a user. It is unauthenticated while it
// has no socket, also if it had one before: otherwise an account could occupy any number of
// connections by logging in and leaving. It is anonymous while all its sockets are. When a
// limit is reached, an unauthenticated or anonymous connection is evicted (closed), instead
// of refusing the new one: otherwise one client could occupy all connections and lock out
// the others. make_room.go chooses which one.
package admission

import (
	"math"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/rodando/realtime/internal/ratelimit"
)

// Config configures a Control. A negative number means no limit.
type Config struct {
	Connections          int // in all
	ConnectionsPerIP     int // of one address, with a user or without
	Unauthenticated      int // unauthenticated ones, in all; anonymous ones do not count
	UnauthenticatedPerIP int // unauthenticated ones of one address

	Handshake           ratelimit.Rate // new connections of one address
	UnauthenticatedRate ratelimit.Rate // those of them that have not had a user
	Connect             ratelimit.Rate // CONNECTs of one connection

	TrustedProxies []netip.Prefix

	// UnnamedProxy is called once, when a request was forwarded by a proxy on a private
	// address that is not in TrustedProxies, with that address.
	UnnamedProxy func(proxy netip.Addr)
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
	LimitUnauthenticatedRate
)

const (
	// maxIdle is the maximum number of addresses that are remembered without a
	// connection, because their rates have not refilled yet.
	maxIdle = 1 << 16
	// siteDivisor: one site has at most 1/siteDivisor of Config.Unauthenticated, or
	// Config.UnauthenticatedPerIP if that is more.
	siteDivisor = 8
	// timeToConnect is how long a new connection is not evicted if another one can be: a
	// client needs this time to send its CONNECT.
	timeToConnect = time.Second
	// maxOverRate is the number of CONNECTs beyond Config.Connect that are refused; the
	// next one ends the connection.
	maxOverRate = 10
)

// Control counts the connections. Its methods may be called concurrently.
type Control struct {
	cfg          Config
	perSite      int // maximum number of unauthenticated connections of one site; negative: no limit
	handshake    ratelimit.Quota
	withoutLogin ratelimit.Quota // of Config.UnauthenticatedRate
	connect      ratelimit.Quota
	start        time.Time
	warn         sync.Once // calls Config.UnnamedProxy

	mu              sync.Mutex // guards the fields below, and all fields of every address, site, Conn and evictable, but for those of Conn that never change
	connections     int
	unauthenticated group
	addresses       map[Network]*address // those with a connection, and the idle ones
	sites           map[Network]*site    // those with an evictable connection
	unknown         site                 // the evictable connections whose address is unknown
	busiest         [kinds]ranking       // of the sites with an evictable connection, unknown included
	idle            idleList
}

// Conn is Control's part of a connection. Embed it in the caller's own record.
//
// There is one for each idle connection, so it holds the bytes of the address: a
// netip.Addr is larger, and a pointer to the table's entry is work for the collector.
type Conn struct {
	addr      [16]byte   // see netip.Addr.As16; zero when unknown
	evictable *evictable // nil while the connection has a user, unless it was evicted; nil after Release
	connects  ratelimit.Bucket
	users     uint16 // the number of its sockets with a user
	anonymous uint16 // the number of its other sockets
	deciding  uint16 // the number of its handshakes in progress
	overRate  uint8  // CONNECTs beyond the rate, or released
	// The limits per address count it. Like addr it does not change after Admit, and is read
	// without mu.
	countsForAddress bool
}

// released is the overRate of a Conn for which Release was called.
const released = math.MaxUint8

// Addr returns the address that the connection comes from: the client's, or that of a proxy
// that is not trusted. It is the invalid netip.Addr if the address is unknown.
func (c *Conn) Addr() netip.Addr {
	if c.addr == ([16]byte{}) {
		return netip.Addr{}
	}
	return netip.AddrFrom16(c.addr).Unmap()
}

// Network returns the network whose limits count the connection. ok is false if its address
// does not identify a client.
func (c *Conn) Network() (n Network, ok bool) {
	if !c.countsForAddress {
		return 0, false
	}
	return network(c.Addr()), true
}

// New returns a Control.
func New(c Config) *Control {
	a := &Control{
		cfg: c, perSite: -1, handshake: c.Handshake.Quota(), withoutLogin: c.UnauthenticatedRate.Quota(), connect: c.Connect.Quota(), start: time.Now(),
		addresses: map[Network]*address{}, sites: map[Network]*site{},
	}
	for kind := range a.busiest {
		a.busiest[kind].kind = kind
	}
	if c.Unauthenticated >= 0 && c.UnauthenticatedPerIP >= 0 {
		a.perSite = max(c.Unauthenticated/siteDivisor, c.UnauthenticatedPerIP)
	}
	return a
}

// Admit admits a new connection, which is unauthenticated, and returns the status 0.
// Otherwise it returns the HTTP status with which to refuse it: 429 for a limit of its address
// or site, 503 for a limit of the server. It also returns the limit that was reached, if any.
// A limit with the status 0 means that another connection was evicted.
func (a *Control) Admit(c *Conn, r *http.Request) (status int, reached Limit) {
	addr, known, forwarded := Address(r, a.cfg.TrustedProxies)
	if forwarded {
		a.warn.Do(func() { a.cfg.UnnamedProxy(addr) })
	}
	a.mu.Lock()
	reached, status, closeEvicted := a.admitLocked(c, addr, known, time.Since(a.start))
	a.mu.Unlock()
	if addr.IsValid() {
		c.addr = addr.As16()
	}
	if closeEvicted != nil {
		closeEvicted()
	}
	return status, reached
}

// admitLocked also returns the function that closes the evicted connection, or nil.
func (a *Control) admitLocked(c *Conn, addr netip.Addr, known bool, now time.Duration) (reached Limit, status int, closeEvicted func()) {
	var from *address
	if known {
		key := network(addr)
		if from = a.addresses[key]; from == nil {
			from = &address{key: key} // added to the table if the connection is admitted
		}
		if above(from.connections, a.cfg.ConnectionsPerIP) {
			return LimitConnectionsPerIP, http.StatusTooManyRequests, nil
		}
	}
	at := a.siteLocked(from)
	reached, status, evicted := a.makeRoomLocked(from, at, true, now)
	switch {
	case status == http.StatusServiceUnavailable:
		return reached, status, nil
	case from != nil && !from.handshakes.Allow(a.handshake, now):
		return LimitHandshake, http.StatusTooManyRequests, nil
	case from != nil && !from.withoutLogin.Allow(a.withoutLogin, now):
		return LimitUnauthenticatedRate, http.StatusTooManyRequests, nil
	case status != 0:
		return reached, status, nil
	}
	closeEvicted = a.evictLocked(evicted)
	a.connections++
	*c = Conn{evictable: &evictable{from: from, site: at, charged: true}}
	if from != nil {
		c.countsForAddress = true
		a.useLocked(from, now)
	}
	a.updateLocked(c, false, now)
	return reached, 0, closeEvicted
}

// above reports whether n has reached a limit.
func above(n, limit int) bool { return limit >= 0 && n >= limit }

// Opened sets end, the function that closes an admitted connection when it is evicted. Opened
// and Left may set several such functions for a connection, but only one of them is called:
// once, on any goroutine, and possibly before Opened or Left returns.
func (a *Control) Opened(c *Conn, end func()) {
	a.mu.Lock()
	s := c.evictable
	evicted := s != nil && s.evicted && s.end == nil // otherwise it was closed with the end of Left
	if s != nil && !s.evicted {
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
	Pass    Verdict = iota // process it
	Refuse                 // refuse it: Config.Connect is exceeded
	End                    // refuse it for the same reason, and close the connection
	Evicted                // refuse it: the connection was evicted and is being closed
)

// Charge charges a CONNECT to its connection's rate. Use it for a CONNECT that is refused
// without a call of the host, otherwise Begin.
func (a *Control) Charge(c *Conn) Verdict {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.chargeLocked(c)
}

func (a *Control) chargeLocked(c *Conn) Verdict {
	if c.connects.Allow(a.connect, time.Since(a.start)) {
		return Pass
	}
	if c.overRate >= maxOverRate { // also once it is released
		return End
	}
	c.overRate++
	return Refuse
}

// Begin is Charge for a CONNECT whose handshake calls the host. If it passes, the connection
// has a handshake in progress until Decided is called.
func (a *Control) Begin(c *Conn) Verdict {
	a.mu.Lock()
	defer a.mu.Unlock()
	v := a.chargeLocked(c)
	if s := c.evictable; s != nil && s.evicted {
		return Evicted
	}
	if v == Pass {
		c.deciding++
		a.updateLocked(c, false, time.Since(a.start))
	}
	return v
}

// Decided ends a handshake that Begin has passed. A connection that is still unauthenticated
// then is the first to be evicted.
func (a *Control) Decided(c *Conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	c.deciding--
	a.updateLocked(c, true, time.Since(a.start))
}

// Joined records a new socket of the connection, which has a user or is anonymous.
func (a *Control) Joined(c *Conn, user bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	c.count(user, 1)
	a.updateLocked(c, false, time.Since(a.start))
}

// Left records that a socket has been removed, for which Joined was called. If the connection
// has no user now, it may be evicted from now on: end closes it then, see Opened. Left
// returns the limit that the connection has reached, if any: then it or another one was
// evicted.
func (a *Control) Left(c *Conn, user bool, end func()) Limit {
	a.mu.Lock()
	reached, closeEvicted := a.leftLocked(c, user, end, time.Since(a.start))
	a.mu.Unlock()
	if closeEvicted != nil {
		closeEvicted()
	}
	return reached
}

func (a *Control) leftLocked(c *Conn, user bool, end func(), now time.Duration) (reached Limit, closeEvicted func()) {
	c.count(user, -1)
	if c.users > 0 || c.overRate == released {
		return NoLimit, nil
	}
	if c.evictable == nil {
		var from *address
		if key, ok := c.Network(); ok {
			from = a.addresses[key] // present as long as it has a connection
		}
		c.evictable = &evictable{from: from, site: a.siteLocked(from), end: end}
	}
	s := c.evictable
	if c.stateOf() != stateAnonymous && !s.evicted {
		var status int
		var evicted *evictable
		if reached, status, evicted = a.makeRoomLocked(s.from, s.site, false, now); status != 0 {
			evicted = s // all others have a handshake in progress
		}
		closeEvicted = a.evictLocked(evicted)
	}
	a.updateLocked(c, false, now)
	return reached, closeEvicted
}

// count adds n to the number of sockets with a user, or of the others.
func (c *Conn) count(user bool, n int) {
	if user {
		c.users += uint16(n)
	} else {
		c.anonymous += uint16(n)
	}
}

// Release removes a closed connection from the counts. It is called once per admitted
// connection.
func (a *Control) Release(c *Conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	c.overRate = released
	a.updateLocked(c, false, 0)
	c.evictable = nil
	a.connections--
	if key, ok := c.Network(); ok {
		from := a.addresses[key] // present as long as it has a connection
		if from.connections--; from.connections == 0 {
			a.idleLocked(from)
		}
	}
}

// Unauthenticated returns the number of unauthenticated connections.
func (a *Control) Unauthenticated() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.unauthenticated.n
}
