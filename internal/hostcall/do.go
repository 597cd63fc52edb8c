// Calls that somebody waits for.

package hostcall

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Limits bounds the calls of one kind.
type Limits struct {
	// Timeout is for waiting for a place and for the call, together. Zero: the
	// caller's ctx alone decides.
	Timeout time.Duration
	// Running is how many calls run at once; others wait for a place.
	Running int
	// Abandoned is how many calls may be abandoned before no more are begun. A call
	// that is abandoned makes place for another one, so Running+Abandoned is the most
	// that there are.
	Abandoned int
	// PerSource, when positive, is how many calls for one source run at once, and how
	// many of them may be abandoned.
	PerSource int
	// Inspect, if not nil, is called with the error of a call, as a part of the call:
	// see Inspector.
	Inspect func(error) error
}

// Kind is a kind of calls, which are bounded together. Its methods may be called
// concurrently.
type Kind struct {
	limits Limits
	places chan struct{} // holds one for each call that runs and is not abandoned

	mu        sync.Mutex // guards what follows, and the fields of tickets and sources
	abandoned int
	under     int // calls that have not returned, abandoned ones included
	idle      chan struct{}
	sources   map[any]*source
}

// source is who calls of a kind are made for, as long as there are any.
type source struct {
	places    chan struct{}
	abandoned int
	users     int // tickets, and who waits for one
}

// ticket is a call's place.
type ticket struct {
	source    *source
	name      any
	runs      bool // it has its place
	abandoned bool
}

// NewKind returns a kind of calls.
func NewKind(l Limits) *Kind {
	return &Kind{limits: l, places: make(chan struct{}, l.Running)}
}

// Do calls f on a goroutine of its own and waits for it, until ctx ends or the time
// of its kind is over. A call that nobody waits for any more is abandoned when that
// time is over; until then it keeps its place. A panic, or runtime.Goexit, in f is a
// *PanicError. f is not called when ctx has ended before.
//
// The source, if not nil, is for whom it is called, as a map's key: see
// Limits.PerSource.
func Do[T any](ctx context.Context, k *Kind, source any, f func(ctx context.Context) (T, error)) (v T, err error) {
	if err := ctx.Err(); err != nil {
		return v, err
	}
	c := &call[T]{kind: k, f: f}
	c.start(ctx, source)
	select {
	case <-c.done:
		if c.err == ErrBusy && ctx.Err() != nil {
			return v, ctx.Err()
		}
		return c.v, c.err
	case <-ctx.Done():
		c.cancel()
		return v, ctx.Err()
	}
}

// Run is Do for what returns nothing but an error.
func Run(ctx context.Context, k *Kind, f func(ctx context.Context) error) error {
	_, err := Do(ctx, k, nil, func(ctx context.Context) (struct{}, error) { return struct{}{}, f(ctx) })
	return err
}

// Finish is Run for what must be called though ctx may have ended, to give back what
// was taken: f gets ctx, and is waited for until ctx ends, and for as long as grace at
// least.
func Finish(ctx context.Context, k *Kind, grace time.Duration, f func(ctx context.Context) error) error {
	least, stop := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer stop()
	both, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		<-least.Done()
		cancel()
	})()
	err := Run(both, k, func(context.Context) error { return f(ctx) })
	if both.Err() != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// call is a call that is about to run, runs or is over.
type call[T any] struct {
	ctx    Context
	kind   *Kind
	f      func(ctx context.Context) (T, error)
	then   func(v T, err error) // when it is over, before done is closed; may be nil
	ticket ticket
	timer  *time.Timer

	over atomic.Bool   // who sets it sets what follows
	done chan struct{} // closed then
	v    T
	err  error
}

// start makes the call on a goroutine of its own.
func (c *call[T]) start(ctx context.Context, source any) {
	c.done = make(chan struct{})
	c.ticket.name = source
	if d := c.kind.limits.Timeout; d > 0 {
		c.ctx.Start(ctx, time.Now().Add(d))
		c.timer = time.AfterFunc(d, c.timeOut)
	} else {
		c.ctx.StartWithoutDeadline(ctx)
	}
	go c.run()
}

func (c *call[T]) run() {
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
		if v, err = c.f(&c.ctx); err != nil && c.kind.limits.Inspect != nil {
			err = c.kind.limits.Inspect(err)
		}
		return err
	})
	returned = true
}

// returned is finish of the call itself, which no timer need end.
func (c *call[T]) returned(v T, err error) {
	if c.timer != nil {
		c.timer.Stop()
	}
	c.finish(v, err)
}

// finish answers those who wait; the first one counts. The timer may call it before
// start has kept the timer.
func (c *call[T]) finish(v T, err error) {
	c.ctx.End()
	if !c.over.CompareAndSwap(false, true) {
		return
	}
	c.v, c.err = v, err
	if c.then != nil {
		c.then(v, err)
	}
	close(c.done)
}

// timeOut abandons the call, if it runs.
func (c *call[T]) timeOut() {
	err := ErrTimeout
	if !c.kind.abandon(&c.ticket) {
		err = ErrBusy
	}
	var none T
	c.finish(none, err)
}

// cancel is called when nobody waits any more. The call has until its time is over to
// heed the end of its ctx.
func (c *call[T]) cancel() {
	c.ctx.End()
	if c.timer == nil {
		c.kind.abandon(&c.ticket)
	}
}

// enter waits for a place, until ctx ends.
func (k *Kind) enter(ctx *Context, t *ticket) error {
	k.mu.Lock()
	full := k.abandoned >= k.limits.Abandoned
	if k.limits.PerSource > 0 && t.name != nil && !full {
		t.source = k.sourceLocked(t.name)
		full = t.source.abandoned >= k.limits.PerSource
	}
	if full {
		k.forgetLocked(t)
		k.mu.Unlock()
		return ErrAbandoned
	}
	k.under++
	k.mu.Unlock()
	if t.source != nil && !acquire(ctx, t.source.places) {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.doneLocked(t)
		return ErrBusy
	}
	if !acquire(ctx, k.places) {
		k.mu.Lock()
		defer k.mu.Unlock()
		release(t.source)
		k.doneLocked(t)
		return ErrBusy
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	var err error
	switch {
	case ctx.ended():
		err = ErrBusy
	case k.abandoned >= k.limits.Abandoned, t.source != nil && t.source.abandoned >= k.limits.PerSource:
		err = ErrAbandoned // while it waited
	default:
		t.runs = true
		return nil
	}
	<-k.places
	release(t.source)
	k.doneLocked(t)
	return err
}

// acquire reports false when ctx has ended.
func acquire(ctx *Context, places chan struct{}) bool {
	select {
	case places <- struct{}{}:
		return true
	default:
	}
	select {
	case places <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func release(s *source) {
	if s != nil {
		<-s.places
	}
}

func (k *Kind) sourceLocked(name any) *source {
	s := k.sources[name]
	if s == nil {
		if k.sources == nil {
			k.sources = map[any]*source{}
		}
		s = &source{places: make(chan struct{}, k.limits.PerSource)}
		k.sources[name] = s
	}
	s.users++
	return s
}

func (k *Kind) forgetLocked(t *ticket) {
	if t.source == nil {
		return
	}
	if t.source.users--; t.source.users == 0 {
		delete(k.sources, t.name)
	}
}

// doneLocked counts a call out.
func (k *Kind) doneLocked(t *ticket) {
	k.forgetLocked(t)
	if k.under--; k.under == 0 && k.idle != nil {
		close(k.idle)
		k.idle = nil
	}
}

// leave is called when a call has returned.
func (k *Kind) leave(t *ticket) {
	k.mu.Lock()
	defer k.mu.Unlock()
	t.runs = false
	if t.abandoned {
		k.abandoned--
		if t.source != nil {
			t.source.abandoned--
		}
	} else {
		<-k.places
		release(t.source)
	}
	k.doneLocked(t)
}

// abandon gives up the place of a call that runs, and reports whether it does.
func (k *Kind) abandon(t *ticket) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !t.runs {
		return false
	}
	if !t.abandoned {
		t.abandoned = true
		k.abandoned++
		if t.source != nil {
			t.source.abandoned++
		}
		<-k.places
		release(t.source)
	}
	return true
}

// Abandoned returns how many calls are abandoned now.
func (k *Kind) Abandoned() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.abandoned
}

// Wait returns when every call has returned, abandoned ones included, or when ctx
// ends.
func (k *Kind) Wait(ctx context.Context) error {
	k.mu.Lock()
	if k.under == 0 {
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
