package realtime_test

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// The host's ServerEmit cannot change the nodes' own state, whatever the event's name.
func TestServerEmit_IsTheHostsAlone(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		nodes := realtimetest.NewCluster(t, 2, withoutLookup)
		var mu sync.Mutex
		var heard []string
		for _, name := range []string{"realtime:trip", "realtime:trip:ask", "realtime:presence"} {
			nodes[1].Realtime.Admin().OnServerEmit(name, func(args realtime.Raw) {
				mu.Lock()
				defer mu.Unlock()
				heard = append(heard, name+" "+string(args.Args[0]))
			})
		}
		driver := nodes[1].Driver(t, "d1")
		nodes[0].Publish(t, realtime.DriverAssigned{TripID: "t1", PassengerID: "p1", DriverID: "d1"})
		synctest.Wait()
		require.Equal(t, 1, inTripRoom(t, nodes[0].Realtime.Drivers(), "t1"), "the other node has received the state")
		require.Empty(t, heard)
		require.NoError(t, nodes[0].Realtime.Admin().ServerEmit(t.Context(), "realtime:trip", 1))
		synctest.Wait()
		require.Equal(t, []string{"realtime:trip 1"}, heard)
		require.True(t, driver.Connected())
	})
}

func TestNamespace_ServerEmit(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var log logBuffer
		nodes := realtimetest.NewCluster(t, 3, logTo(&log))
		var mu sync.Mutex
		var heard []string
		for n, name := range []string{"a", "b", "c"} {
			nodes[n].Realtime.Drivers().OnServerEmit("cache:drop", func(args realtime.Raw) {
				mu.Lock()
				defer mu.Unlock()
				heard = append(heard, name+string(args.Args[0])+string(args.Args[1]))
			})
		}
		nodes[1].Realtime.Drivers().OnServerEmit("cache:drop", func(realtime.Raw) { panic("listener") })
		nodes[2].Realtime.Admin().OnServerEmit("cache:drop", func(realtime.Raw) { t.Error("of another namespace") })
		client := nodes[1].Driver(t, "d1")
		require.NoError(t, nodes[0].Realtime.Drivers().ServerEmit(t.Context(), "cache:drop", 7, "ñ"))
		require.NoError(t, nodes[0].Realtime.Drivers().ServerEmit(t.Context(), "cache:keep"))
		require.Error(t, nodes[0].Realtime.Drivers().ServerEmit(t.Context(), "cache:drop", func() {}))
		synctest.Wait()
		slices.Sort(heard)
		require.Equal(t, []string{`b7"ñ"`, `c7"ñ"`}, heard, "the others, once")
		require.Contains(t, log.String(), "panic: listener")
		realtimetest.ExpectNone(t, client)
	})
}

// Each other node answers an ask once, also without a handler and with one that fails; its
// listeners get the event too. The node that asks, other namespaces and clients do not.
func TestNamespace_ServerAsk(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var log logBuffer
		nodes := realtimetest.NewCluster(t, 6, logTo(&log))
		var mu sync.Mutex
		var heard []string
		for n, name := range []string{"a", "b", "c"} {
			drivers := nodes[n].Realtime.Drivers()
			drivers.OnServerAsk("cars", func(context.Context, realtime.Raw) (any, error) { return "replaced", nil })
			drivers.OnServerAsk("cars", func(_ context.Context, args realtime.Raw) (any, error) {
				return name + string(args.Args[0]) + string(args.Args[1]), nil
			})
			drivers.OnServerEmit("cars", func(args realtime.Raw) {
				mu.Lock()
				defer mu.Unlock()
				heard = append(heard, name+string(args.Args[0]))
			})
		}
		nodes[3].Realtime.Drivers().OnServerAsk("cars", func(context.Context, realtime.Raw) (any, error) { return 1, errors.New("no cars") })
		nodes[4].Realtime.Drivers().OnServerAsk("cars", func(context.Context, realtime.Raw) (any, error) { panic("handler") })
		nodes[5].Realtime.Drivers().OnServerAsk("other", func(context.Context, realtime.Raw) (any, error) { return "other", nil })
		nodes[5].Realtime.Admin().OnServerAsk("cars", func(context.Context, realtime.Raw) (any, error) { return "of another namespace", nil })
		client := nodes[1].Driver(t, "d1")

		require.Equal(t, []string{`"b7\"ñ\""`, `"c7\"ñ\""`, "null", "null", "null"}, serverAsk(t, nodes[0], "cars", 7, "ñ"))
		synctest.Wait()
		slices.Sort(heard)
		require.Equal(t, []string{"b7", "c7"}, heard)
		require.Contains(t, log.String(), "no cars")
		require.Contains(t, log.String(), "panic: handler")
		realtimetest.ExpectNone(t, client)

		_, err := nodes[0].Realtime.Drivers().ServerAsk(t.Context(), "cars", func() {})
		require.Error(t, err)
		for _, name := range []string{"", "connect", "new_namespace"} {
			_, err = nodes[0].Realtime.Drivers().ServerAsk(t.Context(), name)
			require.Error(t, err, name)
			require.Panics(t, func() {
				nodes[0].Realtime.Drivers().OnServerAsk(name, func(context.Context, realtime.Raw) (any, error) { return nil, nil })
			}, name)
		}
	})
}

// A server without other nodes has nobody to ask.
func TestNamespace_ServerAskAlone(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		srv.Realtime.Drivers().OnServerAsk("cars", func(context.Context, realtime.Raw) (any, error) { return 1, nil })
		require.Empty(t, serverAsk(t, srv, "cars"))
	})
}

// A handler that hangs costs its own node's answer, and nothing else: its asker gets null, and
// when the asker's ctx ends first, what the others have answered and an error.
func TestNamespace_ServerAskHangs(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		_, withLogs := recordLogs(t)
		nodes := realtimetest.NewCluster(t, 3, withLogs)
		release := make(chan struct{})
		defer close(release)
		nodes[1].Realtime.Drivers().OnServerAsk("cars", func(context.Context, realtime.Raw) (any, error) {
			<-release
			return 1, nil
		})
		nodes[2].Realtime.Drivers().OnServerAsk("cars", func(context.Context, realtime.Raw) (any, error) { return 2, nil })
		require.Equal(t, []string{"2", "null"}, serverAsk(t, nodes[0], "cars"))

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		answers, err := nodes[0].Realtime.Drivers().ServerAsk(ctx, "cars")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, []string{"2"}, argsOf(answers))
	})
}

// An asker that gives up is not a fault of the node that it has asked, whatever the handler returns then.
// A handler that panics is, also then.
func TestNamespace_ServerAskGivenUp(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var log logBuffer
		nodes := realtimetest.NewCluster(t, 2, logTo(&log))
		ended := make(chan struct{}, 3)
		drivers := nodes[1].Realtime.Drivers()
		for event, err := range map[string]error{"its ctx": nil, "its own": errors.New("no rows")} {
			drivers.OnServerAsk(event, func(ctx context.Context, _ realtime.Raw) (any, error) {
				<-ctx.Done()
				ended <- struct{}{}
				return nil, cmp.Or(err, ctx.Err())
			})
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			answers, err := nodes[0].Realtime.Drivers().ServerAsk(ctx, event)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.Empty(t, answers)
			<-ended
		}
		synctest.Wait()
		require.NotContains(t, log.String(), "call of the host's code failed")

		drivers.OnServerAsk("fails", func(context.Context, realtime.Raw) (any, error) { return nil, context.Canceled })
		require.Equal(t, []string{"null"}, serverAsk(t, nodes[0], "fails"))
		require.Contains(t, log.String(), "call of the host's code failed", "somebody waits")
	})
}

// A node that shuts down while its handler runs, longer than Shutdown can wait, has answered null. If it
// dies, the error names it.
func TestNamespace_ServerAskOfNodeThatLeaves(t *testing.T) {
	for how, leave := range map[string]func(t *testing.T, link *realtimetest.HubNode, srv *realtimetest.Server){
		"shuts down": func(t *testing.T, _ *realtimetest.HubNode, srv *realtimetest.Server) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			require.ErrorContains(t, srv.Realtime.Shutdown(ctx), "OnServerAsk of /drivers still runs")
		},
		"dies": func(_ *testing.T, link *realtimetest.HubNode, _ *realtimetest.Server) { link.Kill() },
	} {
		t.Run(how, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				_, withLogs := recordLogs(t)
				c := newOfferCluster(t, 3, withLogs)
				began := make(chan struct{})
				c.nodes[1].Realtime.Drivers().OnServerAsk("cars", func(ctx context.Context, _ realtime.Raw) (any, error) {
					close(began)
					<-ctx.Done()
					return nil, ctx.Err()
				})
				go func() {
					<-began
					leave(t, c.links[1], c.nodes[1])
				}()
				answers, err := c.nodes[0].Realtime.Drivers().ServerAsk(t.Context(), "cars")
				if how == "shuts down" {
					require.NoError(t, err)
					require.Equal(t, []string{"null", "null"}, argsOf(answers))
				} else {
					require.ErrorContains(t, err, c.links[1].Peer().ID)
					require.Equal(t, []string{"null"}, argsOf(answers))
				}
			})
		})
	}
}

// serverAsk asks the other nodes in /drivers and returns the sorted answers.
func serverAsk(t *testing.T, from *realtimetest.Server, event string, args ...any) []string {
	t.Helper()
	answers, err := from.Realtime.Drivers().ServerAsk(t.Context(), event, args...)
	require.NoError(t, err)
	return argsOf(answers)
}

// argsOf returns the arguments of the answers, sorted.
func argsOf(answers []realtime.Raw) []string {
	var all []string
	for _, a := range answers {
		for _, arg := range a.Args {
			all = append(all, string(arg))
		}
	}
	slices.Sort(all)
	return all
}
