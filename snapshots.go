// Snapshots: what a user must know when a socket of theirs connects. The host supplies it, and the
// server sends it behind hello, before the events that have happened meanwhile.

package realtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// SnapshotLookup finds what a user must know now: the running trips, the open offers, and of a driver
// the availability. It is optional; without one, apps ask the host's REST API when they connect.
//
// The server calls it for each socket that connects to /drivers or /passengers, unless the socket recovers
// (Options.Recovery): that one has the events that it missed, and gets no snapshot. The server sends the result to
// that socket alone, behind hello: trip:sync, and then driver:availability:update if there is an
// Availability. The socket is in its rooms before the call, and what is emitted to it meanwhile comes
// behind the snapshot. So no event is missing between the two, if the call sees every change whose event
// was published before it: let it read the database that the changes are written to, not a copy that is late. An
// event that the snapshot contains already may still come behind it.
//
// FindSnapshot may block, within ctx, and is called concurrently. The namespace says whether the user is
// there as a driver or as a passenger. A user without trips and offers is not an error. With an error the
// handshake cannot be decided (CodeUnavailable). So it is with a snapshot of somebody else, with
// one that lacks a required field or has more than 1000 trips or offers, and with one that exceeds Limits.OutboxBytes.
type SnapshotLookup interface {
	FindSnapshot(ctx context.Context, namespace string, id Identity) (Snapshot, error)
}

// Snapshot is what a user must know now. The zero Snapshot is that of a user without a trip.
type Snapshot struct {
	Trips []TripSnapshot
	// Offers are the driver's open offers, as they were published, but with ExpiresAt or At. They are
	// sent in /drivers only, and not if they have expired.
	Offers []AssignmentOffered
	// Availability is the driver's state. It is sent in /drivers only; nil: not sent.
	Availability *Availability
}

// TripSnapshot is the state of a trip. TripID and Status are required.
type TripSnapshot struct {
	TripID             string
	Status             TripStatus
	At                 time.Time // since when it has the status; zero: not known
	PassengerID        string
	DriverID           string // empty: none yet
	VehicleID          string
	RequestedAt        time.Time
	ArrivedAt          time.Time // when the driver arrived at the pickup; zero: not yet
	Pickup             *Place
	Destination        *Place
	FareEstimatedTotal *float64 // in units of Currency
	Currency           string   // ISO 4217
	ETAMinutes         *float64
	DriverPosition     *Position
	// The passenger receives the cards of the driver and the vehicle, the driver that of the passenger.
	Driver    *DriverCard
	Vehicle   *VehicleCard
	Passenger *PassengerCard
	// Details has what the app needs besides. It is sent unchanged.
	Details map[string]any
}

// maxSnapshot is the maximum number of trips, and of offers, in a snapshot. A longer one is probably
// from a query that lacks its condition.
const maxSnapshot = 1000

var errLongSnapshot = fmt.Errorf("the snapshot has more than %d trips or offers", maxSnapshot)

// snapshot returns the events with what the user of a connecting socket must know. The socket must
// be in its rooms: what happens after the lookup has begun is then emitted to it. If there was a gap
// meanwhile, in which an event may have been lost, it looks again.
func (ns *Namespace) snapshot(ctx context.Context, s *Socket, h *handshake) ([]snapshotEvent, error) {
	if _, ok := personOf(ns.name, ""); !ok || ns.rt.opts.Snapshots == nil {
		return nil, nil
	}
	for reads := 1; reads <= maxReads; reads++ {
		gaps := ns.rt.pending.gaps.Load()
		events, err := ns.findSnapshot(ctx, s.Identity(), h)
		switch {
		case err != nil:
			return nil, undecided{step: stepSnapshot, err: err}
		case gaps == ns.rt.pending.gaps.Load():
			return events, nil
		}
	}
	return nil, undecided{step: stepSnapshot, err: errGaps}
}

// findSnapshot calls Options.Snapshots.
func (ns *Namespace) findSnapshot(ctx context.Context, id Identity, h *handshake) ([]snapshotEvent, error) {
	lookup := ns.rt.opts.Snapshots
	return callHost(ctx, ns.rt.host.snapshots, id.UserID, h, func(ctx context.Context) ([]snapshotEvent, error) {
		found, err := lookup.FindSnapshot(ctx, ns.name, id)
		if err == nil {
			err = found.check(ns.name, id.UserID)
		}
		if err != nil {
			return nil, err
		}
		return ns.snapshotEvents(found, time.Now()) // within the call: Details may have methods of the host's
	})
}

// snapshotEvent is an event of a snapshot, with its payload.
type snapshotEvent struct {
	name string
	arg  json.RawMessage
}

// snapshotEvents encodes a snapshot.
func (ns *Namespace) snapshotEvents(found Snapshot, now time.Time) (events []snapshotEvent, err error) {
	add := func(name string, payload any) {
		var arg []byte
		if err == nil {
			arg, err = json.Marshal(payload)
		}
		if err == nil {
			err = sendable(ns.rt, name, [][]byte{arg}, nil)
		}
		events = append(events, snapshotEvent{name, arg})
	}
	add(EventTripSync.name, found.payload(ns.name, now))
	if a := found.Availability; a != nil && ns.name == NamespaceDrivers {
		add(EventDriverAvailability.name, AvailabilityPayload{newEventID(), *a})
	}
	return events, err
}

// check returns an error if the snapshot cannot be sent to the user.
func (s Snapshot) check(namespace, userID string) error {
	if len(s.Trips) > maxSnapshot || len(s.Offers) > maxSnapshot {
		return errLongSnapshot
	}
	for i := range s.Trips {
		if err := s.Trips[i].check(namespace, userID); err != nil {
			return err
		}
	}
	if namespace != NamespaceDrivers {
		return nil
	}
	for _, o := range s.Offers {
		switch {
		case o.DriverID != "" && o.DriverID != userID:
			return errAnotherRow
		case !validID(o.TripID) || !validID(o.AssignmentID):
			return errBadID
		case o.ExpiresAt.IsZero() && (o.At.IsZero() || o.TTLSec <= 0):
			return errors.New("an offer of the snapshot lacks ExpiresAt, or At and TTLSec")
		}
		if err := o.check(); err != nil {
			return err
		}
	}
	if a := s.Availability; a != nil {
		if a.DriverID != userID {
			return errAnotherRow
		}
		return DriverStatusChanged{*a}.check()
	}
	return nil
}

func (t *TripSnapshot) check(namespace, userID string) error {
	own := t.PassengerID
	if namespace == NamespaceDrivers {
		own = t.DriverID
	}
	switch {
	case own != "" && own != userID:
		return errAnotherRow
	case !validID(t.TripID) || !validIDs(t.PassengerID, t.DriverID, t.VehicleID):
		return errBadID
	case t.Status == "":
		return errors.New("a trip of the snapshot has no status")
	}
	return finite("snapshot", t.Pickup.number("pickup"), t.Destination.number("destination"), optional("fareEstimatedTotal", t.FareEstimatedTotal),
		optional("etaMinutes", t.ETAMinutes), t.DriverPosition.number("driverPosition"), t.Driver.number())
}

// payload returns the payload of trip:sync. It has only the cards that the user may see.
func (s Snapshot) payload(namespace string, now time.Time) TripSyncPayload {
	p := TripSyncPayload{Trips: make([]SyncedTrip, len(s.Trips)), Offers: []Offer{}, ServerTime: Time{now}}
	for i := range s.Trips {
		t := &s.Trips[i]
		p.Trips[i] = SyncedTrip{
			TripID: t.TripID, CurrentStatus: t.Status, At: Time{t.At}, PassengerID: orNull(t.PassengerID), DriverID: orNull(t.DriverID),
			VehicleID: orNull(t.VehicleID), RequestedAt: Time{t.RequestedAt}, ArrivedAt: Time{t.ArrivedAt}, Pickup: t.Pickup, Destination: t.Destination,
			FareEstimatedTotal: t.FareEstimatedTotal, Currency: orNull(t.Currency), ETAMinutes: t.ETAMinutes, DriverPosition: t.DriverPosition, Details: t.Details,
		}
		if namespace == NamespaceDrivers {
			p.Trips[i].Passenger = t.Passenger.masked()
		} else {
			p.Trips[i].Driver, p.Trips[i].Vehicle = t.Driver.masked(), t.Vehicle
		}
	}
	if namespace != NamespaceDrivers {
		return p
	}
	for _, o := range s.Offers {
		at := o.At
		if at.IsZero() {
			at = now
		}
		if v := o.offer(at); v.ExpiresAt.After(now) {
			p.Offers = append(p.Offers, v)
		}
	}
	return p
}
