// Access to unexported state, for external tests.

package realtime

import (
	"encoding/json"
	"time"
	"weak"

	"github.com/rodando/realtime/internal/socketio"
)

// SetMaxQueued sets the maximum number of events that wait for Options.Parties.
func (rt *Server) SetMaxQueued(n int) { rt.publisher.parties.max = n }

// FireExpiry calls the function of the socket's expiry timer, as if the timer had fired just
// before the socket was renewed.
func (s *Socket) FireExpiry() { s.expired() }

// SetMaxOwnRooms sets the number of rooms above which the node announces every room. Call it
// before other nodes start.
func (rt *Server) SetMaxOwnRooms(n int) { rt.peerRooms.max = n }

// LimitOffers makes a server forget its offers, and track at most that many from now on.
func LimitOffers(rt *Server, most int) {
	shares := &rt.offers.shares // reads the offers that are replaced
	shares.mu.Lock()
	defer shares.mu.Unlock()
	for shares.running {
		shares.mu.Unlock()
		time.Sleep(time.Millisecond)
		shares.mu.Lock()
	}
	rt.offers.init(rt, most)
}

// WeakSocket returns a pointer to what the server knows of a socket. It does not keep that in memory.
func WeakSocket(s *Socket) weak.Pointer[socketio.Socket] { return weak.Make(s.inner) }

// LimitTracked makes a server await the receipts of at most that many events.
func LimitTracked(rt *Server, most int) {
	rt.tracking.mu.Lock()
	defer rt.tracking.mu.Unlock()
	rt.tracking.max = most
}

// TrackedEvents returns the number of events whose receipts a server awaits.
func TrackedEvents(rt *Server) int {
	rt.tracking.mu.Lock()
	defer rt.tracking.mu.Unlock()
	return len(rt.tracking.events)
}

// SharedSockets returns what the node tells the others of its sockets, by id, without ages.
func SharedSockets(rt *Server) map[string]string {
	all := map[string]string{}
	rt.each(func(ns *Namespace) {
		for _, inner := range ns.inner.Select(socketio.Target{All: true}) {
			s, ok := socketOf(inner)
			if !ok || !ns.inner.Keeps() {
				continue
			}
			if r, ok := inner.Record(); ok {
				all[r.ID] = ageless(sharedSocket{Record: r, Identity: s.Identity()})
			}
		}
	})
	return all
}

// HeardNodes returns the number of other nodes whose events the node keeps in each namespace.
func HeardNodes(rt *Server) (least int) {
	least = 1 << 30
	rt.each(func(ns *Namespace) {
		if ns.inner.Keeps() {
			least = min(least, len(ns.inner.Heard()))
		}
	})
	return least
}

// Inheriting reports whether the node still waits for the log of another one.
func Inheriting(rt *Server) (inheriting bool) {
	rt.each(func(ns *Namespace) { inheriting = inheriting || ns.inheriting.Load() })
	return inheriting
}

// KnownSockets returns the same of what the node knows of the sockets of the others.
func KnownSockets(rt *Server) map[string]string {
	p := &rt.peerSockets
	p.mu.Lock()
	defer p.mu.Unlock()
	all := map[string]string{}
	for key, s := range p.known {
		var of sharedSocket
		_ = json.Unmarshal(s.record, &of) // it was checked when it came
		all[key.id.String()] = ageless(of)
	}
	return all
}

// ageless returns a socket as text, without the ages of its doubts.
func ageless(s sharedSocket) string {
	for i := range s.Doubts {
		s.Doubts[i].AgoMS = min(s.Doubts[i].AgoMS, 1)
	}
	return string(encodeSocket(&s))
}
