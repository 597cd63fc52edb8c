// Trip exchange: a node that may have missed events of trips compares its trip table with
// those of the other nodes, and moves its sockets accordingly. Package triptable decides what
// differs; this file sends it.

package realtime

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/rodando/realtime/internal/ratelimit"
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
	// sharesPerSecond and sharesBurst limit how many states of trips a node sends by themselves. Further ones are sent
	// together, with the next answer.
	sharesPerSecond, sharesBurst = 500, 1000
	// recentTrips is the maximum number of trips whose last events a node that shuts down sends
	// again, and recentTime how old these events are at most.
	recentTrips = 4096
	recentTime  = time.Minute
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
	answered  time.Time  // when it has begun to answer last
	shares    ratelimit.Bucket
	recent    []recentTrip // of which this node has handled events; the oldest is at next once there are recentTrips
	next      int

	start time.Time // the beginning of shares' clock
	quota ratelimit.Quota
}

// recentTrip is a trip of which this node has handled an event.
type recentTrip struct {
	id string
	at time.Time
}

func (x *tripExchange) init(p *publisher) {
	x.p, x.trips = p, triptable.NewExchange(p.trips)
	x.start, x.quota = time.Now(), ratelimit.Rate{PerSecond: sharesPerSecond, Burst: sharesBurst}.Quota()
}

// share sends everything that this node knows of a trip to the other nodes, at once or, if it has
// sent many, with the next answer. It does not block: the adapter waits for the return of Deliver.
func (x *tripExchange) share(tripID string, last bool) {
	if x.p.rt.opts.Cluster.BusFanOut {
		return
	}
	x.mu.Lock()
	allowed := x.shares.Allow(x.quota, time.Since(x.start))
	x.mu.Unlock()
	if allowed {
		go x.p.shareAll(tripID, last)
	} else if x.trips.Add(tripID, last) {
		x.answer()
	}
}

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

// answer starts the goroutine that sends the trips that are due, after a random delay and at
// least answerEvery after it has begun to do so last.
func (x *tripExchange) answer() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.answering {
		x.answering = true
		go x.runAnswering(max(rand.N(answerDelay), answerEvery-time.Since(x.answered)))
	}
}

func (x *tripExchange) runAnswering(wait time.Duration) {
	for x.p.rt.pause(wait) {
		x.mu.Lock()
		due := x.trips.Due()
		if due == 0 {
			x.answering = false
			x.mu.Unlock()
			return
		}
		x.answered = time.Now()
		x.mu.Unlock()
		if !x.sendDue(due) {
			break
		}
		wait = max(exchangePause, answerEvery-time.Since(x.answered)) // only this goroutine sets it
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.answering = false
}

// sendDue sends at most n of the trips that are due. Those that become due meanwhile, perhaps
// again, wait for the next time. It reports whether the server still runs.
func (x *tripExchange) sendDue(n int) bool {
	for n > 0 {
		states, last := x.trips.Take(min(n, exchangeBatch))
		if len(states) == 0 {
			return true
		}
		n -= len(states)
		for _, ns := range builtinNamespaces {
			x.p.rt.shareState(ns.name, stateContent{Trips: states, Last: last})
		}
		if n > 0 && !x.p.rt.pause(exchangePause) {
			return false
		}
	}
	return true
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
		x.p.stateLearned(s, res, namespace)
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

// handled records that this node has shared an event of a trip.
func (x *tripExchange) handled(tripID string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	r := recentTrip{tripID, time.Now()}
	if len(x.recent) < recentTrips {
		x.recent = append(x.recent, r)
		return
	}
	x.recent[x.next] = r
	x.next = (x.next + 1) % recentTrips
}

func (r recentTrip) isRecent() bool { return time.Since(r.at) < recentTime }

// hasRecent reports whether this node has handled events of trips lately.
func (x *tripExchange) hasRecent() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.ContainsFunc(x.recent, recentTrip.isRecent)
}

// handOver sends what this node knows of the trips of which it has handled events lately. The other
// nodes do not answer.
func (x *tripExchange) handOver() {
	x.mu.Lock()
	recent := slices.Clone(x.recent)
	x.mu.Unlock()
	for _, r := range recent {
		if r.isRecent() {
			x.trips.Add(r.id, true)
		}
	}
	x.sendDue(x.trips.Due())
}
