//go:build unix

// The oracle: what was published, what the nodes reported, when what was in trouble, and all
// breaches.

package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rodando/realtime/internal/cmd/internal/rides"
	"github.com/rodando/realtime/internal/cmd/internal/stresskit"
	"github.com/rodando/realtime/realtimetest"
)

const (
	// recentNotes is how many faults a breach names.
	recentNotes = 6
	// healing is how long the cluster has, after a fault was repaired, to repair its state.
	healing = 10 * time.Second
	// heapGrowth is how many bytes of garbage-free heap a node may leave behind.
	heapGrowth = 24 << 20
)

// fact is a published event of a trip.
type fact struct {
	id      string
	trip    *trip
	seq     int                       // within the trip, from 0
	at      time.Time                 // before it was published
	taken   time.Time                 // when the bus had accepted it; zero until then
	hears   map[rides.Audience]string // under which name
	handled []handling                // in the order of time
	first   time.Time                 // when the first client received it; zero: nobody did
	again   bool                      // published again with the same id, because nobody knew whether the bus had accepted it
	missed  bool                      // reported as not handled
	// unaddressed are the namespaces to which it was not sent, because who is there was not known.
	unaddressed []string
}

// handling is a report of a node that it has emitted an event.
type handling struct {
	by       *life // nil: unknown, because the node was killed before it could report
	at       time.Time
	outdated bool // it was not emitted, because the node knew something newer
}

// handledLocked records a handling. The report of a node that was stopped meanwhile comes after those of later ones.
func (f *fact) handledLocked(h handling) {
	i := len(f.handled)
	for i > 0 && f.handled[i-1].at.After(h.at) {
		i--
	}
	f.handled = slices.Insert(f.handled, i, h)
}

// trip is what the oracle knows about a trip. oracle.mu guards it.
type trip struct {
	id                string
	passenger, driver string // the driver once one is assigned
	facts             []*fact
}

// connection is a client, from its hello to its end. oracle.mu guards the fields from end on.
type connection struct {
	*realtimetest.Client
	life                 *life
	namespace, user, sid string
	hello                time.Time
	recovered            bool // it says that it continues former
	epoch                int  // which of the user's connections it is

	end    time.Time // zero while it is connected
	joined map[string]bool
	gaveUp int                     // calls that have ended without an acknowledgment: it may still come
	former *connection             // that it claims; nil: none, or it is judged
	cut    []realtimetest.Received // what it has received, if its device has lost it
	state  *judgement              // once it is judged
}

// forgotten is what the oracle keeps of a trip that has ended long ago.
type forgotten struct {
	passenger, driver string
	runsOn            bool // some nodes may not know that it has ended
}

// departure is the end of a user's last connection.
type departure struct {
	at    time.Time
	from  *life
	hello time.Time // of that connection
}

// oracle knows what each client should receive. All methods may be called concurrently.
type oracle struct {
	seed  uint64
	count *stresskit.Counts
	lag   *lag
	began time.Time

	recovery bool      // the servers have it; set before the first client
	out      io.Writer // gets each breach at once; likewise

	mu        sync.Mutex // guards the fields below, and the reports of every life
	lives     []*life
	redis     []span // when Redis was in trouble
	facts     map[string]*fact
	trips     map[string]*trip
	heard     map[rides.Audience][]*fact // in the order of publishing
	revoked   map[string]time.Time       // by session: when its end was published
	bans      map[string]time.Time       // by user: when their last ban was published
	open      map[*connection]bool
	closed    []*connection // that have ended and were not judged yet
	forgotten map[string]forgotten
	left      map[userKey]departure // how each user's last connection ended
	latency   [2][]time.Duration
	notes     []string
	breaches  stresskit.Breaches
}

func newOracle(seed uint64, c *stresskit.Counts, l *lag) *oracle {
	return &oracle{
		seed: seed, count: c, lag: l, began: time.Now(), out: io.Discard,
		facts: map[string]*fact{}, trips: map[string]*trip{}, heard: map[rides.Audience][]*fact{},
		revoked: map[string]time.Time{}, bans: map[string]time.Time{}, forgotten: map[string]forgotten{}, left: map[userKey]departure{}, open: map[*connection]bool{},
	}
}

// publishing records an event that is about to be published, and returns its id.
func (o *oracle) publishing(tripID string, hears map[rides.Audience]string) (id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	t := o.trips[tripID]
	if t == nil {
		t = &trip{id: tripID}
		o.trips[tripID] = t
	}
	f := &fact{id: fmt.Sprintf("%s/%d", tripID, len(t.facts)), trip: t, seq: len(t.facts), at: time.Now(), hears: hears}
	t.facts = append(t.facts, f)
	o.facts[f.id] = f
	for h := range hears {
		o.heard[h] = append(o.heard[h], f)
	}
	return f.id
}

// published records that the bus has accepted an event.
func (o *oracle) published(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.facts[id].taken = time.Now()
}

// publishesAgain records that an event is published again.
func (o *oracle) publishesAgain(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if f := o.facts[id]; f != nil {
		f.again = true
	}
}

// assign records who takes part in a trip, before that is published.
func (o *oracle) assign(tripID, passenger, driver string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	t := o.trips[tripID]
	t.passenger, t.driver = passenger, driver
}

// giveUp records that a call has ended without an acknowledgment.
func (o *oracle) giveUp(c *connection) {
	o.mu.Lock()
	defer o.mu.Unlock()
	c.gaveUp++
}

// spansLocked returns all troubles.
func (o *oracle) spansLocked() []span {
	all := slices.Clone(o.redis)
	paths := map[*place]bool{}
	for _, l := range o.lives {
		all = append(all, l.bad...)
		if !paths[l.place] {
			all, paths[l.place] = append(all, l.place.bad...), true
		}
	}
	return all
}

// connected records a connection.
func (o *oracle) connected(c *connection) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.open[c] = true
}

// ended records the end of a connection.
func (o *oracle) ended(c *connection, at time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.endedLocked(c, at)
}

func (o *oracle) endedLocked(c *connection, at time.Time) {
	if !c.end.IsZero() {
		return // its device had lost it before
	}
	c.end = at
	delete(o.open, c)
	o.left[userKey{c.namespace, c.user}] = departure{at: at, from: c.life, hello: c.hello}
	o.closed = append(o.closed, c)
}

// join records that an admin is about to join the room of a trip.
func (o *oracle) join(c *connection, trip string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	c.joined[trip] = true
}

// begins records a new process of a node.
func (o *oracle) begins(l *life) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lives = append(o.lives, l)
}

// killing records that the parent kills a process.
func (o *oracle) killing(l *life) {
	o.mu.Lock()
	defer o.mu.Unlock()
	l.killed = true
}

// wasKilled reports whether the parent has killed a process.
func (o *oracle) wasKilled(l *life) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return l.killed
}

// leaves records that the parent asks a process to end.
func (o *oracle) leaves(l *life) {
	o.mu.Lock()
	defer o.mu.Unlock()
	l.leaving = true
}

// ends records the end of a process. It is a breach if nobody wanted it.
func (o *oracle) ends(l *life, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	l.over = time.Now()
	switch {
	case l.killed:
	case !l.leaving:
		o.breachLocked(fmt.Sprintf("node %s ended by itself: %v", l.name, err))
	case err != nil:
		o.breachLocked(fmt.Sprintf("node %s ended after SIGTERM with: %v", l.name, err))
	case !l.clean:
		o.breachLocked(fmt.Sprintf("node %s did not report its end", l.name))
	}
}

// trouble records that a process, or Redis if l is nil, is in trouble, until over is called.
func (o *oracle) trouble(l *life, what string) (over func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	spans := &o.redis
	if l != nil {
		spans = &l.bad
	}
	return o.troubleLocked(spans, what)
}

func (o *oracle) troubleLocked(spans *[]span, what string) (over func()) {
	i := len(*spans)
	*spans = append(*spans, span{from: time.Now(), what: what})
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		(*spans)[i].to = time.Now()
	}
}

// troubleAt records that the path of a place is in trouble: for the process that runs there, and
// for those that start meanwhile.
func (o *oracle) troubleAt(p *place, what string) (over func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.troubleLocked(&p.bad, what)
}

// note records what the program does, and returns it with the time.
func (o *oracle) note(text string) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	text = fmt.Sprintf("%7.2fs %s", time.Since(o.began).Seconds(), text)
	o.notes = append(o.notes, text)
	if len(o.notes) > recentNotes {
		o.notes = o.notes[1:]
	}
	return text
}

// reported takes a report of a node.
func (o *oracle) reported(l *life, r report) {
	o.mu.Lock()
	defer o.mu.Unlock()
	breach := func(format string, args ...any) {
		o.breachLocked(fmt.Sprintf("node %s: ", l.name) + fmt.Sprintf(format, args...))
	}
	switch r.Kind {
	case reportHandled:
		o.count.Add("events handled", 1)
		if f := o.facts[r.ID]; f != nil {
			f.handledLocked(handling{by: l, at: r.At, outdated: r.Text != ""})
		}
	case reportGap:
		o.count.Add("gaps: "+r.Text, 1)
		l.gaps = append(l.gaps, r)
	case reportReceiving:
		if !r.Fine {
			o.count.Add("times a node did not receive", 1)
		}
	case reportPeer:
		if !r.Fine {
			o.count.Add("times a node lost another", 1)
		}
	case reportUnaddress:
		f := o.facts[r.ID]
		if f != nil && o.maybeUnknownLocked(l, f, r.At) {
			f.unaddressed = append(f.unaddressed, "/"+r.Text+"s")
			o.count.Add("excused: the people of a trip were not known", 1)
			break
		}
		breach("does not know the %s of %s; %s", r.Text, r.ID, o.tripHistoryLocked(f))
	case reportDropped:
		breach("dropped a message of another node: %s", r.Text)
	case reportBusGap:
		breach("the bus lost events: %s", r.Text)
	case reportSetAside:
		breach("the bus gave up on %s: %s", r.ID, r.Text)
	case reportLate:
		d := delay{at: r.At, held: time.Duration(r.Late)}
		l.late = append(l.late, d)
		if _, bad := o.troubledLocked(l, d.at.Add(-d.held-healing), d.at); !bad {
			o.count.Most("longest time that a node was late without a trouble, ms", int(d.held.Milliseconds()))
		}
	case reportTrace:
		breach("calls of Trace were dropped")
	case reportFailed:
		if o.couldNotTellLocked(l, r) {
			o.count.Add("excused: a node that shut down could not publish presence", 1)
			break
		}
		breach("failed: %s", r.Text)
	case reportLog:
		o.count.Add("errors that nodes logged", 1)
		if strings.Contains(r.Text, "panic") || strings.Contains(r.Text, "runtime error") {
			breach("logged %.500s", r.Text)
		}
	case reportEnded:
		l.clean = true
		o.count.Add("nodes that shut down", 1)
		o.count.Most("most heap that a node left, KiB", int(r.Heap>>10))
		if r.Goroutines > 0 {
			breach("left %d goroutines", r.Goroutines)
		}
		if r.Heap > heapGrowth {
			breach("left %d MiB", r.Heap>>20)
		}
	default:
		breach("reported %q", r.Kind)
	}
}

// breachf records a breach.
func (o *oracle) breachf(format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.breachLocked(fmt.Sprintf(format, args...))
}

func (o *oracle) breachLocked(text string) {
	fmt.Fprintf(o.out, "%7.2fs BREACH %s\n", time.Since(o.began).Seconds(), text)
	o.breaches.Add(text, func(text string) string {
		return fmt.Sprintf("seed %d, %.2fs: %s\n        after: %s", o.seed, time.Since(o.began).Seconds(), text, strings.Join(o.notes, "; "))
	})
}

// verdict returns how many breaches there were, and the first of them.
func (o *oracle) verdict() (n int, first []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.breaches.Count, slices.Clone(o.breaches.First)
}
