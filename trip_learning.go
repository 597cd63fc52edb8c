// Trip learning: a node that has just started in a cluster, or that may have missed messages, does
// not know all trips. Without Options.Parties an event waits until the other nodes have named its
// passenger or driver.

package realtime

import (
	"time"

	"github.com/rodando/realtime/internal/triptable"
)

// learnTime is how long after its start, after it has stopped receiving, and after a gap a node asks
// the others for the people of trips. Events wait no longer than that.
const learnTime = 500 * time.Millisecond

// learn makes events wait for what other nodes know. They do not with Cluster.BusFanOut: nodes
// then do not share trips.
func (q *partyQueues) learn() {
	if rt := q.p.rt; rt.clustered && rt.opts.Parties == nil && !rt.opts.Cluster.BusFanOut {
		q.learning.Store(int64(time.Since(q.began) + learnTime))
	}
}

// learns returns how long events may still wait for what other nodes know.
func (q *partyQueues) learns() time.Duration {
	until := q.learning.Load()
	if until == 0 {
		return 0
	}
	left := time.Duration(until) - time.Since(q.began)
	if left <= 0 {
		q.learning.CompareAndSwap(until, 0)
		return 0
	}
	return left
}

// learned is called when another node has said what it knows of a trip. An event that waits for
// that is sent if its people are known now.
func (q *partyQueues) learned(tripID string) {
	if q.learning.Load() == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if queue := q.queues[tripID]; queue != nil {
		select {
		case queue.learned <- struct{}{}:
		default:
		}
	}
}

// awaitPeers asks the other nodes for a trip, and waits until the people whom an event needs are
// known, or until all that other nodes know must have arrived.
func (q *partyQueues) awaitPeers(queue *partyQueue, ev queuedEvent) {
	id := ev.about.tripID
	state, ok := q.p.trips.State(id)
	if !ok {
		state = triptable.State{Trip: id}
	}
	q.p.rt.shareState(everyShareNamespace, stateContent{Known: &state}) // who knows more answers
	timer := time.NewTimer(q.learns())
	defer timer.Stop()
	for q.needsLookup(ev.received) {
		select {
		case <-queue.learned:
		case <-timer.C:
			return
		case <-queue.ctx.Done():
			return
		}
	}
}

func (q *partyQueues) needsLookup(r *received) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.needsLookupLocked(r)
}
