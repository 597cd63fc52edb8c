// Internal tests of the wheel: how many timers a slot visits, and random sequences of
// calls compared with a list of deadlines.

package timingwheel

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

const testTick = 10 * time.Millisecond

// Firing visits each timer of a slot once, however many timers of a later round share
// the slot.
func TestWheel_FiringVisitsEachTimerOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const n = 1000
		w := New(testTick)
		defer w.Close()
		var fired atomic.Int64
		looked := func() int {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.visited
		}
		later := make([]Timer, n)
		for i := range n {
			w.Arm(&Timer{F: func() { fired.Add(1) }}, time.Second)
			later[i].F = func() { fired.Add(1) }
			w.Arm(&later[i], time.Second+slots*testTick)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.EqualValues(t, n, fired.Load())
		require.Equal(t, 2*n, looked())
		time.Sleep(slots * testTick)
		synctest.Wait()
		require.EqualValues(t, 2*n, fired.Load())
		require.Equal(t, 3*n, looked())
	})
}

// modeledTimer is a timer with its expected state.
type modeledTimer struct {
	timer Timer
	armed bool
	at    time.Time
	short bool // armed for less than a tick; it may fire up to one tick late
}

// Any sequence of calls has the same result as a list of deadlines. Callbacks make most
// of the calls, while other timers are due.
func TestWheel_LikeAListOfDeadlines(t *testing.T) {
	t.Parallel()
	for seed := range uint64(15) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := rand.New(rand.NewPCG(seed, 9))
				w := New(testTick)
				defer w.Close()
				timers := make([]modeledTimer, 60)
				var mu sync.Mutex // for the race detector only: the wheel and the test take turns
				fired := 0
				act := func() {
					m := &timers[r.IntN(len(timers))]
					switch r.IntN(5) {
					case 0, 1, 2:
						d := time.Duration(r.IntN(4)) * testTick / 2 // many timers in few ticks
						if r.IntN(4) == 0 {
							d = time.Duration(r.Int64N(int64(3 * slots * testTick)))
						}
						m.armed, m.at, m.short = true, time.Now().Add(d), d <= testTick
						w.Arm(&m.timer, d)
					case 3:
						require.Equal(t, m.armed, w.Stop(&m.timer))
						m.armed = false
					default:
						require.Equal(t, m.armed, w.Armed(&m.timer))
					}
				}
				for i := range timers {
					m := &timers[i]
					m.timer.F = func() {
						mu.Lock()
						defer mu.Unlock()
						fired++
						if !m.armed {
							t.Errorf("timer %d fired, though not armed", i)
						}
						late := time.Since(m.at)
						if late < -testTick || late > testTick || late > 0 && !m.short {
							t.Errorf("timer %d fired %v late", i, late)
						}
						m.armed = false
						for range r.IntN(3) {
							act()
						}
					}
				}
				time.Sleep(3 * time.Millisecond) // never at the moment when the wheel fires
				for range 300 {
					mu.Lock()
					for range r.IntN(8) {
						act()
					}
					pause := time.Duration(r.IntN(4)) * testTick
					mu.Unlock()
					time.Sleep(pause)
					synctest.Wait()
				}
				mu.Lock()
				defer mu.Unlock()
				// An overdue timer that has not fired was forgotten.
				for i := range timers {
					if m := &timers[i]; m.armed && time.Since(m.at) > testTick {
						t.Errorf("timer %d is %v late", i, time.Since(m.at))
					}
				}
				require.Greater(t, fired, 100)
			})
		})
	}
}

// Close disarms timers that are due but have not begun.
func TestWheel_CloseInACallback(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := New(testTick)
		var fired atomic.Int64
		for range 10 {
			w.Arm(&Timer{F: func() { fired.Add(1); w.Close() }}, time.Second)
		}
		time.Sleep(time.Minute)
		require.EqualValues(t, 1, fired.Load())
	})
}

// BenchmarkWheel_Fire measures firing 40,000 due timers whose slot also holds 40,000 timers
// of a later round.
func BenchmarkWheel_Fire(b *testing.B) {
	for _, n := range []int{4000, 40_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			timers := make([]Timer, 2*n)
			for i := range timers {
				timers[i].F = func() {}
			}
			b.ReportAllocs()
			for b.Loop() {
				w := New(time.Hour)
				for i := range n {
					w.Arm(&timers[2*i], time.Hour)
					w.Arm(&timers[2*i+1], (1+slots)*time.Hour)
				}
				w.mu.Lock()
				w.runSlotLocked(2, 2)
				w.mu.Unlock()
				for i := range n {
					w.Stop(&timers[2*i+1])
				}
				w.Close()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/timer")
		})
	}
}
