// Which connections make room, and that honest clients get in whoever else is there.

package admission

import (
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// left is Left of a socket, and records the limit.
func (d *control) left(g *connection, user bool) {
	if limit := d.Left(&g.Conn, user, func() { d.close(g) }); limit != NoLimit {
		d.limited = append(d.limited, limit)
	}
}

// mustBegin begins a handshake.
func (g *connection) mustBegin(t *testing.T, d *control) {
	t.Helper()
	require.False(t, g.closed)
	require.Equal(t, Pass, d.Begin(&g.Conn))
}

// joined opens a connection and gives it a socket.
func (d *control) joined(t *testing.T, address string, user bool) *connection {
	t.Helper()
	g, status := d.open(address)
	require.Zero(t, status)
	d.Joined(&g.Conn, user)
	return g
}

// A connection is unauthenticated again when its last socket has left, whatever the order of
// the calls.
func TestControl_Left(t *testing.T) {
	t.Parallel()
	c := defaults()
	c.Unauthenticated = 2
	d := newControl(c)
	g := d.joined(t, v4(1<<8), true)
	d.Joined(&g.Conn, true)
	d.left(g, true)
	d.requireCounted(t, 1, 0)
	d.Joined(&g.Conn, false)
	d.left(g, true)
	d.requireCounted(t, 1, 0) // anonymous
	require.Equal(t, 1, d.busiest[anonymous].top)
	d.left(g, false)
	d.requireCounted(t, 1, 1)
	require.Zero(t, d.busiest[anonymous].top)
	require.Equal(t, Pass, d.Begin(&g.Conn))
	d.Joined(&g.Conn, true)
	d.Joined(&g.Conn, true) // the next one, before
	d.left(g, true)         // it is known that the former has left
	d.Decided(&g.Conn)
	d.requireCounted(t, 1, 0)

	first := d.joined(t, v4(2<<8), true)
	second := d.joined(t, v4(3<<8), true)
	d.left(first, true)
	d.left(second, true)
	require.Empty(t, d.reached())
	d.left(g, true)
	require.Equal(t, []Limit{LimitUnauthenticated}, d.reached())
	require.True(t, first.closed, "the oldest makes room")
	second.mustBegin(t, d)
	d.Joined(&g.Conn, true)
	last := d.joined(t, "10.0.0.1:1", true)
	d.left(g, true)
	g.mustBegin(t, d)
	d.left(last, true)
	require.Equal(t, []Limit{LimitUnauthenticated}, d.reached())
	require.True(t, last.closed, "the others have a handshake under way")

	d.Joined(&g.Conn, true)
	d.close(g)
	d.left(g, true)
	d.Joined(&g.Conn, false)
	d.left(g, false)
	d.requireCounted(t, 1, 1)
	d.close(second)
	d.Decided(&second.Conn)
	d.requireCounted(t, 0, 0)
}

// A socket may join and leave before Opened: whenever its connection is evicted, it is closed
// once, although closing takes a while.
func TestControl_EndsOnce(t *testing.T) {
	t.Parallel()
	c := defaults()
	c.Unauthenticated = 1
	for _, order := range [][]string{
		{"evict", "join", "leave", "opened"},
		{"evict", "join", "opened", "leave"},
		{"evict", "opened", "join", "leave"},
		{"join", "leave", "evict", "opened"},
		{"join", "leave", "opened", "evict"},
		{"join", "opened", "leave", "evict"},
		{"opened", "join", "leave", "evict"},
		{"opened", "evict", "join", "leave"},
	} {
		d, early, ended := newControl(c), &connection{}, 0
		end := func() { ended++ }
		steps := map[string]func(){
			"opened": func() { d.Opened(&early.Conn, end) },
			"evict":  func() { d.open(v4(2)) },
			"join":   func() { d.Joined(&early.Conn, true) },
			"leave":  func() { d.Left(&early.Conn, true, end) },
		}
		status, _ := d.Admit(&early.Conn, from(v4(1)))
		require.Zero(t, status)
		for _, step := range order {
			steps[step]()
		}
		require.Equal(t, 1, ended, order)
		d.close(early)
		d.requireCounted(t, 1, 1)
	}
}

// The order in which connections make room where Config.Connections is reached.
func TestControl_ConnectionsMakeRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := defaults()
		c.Connections = 10
		d := newControl(c)
		user := d.joined(t, v4(1<<8), true)
		old, _ := d.open(v4(2 << 8))
		time.Sleep(timeToConnect)
		var anonymous, rest []*connection
		for _, at := range []int{3 << 8, 4 << 8, 4<<8 + 1, 4<<8 + 2, 5 << 8} {
			anonymous = append(anonymous, d.joined(t, v4(at), false))
		}
		for i := range 3 {
			g, _ := d.open(v4((6 + i) << 8))
			rest = append(rest, g)
		}
		another := func(closed *connection) {
			t.Helper()
			require.False(t, closed.closed)
			require.Empty(t, d.reached())
			g, status := d.open("10.0.0.1:1") // an address that is not limited
			require.Zero(t, status)
			require.Equal(t, []Limit{LimitConnections}, d.reached())
			require.True(t, closed.closed)
			require.Equal(t, Pass, d.Begin(&g.Conn))
			d.Joined(&g.Conn, true)
			d.Decided(&g.Conn)
			require.Equal(t, 10, d.connections)
		}
		another(old) // it had the time to log in
		another(anonymous[1])
		another(anonymous[2]) // of the site that has most of them
		another(anonymous[0])
		another(anonymous[4])
		another(anonymous[3])
		rest[0].mustBegin(t, d)
		full := func() {
			t.Helper()
			_, status := d.open("10.0.0.1:1")
			require.Equal(t, http.StatusServiceUnavailable, status)
			require.Equal(t, []Limit{LimitConnections}, d.reached())
		}
		full() // users, and some who have just come
		time.Sleep(timeToConnect)
		another(rest[1])
		another(rest[2])
		full() // users, and a handshake
		require.False(t, user.closed)
		require.False(t, rest[0].closed)
	})
}

// Where the handshakes of all unauthenticated connections are in progress, the oldest of the busiest site makes
// room, as long as that site keeps as many as the new one's: clients of many sites that
// come at the same time do not end each other's.
func TestControl_HandshakesOfTheBusiestSite(t *testing.T) {
	t.Parallel()
	c := defaults()
	c.Unauthenticated = 10
	d := newControl(c)
	open := func(address string) (*connection, int) {
		g, status := d.open(address)
		if g != nil {
			require.Equal(t, Pass, d.Begin(&g.Conn))
		}
		return g, status
	}
	var busy, quiet []*connection
	for i := range 5 {
		g, _ := open(v4(1<<8 + i))
		busy = append(busy, g)
		g, _ = open(v4((2 + i) << 8))
		quiet = append(quiet, g)
	}
	for i := range 4 {
		g, status := open(v4((7 + i) << 8))
		require.Zero(t, status)
		require.True(t, busy[i].closed)
		d.Decided(&busy[i].Conn)
		quiet = append(quiet, g)
	}
	_, status := open(v4(20 << 8))
	require.Equal(t, http.StatusServiceUnavailable, status)
	for _, g := range append(quiet, busy[4]) {
		require.False(t, g.closed)
	}
	d.requireCounted(t, 10, 10)
}

// An attacker, of one site or of many, keeps neither users out who log in, nor ends an anonymous connection
// of another site, whatever state its connections are in.
func TestControl_KeepsNobodyOut(t *testing.T) {
	t.Parallel()
	oneSite := v6
	sites := func(i int) string { return v6(i << 16) }
	twenty := func(i int) string { return v6(i%20<<16 + i/20%50) }
	for name, c := range map[string]struct {
		from    func(i int) string
		becomes func(d *control, g *connection, i int)
	}{
		"unauthenticated":         {oneSite, func(*control, *connection, int) {}},
		"leaves":                  {oneSite, func(d *control, g *connection, _ int) { d.Joined(&g.Conn, true); d.left(g, true) }},
		"anonymous":               {oneSite, func(d *control, g *connection, _ int) { d.Joined(&g.Conn, false) }},
		"handshake":               {oneSite, func(d *control, g *connection, _ int) { d.Begin(&g.Conn) }},
		"anonymous handshake":     {oneSite, func(d *control, g *connection, _ int) { d.Joined(&g.Conn, false); d.Begin(&g.Conn) }},
		"handshakes":              {twenty, func(d *control, g *connection, _ int) { d.Begin(&g.Conn) }},
		"anonymous of many":       {sites, func(d *control, g *connection, _ int) { d.Joined(&g.Conn, false) }},
		"unauthenticated of many": {sites, func(*control, *connection, int) {}},
		"leave, of many":          {sites, func(d *control, g *connection, _ int) { d.Joined(&g.Conn, true); d.left(g, true) }},
		"everything": {twenty, func(d *control, g *connection, i int) {
			switch i % 5 {
			case 0:
				d.Joined(&g.Conn, false)
			case 1:
				d.Begin(&g.Conn)
			case 2:
				d.Joined(&g.Conn, true)
				d.left(g, true)
			case 3:
				d.Begin(&g.Conn)
				d.Decided(&g.Conn)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				config := defaults()
				config.Connections, config.Unauthenticated, config.Handshake.PerSecond = 1000, 200, -1
				d := newControl(config)
				n := 0
				attack := func(length time.Duration) { // 1000 a second
					for range length / time.Millisecond {
						if g, _ := d.open(c.from(n)); g != nil {
							c.becomes(d, g, n)
						}
						n++
						time.Sleep(time.Millisecond)
					}
				}
				var users, visitors []*connection
				for i := range 20 {
					visitors = append(visitors, d.joined(t, v4(i<<8), false))
				}
				attack(3 * time.Second)
				for i := range 50 {
					g, status := d.open(fmt.Sprintf("203.0.113.%d:1", i))
					require.Zero(t, status)
					attack(50 * time.Millisecond)
					g.mustBegin(t, d)
					attack(50 * time.Millisecond)
					d.Joined(&g.Conn, true)
					d.Decided(&g.Conn)
					require.False(t, g.closed, "it was closed during its handshake")
					users = append(users, g)
				}
				for _, g := range users {
					require.False(t, g.closed)
				}
				for _, g := range visitors {
					if name != "anonymous of many" { // which are like the others
						require.False(t, g.closed)
					}
				}
				require.LessOrEqual(t, d.connections, 1000)
			})
		})
	}
}
