// Bursts: what a client sends at once, as when it connects.

package realtime_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws/wsutil"
	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// entered opens a connection and enters a namespace as a user.
func entered(t *testing.T, srv *realtimetest.Server, namespace, user string, as realtime.UserType) *rawConn {
	t.Helper()
	conn := openRaw(t, srv)
	requireEntered(t, conn.send(t, connectPacket(namespace, srv.Login(user, as))), namespace, user, realtimetest.SessionID(user))
	return conn
}

// sendAtOnce sends packets in one write, as a client does that has kept them.
func (c *rawConn) sendAtOnce(t *testing.T, packets ...string) {
	t.Helper()
	var b bytes.Buffer
	for _, p := range packets {
		require.NoError(t, wsutil.WriteClientText(&b, []byte(p)))
	}
	_, err := c.body.Write(b.Bytes())
	require.NoError(t, err)
}

// calls returns the packets of n calls, with the ack ids from first on. %d in the body is the
// number of the call.
func calls(namespace, event, body string, first, n int) (packets []string) {
	for i := range n {
		packets = append(packets, fmt.Sprintf(`42%s,%d[%q,%s]`, namespace, first+i, event, strings.ReplaceAll(body, "%d", fmt.Sprint(i))))
	}
	return packets
}

// acksOf returns those of the packets that are acks, without their ids: how often each came.
func acksOf(packets []string) map[string]int {
	acks := map[string]int{}
	for _, p := range packets {
		if strings.HasPrefix(p, "43") {
			acks[p[strings.IndexByte(p, '['):]]++
		}
	}
	return acks
}

// A dashboard joins its trips whenever it connects, in each of its windows, and changes them. The
// limit is that on rooms.
func TestRates_TripsOfADashboard(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := &limitRecorder{}
		srv := realtimetest.NewServer(t, l.options)
		const crowded = `[{"ok":false,"error":{"code":"rate_limited","message":"too many trips at once; leave some"}}]`
		ok := func(packets []string) (n int) {
			for ack, times := range acksOf(packets) {
				if strings.HasPrefix(ack, `[{"ok":true`) {
					n += times
				}
			}
			return n
		}
		trips := func(event string, first, n int) []string {
			return calls("/admin", event, `{"tripId":"trip-%d"}`, first, n)
		}
		var windows []*rawConn
		for range 3 {
			w := entered(t, srv, realtime.NamespaceAdmin, "a1", realtime.UserAdmin)
			w.sendAtOnce(t, trips("admin:trip:join", 0, 100)...)
			require.Equal(t, 100, ok(w.received()))
			windows = append(windows, w)
		}
		w := windows[0]
		w.sendAtOnce(t, trips("admin:trip:leave", 0, 100)...)
		require.Equal(t, 100, ok(w.received()))
		require.Empty(t, l.take())
		time.Sleep(10 * time.Second)
		w.sendAtOnce(t, trips("admin:trip:join", 0, 100)...)
		require.Equal(t, 100, ok(w.received()))
		time.Sleep(3 * time.Second)
		require.Equal(t, map[string]int{crowded: 25}, acksOf(w.send(t, calls("/admin", "admin:trip:join", `{"tripId":"more-%d"}`, 0, 25)...)))
		require.Equal(t, []realtime.Limit{realtime.LimitRoomsPerSocket}, l.take())
		w.sendAtOnce(t, calls("/admin", "admin:drivers:leave", `null`, 0, 20)...)
		require.Equal(t, map[string]int{`[{"ok":true}]`: 20}, acksOf(w.received()), "joins do not count for the user")
		require.False(t, slices.ContainsFunc(windows, (*rawConn).closed))
	})
}

// The budget follows Limits.RoomsPerSocket, and Rates.Events replaces it.
func TestRates_TripsOfADashboard_Options(t *testing.T) {
	for name, c := range map[string]struct {
		set  func(o *realtime.Options)
		want int
	}{
		"more rooms": {func(o *realtime.Options) { o.Limits.RoomsPerSocket = 500 }, 500},
		"few rooms":  {func(o *realtime.Options) { o.Limits.RoomsPerSocket = 5 }, 5},
		"no rate":    {func(o *realtime.Options) { o.Rates.Event.PerSecond = -1 }, 100},
		"a rate of it": {func(o *realtime.Options) {
			o.Rates.Events = map[string]realtime.Rate{"admin:trip:join": {PerSecond: 1, Burst: 7}}
		}, 7},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Unlimited = false; c.set(o) })
				w := entered(t, srv, realtime.NamespaceAdmin, "a1", realtime.UserAdmin)
				w.sendAtOnce(t, calls("/admin", "admin:trip:join", `{"tripId":"trip-%d"}`, 0, c.want+10)...)
				joined := 0
				for ack, n := range acksOf(w.received()) {
					if strings.HasPrefix(ack, `[{"ok":true`) {
						joined += n
					}
				}
				require.Equal(t, c.want, joined)
				require.False(t, w.closed())
			})
		})
	}
}
