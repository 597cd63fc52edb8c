package engineio

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// The queue is not larger than the jobs in it, whether it is ever empty or not.
func TestWorkers_QueueReleasesMemory(t *testing.T) {
	t.Parallel()
	var w workers
	links := []*epollLink{{}, {}, {}}
	next, taken := 0, 0
	push := func() { w.pushLocked(job{l: links[next%3]}); next++ }
	take := func() {
		j, _ := w.takeLocked()
		require.Same(t, links[taken%3], j.l)
		taken++
	}
	push()
	for range 100_000 { // one job always waits
		push()
		take()
	}
	require.LessOrEqual(t, cap(w.queue), 16)
	for range 100_000 {
		push()
	}
	for taken < next {
		take()
	}
	require.Nil(t, w.queue)
	for range 3 {
		push()
		take()
	}
	require.NotNil(t, w.queue, "a small one is kept")
}

// A worker whose job runs for longer than a check interval does not count as active
// until the job is done.
func TestWorkers_WaitingOnesAreNotActive(t *testing.T) {
	t.Parallel()
	w := workers{active: 100}
	intervals := map[uint64]int{} // running jobs by the check interval in which they were taken
	busy := 0
	check := func() {
		waiting := 0
		for look, n := range intervals {
			if look+1 < w.interval {
				waiting += n
			}
		}
		require.Equal(t, 100-waiting, w.active)
		require.Equal(t, intervals[w.interval], w.currentJobs)
	}
	for range 10_000 {
		switch rand.IntN(5) {
		case 0:
			w.nextIntervalLocked()
		case 1, 2:
			if busy < 100 {
				w.pushLocked(job{})
				_, look := w.takeLocked()
				intervals[look]++
				busy++
			}
		default:
			for look, n := range intervals {
				if n > 0 {
					w.doneLocked(look)
					intervals[look]--
					busy--
					break
				}
			}
		}
		check()
	}
}
