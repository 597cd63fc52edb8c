// Publisher: it receives domain events from the bus. An event returns what it is about and
// its deliveries as data; the publisher emits the deliveries to clients, and changes the trip
// table, the trip rooms and the sessions.

package realtime

import (
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/rodando/realtime/internal/hostcall"
	"github.com/rodando/realtime/internal/triptable"
)

// publisher handles the events of the bus. The bus calls it concurrently, but for one event of
// each key at a time.
type publisher struct {
	rt        *Server
	trips     *triptable.Table
	seen      recentIDs
	parties   partyQueues
	positions driverSearches
	exchange  tripExchange
	late      lateMoves
	learned   learnedPeople
}

func newPublisher(rt *Server) *publisher {
	p := &publisher{rt: rt, trips: triptable.New(time.Now)}
	p.parties.init(p)
	p.positions.init(p)
	p.exchange.init(p)
	p.late.init(p)
	p.learned.rt = rt
	p.seen.size = rt.opts.Limits.RememberedEvents
	return p
}

// received is an event from the bus.
type received struct {
	ctx   context.Context // the ctx of the bus's call
	event builtin
	env   Envelope
	about subject
	at    time.Time // when it happened
	begun time.Time // when the server received it
	// err says why the event is invalid. It is then not sent, but it still ends a trip, an
	// assignment or a user's access.
	err error
	// former says that the event shows the trip with a driver who has left it since. It is
	// sent to admins only.
	former bool
	// heard is what each audience has received, if somebody wants to know.
	heard *[]AudienceInfo
}

// subscription is the handler that a bus of the host's calls. It returns nil also for an event
// that failed, because a retry would not help; the failure is logged.
func (p *publisher) subscription(ctx context.Context, env Envelope) error {
	failed := func(err error) { p.rt.hostFailed("domain event", err, "event", env.Name, "id", env.ID) }
	err := hostcall.Guard(func() error { return inspect(p.handle(ctx, env)) }, failed)
	if err != nil {
		failed(err)
	}
	return nil
}

// handle handles one event of the bus. It waits for the host's code only briefly for
// Options.Parties, and within a timeout for the methods of the host's own events: if the bus
// delivers one event after the other, the next event may be a revocation.
func (p *publisher) handle(ctx context.Context, env Envelope) error {
	if isPresence(env.Name) { // presence events are published by servers and never sent to clients
		p.rt.presenceCheck.handled(env)
		return nil
	}
	if env.event == nil && !p.seen.add(env.ID) { // env.event comes from a MemoryBus, which does not repeat events
		p.rt.log.Debug("realtime: domain event not emitted again", "event", env.Name, "id", env.ID)
		return nil
	}
	// A bus of the host's may omit them, but the payloads have both.
	now := time.Now()
	env.ID, env.At = cmp.Or(env.ID, newEventID()), cmp.Or(env.At, now)
	t := p.rt.events.byName[env.Name]
	if t == nil {
		if f := p.rt.opts.Trace.Unknown; f != nil {
			callTrace(p.rt, ctx, f, UnknownInfo{DomainInfo{Event: env.Name, ID: env.ID, Key: env.Key}})
		}
		p.rt.log.Debug("realtime: event of the bus is not registered", "event", env.Name, "id", env.ID)
		return nil
	}
	e, err := p.read(ctx, t, env)
	if err != nil {
		p.rt.log.Error("realtime: domain event not delivered", "event", env.Name, "id", env.ID, "error", err)
	}
	if e == nil {
		return nil
	}
	r := &received{ctx: ctx, event: e, env: env, about: e.about(), begun: now, err: err}
	r.at = cmp.Or(r.about.at, env.At)
	if r.about.tripID != "" || r.about.hosts && env.Key != "" {
		p.parties.publishInOrder(ctx, r)
	} else {
		p.publishOther(r)
	}
	return nil
}

// read returns the event in an envelope. Decoding an event of the host's own is a call of the
// host's code with a timeout, because the other events of the key wait for it.
func (p *publisher) read(ctx context.Context, t *DomainEventType, env Envelope) (builtin, error) {
	if !t.hosts || reflect.TypeOf(env.event) == t.builtinType {
		return t.read(env)
	}
	return hostcall.Do(ctx, p.rt.host.events, nil, func(context.Context) (builtin, error) { return t.read(env) })
}

// publish sends an event. found is the result of Options.Parties, if it was called.
func (p *publisher) publish(r *received, found TripParties) {
	if r.about.tripID != "" {
		p.publishTrip(r, found)
	} else {
		p.publishOther(r)
	}
}

// publishOther sends an event that belongs to no trip, then applies its effect on the sockets
// of a user or a session.
func (p *publisher) publishOther(r *received) {
	if r.err == nil {
		p.emit(r, TripParties{})
	}
	switch about := r.about; about.access { //nolint:exhaustive // leavesAccess has no effect
	case revokesSession:
		p.rt.auditLog.Info("realtime: session revoked, disconnecting its sockets",
			"sid", about.sessionID, "user", cmp.Or(about.userID, p.rt.userOfSession(about.sessionID)), "reason", about.reason)
		p.rt.revoke(Revocation{SessionID: about.sessionID}, p.rt.opts.Cluster.BusFanOut)
	case revokesUser:
		p.rt.auditLog.Info("realtime: user access changed, disconnecting the user's sockets", "user", about.userID, "change", about.change, "reason", about.reason)
		p.rt.revoke(Revocation{UserID: about.userID}, p.rt.opts.Cluster.BusFanOut)
	case replacesSession:
		e, ok := r.event.(SessionRefreshed)
		if ok && r.err == nil {
			p.rt.recovery.replace(e.OldSessionID, e.NewSessionID)
		}
		carried := carriedSession{e.UserID, e.OldSessionID, e.NewSessionID, e.ExpiresAt}
		switch {
		case ok && r.err == nil && carried.valid():
			p.rt.replaced.carry(carried)
		case !validID(about.sessionID) || ok && e.OldSessionID == e.NewSessionID: // no socket is in a session that was replaced
		default:
			p.rt.replaced.expireLater(about.sessionID, e.NewSessionID)
		}
	}
	if r.err == nil {
		p.traceDelivered(r)
	}
}

// publishTrip applies an event of a trip to the trip table, moves sockets and sends the event.
// For an event that opens or assigns the trip, sockets move before it is sent; for an event
// that releases the driver, or suspends or ends the trip, after that. found is the result of
// Options.Parties, if it was called.
//
// An invalid event is not sent, but it releases the driver or ends the trip all the same:
// nobody may stay in the room because of a field that this does not need.
func (p *publisher) publishTrip(r *received, found TripParties) {
	about := r.about
	if r.err != nil && about.does != triptable.Ends && about.does != triptable.Releases || !validID(about.tripID) {
		return
	}
	if r.err == nil {
		p.rt.offers.heard(r.event, r.env.ID)
	}
	change := p.changeOf(r, found)
	res := p.trips.Apply(change)
	p.rt.offers.handled(r.env.Name, about, res.Outdated)
	defer p.freeDriver(about, cmp.Or(about.parties.DriverID, res.Parties.Driver, found.DriverID))
	apply := func() {
		// Sockets move here before the event is shared: another node may answer with
		// something newer, which moves sockets too.
		p.move(about.tripID, res, NamespaceDrivers, NamespacePassengers, NamespaceAdmin)
		if res.Changed {
			p.positions.forget(change.Driver)
			p.share(change)
		}
	}
	if res.Outdated {
		apply()
		p.outdated(r)
		return
	}
	if about.does <= triptable.Assigns {
		apply()
	} else {
		defer apply()
	}
	if r.err != nil {
		return
	}
	parties := TripParties{
		PassengerID: cmp.Or(about.parties.PassengerID, res.Parties.Passenger, found.PassengerID),
		DriverID:    cmp.Or(about.parties.DriverID, res.Parties.Driver, found.DriverID),
	}
	if res.Former {
		p.outdated(r)
		r.former = true
	} else {
		p.unaddressed(r, parties)
	}
	p.emit(r, parties)
	p.traceDelivered(r)
}

// freeDriver clears the current trip of the driver whose trip has ended, or of the one of an
// assignment that has ended, if that was what the driver had of the trip.
func (p *publisher) freeDriver(about subject, driver string) {
	switch about.does { //nolint:exhaustive // the others free no driver
	case triptable.Ends:
		p.rt.endDriverTrip(driver, about.tripID)
	case triptable.Releases:
		driver = about.offeredTo
		if !slices.Contains(p.trips.TripsOf(triptable.Person{Driver: true, ID: driver}, time.Time{}), about.tripID) {
			p.rt.endDriverTrip(driver, about.tripID)
		}
	}
}

// outdated reports an event that is not sent, or only to admins, because the trip table knows
// something newer.
func (p *publisher) outdated(r *received) {
	if f := p.rt.opts.Trace.Outdated; f != nil {
		callTrace(p.rt, r.ctx, f, OutdatedInfo{r.traceInfo(), r.about.tripID})
	}
	p.rt.log.Warn("realtime: outdated event of a trip not sent", "event", r.env.Name, "id", r.env.ID, "trip", r.about.tripID, "at", r.at)
}

// unaddressed reports the passenger or the driver that an event must reach, if that person is
// not known.
func (p *publisher) unaddressed(r *received, known TripParties) {
	var unknown []string
	if r.about.needs&itsPassenger != 0 && known.PassengerID == "" {
		unknown = append(unknown, "passenger")
	}
	if r.about.needs&itsDriver != 0 && known.DriverID == "" || r.about.needs&offered != 0 && r.about.offeredTo == "" {
		unknown = append(unknown, "driver")
	}
	if unknown == nil {
		return
	}
	if f := p.rt.opts.Trace.Unaddressed; f != nil {
		for _, who := range unknown {
			callTrace(p.rt, r.ctx, f, UnaddressedInfo{r.traceInfo(), r.about.tripID, who})
		}
	}
	p.rt.log.Warn("realtime: event not sent to the passenger or the driver of the trip: not known",
		"event", r.env.Name, "id", r.env.ID, "trip", r.about.tripID, "unknown", unknown)
}

// emit sends an event to its audiences.
func (p *publisher) emit(r *received, parties TripParties) {
	if p.rt.opts.Trace.Delivered != nil || p.rt.log.Enabled(r.ctx, slog.LevelDebug) {
		r.heard = new([]AudienceInfo)
	}
	f := factsOf(r.about, r.env.ID, r.env.At, parties, p.rt.opts.AdminTripsByRoom)
	if r.about.moved != nil {
		f.trips = p.positions.tripsOf(*r.about.moved, r.env.ID)
	}
	if !r.about.hosts {
		ds := r.event.deliver(f)
		if r.former {
			for i := range ds {
				ds[i].to = slices.DeleteFunc(ds[i].to, func(a Audience) bool { return a.namespace != NamespaceAdmin })
			}
		}
		p.rt.sendEncoded(ds, p.rt.opts.Cluster.BusFanOut, marshal, r.heard)
		return
	}
	// All calls of the event's methods share one timeout.
	ctx, cancel := context.WithTimeout(context.Background(), p.rt.opts.Timeouts.Repo)
	defer cancel()
	ds, err := hostcall.Do(ctx, p.rt.host.events, nil, func(context.Context) ([]Delivery, error) { return r.event.deliver(f), nil })
	if err != nil {
		p.rt.log.Error("realtime: domain event not delivered", withStack(err, "event", r.env.Name, "id", r.env.ID, "error", err)...)
	}
	p.rt.sendEncoded(ds, p.rt.opts.Cluster.BusFanOut, func(payload any) ([]byte, error) {
		return hostcall.Do(ctx, p.rt.host.events, nil, func(context.Context) ([]byte, error) { return json.Marshal(payload) })
	}, r.heard)
}

// recentIDs remembers the last event ids, so that the publisher can drop repeats. Its methods
// may be called concurrently.
type recentIDs struct {
	size int // the maximum number of ids; negative: remember none

	mu   sync.Mutex // guards the fields below
	ids  map[string]struct{}
	ring []string // the ids in ids, in the order of their arrival from next on
	next int      // the index of the oldest id, once the ring is full
}

// add remembers an id and reports whether it is new. An empty id counts as new.
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

// newEventID returns a new, random event id.
func newEventID() string { return uuid.NewString() }
