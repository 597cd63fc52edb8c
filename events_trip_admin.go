// Admin events: admins intervene in a trip, write to its driver or passenger, follow the trip,
// and watch the drivers.

package realtime

import (
	"context"
	"fmt"
	"time"

	"github.com/rodando/realtime/internal/jsonscan"
	"github.com/rodando/realtime/internal/triptable"
)

// tripAdminEvents are the domain events of this file.
var tripAdminEvents = []DomainEventType{
	domainType("An admin intervened in a trip.", AdminTripAction{
		TripID: exampleTrip, PassengerID: examplePassenger, DriverID: exampleDriver, AdminID: exampleAdmin, Action: "reassign", Reason: "no show", At: exampleTime,
	}),
	domainType("An admin wrote to the driver of a trip, to its passenger, or to both.", AdminTripMessage{
		TripID: exampleTrip, PassengerID: examplePassenger, DriverID: exampleDriver, AdminID: exampleAdmin, To: MessageToBoth,
		Message: "The road is closed, please meet at the corner.", At: exampleTime,
	}),
}

// AdminTripAction says that an admin intervened in a trip. Only the admins receive it.
type AdminTripAction struct {
	TripID      string    `json:"tripId"`
	PassengerID string    `json:"passengerId,omitempty"`
	DriverID    string    `json:"driverId,omitempty"`
	AdminID     string    `json:"adminId"`
	Action      string    `json:"action"` // what was done, in the host's own words
	Reason      string    `json:"reason,omitempty"`
	At          time.Time `json:"at,omitzero"`
}

// EventName implements DomainEvent.
func (AdminTripAction) EventName() string { return "admin.trip.action_issued" }

// EventKey implements DomainEvent.
func (e AdminTripAction) EventKey() string { return e.TripID }

func (e AdminTripAction) check() error {
	return missing(e.EventName(), "tripId", e.TripID, "adminId", e.AdminID, "action", e.Action)
}
func (e AdminTripAction) about() subject {
	return aboutTrip(triptable.Notes, e.TripID, e.PassengerID, e.DriverID, e.At, 0)
}

// EventAdminTripAction is sent to the admins.
var EventAdminTripAction = NewEvent[AdminTripActionPayload]("admin:trip:action_issued")

// AdminTripActionPayload is what EventAdminTripAction carries.
type AdminTripActionPayload struct {
	TripPayload
	AdminID string  `json:"adminId"`
	Action  string  `json:"action" doc:"what was done, in the host's own words"`
	Reason  *string `json:"reason" doc:"for people" null:"none was given"`
}

func (e AdminTripAction) deliver(f facts) []Delivery {
	v := AdminTripActionPayload{f.trip(), e.AdminID, e.Action, orNull(e.Reason)}
	return []Delivery{EventAdminTripAction.Deliver(v, f.admins())}
}

// MessageTo says who receives an admin's message.
type MessageTo string

// The receivers of an admin's message.
const (
	MessageToDriver    MessageTo = "driver"
	MessageToPassenger MessageTo = "passenger"
	MessageToBoth      MessageTo = "both"
)

// Values returns every value.
func (MessageTo) Values() []string {
	return values(MessageToDriver, MessageToPassenger, MessageToBoth)
}

// AdminTripMessage says that an admin wrote to the driver of a trip, to its passenger, or to
// both. The ones that To names and the admins receive it.
type AdminTripMessage struct {
	TripID      string    `json:"tripId"`
	PassengerID string    `json:"passengerId,omitempty"`
	DriverID    string    `json:"driverId,omitempty"`
	AdminID     string    `json:"adminId"`
	To          MessageTo `json:"to"` // required
	Message     string    `json:"message"`
	At          time.Time `json:"at,omitzero"`
}

// EventName implements DomainEvent.
func (AdminTripMessage) EventName() string { return "admin.trip.message_sent" }

// EventKey implements DomainEvent.
func (e AdminTripMessage) EventKey() string { return e.TripID }

func (e AdminTripMessage) about() subject {
	s := aboutTrip(triptable.Notes, e.TripID, e.PassengerID, e.DriverID, e.At, 0)
	if e.To == MessageToDriver || e.To == MessageToBoth {
		s.needs |= itsDriver
	}
	if e.To == MessageToPassenger || e.To == MessageToBoth {
		s.needs |= itsPassenger
	}
	return s
}

func (e AdminTripMessage) check() error {
	if err := missing(e.EventName(), "tripId", e.TripID, "adminId", e.AdminID, "to", string(e.To)); err != nil {
		return err
	}
	switch e.To {
	case MessageToDriver, MessageToPassenger, MessageToBoth:
		return nil
	}
	return fmt.Errorf("%s: %w: to must be driver, passenger or both", e.EventName(), errInvalidEvent)
}

// EventAdminTripMessage is sent to the admins, and to the driver, the passenger or both.
var EventAdminTripMessage = NewEvent[AdminTripMessagePayload]("admin:trip:message_sent")

// AdminTripMessagePayload is what EventAdminTripMessage carries.
type AdminTripMessagePayload struct {
	TripPayload
	AdminID string    `json:"adminId"`
	To      MessageTo `json:"to"`
	Message string    `json:"message"`
}

func (e AdminTripMessage) deliver(f facts) []Delivery {
	to := []Audience{f.admins()}
	if e.To == MessageToDriver || e.To == MessageToBoth {
		to = append(to, f.driver())
	}
	if e.To == MessageToPassenger || e.To == MessageToBoth {
		to = append(to, f.passenger())
	}
	return []Delivery{EventAdminTripMessage.Deliver(AdminTripMessagePayload{f.trip(), e.AdminID, e.To, e.Message}, to...)}
}

// AdminTripJoin puts an admin's socket into the room of one trip, in /admin.
var AdminTripJoin = NewCall[TripRef, TripRef]("admin:trip:join").Documented(CallDoc[TripRef, TripRef]{
	Does:  "Follows one trip: its events, and its driver's position. A trip that is known to be over is `not_found`.",
	Codes: []Code{CodeNotFound},
	In:    TripRef{TripID: exampleTrip},
	Out:   TripRef{TripID: exampleTrip},
})

// AdminTripLeave takes an admin's socket out of the room of a trip, in /admin.
var AdminTripLeave = NewCall[TripRef, TripRef]("admin:trip:leave").Documented(CallDoc[TripRef, TripRef]{
	Does: "Stops following a trip.",
	In:   TripRef{TripID: exampleTrip},
	Out:  TripRef{TripID: exampleTrip},
})

// TripRef is the body and the ack's data of admin:trip:join and admin:trip:leave.
type TripRef struct {
	TripID string `json:"tripId"`
}

// UnmarshalJSON implements json.Unmarshaler.
func (r *TripRef) UnmarshalJSON(b []byte) error {
	*r = TripRef{}
	return jsonscan.Decode(b, jsonscan.Field{Name: "tripId", To: &r.TripID})
}

// Validate returns an *Error if the id is empty, too long, or contains NUL or invalid UTF-8.
func (r TripRef) Validate() error {
	var p problems
	p.checkID("tripId", r.TripID)
	return p.err()
}

// joinTrip handles admin:trip:join.
func (rt *Server) joinTrip(_ context.Context, s *Socket, in TripRef) (TripRef, error) {
	if rt.publisher.trips.Ended(in.TripID) {
		return TripRef{}, Errorf(CodeNotFound, "the trip is over")
	}
	if len(s.trips()) >= rt.opts.Limits.RoomsPerSocket && !s.inner.In(TripRoom(in.TripID).name) {
		s.limited(LimitRoomsPerSocket, AdminTripJoin.name)
		return TripRef{}, Errorf(CodeRateLimited, "too many trips at once; leave some")
	}
	s.Join(TripRoom(in.TripID))
	rt.audit(s, AdminTripJoin.name, "trip", in.TripID)
	return in, nil
}

// leaveTrip handles admin:trip:leave.
func (rt *Server) leaveTrip(_ context.Context, s *Socket, in TripRef) (TripRef, error) {
	s.Leave(TripRoom(in.TripID))
	rt.audit(s, AdminTripLeave.name, "trip", in.TripID)
	return in, nil
}

// AdminDriversJoin starts to watch the positions and the availability of all drivers, in
// /admin. A new socket watches them already.
var AdminDriversJoin = NewCall[None, None]("admin:drivers:join").Documented(CallDoc[None, None]{
	Does: "Starts to watch the positions and the availability of all drivers. A new socket watches them already.",
})

// AdminDriversLeave stops watching the drivers, in /admin.
var AdminDriversLeave = NewCall[None, None]("admin:drivers:leave").Documented(CallDoc[None, None]{
	Does: "Stops watching the drivers.",
})

// joinDrivers handles admin:drivers:join.
func (rt *Server) joinDrivers(_ context.Context, s *Socket, _ None) (None, error) {
	s.Join(AdminDriversRoom)
	rt.audit(s, AdminDriversJoin.name)
	return None{}, nil
}

// leaveDrivers handles admin:drivers:leave.
func (rt *Server) leaveDrivers(_ context.Context, s *Socket, _ None) (None, error) {
	s.Leave(AdminDriversRoom)
	rt.audit(s, AdminDriversLeave.name)
	return None{}, nil
}

// audit logs a call of an admin. It does not drop repeated lines.
func (rt *Server) audit(s *Socket, event string, about ...any) {
	attrs := append([]any{"event", event, "user", s.Identity().UserID, "socket", s.ID()}, about...)
	rt.auditLog.Info("realtime: admin audit", attrs...)
}
