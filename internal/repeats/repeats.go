// Package repeats remembers the answers to calls, so that a call that a client repeats, because it
// received no answer, is not made again.
package repeats

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/rodando/realtime/internal/chain"
	"github.com/rodando/realtime/internal/timingwheel"
)

// Config configures a Table. All fields are required.
type Config struct {
	PerUser int           // calls of one user that are remembered; not positive: none, and no call is a repeat
	Bytes   int           // of all answers
	Share   int           // of one user's answers, and so of one answer
	Keep    time.Duration // how long a call is remembered, from its end
	Wheel   *timingwheel.Wheel
}

// ID identifies a call of a user.
type ID struct{ Namespace, Event, Key string }

// Answer is what a call is answered with.
type Answer struct {
	Args        [][]byte `json:"args"`
	Attachments [][]byte `json:"attachments,omitempty"`
	Code        string   `json:"code,omitempty"`
}

// overhead is about what a remembered call takes beside its strings and its answer.
const overhead = 320

// Table holds the calls that run and those that are remembered. When one of its bounds is reached,
// the oldest remembered call makes room: that of the user first, so that a user who repeats nothing
// and uses many keys forgets only their own. The methods may be called concurrently.
type Table struct {
	cfg   Config
	timer timingwheel.Timer

	mu         sync.Mutex // guards the fields below, and every user and Call except Call.Key, Call.body and Call.ended
	users      map[string]*user
	remembered chain.List[*Call] // by their end
	bytes      int
}

type user struct {
	calls      map[ID]*Call
	remembered chain.List[*Call]
	count      int // of remembered
	bytes      int
}

// Call is a call that runs, or is remembered.
type Call struct {
	// Key is what End of a later call returns when this one makes room for it, unless it is empty. It is
	// set before End.
	Key string

	table  *Table
	user   string
	id     ID
	body   uint64
	ended  chan struct{} // closed when the call has ended
	answer Answer        // once it has ended
	until  time.Time     // when it is forgotten; zero while it runs
	size   int
	all    chain.Node[*Call] // in Table.remembered
	own    chain.Node[*Call] // in user.remembered
}

// New returns an empty table.
func New(c Config) *Table {
	t := &Table{cfg: c, users: map[string]*user{}}
	t.timer.F = t.forgetOld
	return t
}

// Begin returns the call of a user with that id. first says that it is new: the caller makes the call,
// and then calls its End. Otherwise it runs, or has ended. same is false if it is not new, and was
// begun with another body.
func (t *Table) Begin(name string, id ID, body uint64) (c *Call, first, same bool) {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forgetLocked(now)
	u := t.users[name]
	if u == nil {
		u = &user{calls: map[ID]*Call{}}
		t.users[name] = u
	}
	if c := u.calls[id]; c != nil {
		return c, false, c.body == body
	}
	c = &Call{table: t, user: name, id: id, body: body, ended: make(chan struct{})}
	c.all.Value, c.own.Value = c, c
	u.calls[id] = c
	return c, true, true
}

// End ends the call with its answer, which those who wait for it receive too. If keep is true it
// is remembered, as long as there is room. forgotten has the keys of the calls that have made room for it, or
// its own if it is too large to be remembered.
func (c *Call) End(a Answer, keep bool) (forgotten []string) {
	t := c.table
	c.size = overhead + 2*len(c.user) + len(c.id.Event) + len(c.id.Key) + len(c.Key)
	a.Args, a.Attachments = c.copied(a.Args), c.copied(a.Attachments)
	t.mu.Lock()
	defer t.mu.Unlock()
	c.answer = a
	close(c.ended)
	u := t.users[c.user]
	switch {
	case !keep:
		t.dropLocked(u, c)
		return nil
	case c.size > t.cfg.Share || c.size > t.cfg.Bytes || t.cfg.PerUser <= 0:
		t.dropLocked(u, c)
		return c.appendKey(nil)
	}
	for u.count >= t.cfg.PerUser || u.bytes+c.size > t.cfg.Share {
		forgotten = t.makeRoomLocked(u.remembered.Oldest().Value, forgotten)
	}
	for t.bytes+c.size > t.cfg.Bytes {
		forgotten = t.makeRoomLocked(t.remembered.Oldest().Value, forgotten)
	}
	c.until = time.Now().Add(t.cfg.Keep)
	u.remembered.Push(&c.own)
	u.count++
	u.bytes += c.size
	t.bytes += c.size
	if t.remembered.Oldest() == nil {
		t.cfg.Wheel.Arm(&t.timer, t.cfg.Keep)
	}
	t.remembered.Push(&c.all)
	return forgotten
}

// makeRoomLocked forgets a call, and adds its key to those that are forgotten.
func (t *Table) makeRoomLocked(c *Call, forgotten []string) []string {
	t.forgetCallLocked(c)
	return c.appendKey(forgotten)
}

func (c *Call) appendKey(keys []string) []string {
	if c.Key == "" {
		return keys
	}
	return append(keys, c.Key)
}

// copied returns a copy of what the host has returned, and counts its size.
func (c *Call) copied(all [][]byte) [][]byte {
	all = slices.Clone(all)
	for i, b := range all {
		all[i] = slices.Clone(b)
		c.size += len(b) + 24
	}
	return all
}

// Wait waits until the call has ended, and returns its answer. ok is false if ctx has ended before.
func (c *Call) Wait(ctx context.Context) (a Answer, ok bool) {
	select {
	case <-c.ended:
		return c.answer, true
	default:
	}
	select {
	case <-c.ended:
		return c.answer, true
	case <-ctx.Done():
		return Answer{}, false
	}
}

// Bytes returns the size of what is remembered.
func (t *Table) Bytes() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.bytes
}

// forgetOld is the callback of the timer.
func (t *Table) forgetOld() {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	t.forgetLocked(now)
	if oldest := t.remembered.Oldest(); oldest != nil {
		t.cfg.Wheel.Arm(&t.timer, oldest.Value.until.Sub(now))
	}
}

func (t *Table) forgetLocked(now time.Time) {
	for oldest := t.remembered.Oldest(); oldest != nil && !now.Before(oldest.Value.until); oldest = t.remembered.Oldest() {
		t.forgetCallLocked(oldest.Value)
	}
}

// forgetCallLocked forgets a call that is remembered.
func (t *Table) forgetCallLocked(c *Call) {
	u := t.users[c.user]
	t.remembered.Remove(&c.all)
	u.remembered.Remove(&c.own)
	u.count--
	u.bytes -= c.size
	t.bytes -= c.size
	t.dropLocked(u, c)
}

// dropLocked removes a call from the table, and its user with the last one.
func (t *Table) dropLocked(u *user, c *Call) {
	delete(u.calls, c.id)
	if len(u.calls) == 0 {
		delete(t.users, c.user)
	}
}
