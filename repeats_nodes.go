// Repeats on several nodes: a client sends an event with an idempotency key again, and the repeat reaches
// another node than the first try. The nodes tell each other of such events through the adapter, if it is
// a CallKeeper.

package realtime

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/rodando/realtime/internal/hostcall"
	"github.com/rodando/realtime/internal/repeats"
)

const (
	// callLife is how long the other nodes take a call for running, unless its node renews that, each
	// callRenewal. So a node that has died blocks a key no longer.
	callLife    = 10 * time.Second
	callRenewal = 3 * time.Second
	// callPatience is how long an event waits for one answer of the adapter. After that it is handled.
	callPatience = 300 * time.Millisecond
	// firstLook and lastLook are the shortest and the longest time between two looks for an ack.
	firstLook = 50 * time.Millisecond
	lastLook  = time.Second
	// maxCallValue is the maximum size of a value of a CallKeeper, in bytes, and maxCallNode of the node's
	// name in it. An ack that does not fit is not stored.
	maxCallValue = 8 << 10
	maxCallNode  = 64
)

// sharedCall is what the nodes know of a call: a value of a CallKeeper.
type sharedCall struct {
	Node   string          `json:"node"`             // that makes the call, or has made it
	Body   []byte          `json:"body"`             // a hash of what the event carries
	Ended  bool            `json:"ended,omitempty"`  // otherwise it runs
	Answer *repeats.Answer `json:"answer,omitempty"` // with Ended; nil if it is too large
}

var errCallValue = errors.New("not the value of a call")

// parseCall decodes a value of a CallKeeper.
func (rt *Server) parseCall(value []byte) (*sharedCall, error) {
	var c sharedCall
	if len(value) > maxCallValue || json.Unmarshal(value, &c) != nil || c.Node == "" || len(c.Node) > maxCallNode || len(c.Body) != sha256.Size {
		return nil, errCallValue
	}
	if a := c.Answer; a != nil {
		raw := rawOf(a.Args, a.Attachments)
		if !c.Ended || raw.check() != nil || sendable(rt, "", a.Args, a.Attachments) != nil {
			return nil, errCallValue
		}
	}
	return &c, nil
}

// value encodes the call. Without space for its answer it has none.
func (c sharedCall) value() []byte {
	if c.Answer != nil && answerSize(c.Answer) > maxCallValue {
		c.Answer = nil
	}
	value, err := json.Marshal(c)
	if err != nil {
		panic(err) // it has strings and bytes only
	}
	if len(value) > maxCallValue && c.Answer != nil {
		c.Answer = nil
		return c.value()
	}
	return value
}

func answerSize(a *repeats.Answer) (n int) {
	for _, part := range [][][]byte{a.Args, a.Attachments} {
		for _, b := range part {
			n += len(b)
		}
	}
	return n
}

// callKey returns the key of a user's call. It is a hash, so that whoever reads what the adapter keeps
// learns neither the user nor the key.
func callKey(user string, id repeats.ID) string {
	h := sha256.New()
	for _, part := range []string{id.Namespace, user, id.Event, id.Key} {
		writePart(h, part)
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// sum returns a hash of what the event carries, for all nodes. The key is part of it: the same body of
// another user has another hash.
func (a answer) sum(key string) []byte {
	h := sha256.New()
	writePart(h, key)
	a.writeBody(h)
	return h.Sum(nil)
}

// callClaim is a call of this node that the other nodes know of. All of its calls of the adapter after the
// first are made one after the other by the goroutine of keep, which owns its fields.
type callClaim struct {
	ns       *Namespace
	key      string
	call     sharedCall
	until    time.Time // until when the other nodes take the call for running; zero: they need not know of it
	leftOver bool      // it was this node's before, so it may end sooner

	ended    chan claimEnd // gets one element
	released chan struct{} // closed when the claim of a call without an outcome has ended
}

// claimEnd ends a claim.
type claimEnd struct {
	value     []byte   // nil: the call has no outcome, and any node may make it again
	forgotten []string // keys of calls of this node that are not remembered any more
}

// peerCalls tells the other nodes of the calls with an idempotency key, unless the adapter is no
// CallKeeper. Its methods may be called concurrently.
type peerCalls struct {
	rt     *Server
	keeper CallKeeper // nil: each node knows only of its own calls
	node   string     // names this node, until it ends

	mu      sync.Mutex    // guards the fields below
	storing int           // calls that have ended, and which the adapter is not known to have
	idle    chan struct{} // closed when storing becomes 0; nil while nobody waits for that
}

func (p *peerCalls) init(rt *Server) {
	p.rt, p.node = rt, rand.Text()
	if rt.opts.Limits.RememberedCalls > 0 {
		p.keeper, _ = rt.adapter.(CallKeeper)
	}
}

// isFirstOfNodes is isFirst for a call that is new on this node.
func (a answer) isFirstOfNodes(c *call, once *repeats.Call, key string) bool {
	p := &a.socket.ns.rt.peerCalls
	body := a.sum(key)
	claim, other := p.claim(c, a.socket.ns, key, body)
	if claim != nil {
		once.Key = key
		c.first = &firstCall{once, claim}
		return true
	}
	given, refused := p.outcome(c, a.socket.ns, key, body, other)
	if refused == nil {
		a.replyAgain(c, given)
	} else {
		a.reply(c, Raw{}, refused)
		given = repeats.Answer{Args: failure(refused).bytes(), Code: string(refused.Code)}
	}
	once.End(given, refused == nil) // not before: no repeat's ack overtakes this one
	return false
}

// claim claims a call for this node. It returns the claim, or the call of the node that has the key. If the
// adapter cannot tell, this node makes the call: it is better made twice than not at all.
func (p *peerCalls) claim(ctx context.Context, ns *Namespace, key string, body []byte) (*callClaim, *sharedCall) {
	k := &callClaim{
		ns: ns, key: key, call: sharedCall{Node: p.node, Body: body},
		ended: make(chan claimEnd, 1), released: make(chan struct{}),
	}
	until := time.Now().Add(callLife)
	other, err := p.ask(ctx, func(ctx context.Context) ([]byte, error) {
		return p.keeper.ClaimCall(ctx, key, k.call.value(), callLife)
	})
	switch {
	case err != nil:
		p.failed(ctx, "CallKeeper.ClaimCall", err, ns)
	case other == nil:
		k.until = until
	case other.Node == p.node && !other.Ended: // this node does not make it: it could not release it
		k.until, k.leftOver = until, true
	default:
		return nil, other
	}
	go p.keep(k)
	return k, nil
}

// ask returns the call that the adapter returns, or nil.
func (p *peerCalls) ask(ctx context.Context, f func(ctx context.Context) ([]byte, error)) (*sharedCall, error) {
	value, err := hostcall.Do(ctx, p.rt.host.callAsks, nil, f)
	if err != nil || value == nil {
		return nil, err
	}
	return p.rt.parseCall(value)
}

// failed logs an error of the adapter, unless it comes from the end of ctx.
func (p *peerCalls) failed(ctx context.Context, what string, err error, ns *Namespace) {
	if ctx.Err() == nil {
		p.rt.hostFailed(what, err, "namespace", ns.name)
	}
}

// outcome returns the answer that another node has given, or gives before ctx ends. Without one the client
// tries again.
func (p *peerCalls) outcome(ctx context.Context, ns *Namespace, key string, body []byte, other *sharedCall) (repeats.Answer, *Error) {
	failed := false
	for wait := firstLook; ; wait = min(2*wait, lastLook) {
		switch {
		case other == nil: // released, or its node has died
			return repeats.Answer{}, errUnavailable
		case !bytes.Equal(other.Body, body):
			return repeats.Answer{}, errOtherBody
		case other.Answer != nil:
			return *other.Answer, nil
		case other.Ended:
			return repeats.Answer{}, errUnavailable
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return repeats.Answer{}, errUnavailable
		}
		now, err := p.ask(ctx, func(ctx context.Context) ([]byte, error) { return p.keeper.FindCall(ctx, key) })
		if err == nil {
			other = now
			continue
		}
		if !failed { // it may still run, so it is not made here
			p.failed(ctx, "CallKeeper.FindCall", err, ns)
		}
		failed = true
	}
}

// keep renews a claim while the call runs, and ends it.
func (p *peerCalls) keep(k *callClaim) {
	renewal := time.NewTicker(callRenewal)
	defer renewal.Stop()
	if k.leftOver {
		p.renew(k)
	}
	for {
		select {
		case <-renewal.C:
			p.renew(k)
		case end := <-k.ended:
			p.end(k, end)
			return
		case <-p.rt.ctx.Done():
			return
		}
	}
}

// renew makes the other nodes take the call for running longer. After a pause another node may have the
// key, which it then keeps.
func (p *peerCalls) renew(k *callClaim) {
	now := time.Now()
	if !now.Before(k.until) {
		return
	}
	err := hostcall.Run(p.rt.ctx, p.rt.host.callAsks, func(ctx context.Context) error { return p.keeper.KeepCall(ctx, k.key, k.call.value(), callLife) })
	if err != nil {
		p.failed(p.rt.ctx, "CallKeeper.KeepCall", err, k.ns)
		return
	}
	k.until = now.Add(callLife)
}

// end stores the outcome of a call, or releases its key.
func (p *peerCalls) end(k *callClaim, end claimEnd) {
	if end.value == nil {
		defer close(k.released)
		if time.Now().Before(k.until) { // otherwise another node may have the key
			p.forget(k.ns, k.key)
		}
		return
	}
	defer p.stored()
	err := hostcall.Run(p.rt.ctx, p.rt.host.callStores, func(ctx context.Context) error { return p.keeper.KeepCall(ctx, k.key, end.value, repeatMemory) })
	if err != nil {
		p.failed(p.rt.ctx, "CallKeeper.KeepCall", err, k.ns)
	}
	for _, key := range end.forgotten {
		p.forget(k.ns, key)
	}
}

// forget makes a key free.
func (p *peerCalls) forget(ns *Namespace, key string) {
	err := hostcall.Run(p.rt.ctx, p.rt.host.callAsks, func(ctx context.Context) error { return p.keeper.ForgetCall(ctx, key) })
	if err != nil {
		p.failed(p.rt.ctx, "CallKeeper.ForgetCall", err, ns)
	}
}

// release ends the claim of a call without an outcome, and waits until it has ended.
func (p *peerCalls) release(k *callClaim) {
	k.ended <- claimEnd{}
	select {
	case <-k.released:
	case <-p.rt.ctx.Done():
	}
}

// store ends the claim of a call with its outcome. It does not wait for the adapter.
func (p *peerCalls) store(k *callClaim, given repeats.Answer, forgotten []string) {
	call := k.call
	call.Ended, call.Answer = true, &given
	p.mu.Lock()
	p.storing++
	p.mu.Unlock()
	k.ended <- claimEnd{call.value(), forgotten}
}

func (p *peerCalls) stored() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.storing--; p.storing == 0 && p.idle != nil {
		close(p.idle)
		p.idle = nil
	}
}

// wait waits, within ctx, until the adapter has the outcomes of the calls that have ended.
func (p *peerCalls) wait(ctx context.Context) error {
	p.mu.Lock()
	if p.storing == 0 {
		p.mu.Unlock()
		return nil
	}
	if p.idle == nil {
		p.idle = make(chan struct{})
	}
	idle := p.idle
	p.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
