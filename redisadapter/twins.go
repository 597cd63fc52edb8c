// Twins: another process with this node's id, such as a copy of its virtual machine. Each would
// drop the other's messages as its own, and neither would notice.

package redisadapter

import (
	"crypto/rand"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/rodando/realtime"
)

var errTwin = errors.New("redisadapter: another process has this node's id; restart one of them")

// twins recognizes this process' own notices by the random marks in them. A copy of the process
// draws others from then on.
type twins struct {
	link link // stands for the twin in Adapter.health and gaps

	mu    sync.Mutex // guards the rest
	marks []string   // the last ones, the newest last
	drawn time.Time  // when the newest was
	seen  time.Time  // when a twin's notice last arrived; zero: there is no twin
	since time.Time  // when its first one did
}

// maxMarks is for some minutes of notices: so late they may arrive after Redis was stopped.
const maxMarks = 128

// mark returns the mark for a notice. It draws a new one after every has passed.
func (t *twins) mark(now time.Time, every time.Duration) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := len(t.marks); n > 0 && now.Sub(t.drawn) < every {
		return t.marks[n-1]
	}
	if len(t.marks) == maxMarks {
		t.marks = slices.Delete(t.marks, 0, 1)
	}
	t.marks, t.drawn = append(t.marks, rand.Text()), now
	return t.marks[len(t.marks)-1]
}

func (t *twins) isMark(mark string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Contains(t.marks, mark)
}

// twinFound is called when a notice has arrived that another process sent with this node's id.
func (a *Adapter) twinFound(now time.Time) {
	a.twins.mu.Lock()
	first := a.twins.seen.IsZero()
	a.twins.seen = now
	if first {
		a.twins.since = now
	}
	a.twins.mu.Unlock()
	if !first {
		return
	}
	a.mu.Lock()
	a.health[&a.twins.link] = errTwin
	a.mu.Unlock()
	a.receiving(errTwin)
	a.log.Error("redisadapter: not all messages of other nodes are received", "error", errTwin)
}

// twinEnded ends twinFound when no such notice has arrived for as long as it takes to forget a
// node.
func (a *Adapter) twinEnded(now time.Time) {
	a.twins.mu.Lock()
	since := a.twins.since
	ended := !a.twins.seen.IsZero() && now.Sub(a.twins.seen) > a.timing.forget
	if ended {
		a.twins.seen = time.Time{}
	}
	a.twins.mu.Unlock()
	if !ended {
		return
	}
	a.mu.Lock()
	delete(a.health, &a.twins.link)
	a.mu.Unlock()
	if a.Check(a.ctx) == nil {
		a.receiving(nil)
	}
	a.log.Info("redisadapter: no other process has this node's id any more")
	a.gap(realtime.Gap{Since: since.Add(-a.timing.beat), Until: now, Reason: "another process had this node's id"})
}
