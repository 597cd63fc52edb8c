// Slow consumers, over real TCP: clients that stop reading, while others are told
// the same.

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

// wrapped hides what a connection is from the server, which then has a goroutine
// for it, as it does for TLS.
type wrapped struct{ net.Listener }

type wrappedConn struct{ net.Conn }

func (l wrapped) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return wrappedConn{c}, nil
}

// eachLink runs a test over connections that the event loop takes, and over such
// that have a goroutine.
func eachLink(t *testing.T, f func(t *testing.T, wrap func(net.Listener) net.Listener)) {
	t.Helper()
	t.Run("plain TCP", func(t *testing.T) { f(t, nil) })
	t.Run("wrapped", func(t *testing.T) { f(t, func(l net.Listener) net.Listener { return wrapped{l} }) })
}

// stalledAdmin is an admin who reads nothing after their hello, with little room in
// the kernel.
func (s *site) stalledAdmin(t *testing.T, user string) *line {
	t.Helper()
	l := s.enterAs(t, realtime.NamespaceAdmin, user, realtime.UserAdmin)
	require.NoError(t, l.Conn.(*net.TCPConn).SetReadBuffer(4096))
	return l
}

var wireNote = realtime.NewEvent[string]("test:note")

// clog fills what the kernel holds for a stalled client: from then on a write to
// it would block, and what is volatile is dropped.
func (s *site) clog(t *testing.T, user string) {
	t.Helper()
	room := s.rt.Admin().To(realtime.AdminUserRoom(user))
	for range 100 {
		require.NoError(t, wireNote.Emit(room, strings.Repeat("x", 100_000)))
	}
	for range 20 { // which gives it the time to be noticed
		s.healthy(t)
	}
}

// admins is how many are connected.
func (s *site) admins(t *testing.T) int {
	t.Helper()
	all, err := s.rt.Admin().To(realtime.AdminAllRoom).Sockets(t.Context())
	require.NoError(t, err)
	return len(all)
}

// A flood of state events: none is dropped, and who does not take them is
// disconnected at the limit, over every transport. Others get all, in order.
func TestStateEventsEndASlowConsumer(t *testing.T) {
	eachLink(t, func(t *testing.T, wrap func(net.Listener) net.Listener) {
		const stalled, events = 8, 2000
		s := newSite(t, wrap, func(o *realtime.Options) {
			o.Limits.OutboxBytes = 1 << 20
			o.Timeouts.Write = time.Hour // it is not what ends them here
		})
		var lines []*line
		for i := range stalled {
			lines = append(lines, s.stalledAdmin(t, "stalled-"+strconv.Itoa(i)))
		}
		// A client that stops polling once it has connected.
		query := s.polling(t)
		status, body := s.ask(t, request(http.MethodPost, query, connectPacket(realtime.NamespaceAdmin, s.login("absent", realtime.UserAdmin))))
		require.Equal(t, http.StatusOK, status, body)
		require.Eventually(t, func() bool { return s.admins(t) == stalled+2 }, patience, 5*time.Millisecond)

		// In parts, so that who reads can follow.
		reason := strings.Repeat("r", 5000)
		for i := range events {
			require.NoError(t, s.rt.Publish(t.Context(), realtime.NoDriversFound{TripID: "flood", Reason: strconv.Itoa(i) + " " + reason}))
			got := realtimetest.Expect(t, s.admin, realtime.EventNoDriversFound)
			require.Equal(t, strconv.Itoa(i), strings.Fields(*got.Reason)[0], "all, and in order")
			if i == events/2 {
				// The most that they may hold, what the healthy one was told, and room for both.
				require.Less(t, heapInUse(), s.heap+uint64((stalled+1)<<20+3*events*len(reason)+16<<20))
			}
		}
		require.Eventually(t, func() bool { return countOf(s, s.gone, "slow consumer") == stalled+1 }, patience, 5*time.Millisecond)
		require.Equal(t, stalled+1, countOf(s, s.limited, realtime.LimitOutbox))
		require.Equal(t, 1, s.admins(t))
		s.healthy(t)
		for _, l := range lines {
			l.reset()
		}
		s.settledBut(t, events*len(reason)*3) // which the healthy admin has recorded
	})
}

// Positions of drivers to an admin who does not read: they stay connected, and hold the
// newest of each. What is volatile is dropped.
func TestPositionsDoNotEndASlowConsumer(t *testing.T) {
	eachLink(t, func(t *testing.T, wrap func(net.Listener) net.Listener) {
		const drivers, rounds, few = 5, 1000, 20
		s := newSite(t, wrap, func(o *realtime.Options) {
			o.Limits.OutboxBytes = 32 << 20
			o.Timeouts.Write = time.Hour
		})
		// With what the kernel gives a reader, who is to catch up quickly later.
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
			if r%100 == 0 { // who reads follows: it is behind these in the queues of the bus
				s.healthy(t)
			}
		}
		// Published last, on the queue of each driver: all before has been emitted.
		for d := range drivers {
			require.Eventually(t, func() bool { return s.newest(driver(d)) == 1 }, patience, 5*time.Millisecond)
		}
		require.Zero(t, countOf(s, s.gone, "slow consumer"))
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
				stalled.say(text("3"))
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

// newest is the latitude of a driver that the healthy admin was told last.
func (s *site) newest(driver string) float64 {
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
func TestWriteDeadline(t *testing.T) {
	eachLink(t, func(t *testing.T, wrap func(net.Listener) net.Listener) {
		s := newSite(t, wrap, func(o *realtime.Options) {
			o.Limits.OutboxBytes = 64 << 20
			o.Timeouts.Write = 300 * time.Millisecond
		})
		l := s.stalledAdmin(t, "stalled")
		s.clog(t, "stalled")
		require.Eventually(t, func() bool { return countOf(s, s.gone, "slow consumer") == 1 }, patience, 5*time.Millisecond)
		s.healthy(t)
		l.reset()

		// A poll whose answer is not read, likewise.
		query := s.polling(t)
		status, _ := s.ask(t, request(http.MethodPost, query, connectPacket(realtime.NamespaceAdmin, s.login("absent", realtime.UserAdmin))))
		require.Equal(t, http.StatusOK, status)
		require.Eventually(t, func() bool { return s.admins(t) == 2 }, patience, 5*time.Millisecond)
		s.clog(t, "absent")
		poll := s.connect(t)
		require.NoError(t, poll.Conn.(*net.TCPConn).SetReadBuffer(4096))
		for range 20 {
			poll.say(get(query))
		}
		require.Eventually(t, func() bool { return s.admins(t) == 1 }, patience, 5*time.Millisecond)
		s.healthy(t)
		_ = poll.Close()
		s.settled(t)
	})
}
