// Offers of several nodes: the node that handles the offer tells the others, each of which tracks it
// for its own devices and tells what it learns. That node reports at once. The others know the same,
// and report what nobody has reported some time later, one after the other: it may have died.

package realtime

import (
	"bytes"
	"encoding/json"
	"time"

	"github.com/rodando/realtime/internal/jsonscan"
	"github.com/rodando/realtime/internal/receipts"
	"github.com/rodando/realtime/internal/roster"
)

const (
	// takeOver is how long after the time for a report the next node makes it, and takeOverStep how
	// much later each further one does.
	takeOver     = 2 * time.Second
	takeOverStep = time.Second
	// maxTakeOver is the maximum delay, in a large cluster.
	maxTakeOver = 10 * time.Second
	// catchUp is how long the other nodes may take to answer which offers have ended.
	catchUp = 2 * time.Second
	// offersBatch is how many offers are sent to the other nodes in a row, and offersPause the time
	// until the next ones.
	offersBatch = 64
	offersPause = 5 * time.Millisecond
	// offersTellers is how many nodes tell of an offer that they have from another one. Of these one may be
	// the node that asks, and others may have died without anybody knowing yet.
	offersTellers = 4
)

// sharedOffer is what a node has learned of an offer: of the one with the event of Begun, or else with EventID, or else to
// DriverID, or else of the latest one. Without Begun, nodes of an older version do not say which. A field that is not set
// says nothing.
type sharedOffer struct {
	ID       string         `json:"id"` // the assignment
	EventID  string         `json:"eventId,omitempty"`
	DriverID string         `json:"driverId,omitempty"` // if the sender does not know the event
	Begun    *begunOffer    `json:"begun,omitempty"`
	Received *sharedReceipt `json:"received,omitempty"` // the first receipt that the sender knows
	Told     []int          `json:"told,omitempty"`     // what has been reported, as receipts.Kind
	Missed   bool           `json:"missed,omitempty"`   // Options.Unreachable was called
	Ended    bool           `json:"ended,omitempty"`    // it was answered or withdrawn
}

// begunOffer is an offer.
type begunOffer struct {
	EventID     string          `json:"eventId"`
	TripID      string          `json:"tripId"`
	DriverID    string          `json:"driverId"`
	PassengerID string          `json:"passengerId,omitempty"`
	VehicleID   string          `json:"vehicleId,omitempty"`
	Payload     json.RawMessage `json:"payload"`
	AgoMS       int64           `json:"agoMs,omitempty"` // how long ago the sender has begun it, in milliseconds
	LeftMS      int64           `json:"leftMs"`          // until it expires, in milliseconds
}

type sharedReceipt struct {
	Socket string     `json:"socket"`
	By     ReceivedBy `json:"by,omitempty"`
}

func (r sharedReceipt) valid() bool {
	return validID(r.Socket) && (r.By == "" || r.By == ReceivedByAck || r.By == ReceivedByHeartbeat)
}

func (r sharedReceipt) receipt() receipts.Receipt {
	if r.By == ReceivedByHeartbeat {
		return receipts.Receipt{Device: r.Socket, By: byHeartbeat}
	}
	return receipts.Receipt{Device: r.Socket, By: byAck}
}

func (of *offer) begun(ago, left time.Duration) *begunOffer {
	return &begunOffer{of.eventID, of.tripID, of.driverID, of.passengerID, of.vehicle, of.payload, ago.Milliseconds(), max(1, left.Milliseconds())}
}

// delay returns how much later than the first one a node reports an offer that has that place among the others.
func delay(place int) time.Duration {
	return min(takeOver+time.Duration(place)*takeOverStep, maxTakeOver)
}

// place returns the place of this node in an order that the nodes have for an offer, without the node of the Peer first,
// which may be empty.
func (o *offers) place(id, first string) int {
	return o.rt.peerUsers.roster.Place(o.rt.peerUsers.id, first, roster.User{Namespace: NamespaceDrivers, ID: id})
}

// elsewhere reports whether another node seems to have a device of the driver.
func (o *offers) elsewhere(of *offer) bool {
	b := o.rt.Drivers().To(DriverRoom(of.driverID))
	return b.remote() && b.elsewhere() && o.rt.peerUsers.roster.Elsewhere(roster.User{Namespace: NamespaceDrivers, ID: of.driverID})
}

// share tells the other nodes.
func (o *offers) share(ref receipts.Ref, s sharedOffer) {
	if o.rt.clustered {
		s.ID, s.EventID, s.DriverID = ref.ID, ref.Same, ref.User
		o.rt.shareState(NamespaceDrivers, stateContent{Offer: &s})
	}
}

// shareAll tells the other nodes everything that this one knows first hand, at most once in
// answerEvery. The node that has begun an offer may have left or died. So the first ones in the order for the offer
// tell of it too.
func (o *offers) shareAll() {
	o.shares.soon(o.rt, usersDelay, answerEvery, func() {
		for i, s := range o.table.States() {
			if i%offersBatch == offersBatch-1 && !o.rt.pause(offersPause) {
				return
			}
			if s.Left <= 0 && !s.Ended || !s.Local && o.place(s.ID, "") >= offersTellers { // it has expired, or others tell
				continue
			}
			m := sharedOffer{Begun: s.Value.begun(s.Ago, s.Left), Missed: s.Value.missed.Load(), Ended: s.Ended}
			if s.Received {
				m.Received = &sharedReceipt{s.First.Device, receivedBy[s.First.By]}
			}
			for _, k := range s.Told {
				if k != receipts.Undelivered || m.Missed || o.rt.opts.Unreachable == nil { // a node that ends leaves it to another one
					m.Told = append(m.Told, int(k))
				}
			}
			o.share(s.Ref, m)
		}
	})
}

// missed asks the other nodes for their offers after a gap or at the start, and sends those of this one.
func (o *offers) missed() {
	if o.rt.cluster.receiving() {
		o.table.Hold(time.Now().Add(catchUp))
	}
	o.shareAll()
	o.asks.soon(o.rt, usersDelay, answerEvery, func() { o.rt.shareState(NamespaceDrivers, stateContent{OffersOf: true}) })
}

// receiving says whether this node hears the others.
func (o *offers) receiving(hears bool) {
	most := maxOfferTime
	if hears {
		most = catchUp
	}
	o.table.Hold(time.Now().Add(most))
}

// apply applies what another node, the Peer from, has learned of an offer. It reports whether the message is valid.
func (o *offers) apply(ns *Namespace, from string, m *sharedOffer) bool {
	if ns.name != NamespaceDrivers || !m.valid() {
		return false
	}
	if b := m.Begun; b != nil {
		if err := sendable(o.rt, EventAssignmentOffered.name, [][]byte{b.Payload}, nil); err != nil {
			ns.notEmitted(EventAssignmentOffered.name, err)
			return true
		}
	}
	ended := m.Ended
	if b := m.Begun; b != nil {
		left := time.Duration(min(b.LeftMS, maxOfferTime.Milliseconds())) * time.Millisecond
		of := o.newOffer(offerFacts{
			eventID: b.EventID, assignmentID: m.ID, tripID: b.TripID, driverID: b.DriverID, passengerID: b.PassengerID, vehicle: b.VehicleID,
			expires: time.Now().Add(left),
		}, b.Payload)
		ago := time.Duration(min(b.AgoMS, maxOfferTime.Milliseconds())) * time.Millisecond
		to := ns.To(DriverRoom(of.driverID)).Local()
		e := of.tracked(ago, left, delay(o.place(m.ID, from)))
		e.Ended = ended || o.overtaken(of)
		ok, full := o.table.Begin(e)
		ended = ended || o.overtaken(of) // what ends it from now on finds it in the table
		switch {
		case ended:
		case ok:
			to.traceEmitted(EventAssignmentOffered.name, o.sendHere(ns, of), of.event.size())
		case full && b.AgoMS == 0: // not each time that a node tells of it
			_, _ = to.send(EventAssignmentOffered.name, []json.RawMessage{b.Payload}, nil)
		}
	}
	o.learn(m, ended)
	return true
}

// learn records what another node has learned of an offer.
func (o *offers) learn(m *sharedOffer, ended bool) {
	ref := m.ref()
	if of, known := o.table.Value(ref); known && m.Missed {
		of.missed.Store(true)
	}
	for _, k := range m.Told { // first: what was reported is not reported again
		o.table.Told(ref, receipts.Kind(k))
	}
	if r := m.Received; r != nil {
		o.table.ReceivedElsewhere(ref, r.receipt())
	}
	if ended {
		o.table.End(ref, false)
	}
}

// ref says which offer it is about.
func (m *sharedOffer) ref() receipts.Ref {
	if m.Begun != nil {
		return receipts.Ref{ID: m.ID, Same: m.Begun.EventID}
	}
	return receipts.Ref{ID: m.ID, Same: m.EventID, User: m.DriverID}
}

// overtaken reports whether the end of an offer was faster than the offer.
func (o *offers) overtaken(of *offer) bool {
	return o.table.EndedEarly(of.tracked(0, 0, 0)) || o.rt.publisher.trips.Ended(of.tripID)
}

func (m *sharedOffer) valid() bool {
	if !validID(m.ID) || !validIDs(m.EventID, m.DriverID) || m.Begun == nil && m.Received == nil && len(m.Told) == 0 && !m.Missed && !m.Ended || len(m.Told) > receipts.Kinds {
		return false
	}
	for _, k := range m.Told {
		if k < 0 || k >= receipts.Kinds {
			return false
		}
	}
	if r := m.Received; r != nil && !r.valid() {
		return false
	}
	b := m.Begun
	if b == nil {
		return true
	}
	return validID(b.EventID) && validID(b.TripID) && validID(b.DriverID) && validIDs(b.PassengerID, b.VehicleID) && b.AgoMS >= 0 && b.LeftMS > 0 &&
		bytes.HasPrefix(b.Payload, []byte("{")) && jsonscan.Valid(b.Payload, jsonscan.MaxDepth) == nil
}
