// Receipt events: whether an offer has reached the driver. The server publishes them itself; see
// offers.go. Only admins receive them.

package realtime

import (
	"time"

	"github.com/rodando/realtime/internal/triptable"
)

// receiptEvents are the domain events of this file.
var receiptEvents = []DomainEventType{
	domainType("A device of the driver has received the offer: the first one. The server publishes it.", AssignmentDelivered{
		TripID: exampleTrip, AssignmentID: exampleAssignment, DriverID: exampleDriver, SocketID: exampleSocket, LatencyMS: 180, By: ReceivedByHeartbeat, At: exampleTime,
	}),
	domainType("No device of the driver has received the offer in time. The server publishes it.", AssignmentUndelivered{
		TripID: exampleTrip, AssignmentID: exampleAssignment, DriverID: exampleDriver, Reason: UndeliveredNoDevice, At: exampleTime,
	}),
}

// exampleSocket is the id of a socket in examples.
const exampleSocket = "TgVw5oF3sK8a2QeXcB1r"

// ReceivedBy says how the server knows that a device has received an event.
type ReceivedBy string

// The ways.
const (
	ReceivedByAck       ReceivedBy = "ack"       // the app has acknowledged it, or has answered the offer
	ReceivedByHeartbeat ReceivedBy = "heartbeat" // the client has answered a ping that was sent right behind it
)

// UndeliveredReason says why nobody has received an event.
type UndeliveredReason string

// The reasons.
const (
	UndeliveredNoDevice  UndeliveredReason = "no_device"  // no node had a socket of the user
	UndeliveredNoReceipt UndeliveredReason = "no_receipt" // no socket of the user has proved that it has received it
)

// AssignmentDelivered says that a device of the driver has received the offer. The server publishes
// it once for each offer that is not expired, at the first receipt; also after AssignmentUndelivered,
// if the driver connects later. If the node that publishes it dies, another one may publish it again,
// with the same Envelope.ID. The admins receive it.
type AssignmentDelivered struct {
	TripID       string     `json:"tripId"`
	AssignmentID string     `json:"assignmentId"`
	DriverID     string     `json:"driverId"`
	SocketID     string     `json:"socketId"`
	LatencyMS    int64      `json:"latencyMs"` // since the server has sent the offer, or known of it
	By           ReceivedBy `json:"by"`
	At           time.Time  `json:"at,omitzero"`
}

// EventName implements DomainEvent.
func (AssignmentDelivered) EventName() string { return "trip.assignment.delivered" }

// EventKey implements DomainEvent.
func (e AssignmentDelivered) EventKey() string { return e.TripID }

func (e AssignmentDelivered) check() error {
	return missing(e.EventName(), "tripId", e.TripID, "assignmentId", e.AssignmentID, "driverId", e.DriverID)
}

func (e AssignmentDelivered) about() subject {
	return aboutTrip(triptable.Notes, e.TripID, "", "", e.At, 0).offer(e.AssignmentID, e.DriverID)
}

// EventAssignmentDelivered is sent to the admins.
var EventAssignmentDelivered = NewEvent[AssignmentDeliveredPayload]("trip:assignment:delivered")

// AssignmentDeliveredPayload is what EventAssignmentDelivered carries.
type AssignmentDeliveredPayload struct {
	TripPayload
	AssignmentID string     `json:"assignmentId"`
	DriverID     string     `json:"driverId"`
	SocketID     string     `json:"socketId"`
	LatencyMS    int64      `json:"latencyMs" doc:"milliseconds from the offer to the receipt"`
	By           ReceivedBy `json:"by" doc:"\"ack\": the app has acknowledged the offer, or has answered it; \"heartbeat\": the client has answered a ping that was sent right behind it"`
}

func (e AssignmentDelivered) deliver(f facts) []Delivery {
	v := AssignmentDeliveredPayload{f.trip(), e.AssignmentID, e.DriverID, e.SocketID, e.LatencyMS, e.By}
	return []Delivery{EventAssignmentDelivered.Deliver(v, f.admins())}
}

// AssignmentUndelivered says that no device of the driver has received the offer within
// Timeouts.OfferReceipt. The server publishes it once for each offer, and calls Options.Unreachable.
// The offer goes on: a device that connects gets it. If the node that publishes it dies, another one
// may publish it again, with the same Envelope.ID. The admins receive it.
type AssignmentUndelivered struct {
	TripID       string            `json:"tripId"`
	AssignmentID string            `json:"assignmentId"`
	DriverID     string            `json:"driverId"`
	Reason       UndeliveredReason `json:"reason"`
	At           time.Time         `json:"at,omitzero"`
}

// EventName implements DomainEvent.
func (AssignmentUndelivered) EventName() string { return "trip.assignment.undelivered" }

// EventKey implements DomainEvent.
func (e AssignmentUndelivered) EventKey() string { return e.TripID }

func (e AssignmentUndelivered) check() error {
	return missing(e.EventName(), "tripId", e.TripID, "assignmentId", e.AssignmentID, "driverId", e.DriverID)
}

func (e AssignmentUndelivered) about() subject {
	return aboutTrip(triptable.Notes, e.TripID, "", "", e.At, 0).offer(e.AssignmentID, e.DriverID)
}

// EventAssignmentUndelivered is sent to the admins.
var EventAssignmentUndelivered = NewEvent[AssignmentUndeliveredPayload]("trip:assignment:undelivered")

// AssignmentUndeliveredPayload is what EventAssignmentUndelivered carries.
type AssignmentUndeliveredPayload struct {
	TripPayload
	AssignmentID string            `json:"assignmentId"`
	DriverID     string            `json:"driverId"`
	Reason       UndeliveredReason `json:"reason" doc:"\"no_device\": no node had a socket of the driver; \"no_receipt\": no socket of the driver has proved that it has received the offer"`
}

func (e AssignmentUndelivered) deliver(f facts) []Delivery {
	v := AssignmentUndeliveredPayload{f.trip(), e.AssignmentID, e.DriverID, e.Reason}
	return []Delivery{EventAssignmentUndelivered.Deliver(v, f.admins())}
}
