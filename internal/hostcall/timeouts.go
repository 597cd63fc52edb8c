// Timeouts: one timer for all calls of a kind.

package hostcall

import (
	"sync"
	"time"

	"github.com/rodando/realtime/internal/chain"
)

// timeouts ends the calls of a kind that do not return within Limits.Timeout. All of them have
// the same timeout, so they are due in the order in which they started: one timer is enough, and
// a call that returns in time costs no timer.
type timeouts struct {
	mu    sync.Mutex // guards the fields below, and every due in the list
	calls chain.List[*due]
	timer *time.Timer
	armed bool // timer will fire, maybe for a call that has returned meanwhile
}

// due is when a call times out.
type due struct {
	chain.Node[*due]
	at   time.Time
	call interface{ timeOut() } // timeOut does not block
}

// add makes timeOut be called at d.at, unless d is removed before. Of the calls that are listed, none
// is due later, but for the microseconds in which several start at once.
func (t *timeouts) add(d *due) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d.Value = d
	t.calls.Push(&d.Node)
	t.armLocked()
}

// remove forgets a call that has returned, or that has timed out.
func (t *timeouts) remove(d *due) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.calls.Remove(&d.Node)
}

func (t *timeouts) armLocked() {
	oldest := t.calls.Oldest()
	if t.armed || oldest == nil {
		return
	}
	t.armed = true
	wait := time.Until(oldest.Value.at)
	if t.timer == nil {
		t.timer = time.AfterFunc(wait, t.fire)
		return
	}
	t.timer.Reset(wait)
}

// fire ends the calls that are due.
func (t *timeouts) fire() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for n := t.calls.Oldest(); n != nil && time.Until(n.Value.at) <= 0; n = t.calls.Oldest() {
		t.calls.Remove(n)
		t.mu.Unlock()
		n.Value.call.timeOut()
		t.mu.Lock()
	}
	t.armed = false
	t.armLocked()
}
