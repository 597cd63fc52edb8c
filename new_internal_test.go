// New: what runs before it has returned.

package realtime

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// startupBus is a bus, an adapter and the repositories of a server that looks at
// itself while it is made.
type startupBus struct {
	during    func(rt *Server)
	rt        *Server
	subscribe error
}

func (b *startupBus) Start(_ context.Context, n Node) error {
	b.rt = n.(node).rt
	b.during(b.rt)
	return nil
}

func (b *startupBus) Subscribe(func(context.Context, Envelope) error) (func(), error) {
	b.during(b.rt)
	return func() {}, b.subscribe
}

func (*startupBus) Publish(context.Context, ClusterMessage) error { return nil }

func (*startupBus) Request(context.Context, ClusterMessage, func(ClusterAnswer)) error { return nil }

func (*startupBus) Close(context.Context) error { return nil }

type startupEvents struct{ *startupBus }

func (startupEvents) Publish(context.Context, Envelope) error { return nil }

func (*startupBus) VerifyToken(context.Context, string, string) (Claims, error) {
	return Claims{}, ErrTokenInvalid
}

func (*startupBus) FindUser(context.Context, string) (User, error) { return User{}, ErrNotFound }

func (*startupBus) FindSession(context.Context, string) (Session, error) {
	return Session{}, ErrNotFound
}

// Nothing is armed before the server is complete, nor left when it does not become
// so: a sweep that is due within New would find half of it.
func TestNew_ArmsNothingBeforeItIsComplete(t *testing.T) {
	t.Parallel()
	for _, failure := range []error{nil, errors.New("no such topic")} {
		armed := false
		b := &startupBus{subscribe: failure}
		b.during = func(rt *Server) {
			time.Sleep(5 * time.Millisecond) // several intervals
			rt.sweep.mu.Lock()
			begun := rt.sweep.done != nil
			rt.sweep.mu.Unlock()
			armed = armed || begun || rt.wheel.Armed(&rt.sweep.timer)
		}
		rt, err := New(Options{
			Tokens: b, Users: b, Sessions: b, Bus: startupEvents{b}, Cluster: Cluster{Adapter: b}, Logger: slog.New(slog.DiscardHandler),
			Timeouts: Timeouts{SweepInterval: time.Millisecond, PingInterval: 20 * time.Millisecond, PingTimeout: 20 * time.Millisecond},
		})
		require.False(t, armed)
		if failure != nil {
			require.ErrorIs(t, err, failure)
			require.False(t, b.rt.wheel.Armed(&b.rt.sweep.timer))
			continue
		}
		require.NoError(t, err)
		require.Eventually(t, func() bool {
			rt.sweep.mu.Lock()
			defer rt.sweep.mu.Unlock()
			return rt.sweep.done != nil
		}, 10*time.Second, time.Millisecond, "but then")
		require.NoError(t, rt.Shutdown(t.Context()))
	}
}
