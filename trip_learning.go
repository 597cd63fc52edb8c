// Trip learning: a node that has just started in a cluster, or that may have missed messages, does
// not know all trips. Without Options.Parties an event waits until the other nodes have named its
// passenger or driver.

package realtime

import (
	"sync/atomic"
	"time"

	"github.com/rodando/realtime/internal/triptable"
)

const (
	// learnTime is how long after its start and after a gap a node asks the others for the people
	// of trips. While it receives nothing, each event waits as long for the end of that.
	learnTime = 2 * time.Second
	// maxLearnTime is how long an event waits at most, if there is a gap after the other.
	maxLearnTime = 10 * time.Second
)

// tripLearning says whether a node may lack what other nodes know of trips. Its methods may be
// called concurrently.
type tripLearning struct {
	began time.Time
	until atomic.Int64 // in nanoseconds since began, anew with each gap; 0: the node knows all trips
	deaf  atomic.Bool  // the adapter reports that the node receives nothing from the others
}

// start begins the time in which the node asks.
func (l *tripLearning) start() { l.until.Store(int64(time.Since(l.began) + learnTime)) }

// left returns how long an event may wait.
func (l *tripLearning) left() time.Duration {
	until := l.until.Load()
	switch left := time.Duration(until) - time.Since(l.began); {
	case until == 0:
		return 0
	case l.deaf.Load():
		return learnTime
	case left > 0:
		return left
	}
	l.until.CompareAndSwap(until, 0)
	return 0
}

// learn makes events wait for what other nodes know: the node has just started, or may have missed
// something. They do not wait with Cluster.BusFanOut: nodes then do not share trips.
func (q *partyQueues) learn() {
	rt := q.p.rt
	if !rt.clustered || rt.opts.Parties != nil || rt.opts.Cluster.BusFanOut {
		return
	}
	q.learning.start()
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, queue := range q.queues {
		queue.wake()
	}
}

// learned is called when another node has said what it knows of a trip. An event that waits for
// that is sent if its people are known now.
func (q *partyQueues) learned(tripID string) {
	if q.learning.until.Load() == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if queue := q.queues[tripID]; queue != nil {
		queue.wake()
	}
}

func (queue *partyQueue) wake() {
	select {
	case queue.learned <- struct{}{}:
	default:
	}
}

// awaitPeers asks the other nodes for a trip, and waits until the people whom an event needs are
// known, or until all that other nodes know must have arrived. It does not wait again for later
// events in the queue.
func (q *partyQueues) awaitPeers(queue *partyQueue, ev queuedEvent) {
	asked := q.learning.until.Load()
	if queue.vain == asked {
		return
	}
	q.askPeers(ev.about.tripID)
	last := time.Now().Add(maxLearnTime)
	timer := time.NewTimer(q.learning.left())
	defer timer.Stop()
	for q.needsLookup(ev.received) {
		select {
		case <-queue.learned:
			if now := q.learning.until.Load(); now != asked && now != 0 { // they have not received it, or the answer is lost
				asked = now
				q.askPeers(ev.about.tripID)
				timer.Reset(min(q.learning.left(), time.Until(last)))
			}
		case <-timer.C:
			queue.vain = asked
			return
		case <-queue.ctx.Done():
			return
		}
	}
}

// askPeers sends what this node knows of a trip: nodes that know more answer.
func (q *partyQueues) askPeers(id string) {
	state, ok := q.p.trips.State(id)
	if !ok {
		state = triptable.State{Trip: id}
	}
	q.p.rt.shareState(everyShareNamespace, stateContent{Known: &state})
}

func (q *partyQueues) needsLookup(r *received) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.needsLookupLocked(r)
}
