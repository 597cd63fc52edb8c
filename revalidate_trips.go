// Revalidation of trip rooms: every sweep calls Options.Trips for the trips of the users
// again, in case an event that changed them was lost.

package realtime

import (
	"context"
	"slices"
	"time"

	"github.com/rodando/realtime/internal/socketio"
	"github.com/rodando/realtime/internal/triptable"
)

// activeTrips is what Options.Trips returned for one user.
type activeTrips struct {
	userID string
	trips  []string
	called time.Time // before the call
}

// tripSockets returns the sockets whose trip rooms are to be checked, by user id: those of all
// drivers and passengers if one call can look up many users, otherwise only those that are
// in a trip room.
func (w *sweep) tripSockets() map[string][]*Socket {
	if w.rt.opts.Trips == nil {
		return nil
	}
	_, batched := w.rt.opts.Trips.(TripBatchLookup)
	sockets := map[string][]*Socket{}
	w.rt.each(func(ns *Namespace) {
		if _, ok := personOf(ns.name, ""); !ok {
			return
		}
		for _, inner := range ns.inner.Select(socketio.Target{All: true}) {
			if s, ok := socketOf(inner); ok && (batched || len(s.trips()) > 0) {
				id := s.Identity().UserID
				sockets[id] = append(sockets[id], s)
			}
		}
	})
	return sockets
}

// checkTrips calls Options.Trips for the users of sockets and corrects the trip rooms of
// the sockets.
func (w *sweep) checkTrips(ctx context.Context, pause time.Duration, sockets map[string][]*Socket, res *sweepResult) {
	from := repoReader[activeTrips]{
		calls: &w.rt.host.sweep.trips,
		one: func(ctx context.Context, id string) (activeTrips, error) {
			called := time.Now()
			trips, err := w.rt.activeTrips(ctx, id)
			return activeTrips{id, trips, called}, err
		},
		idOf: func(a activeTrips) string { return a.userID },
	}
	if many, ok := w.rt.opts.Trips.(TripBatchLookup); ok {
		from.many = func(ctx context.Context, ids []string) ([]activeTrips, error) { return activeTripsOf(ctx, many, ids) }
	}
	corrected := 0
	checkBatches(ctx, pause, sockets, res, from, func(s *Socket, _ string, a *activeTrips, _ time.Time) bool {
		if a != nil && w.rt.correctTrips(s, *a) {
			corrected++
		}
		return false
	})
	if corrected > 0 {
		w.rt.log.Info("realtime: sweep corrected the trip rooms of sockets", "sockets", corrected)
	}
}

// activeTripsOf calls a TripBatchLookup and checks the result.
func activeTripsOf(ctx context.Context, lookup TripBatchLookup, ids []string) ([]activeTrips, error) {
	called := time.Now()
	found, err := lookup.ActiveTripsOf(ctx, ids)
	if err != nil {
		return nil, err
	}
	rows := make([]activeTrips, len(ids))
	for i, id := range ids {
		if err := checkTripIDs(found[id]); err != nil {
			return nil, err
		}
		rows[i] = activeTrips{id, found[id], called}
	}
	return rows, nil
}

// correctTrips makes a socket join and leave trip rooms until they match the result of the
// lookup. Where the trip table has learned something since shortly before the lookup was
// called, the table decides. It reports whether a room changed.
func (rt *Server) correctTrips(s *Socket, a activeTrips) (changed bool) {
	who, ok := personOf(s.ns.name, a.userID)
	if !ok {
		return false
	}
	trips, since := rt.publisher.trips, a.called.Add(-triptable.Settle)
	isRecent := func(id string) bool { return slices.Contains(trips.TripsOf(who, since), id) }
	for _, id := range s.trips() {
		if slices.Contains(a.trips, id) || isRecent(id) {
			continue
		}
		if who.Driver {
			trips.SetAside(id, who.ID, since)
		}
		s.Leave(TripRoom(id))
		// An event between the check and Leave may have put the socket into the room, from
		// which Leave took it.
		if isRecent(id) && rt.joinTripRoom(s, id, who, since) {
			continue
		}
		changed = true
	}
	for _, id := range a.trips {
		trips.Confirm(id, who, since)
		if !s.inner.In(TripRoom(id).name) {
			changed = rt.joinTripRoom(s, id, who, since) || changed
		}
	}
	return changed
}
