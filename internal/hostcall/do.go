// Calls whose result the caller waits for.

package hostcall

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rodando/realtime/internal/stackroom"
)

// Limits bounds the calls of one kind.
type Limits struct {
	// Timeout bounds the wait for a slot and the call together. Zero means that only
	// the caller's ctx bounds them.
	Timeout time.Duration
	// Running is the maximum number of calls that run at once; others wait for a slot.
	Running int
	// Abandoned is the maximum number of abandoned calls; at that number no new call
	// starts. An abandoned call gives its slot to another call. So at most
	// Running+Abandoned calls run at once, abandoned ones included, unless Again raises
	// the maximum.
	Abandoned int
	// Again, when positive, raises a maximum of abandoned calls that was reached: by
	// Abandoned, when no call was abandoned for this time. So calls that never return do
	// not stop a kind forever. The time doubles with each raise. The raises end when fewer
	// than Abandoned calls are abandoned.
	Again time.Duration
	// PerSource, when positive, is the maximum number of calls for one source that run
	// or are abandoned. PerGroup is the same for a group of sources.
	PerSource, PerGroup int
	// Group returns the group of a source, a map key. It is not called if PerGroup is 0.
	Group func(source any) any
	// Inspect, if not nil, is called with the error of a call, within the call: see
	// Inspector.
	Inspect func(error) error
}

// Kind is a group of calls that share Limits. Its methods may be called
// concurrently.
type Kind struct {
	limits   Limits
	slots    chan struct{} // holds one element for each call that runs and is not abandoned
	timeouts timeouts

	mu         sync.Mutex // guards the fields below, tickets except names, and shares except slots
	abandoned  int
	raised     int                    // how often Limits.Again raised the limit of abandoned calls
	lastLate   time.Time              // when a call was last abandoned
	unfinished int                    // calls that have not returned, abandoned ones included, and holds
	closed     bool                   // Close was called
	idle       chan struct{}          // closed when unfinished becomes 0; nil unless Wait waits for that
	shares     [levels]map[any]*share // by source, and by group
	spare      [levels][]*share       // shares without calls, for the next sources and groups
}

// ticket is the accounting of one call.
type ticket struct {
	names     [levels]any    // of its source and its group; nil when it has none; not used by other goroutines
	shares    [levels]*share // nil where names are
	running   bool           // it has a slot, or had one when it was abandoned
	abandoned bool
}

// NewKind returns a Kind without calls.
func NewKind(l Limits) *Kind {
	return &Kind{limits: l, slots: make(chan struct{}, l.Running)}
}

// Do calls f on a goroutine of its own and waits until f returns, ctx ends or
// Limits.Timeout passes. When ctx ends first, the ctx of f ends too; if f still runs when
// Limits.Timeout has passed, the call is abandoned then. Without a timeout it is abandoned
// at once. A panic or runtime.Goexit in f is returned as a *PanicError. f is not called when
// ctx has already ended.
//
// The source, if not nil, is the map key under which Limits.PerSource counts the call,
// and from which Limits.Group makes the one for Limits.PerGroup.
func Do[T any](ctx context.Context, k *Kind, source any, f func(ctx context.Context) (T, error)) (v T, err error) {
	if err := ctx.Err(); err != nil {
		return v, err
	}
	c := &call[T]{kind: k, work: function[T](f)}
	c.start(ctx, source)
	select {
	case <-c.done:
		if errors.Is(c.err, ErrBusy) && ctx.Err() != nil {
			return v, ctx.Err()
		}
		return c.v, c.err
	case <-ctx.Done():
		c.cancel()
		return v, ctx.Err()
	}
}

// Run is Do for a function that returns only an error.
func Run(ctx context.Context, k *Kind, f func(ctx context.Context) error) error {
	_, err := Do(ctx, k, nil, func(ctx context.Context) (struct{}, error) { return struct{}{}, f(ctx) })
	return err
}

// Finish is Run for clean-up that must be called even when ctx has ended. f gets ctx.
// Finish stops waiting for f when ctx has ended and grace has passed since Finish began.
func Finish(ctx context.Context, k *Kind, grace time.Duration, f func(ctx context.Context) error) error {
	graceCtx, stop := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer stop()
	callCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		<-graceCtx.Done()
		cancel()
	})()
	err := Run(callCtx, k, func(context.Context) error { return f(ctx) })
	if callCtx.Err() != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// work is what a call does. It is an interface and not functions, which would be two
// allocations for each call.
type work[T any] interface {
	do(ctx context.Context) (T, error)
	// then is called when the call finishes, before done is closed.
	then(v T, err error)
}

// function is the work of Do.
type function[T any] func(ctx context.Context) (T, error)

func (f function[T]) do(ctx context.Context) (T, error) { return f(ctx) }

func (function[T]) then(T, error) {}

// call is one call, from before it has a slot until it is finished.
type call[T any] struct {
	ctx    Context
	kind   *Kind
	work   work[T]
	ticket ticket
	due    due

	finished atomic.Bool   // the goroutine that sets it also sets v and err and closes done
	done     chan struct{} // closed when v and err are set
	v        T
	err      error
}

// start runs the call on a goroutine of its own.
func (c *call[T]) start(ctx context.Context, source any) {
	c.done = make(chan struct{})
	c.ticket.names[bySource] = source
	if d := c.kind.limits.Timeout; d > 0 {
		c.due.at, c.due.call = time.Now().Add(d), c
		c.ctx.Start(ctx, c.due.at)
		c.kind.timeouts.add(&c.due)
	} else {
		c.ctx.StartWithoutDeadline(ctx)
	}
	go c.run()
}

func (c *call[T]) run() {
	stackroom.Reserve() // the host decodes JSON, speaks to a database
	var v T
	err := c.kind.enter(&c.ctx, &c.ticket)
	if err != nil {
		c.returned(v, err)
		return
	}
	returned := false
	defer func() {
		if !returned { // runtime.Goexit
			var none T
			v, err = none, newExitError()
		}
		c.kind.leave(&c.ticket)
		c.returned(v, err)
	}()
	err = caught(func() (err error) {
		if v, err = c.work.do(&c.ctx); err != nil && c.kind.limits.Inspect != nil {
			err = c.kind.limits.Inspect(err)
		}
		return err
	})
	returned = true
}

// returned finishes a call that returned or never ran.
func (c *call[T]) returned(v T, err error) {
	if c.kind.limits.Timeout > 0 {
		c.kind.timeouts.remove(&c.due)
	}
	c.finish(v, err)
}

// finish sets the result and wakes the waiters. Only the first call has an effect.
func (c *call[T]) finish(v T, err error) {
	c.ctx.End()
	if !c.finished.CompareAndSwap(false, true) {
		return
	}
	c.v, c.err = v, err
	c.work.then(v, err)
	close(c.done)
}

// timeOut abandons the call if it runs. Otherwise the call has no slot yet and ends with
// ErrBusy.
func (c *call[T]) timeOut() {
	err := ErrTimeout
	if !c.kind.abandon(&c.ticket) {
		err = ErrBusy
	}
	var none T
	c.finish(none, err)
}

// cancel ends the ctx of a call that no caller waits for any more. With a timeout, the
// call is abandoned only when that passes; without one, at once.
func (c *call[T]) cancel() {
	c.ctx.End()
	if c.kind.limits.Timeout <= 0 {
		c.kind.abandon(&c.ticket)
	}
}

// enter waits until ctx ends for a slot of each of the call's shares, and then of the kind.
func (k *Kind) enter(ctx *Context, t *ticket) error {
	t.names = k.limits.names(t.names[bySource])
	k.mu.Lock()
	k.shareLocked(t)
	if k.fullLocked(t) {
		k.forgetLocked(t)
		k.mu.Unlock()
		return ErrAbandoned
	}
	k.unfinished++
	k.mu.Unlock()
	held := 0 // the number of shares of which it has a slot
	for held < levels && t.shares[held].acquire(ctx) {
		held++
	}
	got := held == levels && acquire(ctx, k.slots)
	k.mu.Lock()
	defer k.mu.Unlock()
	err := ErrBusy
	switch {
	case !got || ctx.ended():
	case k.fullLocked(t):
		err = ErrAbandoned // the limit was reached while this call waited
	default:
		t.running = true
		return nil
	}
	if got {
		<-k.slots
	}
	for _, s := range t.shares[:held] {
		s.release()
	}
	k.doneLocked(t)
	return err
}

// acquire takes a slot, and reports false when ctx ended first.
func acquire(ctx *Context, slots chan struct{}) bool {
	select {
	case slots <- struct{}{}:
		return true
	default:
	}
	select {
	case slots <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// doneLocked removes a call from the counts.
func (k *Kind) doneLocked(t *ticket) {
	k.forgetLocked(t)
	k.finishedLocked()
}

// finishedLocked counts a call or a hold out.
func (k *Kind) finishedLocked() {
	if k.unfinished--; k.unfinished == 0 && k.idle != nil {
		close(k.idle)
		k.idle = nil
	}
}

// leave releases what a returned call held: its slot, or its count as abandoned.
func (k *Kind) leave(t *ticket) {
	k.mu.Lock()
	defer k.mu.Unlock()
	t.running = false
	if t.abandoned {
		k.countAbandonedLocked(t, -1)
	} else {
		<-k.slots
	}
	for _, s := range t.shares {
		s.release()
	}
	k.doneLocked(t)
}

// abandon marks a running call as abandoned and frees its slot, but not those of its
// shares. It reports false for a call that is not running.
func (k *Kind) abandon(t *ticket) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !t.running {
		return false
	}
	if !t.abandoned {
		t.abandoned = true
		k.countAbandonedLocked(t, 1)
		<-k.slots
	}
	return true
}

// Abandoned returns how many calls are abandoned now.
func (k *Kind) Abandoned() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.abandoned
}

// Hold makes Wait wait for a call that is about to begin, until release is called. ok is false after
// Close: then the call must not begin.
func (k *Kind) Hold() (release func(), ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return nil, false
	}
	k.unfinished++
	return k.release, true
}

func (k *Kind) release() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.finishedLocked()
}

// Close makes Hold return false from now on.
func (k *Kind) Close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
}

// Wait waits until every call has returned, abandoned ones included, and every hold is released, or
// until ctx ends; then it returns ctx.Err().
func (k *Kind) Wait(ctx context.Context) error {
	k.mu.Lock()
	if k.unfinished == 0 {
		k.mu.Unlock()
		return nil
	}
	if k.idle == nil {
		k.idle = make(chan struct{})
	}
	idle := k.idle
	k.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
