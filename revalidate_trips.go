// Revalidation of trip rooms: in every sweep Options.Trips is asked again which trips
// the users take part in, in case an event that said so was lost.

package realtime

import (
	"context"
	"slices"
	"time"

	"github.com/rodando/realtime/internal/socketio"
	"github.com/rodando/realtime/internal/triptable"
)

// activeTrips is what Options.Trips answered about one user.
type activeTrips struct {
	userID string
	trips  []string
	asked  time.Time
}

// tripSockets returns the sockets whose trip rooms are to be checked, by user: those in
// one, or all of drivers and passengers where many can be asked for at once.
func (w *sweep) tripSockets() map[string][]*Socket {
	if w.rt.opts.Trips == nil {
		return nil
	}
	_, batched := w.rt.opts.Trips.(TripBatchLookup)
	sockets := map[string][]*Socket{}
	w.rt.each(func(ns *Namespace) {
		if _, ok := rider(ns.name, ""); !ok {
			return
		}
		for _, inner := range ns.inner.Select(socketio.Target{All: true}) {
			if s, ok := inner.Data.(*Socket); ok && (batched || len(s.trips()) > 0) {
				id := s.Identity().UserID
				sockets[id] = append(sockets[id], s)
			}
		}
	})
	return sockets
}

// checkTrips puts sockets into the rooms of their users' trips, and takes them out of
// others.
func (w *sweep) checkTrips(ctx context.Context, pace time.Duration, sockets map[string][]*Socket, t *sweepResult) {
	from := repoReader[activeTrips]{
		calls: w.rt.host.sweep.trips,
		one: func(ctx context.Context, id string) (activeTrips, error) {
			asked := time.Now()
			trips, err := w.rt.activeTrips(ctx, id)
			return activeTrips{id, trips, asked}, err
		},
		idOf: func(a activeTrips) string { return a.userID },
	}
	if many, ok := w.rt.opts.Trips.(TripBatchLookup); ok {
		from.many = func(ctx context.Context, ids []string) ([]activeTrips, error) { return manyActiveTrips(ctx, many, ids) }
	}
	moved := 0
	checkBatches(ctx, pace, sockets, t, from, func(s *Socket, a *activeTrips, _ time.Time) bool {
		if a != nil && w.rt.correctTrips(s, *a) {
			moved++
		}
		return false
	})
	if moved > 0 {
		w.rt.log.Info("realtime: sweep corrected the trip rooms of sockets", "sockets", moved)
	}
}

func manyActiveTrips(ctx context.Context, lookup TripBatchLookup, ids []string) ([]activeTrips, error) {
	asked := time.Now()
	found, err := lookup.ActiveTripsOf(ctx, ids)
	if err != nil {
		return nil, err
	}
	rows := make([]activeTrips, len(ids))
	for i, id := range ids {
		if err := checkTripIDs(found[id]); err != nil {
			return nil, err
		}
		rows[i] = activeTrips{id, found[id], asked}
	}
	return rows, nil
}

// correctTrips makes a socket's trip rooms what the lookup answered, but for what the
// bus has said since shortly before it was asked, and reports whether that changed any.
func (rt *Server) correctTrips(s *Socket, a activeTrips) (changed bool) {
	who, ok := rider(s.ns.name, a.userID)
	if !ok {
		return false
	}
	trips, since := rt.publisher.trips, a.asked.Add(-triptable.Settle)
	ofLate := func(id string) bool { return slices.Contains(trips.Of(who, since), id) }
	for _, id := range s.trips() {
		if slices.Contains(a.trips, id) || ofLate(id) {
			continue
		}
		if who.Driver {
			trips.Forget(id, who.ID, since)
		}
		s.Leave(TripRoom(id))
		if ofLate(id) { // meanwhile
			s.Join(TripRoom(id))
			continue
		}
		changed = true
	}
	for _, id := range a.trips {
		trips.Confirm(id, who, since)
		if !s.inner.In(TripRoom(id).name) {
			changed = rt.enterTrip(s, id, who, since) || changed
		}
	}
	return changed
}
