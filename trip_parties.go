// Trip parties: an event of a trip whose passenger or driver is unknown waits for
// Options.Parties, or for the other nodes, in a queue of its trip. The other events on the bus do
// not wait for it.

package realtime

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/rodando/realtime/internal/hostcall"
	"github.com/rodando/realtime/internal/triptable"
)

const (
	// partyWait is how long the bus's call waits for a queued event. If the lookup answers
	// within that time, the event is sent before the bus counts it as handled.
	partyWait = 50 * time.Millisecond
	// maxQueued is the maximum number of queued events of all trips. Further events are
	// sent without a lookup, to the parties that are known.
	maxQueued = 16384
	// After a lookup that timed out, the trip has no lookup for minBackoff. The time
	// doubles with each further timeout, up to maxBackoff.
	minBackoff = 10 * time.Second
	maxBackoff = 5 * time.Minute
	// maxBackoffs is the number of backoffs from which expired ones are dropped.
	maxBackoffs = 4096
)

// partyQueues holds the events that wait for a lookup of their trip's parties. Its methods
// may be called concurrently.
type partyQueues struct {
	p      *publisher
	ctx    context.Context // the parent of all lookups
	cancel context.CancelFunc
	max    int // maxQueued, or less in a test

	learning tripLearning

	mu       sync.Mutex // guards the fields below, and the events of every partyQueue
	queues   map[string]*partyQueue
	queued   int // the number of queued events
	slow     int // the number of queued events that have waited longer than partyWait
	backoffs map[string]backoff
}

// partyQueue holds the events of one trip, in order. One goroutine sends them, and ends
// when the queue is empty.
type partyQueue struct {
	events  []queuedEvent
	ctx     context.Context
	cancel  context.CancelFunc // cancels the running lookup and prevents further ones
	ended   chan struct{}      // closed when the last event has been sent
	learned chan struct{}      // receives when another node has said what it knows of the trip
	vain    int64              // tripLearning.until when it was last waited for in vain; used by the goroutine alone
}

type queuedEvent struct {
	*received
	ctx  context.Context
	done chan struct{} // closed when the event has been sent
}

// backoff is the time during which a trip has no lookup.
type backoff struct {
	until time.Time
	last  time.Duration
}

func (q *partyQueues) init(p *publisher) {
	q.p, q.max, q.learning.began = p, maxQueued, time.Now()
	q.ctx, q.cancel = context.WithCancel(context.Background())
	q.queues, q.backoffs = map[string]*partyQueue{}, map[string]backoff{}
}

// publishInOrder sends an event of a trip, or an event of the host's own, whose key may be a
// trip's id. It queues the event if an earlier event of the trip is queued, or if the event needs
// a lookup. Otherwise it sends the event at once.
func (q *partyQueues) publishInOrder(ctx context.Context, r *received) {
	id := cmp.Or(r.about.tripID, r.env.Key)
	q.mu.Lock()
	queue := q.queues[id]
	if queue == nil && (q.queued >= q.max || !q.needsLookupLocked(r)) {
		q.mu.Unlock()
		q.p.publish(r, TripParties{})
		return
	}
	ev := queuedEvent{r, context.WithoutCancel(ctx), make(chan struct{})}
	q.queued++
	if queue == nil {
		queue = &partyQueue{events: []queuedEvent{ev}, ended: make(chan struct{}), learned: make(chan struct{}, 1)}
		queue.ctx, queue.cancel = context.WithCancel(q.ctx)
		q.queues[id] = queue
		go q.run(id, queue)
	} else {
		queue.events = append(queue.events, ev)
		if q.queued >= q.max {
			queue.cancel()
		}
	}
	if q.slow > 0 {
		q.mu.Unlock()
		return // lookups are slow now: waiting would only delay the bus
	}
	q.mu.Unlock()
	q.waitBriefly(ctx, ev)
}

// waitBriefly waits until a queued event has been sent, for partyWait at most.
func (q *partyQueues) waitBriefly(ctx context.Context, ev queuedEvent) {
	timer := time.NewTimer(partyWait)
	defer timer.Stop()
	select {
	case <-ev.done:
		return
	case <-timer.C:
	case <-ctx.Done():
	}
	q.mu.Lock()
	q.slow++
	q.mu.Unlock()
	go func() {
		<-ev.done
		q.mu.Lock()
		q.slow--
		q.mu.Unlock()
	}()
}

// needsLookupLocked reports whether an event needs a party that is unknown, and a lookup
// is possible now, or other nodes may know the party.
func (q *partyQueues) needsLookupLocked(r *received) bool {
	asksPeers := q.p.rt.opts.Parties == nil
	if r.err != nil || asksPeers && q.learning.left() == 0 {
		return false
	}
	known := q.p.trips.Known(r.about.tripID)
	unknown := people(0)
	if r.about.parties.PassengerID == "" && known.Passenger == "" {
		unknown |= itsPassenger
	}
	// The driver of an event that assigns the trip is a new one, not the known one, and no other
	// node knows them yet.
	assigns := r.about.does == triptable.Assigns
	if r.about.parties.DriverID == "" && (known.Driver == "" && !assigns || assigns && !asksPeers) {
		unknown |= itsDriver | itsDriverIfAny
	}
	return r.about.needs&unknown != 0 && !time.Now().Before(q.backoffs[r.about.tripID].until)
}

// run sends the events of a queue until there are none.
func (q *partyQueues) run(id string, queue *partyQueue) {
	empty := false
	defer func() {
		if !empty { // the host's code called runtime.Goexit
			go q.run(id, queue)
			return
		}
		queue.cancel()
	}()
	for {
		q.mu.Lock()
		if len(queue.events) == 0 {
			empty = true
			delete(q.queues, id)
			q.mu.Unlock()
			close(queue.ended)
			return
		}
		ev := queue.events[0]
		queue.events[0] = queuedEvent{}
		queue.events = queue.events[1:]
		lookUp := queue.ctx.Err() == nil && q.needsLookupLocked(ev.received)
		q.mu.Unlock()
		q.send(queue, ev, lookUp)
	}
}

// send sends an event that it has taken from its queue, after a lookup if lookUp is true.
func (q *partyQueues) send(queue *partyQueue, ev queuedEvent, lookUp bool) {
	defer func() {
		q.mu.Lock()
		q.queued--
		q.mu.Unlock()
		close(ev.done)
	}()
	var found TripParties
	switch {
	case lookUp && q.p.rt.opts.Parties != nil:
		found = q.lookUp(queue, ev)
	case lookUp:
		q.awaitPeers(queue, ev)
	}
	q.p.publish(ev.received, found)
}

// lookUp calls Options.Parties and stores the answer in the trip table. It does not wait
// for a call that ignores its ctx, because the later events of the trip wait for it.
func (q *partyQueues) lookUp(queue *partyQueue, ev queuedEvent) TripParties {
	id, rt := ev.about.tripID, q.p.rt
	ctx, cancel := context.WithCancel(ev.ctx)
	defer cancel()
	defer context.AfterFunc(queue.ctx, cancel)()
	found, err := hostcall.Do(ctx, rt.host.parties, id, func(ctx context.Context) (TripParties, error) {
		return rt.opts.Parties.FindParties(ctx, id)
	})
	for _, userID := range [...]string{found.PassengerID, found.DriverID} {
		if err == nil && userID != "" && !validID(userID) {
			err = errBadID
		}
	}
	timedOut := errors.Is(err, hostcall.ErrTimeout) || errors.Is(err, context.DeadlineExceeded)
	if timedOut || err == nil {
		q.setBackoff(id, timedOut)
	}
	switch {
	case errors.Is(err, ErrNotFound):
		return TripParties{}
	case err != nil:
		rt.log.Error("realtime: lookup of a trip's parties failed; the event is sent to the known ones only", withStack(err, "event", ev.env.Name, "trip", id, "error", err)...)
		return TripParties{}
	}
	if q.p.trips.Hint(id, triptable.Parties{Passenger: found.PassengerID, Driver: found.DriverID}) {
		q.p.shareAll(id, true)
	}
	return found
}

// setBackoff ends a trip's backoff after an answer, and extends it after a timeout.
func (q *partyQueues) setBackoff(id string, timedOut bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	last := q.backoffs[id].last
	delete(q.backoffs, id)
	if !timedOut {
		return
	}
	if len(q.backoffs) >= maxBackoffs {
		for other, b := range q.backoffs {
			if time.Now().After(b.until) {
				delete(q.backoffs, other)
			}
		}
	}
	next := min(cmp.Or(2*last, minBackoff), maxBackoff)
	q.backoffs[id] = backoff{time.Now().Add(next), next}
}

// flush waits, within ctx, until the queues that exist now are empty. If ctx ends first, it cancels
// their lookups, and waits a moment until what is queued has been sent to the parties that are known.
func (q *partyQueues) flush(ctx context.Context) error {
	q.mu.Lock()
	queues := slices.Collect(maps.Values(q.queues))
	q.mu.Unlock()
	for i, queue := range queues {
		select {
		case <-queue.ended:
			continue
		case <-ctx.Done():
		}
		for _, queue := range queues[i:] {
			queue.cancel()
		}
		moment := time.After(shutdownGrace)
		for _, queue := range queues[i:] {
			select {
			case <-queue.ended:
			case <-moment:
				return ctx.Err()
			}
		}
		return ctx.Err()
	}
	return nil
}

// await waits, within ctx, until the queues that exist now are empty.
func (q *partyQueues) await(ctx context.Context) {
	q.mu.Lock()
	queues := slices.Collect(maps.Values(q.queues))
	q.mu.Unlock()
	for _, queue := range queues {
		select {
		case <-queue.ended:
		case <-ctx.Done():
			return
		}
	}
}

// stop is flush, after which there are no more lookups.
func (q *partyQueues) stop(ctx context.Context) error {
	defer q.cancel()
	return q.flush(ctx)
}
