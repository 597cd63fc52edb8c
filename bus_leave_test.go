// A bus whose nodes share the events: the server leaves before its subscription ends.

package realtime_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// leavingBus notes what the server does at its end.
type leavingBus struct {
	realtime.EventBus
	leave func(ctx context.Context) error
	did   []string
}

func (b *leavingBus) Leave(ctx context.Context) error {
	b.did = append(b.did, "leave")
	return b.leave(ctx)
}

func (b *leavingBus) Subscribe(handler func(ctx context.Context, e realtime.Envelope) error) (cancel func(), err error) {
	end, err := b.EventBus.Subscribe(handler)
	return func() {
		b.did = append(b.did, "cancel")
		end()
	}, err
}

func TestShutdown_LeavesTheBusFirst(t *testing.T) {
	for name, wrap := range map[string]func(realtime.EventBus) realtime.EventBus{
		"the bus":       func(b realtime.EventBus) realtime.EventBus { return b },
		"a wrapped bus": func(b realtime.EventBus) realtime.EventBus { return wrapper{b, nil} },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				bus := &leavingBus{EventBus: realtimetest.NewBus(), leave: func(context.Context) error { return errors.New("still busy") }}
				s := realtimetest.NewServer(t, func(o *realtime.Options) { o.Bus = wrap(bus) })
				ctx, end := context.WithTimeout(t.Context(), 10*time.Second)
				defer end()
				require.ErrorContains(t, s.Realtime.Shutdown(ctx), "the bus still gets events: still busy")
				require.Equal(t, []string{"leave", "cancel"}, bus.did)
			})
		})
	}
}

// brokenAdapter is an adapter that cannot start.
type brokenAdapter struct{ realtime.Adapter }

func (brokenAdapter) Start(context.Context, realtime.Node) error { return errors.New("no network") }
func (brokenAdapter) Close(context.Context) error                { return nil }

// A server that could not begin has no subscription that ends: the others on its bus go on.
func TestNew_FailsAndDoesNotLeaveTheBus(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		bus := &leavingBus{EventBus: realtimetest.NewBus(), leave: func(context.Context) error { return nil }}
		o := validOptions()
		o.Bus, o.Cluster.Adapter = bus, brokenAdapter{}
		_, err := realtime.New(o)
		require.ErrorContains(t, err, "no network")
		require.Empty(t, bus.did)
	})
}
