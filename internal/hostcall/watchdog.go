// The watchdog over handlers: calls that run on the caller's goroutine.

package hostcall

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rodando/realtime/internal/timingwheel"
)

// shards is the number of lists of running calls; several reduce lock contention.
const shards = 16

// WatchdogConfig configures a Watchdog. All fields are required.
type WatchdogConfig struct {
	Wheel   *timingwheel.Wheel
	Parent  context.Context //nolint:containedctx // the parent of all calls' contexts; it has no deadline
	Timeout time.Duration   // deadline of a call's context; a call that runs for two to three Timeouts is abandoned
	// Calls is the maximum number of calls that run at once, PerHandler that of one
	// handler. An abandoned call counts until it returns. Not positive means no limit.
	Calls, PerHandler int
}

// Watchdog lists the calls that are running. As long as there are any it checks them
// once per Timeout: a timer for each call would cost more than most handlers do. Its
// methods may be called concurrently once Start has returned.
type Watchdog struct {
	cfg      WatchdogConfig
	running  atomic.Int64
	watching atomic.Bool // the timer is armed, or about to be
	timer    timingwheel.Timer
	next     atomic.Uint32 // how often the method Shard was called
	shards   [shards]shard
}

// shard is a list of running calls.
type shard struct {
	mu    sync.Mutex // guards first, and prev and next of the calls in this shard
	first *Call
}

// Handler counts the calls of one handler. Its zero value is ready to use.
type Handler struct{ running atomic.Int32 }

// Owner answers for a call that was abandoned.
type Owner interface {
	// Abandoned is called once, on another goroutine, when the call has run for two to
	// three times WatchdogConfig.Timeout.
	Abandoned(took time.Duration)
}

// Call is a running call, and the context that its handler gets. Embed it in the
// caller's own record of the call: both then are one allocation.
type Call struct {
	Context
	owner    Owner
	handler  *Handler
	finished atomic.Bool // returned or abandoned, whichever came first
	shard    uint8

	prev, next *Call // the neighbors in its shard; the shard's mu guards them
}

// Start configures the watchdog. It is called once, before any other method.
func (w *Watchdog) Start(cfg WatchdogConfig) {
	w.cfg = cfg
	w.timer.F = func() { go w.checkOverdue() }
}

// Shard returns a shard number for the calls of one socket, round robin.
func (w *Watchdog) Shard() uint8 { return uint8(w.next.Add(1) % shards) }

// Begin registers a call of a handler. On an error, which is ErrBusy or
// ErrBusyHandler, the call must not be made.
func (w *Watchdog) Begin(c *Call, owner Owner, h *Handler, shard uint8, start time.Time) error {
	all, own := w.running.Add(1), h.running.Add(1)
	var err error
	switch {
	case w.cfg.PerHandler > 0 && int(own) > w.cfg.PerHandler:
		err = ErrBusyHandler
	case w.cfg.Calls > 0 && all > int64(w.cfg.Calls):
		err = ErrBusy
	}
	if err != nil {
		w.running.Add(-1)
		h.running.Add(-1)
		return err
	}
	c.owner, c.handler, c.shard = owner, h, shard
	c.Start(w.cfg.Parent, start.Add(w.cfg.Timeout))
	s := &w.shards[shard]
	s.mu.Lock()
	if c.next = s.first; c.next != nil {
		c.next.prev = c
	}
	s.first = c
	s.mu.Unlock()
	w.watch()
	return nil
}

// End unregisters a call that has returned. It reports true unless the call had been
// abandoned.
func (w *Watchdog) End(c *Call) bool {
	c.End()
	s := &w.shards[c.shard]
	s.mu.Lock()
	if c.next != nil {
		c.next.prev = c.prev
	}
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		s.first = c.next
	}
	s.mu.Unlock()
	w.running.Add(-1)
	c.handler.running.Add(-1)
	return c.finished.CompareAndSwap(false, true)
}

func (w *Watchdog) watch() {
	if !w.watching.Load() && w.watching.CompareAndSwap(false, true) {
		w.cfg.Wheel.Arm(&w.timer, w.cfg.Timeout)
	}
}

// checkOverdue abandons the calls that have run for at least twice the timeout.
func (w *Watchdog) checkOverdue() {
	w.watching.Store(false) // first: a call that begins from here on is seen below, or arms the timer
	now := time.Now()
	var overdue []*Call
	wait := false
	for i := range w.shards {
		s := &w.shards[i]
		s.mu.Lock()
		for c := s.first; c != nil; c = c.next {
			switch {
			case c.finished.Load(): // already abandoned
			case w.took(c, now) >= 2*w.cfg.Timeout:
				overdue = append(overdue, c)
			default:
				wait = true
			}
		}
		s.mu.Unlock()
	}
	for _, c := range overdue {
		if c.finished.CompareAndSwap(false, true) { // else it returned meanwhile
			c.owner.Abandoned(w.took(c, now))
		}
	}
	if wait {
		w.watch()
	}
}

func (w *Watchdog) took(c *Call, now time.Time) time.Duration {
	return now.Sub(c.deadline) + w.cfg.Timeout
}

// Running returns the owners of the calls that run, abandoned ones included.
func (w *Watchdog) Running() (owners []Owner) {
	for i := range w.shards {
		s := &w.shards[i]
		s.mu.Lock()
		for c := s.first; c != nil; c = c.next {
			owners = append(owners, c.owner)
		}
		s.mu.Unlock()
	}
	return owners
}

// Abandoned returns how many calls are abandoned now.
func (w *Watchdog) Abandoned() (n int) {
	for i := range w.shards {
		s := &w.shards[i]
		s.mu.Lock()
		for c := s.first; c != nil; c = c.next {
			if c.finished.Load() { // End removes a call before it sets this
				n++
			}
		}
		s.mu.Unlock()
	}
	return n
}
