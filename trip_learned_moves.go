// Learned moves: what another node knows of a trip may be old, and the trip over, if the nodes that knew
// of its end are gone. With Options.Trips that decides who joins the trip's room.

package realtime

import (
	"sync"
	"time"

	"github.com/rodando/realtime/internal/triptable"
)

const (
	// learnedDelay is how long a node collects people of trips before it looks up their trips.
	learnedDelay = 100 * time.Millisecond
	// learnedEvery is the minimum time between two such lookups.
	learnedEvery = time.Second
)

// learnedPeople are people of trips of which other nodes have told, and whose trips are to be looked
// up. Its methods may be called concurrently and do not block.
type learnedPeople struct {
	rt *Server

	mu     sync.Mutex // guards people
	people map[triptable.Person]struct{}

	looks collapsed
}

// moveLearned is move for what another node knows of a trip. If that is old, and the host has a TripLookup, only
// people whom that returns join.
func (p *publisher) moveLearned(tripID string, res triptable.Result, namespace string) {
	if p.rt.opts.Trips == nil || !res.Old {
		p.move(tripID, res, namespace)
		return
	}
	p.moveAll(tripID, res, false, []string{namespace})
	switch {
	case namespace == NamespaceDrivers && res.Moves.Driver != "":
		p.learned.add(triptable.Person{Driver: true, ID: res.Moves.Driver})
	case namespace == NamespacePassengers && res.Moves.Passenger != "":
		p.learned.add(triptable.Person{ID: res.Moves.Passenger})
	}
}

// add looks up the trips of a person soon, if they are connected to this node.
func (l *learnedPeople) add(who triptable.Person) {
	if len(l.sockets(who)) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.people == nil {
		l.people = map[triptable.Person]struct{}{}
	}
	l.people[who] = struct{}{}
	l.looks.soon(l.rt, learnedDelay, learnedEvery, l.look)
}

// look looks up the trips of the people, and moves their sockets. Those whose trips could not be read have
// their turn later.
func (l *learnedPeople) look() {
	l.mu.Lock()
	people := l.people
	l.people = nil
	l.mu.Unlock()
	sockets := map[string][]*Socket{}
	for who := range people {
		if of := l.sockets(who); len(of) > 0 {
			sockets[who.ID] = append(sockets[who.ID], of...)
		}
	}
	if len(sockets) == 0 {
		return
	}
	var res sweepResult
	l.rt.sweep.checkTrips(l.rt.ctx, 0, sockets, &res)
	if res.failed == 0 || l.rt.ctx.Err() != nil {
		return
	}
	for who := range people {
		l.add(who)
	}
}

// sockets returns the sockets of a person on this node.
func (l *learnedPeople) sockets(who triptable.Person) (all []*Socket) {
	namespace := NamespacePassengers
	if who.Driver {
		namespace = NamespaceDrivers
	}
	for _, inner := range l.rt.lookup(namespace).To(ownRoom(namespace, who.ID)).selectLocal() {
		if s, ok := socketOf(inner); ok {
			all = append(all, s)
		}
	}
	return all
}
