// This node's requests to other nodes, and their answers.

package redisadapter

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/redisadapter/internal/wire"
)

// SilentError says which nodes did not answer a request. The answers of the other nodes
// are complete.
type SilentError struct {
	// Nodes are the Go nodes that did not answer, by Options.Name and id.
	Nodes []string
	// Others is the number of other subscribers that did not answer: Node servers, or
	// processes that only subscribe.
	Others int
	err    error
}

func (e *SilentError) Error() string {
	var who []string
	if len(e.Nodes) > 0 {
		who = append(who, "from "+strings.Join(e.Nodes, ", "))
	}
	if e.Others > 0 {
		who = append(who, fmt.Sprintf("from %d servers without a name", e.Others))
	}
	return fmt.Sprintf("redisadapter: no answer %s: %v", strings.Join(who, " and "), e.err)
}

// Unwrap returns the error of the context that ended. If none has, the nodes have left, or died, before
// they answered a ServerAsk.
func (e *SilentError) Unwrap() error { return e.err }

// errLeft is the error of a request that could not wait longer for its nodes.
var errLeft = errors.New("no longer in the cluster")

// requests holds the requests that wait for answers.
type requests struct {
	mu      sync.Mutex // guards pending
	pending map[string]*request
}

func (r *requests) add(id string, q *request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pending == nil {
		r.pending = map[string]*request{}
	}
	r.pending[id] = q
}

func (r *requests) remove(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.pending, id)
}

// addAnswer hands an answer to its request. A late or unknown one is dropped.
func (r *requests) addAnswer(m *wire.Message) {
	r.mu.Lock()
	q := r.pending[m.RequestID]
	r.mu.Unlock()
	if q != nil {
		q.add(m)
	}
}

// nodeLeft makes the requests of a namespace stop waiting for a node.
func (r *requests) nodeLeft(namespace, uid string) {
	r.mu.Lock()
	var all []*request
	for _, q := range r.pending {
		if q.namespace == namespace {
			all = append(all, q)
		}
	}
	r.mu.Unlock()
	for _, q := range all {
		q.nodeLeft(uid)
	}
}

// request collects the answers to one request.
//
// It is complete when as many nodes have answered as Redis counted receivers. It is
// complete earlier when all live Go nodes have answered and no other receiver is missing:
// Redis may still count a dead node. A node that has left needs no answer, since its sockets have left
// with it; only a ServerAsk that reached it fails.
type request struct {
	namespace string
	kind      wire.Kind // Fetch, Ask or ServerEmit
	counts    bool      // a Fetch that wants only the number of sockets
	answer    func(realtime.ClusterAnswer)
	done      chan struct{} // closed when no answer is missing

	mu             sync.Mutex               // guards the rest, and is held while answer is called
	responders     map[string]*responder    // by uid, which is "" for Node in the classic protocol
	reached        int                      // receivers of the request, without this node; -1: Redis has not answered yet
	nodes          int                      // the Go nodes among them
	alive          map[string]realtime.Peer // Go nodes that are known and have not left
	left           map[string]realtime.Peer // those that have left since
	deadButCounted int                      // dead Go nodes that Redis may still count
	ended          bool
	err            error // why not all have answered, although no answer is missing
}

func newRequest(w *wire.Message, known []realtime.Peer, ghosts int, answer func(realtime.ClusterAnswer)) *request {
	q := &request{
		namespace: w.Namespace, kind: w.Kind, counts: w.Counts, answer: answer, done: make(chan struct{}),
		responders: map[string]*responder{}, reached: -1, alive: map[string]realtime.Peer{}, left: map[string]realtime.Peer{}, deadButCounted: ghosts,
	}
	for _, p := range known {
		q.alive[p.ID] = p
	}
	return q
}

// responder holds the answers of one node, or of all nodes that send no id.
type responder struct {
	answers     int  // to the request itself
	asked, acks int  // of an Ask: sockets that received the event, and their acks
	done        bool // AskDone has arrived
}

// complete returns how many nodes have given their last answer.
func (r *responder) complete() int {
	switch {
	case r == nil:
		return 0
	case r.done:
		return max(r.answers, 1)
	case r.acks < r.asked:
		return 0
	}
	return r.answers
}

// requestOf returns the kind of request to which an answer belongs, or 0.
func requestOf(answer wire.Kind) wire.Kind {
	switch answer {
	case wire.Fetched:
		return wire.Fetch
	case wire.Asked, wire.Acked, wire.AskDone:
		return wire.Ask
	case wire.Emitted:
		return wire.ServerEmit
	default: // requests of Node alone
		return 0
	}
}

func (q *request) add(m *wire.Message) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ended || requestOf(m.Kind) != q.kind {
		return
	}
	r := q.responders[m.UID]
	if r == nil {
		r = &responder{}
		q.responders[m.UID] = r
	}
	if first := m.Kind == wire.Fetched || m.Kind == wire.Asked || m.Kind == wire.Emitted; first && m.UID != "" && r.answers > 0 {
		return // a duplicate
	}
	switch m.Kind {
	case wire.Fetched:
		r.answers++
		q.fetchedLocked(m)
	case wire.Emitted:
		r.answers++
		q.answer(realtime.ClusterAnswer{Reply: fromArgs(m.Args)})
	case wire.Asked:
		r.answers++
		r.asked += m.Count
		if m.Count > 0 {
			q.answer(realtime.ClusterAnswer{Asked: m.Count})
		}
	case wire.Acked:
		r.acks++
		q.answer(realtime.ClusterAnswer{Ack: fromArgs(m.Args)})
	case wire.AskDone:
		r.done = true
	default:
		return
	}
	q.checkLocked()
}

// fetchedLocked passes the answer to a Fetch on. A node that does not know how to answer with a
// number has sent its sockets.
func (q *request) fetchedLocked(m *wire.Message) {
	switch {
	case q.counts && m.Counts:
		q.answer(realtime.ClusterAnswer{Count: m.Count})
	case q.counts:
		q.answer(realtime.ClusterAnswer{Count: len(m.Sockets)})
	default:
		for _, s := range m.Sockets {
			q.answer(realtime.ClusterAnswer{Socket: fromSocket(q.namespace, s)})
		}
	}
}

// reach records how many subscribers have received the request, and how many of them are
// Go nodes. Both include this node.
func (q *request) reach(subscribers, nodes int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.reached = max(subscribers-1, 0)
	q.nodes = min(max(nodes-1, 0), q.reached)
	q.checkLocked()
}

// nodeLeft records that a Go node will not answer.
func (q *request) nodeLeft(uid string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if who, known := q.alive[uid]; known {
		delete(q.alive, uid)
		q.left[uid] = who
		q.deadButCounted++
	}
	q.checkLocked()
}

// missingLocked returns how many Go nodes and how many other receivers have not answered.
func (q *request) missingLocked() (nodes, others int) {
	answered, anonymous := 0, 0
	for uid, r := range q.responders {
		if isNode(uid) {
			answered += r.complete()
		} else {
			anonymous += r.complete()
		}
	}
	others = q.reached - q.nodes - anonymous
	// Redis may count Go nodes that are not known: they have just started, or just died.
	nodes = q.nodes - answered
	unanswered := max(q.nodes-len(q.alive)-q.deadButCounted, 0)
	for uid := range q.alive {
		if q.responders[uid].complete() == 0 {
			unanswered++
		}
	}
	return min(nodes, unanswered), others
}

// checkLocked closes done if no answer is missing.
func (q *request) checkLocked() {
	if q.ended || q.reached < 0 {
		return
	}
	total := 0
	for _, r := range q.responders {
		total += r.complete()
	}
	if nodes, others := q.missingLocked(); total >= q.reached || nodes <= 0 && others <= 0 {
		q.ended = true
		if left := q.leftLocked(); total < q.reached && len(left) > 0 {
			q.err = &SilentError{Nodes: left, err: errLeft}
		}
		close(q.done)
	}
}

// leftLocked returns the nodes that have left without an answer to a ServerAsk.
func (q *request) leftLocked() []string {
	if q.kind != wire.ServerEmit {
		return nil
	}
	return q.silentLocked(q.left)
}

// silentLocked returns those nodes that have not answered, sorted.
func (q *request) silentLocked(nodes map[string]realtime.Peer) (names []string) {
	for uid, p := range nodes {
		if q.responders[uid].complete() == 0 {
			names = append(names, p.String())
		}
	}
	slices.Sort(names)
	return names
}

// result returns the error of a request of which no answer is missing.
func (q *request) result() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.err
}

// end drops later answers. Its error names the nodes that have not answered.
func (q *request) end(err error) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ended {
		return q.err // complete meanwhile
	}
	q.ended = true
	if q.reached < 0 {
		return err // Redis has not answered the PUBLISH
	}
	nodes, others := q.missingLocked()
	silent := &SilentError{Nodes: q.silentLocked(q.alive), err: err}
	silent.Others = max(others, 0) + max(nodes-len(silent.Nodes), 0)
	silent.Nodes = append(silent.Nodes, q.leftLocked()...)
	return silent
}

// fail ends a request for which Request returns an error of its own. Later answers are
// dropped.
func (q *request) fail() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended = true
}

// Request implements realtime.Adapter. It waits at most Options.RequestTimeout for
// sockets and nodes' replies. It waits for acks until ctx ends, or, if ctx has no deadline, at most
// Options.RequestTimeout. A *SilentError names the nodes that have not
// answered, those that have left during a ServerAsk included.
func (a *Adapter) Request(ctx context.Context, m realtime.ClusterMessage, answer func(realtime.ClusterAnswer)) error {
	if err := a.state(); err != nil {
		return err
	}
	w, err := toWire(m)
	switch {
	case errors.Is(err, errNoReceivers):
		return nil
	case err != nil:
		return err
	case w.Kind != wire.Fetch && w.Kind != wire.Ask && m.Op != realtime.OpServerAsk:
		return errOp
	}
	if _, limited := ctx.Deadline(); !limited || w.Kind != wire.Ask {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, a.opts.RequestTimeout)
		defer cancel()
	}
	if w.Kind == wire.Ask {
		deadline, _ := ctx.Deadline()
		w.Timeout = int(max(time.Until(deadline).Milliseconds(), 1))
	}
	if err := a.awaitSubscribed(ctx, m.Namespace); err != nil {
		return err
	}
	if err := a.Check(ctx); err != nil {
		return err // no answer would arrive
	}
	w.UID, w.RequestID, w.Native = a.uid, randomName(16), w.Kind == wire.Ask
	payload, err := a.protocol.Append(nil, &w)
	if err != nil {
		return err
	}
	known, ghosts := a.peers.list(), a.peers.deadButCounted(time.Now())
	q := newRequest(&w, known, ghosts, answer)
	a.requests.add(w.RequestID, q)
	defer a.requests.remove(w.RequestID)
	channel, state := a.protocol.channel(&w, ""), stateChannel(a.opts.Key, m.Namespace)
	counts, counted, err := a.clusterSubscribers(ctx, channel, state)
	if err != nil {
		q.fail()
		return fmt.Errorf("redisadapter: counting servers: %w", err)
	}
	failed := make(chan error, 1)
	err = a.publisher.push(outgoing{
		channel: channel, payload: payload, count: state,
		done: func(receivers, nodes int, err error) {
			switch {
			case err != nil:
				failed <- err
			case counted:
				q.reach(counts[0], counts[1])
			default:
				q.reach(receivers, nodes)
			}
		},
	})
	if err != nil {
		q.fail()
		return err
	}
	select {
	case <-q.done:
		return q.result()
	case err := <-failed:
		q.fail()
		return fmt.Errorf("redisadapter: publishing: %w", err)
	case <-a.closing:
		q.fail()
		return realtime.ErrClosed
	case <-ctx.Done():
	}
	err = q.end(ctx.Err())
	if err != nil && len(known) > 0 {
		a.notify(notice{Op: opCancel, ID: w.RequestID})
	}
	return err
}
