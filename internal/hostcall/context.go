// The context of a call: a deadline that costs nothing until it is used.

package hostcall

import (
	"context"
	"sync"
	"time"
)

// Context has a deadline, and a timer for it only once somebody waits for Done: most
// handlers never do, and there are thousands a second. Its zero value is made usable
// by Start. Its methods may be called concurrently.
type Context struct {
	parent   context.Context
	deadline time.Time

	mu     sync.Mutex // guards real, cancel and over
	real   context.Context
	cancel context.CancelFunc
	over   bool

	inherits bool // it has no deadline but its parent's; set by Start
}

// Start gives the context its parent and its deadline.
func (c *Context) Start(parent context.Context, deadline time.Time) {
	c.parent, c.deadline = parent, deadline
	if earlier, ok := parent.Deadline(); ok && !deadline.Before(earlier) {
		c.deadline, c.inherits = earlier, true
	}
}

// StartWithoutDeadline gives the context its parent, whose deadline it has.
func (c *Context) StartWithoutDeadline(parent context.Context) {
	c.parent, c.inherits = parent, true
	c.deadline, _ = parent.Deadline()
}

// Deadline implements context.Context.
func (c *Context) Deadline() (time.Time, bool) { return c.deadline, !c.deadline.IsZero() }

// Done implements context.Context.
func (c *Context) Done() <-chan struct{} { return c.context().Done() }

// Err implements context.Context.
func (c *Context) Err() error { return c.context().Err() }

// Value implements context.Context.
func (c *Context) Value(key any) any { return c.parent.Value(key) }

// AfterFunc is context.AfterFunc for this context. Package context looks for it when
// a context is derived from one of a type that it does not know, and needs no
// goroutine then.
func (c *Context) AfterFunc(f func()) (stop func() bool) {
	return context.AfterFunc(c.context(), f)
}

func (c *Context) context() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.real == nil {
		if c.inherits { // it must not end before its parent does
			c.real, c.cancel = context.WithCancel(c.parent)
		} else {
			c.real, c.cancel = context.WithDeadline(c.parent, c.deadline)
		}
		if c.over {
			c.cancel()
		}
	}
	return c.real
}

// End ends the context, when the call has returned.
func (c *Context) End() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	if c.cancel != nil {
		c.cancel()
	}
}

// ended is whether End was called, or the parent has ended.
func (c *Context) ended() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.over || c.parent.Err() != nil
}
