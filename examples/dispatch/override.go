// What admins may do to a trip that its people can't: search again, and set its status.

package main

import (
	"context"
	"time"

	"github.com/rodando/realtime"
)

// issued publishes that an admin has done something to the trip.
func (trip *tripRow) issued(t *tx, adminID, what, reason string) {
	t.add(realtime.AdminTripAction{
		TripID: trip.ID, PassengerID: trip.PassengerID, DriverID: trip.DriverID, AdminID: adminID, Action: what, Reason: reason,
	})
}

// retryMatching searches again for a trip without a driver, also for one that has found none.
// Drivers who have had an offer of the trip get no other.
func (s *store) retryMatching(ctx context.Context, adminID, tripID string, in action) error {
	return s.db.change(ctx, func(t *tx) error {
		trip := trips.get(t, tripID)
		switch {
		case trip == nil:
			return errNoTrip
		case trip.DriverID != "" || trip.ended() && trip.Status != statusNoDrivers:
			return realtime.Errorf(realtime.CodeConflict, "the trip is %s", trip.state())
		}
		trip.issued(t, adminID, "retry_matching", in.Reason)
		trip.Search = search{in.SearchRadiusMeters, in.MaxCandidates, time.Duration(in.OfferTTLSeconds * float64(time.Second)), trip.Search.First}
		return trip.searchAgain(t)
	})
}

// searchAgain makes the matcher look for a driver.
func (trip *tripRow) searchAgain(t *tx) error {
	if other := running.get(t, trip.PassengerID); other != nil && *other != trip.ID {
		return realtime.Errorf(realtime.CodeConflict, "the passenger has another trip")
	}
	if trip.Status != realtime.TripStatusPending && trip.Status != realtime.TripStatusAssigning {
		t.add(realtime.TripAssigningStarted{TripID: trip.ID, PassengerID: trip.PassengerID})
		trip.Status = realtime.TripStatusAssigning
	}
	trip.EndedAt = time.Time{}
	trip.save(t)
	running.put(t, trip.PassengerID, trip.ID, 0)
	unended.set(t, trip.ID, score(trip.RequestedAt))
	if trip.open() == nil {
		due.set(t, trip.ID, score(time.Now()))
	}
	return nil
}

// override sets the status of a trip that has not ended.
func (s *store) override(ctx context.Context, by userRow, tripID, what string, in action) error {
	return s.db.change(ctx, func(t *tx) error {
		trip := trips.get(t, tripID)
		to := in.TargetStatus
		needsDriver := to == realtime.TripStatusArriving || to == realtime.TripStatusInProgress || to == realtime.TripStatusCompleted
		switch {
		case trip == nil:
			return errNoTrip
		case !needsDriver && to != realtime.TripStatusAssigning && to != realtime.TripStatusCancelled && to != statusNoDrivers:
			return invalid("targetStatus", "must be assigning, arriving, in_progress, completed, cancelled or no_drivers_found")
		case trip.ended() && (trip.Status != statusNoDrivers || to != realtime.TripStatusAssigning), trip.Status == to:
			return realtime.Errorf(realtime.CodeConflict, "the trip is %s", trip.state())
		case needsDriver && trip.DriverID == "":
			return realtime.Errorf(realtime.CodeConflict, "the trip has no driver")
		case to == statusNoDrivers && trip.DriverID != "":
			return realtime.Errorf(realtime.CodeConflict, "the trip has a driver")
		}
		trip.issued(t, by.ID, what, in.Reason)
		id, pid, did := trip.ID, trip.PassengerID, trip.DriverID
		switch to {
		case realtime.TripStatusArriving:
			trip.Status, trip.Arrived = to, false
			t.add(realtime.ArrivingStarted{TripID: id, PassengerID: pid, DriverID: did})
			trip.save(t)
		case realtime.TripStatusInProgress:
			trip.Status, trip.StartedAt = to, time.Now()
			t.add(realtime.TripStarted{TripID: id, PassengerID: pid, DriverID: did})
			trip.save(t)
		case realtime.TripStatusCompleted:
			fare := trip.fareTotal()
			if in.FareTotal != nil {
				fare = *in.FareTotal
				trip.Fare, trip.Waiting = &fare, 0
			}
			t.add(realtime.TripCompleted{TripID: id, PassengerID: pid, DriverID: did, FareTotal: fare, Currency: currency})
			trip.end(t, to)
		case realtime.TripStatusCancelled:
			trip.cancel(t, by.Type, in.Reason)
		case statusNoDrivers:
			trip.withdraw(t, "no driver available")
			t.add(realtime.NoDriversFound{TripID: id, PassengerID: pid, Reason: in.Reason})
			trip.end(t, to)
		default:
			trip.release(t, in.Reason)
			return trip.searchAgain(t)
		}
		return nil
	})
}

// release takes the driver off the trip.
func (trip *tripRow) release(t *tx, reason string) {
	if trip.DriverID == "" {
		return
	}
	if o := trip.offerTo(trip.DriverID); o != nil {
		o.State = offerCancelled
		t.add(realtime.AssignmentCancelled{
			TripID: trip.ID, AssignmentID: o.ID, PassengerID: trip.PassengerID, DriverID: o.DriverID, VehicleID: vehicleID(o.DriverID), Reason: reason,
		})
	}
	running.remove(t, trip.DriverID)
	publishTrip(t, trip.DriverID, "")
	trip.DriverID, trip.Arrived, trip.AcceptedAt, trip.ArrivedAt, trip.StartedAt = "", false, time.Time{}, time.Time{}, time.Time{}
}
