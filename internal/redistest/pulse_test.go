package redistest

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPulse_Longest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var silent atomic.Bool
		p := StartPulse(t, func() bool { return !silent.Load() })
		time.Sleep(10 * time.Second)
		began := time.Now()
		silent.Store(true)
		time.Sleep(3 * time.Second)
		require.GreaterOrEqual(t, p.Longest(began, time.Now()), 3*time.Second, "one that has not ended")
		silent.Store(false)
		time.Sleep(10 * time.Second)
		require.InDelta(t, 3*time.Second, p.Longest(began, time.Now()), float64(2*pulseInterval))
		require.InDelta(t, 3*time.Second, p.Longest(began.Add(time.Second), began.Add(2*time.Second)), float64(2*pulseInterval), "of which the period is a part")
		require.LessOrEqual(t, p.Longest(began.Add(-10*time.Second), began.Add(-time.Second)), pulseInterval)
		require.LessOrEqual(t, p.Longest(began.Add(4*time.Second), time.Now()), pulseInterval)
	})
}

func TestWatch_Unexcused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var red, silent atomic.Bool
		failed := errors.New("planned")
		w := StartWatch(t, func(context.Context) error {
			if red.Load() {
				return failed
			}
			return nil
		})
		p := StartPulse(t, func() bool { return !silent.Load() })
		turn := func(on bool, d time.Duration) {
			red.Store(on)
			time.Sleep(d)
		}
		turn(false, time.Second)
		began := time.Now()
		turn(true, time.Second)
		turn(false, time.Second)
		require.Len(t, w.Reds(), 1)
		require.ErrorIs(t, w.Reds()[0].Err, failed)
		require.WithinDuration(t, began, w.Reds()[0].From, 2*watchInterval)
		require.WithinDuration(t, began.Add(time.Second), w.Reds()[0].To, 2*watchInterval)
		silent.Store(true)
		turn(false, 2*TooBusy)
		silent.Store(false)
		turn(false, time.Second)
		turn(true, time.Second)
		turn(false, time.Second)
		require.Len(t, w.Reds(), 2)
		require.Equal(t, w.Reds()[:1], w.Unexcused(p), "the second one follows a time without an answer")
	})
}
