package timingwheel_test

import (
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/timingwheel"
)

const tick = 10 * time.Millisecond

func TestWheel_FiresInTheTickOfTheDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := timingwheel.New(tick)
		defer w.Close()
		start := time.Now()
		var fired atomic.Int64
		const n = 2000
		for range n {
			// 20 s are several rounds of the wheel.
			d := time.Duration(rand.Int64N(int64(20 * time.Second)))
			w.Arm(&timingwheel.Timer{F: func() {
				late := time.Since(start) - d
				if late > tick || late < -tick || (d > tick && late > 0) {
					t.Errorf("timer of %v fired %v late", d, late)
				}
				fired.Add(1)
			}}, d)
			if rand.IntN(3) == 0 {
				time.Sleep(0)
			}
		}
		time.Sleep(21 * time.Second)
		require.EqualValues(t, n, fired.Load())
	})
}

func TestWheel_ArmReplacesTheDeadlineAndStopDisarms(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := timingwheel.New(tick)
		defer w.Close()
		var at []time.Duration
		start := time.Now()
		a := &timingwheel.Timer{F: func() { at = append(at, time.Since(start).Round(tick)) }}
		w.Arm(a, time.Second)
		w.Arm(a, 2*time.Second)
		b := &timingwheel.Timer{F: func() { t.Error("a stopped timer fired") }}
		w.Arm(b, time.Second)
		require.True(t, w.Stop(b))
		require.False(t, w.Stop(b))
		time.Sleep(5 * time.Second)
		synctest.Wait()
		require.Equal(t, []time.Duration{2 * time.Second}, at)
	})
}

func TestWheel_ArmedUntilItFires(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := timingwheel.New(tick)
		a := &timingwheel.Timer{}
		var inside bool
		a.F = func() { inside = w.Armed(a) }
		require.False(t, w.Armed(a))
		w.Arm(a, time.Second)
		require.True(t, w.Armed(a))
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.False(t, inside)
		require.False(t, w.Armed(a))
		w.Arm(a, time.Second)
		w.Stop(a)
		require.False(t, w.Armed(a))
		w.Arm(a, time.Second)
		w.Close()
		require.False(t, w.Armed(a))
	})
}

func TestWheel_CallbackMayArmItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := timingwheel.New(tick)
		n := 0
		a := &timingwheel.Timer{}
		a.F = func() { n++; w.Arm(a, 100*time.Millisecond) }
		w.Arm(a, 100*time.Millisecond)
		time.Sleep(1050 * time.Millisecond)
		synctest.Wait()
		require.Equal(t, 10, n)
		w.Close()
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, 10, n)
	})
}

func BenchmarkWheel_Arm(b *testing.B) {
	w := timingwheel.New(tick)
	defer w.Close()
	t := make([]timingwheel.Timer, 1000)
	for i := range t {
		t[i].F = func() {}
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		w.Arm(&t[i%len(t)], 25*time.Second)
		i++
	}
}
