// Drivers: their availability and position, with the rules of realtime.DriverState on rows of
// the database; and the store as realtime.DriverService and realtime.OfferService, whose
// methods the library calls for the events that drivers' sockets send.

package main

import (
	"context"
	"time"

	"github.com/rodando/realtime"
)

// positionRow is the last position of a driver. It has a row of its own, so that the many
// positions do not write the state.
type positionRow struct {
	Location realtime.Position `json:"location"`
	At       time.Time         `json:"at"`
	Stored   time.Time         `json:"stored"`
}

// AcceptOffer implements realtime.OfferService.
func (s *store) AcceptOffer(ctx context.Context, driverID, assignmentID string) (string, error) {
	accepted, err := s.accept(ctx, driverID, assignmentID, "")
	return accepted.TripID, err
}

// RejectOffer implements realtime.OfferService.
func (s *store) RejectOffer(ctx context.Context, driverID, assignmentID, reason string) error {
	_, err := s.reject(ctx, driverID, assignmentID, "", reason)
	return err
}

// changeStatus changes a driver's status, and publishes it if the server does not. The running
// trip, and not only the snapshot, decides whether the driver is on a trip.
func (s *store) changeStatus(ctx context.Context, driverID string, in realtime.StatusUpdate, publish bool) (a realtime.Availability, err error) {
	err = s.db.change(ctx, func(t *tx) error {
		d := driverOf(t, driverID)
		if own := running.get(t, driverID); own != nil {
			d.TripID = *own
		}
		d, err := d.WithStatus(in, time.Now())
		if err != nil {
			return err
		}
		putDriver(t, driverID, d)
		a = snapshotOf(t, driverID, d)
		if publish {
			t.add(realtime.DriverStatusChanged{Availability: a})
		}
		return nil
	})
	return a, err
}

// SetTrip implements realtime.DriverService. A driver can only set their own trip. One who
// clears it while it runs is not available before it ends.
func (s *store) SetTrip(ctx context.Context, driverID, tripID string) (a realtime.Availability, err error) {
	err = s.db.change(ctx, func(t *tx) error {
		own := running.get(t, driverID)
		if tripID != "" && (own == nil || *own != tripID) {
			return realtime.Errorf(realtime.CodeForbidden, "the trip is not yours")
		}
		d := driverOf(t, driverID).WithTrip(tripID, time.Now())
		if own != nil && tripID == "" && d.Online {
			d.Available, d.AvailableAfterTrip, d.Reason = false, d.Available, realtime.ReasonOnTrip
		}
		putDriver(t, driverID, d)
		a = snapshotOf(t, driverID, d)
		return nil
	})
	return a, err
}

// snapshot returns the state of a driver.
func (s *store) snapshot(ctx context.Context, driverID string) (a realtime.Availability, err error) {
	err = s.db.view(ctx, func(t *tx) error { a = snapshotOf(t, driverID, driverOf(t, driverID)); return nil })
	return a, err
}

// driverOf returns the state of a driver, without the position. The driver is offline at first.
func driverOf(t *tx, driverID string) realtime.DriverState {
	if d := states.get(t, driverID); d != nil {
		return *d
	}
	return realtime.DriverState{Reason: realtime.ReasonOffline}
}

func putDriver(t *tx, driverID string, d realtime.DriverState) {
	states.put(t, driverID, d, 0)
	if d.Available {
		available.set(t, driverID, 0)
	} else {
		available.remove(t, driverID)
	}
}

// publishTrip sets or clears the trip in the driver's snapshot, and publishes that: the
// change did not come over the driver's socket. A driver who was available before the trip is
// available again when it is cleared.
func publishTrip(t *tx, driverID, tripID string) {
	before := driverOf(t, driverID)
	d := before.WithTrip(tripID, time.Now())
	putDriver(t, driverID, d)
	t.add(realtime.DriverTripChanged{DriverTrip: d.Trip(driverID)})
	if d.AvailabilityChanged(before) {
		t.add(realtime.DriverStatusChanged{Availability: snapshotOf(t, driverID, d)})
	}
}

// snapshotOf returns the state of a driver as clients receive it.
func snapshotOf(t *tx, driverID string, d realtime.DriverState) realtime.Availability {
	if p := positions.get(t, driverID); p != nil {
		d.Location, d.LocatedAt = &p.Location, p.At
		if p.Stored.After(d.Updated) {
			d.Updated = p.Stored
		}
	}
	return d.Availability(driverID)
}
