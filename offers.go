// Offers: each offer is tracked until the driver has received it, has answered it, or it has expired.
// It is sent to each device with an ack id and a ping behind it, again to devices that are silent, and
// to those that connect. Package receipts decides; offers_cluster.go tells the other nodes.

package realtime

import (
	"cmp"
	"context"
	"encoding/json"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/rodando/realtime/internal/hostcall"
	"github.com/rodando/realtime/internal/receipts"
	"github.com/rodando/realtime/internal/socketio"
	"github.com/rodando/realtime/internal/triptable"
)

const (
	// maxOffers is the maximum number of offers that a node tracks: the running ones, and those that
	// have ended lately. Further ones are sent without tracking.
	maxOffers = 1 << 16
	// maxOfferTime is how long an offer is tracked at most.
	maxOfferTime = 24 * time.Hour
	// offerTries is how often a report of an offer is published if the bus does not accept it.
	offerTries = 3
)

// How a device has received an event, as receipts.Receipt.By.
const (
	byAck = iota + 1
	byHeartbeat
)

var receivedBy = map[uint8]ReceivedBy{byAck: ReceivedByAck, byHeartbeat: ReceivedByHeartbeat}

// offerFacts are the facts of an offer that is to be tracked; see Delivery.tracked.
type offerFacts struct {
	eventID, assignmentID, tripID  string
	driverID, passengerID, vehicle string
	expires                        time.Time
}

// ref says which offer it is: a host may offer an assignment again, with another event.
func (f *offerFacts) ref() receipts.Ref { return receipts.Ref{ID: f.assignmentID, Same: f.eventID} }

func (f *offerFacts) valid() bool {
	return validID(f.eventID) && validID(f.assignmentID) && validID(f.tripID) && validID(f.driverID) && validIDs(f.passengerID, f.vehicle)
}

// offer is an offer that is tracked on this node.
type offer struct {
	offerFacts
	payload json.RawMessage
	ackID   int64
	event   receiptedEvent // for a device
	missed  atomic.Bool    // Options.Unreachable was called, here or on another node
}

// receiptedEvent is an event whose receipts are awaited, encoded once for all sockets.
type receiptedEvent struct {
	asks  *socketio.Message // for an ack
	plain *socketio.Message
}

func encodeReceipted(ns *Namespace, ackID int64, event string, arg json.RawMessage) receiptedEvent {
	return receiptedEvent{socketio.EventMessage(ns.name, ackID, event, arg), socketio.EventMessage(ns.name, socketio.NoID, event, arg)}
}

// to returns the message for a socket. A client that would pass the function that acks to the app's handler, in a
// list, is not asked: its answer to the ping behind the event is the receipt.
func (e receiptedEvent) to(s *socketio.Socket) *socketio.Message {
	if connOf(s.Conn()).passesLists() {
		return e.plain
	}
	return e.asks
}

func (e receiptedEvent) size() int { return e.asks.Size() }

// offers tracks the offers. Its methods may be called concurrently and do not block.
type offers struct {
	rt     *Server
	table  *receipts.Table[*socketio.Socket, *offer]
	shares collapsed // of everything, with the other nodes
	asks   collapsed // for everything that they know
}

func (o *offers) init(rt *Server, most int) {
	o.rt = rt
	o.table = receipts.New(receipts.Config[*socketio.Socket, *offer]{
		Wheel: rt.wheel, Again: rt.opts.Timeouts.OfferAgain, Within: rt.opts.Timeouts.OfferReceipt, Max: most,
		SendAgain: func(of *offer, devices []*socketio.Socket) {
			for _, s := range devices {
				s.Send(of.event.to(s))
			}
		},
		Report: o.report,
		Ended: func(of *offer, devices []*socketio.Socket) {
			for _, s := range devices {
				s.Forget(of.ackID)
			}
		},
	})
}

// begin sends an offer to the selected sockets of all nodes, and tracks it. An offer that has expired,
// or whose ids are invalid, is sent like any event. It returns the number of receivers on this node.
func (o *offers) begin(b Broadcast, facts *offerFacts, event string, payload json.RawMessage) (receivers int, err error) {
	args := []json.RawMessage{payload}
	left := min(time.Until(facts.expires), maxOfferTime)
	switch {
	case !facts.valid():
		return b.send(event, args, nil)
	case left <= 0 && o.table.Known(facts.ref()): // a repeat
		return 0, nil
	case left <= 0:
		o.rt.log.Warn("realtime: offer not tracked: it has expired already", "trip", facts.tripID, "assignment", facts.assignmentID, "expired", facts.expires.UTC())
		return b.send(event, args, nil)
	}
	if err := b.fits(event, args, nil); err != nil {
		return 0, err
	}
	of := o.newOffer(*facts, payload)
	wait := time.Duration(0)
	if b.local { // every node handles the event: one of them reports
		if place := o.place(of.assignmentID, ""); place > 0 {
			wait = delay(place - 1)
		}
	}
	switch ok, full := o.table.Begin(of.tracked(0, left, wait)); {
	case full:
		o.rt.log.Warn("realtime: offer not tracked: too many are", "trip", of.tripID, "assignment", of.assignmentID)
		return b.send(event, args, nil)
	case !ok: // a repeat
		return 0, nil
	}
	receivers = o.sendHere(b.ns, of)
	b.traceEmitted(event, receivers, of.event.size())
	if b.remote() {
		o.share(of.ref(), sharedOffer{Begun: of.begun(0, left)})
		b.publishUntracked(event, payload)
	}
	return receivers, nil
}

func (o *offers) newOffer(facts offerFacts, payload json.RawMessage) *offer {
	ns := o.rt.Drivers()
	of := &offer{offerFacts: facts, payload: payload, ackID: ns.inner.NextID()}
	of.event = encodeReceipted(ns, of.ackID, EventAssignmentOffered.name, payload)
	return of
}

// tracked returns the offer as the table tracks it.
func (of *offer) tracked(ago, left, delay time.Duration) receipts.Event[*offer] {
	return receipts.Event[*offer]{
		Ref: receipts.Ref{ID: of.assignmentID, Same: of.eventID, User: of.driverID}, Group: of.tripID, Ago: ago, Left: left, Delay: delay, Value: of,
	}
}

// sendHere sends an offer to the driver's sockets of this node, except those whose handshake is in
// progress: they get it when they are connected.
func (o *offers) sendHere(ns *Namespace, of *offer) (receivers int) {
	for _, s := range ns.inner.Select(socketio.Target{Rooms: []string{DriverRoom(of.driverID).name}}) {
		if s.Opened() && o.send(of.ref(), s) {
			receivers++
		}
	}
	return receivers
}

// connected sends a driver's offers to a socket that has just connected, behind hello and the snapshot.
func (o *offers) connected(s *Socket) {
	if s.ns.name != NamespaceDrivers {
		return
	}
	for _, ref := range o.table.Of(s.Identity().UserID) {
		o.send(ref, s.inner)
	}
}

// disconnected forgets a socket that has closed.
func (o *offers) disconnected(s *Socket) {
	if s.ns.name != NamespaceDrivers {
		return
	}
	for _, ref := range o.table.Of(s.Identity().UserID) {
		o.table.Closed(ref, s.inner)
	}
}

// send sends an offer to a socket, unless it has got it or the offer has ended.
func (o *offers) send(ref receipts.Ref, s *socketio.Socket) (sent bool) {
	o.table.Send(ref, s, func(of *offer) bool {
		sent = s.Track(of.ackID, func(r socketio.Receipt) {
			switch r {
			case socketio.ReceiptClosed:
				o.table.Closed(ref, s)
			case socketio.ReceiptAck:
				o.received(ref, s, byAck)
			case socketio.ReceiptHeartbeat:
				o.received(ref, s, byHeartbeat)
				s.Forget(of.ackID) // the ack would say nothing new, and a socket may have so many pending
			}
		}, of.event.to(s))
		return sent
	})
	return sent
}

// received records that a socket of this node has received an offer.
func (o *offers) received(ref receipts.Ref, s *socketio.Socket, by uint8) {
	r := receipts.Receipt{Device: s.ID(), By: by}
	if o.table.Received(ref, s, r) && o.rt.clustered {
		go o.share(ref, sharedOffer{Received: &sharedReceipt{r.Device, receivedBy[by]}}) // the adapter may be slow
	}
}

// answering records that a driver has sent an answer to an offer, so that they have received it. It returns which offer that
// is: the host may make another one of it before it has taken the answer.
func (o *offers) answering(s *Socket, id string) receipts.Ref {
	ref := receipts.Ref{ID: id, User: s.Identity().UserID}
	if of, ok := o.table.Value(ref); ok {
		ref = of.ref()
		o.received(ref, s.inner, byAck)
	}
	return ref
}

// answered ends an offer that its driver has answered.
func (o *offers) answered(ref receipts.Ref) {
	if _, ok := o.table.Value(ref); ok {
		o.end(ref)
	}
}

// handled ends the offers that a domain event ends, before the event is sent: its own, or all of a trip
// that is assigned or has ended, unless the event is outdated: the offers may have been made after it. An event of one driver
// does not end a later offer to another one.
func (o *offers) handled(name string, about subject, outdated bool) {
	switch name {
	case AssignmentAccepted{}.EventName(), AssignmentRejected{}.EventName(), AssignmentExpired{}.EventName(), AssignmentCancelled{}.EventName():
		o.end(receipts.Ref{ID: about.assignment, User: cmp.Or(about.offeredTo, about.parties.DriverID)})
	}
	if !outdated && voidsOffers(about.does) {
		for _, ref := range o.table.OfGroup(about.tripID) {
			o.end(ref)
		}
	}
}

// voidsOffers reports whether the offers of a trip are void after an event of that kind.
func voidsOffers(k triptable.Kind) bool { return k == triptable.Ends || k == triptable.Assigns }

// learned ends the offers of this node that an event of a trip ends which another node has handled: that node may not
// have known them yet.
func (o *offers) learned(e triptable.Event) {
	if voidsOffers(e.Kind) {
		o.void(e.Trip)
	}
}

// void ends the offers of this node for a trip of which another node has told.
func (o *offers) void(tripID string) {
	for _, ref := range o.table.OfGroup(tripID) {
		o.table.End(ref, false)
	}
}

// heard records a report of an offer that came over the bus, with that event id: on a bus that every node hears, the
// others make it no more. A report of an earlier offer says nothing.
func (o *offers) heard(e builtin, id string) {
	switch e := e.(type) {
	case AssignmentDelivered:
		of, ok := o.reported(e.EventName(), e.AssignmentID, id)
		if !ok {
			return
		}
		o.table.Told(of.ref(), receipts.Delivered) // first: this node does not report it
		if r := (sharedReceipt{e.SocketID, e.By}); r.valid() {
			o.table.ReceivedElsewhere(of.ref(), r.receipt())
		}
	case AssignmentUndelivered:
		if of, ok := o.reported(e.EventName(), e.AssignmentID, id); ok {
			o.table.Told(of.ref(), receipts.Undelivered)
		}
	}
}

// reported returns the offer of an assignment if that is the id of the report with that name about it.
func (o *offers) reported(name, assignmentID, id string) (of *offer, ok bool) {
	of, ok = o.table.Value(receipts.Ref{ID: assignmentID})
	return of, ok && of.reportID(name) == id
}

// reportID returns the event id of a report: the same, whichever node publishes it.
func (of *offer) reportID(name string) string {
	return uuid.NewSHA1(uuid.NameSpaceOID, []byte(name+" "+of.assignmentID+" "+of.eventID)).String()
}

// end ends an offer on all nodes.
func (o *offers) end(ref receipts.Ref) {
	if !validID(ref.ID) || !validIDs(ref.User) {
		return // nobody tracks it
	}
	of, known := o.table.Value(ref)
	if known {
		ref = of.ref()
	}
	if (o.table.End(ref, true) || !known) && o.rt.clustered {
		o.share(ref, sharedOffer{Ended: true})
	}
}

// report publishes what has become of an offer. The calls for one offer come one at a time.
func (o *offers) report(of *offer, r receipts.Report) {
	at := r.At.UTC()
	switch r.Kind {
	case receipts.Delivered:
		o.publish(of, r.Kind, AssignmentDelivered{
			TripID: of.tripID, AssignmentID: of.assignmentID, DriverID: of.driverID,
			SocketID: r.Device, LatencyMS: r.Latency.Milliseconds(), By: receivedBy[r.By], At: at,
		})
	case receipts.Undelivered:
		reason := UndeliveredNoDevice
		if r.Devices || o.elsewhere(of) {
			reason = UndeliveredNoReceipt
		}
		if !o.unreachable(of, reason) {
			return // another node does both
		}
		o.publish(of, r.Kind, AssignmentUndelivered{
			TripID: of.tripID, AssignmentID: of.assignmentID, DriverID: of.driverID, Reason: reason, At: at,
		})
	case receipts.Expired:
		if o.rt.opts.ExpireOffers {
			o.publish(of, r.Kind, AssignmentExpired{
				TripID: of.tripID, AssignmentID: of.assignmentID, PassengerID: of.passengerID, DriverID: of.driverID, VehicleID: of.vehicle, At: at,
			})
		}
	}
}

// publish publishes a report.
func (o *offers) publish(of *offer, k receipts.Kind, e builtin) {
	env, err := packed(e, o.rt.memoryBus != nil)
	env.ID = of.reportID(env.Name)
	for try := 1; err == nil; try++ {
		err = o.publishOnce(env)
		if err == nil {
			o.share(of.ref(), sharedOffer{Told: []int{int(k)}})
			return
		}
		if try == offerTries || !o.rt.pause(time.Duration(try)*200*time.Millisecond) {
			break
		}
		err = nil
	}
	if o.rt.ctx.Err() == nil { // otherwise another node publishes it
		o.rt.log.Error("realtime: receipt of an offer not published", withStack(err, "event", e.EventName(), "trip", of.tripID, "assignment", of.assignmentID, "error", err)...)
	}
}

func (o *offers) publishOnce(env Envelope) error {
	ctx, cancel := context.WithTimeout(o.rt.ctx, o.rt.opts.Timeouts.Repo)
	defer cancel()
	return hostcall.Run(ctx, o.rt.host.bus, func(ctx context.Context) error { return o.rt.opts.Bus.Publish(ctx, env) })
}

// unreachable calls Options.Unreachable, and does not wait for it, unless it was called before. It tells the other
// nodes at once: one of them publishes the report too if the bus takes longer than takeOver. It returns false if it was
// not called and this node ends.
func (o *offers) unreachable(of *offer, reason UndeliveredReason) (ok bool) {
	f := o.rt.opts.Unreachable
	if f == nil || of.missed.Load() {
		return true
	}
	release, ok := o.rt.host.unreachable.Hold()
	if !ok {
		return false
	}
	if !of.missed.CompareAndSwap(false, true) {
		release()
		return true
	}
	defer o.share(of.ref(), sharedOffer{Missed: true})
	e := MissedEvent{Event: EventAssignmentOffered.name, EventID: of.eventID, Payload: of.payload, Reason: reason, ExpiresAt: of.expires}
	go func() {
		defer release()
		err := hostcall.Run(o.rt.ctx, o.rt.host.unreachable, func(ctx context.Context) error { f(ctx, of.driverID, e); return nil })
		if err != nil && o.rt.ctx.Err() == nil {
			o.rt.hostFailed("Unreachable", err, "user", of.driverID)
		}
	}()
	return true
}

// MissedEvent is an event that no device of its user has received in time.
type MissedEvent struct {
	Event     string          // its name on the wire, such as "trip:assignment:offered"
	EventID   string          // the eventId of its payload
	Payload   json.RawMessage // the JSON that a device would get
	Reason    UndeliveredReason
	ExpiresAt time.Time // until then a device that connects gets the event
}
