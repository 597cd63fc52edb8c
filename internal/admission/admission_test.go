// Which connections are admitted, which are evicted, and which addresses are remembered.

package admission

import (
	"encoding/binary"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rodando/realtime/internal/ratelimit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// defaults returns the library's default limits.
func defaults() Config {
	return Config{
		Connections: 200_000, ConnectionsPerIP: 200, Unauthenticated: 10_000, UnauthenticatedPerIP: 100,
		Handshake: ratelimit.Rate{PerSecond: 50, Burst: 200}, UnauthenticatedRate: ratelimit.Rate{PerSecond: 50, Burst: 1000}, Connect: ratelimit.Rate{PerSecond: 1, Burst: 10},
		UnnamedProxy: func(netip.Addr) {},
	}
}

// control is a Control that records which limits were reached.
type control struct {
	*Control
	limited []Limit
}

func newControl(c Config) *control {
	return &control{Control: New(c)}
}

// reached returns the limits that were reached since the last call.
func (d *control) reached() []Limit {
	defer func() { d.limited = nil }()
	return d.limited
}

// connection is a connection that is released when it is closed.
type connection struct {
	Conn
	closed bool
}

func from(address string) *http.Request {
	return &http.Request{RemoteAddr: address, Header: http.Header{}}
}

// open opens a connection; it is nil when it was refused.
func (d *control) open(address string) (*connection, int) {
	g := &connection{}
	status, limit := d.Admit(&g.Conn, from(address))
	if limit != NoLimit {
		d.limited = append(d.limited, limit)
	}
	if status != 0 {
		return nil, status
	}
	d.Opened(&g.Conn, func() { d.close(g) })
	return g, 0
}

func (d *control) close(g *connection) {
	if !g.closed {
		g.closed = true
		d.Release(&g.Conn)
	}
}

// v4 and v6 return the address with number i; each v6 is in a /64 of its own.
func v4(i int) string {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], 20<<24+uint32(i))
	return netip.AddrPortFrom(netip.AddrFrom4(b), 1).String()
}

func v6(i int) string {
	b := [16]byte{0: 0x20, 1: 0x01, 15: 1}
	binary.BigEndian.PutUint32(b[4:], uint32(i))
	return netip.AddrPortFrom(netip.AddrFrom16(b), 1).String()
}

// requireCounted compares the counters with the sums over addresses and sites.
func (d *control) requireCounted(t *testing.T, connections, unauthenticated int) {
	t.Helper()
	require.Equal(t, connections, d.connections)
	require.Equal(t, unauthenticated, d.unauthenticated.n)
	sum, inUse := 0, 0
	for _, from := range d.addresses {
		sum += from.connections
		if from.connections > 0 {
			inUse++
		}
	}
	require.Equal(t, connections, sum)
	require.Equal(t, len(d.addresses)-inUse, d.idle.n)
	sum = 0
	for _, at := range d.sites {
		require.Positive(t, at.ranks[0].n+at.ranks[1].n)
		sum += at.ranks[0].n
	}
	require.Equal(t, unauthenticated, sum+d.unknown.ranks[0].n)
	for kind := range d.busiest {
		most := d.unknown.ranks[kind].n
		for _, at := range d.sites {
			most = max(most, at.ranks[kind].n)
		}
		require.Equal(t, most, d.busiest[kind].top)
	}
}

// Every address with a connection has an entry of its own, up to Config.Connections,
// and none affects another.
func TestControl_AdmitsManyAddresses(t *testing.T) {
	t.Parallel()
	d := newControl(defaults())
	var connections []*connection
	for i := range 100_000 {
		g, status := d.open(v6(i))
		require.Zero(t, status, i)
		d.Joined(&g.Conn, true)
		connections = append(connections, g)
	}
	d.requireCounted(t, 100_000, 0)
	require.Len(t, d.addresses, 100_000)
	require.Empty(t, d.reached())
	for _, g := range connections {
		d.close(g)
	}
	d.requireCounted(t, 0, 0)
	require.Len(t, d.addresses, maxIdle)
}

// Idle addresses are forgotten while many others stay connected, and later ones are
// admitted.
func TestControl_ForgetsIdleAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newControl(defaults())
		const stay = 40_000
		for i := range stay {
			g, status := d.open(v6(i))
			require.Zero(t, status)
			d.Joined(&g.Conn, true)
		}
		for i := range 200_000 {
			g, status := d.open(v6(stay + i))
			require.Zero(t, status, i)
			d.close(g)
			if i%1000 == 0 {
				time.Sleep(time.Second)
			}
			require.LessOrEqual(t, len(d.addresses), stay+7000)
		}
		d.requireCounted(t, stay, 0)
		time.Sleep(time.Minute)
		for i := range 5000 {
			g, _ := d.open(v4(i))
			d.close(g)
			time.Sleep(time.Millisecond)
		}
		require.LessOrEqual(t, len(d.addresses), stay+100)
		require.Empty(t, d.reached())
	})
}

// An attack from any number of addresses uses bounded memory, and does not reset the
// rate of an address that has a connection.
func TestControl_IdleAddressesAreBounded(t *testing.T) {
	t.Parallel()
	c := defaults()
	c.Handshake = ratelimit.Rate{PerSecond: 0.001, Burst: 2}
	d := newControl(c)
	g, status := d.open(v4(0))
	require.Zero(t, status)
	d.Joined(&g.Conn, true)
	for i := range 3 * maxIdle {
		g, status := d.open(v6(i))
		require.Zero(t, status)
		d.close(g)
	}
	require.Len(t, d.addresses, maxIdle+1)
	d.requireCounted(t, 1, 0)
	g, _ = d.open(v4(0))
	require.NotNil(t, g)
	_, status = d.open(v4(0))
	require.Equal(t, http.StatusTooManyRequests, status)
	require.Equal(t, []Limit{LimitHandshake}, d.reached())
}

// A connection that gets a user does not count for the rate of those that do not, once: whoever
// leaves and joins again takes nothing off it.
func TestControl_UnauthenticatedRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := defaults()
		c.Handshake.PerSecond, c.ConnectionsPerIP, c.UnauthenticatedPerIP = -1, -1, -1
		c.UnauthenticatedRate = ratelimit.Rate{PerSecond: 1, Burst: 3}
		d := newControl(c)
		open := func() *connection {
			g, status := d.open(v4(0))
			require.Zero(t, status)
			return g
		}
		refused := func() {
			t.Helper()
			_, status := d.open(v4(0))
			require.Equal(t, http.StatusTooManyRequests, status)
			require.Equal(t, []Limit{LimitUnauthenticatedRate}, d.reached())
		}
		var phones []*connection
		for range 100 {
			phone := open()
			d.Begin(&phone.Conn)
			d.Joined(&phone.Conn, true)
			d.Decided(&phone.Conn)
			phones = append(phones, phone)
		}
		waiting, anonymous, gone := open(), open(), open()
		d.Joined(&anonymous.Conn, false)
		d.close(gone)
		refused()
		d.Left(&phones[0].Conn, true, func() {})
		d.Joined(&phones[0].Conn, true)
		d.Joined(&phones[1].Conn, true)
		refused()
		d.Joined(&waiting.Conn, true)
		d.close(open())
		refused()
		d.Joined(&anonymous.Conn, true)
		d.close(open())
		refused()
		_, status := d.open(v4(1))
		require.Zero(t, status, "another address")
		time.Sleep(time.Second)
		open()
		refused()
		for _, g := range phones {
			d.close(g)
		}
		time.Sleep(3 * time.Second)
		for range 3 {
			open()
		}
		refused()
	})
}

// A client that fills the limit of unauthenticated connections, from a /48, a /24 or many networks, does
// not keep others out: its oldest ones are evicted.
func TestControl_EvictsUnauthenticated(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		attacker func(i int) string // of 200 addresses
		held     int                // its open connections after 20,000 attempts
	}{
		"one /48":              {v6, 1250},
		"one /24":              {v4, 1250},
		"200 IPv6 networks":    {func(i int) string { return v6(i << 16) }, 10_000},
		"200 IPv4 networks":    {func(i int) string { return v4(i << 8) }, 10_000},
		"one address":          {func(int) string { return v4(1) }, 100},
		"one /64":              {func(i int) string { return "[2001:db8::" + strconv.Itoa(i+1) + "]:1" }, 100},
		"addresses of proxies": {func(i int) string { return "100.64.0." + strconv.Itoa(i) + ":1" }, 10_000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := defaults()
			config.Handshake.PerSecond, config.UnauthenticatedRate.PerSecond = -1, -1
			config.ConnectionsPerIP = 300
			d := newControl(config)
			var attackers []*connection
			for i := range 20_000 {
				if g, status := d.open(c.attacker(i % 200)); g != nil {
					attackers = append(attackers, g)
				} else {
					require.Zero(t, status, i)
				}
				if i%1000 == 0 {
					phone, status := d.open("203.0.113.9:1")
					require.Zero(t, status)
					require.Equal(t, Pass, d.Begin(&phone.Conn))
					for n := range 100 { // while the host is asked
						g, _ := d.open(c.attacker(n))
						attackers = append(attackers, g)
					}
					require.False(t, phone.closed)
					d.Joined(&phone.Conn, true)
					d.Decided(&phone.Conn)
					d.close(phone)
				}
			}
			held := 0
			for _, g := range attackers {
				if !g.closed {
					held++
				}
			}
			require.Equal(t, c.held, held)
			require.Equal(t, c.held, d.unauthenticated.n)
			require.False(t, attackers[len(attackers)-1].closed, "the oldest is evicted")
			require.True(t, attackers[0].closed)
			for _, g := range attackers {
				d.close(g)
			}
			d.requireCounted(t, 0, 0)
		})
	}
}

// The order of eviction: first a connection whose handshake was refused, then the oldest,
// and never one whose handshake is under way.
func TestControl_EvictionOrder(t *testing.T) {
	t.Parallel()
	c := defaults()
	c.Unauthenticated = 3
	d := newControl(c)
	var g [3]*connection
	for i := range g {
		g[i], _ = d.open(v4(i << 8))
	}
	require.Equal(t, Pass, d.Begin(&g[0].Conn))
	require.Equal(t, Pass, d.Begin(&g[2].Conn))
	d.Decided(&g[2].Conn) // refused
	newcomer, _ := d.open(v4(3 << 8))
	require.True(t, g[2].closed)
	require.Equal(t, []Limit{LimitUnauthenticated}, d.reached())
	require.Equal(t, Pass, d.Begin(&newcomer.Conn))
	another, _ := d.open(v4(4 << 8))
	require.True(t, g[1].closed)
	require.Equal(t, []Limit{LimitUnauthenticated}, d.reached())
	require.Equal(t, Pass, d.Begin(&another.Conn))
	require.Equal(t, Pass, d.Begin(&another.Conn), "a handshake in a second namespace")
	d.Decided(&another.Conn)
	_, status := d.open(v4(5 << 8))
	require.Equal(t, http.StatusServiceUnavailable, status, "all have a handshake under way")
	require.Equal(t, []Limit{LimitUnauthenticated}, d.reached())
	d.Joined(&g[0].Conn, true)
	d.Decided(&g[0].Conn)
	last, status := d.open(v4(5 << 8))
	require.Zero(t, status)
	d.requireCounted(t, 4, 3)
	for _, g := range []*connection{g[0], newcomer, another, last} {
		require.False(t, g.closed)
		d.close(g)
	}
	d.requireCounted(t, 0, 0)
}

// A connection may be evicted before Opened has set how to close it.
func TestControl_EvictsBeforeOpened(t *testing.T) {
	t.Parallel()
	c := defaults()
	c.Unauthenticated = 1
	d := newControl(c)
	var early connection
	status, _ := d.Admit(&early.Conn, from(v4(1)))
	require.Zero(t, status)
	_, status = d.open(v4(2))
	require.Zero(t, status)
	require.Equal(t, Evicted, d.Begin(&early.Conn))
	ended := 0
	d.Opened(&early.Conn, func() { ended++; d.close(&early) })
	require.Equal(t, 1, ended)
	d.requireCounted(t, 1, 1)
}

// A connection may close while its handshake asks where it comes from. The race detector
// is the judge.
func TestConn_NetworkWhileReleased(t *testing.T) {
	t.Parallel()
	d := newControl(defaults())
	g, _ := d.open(v4(1))
	want, _ := g.Network()
	var got Network
	var handshake sync.WaitGroup
	handshake.Go(func() { got, _ = g.Network() })
	d.close(g)
	handshake.Wait()
	require.Equal(t, want, got)
	require.Equal(t, End, func() Verdict {
		for range 10 {
			d.Begin(&g.Conn)
		}
		return d.Begin(&g.Conn)
	}())
	d.requireCounted(t, 0, 0)
}

func TestControl_ChargesConnects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newControl(defaults())
		g, _ := d.open(v4(1))
		for i := range 10 {
			if i%2 == 0 {
				require.Equal(t, Pass, d.Charge(&g.Conn))
				continue
			}
			require.Equal(t, Pass, d.Begin(&g.Conn))
			d.Decided(&g.Conn)
		}
		require.Equal(t, Refuse, d.Begin(&g.Conn))
		time.Sleep(time.Second)
		require.Equal(t, Pass, d.Begin(&g.Conn))
		d.Joined(&g.Conn, true)
		d.Decided(&g.Conn)
		for range maxOverRate - 1 {
			require.Equal(t, Refuse, d.Charge(&g.Conn))
		}
		require.Equal(t, End, d.Charge(&g.Conn), "maxOverRate was reached")
		require.Equal(t, End, d.Begin(&g.Conn))
		d.close(g)
		d.requireCounted(t, 0, 0)

		c := defaults()
		c.Connect = ratelimit.Rate{PerSecond: -1}
		d = newControl(c)
		g, _ = d.open(v4(1))
		for range 1000 {
			require.Equal(t, Pass, d.Charge(&g.Conn))
		}
	})
}

func BenchmarkControl(b *testing.B) {
	for name, addresses := range map[string]int{"one address": 1, "many addresses": 1 << 16} {
		b.Run(name, func(b *testing.B) {
			c := defaults()
			c.Handshake.PerSecond = -1
			a := New(c)
			requests := make([]*http.Request, addresses)
			for i := range requests {
				requests[i] = from(v4(i))
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				g := &struct {
					Conn
					token string
				}{}
				a.Admit(&g.Conn, requests[i%addresses])
				a.Opened(&g.Conn, func() {})
				a.Begin(&g.Conn)
				a.Joined(&g.Conn, true)
				a.Decided(&g.Conn)
				a.Release(&g.Conn)
				i++
			}
		})
	}
}
