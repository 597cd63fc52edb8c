// Offer events: offers of a trip to a driver, and the driver's answer. In event names an
// offer is called an assignment.
//
// The driver to whom a trip is offered need not be the trip's driver. So the server does not
// use the trip's known driver for an offer that is open, rejected, expired or withdrawn: if
// such an event has no DriverID, only the admins receive it.

package realtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"time"
	"unicode/utf8"

	"github.com/rodando/realtime/internal/jsonscan"
	"github.com/rodando/realtime/internal/triptable"
)

// offerEvents are the domain events of this file.
var offerEvents = []DomainEventType{
	domainType("A trip was offered to a driver, who answers with `driver:offer:accept` or `driver:offer:reject`.", AssignmentOffered{
		TripID: exampleTrip, AssignmentID: exampleAssignment, PassengerID: examplePassenger, DriverID: exampleDriver, VehicleID: exampleVehicle,
		TTLSec: 20, Pickup: examplePlace, StopsCount: new(1), PriceEstimate: new(350.5), Currency: "CUP", At: exampleTime,
	}),
	domainType("A driver accepted the offer.", AssignmentAccepted{
		TripID: exampleTrip, AssignmentID: exampleAssignment, PassengerID: examplePassenger, DriverID: exampleDriver, VehicleID: exampleVehicle,
		Driver: exampleDriverCard, Vehicle: exampleVehicleCard, At: exampleTime,
	}),
	domainType("A driver rejected the offer.", AssignmentRejected{
		TripID: exampleTrip, AssignmentID: exampleAssignment, PassengerID: examplePassenger, DriverID: exampleDriver, VehicleID: exampleVehicle,
		Reason: "too far", At: exampleTime,
	}),
	domainType("The driver did not answer the offer in time.", AssignmentExpired{
		TripID: exampleTrip, AssignmentID: exampleAssignment, PassengerID: examplePassenger, DriverID: exampleDriver, VehicleID: exampleVehicle, At: exampleTime,
	}),
	domainType("The offer was withdrawn.", AssignmentCancelled{
		TripID: exampleTrip, AssignmentID: exampleAssignment, PassengerID: examplePassenger, DriverID: exampleDriver, VehicleID: exampleVehicle,
		Reason: "taken by another driver", At: exampleTime,
	}),
}

// AssignmentPayload is an offer that was accepted or has expired.
type AssignmentPayload struct {
	TripPayload
	AssignmentID string  `json:"assignmentId"`
	DriverID     *string `json:"driverId" null:"not known"`
	VehicleID    *string `json:"vehicleId" null:"not known"`
}

// AssignmentEndedPayload is an offer that was rejected or withdrawn.
type AssignmentEndedPayload struct {
	AssignmentPayload
	Reason *string `json:"reason" doc:"for people" null:"none was given"`
}

func (f facts) assignment(id, driverID, vehicleID string) AssignmentPayload {
	return AssignmentPayload{f.trip(), id, orNull(driverID), orNull(vehicleID)}
}

// AssignmentOffered says that a trip was offered to a driver. The driver and the admins
// receive it. TTLSec or ExpiresAt is required; the server computes the other one from At. If both are set, it
// sends both as they are, and the offer ends at ExpiresAt. An offer that has expired is sent, but not tracked.
type AssignmentOffered struct {
	TripID          string    `json:"tripId"`
	AssignmentID    string    `json:"assignmentId"`
	PassengerID     string    `json:"passengerId,omitempty"`
	DriverID        string    `json:"driverId,omitempty"`
	VehicleID       string    `json:"vehicleId,omitempty"`
	TTLSec          int       `json:"ttlSec,omitempty"` // seconds, from At
	ExpiresAt       time.Time `json:"expiresAt,omitzero"`
	Pickup          *Place    `json:"pickup,omitempty"`
	DestinationHint *Place    `json:"destinationHint,omitempty"` // may be imprecise
	StopsCount      *int      `json:"stopsCount,omitempty"`
	PriceEstimate   *float64  `json:"priceEstimate,omitempty"` // in units of Currency
	Currency        string    `json:"currency,omitempty"`      // ISO 4217
	At              time.Time `json:"at,omitzero"`
}

// EventName implements DomainEvent.
func (AssignmentOffered) EventName() string { return "trip.assignment.offered" }

// EventKey implements DomainEvent.
func (e AssignmentOffered) EventKey() string { return e.TripID }

func (e AssignmentOffered) about() subject {
	return aboutTrip(triptable.Opens, e.TripID, e.PassengerID, "", e.At, offered).offer(e.AssignmentID, e.DriverID)
}

func (e AssignmentOffered) check() error {
	if err := missing(e.EventName(), "tripId", e.TripID, "assignmentId", e.AssignmentID); err != nil {
		return err
	}
	if e.TTLSec <= 0 && e.ExpiresAt.IsZero() {
		return fmt.Errorf("%s: %w: missing ttlSec or expiresAt", e.EventName(), errInvalidEvent)
	}
	return finite(e.EventName(), e.Pickup.number("pickup"), e.DestinationHint.number("destinationHint"), optional("priceEstimate", e.PriceEstimate))
}

// EventAssignmentOffered is sent to the driver.
var EventAssignmentOffered = NewEvent[AssignmentOfferedPayload]("trip:assignment:offered")

// EventAssignmentOfferedToAdmin is sent to the admins.
var EventAssignmentOfferedToAdmin = NewEvent[AssignmentOfferedToAdminPayload]("trip:assignment:offered")

// AssignmentOfferedPayload is an offer, as the driver receives it.
type AssignmentOfferedPayload struct {
	EventID string `json:"eventId" doc:"a UUID, the same in every repeat of the event"`
	Offer
}

// Offer is a trip that a driver may accept. The fields after ExpiresAt are left out if the host has
// not supplied them.
type Offer struct {
	AssignmentID    string   `json:"assignmentId" doc:"for driver:offer:accept and driver:offer:reject"`
	TripID          string   `json:"tripId"`
	TTLSec          int      `json:"ttlSec" doc:"seconds from the offer to expiresAt"`
	ExpiresAt       Time     `json:"expiresAt"`
	Pickup          *Place   `json:"pickup,omitempty"`
	DestinationHint *Place   `json:"destinationHint,omitempty" doc:"may be imprecise"`
	StopsCount      *int     `json:"stopsCount,omitempty" doc:"the number of stops"`
	PriceEstimate   *float64 `json:"priceEstimate,omitempty" doc:"in units of currency"`
	Currency        string   `json:"currency,omitempty" doc:"ISO 4217"`
}

// AssignmentOfferedToAdminPayload is an offer, as admins receive it: with its driver.
type AssignmentOfferedToAdminPayload struct {
	AssignmentOfferedPayload
	DriverID  *string `json:"driverId" null:"not known"`
	VehicleID *string `json:"vehicleId" null:"not known"`
}

// offer returns the offer as the driver sees it. It was made at that time.
func (e AssignmentOffered) offer(at time.Time) Offer {
	ttl, expires := e.TTLSec, e.ExpiresAt
	if expires.IsZero() {
		expires = at.Add(time.Duration(ttl) * time.Second)
	}
	if ttl <= 0 {
		ttl = max(0, int(math.Round(expires.Sub(at).Seconds())))
	}
	return Offer{
		AssignmentID:    e.AssignmentID,
		TripID:          e.TripID,
		TTLSec:          ttl,
		ExpiresAt:       Time{expires},
		Pickup:          e.Pickup,
		DestinationHint: e.DestinationHint,
		StopsCount:      e.StopsCount,
		PriceEstimate:   e.PriceEstimate,
		Currency:        e.Currency,
	}
}

func (e AssignmentOffered) deliver(f facts) []Delivery {
	v := AssignmentOfferedPayload{f.eventID, e.offer(f.at)}
	toDriver := EventAssignmentOffered.Deliver(v, ToDriver(e.DriverID))
	toDriver.tracked = &offerFacts{
		eventID: f.eventID, assignmentID: e.AssignmentID, tripID: e.TripID, driverID: e.DriverID, passengerID: f.passengerID, vehicle: e.VehicleID,
		expires: v.ExpiresAt.Time,
	}
	return []Delivery{
		toDriver,
		EventAssignmentOfferedToAdmin.Deliver(AssignmentOfferedToAdminPayload{v, orNull(e.DriverID), orNull(e.VehicleID)}, f.admins()),
	}
}

// AssignmentAccepted says that a driver accepted the offer. The passenger receives the cards
// of the driver and the vehicle; the driver and the admins receive the ids of the offer. The
// sockets of the driver and the passenger join the trip's room before that, as for
// DriverAssigned.
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

// EventName implements DomainEvent.
func (AssignmentAccepted) EventName() string { return "trip.assignment.accepted" }

// EventKey implements DomainEvent.
func (e AssignmentAccepted) EventKey() string { return e.TripID }

func (e AssignmentAccepted) check() error {
	return cmp.Or(missing(e.EventName(), "tripId", e.TripID, "assignmentId", e.AssignmentID), finite(e.EventName(), e.Driver.number()))
}
func (e AssignmentAccepted) about() subject {
	return aboutTrip(triptable.Assigns, e.TripID, e.PassengerID, e.DriverID, e.At, itsPassenger|itsDriver).offer(e.AssignmentID, "")
}

// EventDriverAccepted is sent to the passenger when a driver accepted the offer.
var EventDriverAccepted = NewEvent[DriverAcceptedPayload]("trip:driver_accepted")

// EventAssignmentAccepted is sent to the driver and the admins.
var EventAssignmentAccepted = NewEvent[AssignmentPayload]("trip:assignment:accepted")

// DriverAcceptedPayload is what EventDriverAccepted carries.
type DriverAcceptedPayload struct {
	TripStatusPayload
	Driver  *DriverCard  `json:"driver" null:"not supplied"`
	Vehicle *VehicleCard `json:"vehicle" null:"not supplied"`
}

func (e AssignmentAccepted) deliver(f facts) []Delivery {
	return []Delivery{
		EventDriverAccepted.Deliver(DriverAcceptedPayload{f.status(TripStatusAccepted), e.Driver.masked(), e.Vehicle}, f.passenger()),
		EventAssignmentAccepted.Deliver(f.assignment(e.AssignmentID, f.driverID, e.VehicleID), f.driver(), f.admins()),
	}
}

// AssignmentRejected says that a driver rejected the offer. Only the admins receive it.
type AssignmentRejected struct {
	TripID       string    `json:"tripId"`
	AssignmentID string    `json:"assignmentId"`
	PassengerID  string    `json:"passengerId,omitempty"`
	DriverID     string    `json:"driverId,omitempty"`
	VehicleID    string    `json:"vehicleId,omitempty"`
	Reason       string    `json:"reason,omitempty"`
	At           time.Time `json:"at,omitzero"`
}

// EventName implements DomainEvent.
func (AssignmentRejected) EventName() string { return "trip.assignment.rejected" }

// EventKey implements DomainEvent.
func (e AssignmentRejected) EventKey() string { return e.TripID }

func (e AssignmentRejected) check() error {
	return missing(e.EventName(), "tripId", e.TripID, "assignmentId", e.AssignmentID)
}
func (e AssignmentRejected) about() subject {
	return aboutTrip(triptable.Notes, e.TripID, e.PassengerID, "", e.At, 0).offer(e.AssignmentID, e.DriverID)
}

// EventAssignmentRejected is sent to the admins.
var EventAssignmentRejected = NewEvent[AssignmentEndedPayload]("trip:assignment:rejected")

func (e AssignmentRejected) deliver(f facts) []Delivery {
	v := AssignmentEndedPayload{f.assignment(e.AssignmentID, e.DriverID, e.VehicleID), orNull(e.Reason)}
	return []Delivery{EventAssignmentRejected.Deliver(v, f.admins())}
}

// AssignmentExpired says that a driver did not answer the offer in time. The
// driver and the admins receive it. A driver who takes part in the trip through this offer
// then leaves the trip's room.
type AssignmentExpired struct {
	TripID       string    `json:"tripId"`
	AssignmentID string    `json:"assignmentId"`
	PassengerID  string    `json:"passengerId,omitempty"`
	DriverID     string    `json:"driverId,omitempty"`
	VehicleID    string    `json:"vehicleId,omitempty"`
	At           time.Time `json:"at,omitzero"`
}

// EventName implements DomainEvent.
func (AssignmentExpired) EventName() string { return "trip.assignment.expired" }

// EventKey implements DomainEvent.
func (e AssignmentExpired) EventKey() string { return e.TripID }

func (e AssignmentExpired) check() error {
	return missing(e.EventName(), "tripId", e.TripID, "assignmentId", e.AssignmentID)
}
func (e AssignmentExpired) about() subject {
	return aboutTrip(triptable.Releases, e.TripID, e.PassengerID, "", e.At, offered).offer(e.AssignmentID, e.DriverID)
}

// EventAssignmentExpired is sent to the driver and the admins.
var EventAssignmentExpired = NewEvent[AssignmentPayload]("trip:assignment:expired")

func (e AssignmentExpired) deliver(f facts) []Delivery {
	v := f.assignment(e.AssignmentID, e.DriverID, e.VehicleID)
	return []Delivery{EventAssignmentExpired.Deliver(v, ToDriver(e.DriverID), f.admins())}
}

// AssignmentCancelled says that the offer was withdrawn. The driver and the admins
// receive it. A driver who takes part in the trip through this offer then leaves the trip's
// room.
type AssignmentCancelled struct {
	TripID       string    `json:"tripId"`
	AssignmentID string    `json:"assignmentId"`
	PassengerID  string    `json:"passengerId,omitempty"`
	DriverID     string    `json:"driverId,omitempty"`
	VehicleID    string    `json:"vehicleId,omitempty"`
	Reason       string    `json:"reason,omitempty"`
	At           time.Time `json:"at,omitzero"`
}

// EventName implements DomainEvent.
func (AssignmentCancelled) EventName() string { return "trip.assignment.cancelled" }

// EventKey implements DomainEvent.
func (e AssignmentCancelled) EventKey() string { return e.TripID }

func (e AssignmentCancelled) check() error {
	return missing(e.EventName(), "tripId", e.TripID, "assignmentId", e.AssignmentID)
}
func (e AssignmentCancelled) about() subject {
	return aboutTrip(triptable.Releases, e.TripID, e.PassengerID, "", e.At, offered).offer(e.AssignmentID, e.DriverID)
}

// EventAssignmentCancelled is sent to the driver and the admins.
var EventAssignmentCancelled = NewEvent[AssignmentEndedPayload]("trip:assignment:cancelled")

func (e AssignmentCancelled) deliver(f facts) []Delivery {
	v := AssignmentEndedPayload{f.assignment(e.AssignmentID, e.DriverID, e.VehicleID), orNull(e.Reason)}
	return []Delivery{EventAssignmentCancelled.Deliver(v, ToDriver(e.DriverID), f.admins())}
}

// DriverOfferAccept accepts an offer, in /drivers.
var DriverOfferAccept = NewCall[OfferAccept, OfferAccepted]("driver:offer:accept").Documented(CallDoc[OfferAccept, OfferAccepted]{
	Does:  "Accepts an offered trip. If the client sends it again, because the ack was lost, the ack is the same.",
	Codes: []Code{CodeNotFound, CodeConflict},
	In:    OfferAccept{AssignmentID: exampleAssignment},
	Out:   OfferAccepted{AssignmentID: exampleAssignment, TripID: exampleTrip},
})

// OfferAccept is the body of driver:offer:accept.
type OfferAccept struct {
	AssignmentID string `json:"assignmentId"`
}

// UnmarshalJSON implements json.Unmarshaler.
func (o *OfferAccept) UnmarshalJSON(b []byte) error {
	*o = OfferAccept{}
	return jsonscan.Decode(b, jsonscan.Field{Name: "assignmentId", To: &o.AssignmentID})
}

// Validate returns an *Error if the id is empty, too long, or contains NUL or invalid UTF-8.
func (o OfferAccept) Validate() error {
	var p problems
	p.checkID("assignmentId", o.AssignmentID)
	return p.err()
}

// OfferAccepted is the ack's data of driver:offer:accept.
type OfferAccepted struct {
	AssignmentID string `json:"assignmentId"`
	TripID       string `json:"tripId"`
}

// acceptOffer handles driver:offer:accept.
func (rt *Server) acceptOffer(ctx context.Context, s *Socket, in OfferAccept) (OfferAccepted, error) {
	if rt.opts.Offers == nil {
		return OfferAccepted{}, errNoOffer
	}
	offer := rt.offers.answering(s, in.AssignmentID)
	trip, err := rt.opts.Offers.AcceptOffer(ctx, s.Identity().UserID, in.AssignmentID)
	if err == nil && !validID(trip) {
		err = errBadTrip
	}
	if err == nil {
		rt.offers.answered(offer)
	}
	return OfferAccepted{AssignmentID: in.AssignmentID, TripID: trip}, offerError(err)
}

// DriverOfferReject rejects an offer, in /drivers.
var DriverOfferReject = NewCall[OfferReject, OfferRejected]("driver:offer:reject").Documented(CallDoc[OfferReject, OfferRejected]{
	Does:  "Rejects an offered trip.",
	Codes: []Code{CodeNotFound, CodeConflict},
	In:    OfferReject{AssignmentID: exampleAssignment, Reason: "too far"},
	Out:   OfferRejected{AssignmentID: exampleAssignment},
})

// OfferReject is the body of driver:offer:reject.
type OfferReject struct {
	AssignmentID string `json:"assignmentId"`
	Reason       string `json:"reason,omitempty" doc:"for people; at most 200 characters"`
}

// UnmarshalJSON implements json.Unmarshaler.
func (o *OfferReject) UnmarshalJSON(b []byte) error {
	*o = OfferReject{}
	return jsonscan.Decode(b, jsonscan.Field{Name: "assignmentId", To: &o.AssignmentID}, jsonscan.Field{Name: "reason", To: &o.Reason})
}

// Validate returns an *Error if the id is empty, too long, or contains NUL or invalid UTF-8, or if the reason is
// too long.
func (o OfferReject) Validate() error {
	var p problems
	p.checkID("assignmentId", o.AssignmentID)
	if utf8.RuneCountInString(o.Reason) > maxReason {
		p.add(fmt.Sprintf("must have at most %d characters", maxReason), "reason")
	}
	return p.err()
}

// OfferRejected is the ack's data of driver:offer:reject.
type OfferRejected struct {
	AssignmentID string `json:"assignmentId"`
}

// rejectOffer handles driver:offer:reject.
func (rt *Server) rejectOffer(ctx context.Context, s *Socket, in OfferReject) (OfferRejected, error) {
	if rt.opts.Offers == nil {
		return OfferRejected{}, errNoOffer
	}
	offer := rt.offers.answering(s, in.AssignmentID)
	err := rt.opts.Offers.RejectOffer(ctx, s.Identity().UserID, in.AssignmentID, in.Reason)
	if err == nil {
		rt.offers.answered(offer)
	}
	return OfferRejected{AssignmentID: in.AssignmentID}, offerError(err)
}

var errBadTrip = errors.New("Offers.AcceptOffer returned a trip id that is empty, too long, or contains NUL or invalid UTF-8")

var errNoOffer = Errorf(CodeNotFound, "no such offer")

// offerError returns the error of an OfferService for the client: a service may return
// ErrNotFound, as a repository does.
func offerError(err error) error {
	if errors.Is(err, ErrNotFound) {
		return errNoOffer
	}
	return err
}
