// New: whose adapter it closes when it fails.

package realtime_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// startingAdapter is an adapter with a Start of its own. It records whether it was closed.
type startingAdapter struct {
	realtime.Adapter
	start  func() error
	closed chan struct{}
}

func (a *startingAdapter) Start(context.Context, realtime.Node) error { return a.start() }

func (a *startingAdapter) Close(context.Context) error {
	close(a.closed)
	return nil
}

// A server that is given the adapter of another one by mistake does not close it.
func TestNew_LeavesTheAdapterOfAnotherServer(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		hub := realtimetest.NewHub()
		adapter := hub.Node()
		first := realtimetest.NewServer(t, func(o *realtime.Options) { o.Cluster.Adapter = adapter }).Realtime
		driver := realtimetest.NewServer(t, func(o *realtime.Options) { o.Cluster.Adapter = hub.Node() }).Driver(t, "ana")
		o := validOptions()
		o.Cluster.Adapter = adapter
		_, err := realtime.New(o)
		require.ErrorContains(t, err, "already been started")

		require.NoError(t, first.Check(t.Context()))
		require.NoError(t, Weather.Emit(first.Drivers().To(realtime.DriverRoom("ana")), "rain"))
		text, err := realtimetest.Next(t.Context(), driver, Weather)
		require.NoError(t, err)
		require.Equal(t, "rain", text)
	})
}

// An adapter whose Start returns an error has released everything; one that has started, or whose Start
// does not return, is closed.
func TestNew_ClosesTheAdapterThatMayRun(t *testing.T) {
	for name, test := range map[string]struct {
		start  func(a *startingAdapter) error
		closed bool
	}{
		"it does not start":      {func(*startingAdapter) error { return errors.New("no network") }, false},
		"it does not return":     {func(a *startingAdapter) error { <-a.closed; return nil }, true},
		"the bus does not start": {func(*startingAdapter) error { return nil }, true},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				a := &startingAdapter{closed: make(chan struct{})}
				a.start = func() error { return test.start(a) }
				o := validOptions()
				o.Bus, o.Cluster.Adapter = brokenBus{}, a
				_, err := realtime.New(o)
				require.Error(t, err)
				closed := false
				select {
				case <-a.closed:
					closed = true
				default:
				}
				require.Equal(t, test.closed, closed)
			})
		})
	}
}

// brokenBus is a bus without a network.
type brokenBus struct{ realtime.EventBus }

func (brokenBus) Subscribe(func(context.Context, realtime.Envelope) error) (func(), error) {
	return nil, errors.New("no network")
}
