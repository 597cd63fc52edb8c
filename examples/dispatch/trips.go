// Trips, offers, and the rules of what may happen to them. Each method changes
// the rows and adds the domain events that follow in one step, so that a trip's
// events are in the order of its changes. Refusals are *realtime.Error, which
// socket and REST both show to the client.

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

// statusNoDrivers ends a trip that nobody took. No event of the library's says
// so in its status.
const statusNoDrivers realtime.TripStatus = "no_drivers_found"

const currency = "CUP"

// trip is a row; the store's lock guards it.
type trip struct {
	id, passengerID string
	driverID        string // empty before somebody accepted
	status          realtime.TripStatus
	pickup, dropoff *realtime.Place
	fare            *float64
	requestedAt     time.Time
	arrived         bool
	asked           map[string]*offer // by driver; nobody is asked twice
}

// offer is an assignment of a trip to a driver, for him to accept or not.
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

// tripView is a trip as REST shows it.
type tripView struct {
	TripID             string                  `json:"tripId"`
	Status             realtime.TripStatus     `json:"status"`
	PassengerID        string                  `json:"passengerId"`
	DriverID           *string                 `json:"driverId"`
	VehicleID          *string                 `json:"vehicleId"`
	Pickup             *realtime.Place         `json:"pickup"`
	Dropoff            *realtime.Place         `json:"dropoff"`
	FareEstimatedTotal *float64                `json:"fareEstimatedTotal"`
	Currency           string                  `json:"currency"`
	RequestedAt        realtime.Time           `json:"requestedAt"`
	Arrived            bool                    `json:"arrived"` // the driver is at the pickup
	Driver             *realtime.DriverCard    `json:"driver"`
	Vehicle            *realtime.VehicleCard   `json:"vehicle"`
	Passenger          *realtime.PassengerCard `json:"passenger"`
}

// offerView is an offer as REST shows it to its driver.
type offerView struct {
	AssignmentID  string          `json:"assignmentId"`
	TripID        string          `json:"tripId"`
	ExpiresAt     realtime.Time   `json:"expiresAt"`
	Pickup        *realtime.Place `json:"pickup"`
	Dropoff       *realtime.Place `json:"dropoff"`
	PriceEstimate *float64        `json:"priceEstimate"`
	Currency      string          `json:"currency"`
}

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

// assigning says that the search for a driver begins. It is false when the trip
// has ended already.
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

// offerTo offers the trip to the first of the drivers who can take it and was
// not asked yet. When none can, the trip ends; when it is no longer looking for
// a driver, nothing happens. It returns the offer to wait for, or nil.
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

// expire ends an offer that nobody answered in time.
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

// accept makes a driver the trip's. The offer is named by its id or its trip's.
// Again, it is the same success: the first answer may have been lost.
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

// reject declines an offer; so does rejecting it again.
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

// step is what the driver does next on his trip.
type step string

const (
	stepArriving step = "arriving" // he sets out
	stepArrived  step = "arrived"  // he waits at the pickup
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

// cancel ends a trip early. An open offer of it is withdrawn first.
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
				TripID: t.id, AssignmentID: o.id, PassengerID: t.passengerID, DriverID: driver, VehicleID: vehicleID(driver), Reason: "trip cancelled",
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

// setDriversTrip puts a trip into the driver's snapshot, or takes it out, and
// tells who watches him: this did not come in over his socket. It is called
// with s.mu held, so that snapshot and trip change together.
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

// current returns the running trip of a user and the offer that waits for his
// answer; either may be nil.
func (s *store) current(userID string) (*tripView, *offerView) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var running *tripView
	if t := s.running[userID]; t != nil {
		running = new(s.view(t))
	}
	o := s.open[userID]
	if o == nil || !time.Now().Before(o.expiresAt) {
		return running, nil
	}
	return running, &offerView{
		AssignmentID: o.id, TripID: o.trip.id, ExpiresAt: realtime.Time{Time: o.expiresAt},
		Pickup: o.trip.pickup, Dropoff: coarse(o.trip.dropoff), PriceEstimate: o.trip.fare, Currency: currency,
	}
}

// trip returns a trip to somebody whom it concerns.
func (s *store) trip(by userRow, tripID string) (tripView, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.trips[tripID]
	switch {
	case t == nil:
		return tripView{}, errNoTrip
	case !t.concerns(by):
		return tripView{}, realtime.Errorf(realtime.CodeForbidden, "the trip is not yours")
	}
	return s.view(t), nil
}

// runningTrips returns all that run, the oldest first.
func (s *store) runningTrips() []tripView {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := []tripView{}
	for id, t := range s.running {
		if id == t.passengerID {
			found = append(found, s.view(t))
		}
	}
	slices.SortFunc(found, func(a, b tripView) int { return a.RequestedAt.Compare(b.RequestedAt.Time) })
	return found
}

// concerns reports whether somebody may see and cancel the trip.
func (t *trip) concerns(u userRow) bool {
	return u.Type == realtime.UserAdmin || u.ID == t.passengerID || u.ID == t.driverID
}

// state is the status in more words.
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

// view is called with s.mu held.
func (s *store) view(t *trip) tripView {
	v := tripView{
		TripID: t.id, Status: t.status, PassengerID: t.passengerID, Pickup: t.pickup, Dropoff: t.dropoff,
		FareEstimatedTotal: t.fare, Currency: currency, RequestedAt: realtime.Time{Time: t.requestedAt}, Arrived: t.arrived,
		Passenger: s.passengerCard(t.passengerID),
	}
	if t.driverID != "" {
		v.DriverID, v.Driver, v.Vehicle = &t.driverID, s.driverCard(t.driverID), vehicleCard(t.driverID)
		v.VehicleID = &v.Vehicle.ID
	}
	return v
}

// enRoute returns where the trip's driver is, and how far from the pickup in
// minutes; nil what is not known.
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

func (s *store) driverCard(id string) *realtime.DriverCard {
	return &realtime.DriverCard{ID: id, Name: s.name(id), PhoneMasked: new("+53 ••• ••123"), RatingAvg: new(4.8), RatingCount: new(57)}
}

func (s *store) passengerCard(id string) *realtime.PassengerCard {
	return &realtime.PassengerCard{ID: id, Name: s.name(id), PhoneMasked: new("+53 ••• ••456")}
}

func (s *store) name(userID string) *string {
	if u := s.users[userID]; u != nil && u.Name != "" {
		return &u.Name
	}
	return nil
}

// vehicleID names the driver's car: each has one, of the same make.
func vehicleID(driverID string) string { return "vehicle-" + driverID }

func vehicleCard(driverID string) *realtime.VehicleCard {
	return &realtime.VehicleCard{
		ID: vehicleID(driverID), Make: new("Lada"), Model: new("2107"), Color: new("blue"), PlateNumber: new("P 123 456"),
	}
}

func position(p *realtime.Place) realtime.Position { return realtime.Position{Lat: p.Lat, Lng: p.Lng} }

// coarse is a place to within a kilometre: before he accepts, a driver learns
// no passenger's address.
func coarse(p *realtime.Place) *realtime.Place {
	if p == nil {
		return nil
	}
	return &realtime.Place{Lat: math.Round(p.Lat*100) / 100, Lng: math.Round(p.Lng*100) / 100}
}

// meters is the distance between two points on a sphere the size of the earth.
func meters(a, b realtime.Position) float64 {
	const earth, degree = 6_371_000, math.Pi / 180
	sinLat, sinLng := math.Sin((b.Lat-a.Lat)*degree/2), math.Sin((b.Lng-a.Lng)*degree/2)
	h := sinLat*sinLat + math.Cos(a.Lat*degree)*math.Cos(b.Lat*degree)*sinLng*sinLng
	return 2 * earth * math.Asin(math.Sqrt(min(1, h)))
}
