// Package offerbook makes offers for the stress programs, to drivers who are connected, cut, silent or
// absent, and judges what becomes of each: what the devices received, and what the bus heard.
//
// The book: what was offered, answered and reported. It is also the host's table of offers.
package offerbook

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/cmd/internal/stresskit"
)

// State is where an offer is in the host's table.
type State string

// The states.
const (
	Open      State = "open"
	Accepted  State = "accepted"
	Rejected  State = "rejected"
	Cancelled State = "cancelled"
)

// The reports of the server about offers.
var (
	delivered   = realtime.AssignmentDelivered{}.EventName()
	undelivered = realtime.AssignmentUndelivered{}.EventName()
	expired     = realtime.AssignmentExpired{}.EventName()
	accepted    = realtime.AssignmentAccepted{}.EventName()
)

// Offer is an offer, and what has become of it. The fields of the first group do not change.
type Offer struct {
	ID, EventID, Trip, Driver, Passenger string
	At, Expires                          time.Time // At is before it was published

	// MaxCalls is how often the driver's apps have asked to accept it. A repeat with the same
	// idempotencyKey does not count, unless there was a fault or a device lost its connection meanwhile.
	MaxCalls int
	Taken    time.Time // when the bus had accepted it
	Ending   time.Time // before it was answered or withdrawn; zero: it was not
	Ended    time.Time // when that was handled everywhere; zero: not known

	state State             // the Book's mu guards it, and the rest
	calls int               // of AcceptOffer
	heard map[string]report // what the bus has heard, by name

	handled time.Time // when the first node reported that it has handled it; zero: none, or nodes do not report
}

// report is an event on the bus.
type report struct {
	ids []string // different ones
	n   int
	at  time.Time // of the first
	report1
}

// report1 is what the first one says.
type report1 struct {
	DriverID string `json:"driverId"`
	SocketID string `json:"socketId"`
	By       string `json:"by"`
	Reason   string `json:"reason"`
}

// Book holds the offers. All methods may be called concurrently.
type Book struct {
	count  *stresskit.Counts
	breach func(text string)
	slack  Slack

	mu     sync.Mutex // guards offers, what is said of Offer, and took
	offers map[string]*Offer
	took   [2][]time.Duration // from the offer to its receipt: by a device that was connected, and by one that came later
}

// Slack says by how much later than usual things may have happened within a period, to an offer that was
// handled then (zero: not known). ok is false if there was a fault, so that they need not have happened at all.
type Slack func(handled, from, to time.Time) (late time.Duration, ok bool)

// New returns an empty book.
func New(count *stresskit.Counts, breach func(text string), slack Slack) *Book {
	return &Book{count: count, breach: breach, slack: slack, offers: map[string]*Offer{}}
}

// begin enters an offer that is about to be published.
func (b *Book) begin(name string, at time.Time, ttl time.Duration) *Offer {
	o := &Offer{
		ID: "offer-" + name, EventID: "offered-" + name, Trip: name, Driver: "d" + name, Passenger: "p" + name,
		At: at, Expires: at.Add(ttl), state: Open, heard: map[string]report{},
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.offers[o.ID] = o
	return o
}

func (b *Book) end(o *Offer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.offers, o.ID)
}

// answer is the host's decision about a driver's answer. first says that it changes the state, so
// that the host publishes it.
func (b *Book) answer(driver, id string, to State) (o *Offer, first bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	o = b.offers[id]
	if o == nil || o.Driver != driver {
		return nil, false, realtime.ErrNotFound
	}
	if to == Accepted {
		o.calls++
	}
	switch {
	case o.state == to:
		return o, false, nil
	case o.state != Open || time.Now().After(o.Expires):
		return o, false, realtime.Errorf(realtime.CodeConflict, "the offer is %s or has expired", o.state)
	}
	o.state = to
	return o, true, nil
}

// Accept is AcceptOffer of the host's OfferService. The host publishes event unless it is nil. known is
// false for an offer that is not of this book.
func (b *Book) Accept(driver, id string) (trip string, event realtime.DomainEvent, known bool, err error) {
	o, first, err := b.answer(driver, id, Accepted)
	if o == nil || err != nil {
		return "", nil, o != nil, err
	}
	if first {
		event = realtime.AssignmentAccepted{TripID: o.Trip, AssignmentID: o.ID, PassengerID: o.Passenger, DriverID: o.Driver, At: time.Now()}
	}
	return o.Trip, event, true, nil
}

// Reject is RejectOffer, likewise.
func (b *Book) Reject(driver, id string) (event realtime.DomainEvent, known bool, err error) {
	o, first, err := b.answer(driver, id, Rejected)
	if first {
		event = realtime.AssignmentRejected{TripID: o.Trip, AssignmentID: o.ID, PassengerID: o.Passenger, DriverID: o.Driver, At: time.Now()}
	}
	return event, o != nil, err
}

// Heard takes an event of the bus.
func (b *Book) Heard(e realtime.Envelope) {
	switch e.Name {
	case delivered, undelivered, expired, accepted:
	default:
		return
	}
	var r struct {
		AssignmentID string `json:"assignmentId"`
		report1
	}
	if json.Unmarshal(e.Data, &r) != nil {
		return // the judge misses it
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	o := b.offers[r.AssignmentID]
	if o == nil {
		return // of a trip, or judged
	}
	was := o.heard[e.Name]
	if was.n == 0 {
		was.at, was.report1 = time.Now(), r.report1
	}
	if was.n++; !slices.Contains(was.ids, e.ID) {
		was.ids = append(was.ids, e.ID)
	}
	o.heard[e.Name] = was
}

// Handled takes a report of a node that it has handled an event.
func (b *Book) Handled(eventID string, at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if o := b.offers[strings.Replace(eventID, "offered-", "offer-", 1)]; o != nil && o.EventID == eventID {
		o.handled = earlier(o.handled, at)
	}
}

// snapshot returns a copy of an offer.
func (b *Book) snapshot(o *Offer) *Offer {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := *o
	c.heard = maps.Clone(o.heard)
	return &c
}

// Print writes how long offers took to be received. The counts have the rest.
func (b *Book) Print(out io.Writer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, whom := range []string{"a connected device", "one that connected meanwhile"} {
		all := slices.Sorted(slices.Values(b.took[i]))
		if len(all) == 0 {
			continue
		}
		at := func(p int) time.Duration { return all[len(all)*p/100].Round(100 * time.Microsecond) }
		fmt.Fprintf(out, "offers to %s: %d received, p50 %v, p99 %v, longest %v\n", whom, len(all), at(50), at(99), all[len(all)-1].Round(100*time.Microsecond))
	}
}
