// How often clients may send, and how many sockets a user has.

package realtime_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// limitRecorder records the limits that Trace.Limited reports.
type limitRecorder struct {
	mu    sync.Mutex // guards the fields below
	names []realtime.Limit
}

func (l *limitRecorder) options(o *realtime.Options) {
	o.Unlimited = false
	o.Trace = &realtime.Trace{Limited: func(_ context.Context, i realtime.LimitInfo) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.names = append(l.names, i.Limit)
	}}
}

// take returns the limits reported since the last call, each once, sorted.
func (l *limitRecorder) take() []realtime.Limit {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	names := slices.Clone(l.names)
	l.names = nil
	slices.Sort(names)
	return slices.Compact(names)
}

const tooOften = `{"ok":false,"error":{"code":"rate_limited","message":"too many, slow down"}}`

// burst sends an event so often and returns how many were handled; the others
// were refused for their number.
func burst(t *testing.T, c *realtimetest.Client, event, body string, n int) (handled int) {
	t.Helper()
	for range n {
		if ack := ackOf(t, c, event, body); ack != tooOften {
			handled++
		}
	}
	return handled
}

// settle sends an event and waits until what the client sends is no longer a burst behind its
// connect.
func settle(t *testing.T, c *realtimetest.Client) {
	t.Helper()
	burst(t, c, "driver:trip:set", `{}`, 1)
	time.Sleep(10 * time.Second)
}

// A position beyond the rate waits until the rate allows it: a client that waits for its acks is
// slowed down.
func TestRates_Location(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := &limitRecorder{}
		srv := realtimetest.NewServer(t, l.options)
		driver, admin := srv.Driver(t, "d1"), srv.Admin(t, "a1")
		settle(t, driver)
		ping := func(n int) int { return burst(t, driver, "driver:location:ping", `{"lat":1,"lng":2}`, n) }
		start := time.Now()
		require.Equal(t, 10, ping(10))
		require.Zero(t, time.Since(start))
		require.Equal(t, 2, ping(2))
		require.InDelta(t, time.Second, time.Since(start), float64(100*time.Millisecond))
		for range 12 {
			realtimetest.Expect(t, admin, realtime.EventAdminDriverLocation)
		}
		realtimetest.ExpectNone(t, admin, realtime.EventAdminDriverLocation)
		require.True(t, driver.Connected())
		require.Empty(t, l.take())
		require.Equal(t, 19, burst(t, driver, "driver:trip:set", `{}`, 19), "another event has a bucket of its own")
	})
}

func TestRates_Events(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := &limitRecorder{}
		srv := realtimetest.NewServer(t, l.options, func(o *realtime.Options) {
			o.Rates.Events = map[string]realtime.Rate{"driver:trip:set": {PerSecond: 1, Burst: 3}, "driver:status:update": {PerSecond: -1}}
			o.Rates.User.PerSecond = -1
		})
		driver := srv.Driver(t, "d1")
		require.Equal(t, 20, burst(t, driver, "driver:offer:accept", `{"assignmentId":"x"}`, 21))
		require.Equal(t, []realtime.Limit{realtime.LimitRateEvent}, l.take())
		require.Equal(t, 3, burst(t, driver, "driver:trip:set", `{}`, 4))
		require.Equal(t, []realtime.Limit{realtime.LimitRateEvents}, l.take())
		require.Equal(t, 300, burst(t, driver, "driver:status:update", `{"isOnline":true}`, 300))
		require.Equal(t, 5, burst(t, driver, "auth:refresh", `{"token":"x"}`, 6), "each asks the host's database")
		unknown := 0
		for i := range 25 { // what clients invent counts as one
			unknown += burst(t, driver, fmt.Sprint("invented:", i), `{}`, 1)
		}
		require.Equal(t, 20, unknown)
		time.Sleep(time.Second)
		require.Equal(t, 10, burst(t, driver, "driver:offer:accept", `{"assignmentId":"x"}`, 11))
	})
}

// A user has one bucket for all of their sockets.
func TestRates_User(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := &limitRecorder{}
		srv := realtimetest.NewServer(t, l.options, func(o *realtime.Options) {
			o.Rates.User = realtime.Rate{PerSecond: 1, Burst: 15}
		})
		one, two, other := srv.Driver(t, "d1"), srv.Driver(t, "d1"), srv.Driver(t, "d2")
		require.Equal(t, 10, burst(t, one, "driver:trip:set", `{}`, 10))
		require.Equal(t, 5, burst(t, two, "driver:trip:set", `{}`, 10))
		require.Equal(t, []realtime.Limit{realtime.LimitRateUser}, l.take())
		require.Equal(t, 10, burst(t, other, "driver:trip:set", `{}`, 10))
	})
}

// The connection of a client that goes on after refusals is closed, after an ack with the reason.
// If that happens to the user again within minutes, the client gets a DISCONNECT.
func TestRates_Breach(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := &limitRecorder{}
		srv := realtimetest.NewServer(t, l.options, func(o *realtime.Options) {
			o.Rates.Breach = realtime.Rate{PerSecond: 1, Burst: 5}
		})
		calm := srv.Driver(t, "d2")
		flood := func() (reason string) {
			c := srv.Driver(t, "d1")
			settle(t, c)
			l.take()
			require.Equal(t, 20, burst(t, c, "driver:trip:set", `{}`, 25))
			require.True(t, c.Connected())
			require.Equal(t, tooOften, ackOf(t, c, "driver:trip:set", `{}`))
			reason = c.Disconnected(t)
			require.Equal(t, []realtime.Limit{realtime.LimitRateBreach, realtime.LimitRateEvent}, l.take())
			return reason
		}
		require.Equal(t, realtimetest.ReasonTransportClose, flood(), "it comes back")
		require.Equal(t, realtimetest.ReasonServer, flood(), "it stays away")
		time.Sleep(5 * time.Minute)
		require.Equal(t, realtimetest.ReasonTransportClose, flood())
		require.Equal(t, 1, burst(t, calm, "driver:trip:set", `{}`, 1))
	})
}

// So do positions that come much faster than their rate.
func TestRates_BreachByPositions(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := &limitRecorder{}
		srv := realtimetest.NewServer(t, l.options)
		for _, disconnects := range []bool{false, true} {
			driver := entered(t, srv, realtime.NamespaceDrivers, "d1", realtime.UserDriver)
			driver.send(t, line(0, 1)...)
			time.Sleep(10 * time.Second)
			driver.received()
			var packets []string
			for range 200 { // ten a second
				if driver.closed() {
					break
				}
				packets = append(packets, driver.send(t, line(0, 1)...)...)
				time.Sleep(100 * time.Millisecond)
			}
			require.True(t, driver.closedSoon())
			packets = append(packets, driver.received()...)
			require.Equal(t, disconnects, slices.Contains(packets, "41/drivers,"))
			acks := acksOf(packets)
			require.Greater(t, acks[okAck], 20)
			require.Greater(t, acks["["+tooOften+"]"], 100)
			require.Equal(t, []realtime.Limit{realtime.LimitRateBreach, realtime.LimitRateLocation}, l.take())
		}
	})
}

// A breach in one namespace is no repeated one because of the events of another that arrived with
// it, and what is queued is not handled any more.
func TestRates_BreachEndsTheQueue(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, (&limitRecorder{}).options)
		driver := entered(t, srv, realtime.NamespaceDrivers, "d1", realtime.UserDriver)
		driver.send(t, calls("/drivers", "driver:trip:set", `{}`, 0, 1)...)
		time.Sleep(10 * time.Second)
		flood := calls("/drivers", "driver:trip:set", `{"currentTripId":null}`, 0, 300)
		driver.sendAtOnce(t, append(flood, calls("/drivers", "driver:offer:accept", `{"assignmentId":"x"}`, 300, 1)...)...)
		packets := driver.received()
		require.True(t, driver.closedSoon())
		require.NotContains(t, append(packets, driver.received()...), "41/drivers,")
		require.NotContains(t, acksOf(packets), `[{"ok":false,"error":{"code":"not_found"`)
	})
}

// Clients without a user are one if they have one address.
func TestRates_BreachWithoutUser(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, (&limitRecorder{}).options)
		addNamespace(t, srv, "/support", realtime.NamespaceOptions{Anonymous: true})
		for _, disconnects := range []bool{false, true} {
			conn := openRaw(t, srv)
			require.Len(t, conn.send(t, "40/support,"), 2)
			conn.sendAtOnce(t, calls("/support", "x", `{}`, 0, 1000)...)
			require.Equal(t, 980, acksOf(conn.received())["["+tooOften+"]"])
			time.Sleep(10 * time.Second)
			conn.sendAtOnce(t, calls("/support", "x", `{}`, 0, 200)...)
			packets := conn.received()
			require.True(t, conn.closedSoon())
			require.Equal(t, disconnects, slices.Contains(append(packets, conn.received()...), "41/support,"))
		}
	})
}

func TestOptions_Unlimited(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := &limitRecorder{}
		srv := realtimetest.NewServer(t, l.options, func(o *realtime.Options) { o.Unlimited = true })
		driver := srv.Driver(t, "d1")
		require.Equal(t, 500, burst(t, driver, "driver:trip:set", `{}`, 500))
		for range 20 {
			srv.Driver(t, "d1")
		}
		require.True(t, driver.Connected())
		require.Empty(t, l.take())
	})
}

// The newest socket of a user wins, in each namespace for itself.
func TestLimits_SocketsPerUser(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := &limitRecorder{}
		srv := realtimetest.NewServer(t, l.options, func(o *realtime.Options) { o.Limits.SocketsPerUser = 2 })
		first, second, other := srv.Driver(t, "u1"), srv.Driver(t, "u1"), srv.Driver(t, "u2")
		require.Empty(t, l.take())
		third := srv.Driver(t, "u1")
		require.Equal(t, realtimetest.ReasonServer, first.Disconnected(t))
		require.Equal(t, []realtime.Limit{realtime.LimitSocketsPerUser}, l.take())
		second.Close()
		fourth := srv.Driver(t, "u1")
		require.Empty(t, l.take())
		for _, c := range []*realtimetest.Client{third, fourth, other} {
			require.True(t, c.Connected())
		}
	})
}

func TestLimits_ExtraSocketsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := &limitRecorder{}
		srv := realtimetest.NewServer(t, l.options, func(o *realtime.Options) {
			o.Limits.SocketsPerUser, o.Limits.RefuseExtraSockets = 2, true
		})
		first, second := srv.Driver(t, "u1"), srv.Driver(t, "u1")
		_, err := srv.Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Token(srv.Login("u1", realtime.UserDriver)))
		requireRefused(t, err, realtime.CodeRateLimited, "Too many, try again later")
		require.Equal(t, []realtime.Limit{realtime.LimitSocketsPerUser}, l.take())
		require.True(t, first.Connected())
		second.Close()
		srv.Driver(t, "u1")
		require.True(t, first.Connected())
	})
}

// A refused CONNECT may be tried again, but not without end: each asks the host.
func TestRates_Connect(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := &limitRecorder{}
		srv := realtimetest.NewServer(t, l.options)
		conn := openRaw(t, srv)
		bad := connectPacket(realtime.NamespaceDrivers, "bad")
		for range 10 {
			require.Equal(t, []string{refusalPacket("/drivers", realtime.CodeInvalidToken, "Invalid token")}, conn.send(t, bad))
		}
		require.Equal(t, []string{refusalPacket("/drivers", realtime.CodeRateLimited, "Too many, try again later")}, conn.send(t, bad))
		require.Equal(t, []realtime.Limit{realtime.LimitRateConnect}, l.take())
		time.Sleep(time.Second)
		good := connectPacket(realtime.NamespaceDrivers, srv.Login("d1", realtime.UserDriver))
		requireEntered(t, conn.send(t, good), realtime.NamespaceDrivers, "d1", realtimetest.SessionID("d1"))
	})
}

func TestLimits_Namespaces(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := &limitRecorder{}
		srv := realtimetest.NewServer(t, l.options, func(o *realtime.Options) { o.Limits.Namespaces = 2 })
		addNamespace(t, srv, "/support", realtime.NamespaceOptions{Anonymous: true})
		addNamespace(t, srv, "/news", realtime.NamespaceOptions{Anonymous: true})
		conn := openRaw(t, srv)
		require.Len(t, conn.send(t, "40/support,"), 2)
		require.Len(t, conn.send(t, connectPacket(realtime.NamespaceDrivers, srv.Login("d1", realtime.UserDriver))), 2)
		require.Equal(t, []string{`44/news,{"message":"Too many namespaces","data":{"code":"rate_limited"}}`}, conn.send(t, "40/news,"))
		require.Equal(t, []realtime.Limit{realtime.LimitNamespaces}, l.take())
		require.Empty(t, conn.send(t, "41/support,"))
		require.Len(t, conn.send(t, "40/news,"), 2)
	})
}

func TestLimits_PendingAcks(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := &limitRecorder{}
		srv := realtimetest.NewServer(t, l.options, func(o *realtime.Options) {
			o.Limits.PendingAcks, o.Timeouts.Ack = 2, 3*time.Second
		})
		question := realtime.NewQuery[realtime.None, realtime.None]("question")
		driver := srv.Driver(t, "d1") // and never answers
		to := srv.Realtime.Drivers().To(realtime.DriverRoom("d1"))
		var asking sync.WaitGroup
		start := time.Now()
		for range 2 {
			asking.Go(func() {
				_, err := question.AskAll(t.Context(), to, realtime.None{})
				require.ErrorIs(t, err, realtime.ErrAckTimeout)
			})
		}
		synctest.Wait()
		_, err := question.AskAll(t.Context(), to, realtime.None{})
		require.ErrorIs(t, err, realtime.ErrTooManyAcks)
		require.Equal(t, []realtime.Limit{realtime.LimitPendingAcks}, l.take())
		asking.Wait()
		require.Equal(t, 3*time.Second, time.Since(start))
		asked := 0
		for _, e := range driver.Received() {
			if e.Event == question.Name() {
				asked++
			}
		}
		require.Equal(t, 2, asked, "nobody waits for the ack of a third")
	})
}

// Trace.Limited also reports limits on sizes.
func TestTrace_LimitedSizes(t *testing.T) {
	for limit, packets := range map[string][]string{
		"MaxPayload":  {"42" + string(make([]byte, 2000))},
		"Attachments": {`4511-["x"]`},
		"EventName":   {`42["` + strings.Repeat("n", 200) + `"]`},
		"Values":      {`42["x"` + strings.Repeat(",1", 200) + `]`},
		"Depth":       {`42["x",` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `]`},
	} {
		t.Run(limit, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				l := &limitRecorder{}
				srv := realtimetest.NewServer(t, l.options, func(o *realtime.Options) { o.Limits.MaxPayload, o.Limits.Values = 1000, 100 })
				conn := openRaw(t, srv)
				conn.send(t, packets...)
				require.Equal(t, []realtime.Limit{realtime.Limit(limit)}, l.take())
				require.True(t, conn.closedSoon())
			})
		})
	}
}
