// Package comebacks counts connections that end without having asked for anything. Some stock
// clients come back so, again and again, after they were disconnected for good.
package comebacks

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/rodando/realtime/internal/chain"
)

const (
	most     = 5 * time.Minute  // the longest time that Timeout returns, unless the base is longer
	memory   = 10 * time.Minute // how long an ended connection counts; longer than such a connection lasts
	maxPlace = 1 << 14          // places that are remembered; the oldest is forgotten first
)

// Table counts by place, which is any number that identifies where connections come from. Its
// methods may be called concurrently.
type Table struct {
	base   time.Duration
	filled atomic.Bool // places is not empty; set under mu, read without it: mostly it is false

	mu     sync.Mutex // guards the fields below, and every place
	places map[uint64]*place
	order  chain.List[*place] // by when a connection ended there last
}

type place struct {
	chain.Node[*place]
	id     uint64
	wait   time.Duration
	forget time.Time
}

// New returns an empty table. base is the time that a connection has to ask for something.
func New(base time.Duration) *Table { return &Table{base: base, places: map[uint64]*place{}} }

// Timeout returns the time that a new connection has: the base, doubled for each one in a row
// that ended at the place, up to 5 minutes.
func (t *Table) Timeout(id uint64) time.Duration {
	if !t.filled.Load() {
		return t.base
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.places[id]; p != nil && time.Now().Before(p.forget) {
		return p.wait
	}
	return t.base
}

// Ended counts a connection that has asked for nothing within its time.
func (t *Table) Ended(id uint64) {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.places[id]
	if p == nil || !now.Before(p.forget) {
		t.removeLocked(p)
		p = &place{id: id, wait: t.base}
		p.Value = p
		t.places[id] = p
	} else {
		t.order.Remove(&p.Node)
	}
	p.wait, p.forget = max(t.base, min(2*p.wait, most)), now.Add(memory)
	t.order.Push(&p.Node)
	for oldest := t.order.Oldest(); len(t.places) > maxPlace || !now.Before(oldest.Value.forget); oldest = t.order.Oldest() {
		t.removeLocked(oldest.Value)
	}
	t.filled.Store(true)
}

// Welcome forgets what ended at the place: somebody there has logged in.
func (t *Table) Welcome(id uint64) {
	if !t.filled.Load() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.removeLocked(t.places[id])
}

func (t *Table) removeLocked(p *place) {
	if p != nil {
		t.order.Remove(&p.Node)
		delete(t.places, p.id)
		t.filled.Store(len(t.places) > 0)
	}
}
