// Exchange: how the tables of different nodes become equal after messages between them were
// lost. One table lists digests of its trips; the others send what they know of the trips
// that differ. The caller carries the messages.

package triptable

import (
	"encoding/binary"
	"slices"
	"sync"
)

// MaxPage is the maximum number of trips in a Page.
const MaxPage = 512

// maxDue is the maximum number of trips that an Exchange has yet to send. No table has as
// many: the bound is for forged or damaged pages.
const maxDue = 1 << 20

// Page lists the trips of a table whose ids are greater than After and not greater than
// Upto; an empty Upto is greater than every id. Nodes exchange it as JSON.
type Page struct {
	After string   `json:"after,omitempty"`
	Upto  string   `json:"upto,omitempty"`
	Trips []Digest `json:"trips,omitempty"`
}

// Digest is a hash of what a table knows of a trip. Two tables with the same Sum know the same
// of it. Sum has 53 bits, which a JSON number represents exactly.
type Digest struct {
	Trip string `json:"t"`
	Sum  uint64 `json:"d"`
}

// digest returns the sum of what State.knowsMoreThan compares.
func (r *trip) digest() uint64 {
	var b []byte
	text := func(texts ...string) {
		for _, s := range texts {
			b = append(append(b, s...), 0)
		}
	}
	number := func(ns ...int64) {
		for _, n := range ns {
			b = binary.BigEndian.AppendUint64(b, uint64(n))
		}
	}
	flag := func(f bool) {
		if f {
			b = append(b, 1)
		} else {
			b = append(b, 0)
		}
	}
	last := r.lastNamed()
	text(r.passenger, r.driver, r.assignment, last.Driver, last.Assignment)
	flag(r.assigned)
	flag(r.idle)
	number(r.passengerAt, r.suspended, r.assigns.newest(), last.At)
	for _, f := range r.releases {
		if f.At >= last.At {
			number(f.At)
			text(f.Driver, f.Assignment)
		}
	}
	sum := uint64(14695981039346656037) // FNV-1a
	for _, c := range b {
		sum = (sum ^ uint64(c)) * 1099511628211
	}
	return sum & (1<<53 - 1)
}

// Exchange compares a table with those of other nodes, and holds the trips that are due: those
// whose State is to be sent. Its methods may be called concurrently.
type Exchange struct {
	table *Table

	mu  sync.Mutex      // guards due; the table's lock is taken while it is held
	due map[string]bool // the trips to be sent; true: the receivers do not answer
}

// NewExchange returns an Exchange of a table.
func NewExchange(t *Table) *Exchange { return &Exchange{table: t, due: map[string]bool{}} }

// Pages calls send with the pages of the whole table, one after the other, until send returns
// false. Trips that are added or end meanwhile may be missing.
func (x *Exchange) Pages(send func(Page) bool) {
	ids := x.table.ids()
	slices.Sort(ids)
	p := Page{}
	for len(ids) > MaxPage {
		p.Upto, p.Trips = ids[MaxPage-1], x.table.digests(ids[:MaxPage])
		if !send(p) {
			return
		}
		p.After, ids = p.Upto, ids[MaxPage:]
	}
	p.Upto, p.Trips = "", x.table.digests(ids)
	send(p)
}

func (t *Table) ids() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	ids := make([]string, 0, len(t.trips))
	for id := range t.trips {
		ids = append(ids, id)
	}
	return ids
}

func (t *Table) digests(ids []string) []Digest {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]Digest, 0, len(ids))
	for _, id := range ids {
		if r := t.trips[id]; r != nil {
			all = append(all, Digest{id, r.digest()})
		}
	}
	return all
}

// differ returns the trips of a page's range that the page lacks or lists with another digest
// than the table's, and listed trips that have ended. Trips that this table does not know are
// not among them.
func (t *Table) differ(p Page) (ids []string) {
	listed := make(map[string]uint64, len(p.Trips))
	for _, d := range p.Trips {
		listed[d.Trip] = d.Sum
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, r := range t.trips {
		if id <= p.After || p.Upto != "" && id > p.Upto {
			continue
		}
		if sum, ok := listed[id]; !ok || sum != r.digest() {
			ids = append(ids, id)
		}
	}
	for id, sum := range listed {
		if t.trips[id] != nil {
			continue
		}
		switch over := t.closedLocked(id); {
		case over == ended:
			ids = append(ids, id)
		case over != 0:
			if r := (&trip{suspended: over, idle: true}); r.digest() != sum {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// Compare compares the table with a page of another one: the trips that differ are due. It
// reports whether any trip is due.
func (x *Exchange) Compare(p Page) (due bool) {
	differ := x.table.differ(p)
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, id := range differ {
		if _, ok := x.due[id]; !ok && len(x.due) >= maxDue {
			break
		}
		x.due[id] = false
	}
	return len(x.due) > 0
}

// Merge records what another table knows of a trip, as Table.Merge does. If this table knows
// nothing more, the trip is no longer due, because the other tables have received the same
// state. Otherwise the trip becomes due, unless last says that the sender expects no answer.
// due reports whether any trip is due.
func (x *Exchange) Merge(s State, last bool) (res Result, due bool) {
	res = x.table.Merge(s)
	x.mu.Lock()
	defer x.mu.Unlock()
	switch _, ok := x.due[s.Trip]; {
	case !res.Outdated:
		delete(x.due, s.Trip)
	case !ok && !last && len(x.due) < maxDue:
		x.due[s.Trip] = true
	}
	return res, len(x.due) > 0
}

// Add makes a trip due. last says that the receivers do not answer. It reports whether any trip is
// due.
func (x *Exchange) Add(trip string, last bool) (due bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if final, ok := x.due[trip]; ok && last && !final || !ok && len(x.due) >= maxDue {
		return true
	}
	x.due[trip] = last
	return true
}

// Due returns the number of trips that are due.
func (x *Exchange) Due() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.due)
}

// Take returns what the table knows of at most n of the trips that are due, which are then no
// longer due. last says that the receivers do not answer. It returns no states only if no
// trip is due.
func (x *Exchange) Take(n int) (states []State, last bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for id, final := range x.due {
		if len(states) == n {
			break
		}
		if len(states) > 0 && final != last {
			continue
		}
		delete(x.due, id)
		if s, ok := x.table.State(id); ok {
			states, last = append(states, s), final
		}
	}
	return states, last
}
