// Calls that nobody waits for.

package hostcall

import (
	"context"
	"sync"
	"time"
)

// QueueConfig sets a Queue up. All fields are required.
type QueueConfig struct {
	Size      int           // calls that may wait; more are dropped
	Timeout   time.Duration // after once to twice that a call is abandoned, and the next one made
	Abandoned int           // how many may be; then calls are dropped until one returns
	// Failed is told of a panic, of runtime.Goexit and of a call that was abandoned.
	Failed func(err error)
	// Dropped is told how many calls were dropped since it was told last, not more
	// often than once in Timeout.
	Dropped func(calls int)
}

// Queue makes calls one after another, in the order in which they were added, on a
// goroutine that exists while there are any. Its methods may be called concurrently.
type Queue struct {
	cfg QueueConfig

	mu         sync.Mutex // guards what follows
	calls      []func()   // those before head are taken
	head       int
	worker     uint64 // the number of the goroutine that makes the calls
	working    bool
	made       uint64        // calls begun
	seen       uint64        // of them, when it was looked at last
	slow       chan struct{} // closed when a call is overdue, replaced when one has returned in time
	jammed     bool          // the call that runs is overdue, and no more may be abandoned
	abandoned  int
	dropped    int
	timer      *time.Timer
	timerArmed bool
}

// NewQueue returns an empty queue.
func NewQueue(cfg QueueConfig) *Queue { return &Queue{cfg: cfg, slow: make(chan struct{})} }

// AddAndWait is Add for a call that is to have been made when it returns, as long as
// the calls are quick: when one is overdue nobody waits until one is not.
func (q *Queue) AddAndWait(f func()) bool {
	done := make(chan struct{})
	q.mu.Lock()
	slow := q.slow
	q.mu.Unlock()
	if !q.Add(func() { defer close(done); f() }) {
		return false
	}
	select {
	case <-done:
	case <-slow:
	}
	return true
}

// Add has f called when those before it have been, and reports whether there was
// room for it. It waits for nothing.
func (q *Queue) Add(f func()) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.jammed || len(q.calls)-q.head >= q.cfg.Size {
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

// Wait returns when the calls that were added before have been made, or when ctx
// ends.
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

// work makes the calls, unless it is abandoned.
func (q *Queue) work(worker uint64) {
	for {
		f, ok := q.take(worker)
		if !ok || !q.call(worker, f) {
			return
		}
	}
}

// take returns the next call, if there is one for this worker.
func (q *Queue) take(worker uint64) (f func(), ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.worker != worker { // abandoned before it got as far
		q.abandoned--
		return nil, false
	}
	if q.head == len(q.calls) {
		q.calls, q.head, q.working = nil, 0, false
		return nil, false
	}
	f = q.calls[q.head]
	q.calls[q.head] = nil
	q.head++
	q.made++
	return f, true
}

// call makes a call, and reports whether the worker is to go on.
func (q *Queue) call(worker uint64, f func()) (goOn bool) {
	returned := false
	defer func() {
		if !returned {
			q.cfg.Failed(newExitError())
		}
		q.mu.Lock()
		defer q.mu.Unlock()
		switch {
		case q.worker != worker: // somebody else goes on
			q.abandoned--
			q.jammed = false
		case !returned: // this goroutine ends
			q.jammed = false
			q.startLocked()
		default:
			if q.jammed = false; q.isSlowLocked() {
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
	q.seen = q.made
	if q.timer == nil {
		q.timer = time.AfterFunc(q.cfg.Timeout, q.look)
	} else {
		q.timer.Reset(q.cfg.Timeout)
	}
}

// look abandons the call that was running when it looked last.
func (q *Queue) look() {
	q.mu.Lock()
	q.timerArmed = false
	dropped := q.dropped
	q.dropped = 0
	overdue := q.working && q.made == q.seen && q.made > 0
	failed := false
	if overdue && !q.jammed {
		failed = true
		if !q.isSlowLocked() {
			close(q.slow)
		}
		if q.abandoned < q.cfg.Abandoned {
			q.abandoned++
			q.startLocked()
		} else {
			q.jammed = true
		}
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
