// Judging: the events that one connection received, compared with what the oracle knows.

package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/cmd/internal/comeback"
	"github.com/rodando/realtime/internal/cmd/internal/rides"
	"github.com/rodando/realtime/realtimetest"
)

// transcript is what one connection has received, and what it should have received.
type transcript struct {
	namespace, user, sid string
	received             []realtimetest.Received
	// sure: events that were published between hello and this time must be in received.
	// Later ones may be missing, because the connection was about to end. Zero: any may.
	sure    time.Time
	joined  map[string]bool // trips that an admin joined
	updates int             // acknowledged status updates, each of which the driver must receive
	series  int             // numbers that were sent to it, and must have arrived
	epoch   int             // which of the user's connections it is
	latest  int             // which is the newest one that the device may have besides; 0: none
	former  *former         // the connection that it claims; nil: none
	strays  int             // packets that nobody asked for
}

// payload has the fields that the oracle reads. It does not read coordinates.
type payload struct {
	EventID               string    `json:"eventId"`
	TripID                string    `json:"tripId"`
	DriverID              string    `json:"driverId"`
	UserID                string    `json:"userId"`
	SID                   string    `json:"sid"`
	LastLocationTimestamp time.Time `json:"lastLocationTimestamp"`
	Speed                 float64   `json:"speed"` // numbers the driver's connection
	Connection            int       `json:"connection"`
	Number                int       `json:"number"`
}

// judge records every breach in a transcript. What it returns is for that of the connection with which
// the client comes back.
func (o *oracle) judge(t transcript) *judgement {
	o.mu.Lock()
	defer o.mu.Unlock()
	j := &judgement{
		o: o, t: &t, who: rides.AudienceOf(t.namespace, t.user), barred: o.barred[t.sid],
		seen: map[string]bool{}, last: map[*trip]int{}, positions: map[string]time.Time{},
	}
	j.comesBack()
	for _, r := range t.received {
		j.event(r)
	}
	j.complete()
	return j
}

// judgement is the state of judging one transcript. It is used under oracle.mu.
type judgement struct {
	o         *oracle
	t         *transcript
	who       rides.Audience
	barred    time.Time            // zero: never
	hello     time.Time            // zero before it came
	since     time.Time            // hello of the first connection that was recovered up to this one
	recovered bool                 // it is its former connection
	snapshots int                  // that are due
	again     int                  // positions that came again with what was missed
	seen      map[string]bool      // event ids, with the name they came under
	last      map[*trip]int        // the latest seq of each trip, plus one
	positions map[string]time.Time // the latest of each driver's connection, by event
	updates   int
	number    int // the latest of the series
}

func (j *judgement) breachf(format string, args ...any) {
	j.o.breachLocked(fmt.Sprintf("%s in %s: ", j.t.user, j.t.namespace) + fmt.Sprintf(format, args...))
}

// event judges one event.
func (j *judgement) event(r realtimetest.Received) {
	var p payload
	arg, ok := comeback.Payload(r.Args, j.o.recovery)
	if !ok {
		j.breachf("%s has %d arguments", r.Event, len(r.Args))
		return
	}
	if err := json.Unmarshal(arg, &p); err != nil {
		j.breachf("%s can't be read", r.Event) // without the text, which may hold a position
		return
	}
	switch r.Event {
	case realtime.EventHello.Name():
		j.greeted(r.At, p)
		return
	case bulk.Name():
		j.own(r.Event, p.UserID == j.t.user)
		return
	case series.Name():
		j.own(r.Event, p.SID == j.t.sid && p.Connection <= max(j.t.epoch, j.t.latest))
		j.numberSentAgain(p)
		if p.Connection == j.t.epoch {
			j.next(p.Number)
		} // else it was sent to the connection before, and late
		return
	case realtime.EventServerDrain.Name():
		j.own(r.Event, j.o.isDraining())
		return
	case realtime.EventTripSync.Name():
		j.synced()
		return
	case realtime.EventAssignmentDelivered.Name(), realtime.EventAssignmentUndelivered.Name(): // of the server's own
		j.own(r.Event, j.t.namespace == realtime.NamespaceAdmin)
		return
	}
	if j.t.namespace == realtime.NamespaceAdmin && ofTrouble(p.TripID) {
		return // it may arrive twice or not at all; its scene judges it
	}
	key := r.Event + " " + p.TripID + " " + p.EventID
	if j.seen[key] && j.isOffer(r.Event) {
		return // sent again: the device was silent for a moment, or has come back
	}
	if j.seen[key] && j.recovered && j.hello.IsZero() && isPosition(r.Event) {
		j.again++ // positions have no offset, so the server can't know that it came
		return
	}
	if p.EventID == "" || j.seen[key] {
		j.breachf("%s with id %q came twice, or has none", r.Event, p.EventID)
		return
	}
	j.seen[key] = true
	switch r.Event {
	case realtime.EventSessionRevoked.Name():
		j.own(r.Event, p.SID == "" || j.o.sessions[p.SID] == j.t.user)
	case realtime.EventDriverAvailability.Name():
		j.updates++
		j.own(r.Event, j.t.namespace == realtime.NamespaceDrivers && p.DriverID == j.t.user)
	case realtime.EventDriverTrip.Name():
		j.own(r.Event, j.t.namespace == realtime.NamespaceDrivers && p.DriverID == j.t.user)
	case realtime.EventAdminDriverAvailability.Name(), realtime.EventAdminDriverTrip.Name():
		j.own(r.Event, j.t.namespace == realtime.NamespaceAdmin)
	default:
		if isPosition(r.Event) {
			j.position(r.Event, p)
		} else {
			j.ofTrip(r.Event, p)
		}
	}
}

func isPosition(event string) bool {
	return event == realtime.EventDriverLocation.Name() || event == realtime.EventAdminDriverLocation.Name() || event == realtime.EventTripDriverLocation.Name()
}

// ofTrouble reports whether a trip belongs to trouble.
func ofTrouble(trip string) bool {
	return strings.HasPrefix(trip, sceneTrip) || strings.HasPrefix(trip, hungTrip) || strings.HasPrefix(trip, bomb)
}

// next checks a number of this connection's series.
func (j *judgement) next(number int) {
	if number != j.number+1 {
		j.breachf("number %d of a series arrived after %d", number, j.number)
	}
	j.number = number
}

// own checks an event that belongs to no trip. mine says whether this client may receive
// it.
func (j *judgement) own(event string, mine bool) {
	if !mine {
		j.breachf("%s is not for this client", event)
	}
}

func (j *judgement) greeted(at time.Time, p payload) {
	if !j.hello.IsZero() {
		j.breachf("hello came twice")
	}
	if p.UserID != j.t.user || p.SID != j.t.sid {
		j.breachf("hello names another user or session")
	}
	if j.hello = at; j.since.IsZero() {
		j.since = at
	}
	j.caughtUp()
}

// ofTrip checks an event of a trip: its audience and name, that it came once and in
// order, that none before it is missing, and that it was published before the session's
// end.
func (j *judgement) ofTrip(event string, p payload) {
	f := j.o.facts[p.EventID]
	switch {
	case f == nil:
		j.breachf("%s has id %q, which nobody published", event, p.EventID)
		return
	case f.hears[j.who] != event:
		j.breachf("%s %s is not for this client", event, f.id)
		return
	case p.TripID != f.trip.id:
		j.breachf("%s %s names another trip", event, f.id)
	}
	if !j.barred.IsZero() && f.at.After(j.barred) {
		j.breachf("%s %s was published %v after the session's end", event, f.id, f.at.Sub(j.barred))
	}
	j.sentAgain(event, f)
	last, begun := j.last[f.trip]
	if begun && f.seq < last {
		j.breachf("%s %s arrived after a later event of its trip", event, f.id)
		return
	}
	for seq := last; begun && seq < f.seq; seq++ {
		if missed := f.trip.facts[seq]; missed.hears[j.who] != "" && !j.offered(missed) {
			j.breachf("%s %s was lost: %s came", missed.hears[j.who], missed.id, f.id)
			j.seen[missed.key(j.who)] = true // reported once
		}
	}
	j.last[f.trip] = f.seq + 1
}

// key is what an event is seen under by a hearer.
func (f *fact) key(who rides.Audience) string { return f.hears[who] + " " + f.trip.id + " " + f.id }

// position checks a driver's position: its audience, that it was sent during the trip
// and the session, and that it is newer than the previous one of the same connection.
func (j *judgement) position(event string, p payload) {
	switch event {
	case realtime.EventDriverLocation.Name():
		j.own(event, j.t.namespace == realtime.NamespaceDrivers && p.DriverID == j.t.user)
	case realtime.EventAdminDriverLocation.Name():
		j.own(event, j.t.namespace == realtime.NamespaceAdmin)
	default:
		j.tripPosition(event, p)
	}
	if strings.HasPrefix(p.DriverID, hungService) {
		return // many devices of one driver, whose services end in any order
	}
	at := p.LastLocationTimestamp
	if !j.barred.IsZero() && at.After(j.barred) {
		j.breachf("%s of %s was sent %v after the session's end", event, p.DriverID, at.Sub(j.barred))
	}
	key := fmt.Sprint(event, " ", p.TripID, " ", p.DriverID, " ", p.Speed)
	if at.Before(j.positions[key]) {
		j.breachf("%s of %s is older than the one before", event, p.DriverID)
	}
	j.positions[key] = at
}

func (j *judgement) tripPosition(event string, p payload) {
	t := j.o.trips[p.TripID]
	switch {
	case t == nil || t.driver != p.DriverID:
		j.breachf("%s names a driver who is not on the trip", event)
	case j.t.namespace == realtime.NamespacePassengers:
		j.own(event, t.passenger == j.t.user)
	default:
		j.own(event, j.t.namespace == realtime.NamespaceAdmin && j.t.joined[p.TripID])
	}
	if t != nil && !t.over.IsZero() && p.LastLocationTimestamp.After(t.over) {
		j.breachf("%s was sent %v after the trip's end", event, p.LastLocationTimestamp.Sub(t.over))
	}
}

// complete checks the transcript as a whole.
func (j *judgement) complete() {
	if j.t.strays > 0 {
		j.breachf("%d unexpected packets", j.t.strays)
	}
	if j.t.sure.IsZero() {
		return
	}
	if j.hello.IsZero() {
		j.breachf("no hello")
		return
	}
	if j.updates < j.t.updates {
		j.breachf("%d of %d status updates arrived", j.updates, j.t.updates)
	}
	if j.number < j.t.series {
		j.breachf("%d numbers of a series of %d arrived", j.number, j.t.series)
	}
	for _, f := range j.o.heard[j.who] {
		due := f.at.After(j.since) && !f.taken.IsZero() && f.taken.Before(j.t.sure)
		if due && !j.seen[f.key(j.who)] && !j.offered(f) {
			j.breachf("%s %s was lost, %v after hello, %v before the client asked", f.hears[j.who], f.id, f.at.Sub(j.hello), j.t.sure.Sub(f.taken))
		}
	}
}
