// Drivers: their availability and position, with the rules of realtime.MemoryDrivers but in
// the database; and the store as realtime.DriverService and realtime.OfferService, whose
// methods the library calls for the events that drivers' sockets send.

package main

import (
	"context"
	"time"

	"github.com/rodando/realtime"
)

// driverRow is the state of a driver.
type driverRow struct {
	Online    bool                        `json:"online"`
	Available bool                        `json:"available"` // never if offline or on a trip
	Reason    realtime.AvailabilityReason `json:"reason"`
	TripID    string                      `json:"tripId"`

	LastOnline time.Time `json:"lastOnline"`
	Updated    time.Time `json:"updated"`
}

// positionRow is the last position of a driver. It has a row of its own, so that the changes of a
// trip, which are about the state, do not run again when a position arrives meanwhile.
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

// UpdateStatus implements realtime.DriverService with the rules of MemoryDrivers, except
// that the running trip, not the snapshot, decides whether the driver is on a trip.
func (s *store) UpdateStatus(ctx context.Context, driverID string, in realtime.StatusUpdate) (a realtime.Availability, err error) {
	if err := in.Validate(); err != nil {
		return a, err
	}
	err = s.db.change(ctx, func(t *tx) error {
		d := driverOf(t, driverID)
		online, free := d.Online, d.Available
		if in.IsAvailableForTrips != nil {
			free = *in.IsAvailableForTrips
			online = online || free
		}
		if in.IsOnline != nil {
			online = *in.IsOnline
			free = free && online
		}
		var reason realtime.AvailabilityReason
		if in.AvailabilityReason != nil {
			reason = *in.AvailabilityReason
		}
		switch {
		case free && (d.TripID != "" || running.get(t, driverID) != nil):
			return realtime.Errorf(realtime.CodeConflict, "not available while on a trip")
		case reason == "":
			reason = impliedReason(online, free, d.TripID)
		case free || online == (reason == realtime.ReasonOffline):
			return realtime.Errorf(realtime.CodeConflict, "the reason does not fit the driver's status")
		}
		now := time.Now()
		if d.Online || online {
			d.LastOnline = now
		}
		d.Online, d.Available, d.Reason, d.Updated = online, free, reason, now
		putDriver(t, driverID, d)
		a = d.snapshot(t, driverID)
		return nil
	})
	return a, err
}

// UpdateLocation implements realtime.DriverService.
func (s *store) UpdateLocation(ctx context.Context, driverID string, in realtime.LocationPing) (out realtime.LocationUpdate, fresh bool, err error) {
	if err := in.Validate(); err != nil {
		return out, false, err
	}
	now := time.Now()
	at := in.LastLocationTimestamp.Time
	if at.IsZero() {
		at = now
	}
	err = s.db.change(ctx, func(t *tx) error {
		old := positions.get(t, driverID)
		// A time far ahead came from a wrong clock; any ping replaces it.
		fresh = old == nil || !at.Before(old.At) || old.At.After(now.Add(time.Minute))
		if fresh {
			positions.put(t, driverID, positionRow{*in.Position, at, now}, 0)
		}
		return nil
	})
	if err != nil || !fresh {
		return out, false, err
	}
	return realtime.LocationUpdate{
		DriverID: driverID, LastLocation: *in.Position, LastLocationTimestamp: realtime.Time{Time: at}, Heading: in.Heading, Speed: in.Speed,
	}, true, nil
}

// SetTrip implements realtime.DriverService. A driver can only set their own trip.
func (s *store) SetTrip(ctx context.Context, driverID, tripID string) (a realtime.Availability, err error) {
	err = s.db.change(ctx, func(t *tx) error {
		if own := running.get(t, driverID); tripID != "" && (own == nil || *own != tripID) {
			return realtime.Errorf(realtime.CodeForbidden, "the trip is not yours")
		}
		a = setTrip(t, driverID, tripID).snapshot(t, driverID)
		return nil
	})
	return a, err
}

// snapshot returns the state of a driver.
func (s *store) snapshot(ctx context.Context, driverID string) (a realtime.Availability, err error) {
	err = s.db.view(ctx, func(t *tx) error { a = driverOf(t, driverID).snapshot(t, driverID); return nil })
	return a, err
}

// driverOf returns the state of a driver, who is offline at first.
func driverOf(t *tx, driverID string) driverRow {
	if d := states.get(t, driverID); d != nil {
		return *d
	}
	return driverRow{Reason: realtime.ReasonOffline}
}

func putDriver(t *tx, driverID string, d driverRow) {
	states.put(t, driverID, d, 0)
	if d.Available {
		available.set(t, driverID, 0)
	} else {
		available.remove(t, driverID)
	}
}

func setTrip(t *tx, driverID, tripID string) driverRow {
	d := driverOf(t, driverID)
	d.TripID = tripID
	d.Available = d.Available && tripID == ""
	d.Reason = impliedReason(d.Online, d.Available, tripID)
	d.Updated = time.Now()
	putDriver(t, driverID, d)
	return d
}

// publishTrip sets or clears the trip in the driver's snapshot, and publishes that: the
// change did not come over the driver's socket.
func publishTrip(t *tx, driverID, tripID string) {
	d := setTrip(t, driverID, tripID)
	e := realtime.DriverTrip{DriverID: driverID, AvailabilityReason: d.Reason, IsAvailableForTrips: d.Available}
	if tripID != "" {
		e.CurrentTripID = &tripID
	}
	t.add(realtime.DriverTripChanged{DriverTrip: e})
}

func (d driverRow) snapshot(t *tx, driverID string) realtime.Availability {
	a := realtime.Availability{
		DriverID: driverID, IsOnline: d.Online, IsAvailableForTrips: d.Available, AvailabilityReason: d.Reason,
		LastOnlineTimestamp: realtime.Time{Time: d.LastOnline}, UpdatedAt: realtime.Time{Time: d.Updated},
	}
	if d.TripID != "" {
		a.CurrentTripID = &d.TripID
	}
	if p := positions.get(t, driverID); p != nil {
		a.LastLocation, a.LastLocationTimestamp = &p.Location, realtime.Time{Time: p.At}
		if p.Stored.After(d.Updated) {
			a.UpdatedAt = realtime.Time{Time: p.Stored}
		}
	}
	return a
}

// impliedReason returns the default reason of a status.
func impliedReason(online, free bool, tripID string) realtime.AvailabilityReason {
	switch {
	case !online:
		return realtime.ReasonOffline
	case free:
		return ""
	case tripID != "":
		return realtime.ReasonOnTrip
	}
	return realtime.ReasonUnavailable
}
