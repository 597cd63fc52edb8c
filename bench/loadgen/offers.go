// Offers under drops: trips are offered to drivers, of whom half are cut at that time. When does an
// offer arrive, when does the backend know that it has not, and is any accepted twice?

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	evOffer    = "trip:assignment:offered"
	evAccepted = "trip:assignment:accepted"
	evSync     = "trip:sync"

	// An offer that was not received for so long is one of which the backend must have been told:
	// the three seconds of the server's default, and what a busy machine makes a report late.
	mustBeTold = 5 * time.Second
	tellLimit  = 15 * time.Second // for reports at the end
)

// An offer is one trip that is offered to one driver.
type offer struct {
	user     int
	away     bool // its client was cut when it became due
	accepts  int  // how often its client accepts it, one time behind the other
	outcome  outcome
	at       int64               // when the request for it began
	received int64               // 0: never
	synced   bool                // trip:sync had it before the event came
	copies   int                 // of the event
	late     int                 // copies, of whatever kind, after the ack of an acceptance
	acked    bool                // an acceptance was acknowledged
	accepted map[string]struct{} // by event id: the events that say so
}

// offers makes them, is the clients that receive them, and counts. It is for one thread.
type offers struct {
	b    *bench
	role *role
	cuts [][]cut // by client
	rnd  *rand.Rand
	pub  *publisher
	list []offer

	refused   map[string]int // answers to acceptances, by code
	misrouted int
	lastMade  int64
	readAt    int64 // when the reports were read
	reports   []backendReport
}

// A backendReport is a line of what the backend was told; see server/backend.go.
type backendReport struct {
	What, Offer, By string
	Clock           int64
}

func newOffers(b *bench, r *role, cuts [][]cut) *offers {
	o := &offers{b: b, role: r, cuts: cuts, rnd: rand.New(rand.NewPCG(b.cfg.seed, 1<<32)), refused: map[string]int{}}
	o.pub = newPublisher(b, b.cfg.offers, int(b.cfg.offers*b.cfg.dur.Seconds()))
	o.pub.next = o.next
	o.pub.path = func(n int) string {
		return fmt.Sprintf("/bench/offer?driver=%s&offer=%s&ttl=%d", o.role.sub(o.list[n].user), offerID(n), int(b.cfg.ttl.Seconds()))
	}
	o.pub.published = func(n int, at int64, how outcome) {
		o.list[n].at, o.list[n].outcome = at, how
		o.lastMade = at
	}
	return o
}

func offerID(n int) string { return runID + "-" + strconv.Itoa(n) }

// find returns the offer of an id, if it is one to this client, and its number.
func (o *offers) find(user int, id string) (*offer, int) {
	n, err := strconv.Atoi(strings.TrimPrefix(id, runID+"-"))
	if err != nil || n < 0 || n >= len(o.list) || o.list[n].user != user {
		o.misrouted++
		return nil, 0
	}
	return &o.list[n], n
}

// next makes an offer: every other one to a client that is cut. Half are not answered, a quarter is
// accepted, and a quarter is accepted twice.
func (o *offers) next(at int64) int {
	n := len(o.list)
	user := o.rnd.IntN(len(o.cuts))
	for i := range o.cuts {
		if u := (user + i) % len(o.cuts); n%2 == 1 && o.isCut(u, at) {
			user = u
			break
		}
	}
	o.list = append(o.list, offer{user: user, away: o.isCut(user, at), accepts: max(0, o.rnd.IntN(4)-1)})
	return n
}

func (o *offers) isCut(user int, at int64) bool {
	for _, c := range o.cuts[user] {
		if c.at <= at && at < c.until {
			return true
		}
	}
	return false
}

// acknowledges says whether a client's app acks events: every other one does not.
func acknowledges(user int) bool { return user%2 == 0 }

// event handles an event as an app does.
func (o *offers) event(k *conn, name string, data []byte) {
	var p struct {
		AssignmentID, EventID string
		Offers                []struct{ AssignmentID string }
	}
	now := nanos() // before anything is answered, which the server may report at once
	switch name {
	case evOffer:
		if k.kept.asked >= 0 && acknowledges(k.user) {
			o.b.l.text(k, "43"+k.role.nsp+","+strconv.Itoa(k.kept.asked)+"[]")
		}
		fallthrough
	case evAccepted, evSync:
		if err := json.Unmarshal(data, &p); err != nil {
			o.misrouted++
			return
		}
	}
	switch name {
	case evOffer:
		o.arrived(k, p.AssignmentID, false, now)
	case evSync:
		for _, of := range p.Offers {
			o.arrived(k, of.AssignmentID, true, now)
		}
	case evAccepted:
		if of, _ := o.find(k.user, p.AssignmentID); of != nil {
			if of.accepted == nil {
				of.accepted = map[string]struct{}{}
			}
			of.accepted[p.EventID] = struct{}{}
		}
	}
}

// arrived counts an offer that has arrived, and answers the first copy.
func (o *offers) arrived(k *conn, id string, sync bool, now int64) {
	of, n := o.find(k.user, id)
	if of == nil {
		return
	}
	if !sync {
		of.copies++
	}
	if of.acked {
		of.late++
	}
	if of.received > 0 {
		return
	}
	of.received, of.synced = now, sync
	o.accept(k, n)
}

// The ack ids of the acceptances of an offer are acceptIDs*n + 1 and so on.
const acceptIDs = 4

// accept accepts an offer as often as its client does.
func (o *offers) accept(k *conn, n int) {
	for i := range o.list[n].accepts {
		o.b.l.text(k, fmt.Sprintf(`42%s,%d["driver:offer:accept",{"assignmentId":%q}]`, k.role.nsp, acceptIDs*n+1+i, offerID(n)))
	}
}

// returned accepts once more what the client has accepted without an ack, on its new connection.
func (o *offers) returned(k *conn) {
	now := nanos()
	for n := range o.list {
		if of := &o.list[n]; of.user == k.user && of.received > 0 && !of.acked && now < of.at+int64(o.b.cfg.ttl) {
			o.accept(k, n)
		}
	}
}

// ack takes the answer to an acceptance.
func (o *offers) ack(user, id int, data []byte) {
	n := (id - 1) / acceptIDs
	if id < 1 || n >= len(o.list) || o.list[n].user != user {
		o.misrouted++
		return
	}
	if bytes.Contains(data, []byte(`"ok":true`)) {
		o.list[n].acked = true
		return
	}
	_, code, _ := bytes.Cut(data, []byte(`"code":"`))
	code, _, _ = bytes.Cut(code, []byte{'"'})
	o.refused[string(code)]++
}

// done says whether every offer was received or has expired, and the backend was told.
func (o *offers) done(now int64) bool {
	if !o.pub.done() || now < o.lastMade+int64(mustBeTold) {
		return false
	}
	for i := range o.list {
		if of := &o.list[i]; of.outcome == accepted && of.received == 0 && now < of.at+int64(o.b.cfg.ttl) {
			return false
		}
	}
	if now-o.readAt < int64(250*time.Millisecond) {
		return false
	}
	o.readAt = now
	o.reports = readReports(filepath.Join(o.b.cfg.store, "reports"))
	return o.count().untold == 0 || now > o.lastMade+int64(tellLimit)
}

func readReports(file string) (list []backendReport) {
	data, _ := os.ReadFile(file) // without it nothing was told
	for line := range bytes.Lines(data) {
		var r backendReport
		if json.Unmarshal(line, &r) == nil {
			list = append(list, r)
		}
	}
	return list
}

// An offerCount is what became of the offers.
type offerCount struct {
	published, unanswered, received, synced, again, late int
	all, here, away                                      []int64 // from offer to receipt
	toldAfter                                            []int64
	by                                                   map[string]int // first receipts that the backend knows
	untold, falsely, repeated                            int
	acceptances, twice                                   int
}

// toldOf is what the backend was told of one offer, how often and when first.
type toldOf struct {
	offered, delivered, undelivered int64
	reports                         map[string]int
}

func (o *offers) told(c *offerCount) map[string]*toldOf {
	all := map[string]*toldOf{}
	for _, r := range o.reports {
		t := all[r.Offer]
		if t == nil {
			t = &toldOf{reports: map[string]int{}}
			all[r.Offer] = t
		}
		t.reports[r.What]++
		if t.reports[r.What] > 1 {
			continue
		}
		switch r.What {
		case "offered":
			t.offered = r.Clock
		case "delivered":
			t.delivered = r.Clock
			c.by[r.By]++
		case "undelivered":
			t.undelivered = r.Clock
		}
	}
	return all
}

func (o *offers) count() *offerCount {
	c := &offerCount{by: map[string]int{}}
	told := o.told(c)
	for n := range o.list {
		of := &o.list[n]
		switch of.outcome {
		case unpublished:
			continue
		case unanswered: // it may have been made, and it may not
			c.unanswered++
			continue
		}
		c.published++
		t := told[offerID(n)]
		if t == nil {
			t = &toldOf{}
		}
		c.add(of, t, int64(o.b.cfg.ttl))
	}
	return c
}

// add counts an offer that a server has accepted.
func (c *offerCount) add(of *offer, t *toldOf, ttl int64) {
	took := of.received - of.at
	if of.received > 0 && took <= ttl {
		c.received++
		c.all = append(c.all, took)
		if of.away {
			c.away = append(c.away, took)
		} else {
			c.here = append(c.here, took)
		}
		if of.synced && of.copies == 0 {
			c.synced++
		}
	}
	c.again += max(0, of.copies-1)
	c.late += of.late
	switch {
	case t.undelivered > 0:
		c.toldAfter = append(c.toldAfter, t.undelivered-t.offered)
	case of.received == 0 || took > int64(mustBeTold):
		c.untold++
	}
	if t.delivered > 0 && (of.received == 0 || t.delivered < of.received+sinceBoot) {
		c.falsely++
	}
	c.repeated += max(0, t.reports["delivered"]-1) + max(0, t.reports["undelivered"]-1)
	acceptances := max(t.reports["accepted"], len(of.accepted))
	c.acceptances += min(acceptances, 1)
	c.twice += max(0, acceptances-1)
}

// report adds what became of the offers to the figures of a run.
func (o *offers) report(r *result) {
	c := o.count()
	r.add("offers", float64(c.published), "")
	r.add("offers_unanswered", float64(c.unanswered), "")
	r.add("offers_received_pct", 100*per(float64(c.received), int64(c.published)), "%")
	r.add("offers_missed", float64(c.published-c.received), "")
	for _, of := range []struct {
		prefix string
		ns     []int64
	}{{"offers_", c.all}, {"offers_here_", c.here}, {"offers_away_", c.away}, {"offers_told_", c.toldAfter}} {
		r.add(of.prefix+"count", float64(len(of.ns)), "")
		if len(of.ns) > 0 {
			r.latencies(of.prefix, of.ns)
		}
	}
	r.add("offers_only_synced", float64(c.synced), "")
	r.add("offers_sent_again", float64(c.again), "")
	r.add("offers_untold", float64(c.untold), "")
	r.add("offers_receipts_ack", float64(c.by["ack"]), "")
	r.add("offers_receipts_heartbeat", float64(c.by["heartbeat"]), "")
	r.add("offers_false_receipts", float64(c.falsely), "")
	r.add("offers_reports_repeated", float64(c.repeated), "")
	r.add("offers_acceptances", float64(c.acceptances), "")
	r.add("offers_accepted_twice", float64(c.twice), "")
	r.add("offers_after_answer", float64(c.late), "")
	if o.misrouted > 0 {
		r.bad("%d offers or answers reached a client that they were not for, or could not be read", o.misrouted)
	}
	if len(o.refused) > 0 {
		r.note("acceptances were refused: %v", o.refused)
	}
	if c.published == 0 {
		r.bad("nothing was offered")
	}
}
