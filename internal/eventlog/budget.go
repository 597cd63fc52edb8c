// Budget: what the logs of a node may keep together.

package eventlog

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// Budget bounds the events of several logs together. When they are too many, the oldest one goes. All
// methods may be called concurrently.
type Budget[M any] struct {
	maxEvents, maxBytes int64
	events, bytes       atomic.Int64

	mu   sync.Mutex // guards logs
	logs []*Log[M]
}

// NewBudget returns a budget of a number of events, and of the bytes of memory that they take.
func NewBudget[M any](events, bytes int) *Budget[M] {
	return &Budget[M]{maxEvents: int64(events), maxBytes: int64(bytes)}
}

func (b *Budget[M]) join(l *Log[M]) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.logs = append(b.logs, l)
}

func (b *Budget[M]) add(events, bytes int) {
	b.events.Add(int64(events))
	b.bytes.Add(int64(bytes))
}

func (b *Budget[M]) exceeded() bool { return b.less(int(b.events.Load()), int(b.bytes.Load())) }

// less reports whether the budget is less than so much.
func (b *Budget[M]) less(events, bytes int) bool {
	return int64(events) > b.maxEvents || int64(bytes) > b.maxBytes
}

// oldest returns the log with the oldest event, or nil.
func (b *Budget[M]) oldest() (oldest *Log[M]) {
	b.mu.Lock()
	defer b.mu.Unlock()
	first := int64(math.MaxInt64)
	for _, l := range b.logs {
		if at := l.first.Load(); at < first {
			oldest, first = l, at
		}
	}
	return oldest
}

// noFirst is Log.first of a log without events.
const noFirst = math.MaxInt64

// trimLocked drops the oldest events until all logs are within their budget. If another log has the oldest
// one, and emits at present, this one drops its own. If that one inherits at present, all are trimmed when it has.
func (l *Log[M]) trimLocked(now time.Time) {
	tooOld := now.Add(-l.cfg.Window - l.cfg.Unnoticed)
	for e := l.oldestLocked(); e != nil && e.at.Before(tooOld); e = l.oldestLocked() {
		l.evictLocked()
	}
	for b := l.cfg.Budget; b.exceeded(); {
		switch o := b.oldest(); {
		case o == nil, o != l && o.grows.Load():
			return
		case o != l && o.mu.TryLock():
			if o.lenLocked() > 0 {
				o.evictLocked()
			}
			o.mu.Unlock()
		case l.lenLocked() == 0:
			return
		default:
			l.evictLocked()
		}
	}
}
