// Waiting until what other nodes have published before was delivered.

package redisadapter_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/redistest"
	"github.com/rodando/realtime/internal/testkit"
	"github.com/rodando/realtime/redisadapter"
)

// catchesUp makes a node catch up. What it returns reports whether it has, however often it is called:
// require.Never may call it once more when it has returned.
func catchesUp(t *testing.T, p *peer) (has func() bool) {
	t.Helper()
	caught := make(chan struct{})
	var err error
	go func() {
		defer close(caught)
		err = p.CatchUp(t.Context())
	}()
	return func() bool {
		select {
		case <-caught:
			require.NoError(t, err)
			return true
		default:
			return false
		}
	}
}

// A message waits to be handled, and another one is in the network.
func TestAdapter_CatchUp(t *testing.T) {
	t.Parallel()
	for protocol, change := range bothProtocol {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			s := startRedis(t)
			release := make(chan struct{})
			var began atomic.Int32
			a := start(t, s, change)
			b := start(t, s, func(o *redisadapter.Options, r *recorder) {
				if change != nil {
					change(o, r)
				}
				r.deliver = func(realtime.ClusterMessage) {
					began.Add(1)
					<-release
				}
			})
			require.NoError(t, b.CatchUp(t.Context()), "there is nothing")

			require.NoError(t, a.Publish(t.Context(), event(0)))
			testkit.Eventually(t, "the host is busy", func() bool { return began.Load() == 1 })
			has := catchesUp(t, b)
			require.Never(t, has, 100*time.Millisecond, 10*time.Millisecond)
			release <- struct{}{}
			testkit.Eventually(t, "it has caught up", has)
			require.Equal(t, 1, b.node.count())

			close(release)
			s.Freeze(true)
			has = catchesUp(t, b)
			require.Never(t, has, 100*time.Millisecond, 10*time.Millisecond)
			s.Freeze(false)
			testkit.Eventually(t, "it has caught up", has)
		})
	}
}

// A node whose connection has failed waits for the next one, and for what it had received before.
func TestAdapter_CatchUp_Disconnected(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	release := make(chan struct{})
	a := start(t, s, nil)
	b := start(t, s, func(_ *redisadapter.Options, r *recorder) { r.deliver = func(realtime.ClusterMessage) { <-release } })
	for n := range 3 {
		require.NoError(t, a.Publish(t.Context(), event(n)))
	}
	testkit.Eventually(t, "two wait, and one is handled", func() bool { return b.AdapterStats().Incoming == 2 })
	s.Stop()
	testkit.Eventually(t, "it is disconnected", func() bool { return b.Check(t.Context()) != nil })
	has := catchesUp(t, b)
	require.Never(t, has, 100*time.Millisecond, 10*time.Millisecond)
	require.NoError(t, s.Restart())
	testkit.Eventually(t, "it is connected", func() bool { return b.Check(t.Context()) == nil })
	require.False(t, has(), "what it had received before waits")
	close(release)
	testkit.Eventually(t, "it has caught up", has)
	require.GreaterOrEqual(t, b.node.count(), 3)
}

// It waits for a connection on which no probe has come back yet.
func TestAdapter_CatchUp_HearsNothing(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	a := startAt(t, s, quick, nil)
	s.Deafen(true)
	testkit.Eventually(t, "its connection has failed", func() bool { return a.Check(t.Context()) != nil })
	has := catchesUp(t, a)
	require.Never(t, has, 100*time.Millisecond, 10*time.Millisecond)
	s.Deafen(false)
	testkit.Eventually(t, "it has caught up", has)
}

func TestAdapter_CatchUp_CtxEnds(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	a := start(t, s, nil)
	s.Freeze(true)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, a.CatchUp(ctx), context.DeadlineExceeded)
	s.Freeze(false)
}

// Over a slow path a connection that was cut receives again after a few times to Redis and back, however many channels
// it has.
func TestAdapter_CatchUp_SlowPath(t *testing.T) {
	t.Parallel()
	const oneWay = 200 * time.Millisecond
	s := startRedis(t)
	p := redistest.StartPath(t, s.Addr())
	b := start(t, s, func(o *redisadapter.Options, _ *recorder) {
		o.URL = p.URL()
		o.Namespaces = []string{realtime.NamespaceDrivers, realtime.NamespacePassengers, realtime.NamespaceAdmin}
	})
	p.Delay(oneWay)
	err := errors.New("not tried")
	for try := 0; try < 5 && err != nil; try++ { // a busy machine takes longer
		p.Reset()
		testkit.Eventually(t, "it is disconnected", func() bool { return b.Check(t.Context()) != nil })
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second) // one after the other, they take 7 s
		err = b.CatchUp(ctx)
		cancel()
	}
	require.NoError(t, err)
}
