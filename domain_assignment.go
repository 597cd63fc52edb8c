// Domain events of assignments: offering a trip to a driver, and his answer.
//
// The driver of an offer that is open, rejected, expired or withdrawn is not
// the trip's driver: the server never guesses him from the trip, so an event
// without his DriverID reaches the admins only.

package realtime

import (
	"fmt"
	"time"

	"github.com/rodando/realtime/internal/triptable"
)

// AssignmentOffered says that a trip was offered to a driver. He and the admins
// are told. One of TTLSec and ExpiresAt is required, the other follows from it and
// At.
type AssignmentOffered struct {
	TripID          string    `json:"tripId"`
	AssignmentID    string    `json:"assignmentId"`
	PassengerID     string    `json:"passengerId,omitempty"`
	DriverID        string    `json:"driverId,omitempty"`
	VehicleID       string    `json:"vehicleId,omitempty"`
	TTLSec          int       `json:"ttlSec,omitempty"` // seconds, from At
	ExpiresAt       time.Time `json:"expiresAt,omitzero"`
	Pickup          *Place    `json:"pickup,omitempty"`
	DestinationHint *Place    `json:"destinationHint,omitempty"` // as coarse as the host wants
	StopsCount      *int      `json:"stopsCount,omitempty"`
	PriceEstimate   *float64  `json:"priceEstimate,omitempty"` // in units of Currency
	Currency        string    `json:"currency,omitempty"`      // ISO 4217
	At              time.Time `json:"at,omitzero"`
}

func (AssignmentOffered) EventName() string  { return "trip.assignment.offered" }
func (e AssignmentOffered) EventKey() string { return e.TripID }
func (e AssignmentOffered) about() subject {
	return aboutTrip(triptable.Opens, e.TripID, e.PassengerID, "", e.At, offered).offer(e.AssignmentID, e.DriverID)
}

func (e AssignmentOffered) check() error {
	if err := missing(e, "tripId", e.TripID, "assignmentId", e.AssignmentID); err != nil {
		return err
	}
	if e.TTLSec <= 0 && e.ExpiresAt.IsZero() {
		return fmt.Errorf("%s: %w: missing ttlSec or expiresAt", e.EventName(), errInvalidEvent)
	}
	return nil
}

// AssignmentAccepted says that a driver took the offer. The passenger is told with
// the cards of driver and vehicle; the driver and the admins are told which offer
// it was.
type AssignmentAccepted struct {
	TripID       string       `json:"tripId"`
	AssignmentID string       `json:"assignmentId"`
	PassengerID  string       `json:"passengerId,omitempty"`
	DriverID     string       `json:"driverId,omitempty"`
	VehicleID    string       `json:"vehicleId,omitempty"`
	Driver       *DriverCard  `json:"driver,omitempty"`
	Vehicle      *VehicleCard `json:"vehicle,omitempty"`
	At           time.Time    `json:"at,omitzero"`
}

func (AssignmentAccepted) EventName() string  { return "trip.assignment.accepted" }
func (e AssignmentAccepted) EventKey() string { return e.TripID }
func (e AssignmentAccepted) check() error {
	return missing(e, "tripId", e.TripID, "assignmentId", e.AssignmentID)
}
func (e AssignmentAccepted) about() subject {
	return aboutTrip(triptable.Assigns, e.TripID, e.PassengerID, e.DriverID, e.At, itsPassenger|itsDriver).offer(e.AssignmentID, "")
}

// AssignmentRejected says that a driver declined the offer. Only admins are told.
type AssignmentRejected struct {
	TripID       string    `json:"tripId"`
	AssignmentID string    `json:"assignmentId"`
	PassengerID  string    `json:"passengerId,omitempty"`
	DriverID     string    `json:"driverId,omitempty"`
	VehicleID    string    `json:"vehicleId,omitempty"`
	Reason       string    `json:"reason,omitempty"`
	At           time.Time `json:"at,omitzero"`
}

func (AssignmentRejected) EventName() string  { return "trip.assignment.rejected" }
func (e AssignmentRejected) EventKey() string { return e.TripID }
func (e AssignmentRejected) check() error {
	return missing(e, "tripId", e.TripID, "assignmentId", e.AssignmentID)
}
func (e AssignmentRejected) about() subject {
	return aboutTrip(triptable.Notes, e.TripID, e.PassengerID, "", e.At, 0).offer(e.AssignmentID, e.DriverID)
}

// AssignmentExpired says that a driver did not answer the offer in time. He and the
// admins are told.
type AssignmentExpired struct {
	TripID       string    `json:"tripId"`
	AssignmentID string    `json:"assignmentId"`
	PassengerID  string    `json:"passengerId,omitempty"`
	DriverID     string    `json:"driverId,omitempty"`
	VehicleID    string    `json:"vehicleId,omitempty"`
	At           time.Time `json:"at,omitzero"`
}

func (AssignmentExpired) EventName() string  { return "trip.assignment.expired" }
func (e AssignmentExpired) EventKey() string { return e.TripID }
func (e AssignmentExpired) check() error {
	return missing(e, "tripId", e.TripID, "assignmentId", e.AssignmentID)
}
func (e AssignmentExpired) about() subject {
	return aboutTrip(triptable.Releases, e.TripID, e.PassengerID, "", e.At, offered).offer(e.AssignmentID, e.DriverID)
}

// AssignmentCancelled says that the offer was withdrawn. The driver and the admins
// are told.
type AssignmentCancelled struct {
	TripID       string    `json:"tripId"`
	AssignmentID string    `json:"assignmentId"`
	PassengerID  string    `json:"passengerId,omitempty"`
	DriverID     string    `json:"driverId,omitempty"`
	VehicleID    string    `json:"vehicleId,omitempty"`
	Reason       string    `json:"reason,omitempty"`
	At           time.Time `json:"at,omitzero"`
}

func (AssignmentCancelled) EventName() string  { return "trip.assignment.cancelled" }
func (e AssignmentCancelled) EventKey() string { return e.TripID }
func (e AssignmentCancelled) check() error {
	return missing(e, "tripId", e.TripID, "assignmentId", e.AssignmentID)
}
func (e AssignmentCancelled) about() subject {
	return aboutTrip(triptable.Releases, e.TripID, e.PassengerID, "", e.At, offered).offer(e.AssignmentID, e.DriverID)
}
