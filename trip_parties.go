// Events of trips whose people are not known wait for Options.Parties, in a queue
// for each trip, so that what follows on the bus does not wait with them.

package realtime

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/rodando/realtime/internal/hostcall"
	"github.com/rodando/realtime/internal/triptable"
)

const (
	// partyPatience is how long the bus waits for a lookup. An answer within it is
	// a healthy host's: the event is sent before the bus takes it for handled.
	partyPatience = 50 * time.Millisecond
	// maxWaiting is how many events wait. Beyond it they are sent to those known.
	maxWaiting = 16384
	// A trip whose lookup was not answered in time is not asked for again for so
	// long, twice as long each further time.
	minBackoff = 10 * time.Second
	maxBackoff = 5 * time.Minute
	// maxBackoffs is at how many such trips those whose time is over are dropped.
	maxBackoffs = 4096
)

// partyQueues are the events that wait for their trips' people.
type partyQueues struct {
	p      *publisher
	ctx    context.Context
	cancel context.CancelFunc
	max    int // events that wait

	mu       sync.Mutex // guards everything below, and every partyQueue
	queues   map[string]*partyQueue
	waiting  int // events in them
	overdue  int // those for which the bus has ceased to wait
	backoffs map[string]backoff
	idle     chan struct{} // closed when there is no queue; nil while nobody waits
}

// partyQueue are the events of one trip. It has a goroutine while it exists.
type partyQueue struct {
	events []waitingEvent
	ctx    context.Context
	cancel context.CancelFunc // ends the question under way; no other follows
}

type waitingEvent struct {
	*received
	ctx  context.Context
	done chan struct{} // closed when it has been sent
}

// backoff is how long a trip's people are not asked for.
type backoff struct {
	until time.Time
	last  time.Duration
}

func (q *partyQueues) init(p *publisher) {
	q.p, q.max = p, maxWaiting
	q.ctx, q.cancel = context.WithCancel(context.Background())
	q.queues, q.backoffs = map[string]*partyQueue{}, map[string]backoff{}
}

// pass sends an event of a trip, or one of the host's own that has its key: at once
// when its people are known or can't be asked for and no other event of the trip
// waits, else in its turn.
func (q *partyQueues) pass(ctx context.Context, r *received) {
	id := cmp.Or(r.about.tripID, r.env.Key)
	q.mu.Lock()
	queue := q.queues[id]
	if queue == nil && (q.waiting >= q.max || !q.asksLocked(r)) {
		q.mu.Unlock()
		q.p.publish(r, TripParties{})
		return
	}
	ev := waitingEvent{r, context.WithoutCancel(ctx), make(chan struct{})}
	q.waiting++
	if queue == nil {
		queue = &partyQueue{events: []waitingEvent{ev}}
		queue.ctx, queue.cancel = context.WithCancel(q.ctx)
		q.queues[id] = queue
		go q.run(id, queue)
	} else {
		queue.events = append(queue.events, ev)
		if q.waiting >= q.max {
			queue.cancel()
		}
	}
	if q.overdue > 0 {
		q.mu.Unlock()
		return // the host is slow just now
	}
	q.mu.Unlock()
	q.await(ctx, ev)
}

// await waits for an event for a moment.
func (q *partyQueues) await(ctx context.Context, ev waitingEvent) {
	patience := time.NewTimer(partyPatience)
	defer patience.Stop()
	select {
	case <-ev.done:
		return
	case <-patience.C:
	case <-ctx.Done():
	}
	q.mu.Lock()
	q.overdue++
	q.mu.Unlock()
	go func() {
		<-ev.done
		q.mu.Lock()
		q.overdue--
		q.mu.Unlock()
	}()
}

// asksLocked reports whether an event needs somebody who is not known, and may ask.
func (q *partyQueues) asksLocked(r *received) bool {
	if q.p.rt.opts.Parties == nil || r.err != nil {
		return false
	}
	known := q.p.trips.Known(r.about.tripID)
	unknown := people(0)
	if r.about.parties.PassengerID == "" && known.Passenger == "" {
		unknown |= itsPassenger
	}
	// An event that assigns the trip is of the driver of now, not of the one before.
	if r.about.parties.DriverID == "" && (known.Driver == "" || r.about.does == triptable.Assigns) {
		unknown |= itsDriver | itsDriverIfAny
	}
	return r.about.needs&unknown != 0 && !time.Now().Before(q.backoffs[r.about.tripID].until)
}

// run sends the events of a queue until there are none.
func (q *partyQueues) run(id string, queue *partyQueue) {
	empty := false
	defer func() {
		if !empty { // the host's code has ended this goroutine
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
			if len(q.queues) == 0 && q.idle != nil {
				close(q.idle)
				q.idle = nil
			}
			q.mu.Unlock()
			return
		}
		ev := queue.events[0]
		queue.events[0] = waitingEvent{}
		queue.events = queue.events[1:]
		asks := queue.ctx.Err() == nil && q.asksLocked(ev.received)
		q.mu.Unlock()
		q.send(ev, asks, queue.ctx)
	}
}

func (q *partyQueues) send(ev waitingEvent, asks bool, until context.Context) { //nolint:revive // until belongs to the queue
	defer func() {
		q.mu.Lock()
		q.waiting--
		q.mu.Unlock()
		close(ev.done)
	}()
	var found TripParties
	if asks {
		found = q.ask(ev, until)
	}
	q.p.publish(ev.received, found)
}

// ask asks Options.Parties and keeps the answer, without waiting longer for a host
// that does not heed ctx: the trip's further events would wait too.
func (q *partyQueues) ask(ev waitingEvent, until context.Context) TripParties { //nolint:revive // until belongs to the queue
	id, rt := ev.about.tripID, q.p.rt
	ctx, cancel := context.WithCancel(ev.ctx)
	defer cancel()
	defer context.AfterFunc(until, cancel)()
	found, err := hostcall.Do(ctx, rt.host.parties, nil, func(ctx context.Context) (TripParties, error) {
		return rt.opts.Parties.FindParties(ctx, id)
	})
	for _, who := range [...]string{found.PassengerID, found.DriverID} {
		if err == nil && who != "" && !validID(who) {
			err = errBadID
		}
	}
	slow := errors.Is(err, hostcall.ErrTimeout) || errors.Is(err, context.DeadlineExceeded)
	if slow || err == nil {
		q.answered(id, slow)
	}
	switch {
	case errors.Is(err, ErrNotFound):
		return TripParties{}
	case err != nil:
		rt.log.Error("realtime: trip's people not found; the event is sent to those known", withStack(err, "event", ev.env.Name, "trip", id, "error", err)...)
		return TripParties{}
	}
	if q.p.trips.Hint(id, triptable.Parties{Passenger: found.PassengerID, Driver: found.DriverID}) {
		q.p.tell(id, true)
	}
	return found
}

// answered keeps for how long a trip's people are not asked for again.
func (q *partyQueues) answered(id string, slow bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	last := q.backoffs[id].last
	delete(q.backoffs, id)
	if !slow {
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

// stop waits, within ctx, until no event waits. When ctx ends those that still do
// are sent to the people who are known.
func (q *partyQueues) stop(ctx context.Context) error {
	defer q.cancel()
	q.mu.Lock()
	if len(q.queues) == 0 {
		q.mu.Unlock()
		return nil
	}
	if q.idle == nil {
		q.idle = make(chan struct{})
	}
	idle := q.idle
	q.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
