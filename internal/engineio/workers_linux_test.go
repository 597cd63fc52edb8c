package engineio

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// The queue holds no more than what waits in it, whether it is ever drained or not.
func TestWorkers_QueueGivesBackMemory(t *testing.T) {
	t.Parallel()
	var w workers
	links := []*pollLink{{}, {}, {}}
	next, taken := 0, 0
	push := func() { w.pushLocked(job{l: links[next%3]}); next++ }
	take := func() {
		j, _ := w.takeLocked()
		require.Same(t, links[taken%3], j.l)
		taken++
	}
	push()
	for range 100_000 { // one always waits
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

// Whose job is under way for longer than between two looks does not count as active
// until it is done.
func TestWorkers_CountsTheWaitingApart(t *testing.T) {
	t.Parallel()
	w := workers{active: 100}
	looks := map[uint64]int{} // jobs under way by the look after which they were taken
	busy := 0
	check := func() {
		waiting := 0
		for look, n := range looks {
			if look+1 < w.look {
				waiting += n
			}
		}
		require.Equal(t, 100-waiting, w.active)
		require.Equal(t, looks[w.look], w.now)
	}
	for range 10_000 {
		switch rand.IntN(5) {
		case 0:
			w.turnLocked()
		case 1, 2:
			if busy < 100 {
				w.pushLocked(job{})
				_, look := w.takeLocked()
				looks[look]++
				busy++
			}
		default:
			for look, n := range looks {
				if n > 0 {
					w.doneLocked(look)
					looks[look]--
					busy--
					break
				}
			}
		}
		check()
	}
}
