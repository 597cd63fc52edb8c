// Trips and offers as they are stored.

package main

import (
	"strings"
	"time"

	"github.com/rodando/realtime"
)

// tripRow is a trip with its offers.
type tripRow struct {
	ID          string              `json:"id"`
	PassengerID string              `json:"passengerId"`
	DriverID    string              `json:"driverId"` // empty until a driver has accepted
	Status      realtime.TripStatus `json:"status"`
	Pickup      *realtime.Place     `json:"pickup"`
	Dropoff     *realtime.Place     `json:"dropoff"`
	Fare        *float64            `json:"fare"`
	RequestedAt time.Time           `json:"requestedAt"`
	Arrived     bool                `json:"arrived"`
	AcceptedAt  time.Time           `json:"acceptedAt"` // zero until then, as the next three
	ArrivedAt   time.Time           `json:"arrivedAt"`
	StartedAt   time.Time           `json:"startedAt"`
	EndedAt     time.Time           `json:"endedAt"`
	Waiting     float64             `json:"waiting"` // the surcharge for waiting at the pickup, in the currency
	Search      search              `json:"search"`
	Offers      []offerRow          `json:"offers"` // in their order; no driver receives a second one
}

// search is how drivers are found for a trip; zero values are the configuration's. An admin who
// retries the matching sets it.
type search struct {
	Radius     float64       `json:"radius"`     // meters
	Candidates int           `json:"candidates"` // how many of the nearest drivers
	OfferTTL   time.Duration `json:"offerTtl"`
	First      string        `json:"first"` // the driver whom the passenger asks for
}

// offerRow is an assignment of a trip that a driver may accept.
type offerRow struct {
	ID        string     `json:"id"`
	DriverID  string     `json:"driverId"`
	State     offerState `json:"state"`
	MadeAt    time.Time  `json:"madeAt"`
	ExpiresAt time.Time  `json:"expiresAt"`
}

type offerState int

const (
	offerOpen offerState = iota
	offerAccepted
	offerRejected
	offerExpired
	offerCancelled
)

// keptFor is how long a trip that has ended, and an offer, can still be looked up.
const keptFor = 24 * time.Hour

// tripOf returns the trip whose id a table has, or nil.
func tripOf(t *tx, tb table[string], id string) *tripRow {
	if tripID := tb.get(t, id); tripID != nil {
		return trips.get(t, *tripID)
	}
	return nil
}

// save stores a trip that runs.
func (trip *tripRow) save(t *tx) { trips.put(t, trip.ID, *trip, 0) }

// offerTo returns the offer to a driver, or nil.
func (trip *tripRow) offerTo(driverID string) *offerRow {
	for i := range trip.Offers {
		if trip.Offers[i].DriverID == driverID {
			return &trip.Offers[i]
		}
	}
	return nil
}

// open returns the offer that waits for an answer, or nil.
func (trip *tripRow) open() *offerRow {
	for i := range trip.Offers {
		if trip.Offers[i].State == offerOpen {
			return &trip.Offers[i]
		}
	}
	return nil
}

// answer ends an open offer.
func (o *offerRow) answer(t *tx, state offerState) {
	o.State = state
	open.remove(t, o.DriverID)
}

// concerns reports whether a user may see and cancel the trip.
func (trip *tripRow) concerns(u userRow) bool {
	return u.Type == realtime.UserAdmin || u.ID == trip.PassengerID || u.ID == trip.DriverID
}

// state returns the status for error messages.
func (trip *tripRow) state() string {
	if trip.Status == realtime.TripStatusArriving && trip.Arrived {
		return "arriving, the driver at the pickup"
	}
	return strings.ReplaceAll(string(trip.Status), "_", " ")
}

func (trip *tripRow) fareTotal() float64 {
	if trip.Fare == nil {
		return 100 + trip.Waiting
	}
	return *trip.Fare + trip.Waiting
}

func (trip *tripRow) ended() bool {
	return trip.Status == realtime.TripStatusCompleted || trip.Status == realtime.TripStatusCancelled || trip.Status == statusNoDrivers
}
