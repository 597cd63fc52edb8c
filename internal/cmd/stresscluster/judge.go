//go:build unix

// Judging: the events that connections have received, compared with what the oracle knows.

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

// payload has the fields that the oracle reads. It does not read coordinates.
type payload struct {
	EventID               string    `json:"eventId"`
	TripID                string    `json:"tripId"`
	DriverID              string    `json:"driverId"`
	UserID                string    `json:"userId"`
	SID                   string    `json:"sid"`
	Probe                 string    `json:"probe"`
	LastLocationTimestamp time.Time `json:"lastLocationTimestamp"`
	Speed                 float64   `json:"speed"` // numbers the driver's connection
	Recovered             *bool     `json:"recovered"`
	Missed                *int      `json:"missed"`
}

// arrival is an event that a connection has received.
type arrival struct {
	name string
	at   time.Time
	payload
	broken string // why it can't be read
	offset bool   // it has one
}

// arrivals reads what a connection has received. With recovery, events may have offsets.
func arrivals(received []realtimetest.Received, recovery bool) []arrival {
	all := make([]arrival, 0, len(received))
	for _, r := range received {
		a := arrival{name: r.Event, at: r.At, offset: recovery && len(r.Args) == 2}
		switch arg, ok := comeback.Payload(r.Args, recovery); {
		case !ok:
			a.broken = fmt.Sprintf("has %d arguments", len(r.Args))
		case json.Unmarshal(arg, &a.payload) != nil:
			a.broken = "can't be read" // without the text, which may hold a position
		}
		all = append(all, a)
	}
	return all
}

// judge judges all connections that have ended. The cluster has had time to repair everything, so
// each event that was published long ago must have been handled.
func (o *oracle) judge() {
	o.mu.Lock()
	closed := o.closed
	o.closed = nil
	open := make([]*connection, 0, len(o.open))
	for c := range o.open {
		open = append(open, c)
	}
	o.mu.Unlock()
	received := make([][]arrival, len(closed), len(closed)+len(open))
	for i, c := range closed { // without the lock: it takes its time
		heard := c.cut
		if heard == nil {
			heard = c.Received()
		}
		received[i] = arrivals(heard, o.recovery)
	}
	for _, c := range open {
		received = append(received, arrivals(c.Received(), o.recovery))
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, all := range received {
		o.noteFirstLocked(all)
	}
	for i, c := range closed {
		o.judgeLocked(c, received[i], c.Strays())
	}
	o.checkHandledLocked()
}

// noteFirstLocked notes when each event first arrived anywhere.
func (o *oracle) noteFirstLocked(all []arrival) {
	for _, a := range all {
		if f := o.facts[a.EventID]; f != nil && (f.first.IsZero() || a.at.Before(f.first)) {
			f.first = a.at
		}
	}
}

// checkHandledLocked finds events that no node has handled.
func (o *oracle) checkHandledLocked() {
	for _, f := range o.facts {
		if f.missed || f.taken.IsZero() || time.Since(f.taken) < 2*healing || len(f.handled) > 0 || !f.first.IsZero() {
			continue
		}
		f.missed = true
		if l := o.diedLocked(f.taken, f.taken.Add(2*healing)); l != nil {
			o.count.Add("excused: nobody received it, and a node died", 1)
			continue
		}
		o.breachLocked(fmt.Sprintf("%s was published %.2fs after the start, and no node has handled it", f.id, f.taken.Sub(o.began).Seconds()))
	}
}

// diedLocked returns a node that was killed within a period, or nil.
func (o *oracle) diedLocked(from, to time.Time) *life {
	for _, l := range o.lives {
		if l.killed && !l.over.Before(from) && !l.over.After(to) {
			return l
		}
	}
	return nil
}

// judgement is the state of judging one connection. It is used under oracle.mu.
type judgement struct {
	o         *oracle
	c         *connection
	who       rides.Audience
	hello     bool                 // it has come
	since     time.Time            // hello of the first connection that was recovered up to this one
	recovered bool                 // it continues its former connection
	stays     []earlier            // its former connections
	newest    time.Time            // when the newest event with an offset came
	settled   map[string]bool      // missing events that were judged, by id
	seen      map[string]time.Time // when each event came, by its id
	last      map[*trip]int        // the latest seq of each trip, plus one
	positions map[string]time.Time // the latest of each driver's connection, by event
	probes    map[string]bool
}

// judgeLocked judges a connection that has ended. strays is how many packets came that nobody
// had asked for.
func (o *oracle) judgeLocked(c *connection, received []arrival, strays int) {
	j := &judgement{
		o: o, c: c, who: rides.AudienceOf(c.namespace, c.user),
		seen: map[string]time.Time{}, last: map[*trip]int{}, positions: map[string]time.Time{}, probes: map[string]bool{}, settled: map[string]bool{},
	}
	j.comesBack(received)
	for _, a := range received {
		if a.offset {
			j.newest = a.at
		}
		j.event(a)
	}
	j.complete()
	c.state, c.former = j, nil
	o.count.Add("connections judged", 1)
	o.count.Add("deliveries judged", len(received))
	if strays > c.gaveUp { // an acknowledgment that comes late counts as one
		j.breachf("%d packets that nobody asked for", strays-c.gaveUp)
	}
}

func (j *judgement) breachf(format string, args ...any) {
	j.o.breachLocked(fmt.Sprintf("%s in %s on %s: ", j.c.user, j.c.namespace, j.c.life.name) + fmt.Sprintf(format, args...))
}

// own checks that an event is for this client.
func (j *judgement) own(event string, mine bool) {
	if !mine {
		j.breachf("%s is not for this client", event)
	}
}

// event judges one event.
func (j *judgement) event(a arrival) {
	if a.broken != "" {
		j.breachf("%s %s", a.name, a.broken)
		return
	}
	if by, ok := j.o.deadlineLocked(j.c.sid); ok && a.at.After(by.Add(j.o.lag.since(by))) {
		j.breachf("%s came %v after the revoked session had to end", a.name, a.at.Sub(by))
	}
	driver, admin := j.c.namespace == realtime.NamespaceDrivers, j.c.namespace == realtime.NamespaceAdmin
	switch a.name {
	case realtime.EventHello.Name():
		if j.hello {
			j.breachf("hello came twice")
		}
		j.hello = true
		j.own(a.name, a.UserID == j.c.user && a.SID == j.c.sid)
	case realtime.EventServerDrain.Name():
		j.own(a.name, j.c.life.leaving)
	case realtime.EventSessionRevoked.Name():
		j.own(a.name, a.SID == "" || userOf(a.SID) == j.c.user)
	case realtime.EventAssignmentDelivered.Name(), realtime.EventAssignmentUndelivered.Name(): // of the server's own
		j.own(a.name, admin)
	case realtime.EventDriverAvailability.Name():
		j.own(a.name, driver && a.DriverID == j.c.user)
	case realtime.EventAdminDriverAvailability.Name():
		j.own(a.name, admin)
	case realtime.EventDriverLocation.Name(), realtime.EventAdminDriverLocation.Name(), realtime.EventTripDriverLocation.Name():
		j.position(a, driver, admin)
	case probe.Name():
		t := j.o.trips[a.TripID]
		j.own(a.name, t != nil && (driver && t.driver == j.c.user || j.c.namespace == realtime.NamespacePassengers && t.passenger == j.c.user))
		if j.probes[a.Probe] {
			j.breachf("%s came twice", a.Probe)
		}
		j.probes[a.Probe] = true
	default:
		j.ofTrip(a)
	}
}

// position checks a driver's position: its audience, and that it is newer than the previous one
// of the same connection.
func (j *judgement) position(a arrival, driver, admin bool) {
	t := j.o.trips[a.TripID]
	switch a.name {
	case realtime.EventDriverLocation.Name():
		j.own(a.name, driver && a.DriverID == j.c.user)
	case realtime.EventAdminDriverLocation.Name():
		j.own(a.name, admin)
	default:
		passenger, driver := "", ""
		if old, forgot := j.o.forgotten[a.TripID]; t != nil {
			passenger, driver = t.passenger, t.driver
		} else if forgot && old.runsOn {
			passenger, driver = old.passenger, old.driver
			j.o.count.Add("excused: a position of a trip whose end no node knows any more", 1)
		}
		mine := passenger == j.c.user && j.c.namespace == realtime.NamespacePassengers || admin && j.c.joined[a.TripID]
		if driver != a.DriverID || !mine {
			j.breachf("%s of %q of trip %s, of %q and %q, is not for this client, which has joined %v", a.name, a.DriverID, a.TripID, passenger, driver, j.c.joined[a.TripID])
		}
	}
	key := fmt.Sprint(a.name, " ", a.TripID, " ", a.DriverID, " ", a.Speed)
	at, before := a.LastLocationTimestamp, j.positions[key]
	if !at.Before(before) {
		j.positions[key] = at
		return
	}
	if why := j.o.whyOldLocked(at, a.at); why != "" {
		j.o.count.Add("excused: an old position, "+why, 1)
		return
	}
	j.breachf("%s of %s is %v older than the one before, and came %v after it was sent", a.name, a.DriverID, before.Sub(at), a.at.Sub(at))
}

// ofTrip checks an event of a trip: its audience and name, that it came once and in order, and
// that none before it is missing.
func (j *judgement) ofTrip(a arrival) {
	f := j.o.facts[a.EventID]
	switch admin := j.c.namespace == realtime.NamespaceAdmin; {
	case admin && ofBook(a.TripID):
		return // whoever plays the offer judges it
	case f == nil && a.name == realtime.EventAssignmentExpired.Name(): // of the server's own
		j.own(a.name, admin || j.c.namespace == realtime.NamespaceDrivers && a.DriverID == j.c.user)
		return
	case f == nil && j.o.forgotLocked(a.TripID):
		j.o.count.Add("events of trips that are forgotten", 1)
		return
	case f == nil:
		j.breachf("%s has id %q, which nobody published", a.name, a.EventID)
		return
	case f.hears[j.who] != a.name:
		j.breachf("%s %s is not for this client", a.name, f.id)
		return
	case a.TripID != f.trip.id:
		j.breachf("%s %s names another trip", a.name, f.id)
	}
	offer := j.c.isOffer(a.name)
	if before, again := j.seen[f.id]; again {
		if offer {
			j.o.count.Add("offers sent again", 1)
			return
		}
		if why := j.o.whyTwiceLocked(f, before, a.at); why != "" {
			j.o.count.Add("excused: repeated, "+why, 1)
		} else {
			j.breachf("%s %s came twice, %v apart; %s", a.name, f.id, a.at.Sub(before), j.o.historyLocked(f))
		}
		return
	}
	j.seen[f.id] = a.at
	j.afterHello(a, f)
	j.o.tookLocked(f, a.at)
	if f.seq < j.last[f.trip] && offer {
		j.o.count.Add("excused: an offer that came late", 1) // its node has missed the end
		return
	}
	if f.seq < j.last[f.trip] {
		later := f.trip.facts[j.last[f.trip]-1]
		if why := j.o.whyLateLocked(f, later); why != "" {
			j.o.count.Add("excused: late, "+why, 1)
		} else {
			j.breachf("%s %s arrived after %s; %s; %s", a.name, f.id, later.id, j.o.historyLocked(f), j.o.historyLocked(later))
		}
		return
	}
	j.last[f.trip] = f.seq + 1
}

// complete checks that nothing is missing.
func (j *judgement) complete() {
	if !j.hello {
		j.breachf("no hello")
	}
	for _, f := range j.o.heard[j.who] {
		if _, came := j.seen[f.id]; came || j.settled[f.id] || f.at.Before(j.since) || f.at.After(j.c.end) {
			continue
		}
		if j.c.isOffer(f.hears[j.who]) && f.at.Before(j.c.hello) {
			continue
		}
		for _, h := range j.o.handlingsLocked(f) {
			why, due := j.o.whyMissingLocked(f, h, j.c, j.stays)
			if due && (why != inGap || j.newest.After(h.at)) { // otherwise it must come if the client recovers
				j.settled[f.id] = true
			}
			switch {
			case !due:
			case why != "":
				j.o.count.Add("excused: lost, "+why, 1)
			default:
				j.breachf("%s %s was lost: emitted %.2fs after hello, %.2fs before the end; %s",
					f.hears[j.who], f.id, h.at.Sub(j.c.hello).Seconds(), j.c.end.Sub(h.at).Seconds(), j.o.andNextLocked(f))
			}
			break // once for each event
		}
	}
	if by, ok := j.o.deadlineLocked(j.c.sid); ok && j.c.end.After(by.Add(j.o.lag.since(by)+settling)) {
		j.breachf("the session was revoked, but still connected %v after it had to end", j.c.end.Sub(by))
	}
}

// userOf returns the user of a session's id, such as "p1" of "p1/3".
func userOf(sid string) string {
	user, _, _ := strings.Cut(sid, "/")
	return user
}

// tookLocked records how long a delivery took.
func (o *oracle) tookLocked(f *fact, at time.Time) {
	which := 0
	for _, s := range o.spansLocked() {
		if s.meets(f.at.Add(-healing), at) {
			which = 1
			break
		}
	}
	o.latency[which] = append(o.latency[which], at.Sub(f.at))
}
