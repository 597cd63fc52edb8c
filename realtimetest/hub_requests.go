// Requests between the nodes of a Hub, and their answers.

package realtimetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/rodando/realtime"
)

// Request implements realtime.Adapter. A node that is cut off counts as one that failed, and so does one
// that leaves before the request has reached it, or is killed before it has answered an OpServerAsk:
// Request returns its error when the others have answered. A node that closes while it answers still
// answers.
func (n *HubNode) Request(ctx context.Context, m realtime.ClusterMessage, answer func(realtime.ClusterAnswer)) error {
	b, err := json.Marshal(m) //nolint:musttag // only nodes of this process read it
	if err != nil {
		return fmt.Errorf("encoding a %s request: %w", m.Op, err)
	}
	r := &request{answer: answer, done: make(chan error, 1)}
	asked, cancel := context.WithCancel(context.Background()) // no values travel between nodes
	defer cancel()
	n.hub.mu.Lock()
	if err := n.stateLocked(); err != nil {
		n.hub.mu.Unlock()
		return err
	}
	others := slices.DeleteFunc(slices.Clone(n.hub.nodes), func(o *HubNode) bool { return o == n })
	r.missing = len(others)
	for _, to := range others {
		n.hub.sendLocked(route{n, to, m.Namespace}, parcel{
			message: b,
			offer:   func(m realtime.ClusterMessage) { to.answer(asked, m, r) },
			refuse:  func() { r.finished(to.absence()) },
		})
	}
	n.hub.mu.Unlock()
	if len(others) == 0 {
		return nil
	}
	select {
	case err := <-r.done:
		return err
	case <-n.ctx.Done():
		err = realtime.ErrClosed
	case <-ctx.Done():
		err = ctx.Err()
	}
	r.abandon()
	return err
}

// request collects the answers to a request.
type request struct {
	answer func(realtime.ClusterAnswer)
	done   chan error // receives the result when no node is missing

	mu      sync.Mutex // guards the fields below, and is held while answer is called
	missing int        // nodes that have not answered
	err     error
	over    bool // Request has returned
}

// take passes an encoded answer on, unless Request has returned.
func (r *request) take(b []byte) {
	var a realtime.ClusterAnswer
	err := json.Unmarshal(b, &a) //nolint:musttag // only nodes of this process read it
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.err = errors.Join(r.err, err)
	} else if !r.over {
		r.answer(a)
	}
}

// finished records that a node has given its last answer, or has failed with err.
func (r *request) finished(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = errors.Join(r.err, err)
	if r.missing--; r.missing == 0 {
		r.done <- r.err
	}
}

// abandon makes take ignore further answers.
func (r *request) abandon() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = true
}

// absence returns the error of a request to which the node does not answer.
func (n *HubNode) absence() error {
	n.hub.mu.Lock()
	defer n.hub.mu.Unlock()
	why := errCut
	if n.closed || n.killed {
		why = errLeft
	}
	return fmt.Errorf("no answer from %s: %w", n.peer, why)
}

// isKilled reports whether Kill was called.
func (n *HubNode) isKilled() bool {
	n.hub.mu.Lock()
	defer n.hub.mu.Unlock()
	return n.killed
}

// answer runs a request on its node. It may take long.
func (n *HubNode) answer(ctx context.Context, m realtime.ClusterMessage, r *request) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(n.asked, cancel)
	defer cancel()
	defer stop()
	err := n.hub.guard(m, func() {
		n.node.Answer(ctx, m, func(a realtime.ClusterAnswer) {
			b, err := json.Marshal(a) //nolint:musttag // only nodes of this process read it
			if err != nil {
				panic(err)
			}
			if !n.isKilled() {
				r.take(b)
			}
		})
	})
	if m.Op == realtime.OpServerAsk && n.isKilled() {
		err = errors.Join(err, n.absence())
	}
	r.finished(err)
}
