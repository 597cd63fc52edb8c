// Reports of a connection to the layer above: limits that it reached, and why it failed.

package socketio

// fail calls Config.Failed, at most once, for a connection that has broken the protocol. A nil
// error means that something else says why it ends.
func (c *Conn) fail(broken error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failLocked(broken)
}

func (c *Conn) failLocked(broken error) {
	before := c.past.Or(pastFailed)
	if f := c.srv.cfg.Failed; f != nil && broken != nil && before&pastFailed == 0 && !c.closed {
		c.srv.running.Go(func() { f(c, broken) })
	}
}

// limited reports a limit that the connection exceeded, or one of its sockets.
func (c *Conn) limited(s *Socket, l Limit) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.limitedLocked(s, l)
}

// limitedLocked reports a limit on a goroutine of its own, because its callers hold
// locks.
func (c *Conn) limitedLocked(s *Socket, l Limit) {
	if f := c.srv.cfg.Limited; f != nil && !c.closed {
		c.srv.running.Go(func() { f(c, s, Exceeded{Limit: l}) })
	}
}
