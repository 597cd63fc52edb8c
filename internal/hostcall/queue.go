// Queue: calls without a caller that waits for their results.

package hostcall

import (
	"context"
	"sync"
	"time"

	"github.com/rodando/realtime/internal/stackroom"
)

// QueueConfig configures a Queue. All fields are required.
type QueueConfig struct {
	Size    int           // maximum number of waiting calls; more are dropped
	Timeout time.Duration // a call that runs for one to two Timeouts is abandoned, and the next one starts
	// Abandoned is the maximum number of abandoned calls. At that number the queue does not
	// abandon a further call that is overdue: it drops new calls until that call or an
	// abandoned one returns. After 60 Timeouts it abandons the call all the same, and waits
	// twice as long for each further one.
	Abandoned int
	// Failed is called after a panic, after runtime.Goexit, and with ErrTimeout when a
	// call is overdue. It may be called concurrently.
	Failed func(err error)
	// Dropped is called with the number of calls dropped since its last call, at most
	// once per Timeout.
	Dropped func(calls int)
}

// Queue makes calls one after another, in the order in which they were added. Its
// goroutine exists only while there are calls. Its methods may be called concurrently.
type Queue struct {
	cfg QueueConfig

	mu          sync.Mutex // guards the fields below
	calls       []func()   // those before head are taken
	head        int
	worker      uint64        // the number of the goroutine that makes the calls
	working     bool          // there is such a goroutine
	calling     bool          // it makes a call now
	made        uint64        // calls started
	madeAtCheck uint64        // value of made when checkOverdue was scheduled
	slow        chan struct{} // closed when a call is overdue, replaced when one returns that is not abandoned
	closed      bool          // Close was called
	stalled     bool          // the running call is overdue, and no more calls may be abandoned
	stalledAt   time.Time     // since when
	abandoned   int
	dropped     int
	timer       *time.Timer
	timerArmed  bool
}

// stallFactor is how long a queue is stalled at first, as a multiple of its Timeout.
const stallFactor = 60

// NewQueue returns an empty queue.
func NewQueue(cfg QueueConfig) *Queue { return &Queue{cfg: cfg, slow: make(chan struct{})} }

// AddAndWait is Add, and waits until f has returned. It stops waiting when a call is overdue.
// From then on it does not wait at all, until a call has returned that is not abandoned.
func (q *Queue) AddAndWait(f func()) bool {
	wait, ok := q.AddThen(f)
	if ok {
		wait()
	}
	return ok
}

// AddThen is AddAndWait for a caller that waits later, if ok is true.
func (q *Queue) AddThen(f func()) (wait func(), ok bool) {
	done := make(chan struct{})
	q.mu.Lock()
	slow := q.slow
	q.mu.Unlock()
	if !q.Add(func() { defer close(done); f() }) {
		return nil, false
	}
	return func() {
		select {
		case <-done:
		case <-slow:
		}
	}, true
}

// Add appends f to the queue without blocking. It reports false when the queue is
// closed, full, or stalled by a call that is overdue: then f is dropped.
func (q *Queue) Add(f func()) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	if q.stalled || len(q.calls)-q.head >= q.cfg.Size {
		q.dropped++
		q.watchLocked()
		return false
	}
	q.addLocked(f)
	return true
}

func (q *Queue) addLocked(f func()) {
	if len(q.calls) == cap(q.calls) && q.head > len(q.calls)/2 {
		n := copy(q.calls, q.calls[q.head:])
		clear(q.calls[n:])
		q.calls, q.head = q.calls[:n], 0
	}
	q.calls = append(q.calls, f)
	if !q.working {
		q.startLocked()
	}
}

// Abandoned returns how many calls are abandoned now.
func (q *Queue) Abandoned() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.abandoned
}

// Len returns how many calls wait.
func (q *Queue) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.calls) - q.head
}

// Close makes the queue drop, without a report, what is added from now on.
func (q *Queue) Close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
}

// Wait waits until the calls that were added before it have returned or were
// abandoned, or until ctx ends; then it returns ctx.Err().
func (q *Queue) Wait(ctx context.Context) error {
	q.mu.Lock()
	if !q.working {
		q.mu.Unlock()
		return nil
	}
	done := make(chan struct{})
	q.addLocked(func() { close(done) })
	q.mu.Unlock()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (q *Queue) startLocked() {
	q.working = true
	q.worker++
	go q.work(q.worker)
	q.watchLocked()
}

// work makes the queued calls until there are none or one of them was abandoned.
func (q *Queue) work(worker uint64) {
	stackroom.Reserve()
	for {
		f, ok := q.take()
		if !ok || !q.call(worker, f) {
			return
		}
	}
}

// take returns the next call. ok is false when there is none.
func (q *Queue) take() (f func(), ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.head == len(q.calls) {
		q.calls, q.head, q.working = nil, 0, false
		return nil, false
	}
	f = q.calls[q.head]
	q.calls[q.head] = nil
	q.head++
	q.made++
	q.calling = true
	return f, true
}

// call makes one call, and reports whether the worker continues.
func (q *Queue) call(worker uint64, f func()) (goOn bool) {
	returned := false
	defer func() {
		if !returned {
			q.cfg.Failed(newExitError())
		}
		q.mu.Lock()
		defer q.mu.Unlock()
		switch {
		case q.worker != worker: // this call was abandoned and another worker continues
			q.abandoned--
			q.stalled = false
		case !returned: // runtime.Goexit ends this goroutine
			q.stalled, q.calling = false, false
			q.startLocked()
		default:
			q.stalled, q.calling = false, false
			if q.isSlowLocked() {
				q.slow = make(chan struct{})
			}
			goOn = true
		}
	}()
	if err := caught(func() error { f(); return nil }); err != nil {
		q.cfg.Failed(err)
	}
	returned = true
	return
}

func (q *Queue) isSlowLocked() bool {
	select {
	case <-q.slow:
		return true
	default:
		return false
	}
}

func (q *Queue) watchLocked() {
	if q.timerArmed {
		return
	}
	q.timerArmed = true
	q.madeAtCheck = q.made
	if q.timer == nil {
		q.timer = time.AfterFunc(q.cfg.Timeout, q.checkOverdue)
	} else {
		q.timer.Reset(q.cfg.Timeout)
	}
}

// checkOverdue abandons the running call if it was already running at the previous
// check, or stalls the queue if too many are abandoned. It also reports dropped calls.
func (q *Queue) checkOverdue() {
	q.mu.Lock()
	q.timerArmed = false
	dropped := q.dropped
	q.dropped = 0
	overdue := q.calling && q.made == q.madeAtCheck
	failed := false
	if overdue && !q.stalled {
		failed = true
		if !q.isSlowLocked() {
			close(q.slow)
		}
		if q.abandoned < q.cfg.Abandoned {
			q.abandoned++
			q.calling = false
			q.startLocked()
		} else {
			q.stalled, q.stalledAt = true, time.Now()
		}
	}
	if overdue && q.stalled && time.Since(q.stalledAt) >= doubled(stallFactor*q.cfg.Timeout, q.abandoned-q.cfg.Abandoned) {
		q.stalled, q.calling = false, false
		q.abandoned++
		q.startLocked()
	}
	if q.working || q.dropped > 0 {
		q.watchLocked()
	}
	q.mu.Unlock()
	if failed {
		q.cfg.Failed(ErrTimeout)
	}
	if dropped > 0 {
		q.cfg.Dropped(dropped)
	}
}
