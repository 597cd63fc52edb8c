// The publisher: from a domain event on the bus to the rooms that hear of it.

package realtime

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/rodando/realtime/internal/wheel"
)

// publisher handles the bus's events, one at a time for each key.
type publisher struct {
	rt     *Server
	trips  tripTable
	seen   recentIDs
	asking gate // questions to Options.Parties
}

func newPublisher(rt *Server) *publisher {
	p := &publisher{rt: rt}
	p.asking.max = int64(maxLost * rt.opts.RepoConcurrency)
	p.seen.size = rt.opts.Limits.RememberedEvents
	rt.Admin().OnServerEmit(tripSync, p.synced)
	rt.Admin().OnServerEmit(presenceGone, rt.presence.contradict)
	return p
}

// handle is the subscription: one event, from the bus to the sockets.
func (p *publisher) handle(ctx context.Context, env Envelope) error {
	if isPresence(env.Name) { // a server's own, and for no client: there are as many as handshakes
		return nil
	}
	if !p.seen.add(env.ID) {
		return nil
	}
	// What a bus left out: clients are promised both.
	env.ID, env.At = cmp.Or(env.ID, newEventID()), or(env.At, time.Now())
	e, err := decodeDomain(env.Name, env.Data)
	if err == nil && e != nil {
		err = checkDomain(e)
	}
	if err != nil {
		// Trying again would not help, so the bus is not told.
		p.rt.log.Error("realtime: domain event not delivered", "event", env.Name, "id", env.ID, "error", err)
	}
	if e == nil {
		return nil
	}
	about := subjectOf(e)
	parties := p.learn(ctx, e, about)
	if err == nil {
		p.before(e, about, parties)
		p.emit(e, env, parties)
	}
	p.after(e, about, parties)
	if f := p.rt.opts.Trace.Delivered; f != nil && err == nil {
		f(env.Name, time.Since(env.At))
	}
	return nil
}

// learn returns the people of the event's trip: those whom the event names,
// else those known from earlier events, else those of Options.Parties.
func (p *publisher) learn(ctx context.Context, e DomainEvent, about subject) TripParties {
	if about.tripID == "" {
		return TripParties{}
	}
	parties := p.trips.learn(about.tripID, about.parties)
	if parties.PassengerID != "" && parties.DriverID != "" || p.rt.opts.Parties == nil {
		return parties
	}
	found, err := p.findParties(ctx, about.tripID)
	if err != nil {
		if !errors.Is(err, ErrNotFound) {
			p.rt.log.Error("realtime: trip's parties not found; those known are told", "event", e.EventName(), "trip", about.tripID, "error", err)
		}
		return parties
	}
	found.PassengerID = or(parties.PassengerID, found.PassengerID)
	found.DriverID = or(parties.DriverID, found.DriverID)
	return found
}

// findParties asks Options.Parties, without waiting longer for a host that does
// not heed ctx: the events behind this one would wait too. Of such questions only
// so many are left under way.
func (p *publisher) findParties(ctx context.Context, tripID string) (TripParties, error) {
	return inTime(ctx, p.rt.opts.RepoTimeout, &p.asking, func(ctx context.Context) (TripParties, error) {
		return p.rt.opts.Parties.FindParties(ctx, tripID)
	})
}

// before puts the people of a trip into its room, so that they hear the event
// that assigns it.
func (p *publisher) before(e DomainEvent, about subject, parties TripParties) {
	switch e.(type) {
	case DriverAssigned, AssignmentAccepted:
		p.change(tripChange{TripID: about.tripID, PassengerID: parties.PassengerID, DriverID: parties.DriverID})
	}
}

func (p *publisher) emit(e DomainEvent, env Envelope, parties TripParties) {
	if l, ok := e.(DriverLocationChanged); ok {
		p.emitLocation(l.LocationUpdate, env.ID, p.trips.of(DriverRoom(l.DriverID)), p.to)
		return
	}
	var namespaces []string
	p.rt.each(func(ns *Namespace) {
		if !ns.opts.Anonymous {
			namespaces = append(namespaces, ns.name)
		}
	})
	for _, d := range deliveries(e, env.ID, env.At, parties, p.rt.opts.AdminTripsByRoom, namespaces) {
		p.deliver(d, p.to(d.namespace, d.rooms...))
	}
}

// emitLocation emits a driver's position, of which only the newest matters to
// each of his audiences.
func (p *publisher) emitLocation(u LocationUpdate, id string, trips []string, to func(namespace string, rooms ...Room) Broadcast) {
	for _, d := range locationDeliveries(u, id, trips) {
		b := to(d.namespace, d.rooms...)
		if b.nobody() {
			continue // as nobody watches most drivers
		}
		p.deliver(d, b.Latest(d.event+" "+u.DriverID+" "+d.rooms[0].name))
	}
}

// deliver emits one delivery, which is not encoded where nobody hears it.
func (p *publisher) deliver(d delivery, to Broadcast) {
	if to.nobody() {
		return
	}
	arg, err := d.json()
	if err == nil {
		err = to.emit(d.event, arg)
	}
	if err != nil {
		p.rt.log.Error("realtime: event not emitted", "namespace", d.namespace, "event", d.event, "error", err)
	}
}

// after does what follows the event for those who were told of it.
func (p *publisher) after(e DomainEvent, about subject, parties TripParties) {
	switch e := e.(type) {
	case TripCompleted, TripCancelled:
		p.change(tripChange{TripID: about.tripID, Ended: true})
	case AssignmentCancelled:
		p.unassign(e.TripID, e.DriverID)
	case AssignmentExpired:
		p.unassign(e.TripID, e.DriverID)
	case SessionRevoked:
		p.rt.auditLog.Info("realtime: session revoked, its sockets end", "user", e.UserID, "reason", e.Reason)
		p.everywhere(func(*Namespace) Room { return SessionRoom(e.SID) }, Broadcast.Disconnect)
	case UserAccessChanged:
		p.rt.auditLog.Info("realtime: user's access changed, his sockets end", "user", e.UserID, "change", e.Change, "reason", e.Reason)
		p.everywhere(func(ns *Namespace) Room { return ownRoom(ns.name, e.UserID) }, Broadcast.Disconnect)
	case SessionRefreshed:
		if e.OldSID != e.NewSID {
			p.expireLater(e.OldSID)
		}
	}
}

// expireLater closes the sockets of a session that was refreshed and that have
// not renewed themselves by then.
func (p *publisher) expireLater(sid string) {
	expire := func() {
		p.everywhere(func(*Namespace) Room { return SessionRoom(sid) }, func(b Broadcast) {
			_ = EventAuthExpired.Emit(b, AuthExpiredPayload{At: Time{time.Now()}}) // marshals
			b.Close()
		})
	}
	p.rt.wheel.Arm(&wheel.Timer{F: func() { go expire() }}, p.rt.opts.RefreshGrace)
}

// everywhere does something to one room of each namespace.
func (p *publisher) everywhere(room func(ns *Namespace) Room, do func(Broadcast)) {
	p.rt.each(func(ns *Namespace) { do(p.to(ns.name, room(ns))) })
}

// to selects sockets of all nodes, or of this one when each hears the bus.
func (p *publisher) to(namespace string, rooms ...Room) Broadcast {
	b := p.rt.to(namespace, rooms...)
	b.local = p.rt.opts.BusFanOut
	return b
}

// recentIDs remembers the last size ids, so that an event that a bus delivers
// twice is emitted once.
//
// recentIDs.mu guards all of it.
type recentIDs struct {
	mu   sync.Mutex
	size int // negative: remember none
	ids  map[string]struct{}
	ring []string
	next int
}

// add reports whether the id is new. An event without an id always is.
func (r *recentIDs) add(id string) bool {
	if id == "" || r.size < 0 {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.ids[id]; ok {
		return false
	}
	if r.ids == nil {
		r.ids = make(map[string]struct{})
	}
	if len(r.ring) < r.size {
		r.ring = append(r.ring, id)
	} else {
		delete(r.ids, r.ring[r.next])
		r.ring[r.next] = id
		r.next = (r.next + 1) % r.size
	}
	r.ids[id] = struct{}{}
	return true
}

// newEventID names an event that did not come from the bus.
func newEventID() string { return uuid.NewString() }
