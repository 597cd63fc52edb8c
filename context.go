// The context of a call to the host: a deadline that costs nothing until it is
// used.

package realtime

import (
	"context"
	"sync"
	"time"
)

// lazyContext has a deadline, and a timer for it only once somebody waits for
// Done: most handlers never do, and there are thousands a second.
//
// lazyContext.mu guards real and cancel.
type lazyContext struct {
	parent   context.Context
	deadline time.Time

	mu     sync.Mutex
	real   context.Context
	cancel context.CancelFunc
	ended  bool
}

func newLazyContext(parent context.Context, timeout time.Duration) *lazyContext {
	c := &lazyContext{}
	c.begin(parent, time.Now().Add(timeout))
	return c
}

func (c *lazyContext) begin(parent context.Context, deadline time.Time) {
	if earlier, ok := parent.Deadline(); ok && earlier.Before(deadline) {
		deadline = earlier
	}
	c.parent, c.deadline = parent, deadline
}

func (rt *Server) handlerContext() *lazyContext {
	return newLazyContext(rt.handling, rt.opts.HandlerTimeout)
}

func (c *lazyContext) Deadline() (time.Time, bool) { return c.deadline, true }

func (c *lazyContext) Done() <-chan struct{} { return c.context().Done() }

func (c *lazyContext) Err() error { return c.context().Err() }

func (c *lazyContext) Value(key any) any { return c.parent.Value(key) }

func (c *lazyContext) context() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.real == nil {
		c.real, c.cancel = context.WithDeadline(c.parent, c.deadline)
		if c.ended {
			c.cancel()
		}
	}
	return c.real
}

// stop ends the context when the handler has returned.
func (c *lazyContext) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	if c.cancel != nil {
		c.cancel()
	}
}
