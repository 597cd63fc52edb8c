// Slow consumers, over real TCP: clients that stop reading while others receive the same
// events.

package faulttest_test

import (
	"encoding/json"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// wrapped hides the type of connections from the server, which then starts a goroutine
// for each, as for TLS.
type wrapped struct{ net.Listener }

type wrappedConn struct{ net.Conn }

func (l wrapped) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return wrappedConn{c}, nil
}

// eachLink runs a test twice: over connections that the event loop serves, and over
// connections that have a goroutine.
func eachLink(t *testing.T, f func(t *testing.T, wrap func(net.Listener) net.Listener)) {
	t.Helper()
	t.Run("plain TCP", func(t *testing.T) { f(t, nil) })
	t.Run("wrapped", func(t *testing.T) { f(t, func(l net.Listener) net.Listener { return wrapped{l} }) })
}

// stalledAdmin connects an admin who reads nothing after hello, and has a small receive
// buffer.
func (s *testServer) stalledAdmin(t *testing.T, user string) *rawConn {
	t.Helper()
	l := s.enterAs(t, realtime.NamespaceAdmin, user, realtime.UserAdmin)
	require.NoError(t, l.Conn.(*net.TCPConn).SetReadBuffer(4096))
	return l
}

var wireNote = realtime.NewEvent[string]("test:note")

// clog fills the kernel's buffers for a stalled client: the next write would block, and
// volatile messages are dropped.
func (s *testServer) clog(t *testing.T, user string) {
	t.Helper()
	room := s.rt.Admin().To(realtime.AdminUserRoom(user))
	for range 100 {
		require.NoError(t, wireNote.Emit(room, strings.Repeat("x", 100_000)))
	}
	for range 20 { // until the server has noticed that the write blocks
		s.requireHealthy(t)
	}
}

// admins returns how many admins are connected.
func (s *testServer) admins(t *testing.T) int {
	t.Helper()
	all, err := s.rt.Admin().To(realtime.AdminAllRoom).Sockets(t.Context())
	require.NoError(t, err)
	return len(all)
}

// State events are never dropped. A client that does not read them is disconnected at the
// limit, over every transport; the others get all of them, in order.
func TestServer_StateEventsEndASlowConsumer(t *testing.T) {
	eachLink(t, func(t *testing.T, wrap func(net.Listener) net.Listener) {
		const stalled, events = 8, 2000
		s := newTestServer(t, wrap, func(o *realtime.Options) {
			o.Limits.OutboxBytes = 1 << 20
			o.Timeouts.Write = time.Hour // only Limits.OutboxBytes may end them
		})
		var lines []*rawConn
		for i := range stalled {
			lines = append(lines, s.stalledAdmin(t, "stalled-"+strconv.Itoa(i)))
		}
		// A client that stops polling once it has connected.
		query := s.polling(t)
		status, body := s.request(t, request(http.MethodPost, query, connectPacket(realtime.NamespaceAdmin, s.login("absent", realtime.UserAdmin))))
		require.Equal(t, http.StatusOK, status, body)
		require.Eventually(t, func() bool { return s.admins(t) == stalled+2 }, patience, 5*time.Millisecond)

		// One at a time, so that the client that reads can follow.
		reason := strings.Repeat("r", 5000)
		for i := range events {
			require.NoError(t, s.rt.Publish(t.Context(), realtime.NoDriversFound{TripID: "flood", Reason: strconv.Itoa(i) + " " + reason}))
			got := realtimetest.Expect(t, s.admin, realtime.EventNoDriversFound)
			require.Equal(t, strconv.Itoa(i), strings.Fields(*got.Reason)[0], "all, and in order")
			if i == events/2 {
				// What the stalled clients may hold, what the healthy one has received, and a margin.
				require.Less(t, heapInUse(), s.heap+uint64((stalled+1)<<20+3*events*len(reason)+16<<20))
			}
		}
		require.Eventually(t, func() bool { return countOf(s, s.disconnected, "slow consumer") == stalled+1 }, patience, 5*time.Millisecond)
		require.Equal(t, stalled+1, countOf(s, s.limited, realtime.LimitOutbox))
		require.Equal(t, 1, s.admins(t))
		s.requireHealthy(t)
		for _, l := range lines {
			l.reset()
		}
		s.requireAtMostLeft(t, events*len(reason)*3) // which the healthy admin has recorded
	})
}

// Positions do not disconnect an admin who does not read: the newest position of each
// driver waits for them. Volatile events are dropped.
func TestServer_PositionsDoNotEndASlowConsumer(t *testing.T) {
	eachLink(t, func(t *testing.T, wrap func(net.Listener) net.Listener) {
		const drivers, rounds, few = 5, 1000, 20
		s := newTestServer(t, wrap, func(o *realtime.Options) {
			o.Limits.OutboxBytes = 32 << 20
			o.Timeouts.Write = time.Hour
		})
		// With the default receive buffer, so that it catches up quickly later.
		stalled := s.enterAs(t, realtime.NamespaceAdmin, "stalled", realtime.UserAdmin)
		s.clog(t, "stalled")
		s.clog(t, "stalled")
		room := s.rt.Admin().To(realtime.AdminUserRoom("stalled"))
		driver := func(i int) string { return "driver-" + strconv.Itoa(i) }
		for r := 1; r <= rounds; r++ {
			for d := range drivers {
				require.NoError(t, s.rt.Publish(t.Context(), realtime.DriverLocationChanged{LocationUpdate: realtime.LocationUpdate{
					DriverID: driver(d), LastLocation: realtime.Position{Lat: float64(r) / rounds, Lng: float64(d)}, LastLocationTimestamp: realtime.Time{Time: time.Now()},
				}}))
			}
			require.NoError(t, wireNote.Emit(room.Volatile(), "lost "+strings.Repeat("v", 1000)))
			if r%100 == 0 { // wait for the client that reads
				s.requireHealthy(t)
			}
		}
		// Published last, on the queue of each driver: all before has been emitted.
		for d := range drivers {
			require.Eventually(t, func() bool { return s.newest(driver(d)) == 1 }, patience, 5*time.Millisecond)
		}
		require.Zero(t, countOf(s, s.disconnected, "slow consumer"))
		require.Zero(t, countOf(s, s.limited, realtime.LimitOutbox))
		require.Equal(t, 2, s.admins(t))

		require.NoError(t, wireNote.Emit(room, "the end"))
		require.NoError(t, stalled.SetDeadline(time.Now().Add(patience)))
		got, volatile := map[string][]string{}, 0
		for end := false; !end; {
			_, data := stalled.frame()
			packet := string(data)
			switch {
			case packet == "2":
				stalled.send(text("3"))
			case strings.Contains(packet, "lost v"):
				volatile++
			case strings.Contains(packet, `"the end"`):
				end = true
			case strings.HasPrefix(packet, `42/admin,["admin:driver:location:update"`):
				for d := range drivers {
					if strings.Contains(packet, `"`+driver(d)+`"`) {
						got[driver(d)] = append(got[driver(d)], packet)
					}
				}
			}
		}
		for d := range drivers {
			all := got[driver(d)]
			// A few may have gone out before the connection was full.
			require.Less(t, len(all), few, "about one of each driver")
			require.Contains(t, all[len(all)-1], `"lat":1,`, "the newest")
		}
		require.Less(t, volatile, few)
		stalled.reset()
	})
}

// newest is the latitude of a driver that the healthy admin received last.
func (s *testServer) newest(driver string) float64 {
	for _, r := range slices.Backward(s.admin.Received()) {
		if r.Event == realtime.EventAdminDriverLocation.Name() && strings.Contains(string(r.Args[0]), `"`+driver+`"`) {
			var p realtime.LocationPayload
			if json.Unmarshal(r.Args[0], &p) == nil {
				return p.LastLocation.Lat
			}
		}
	}
	return -1
}

// A reader that takes nothing for the time of a write is closed, however little
// waits for it.
func TestServer_WriteDeadline(t *testing.T) {
	eachLink(t, func(t *testing.T, wrap func(net.Listener) net.Listener) {
		s := newTestServer(t, wrap, func(o *realtime.Options) {
			o.Limits.OutboxBytes = 64 << 20
			o.Timeouts.Write = 300 * time.Millisecond
		})
		l := s.stalledAdmin(t, "stalled")
		s.clog(t, "stalled")
		require.Eventually(t, func() bool { return countOf(s, s.disconnected, "slow consumer") == 1 }, patience, 5*time.Millisecond)
		s.requireHealthy(t)
		l.reset()

		// A poll whose answer is not read, likewise.
		query := s.polling(t)
		status, _ := s.request(t, request(http.MethodPost, query, connectPacket(realtime.NamespaceAdmin, s.login("absent", realtime.UserAdmin))))
		require.Equal(t, http.StatusOK, status)
		require.Eventually(t, func() bool { return s.admins(t) == 2 }, patience, 5*time.Millisecond)
		s.clog(t, "absent")
		poll := s.connect(t)
		require.NoError(t, poll.Conn.(*net.TCPConn).SetReadBuffer(4096))
		for range 20 {
			poll.send(get(query))
		}
		require.Eventually(t, func() bool { return s.admins(t) == 1 }, patience, 5*time.Millisecond)
		s.requireHealthy(t)
		_ = poll.Close()
		s.requireNothingLeft(t)
	})
}
