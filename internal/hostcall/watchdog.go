// Calls that run on the caller's goroutine, and are looked after from outside.

package hostcall

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rodando/realtime/internal/timingwheel"
)

// shards is how many parts the list of calls has, which keeps cores from waiting for
// each other.
const shards = 16

// WatchdogConfig sets a Watchdog up. All fields are required.
type WatchdogConfig struct {
	Wheel   *timingwheel.Wheel
	Parent  context.Context //nolint:containedctx // the parent of all calls' contexts; it has no deadline
	Timeout time.Duration   // the deadline of a call's context; after twice that the call is abandoned
	// Calls is how many calls may be running at once, and PerHandler how many of them
	// of one handler; Abandoned is how many of one handler's may be abandoned before
	// no more are begun. Not positive: no limit.
	Calls, PerHandler, Abandoned int
}

// Watchdog knows the calls that are running, of which there are many and most are
// short: it looks at them now and then as long as there are any, since a timer for
// each would cost more than most handlers do. Its methods may be called concurrently.
type Watchdog struct {
	cfg      WatchdogConfig
	running  atomic.Int64
	watching atomic.Bool // the timer is armed, or about to be
	timer    timingwheel.Timer
	next     atomic.Uint32 // the shard that was handed out last
	shards   [shards]shard
}

// shard is a list of calls.
type shard struct {
	mu    sync.Mutex // guards first, and the links of the calls
	first *Call
}

// Handler counts the calls of one handler.
type Handler struct{ running, abandoned atomic.Int32 }

// Owner is whose call it is.
type Owner interface {
	// Abandoned is called once when the call has exceeded its time, and is to answer
	// in its place.
	Abandoned(took time.Duration)
}

// Call is a call that is running. It is the context that the code gets, and embedded
// in what knows more of the call, which then costs one allocation.
type Call struct {
	Context
	owner    Owner
	handler  *Handler
	finished atomic.Bool // returned or abandoned, whichever came first
	shard    uint8

	prev, next *Call
}

// Start sets the watchdog up.
func (w *Watchdog) Start(cfg WatchdogConfig) {
	w.cfg = cfg
	w.timer.F = func() { go w.look() }
}

// Shard returns where the calls of one caller are listed, who has few at a time.
func (w *Watchdog) Shard() uint8 { return uint8(w.next.Add(1) % shards) }

// Begin lists a call of a handler. The error is ErrBusy, ErrBusyHandler or
// ErrAbandoned: then it must not be made.
func (w *Watchdog) Begin(c *Call, owner Owner, h *Handler, shard uint8, start time.Time) error {
	if limit := w.cfg.Abandoned; limit > 0 && int(h.abandoned.Load()) >= limit {
		return ErrAbandoned
	}
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
	c.Context.Start(w.cfg.Parent, start.Add(w.cfg.Timeout))
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

// End takes a call off the list that has returned, and reports whether it had not
// been abandoned.
func (w *Watchdog) End(c *Call) bool {
	c.Context.End()
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
	if c.finished.CompareAndSwap(false, true) {
		return true
	}
	c.handler.abandoned.Add(-1)
	return false
}

func (w *Watchdog) watch() {
	if !w.watching.Load() && w.watching.CompareAndSwap(false, true) {
		w.cfg.Wheel.Arm(&w.timer, w.cfg.Timeout)
	}
}

// look abandons the calls that have had twice their time.
func (w *Watchdog) look() {
	w.watching.Store(false) // before it looks, so that a call that begins meanwhile is seen or arms the timer
	now := time.Now()
	var overdue []*Call
	wait := false
	for i := range w.shards {
		s := &w.shards[i]
		s.mu.Lock()
		for c := s.first; c != nil; c = c.next {
			switch {
			case c.finished.Load(): // abandoned before
			case w.took(c, now) >= 2*w.cfg.Timeout:
				overdue = append(overdue, c)
			default:
				wait = true
			}
		}
		s.mu.Unlock()
	}
	for _, c := range overdue {
		// Counted first, since End takes it back as soon as it is marked.
		c.handler.abandoned.Add(1)
		if !c.finished.CompareAndSwap(false, true) {
			c.handler.abandoned.Add(-1) // it returned meanwhile
			continue
		}
		c.owner.Abandoned(w.took(c, now))
	}
	if wait {
		w.watch()
	}
}

func (w *Watchdog) took(c *Call, now time.Time) time.Duration {
	return now.Sub(c.deadline) + w.cfg.Timeout
}
