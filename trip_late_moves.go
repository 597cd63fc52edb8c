// Late moves: the message about a change of a trip comes once in each namespace. If one of them is
// lost, the trip table knows the change from the others, so that no comparison with other nodes
// finds a difference, but the sockets of that namespace have not moved. They move later.

package realtime

import (
	"slices"
	"sync"
	"time"

	"github.com/rodando/realtime/internal/timingwheel"
	"github.com/rodando/realtime/internal/triptable"
)

const (
	// lateMove is how long a node waits at least for the message of a further namespace, which
	// keeps the order of moves and emits, before it moves the sockets of the namespace by itself.
	lateMove = 2 * time.Second
	// lateMovesEvery is the time between two searches for late ones.
	lateMovesEvery = 3 * time.Second
	// maxLateMoves is the maximum number of trips of which messages are awaited. There are as many
	// only if other nodes are faulty; of further trips none are.
	maxLateMoves = 1 << 16
)

// lateMoves holds the trips whose sockets have moved only in some namespaces. Its methods may be
// called concurrently and do not block.
type lateMoves struct {
	p     *publisher
	timer timingwheel.Timer // moves the late ones; armed while there are trips

	mu    sync.Mutex // guards trips, and every awaitedMove
	trips map[string]*awaitedMove
}

// awaitedMove says in which namespaces the sockets of a trip have yet to move.
type awaitedMove struct {
	namespaces []string
	since      time.Time        // of the first change of which a message is awaited
	end        triptable.Result // the end of the trip, if that has changed it
}

func (l *lateMoves) init(p *publisher) {
	l.p, l.trips = p, map[string]*awaitedMove{}
	l.timer.F = func() { go l.moveLate() } // a callback of the wheel must not block
}

// made is called before the moves of res are made in namespaces. all reports whether all moves must
// be made there: earlier ones were lost, which those of res do not include.
func (l *lateMoves) made(tripID string, res triptable.Result, namespaces []string) (all bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.trips[tripID]
	if a != nil {
		a.namespaces = slices.DeleteFunc(a.namespaces, func(ns string) bool {
			here := slices.Contains(namespaces, ns)
			all = all || here && !movesAll(ns, res.Moves)
			return here
		})
	}
	if res.Changed && len(namespaces) < len(builtinNamespaces) {
		for _, b := range builtinNamespaces {
			if !movesAny(b.name, res.Moves) || slices.Contains(namespaces, b.name) {
				continue
			}
			if a == nil {
				if len(l.trips) >= maxLateMoves {
					return all
				}
				a = &awaitedMove{since: time.Now()}
				l.trips[tripID] = a
				if len(l.trips) == 1 {
					l.p.rt.wheel.Arm(&l.timer, lateMovesEvery)
				}
			}
			if !slices.Contains(a.namespaces, b.name) {
				a.namespaces = append(a.namespaces, b.name)
			}
		}
	}
	switch {
	case a == nil:
	case len(a.namespaces) == 0:
		delete(l.trips, tripID)
		if len(l.trips) == 0 {
			l.p.rt.wheel.Stop(&l.timer)
		}
	case res.Moves.Everybody:
		a.end = res
		a.end.Changed = false // when the rest of its moves is made, it changes nothing
	}
	return all
}

// moveLate makes the moves of messages that have not come.
func (l *lateMoves) moveLate() {
	late := map[string]*awaitedMove{}
	l.mu.Lock()
	for id, a := range l.trips {
		if time.Since(a.since) >= lateMove {
			late[id] = a
			delete(l.trips, id)
		}
	}
	if len(l.trips) > 0 {
		l.p.rt.wheel.Arm(&l.timer, lateMovesEvery)
	}
	l.mu.Unlock()
	for id, a := range late {
		l.p.move(id, a.end, a.namespaces...) // without an end, all moves for the trip's current state
	}
}

// movesAny reports whether moves concern the sockets of a namespace.
func movesAny(namespace string, m triptable.Moves) bool {
	return movesAll(namespace, m) || namespace == NamespaceDrivers && len(m.Leaves) > 0
}

// movesAll reports whether moves bring everybody in a namespace to where they belong, whatever moves
// were lost.
func movesAll(namespace string, m triptable.Moves) bool {
	switch namespace {
	case NamespaceDrivers:
		return m.Everybody || m.People || m.Driver != ""
	case NamespacePassengers:
		return m.Everybody || m.People || m.Passenger != ""
	}
	return m.Everybody
}
