// Who is let in, who makes room, and what is remembered of them.

package admission

import (
	"encoding/binary"
	"net/http"
	"net/netip"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rodando/realtime/internal/ratelimit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// defaults are those of the library.
func defaults() Config {
	return Config{
		Connections: 200_000, ConnectionsPerIP: 200, Unauthenticated: 10_000, UnauthenticatedPerIP: 100,
		Handshake: ratelimit.Rate{PerSecond: 50, Burst: 200}, Connect: ratelimit.Rate{PerSecond: 1, Burst: 10},
		UnnamedProxy: func() {},
	}
}

// door is a Control whose connections close when they are ended.
type door struct {
	*Control
	limited []Limit
}

func newDoor(c Config) *door {
	return &door{Control: New(c)}
}

func (d *door) took() []Limit {
	defer func() { d.limited = nil }()
	return d.limited
}

// guest is a connection.
type guest struct {
	Conn
	closed bool
}

func from(address string) *http.Request {
	return &http.Request{RemoteAddr: address, Header: http.Header{}}
}

// open opens a connection; it is nil when it was refused.
func (d *door) open(address string) (*guest, int) {
	g := &guest{}
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

func (d *door) close(g *guest) {
	if !g.closed {
		g.closed = true
		d.Release(&g.Conn)
	}
}

// v4 and v6 count addresses, and v6 /64s.
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

// requireCounted compares what is counted with what there is.
func (d *door) requireCounted(t *testing.T, connections, strangers int) {
	t.Helper()
	require.Equal(t, connections, d.connections)
	require.Equal(t, strangers, d.strangers.n)
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
		require.Positive(t, at.n)
		sum += at.n
	}
	require.Equal(t, strangers, sum)
}

// Every address that has a connection has an entry of its own, up to
// Limits.Connections, and none of them gets in the way of another.
func TestControl_ManyAddressesGetIn(t *testing.T) {
	t.Parallel()
	d := newDoor(defaults())
	var guests []*guest
	for i := range 100_000 {
		g, status := d.open(v6(i))
		require.Zero(t, status, i)
		d.Authenticated(&g.Conn)
		guests = append(guests, g)
	}
	d.requireCounted(t, 100_000, 0)
	require.Equal(t, 100_000, len(d.addresses))
	require.Empty(t, d.took())
	for _, g := range guests {
		d.close(g)
	}
	d.requireCounted(t, 0, 0)
	require.Equal(t, maxIdle, len(d.addresses))
}

// Addresses that come and go beside many that stay are forgotten, and those that
// come later get in.
func TestControl_AddressesComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoor(defaults())
		const stay = 40_000
		for i := range stay {
			g, status := d.open(v6(i))
			require.Zero(t, status)
			d.Authenticated(&g.Conn)
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
		require.Empty(t, d.took())
	})
}

// An attack from no end of addresses fills no memory; what the rate of an address
// that is still there says is not forgotten for it.
func TestControl_IdleAddressesAreBounded(t *testing.T) {
	t.Parallel()
	c := defaults()
	c.Handshake = ratelimit.Rate{PerSecond: 0.001, Burst: 2}
	d := newDoor(c)
	g, status := d.open(v4(0))
	require.Zero(t, status)
	d.Authenticated(&g.Conn)
	for i := range 3 * maxIdle {
		g, status := d.open(v6(i))
		require.Zero(t, status)
		d.close(g)
	}
	require.Equal(t, maxIdle+1, len(d.addresses))
	d.requireCounted(t, 1, 0)
	g, _ = d.open(v4(0))
	require.NotNil(t, g)
	_, status = d.open(v4(0))
	require.Equal(t, http.StatusTooManyRequests, status)
	require.Equal(t, []Limit{LimitHandshake}, d.took())
}

// Whoever holds all places for strangers, from a /48, from a /24, or from a
// hundred addresses all over, makes room for those who come.
func TestControl_StrangersMakeRoom(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		attacker func(i int) string // of 200 addresses
		held     int                // places, after 20,000 tries
	}{
		"one /48":              {func(i int) string { return v6(i) }, 1250},
		"one /24":              {func(i int) string { return v4(i) }, 1250},
		"200 IPv6 networks":    {func(i int) string { return v6(i << 16) }, 10_000},
		"200 IPv4 networks":    {func(i int) string { return v4(i << 8) }, 10_000},
		"one address":          {func(int) string { return v4(1) }, 100},
		"one /64":              {func(i int) string { return "[2001:db8::" + strconv.Itoa(i+1) + "]:1" }, 100},
		"addresses of proxies": {func(i int) string { return "100.64.0." + strconv.Itoa(i) + ":1" }, 10_000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := defaults()
			config.Handshake.PerSecond = -1
			config.ConnectionsPerIP = 300
			d := newDoor(config)
			var attackers []*guest
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
					d.Authenticated(&phone.Conn)
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
			require.Equal(t, c.held, d.strangers.n)
			require.False(t, attackers[len(attackers)-1].closed, "the oldest makes room")
			require.True(t, attackers[0].closed)
			for _, g := range attackers {
				d.close(g)
			}
			d.requireCounted(t, 0, 0)
		})
	}
}

// Who makes room: the stranger that was refused, then the oldest, and never one
// whose handshake is under way.
func TestControl_WhoMakesRoom(t *testing.T) {
	t.Parallel()
	c := defaults()
	c.Unauthenticated = 3
	d := newDoor(c)
	var g [3]*guest
	for i := range g {
		g[i], _ = d.open(v4(i << 8))
	}
	require.Equal(t, Pass, d.Begin(&g[0].Conn))
	require.Equal(t, Pass, d.Begin(&g[2].Conn))
	d.Decided(&g[2].Conn) // refused
	newcomer, _ := d.open(v4(3 << 8))
	require.True(t, g[2].closed)
	require.Equal(t, []Limit{LimitUnauthenticated}, d.took())
	require.Equal(t, Pass, d.Begin(&newcomer.Conn))
	another, _ := d.open(v4(4 << 8))
	require.True(t, g[1].closed)
	require.Equal(t, []Limit{LimitUnauthenticated}, d.took())
	require.Equal(t, Pass, d.Begin(&another.Conn))
	require.Equal(t, Pass, d.Begin(&another.Conn), "of two namespaces")
	d.Decided(&another.Conn)
	_, status := d.open(v4(5 << 8))
	require.Equal(t, http.StatusServiceUnavailable, status, "all are about to log in")
	require.Equal(t, []Limit{LimitUnauthenticated}, d.took())
	d.Authenticated(&g[0].Conn)
	d.Decided(&g[0].Conn)
	last, status := d.open(v4(5 << 8))
	require.Zero(t, status)
	d.requireCounted(t, 4, 3)
	for _, g := range []*guest{g[0], newcomer, another, last} {
		require.False(t, g.closed)
		d.close(g)
	}
	d.requireCounted(t, 0, 0)
}

// A stranger may have to go before anybody knows how, or while it asks.
func TestControl_MakesRoomBeforeItIsOpened(t *testing.T) {
	t.Parallel()
	c := defaults()
	c.Unauthenticated = 1
	d := newDoor(c)
	var early guest
	status, _ := d.Admit(&early.Conn, from(v4(1)))
	require.Zero(t, status)
	_, status = d.open(v4(2))
	require.Zero(t, status)
	require.Equal(t, Ended, d.Begin(&early.Conn))
	ended := 0
	d.Opened(&early.Conn, func() { ended++; d.close(&early) })
	require.Equal(t, 1, ended)
	d.requireCounted(t, 1, 1)
}

func TestControl_ConnectsAreCharged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoor(defaults())
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
		d.Authenticated(&g.Conn)
		d.Decided(&g.Conn)
		for range maxOver - 1 {
			require.Equal(t, Refuse, d.Charge(&g.Conn))
		}
		require.Equal(t, End, d.Charge(&g.Conn), "it goes on and on")
		require.Equal(t, End, d.Begin(&g.Conn))
		d.close(g)
		d.requireCounted(t, 0, 0)

		c := defaults()
		c.Connect = ratelimit.Rate{PerSecond: -1}
		d = newDoor(c)
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
				a.Authenticated(&g.Conn)
				a.Decided(&g.Conn)
				a.Release(&g.Conn)
				i++
			}
		})
	}
}
