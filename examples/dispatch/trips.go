// Trips and offers, and their rules. Each method changes rows and adds the resulting
// domain events in one transaction, so that a trip's events are in the order of its changes.
// Refusals are *realtime.Error, which both socket and REST send to the client.

package main

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/rodando/realtime"
)

// statusNoDrivers is the status of a trip that no driver accepted. The library has no
// such status, only the event.
const statusNoDrivers realtime.TripStatus = "no_drivers_found"

const currency = "CUP"

// request begins a trip. It is offered first to the driver whom the passenger asks for, who may be
// empty, if they are a candidate.
func (s *store) request(ctx context.Context, passengerID string, pickup, dropoff *realtime.Place, driverID string) (v tripView, err error) {
	err = s.db.change(ctx, func(t *tx) error {
		if id := running.get(t, passengerID); id != nil {
			return realtime.Errorf(realtime.CodeConflict, "trip %s is still running", *id)
		}
		trip := &tripRow{
			ID: uuid.NewString(), PassengerID: passengerID, Status: realtime.TripStatusPending,
			Pickup: pickup, Dropoff: dropoff, RequestedAt: time.Now(), Search: search{First: driverID},
		}
		if pickup != nil && dropoff != nil {
			trip.Fare = new(math.Round(100 + 0.05*meters(position(pickup), position(dropoff))))
		}
		trip.save(t)
		running.put(t, passengerID, trip.ID, 0)
		unended.set(t, trip.ID, score(trip.RequestedAt))
		due.set(t, trip.ID, score(trip.RequestedAt))
		newest.set(t, trip.ID, -score(trip.RequestedAt))
		t.add(realtime.TripRequested{
			TripID: trip.ID, PassengerID: passengerID, Pickup: pickup, FareEstimatedTotal: trip.Fare, FareFinalCurrency: currency, At: trip.RequestedAt,
		})
		v = viewOf(t, trip)
		return nil
	})
	return v, err
}

// assigning starts the search for a driver, or ends the trip's offer if it was not answered before
// now. It returns the trip if it needs an offer, and nil if it has one, or needs none.
// All instances may call it at once.
func (s *store) assigning(ctx context.Context, tripID string, now time.Time) (needs *tripRow, err error) {
	err = s.db.change(ctx, func(t *tx) error {
		needs = nil
		trip := trips.get(t, tripID)
		if trip == nil || (trip.Status != realtime.TripStatusPending && trip.Status != realtime.TripStatusAssigning) {
			due.remove(t, tripID)
			return nil
		}
		if trip.Status == realtime.TripStatusPending {
			trip.Status = realtime.TripStatusAssigning
			trip.save(t)
			t.add(realtime.TripAssigningStarted{TripID: trip.ID, PassengerID: trip.PassengerID})
		}
		if o := trip.open(); o != nil {
			if now.Before(o.ExpiresAt) {
				return nil
			}
			o.answer(t, offerExpired)
			trip.save(t)
			t.add(realtime.AssignmentExpired{
				TripID: trip.ID, AssignmentID: o.ID, PassengerID: trip.PassengerID, DriverID: o.DriverID, VehicleID: vehicleID(o.DriverID),
			})
		}
		needs = trip
		return nil
	})
	return needs, err
}

// offerTo offers the trip to the first of the drivers who is free and has not received an offer
// before. If there is none, the trip ends. It returns the offer, or nil if there is none, or if
// the trip no longer needs one.
func (s *store) offerTo(ctx context.Context, tripID string, drivers []string, ttl time.Duration) (made *offerRow, err error) {
	err = s.db.change(ctx, func(t *tx) error {
		made = nil
		trip := trips.get(t, tripID)
		if trip == nil || trip.Status != realtime.TripStatusAssigning || trip.open() != nil {
			return nil
		}
		i := slices.IndexFunc(drivers, func(id string) bool {
			if trip.offerTo(id) != nil || running.get(t, id) != nil || open.get(t, id) != nil {
				return false
			}
			u := users.get(t, id)
			return u != nil && u.Status == active
		})
		if i < 0 {
			t.add(realtime.NoDriversFound{TripID: trip.ID, PassengerID: trip.PassengerID, Reason: "no driver available"})
			trip.end(t, statusNoDrivers)
			return nil
		}
		now := time.Now()
		if trip.Search.OfferTTL > 0 {
			ttl = trip.Search.OfferTTL
		}
		o := offerRow{ID: uuid.NewString(), DriverID: drivers[i], MadeAt: now, ExpiresAt: now.Add(ttl)}
		trip.Offers = append(trip.Offers, o)
		trip.save(t)
		offers.put(t, o.ID, trip.ID, keptFor)
		open.put(t, o.DriverID, trip.ID, 0)
		due.set(t, trip.ID, score(o.ExpiresAt))
		t.add(trip.offered(&o))
		made = &o
		return nil
	})
	return made, err
}

// offered returns an offer of the trip as its driver learns of it.
func (trip *tripRow) offered(o *offerRow) realtime.AssignmentOffered {
	return realtime.AssignmentOffered{
		TripID: trip.ID, AssignmentID: o.ID, PassengerID: trip.PassengerID, DriverID: o.DriverID, VehicleID: vehicleID(o.DriverID),
		ExpiresAt: o.ExpiresAt, At: o.MadeAt, Pickup: trip.Pickup, DestinationHint: coarse(trip.Dropoff), PriceEstimate: trip.Fare, Currency: currency,
	}
}

// find returns a driver's offer, by its own id or by its trip's, with the trip.
func find(t *tx, driverID, assignmentID, tripID string) (*tripRow, *offerRow, error) {
	trip := trips.get(t, tripID)
	if tripID == "" {
		trip = tripOf(t, offers, assignmentID)
	}
	if trip != nil {
		if o := trip.offerTo(driverID); o != nil && (tripID != "" || o.ID == assignmentID) {
			return trip, o, nil
		}
	}
	return nil, nil, realtime.Errorf(realtime.CodeNotFound, "no such offer")
}

// accept assigns a driver to the trip of an offer, which is named by its own id or its
// trip's. A second call has the same result, since the first answer may have been lost.
func (s *store) accept(ctx context.Context, driverID, assignmentID, tripID string) (accepted realtime.OfferAccepted, err error) {
	err = s.db.change(ctx, func(t *tx) error {
		trip, o, err := find(t, driverID, assignmentID, tripID)
		if err != nil {
			return err
		}
		accepted = realtime.OfferAccepted{AssignmentID: o.ID, TripID: trip.ID}
		switch {
		case o.State == offerAccepted:
			return nil
		case o.State != offerOpen || !time.Now().Before(o.ExpiresAt):
			return realtime.Errorf(realtime.CodeConflict, "the offer is no longer open")
		}
		o.answer(t, offerAccepted)
		trip.DriverID, trip.Status, trip.AcceptedAt = driverID, realtime.TripStatusAccepted, time.Now()
		trip.save(t)
		running.put(t, driverID, trip.ID, 0)
		due.remove(t, trip.ID)
		driver, vehicle := driverCard(t, driverID), vehicleCard(driverID)
		t.add(
			realtime.AssignmentAccepted{
				TripID: trip.ID, AssignmentID: o.ID, PassengerID: trip.PassengerID, DriverID: driverID, VehicleID: vehicle.ID,
				Driver: driver, Vehicle: vehicle,
			},
			realtime.DriverAssigned{
				TripID: trip.ID, PassengerID: trip.PassengerID, DriverID: driverID, VehicleID: vehicle.ID,
				Driver: driver, Vehicle: vehicle, Passenger: passengerCard(t, trip.PassengerID),
			},
		)
		publishTrip(t, driverID, trip.ID)
		return nil
	})
	if err != nil {
		return realtime.OfferAccepted{}, err
	}
	return accepted, nil
}

// reject declines an offer. A second call has the same result.
func (s *store) reject(ctx context.Context, driverID, assignmentID, tripID, reason string) (rejected realtime.OfferRejected, err error) {
	err = s.db.change(ctx, func(t *tx) error {
		trip, o, err := find(t, driverID, assignmentID, tripID)
		if err != nil {
			return err
		}
		rejected = realtime.OfferRejected{AssignmentID: o.ID}
		switch o.State {
		case offerOpen:
			o.answer(t, offerRejected)
			trip.save(t)
			due.set(t, trip.ID, score(time.Now()))
			t.add(realtime.AssignmentRejected{
				TripID: trip.ID, AssignmentID: o.ID, PassengerID: trip.PassengerID, DriverID: driverID, VehicleID: vehicleID(driverID), Reason: reason,
			})
		case offerRejected:
		default:
			return realtime.Errorf(realtime.CodeConflict, "the offer is no longer open")
		}
		return nil
	})
	if err != nil {
		return realtime.OfferRejected{}, err
	}
	s.changed()
	return rejected, nil
}

// unreachable ends the time of an open offer that no device of the driver has received.
func (s *store) unreachable(ctx context.Context, driverID, assignmentID string) error {
	err := s.db.change(ctx, func(t *tx) error {
		trip, o, err := find(t, driverID, assignmentID, "")
		if err != nil || o.State != offerOpen {
			return err
		}
		o.ExpiresAt = time.Now()
		trip.save(t)
		due.set(t, trip.ID, score(o.ExpiresAt))
		return nil
	})
	s.changed()
	return err
}

// step is a step that a driver takes on their trip.
type step string

const (
	stepArriving step = "arriving" // the driver sets out for the pickup
	stepArrived  step = "arrived"  // the driver waits at the pickup
	stepStart    step = "start"
	stepComplete step = "complete"
)

// Waiting at the pickup is free for freeWaiting, and then costs waitingPrice for each minute that
// has begun.
const (
	freeWaiting  = 3 * time.Minute
	waitingPrice = 5
)

// charge adds the surcharge for waiting at the pickup, and publishes it. minutes is how long the
// driver has waited in all.
func (trip *tripRow) charge(t *tx, minutes float64) {
	if billed := math.Ceil(minutes - freeWaiting.Minutes()); billed > 0 && trip.Waiting == 0 {
		trip.Waiting = billed * waitingPrice
		t.add(realtime.WaitingSurchargeApplied{
			TripID: trip.ID, PassengerID: trip.PassengerID, DriverID: trip.DriverID, WaitingMinutes: billed, Amount: trip.Waiting, Currency: currency,
		})
	}
}

// advance takes a trip one step further. waited is how many minutes the driver has waited
// according to their app, when the trip is complete.
func (s *store) advance(ctx context.Context, driverID, tripID string, do step, waited float64) (v tripView, err error) {
	err = s.db.change(ctx, func(t *tx) error {
		trip := trips.get(t, tripID)
		switch {
		case trip == nil:
			return errNoTrip
		case trip.DriverID != driverID:
			return realtime.Errorf(realtime.CodeForbidden, "the trip is not yours")
		}
		id, pid := trip.ID, trip.PassengerID
		switch {
		case do == stepArriving && trip.Status == realtime.TripStatusAccepted:
			trip.Status = realtime.TripStatusArriving
			from, eta := enRoute(t, trip)
			t.add(
				realtime.ArrivingStarted{TripID: id, PassengerID: pid, DriverID: driverID},
				realtime.DriverEnRoute{TripID: id, PassengerID: pid, DriverID: driverID, DriverPosition: from, ETAMinutes: eta},
			)
		case do == stepArrived && trip.Status == realtime.TripStatusArriving && !trip.Arrived:
			trip.Arrived, trip.ArrivedAt = true, time.Now()
			t.add(realtime.DriverArrivedPickup{TripID: id, PassengerID: pid, DriverID: driverID})
		case do == stepStart && trip.Status == realtime.TripStatusArriving && trip.Arrived:
			trip.Status, trip.StartedAt = realtime.TripStatusInProgress, time.Now()
			trip.charge(t, time.Since(trip.ArrivedAt).Minutes())
			t.add(realtime.TripStarted{TripID: id, PassengerID: pid, DriverID: driverID})
		case do == stepComplete && trip.Status == realtime.TripStatusInProgress:
			trip.charge(t, waited)
			t.add(realtime.TripCompleted{TripID: id, PassengerID: pid, DriverID: driverID, FareTotal: trip.fareTotal(), Currency: currency})
		default:
			return realtime.Errorf(realtime.CodeConflict, "%s is not possible while the trip is %s", do, trip.state())
		}
		if do == stepComplete {
			trip.end(t, realtime.TripStatusCompleted)
		} else {
			trip.save(t)
		}
		v = viewOf(t, trip)
		return nil
	})
	return v, err
}

var errNoTrip = realtime.Errorf(realtime.CodeNotFound, "no such trip")

// cancel ends a trip early. Its open offer is withdrawn first.
func (s *store) cancel(ctx context.Context, by userRow, tripID, reason string) (v tripView, err error) {
	err = s.db.change(ctx, func(t *tx) error {
		trip := trips.get(t, tripID)
		switch {
		case trip == nil:
			return errNoTrip
		case !trip.concerns(by):
			return realtime.Errorf(realtime.CodeForbidden, "the trip is not yours")
		case trip.ended():
			return realtime.Errorf(realtime.CodeConflict, "the trip is %s", trip.state())
		}
		if by.Type == realtime.UserAdmin {
			trip.issued(t, by.ID, "cancel", reason)
		}
		trip.cancel(t, by.Type, reason)
		v = viewOf(t, trip)
		return nil
	})
	return v, err
}

// cancel withdraws the open offer and ends the trip.
func (trip *tripRow) cancel(t *tx, by realtime.UserType, reason string) {
	trip.withdraw(t, "trip canceled")
	t.add(realtime.TripCancelled{
		TripID: trip.ID, PassengerID: trip.PassengerID, DriverID: trip.DriverID, CancelledBy: realtime.CancelledBy(by), Reason: reason,
	})
	trip.end(t, realtime.TripStatusCancelled)
}

// withdraw ends the trip's open offer, if there is one.
func (trip *tripRow) withdraw(t *tx, reason string) {
	if o := trip.open(); o != nil {
		o.answer(t, offerCancelled)
		t.add(realtime.AssignmentCancelled{
			TripID: trip.ID, AssignmentID: o.ID, PassengerID: trip.PassengerID, DriverID: o.DriverID, VehicleID: vehicleID(o.DriverID), Reason: reason,
		})
	}
}

// end stores the trip as one that has ended.
func (trip *tripRow) end(t *tx, status realtime.TripStatus) {
	trip.Status, trip.EndedAt = status, time.Now()
	trips.put(t, trip.ID, *trip, keptFor)
	due.remove(t, trip.ID)
	unended.remove(t, trip.ID)
	running.remove(t, trip.PassengerID)
	if trip.DriverID != "" {
		running.remove(t, trip.DriverID)
		publishTrip(t, trip.DriverID, "")
	}
}

// message sends an admin's words to the people of a trip.
func (s *store) message(ctx context.Context, adminID, tripID string, to realtime.MessageTo, text string) error {
	return s.db.change(ctx, func(t *tx) error {
		trip := trips.get(t, tripID)
		if trip == nil {
			return errNoTrip
		}
		switch {
		case trip.DriverID != "":
		case to == realtime.MessageToDriver:
			return realtime.Errorf(realtime.CodeConflict, "the trip has no driver")
		default:
			to = realtime.MessageToPassenger
		}
		t.add(realtime.AdminTripMessage{
			TripID: trip.ID, PassengerID: trip.PassengerID, DriverID: trip.DriverID, AdminID: adminID, To: to, Message: text,
		})
		return nil
	})
}

// enRoute returns the position of the trip's driver, and the estimated minutes to the
// pickup; either is nil if it is not known.
func enRoute(t *tx, trip *tripRow) (from *realtime.Position, eta *float64) {
	p := positions.get(t, trip.DriverID)
	if p == nil {
		return nil, nil
	}
	if trip.Pickup == nil {
		return &p.Location, nil
	}
	const metersPerMinute = 500
	return &p.Location, new(math.Ceil(meters(p.Location, position(trip.Pickup)) / metersPerMinute))
}
