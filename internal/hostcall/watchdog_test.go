// The watchdog: which calls it abandons, and its limits.

package hostcall_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/hostcall"
	"github.com/rodando/realtime/internal/testkit"
	"github.com/rodando/realtime/internal/timingwheel"
)

// handled is a call that records when it was abandoned.
type handled struct {
	hostcall.Call
	took time.Duration
}

func (h *handled) Abandoned(took time.Duration) { h.took = took }

func newWatchdog(t *testing.T, calls, perHandler int) *hostcall.Watchdog {
	w := &hostcall.Watchdog{}
	timers := timingwheel.New(10 * time.Millisecond)
	t.Cleanup(timers.Close)
	w.Start(hostcall.WatchdogConfig{
		Wheel: timers, Parent: t.Context(), Timeout: time.Second, Calls: calls, PerHandler: perHandler,
	})
	return w
}

func TestWatchdog_Abandons(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		w := newWatchdog(t, 0, 3)
		h := &hostcall.Handler{}
		var hanging []*handled
		for range 2 {
			c := &handled{}
			require.NoError(t, w.Begin(&c.Call, c, h, w.Shard(), time.Now()))
			hanging = append(hanging, c)
			time.Sleep(300 * time.Millisecond)
		}
		quick := &handled{}
		require.NoError(t, w.Begin(&quick.Call, quick, h, w.Shard(), time.Now()))
		require.NoError(t, quick.Err())
		require.True(t, w.End(&quick.Call))
		require.ErrorIs(t, quick.Err(), context.Canceled)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		for _, c := range hanging {
			require.GreaterOrEqual(t, c.took, 2*time.Second)
			require.LessOrEqual(t, c.took, 3100*time.Millisecond)
			require.ErrorIs(t, c.Err(), context.DeadlineExceeded)
		}
		require.Zero(t, quick.took)
		third, other := &handled{}, &handled{}
		require.NoError(t, w.Begin(&third.Call, third, h, 0, time.Now()))
		require.ErrorIs(t, w.Begin(&other.Call, other, h, 0, time.Now()), hostcall.ErrBusyHandler, "abandoned calls count")
		require.True(t, w.End(&third.Call))
		require.NoError(t, w.Begin(&other.Call, other, &hostcall.Handler{}, 0, time.Now()), "another handler")
		require.True(t, w.End(&other.Call))
		require.False(t, w.End(&hanging[0].Call))
		again := &handled{}
		require.NoError(t, w.Begin(&again.Call, again, h, 0, time.Now()))
		require.True(t, w.End(&again.Call))
		require.False(t, w.End(&hanging[1].Call))
	})
}

func TestWatchdog_CallsAtOnce(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		w := newWatchdog(t, 3, 2)
		one, other := &hostcall.Handler{}, &hostcall.Handler{}
		begin := func(h *hostcall.Handler) (*handled, error) {
			c := &handled{}
			return c, w.Begin(&c.Call, c, h, w.Shard(), time.Now())
		}
		a, err := begin(one)
		require.NoError(t, err)
		b, err := begin(one)
		require.NoError(t, err)
		_, err = begin(one)
		require.Equal(t, hostcall.ErrBusyHandler, err)
		c, err := begin(other)
		require.NoError(t, err)
		_, err = begin(other)
		require.Equal(t, hostcall.ErrBusy, err)
		w.End(&a.Call)
		d, err := begin(other)
		require.NoError(t, err)
		for _, c := range []*handled{b, c, d} {
			require.True(t, w.End(&c.Call))
		}
	})
}
