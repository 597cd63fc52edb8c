// The oracle: what was published, who must receive it, when each session ended, and all
// breaches.

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rodando/realtime/internal/cmd/internal/rides"
	"github.com/rodando/realtime/internal/cmd/internal/stresskit"
)

// fact is a published event of a trip.
type fact struct {
	id    string
	trip  *trip
	seq   int                       // within the trip, from 0
	at    time.Time                 // before it was published
	taken time.Time                 // when the bus had taken it; zero until then
	hears map[rides.Audience]string // under which name
}

// trip is what the oracle knows about a trip. oracle.mu guards it.
type trip struct {
	id                string
	passenger, driver string // the driver once one is assigned
	facts             []*fact
	over              time.Time // when its end was handled everywhere; zero while it is not
}

// oracle knows what each client should receive. All methods may be called concurrently.
type oracle struct {
	serving context.Context // ends when the servers are about to shut down
	cease   context.CancelFunc

	recovery, snapshots bool                                // what the servers have; set before the first client
	lag                 func(since time.Time) time.Duration // of the machine; likewise

	mu       sync.Mutex // guards the fields below
	facts    map[string]*fact
	trips    map[string]*trip
	heard    map[rides.Audience][]*fact // in the order of publishing
	sessions map[string]string          // the user of each login session
	barred   map[string]time.Time       // by session: when its end was handled everywhere
	breaches stresskit.Breaches
}

func newOracle() *oracle {
	serving, cease := context.WithCancel(context.Background())
	return &oracle{
		serving: serving, cease: cease, lag: func(time.Time) time.Duration { return 0 },
		facts: map[string]*fact{}, trips: map[string]*trip{}, heard: map[rides.Audience][]*fact{},
		sessions: map[string]string{}, barred: map[string]time.Time{},
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

// published records that the bus has accepted an event: a settle that begins later
// covers it.
func (o *oracle) published(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.facts[id].taken = time.Now()
}

// assign records who takes part in a trip, before that is published.
func (o *oracle) assign(tripID, passenger, driver string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	t := o.trips[tripID]
	t.passenger, t.driver = passenger, driver
}

// ended records that the end of a trip was handled everywhere.
func (o *oracle) ended(tripID string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.trips[tripID].over = time.Now()
}

// opened records the user of a login session.
func (o *oracle) opened(sid, user string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sessions[sid] = user
}

// bar records that the end of a session was handled everywhere: it must receive no later
// event.
func (o *oracle) bar(sid string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.barred[sid] = time.Now()
}

// drain records that the servers are about to shut down.
func (o *oracle) drain() { o.cease() }

func (o *oracle) isDraining() bool { return o.serving.Err() != nil }

// breachf records a breach.
func (o *oracle) breachf(format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.breachLocked(fmt.Sprintf(format, args...))
}

func (o *oracle) breachLocked(text string) {
	o.breaches.Add(text, nil)
}

// has reports whether there are breaches that say all of that.
func (o *oracle) has(texts []string) bool {
	_, first := o.verdict()
	all := strings.Join(first, "\n")
	return !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(all, text) })
}

// verdict returns how many breaches there were, and the first of them.
func (o *oracle) verdict() (n int, first []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.breaches.Count, slices.Clone(o.breaches.First)
}

// forget drops the history, so that the memory that is left is the servers'.
func (o *oracle) forget() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.facts, o.trips, o.heard, o.sessions, o.barred = nil, nil, nil, nil, nil
}
