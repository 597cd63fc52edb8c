// Package admission says who may open a connection, before anything is allocated
// for it: it counts connections in all and by address, and has those who do not log
// in make room for those who come.
//
// A stranger is a connection that has passed no handshake yet. Beyond a limit on
// strangers it is not the newcomer who is turned away, or somebody who holds all
// places would keep everybody out, but the stranger who has waited longest.
// A stranger whose handshake is under way is spared: it is about to be none.
package admission

import (
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/rodando/realtime/internal/ratelimit"
)

// Config sets a Control up. Of the numbers, negative is no limit.
type Config struct {
	Connections          int // in all
	ConnectionsPerIP     int // of one address
	Unauthenticated      int // strangers, in all
	UnauthenticatedPerIP int // strangers of one address

	Handshake ratelimit.Rate // new connections of one address
	Connect   ratelimit.Rate // CONNECTs of one connection

	TrustedProxies []netip.Prefix

	// UnnamedProxy is called once, when a proxy forwards that is not among
	// TrustedProxies.
	UnnamedProxy func()
}

// Limit is a field of Config that refuses or ends something.
type Limit uint8

// The limits. NoLimit says that none was reached.
const (
	NoLimit Limit = iota
	LimitConnections
	LimitConnectionsPerIP
	LimitUnauthenticated
	LimitUnauthenticatedPerIP
	LimitHandshake
)

const (
	// maxIdle bounds the addresses without a connection that are remembered because
	// their rate of handshakes is not full again.
	maxIdle = 1 << 16
	// siteShare is which part of all strangers may be of one site.
	siteShare = 8
	// maxOver is how many CONNECTs of a connection beyond Config.Connect are refused
	// before one ends it.
	maxOver = 10
)

// Control is who is connected. Its methods may be called concurrently.
type Control struct {
	cfg       Config
	perSite   int
	handshake ratelimit.Quota
	connect   ratelimit.Quota
	start     time.Time
	warn      sync.Once

	mu sync.Mutex
	// mu guards what follows, and all of every address, site, Conn and stranger.
	connections int
	strangers   group
	addresses   map[Network]*address // those with a connection, and the idle
	sites       map[Network]*site    // those with a stranger
	idle        idleList
}

// Conn is a connection as Control knows it: a part of what the caller keeps of it.
//
// It has the bytes of the address, and not its entry in the table or a netip.Addr,
// since there is one for each idle connection.
type Conn struct {
	addr     [16]byte // as netip.Addr.As16 has it; zero: nobody knows
	stranger *stranger
	connects ratelimit.Bucket
	over     uint8 // CONNECTs beyond the rate
	counted  bool  // at its address
}

// Addr returns the address that the connection comes from: the client's, or that of a
// proxy that is not trusted. It is not valid when nobody knows.
func (c *Conn) Addr() netip.Addr {
	if c.addr == ([16]byte{}) {
		return netip.Addr{}
	}
	return netip.AddrFrom16(c.addr).Unmap()
}

// Network returns the network at which the connection is counted; ok is false when it
// is at none.
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
		a.perSite = max(c.Unauthenticated/siteShare, c.UnauthenticatedPerIP)
	}
	return a
}

// Admit counts a new connection in, which is a stranger. Otherwise it returns the
// status with which to refuse it: 503, or 429 if that is for its address. It also
// returns the limit that was reached, if one was: without a status another stranger
// was ended to make room.
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

// admitLocked also returns what ends the stranger who makes room.
func (a *Control) admitLocked(c *Conn, addr netip.Addr, known bool, now time.Duration) (reached Limit, status int, ended func()) {
	var from *address
	if known {
		key := network(addr)
		if from = a.addresses[key]; from == nil {
			from = &address{key: key} // kept if it is let in
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
	reached, status, ended = a.makeWayLocked(from, at)
	if status != 0 {
		return reached, status, nil
	}
	a.connections++
	if from != nil {
		a.occupyLocked(from, now)
		if at.n == 0 {
			a.sites[at.key] = at
		}
	}
	*c = Conn{counted: known, stranger: &stranger{from: from, at: at}}
	a.countLocked(c.stranger, 1)
	a.queueLocked(c.stranger, false)
	return reached, 0, ended
}

func above(n, limit int) bool { return limit >= 0 && n >= limit }

// Opened says how to end a connection that was let in, while it is a stranger. end
// may be called at any time, on the goroutine of another connection, and once.
func (a *Control) Opened(c *Conn, end func()) {
	a.mu.Lock()
	s := c.stranger
	made := s != nil && s.ended
	if s != nil && !made {
		s.end = end
	}
	a.mu.Unlock()
	if made {
		end()
	}
}

// Verdict is what becomes of a CONNECT.
type Verdict uint8

// The verdicts.
const (
	Pass   Verdict = iota // it is decided
	Refuse                // it is refused: Config.Connect is exceeded
	End                   // likewise, and the connection is to be closed
	Ended                 // it is refused: the connection is being closed, to make room
)

// Charge charges a CONNECT to the rate of its connection.
func (a *Control) Charge(c *Conn) Verdict {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.chargeLocked(c)
}

func (a *Control) chargeLocked(c *Conn) Verdict {
	if c.connects.Allow(a.connect, time.Since(a.start)) {
		return Pass
	}
	if c.over++; c.over > maxOver {
		c.over = maxOver
		return End
	}
	return Refuse
}

// Begin is Charge for a CONNECT about which somebody is to be asked: if it passes,
// the connection makes room for nobody until Decided.
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

// Decided ends what Begin began. A connection that is a stranger still is the next
// to make room.
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

// Authenticated says that the connection has passed a handshake: it is no stranger
// any more.
func (a *Control) Authenticated(c *Conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.acquaintLocked(c)
}

func (a *Control) acquaintLocked(c *Conn) {
	s := c.stranger
	c.stranger = nil
	if s == nil || s.ended {
		return
	}
	a.unqueueLocked(s)
	a.countLocked(s, -1)
}

// Release counts a connection out that is closed. It is called once.
func (a *Control) Release(c *Conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.acquaintLocked(c)
	a.connections--
	if key, ok := c.Network(); ok {
		from := a.addresses[key] // where it is as long as it has a connection
		if from.connections--; from.connections == 0 {
			a.restLocked(from)
		}
	}
}
