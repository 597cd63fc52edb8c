// Timeouts: one timer for all calls of a kind.

package hostcall

import (
	"sync"
	"time"
)

// timeouts ends the calls of a kind that do not return within Limits.Timeout. All of them have
// the same timeout, so they are due in the order in which they started: one timer is enough, and
// a call that returns in time costs no timer.
type timeouts struct {
	mu             sync.Mutex // guards the fields below, and every due in the list
	oldest, newest *due
	timer          *time.Timer
	armed          bool // timer will fire, maybe for a call that has returned meanwhile
}

// due is when a call times out.
type due struct {
	at           time.Time
	call         interface{ timeOut() } // timeOut does not block
	listed       bool
	older, newer *due
}

// add makes timeOut be called at d.at, unless d is removed before. Of the calls that are listed, none
// is due later, but for the microseconds in which several start at once.
func (t *timeouts) add(d *due) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d.listed, d.older = true, t.newest
	if t.newest == nil {
		t.oldest = d
	} else {
		t.newest.newer = d
	}
	t.newest = d
	t.armLocked()
}

// remove forgets a call that has returned, or that has timed out.
func (t *timeouts) remove(d *due) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.removeLocked(d)
}

func (t *timeouts) removeLocked(d *due) {
	if !d.listed {
		return
	}
	if d.older == nil {
		t.oldest = d.newer
	} else {
		d.older.newer = d.newer
	}
	if d.newer == nil {
		t.newest = d.older
	} else {
		d.newer.older = d.older
	}
	d.listed, d.older, d.newer = false, nil, nil
}

func (t *timeouts) armLocked() {
	if t.armed || t.oldest == nil {
		return
	}
	t.armed = true
	wait := time.Until(t.oldest.at)
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
	for d := t.oldest; d != nil && time.Until(d.at) <= 0; d = t.oldest {
		t.removeLocked(d)
		t.mu.Unlock()
		d.call.timeOut()
		t.mu.Lock()
	}
	t.armed = false
	t.armLocked()
}
