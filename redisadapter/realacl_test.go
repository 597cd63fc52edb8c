//go:build e2e

// The ACL that docs/redis.md gives: a node needs nothing beyond it, and the sharded protocol less.

package redisadapter_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/redistest"
	"github.com/rodando/realtime/internal/testkit"
	"github.com/rodando/realtime/realtimetest"
	"github.com/rodando/realtime/redisadapter"
	"github.com/rodando/realtime/redisbus"
)

// documentedACL returns the rules of the user node in docs/redis.md.
func documentedACL(t *testing.T) []string {
	t.Helper()
	doc, err := os.ReadFile("../docs/redis.md")
	require.NoError(t, err)
	line := regexp.MustCompile("(?m)^user node (.+)$").FindSubmatch(doc)
	require.NotNil(t, line)
	return strings.Fields(string(line[1]))
}

func TestRealRedis_DocumentedACL(t *testing.T) {
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			r := redistest.StartProcess(t)
			r.Do(t, append([]string{"ACL", "SETUSER", "node"}, documentedACL(t)...)...)
			url := "redis://node:password@" + r.Addr()
			lines := &testkit.Log{}
			log := slog.New(slog.NewTextHandler(lines, nil))
			var servers []*realtimetest.Server
			for range 2 {
				adapter := newAdapter(t, redisadapter.Options{URL: url, Sharded: protocol == "sharded", Logger: log})
				bus, err := redisbus.New(redisbus.Options{URL: url, Logger: log})
				require.NoError(t, err)
				t.Cleanup(func() {
					ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
					defer cancel()
					require.NoError(t, bus.Close(ctx))
				})
				servers = append(servers, realtimetest.NewServer(t, func(o *realtime.Options) { o.Bus, o.Cluster.Adapter, o.Recovery.Enabled = bus, adapter, true }))
			}
			for _, s := range servers {
				s.Realtime.Drivers().HandleRaw("unavailable", func(context.Context, *realtime.Socket, realtime.Raw) (realtime.Raw, error) {
					return realtime.Raw{}, realtime.ErrUnavailable
				})
			}
			passenger, driver := servers[0].Passenger(t, "p1").Within(20*time.Second), servers[1].Driver(t, "d1").Within(20*time.Second)
			require.NoError(t, servers[0].Realtime.Publish(t.Context(), realtime.DriverAssigned{TripID: "t1", PassengerID: "p1", DriverID: "d1"}))
			realtimetest.Expect(t, passenger, realtime.EventDriverAssigned)
			realtimetest.Expect(t, driver, realtime.EventDriverAssignedToDriver)
			sockets, err := servers[0].Realtime.Drivers().All().Sockets(t.Context()) // asks the other node
			require.NoError(t, err)
			require.Len(t, sockets, 1)
			const body = `{"isOnline":true,"idempotencyKey":"k1"}`
			for _, c := range []*realtimetest.Client{driver, servers[0].Driver(t, "d1").Within(20 * time.Second)} {
				ack, err := c.CallRaw(t.Context(), "driver:status:update", raw(body))
				require.NoError(t, err)
				require.Contains(t, string(ack.Args[0]), `"ok":true`)
			}
			for range 2 { // an ack that is not remembered: Redis forgets the key
				_, err := servers[0].Driver(t, "d2").CallRaw(t.Context(), "unavailable", raw(body))
				require.NoError(t, err)
			}
			driver.Drop()
			testkit.Pass(told)
			back, err := servers[0].Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Token(servers[0].Login("d1", realtime.UserDriver)), realtimetest.Recover(driver))
			require.NoError(t, err)
			require.True(t, back.Recovered())
			require.Zero(t, lines.Times("NOPERM"))
			require.Empty(t, r.Do(t, "ACL", "LOG"), "Redis refused something")
		})
	}
}

// TestRealRedis_WithoutPsubscribe: a server that refuses PSUBSCRIBE, as some hosted ones do. The
// sharded protocol does not need it. With the classic one a node does not start, or is red.
func TestRealRedis_WithoutPsubscribe(t *testing.T) {
	t.Parallel()
	refusing := func(t *testing.T) (r *redistest.Process, url string) {
		t.Helper()
		r = redistest.StartProcess(t)
		r.Do(t, append(append([]string{"ACL", "SETUSER", "node"}, documentedACL(t)...), "-psubscribe")...)
		return r, "redis://node:password@" + r.Addr()
	}
	t.Run("sharded", func(t *testing.T) {
		t.Parallel()
		r, url := refusing(t)
		one, two := goServer(t, url, "sharded"), goServer(t, url, "sharded")
		here, there := one.Driver(t, "1").Within(patience), two.Driver(t, "1").Within(patience)
		for i, s := range []*realtimetest.Server{one, two} {
			require.NoError(t, s.Realtime.Drivers().To(driver1).EmitRaw("room", raw(strconv.Itoa(i))))
			require.NoError(t, s.Realtime.Drivers().All().EmitRaw("all", raw(strconv.Itoa(i))))
			for _, c := range []*realtimetest.Client{here, there} {
				require.Equal(t, fmt.Sprintf("[%d]", i), nextEvent(t, c, "room"))
				require.Equal(t, fmt.Sprintf("[%d]", i), nextEvent(t, c, "all"))
			}
			sockets, err := s.Realtime.Drivers().To(driver1).Sockets(t.Context())
			require.NoError(t, err)
			require.Len(t, sockets, 2)
			require.NoError(t, s.Realtime.Check(t.Context()))
		}
		require.Empty(t, r.Do(t, "ACL", "LOG"), "Redis refused something")
	})
	t.Run("classic", func(t *testing.T) {
		t.Parallel()
		_, url := refusing(t)
		err := newAdapter(t, redisadapter.Options{URL: url}).Start(t.Context(), &recorder{})
		require.ErrorContains(t, err, "NOPERM")
		require.ErrorContains(t, err, "psubscribe")

		alone := &peer{node: &recorder{}}
		alone.Adapter = newAdapter(t, redisadapter.Options{URL: url, StartAlone: true})
		require.NoError(t, alone.Start(t.Context(), alone.node))
		t.Cleanup(func() { alone.close(t) })
		require.ErrorContains(t, alone.Check(t.Context()), "psubscribe")
		testkit.Eventually(t, "the server is told", func() bool { return slices.Contains(alone.node.health(), false) })
		time.Sleep(2 * time.Second) // it tries again meanwhile
		require.ErrorContains(t, alone.Check(t.Context()), "psubscribe")
		require.NotContains(t, alone.node.health(), true)
	})
}
