// The context of a call. Its timer exists only once Done, Err or AfterFunc is used.

package hostcall

import (
	"context"
	"sync"
	"time"
)

// Context is a context.Context with a deadline. It creates its timer on the first use
// of Done, Err or AfterFunc, because most of the thousands of handler calls a second use
// none of them.
// A zero Context is usable after Start or StartWithoutDeadline. Afterwards its methods
// may be called concurrently.
type Context struct {
	parent   context.Context //nolint:containedctx // this type is itself a context
	deadline time.Time

	mu     sync.Mutex      // guards real, cancel and over
	real   context.Context //nolint:containedctx // as parent; nil until it is needed
	cancel context.CancelFunc
	over   bool // End was called

	inherits bool // it has its parent's deadline, or none; set by the Start methods
}

// Start sets the context's parent and its deadline. An earlier deadline of the parent
// applies instead.
func (c *Context) Start(parent context.Context, deadline time.Time) {
	c.parent, c.deadline = parent, deadline
	if earlier, ok := parent.Deadline(); ok && !deadline.Before(earlier) {
		c.deadline, c.inherits = earlier, true
	}
}

// StartWithoutDeadline sets the context's parent. The parent's deadline, if any,
// applies.
func (c *Context) StartWithoutDeadline(parent context.Context) {
	c.parent, c.inherits = parent, true
	c.deadline, _ = parent.Deadline()
}

// Deadline implements context.Context.
func (c *Context) Deadline() (time.Time, bool) { return c.deadline, !c.deadline.IsZero() }

// Done implements context.Context.
func (c *Context) Done() <-chan struct{} { return c.context().Done() }

// Err implements context.Context. It makes no real context as long as there is no error, because
// a verifier that asks before it begins would pay for a timer.
func (c *Context) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.real == nil && !c.over && c.parent.Err() == nil && (c.inherits || time.Now().Before(c.deadline)) {
		return nil
	}
	return c.contextLocked().Err()
}

// Value implements context.Context. Package context finds the real context here, also
// through a context.WithValue in between, and needs no goroutine to cancel derived contexts.
func (c *Context) Value(key any) any {
	c.mu.Lock()
	from := c.real
	c.mu.Unlock()
	if from == nil {
		from = c.parent
	}
	return from.Value(key)
}

// AfterFunc is context.AfterFunc for this context. Package context calls this method, if it
// does not find the real context, when a context is derived from this one; without it every
// derived context would cost a goroutine.
func (c *Context) AfterFunc(f func()) (stop func() bool) {
	return context.AfterFunc(c.context(), f)
}

func (c *Context) context() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.contextLocked()
}

func (c *Context) contextLocked() context.Context {
	if c.real == nil {
		if c.inherits { // a timer of its own could fire before the parent's
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

// End cancels the context. It is called when the call has returned.
func (c *Context) End() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	if c.cancel != nil {
		c.cancel()
	}
}

// ended reports whether End was called or the parent has ended.
func (c *Context) ended() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.over || c.parent.Err() != nil
}
