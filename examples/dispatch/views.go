// Trips and offers as clients see them, over REST and in the cards of domain events.

package main

import (
	"context"
	"math"
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
func (s *store) current(ctx context.Context, userID string) (trip *tripView, offer *offerView, err error) {
	err = s.db.view(ctx, func(t *tx) error {
		if row := tripOf(t, running, userID); row != nil {
			trip = new(viewOf(t, row))
		}
		row := tripOf(t, open, userID)
		if row == nil {
			return nil
		}
		o := row.offerTo(userID)
		if o == nil || o.State != offerOpen || !time.Now().Before(o.ExpiresAt) {
			return nil
		}
		offer = &offerView{
			AssignmentID: o.ID, TripID: row.ID, ExpiresAt: realtime.Time{Time: o.ExpiresAt},
			Pickup: row.Pickup, Dropoff: coarse(row.Dropoff), PriceEstimate: row.Fare, Currency: currency,
		}
		return nil
	})
	return trip, offer, err
}

// FindSnapshot implements realtime.SnapshotLookup. What changes after it has read the rows is
// published after that, and reaches the socket as an event.
func (s *store) FindSnapshot(ctx context.Context, namespace string, id realtime.Identity) (found realtime.Snapshot, err error) {
	err = s.db.view(ctx, func(t *tx) error {
		found = realtime.Snapshot{}
		if trip := tripOf(t, running, id.UserID); trip != nil && !trip.ended() {
			found.Trips = []realtime.TripSnapshot{snapshotOfTrip(t, trip)}
		}
		if namespace != realtime.NamespaceDrivers {
			return nil
		}
		found.Availability = new(snapshotOf(t, id.UserID, driverOf(t, id.UserID)))
		trip := tripOf(t, open, id.UserID)
		if trip == nil {
			return nil
		}
		if o := trip.offerTo(id.UserID); o != nil && o.State == offerOpen {
			found.Offers = []realtime.AssignmentOffered{trip.offered(o)}
		}
		return nil
	})
	return found, err
}

func snapshotOfTrip(t *tx, trip *tripRow) realtime.TripSnapshot {
	v := viewOf(t, trip)
	found := realtime.TripSnapshot{
		TripID: trip.ID, Status: trip.Status, PassengerID: trip.PassengerID, DriverID: trip.DriverID,
		RequestedAt: trip.RequestedAt, ArrivedAt: trip.ArrivedAt, Pickup: trip.Pickup, Destination: trip.Dropoff,
		FareEstimatedTotal: trip.Fare, Currency: currency, Driver: v.Driver, Vehicle: v.Vehicle, Passenger: v.Passenger,
	}
	if v.VehicleID != nil {
		found.VehicleID = *v.VehicleID
	}
	if trip.Status == realtime.TripStatusArriving {
		found.DriverPosition, found.ETAMinutes = enRoute(t, trip)
	}
	return found
}

// trip returns a trip if it concerns the user.
func (s *store) trip(ctx context.Context, by userRow, tripID string) (v tripView, err error) {
	err = s.db.view(ctx, func(t *tx) error {
		trip := trips.get(t, tripID)
		switch {
		case trip == nil:
			return errNoTrip
		case !trip.concerns(by):
			return realtime.Errorf(realtime.CodeForbidden, "the trip is not yours")
		}
		v = viewOf(t, trip)
		return nil
	})
	return v, err
}

// runningTrips returns the running trips, the oldest first, at most a thousand.
func (s *store) runningTrips(ctx context.Context) ([]tripView, error) {
	found := []tripView{}
	members, err := s.db.lowest(ctx, unended, 1000)
	if err != nil {
		return nil, err
	}
	err = s.db.view(ctx, func(t *tx) error {
		trips.load(t, ids(members))
		for _, m := range members {
			if trip := trips.get(t, m.id); trip != nil && !trip.ended() {
				found = append(found, viewOf(t, trip))
			}
		}
		return nil
	})
	return found, err
}

func viewOf(t *tx, trip *tripRow) tripView {
	v := tripView{
		TripID: trip.ID, Status: trip.Status, PassengerID: trip.PassengerID, Pickup: trip.Pickup, Dropoff: trip.Dropoff,
		FareEstimatedTotal: trip.Fare, Currency: currency, RequestedAt: realtime.Time{Time: trip.RequestedAt}, Arrived: trip.Arrived,
		Passenger: passengerCard(t, trip.PassengerID),
	}
	if trip.DriverID != "" {
		v.DriverID, v.Driver, v.Vehicle = &trip.DriverID, driverCard(t, trip.DriverID), vehicleCard(trip.DriverID)
		v.VehicleID = &v.Vehicle.ID
	}
	return v
}

func driverCard(t *tx, id string) *realtime.DriverCard {
	return &realtime.DriverCard{ID: id, Name: nameOf(t, id), PhoneMasked: new("+53 ••• ••123"), RatingAvg: new(4.8), RatingCount: new(57)}
}

func passengerCard(t *tx, id string) *realtime.PassengerCard {
	return &realtime.PassengerCard{ID: id, Name: nameOf(t, id), PhoneMasked: new("+53 ••• ••456")}
}

func nameOf(t *tx, userID string) *string {
	if u := users.get(t, userID); u != nil && u.Name != "" {
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
