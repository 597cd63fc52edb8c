// Trip exchange: a node that may have missed events of trips compares its trip table with
// those of the other nodes, and moves its sockets accordingly. Package triptable decides what
// differs; this file sends it.

package realtime

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/rodando/realtime/internal/triptable"
)

const (
	// exchangeBatch is the maximum number of trips in a message.
	exchangeBatch = 64
	// exchangePause is the time between two messages.
	exchangePause = 5 * time.Millisecond
	// exchangeEvery is the minimum time between two comparisons: gaps that are reported
	// meanwhile share the next one.
	exchangeEvery = time.Second
	// answerDelay is the maximum of the random time after which a node answers. It does
	// not repeat what another node has sent by then.
	answerDelay = 200 * time.Millisecond
)

// tripExchange compares the trip table with those of other nodes. Its methods may be called
// concurrently and do not block.
type tripExchange struct {
	p     *publisher
	trips *triptable.Exchange

	mu        sync.Mutex // guards the fields below
	due       bool       // a comparison is to be made
	comparing bool       // the comparing goroutine exists
	answering bool       // the answering goroutine exists
}

func (x *tripExchange) init(p *publisher) { x.p, x.trips = p, triptable.NewExchange(p.trips) }

// compare sends the digests of this node's trips to the other nodes, which answer with the
// trips that they know differently. It does nothing with Cluster.BusFanOut: every node then
// receives every event from the bus, and trips do not depend on the adapter.
func (x *tripExchange) compare() {
	if !x.p.rt.clustered || x.p.rt.opts.Cluster.BusFanOut {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.due = true
	if !x.comparing {
		x.comparing = true
		go x.runComparing()
	}
}

func (x *tripExchange) runComparing() {
	for {
		x.mu.Lock()
		if !x.due || x.p.rt.ctx.Err() != nil {
			x.comparing = false
			x.mu.Unlock()
			return
		}
		x.due = false
		x.mu.Unlock()
		x.trips.Pages(func(page triptable.Page) bool {
			x.p.rt.shareState(everyShareNamespace, stateContent{Compare: &page})
			return page.Upto == "" || x.p.rt.pause(exchangePause)
		})
		x.p.rt.pause(exchangeEvery)
	}
}

// applyPage answers a comparison of another node. It skips trips whose id is invalid, and
// reports whether all of the page is valid.
func (x *tripExchange) applyPage(page triptable.Page) bool {
	if len(page.Trips) > triptable.MaxPage || !validIDs(page.After, page.Upto) {
		return false
	}
	invalid := func(d triptable.Digest) bool { return !validID(d.Trip) }
	valid := !slices.ContainsFunc(page.Trips, invalid)
	if !valid {
		page.Trips = slices.DeleteFunc(slices.Clone(page.Trips), invalid)
	}
	if x.trips.Compare(page) {
		x.answer()
	}
	return valid
}

// answer starts the goroutine that sends the trips that are due, after a random delay.
func (x *tripExchange) answer() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.answering {
		x.answering = true
		go x.runAnswering()
	}
}

func (x *tripExchange) runAnswering() {
	wait := rand.N(answerDelay)
	for x.p.rt.pause(wait) {
		x.mu.Lock()
		states, last := x.trips.Take(exchangeBatch)
		if len(states) == 0 {
			x.answering = false
			x.mu.Unlock()
			return
		}
		x.mu.Unlock()
		for _, ns := range builtinNamespaces {
			x.p.rt.shareState(ns.name, stateContent{Trips: states, Last: last})
		}
		wait = exchangePause
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.answering = false
}

// applyStates applies what another node knows of several trips, and moves this node's
// sockets of the namespace. It skips states that are invalid, and reports whether all are
// valid.
func (x *tripExchange) applyStates(namespace string, states []triptable.State, last bool) bool {
	if len(states) > triptable.MaxPage {
		return false
	}
	valid := true
	for _, s := range states {
		if !validState(s) {
			valid = false
			continue
		}
		res, due := x.trips.Merge(s, last || namespace != everyShareNamespace)
		x.p.move(s.Trip, res, namespace)
		if namespace == everyShareNamespace {
			x.p.positions.tripLearned(s.Trip)
			x.p.parties.learned(s.Trip)
			if due {
				x.answer()
			}
		}
	}
	return valid
}
