// The queue: order, faults, abandoned calls and overflow.

package hostcall_test

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/hostcall"
	"github.com/rodando/realtime/internal/testkit"
)

// queued is a Queue that records what it reports.
type queued struct {
	*hostcall.Queue

	mu      sync.Mutex // guards the fields below
	failed  []error
	dropped int
}

func (q *queued) failures() []error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.failed
}

func (q *queued) drops() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.dropped
}

func newQueue(size, abandoned int) *queued {
	q := &queued{}
	q.Queue = hostcall.NewQueue(hostcall.QueueConfig{
		Size: size, Timeout: time.Second, Abandoned: abandoned,
		Failed: func(err error) {
			q.mu.Lock()
			defer q.mu.Unlock()
			q.failed = append(q.failed, err)
		},
		Dropped: func(n int) {
			q.mu.Lock()
			defer q.mu.Unlock()
			q.dropped += n
		},
	})
	return q
}

func TestQueue_KeepsOrder(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		q := newQueue(1000, 1)
		var got, want []int
		for i := range 1000 {
			want = append(want, i)
			require.True(t, q.Add(func() { got = append(got, i) }))
			if i%7 == 0 {
				synctest.Wait()
			}
		}
		require.NoError(t, q.Wait(t.Context()))
		require.Equal(t, want, got)
		require.Empty(t, q.failures())
		synctest.Wait()
		require.NoError(t, q.Wait(t.Context()), "with nothing to wait for")
	})
}

func TestQueue_ContinuesAfterFaults(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		q := newQueue(100, 1)
		n := 0
		for _, f := range []func(){func() { panic("oh") }, func() { n++ }, runtime.Goexit, func() { n++ }, nil, func() { n++ }} {
			q.Add(f)
		}
		require.NoError(t, q.Wait(t.Context()))
		require.Equal(t, 3, n)
		require.Len(t, q.failures(), 3)
		require.EqualError(t, q.failures()[0], "panic: oh")
		require.ErrorContains(t, q.failures()[1], "Goexit")
		require.Contains(t, hostcall.Stack(q.failures()[1]), "Goexit")
	})
}

// A call that hangs delays the next one by at most twice the timeout. When too many
// hang, calls are dropped.
func TestQueue_Abandons(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		q := newQueue(3, 2)
		hold := make(chan struct{})
		hang := func() { <-hold }
		var made atomic.Int64
		for range 2 {
			start := time.Now()
			q.Add(hang)
			q.Add(func() { made.Add(1) })
			require.NoError(t, q.Wait(t.Context()))
			require.LessOrEqual(t, time.Since(start), 2*time.Second)
		}
		require.EqualValues(t, 2, made.Load())
		require.Len(t, q.failures(), 2)
		require.ErrorIs(t, q.failures()[0], hostcall.ErrTimeout)

		q.Add(hang) // one too many
		q.Add(func() { made.Add(1) })
		time.Sleep(3 * time.Second)
		require.Len(t, q.failures(), 3)
		require.False(t, q.Add(func() { made.Add(1) }), "the queue is stalled")
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.Error(t, q.Wait(short))
		time.Sleep(2 * time.Second)
		require.Positive(t, q.drops())
		require.EqualValues(t, 2, made.Load())
		close(hold)
		synctest.Wait()
		require.EqualValues(t, 3, made.Load(), "the call that was queued")
		require.True(t, q.Add(func() { made.Add(1) }))
		require.NoError(t, q.Wait(t.Context()))
		require.EqualValues(t, 4, made.Load())
	})
}

// A call that has not begun when the queue looks is not overdue: the queue was idle before.
func TestQueue_CallAfterAPauseIsNotOverdue(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		q := newQueue(10, 3)
		for range 2000 { // the order of what happens at one time is random
			q.Add(func() { time.Sleep(1500 * time.Millisecond) })
			time.Sleep(2 * time.Second)
			q.AddAndWait(func() {})
			time.Sleep(3 * time.Second)
		}
		require.Empty(t, q.failures())
	})
}

func TestQueue_Overflow(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		q := newQueue(2, 1)
		hold := make(chan struct{})
		q.Add(func() { <-hold })
		synctest.Wait()
		require.True(t, q.Add(func() {}))
		require.True(t, q.Add(func() {}))
		require.False(t, q.Add(func() {}))
		close(hold)
		require.NoError(t, q.Wait(t.Context()))
		time.Sleep(2 * time.Second)
		require.Equal(t, 1, q.drops())
	})
}

// AddAndWait stops waiting when a call is overdue, and does not wait again until a call
// has returned in time.
func TestQueue_AddAndWait(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		q := newQueue(100, 2)
		made := 0
		took := func(f func()) time.Duration {
			start := time.Now()
			require.True(t, q.AddAndWait(f))
			return time.Since(start)
		}
		require.Zero(t, took(func() { made++ }))
		require.Equal(t, 1, made)
		require.Zero(t, took(func() { panic("oh") }))
		require.Zero(t, took(runtime.Goexit))
		require.Equal(t, time.Second/2, took(func() { time.Sleep(time.Second / 2) }))
		hold := make(chan struct{})
		require.LessOrEqual(t, took(func() { <-hold }), 2*time.Second)
		for range 5 {
			require.Zero(t, took(func() { <-hold }))
		}
		close(hold)
		synctest.Wait()
		require.Equal(t, time.Second/2, took(func() { time.Sleep(time.Second / 2); made++ }), "calls return in time again")
		require.Equal(t, 2, made)
	})
}

// A queue that is stalled makes its calls again after a pause, which doubles.
func TestQueue_CallsAgain(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		q := newQueue(3, 2)
		hold := make(chan struct{})
		var made atomic.Int64
		for range 2 {
			q.Add(func() { <-hold })
			q.Add(func() { made.Add(1) })
			require.NoError(t, q.Wait(t.Context()))
		}
		for i, pause := range []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute} {
			q.Add(func() { <-hold })
			q.Add(func() { made.Add(1) })
			time.Sleep(pause - time.Second)
			require.EqualValues(t, 2+i, made.Load())
			require.False(t, q.Add(func() {}), "stalled")
			time.Sleep(5 * time.Second)
			require.EqualValues(t, 3+i, made.Load())
			for range 100 {
				require.True(t, q.AddAndWait(func() {}))
			}
		}
		close(hold)
		synctest.Wait()
	})
}

// A closed queue makes the calls that it has, and drops further ones without a report.
func TestQueue_Close(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		q := newQueue(4, 1)
		made := make(chan int, 4)
		require.True(t, q.Add(func() { time.Sleep(time.Second / 2); made <- 1 }))
		q.Close()
		require.False(t, q.Add(func() { made <- 2 }))
		require.NoError(t, q.Wait(t.Context()))
		time.Sleep(3 * time.Second)
		require.Len(t, made, 1)
		require.Zero(t, q.drops())
	})
}
