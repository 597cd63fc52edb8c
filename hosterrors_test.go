// Hostile errors: methods of the host's errors and panic values that panic, end the goroutine or
// hang.

package realtime_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// To look at an error is to call the host's code: an error, or the value of a panic,
// whose methods panic, end the goroutine or hang is the fault of the call that it comes
// from, and of nothing else.
func TestHooks_FaultsOfErrors(t *testing.T) {
	// What they return goes to the host itself.
	toHost := []string{"EventBus.Publish", "EventBus.Subscribe's cancel", "Adapter.Request", "AdapterChecker.Check", "Adapter.Close", "Options.Logger"}
	for hook, row := range hookRows() {
		if row.trigger == nil || slices.Contains(toHost, hook) {
			continue
		}
		for i, fault := range []string{"error: panic", "error: Goexit", "error: hang", "panic: panic", "panic: Goexit", "panic: hang"} {
			if strings.HasPrefix(fault, "error") && !returnsError(hook) {
				continue
			}
			t.Run(hook+"/"+fault, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					h := &hooks{release: make(chan struct{})}
					bodies = h
					hub := realtimetest.NewHub()
					s := hookSite{hooks: h, hub: hub, adapter: hub.Node()}
					s.srv = realtimetest.NewServer(t, h.options(s.adapter))
					s.other = realtimetest.NewServer(t, func(o *realtime.Options) { o.Cluster.Adapter = hub.Node() })
					defer close(h.release)
					h.register(t, s.srv.Realtime)
					bystander := s.srv.Passenger(t, "bystander")

					h.arm(hook, fault)
					got := row.trigger(t, s)
					require.Equal(t, row.want[min(i%3/2, len(row.want)-1)], got)
					time.Sleep(time.Minute)
					synctest.Wait()
					require.True(t, h.hit(), "it was called")

					_, err := bystander.CallRaw(t.Context(), "alive", realtime.Raw{})
					require.NoError(t, err)
					_, err = s.dial(t, "/passengers", "another", realtime.UserPassenger)
					require.NoError(t, err)
				})
			})
		}
	}
}

// returnsError is whether a hook returns errors.
func returnsError(hook string) bool {
	without := []string{"RoomWatcher.RoomChanged", "AdapterReporter.AdapterStats", "Options.ConnContext", "Namespace.OnDisconnect", "Namespace.OnServerEmit"}
	return !slices.Contains(without, hook) && !strings.HasPrefix(hook, "Trace.")
}

// A call whose error cannot be inspected ends too: the handler is called again, however often
// that happens.
func TestCall_EndsWhateverItsErrorDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hooks{}
		srv := realtimetest.NewServer(t)
		bad := realtime.NewCall[string, realtime.None]("bad")
		bad.Handle(srv.Realtime.Drivers(), func(_ context.Context, _ *realtime.Socket, how string) (realtime.None, error) {
			return realtime.None{}, badError{h, how}
		})
		for i := range 300 { // more than may be abandoned
			d := srv.Driver(t, "d1")
			_, err := realtimetest.Call(t.Context(), d, bad, []string{"panic", "Goexit"}[i%2])
			require.Equal(t, "internal", codeOf(err), i)
			d.Close()
			time.Sleep(time.Minute)
		}
	})
}
