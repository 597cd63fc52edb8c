// Trips and offers as clients see them, over REST and in the cards of domain events.

package main

import (
	"math"
	"slices"
	"time"

	"github.com/rodando/realtime"
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

// current returns a user's running trip and open offer; either may be nil.
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

// trip returns a trip if it concerns the user.
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

// runningTrips returns the running trips, the oldest first.
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

// vehicleID returns the id of a driver's car; each driver has one.
func vehicleID(driverID string) string { return "vehicle-" + driverID }

func vehicleCard(driverID string) *realtime.VehicleCard {
	return &realtime.VehicleCard{
		ID: vehicleID(driverID), Make: new("Lada"), Model: new("2107"), Color: new("blue"), PlateNumber: new("P 123 456"),
	}
}

func position(p *realtime.Place) realtime.Position { return realtime.Position{Lat: p.Lat, Lng: p.Lng} }

// coarse returns a place to within a kilometer: a driver must not know a passenger's
// address before accepting.
func coarse(p *realtime.Place) *realtime.Place {
	if p == nil {
		return nil
	}
	return &realtime.Place{Lat: math.Round(p.Lat*100) / 100, Lng: math.Round(p.Lng*100) / 100}
}

// meters returns the distance between two points on a sphere of the earth's size.
func meters(a, b realtime.Position) float64 {
	const earth, degree = 6_371_000, math.Pi / 180
	sinLat, sinLng := math.Sin((b.Lat-a.Lat)*degree/2), math.Sin((b.Lng-a.Lng)*degree/2)
	h := sinLat*sinLat + math.Cos(a.Lat*degree)*math.Cos(b.Lat*degree)*sinLng*sinLng
	return 2 * earth * math.Asin(math.Sqrt(min(1, h)))
}
