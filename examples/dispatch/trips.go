// Trips and offers, and their rules. Each method changes rows and adds the resulting
// domain events under one lock, so that a trip's events are in the order of its changes.
// Refusals are *realtime.Error, which both socket and REST send to the client.

package main

import (
	"context"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/rodando/realtime"
)

// statusNoDrivers is the status of a trip that no driver accepted. The library has no
// such status, only the event.
const statusNoDrivers realtime.TripStatus = "no_drivers_found"

const currency = "CUP"

// trip is a row; the store's lock guards it.
type trip struct {
	id, passengerID string
	driverID        string // empty until a driver has accepted
	status          realtime.TripStatus
	pickup, dropoff *realtime.Place
	fare            *float64
	requestedAt     time.Time
	arrived         bool
	asked           map[string]*offer // by driver; no driver receives a second offer
}

// offer is an assignment of a trip that a driver may accept.
type offer struct {
	id, driverID string
	trip         *trip
	state        offerState
	expiresAt    time.Time
	answered     chan struct{} // closed when state is no longer open
}

type offerState int

const (
	offerOpen offerState = iota
	offerAccepted
	offerRejected
	offerExpired
	offerCancelled
)

// request begins a trip.
func (s *store) request(passengerID string, pickup, dropoff *realtime.Place) (tripView, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.running[passengerID]; t != nil {
		return tripView{}, realtime.Errorf(realtime.CodeConflict, "trip %s is still running", t.id)
	}
	t := &trip{
		id: uuid.NewString(), passengerID: passengerID, status: realtime.TripStatusPending,
		pickup: pickup, dropoff: dropoff, requestedAt: time.Now(), asked: map[string]*offer{},
	}
	if pickup != nil && dropoff != nil {
		t.fare = new(math.Round(100 + 0.05*meters(position(pickup), position(dropoff))))
	}
	s.trips[t.id], s.running[passengerID] = t, t
	s.events.add(realtime.TripRequested{
		TripID: t.id, PassengerID: passengerID, Pickup: pickup, FareEstimatedTotal: t.fare, FareFinalCurrency: currency, At: t.requestedAt,
	})
	return s.view(t), nil
}

// assigning starts the search for a driver. ok is false when the trip has already ended.
func (s *store) assigning(tripID string) (pickup *realtime.Place, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.trips[tripID]
	if t.status != realtime.TripStatusPending {
		return nil, false
	}
	t.status = realtime.TripStatusAssigning
	s.events.add(realtime.TripAssigningStarted{TripID: t.id, PassengerID: t.passengerID})
	return t.pickup, true
}

// offerTo offers the trip to the first of the drivers who is free and has not received an offer
// before. If there is none, the trip ends. It returns the offer to wait for, or nil if
// there is none or the trip no longer needs a driver.
func (s *store) offerTo(tripID string, drivers []string, ttl time.Duration) *offer {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.trips[tripID]
	if t.status != realtime.TripStatusAssigning {
		return nil
	}
	i := slices.IndexFunc(drivers, func(id string) bool {
		u := s.users[id]
		return u != nil && u.Status == active && s.running[id] == nil && s.open[id] == nil && t.asked[id] == nil
	})
	if i < 0 {
		t.status = statusNoDrivers
		delete(s.running, t.passengerID)
		s.events.add(realtime.NoDriversFound{TripID: t.id, PassengerID: t.passengerID, Reason: "no driver available"})
		return nil
	}
	now := time.Now()
	o := &offer{id: uuid.NewString(), driverID: drivers[i], trip: t, expiresAt: now.Add(ttl), answered: make(chan struct{})}
	s.offers[o.id], s.open[o.driverID], t.asked[o.driverID] = o, o, o
	s.events.add(realtime.AssignmentOffered{
		TripID: t.id, AssignmentID: o.id, PassengerID: t.passengerID, DriverID: o.driverID, VehicleID: vehicleID(o.driverID),
		ExpiresAt: o.expiresAt, At: now, Pickup: t.pickup, DestinationHint: coarse(t.dropoff), PriceEstimate: t.fare, Currency: currency,
	})
	return o
}

// answer ends an open offer. It is called with s.mu held.
func (s *store) answer(o *offer, state offerState) {
	o.state = state
	delete(s.open, o.driverID)
	close(o.answered)
}

// expire ends an offer that was not answered in time.
func (s *store) expire(o *offer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o.state != offerOpen {
		return
	}
	s.answer(o, offerExpired)
	s.events.add(realtime.AssignmentExpired{
		TripID: o.trip.id, AssignmentID: o.id, PassengerID: o.trip.passengerID, DriverID: o.driverID, VehicleID: vehicleID(o.driverID),
	})
}

var errNoOffer = realtime.Errorf(realtime.CodeNotFound, "no such offer")

// find returns a driver's offer by its own id or by its trip's. It is called
// with s.mu held.
func (s *store) find(driverID, assignmentID, tripID string) (*offer, error) {
	o := s.offers[assignmentID]
	if t := s.trips[tripID]; t != nil {
		o = t.asked[driverID]
	}
	if o == nil || o.driverID != driverID {
		return nil, errNoOffer
	}
	return o, nil
}

// accept assigns a driver to the trip of an offer, which is named by its own id or its
// trip's. A second call has the same result, since the first answer may have been lost.
func (s *store) accept(driverID, assignmentID, tripID string) (realtime.OfferAccepted, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, err := s.find(driverID, assignmentID, tripID)
	if err != nil {
		return realtime.OfferAccepted{}, err
	}
	t := o.trip
	accepted := realtime.OfferAccepted{AssignmentID: o.id, TripID: t.id}
	switch {
	case o.state == offerAccepted:
		return accepted, nil
	case o.state != offerOpen || !time.Now().Before(o.expiresAt):
		return realtime.OfferAccepted{}, realtime.Errorf(realtime.CodeConflict, "the offer is no longer open")
	}
	s.answer(o, offerAccepted)
	t.driverID, t.status = driverID, realtime.TripStatusAccepted
	s.running[driverID] = t
	driver, vehicle := s.driverCard(driverID), vehicleCard(driverID)
	s.events.add(
		realtime.AssignmentAccepted{
			TripID: t.id, AssignmentID: o.id, PassengerID: t.passengerID, DriverID: driverID, VehicleID: vehicle.ID,
			Driver: driver, Vehicle: vehicle,
		},
		realtime.DriverAssigned{
			TripID: t.id, PassengerID: t.passengerID, DriverID: driverID, VehicleID: vehicle.ID,
			Driver: driver, Vehicle: vehicle, Passenger: s.passengerCard(t.passengerID),
		},
	)
	s.setDriversTrip(driverID, t.id)
	return accepted, nil
}

// reject declines an offer. A second call has the same result.
func (s *store) reject(driverID, assignmentID, tripID, reason string) (realtime.OfferRejected, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, err := s.find(driverID, assignmentID, tripID)
	if err != nil {
		return realtime.OfferRejected{}, err
	}
	switch o.state {
	case offerOpen:
		s.answer(o, offerRejected)
		s.events.add(realtime.AssignmentRejected{
			TripID: o.trip.id, AssignmentID: o.id, PassengerID: o.trip.passengerID, DriverID: driverID, VehicleID: vehicleID(driverID), Reason: reason,
		})
	case offerRejected:
	default:
		return realtime.OfferRejected{}, realtime.Errorf(realtime.CodeConflict, "the offer is no longer open")
	}
	return realtime.OfferRejected{AssignmentID: o.id}, nil
}

// step is a step that a driver takes on their trip.
type step string

const (
	stepArriving step = "arriving" // the driver sets out for the pickup
	stepArrived  step = "arrived"  // the driver waits at the pickup
	stepStart    step = "start"
	stepComplete step = "complete"
)

// advance takes a trip one step further.
func (s *store) advance(driverID, tripID string, do step) (tripView, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.trips[tripID]
	switch {
	case t == nil:
		return tripView{}, errNoTrip
	case t.driverID != driverID:
		return tripView{}, realtime.Errorf(realtime.CodeForbidden, "the trip is not yours")
	}
	id, pid := t.id, t.passengerID
	switch {
	case do == stepArriving && t.status == realtime.TripStatusAccepted:
		t.status = realtime.TripStatusArriving
		from, eta := s.enRoute(t)
		s.events.add(
			realtime.ArrivingStarted{TripID: id, PassengerID: pid, DriverID: driverID},
			realtime.DriverEnRoute{TripID: id, PassengerID: pid, DriverID: driverID, DriverPosition: from, ETAMinutes: eta},
		)
	case do == stepArrived && t.status == realtime.TripStatusArriving && !t.arrived:
		t.arrived = true
		s.events.add(realtime.DriverArrivedPickup{TripID: id, PassengerID: pid, DriverID: driverID})
	case do == stepStart && t.status == realtime.TripStatusArriving && t.arrived:
		t.status = realtime.TripStatusInProgress
		s.events.add(realtime.TripStarted{TripID: id, PassengerID: pid, DriverID: driverID})
	case do == stepComplete && t.status == realtime.TripStatusInProgress:
		s.events.add(realtime.TripCompleted{TripID: id, PassengerID: pid, DriverID: driverID, FareTotal: t.fareTotal(), Currency: currency})
		s.end(t, realtime.TripStatusCompleted)
	default:
		return tripView{}, realtime.Errorf(realtime.CodeConflict, "%s is not possible while the trip is %s", do, t.state())
	}
	return s.view(t), nil
}

var errNoTrip = realtime.Errorf(realtime.CodeNotFound, "no such trip")

// cancel ends a trip early. Its open offer is withdrawn first.
func (s *store) cancel(by userRow, tripID, reason string) (tripView, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.trips[tripID]
	switch {
	case t == nil:
		return tripView{}, errNoTrip
	case !t.concerns(by):
		return tripView{}, realtime.Errorf(realtime.CodeForbidden, "the trip is not yours")
	case s.running[t.passengerID] != t:
		return tripView{}, realtime.Errorf(realtime.CodeConflict, "the trip is %s", t.state())
	}
	if by.Type == realtime.UserAdmin {
		s.events.add(realtime.AdminTripAction{
			TripID: t.id, PassengerID: t.passengerID, DriverID: t.driverID, AdminID: by.ID, Action: "cancel", Reason: reason,
		})
	}
	for driver, o := range t.asked {
		if o.state == offerOpen {
			s.answer(o, offerCancelled)
			s.events.add(realtime.AssignmentCancelled{
				TripID: t.id, AssignmentID: o.id, PassengerID: t.passengerID, DriverID: driver, VehicleID: vehicleID(driver), Reason: "trip canceled",
			})
		}
	}
	s.events.add(realtime.TripCancelled{
		TripID: t.id, PassengerID: t.passengerID, DriverID: t.driverID, CancelledBy: realtime.CancelledBy(by.Type), Reason: reason,
	})
	s.end(t, realtime.TripStatusCancelled)
	return s.view(t), nil
}

// end is called with s.mu held.
func (s *store) end(t *trip, status realtime.TripStatus) {
	t.status = status
	delete(s.running, t.passengerID)
	if t.driverID != "" {
		delete(s.running, t.driverID)
		s.setDriversTrip(t.driverID, "")
	}
}

// setDriversTrip sets or clears the trip in the driver's snapshot, and publishes that: the
// change did not come over the driver's socket. It is called with s.mu held, so that
// snapshot and trip change together.
func (s *store) setDriversTrip(driverID, tripID string) {
	a, err := s.drivers.SetTrip(context.Background(), driverID, tripID)
	if err != nil { // cannot happen: MemoryDrivers refuses nothing here
		return
	}
	s.events.add(realtime.DriverTripChanged{DriverTrip: realtime.DriverTrip{
		DriverID: driverID, CurrentTripID: a.CurrentTripID, AvailabilityReason: a.AvailabilityReason, IsAvailableForTrips: a.IsAvailableForTrips,
	}})
}

// message sends an admin's words to the people of a trip.
func (s *store) message(adminID, tripID string, to realtime.MessageTo, text string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.trips[tripID]
	if t == nil {
		return errNoTrip
	}
	s.events.add(realtime.AdminTripMessage{
		TripID: t.id, PassengerID: t.passengerID, DriverID: t.driverID, AdminID: adminID, To: to, Message: text,
	})
	return nil
}

// concerns reports whether a user may see and cancel the trip.
func (t *trip) concerns(u userRow) bool {
	return u.Type == realtime.UserAdmin || u.ID == t.passengerID || u.ID == t.driverID
}

// state returns the status for error messages.
func (t *trip) state() string {
	if t.status == realtime.TripStatusArriving && t.arrived {
		return "arriving, the driver at the pickup"
	}
	return strings.ReplaceAll(string(t.status), "_", " ")
}

func (t *trip) fareTotal() float64 {
	if t.fare == nil {
		return 100
	}
	return *t.fare
}

// enRoute returns the position of the trip's driver, and the estimated minutes to the
// pickup; either is nil if it is not known.
func (s *store) enRoute(t *trip) (from *realtime.Position, eta *float64) {
	if a, known := s.drivers.Snapshot(t.driverID); known {
		from = a.LastLocation
	}
	if from == nil || t.pickup == nil {
		return from, nil
	}
	const metersPerMinute = 500
	return from, new(math.Ceil(meters(*from, position(t.pickup)) / metersPerMinute))
}
