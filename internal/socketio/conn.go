// A connection: the packets of one client, passed to its socket in each namespace.

package socketio

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/rodando/realtime/internal/engineio"
	"github.com/rodando/realtime/internal/timingwheel"
)

// Conn is the connection of one client, with one socket for each namespace that the
// client is in. It implements engineio.Handler. Its other methods may be called
// concurrently.
type Conn struct {
	// Data is what Config.Accept returned.
	Data any

	srv     *Server
	session *engineio.Session
	partial *partialPacket // an incomplete binary packet; used by Message only, whose calls come one at a time
	past    atomic.Uint32  // pastConnect, pastEntered and pastFailed

	mu               sync.Mutex // guards the fields below
	closed           bool
	draining         bool         // see Drain
	dismiss          bool         // the client is to be dismissed, when leaving is 0
	leaving          int16        // number of sockets that were removed and whose last messages are not queued yet
	known            int16        // number of admitted and open sockets whose namespace is not anonymous
	sockets          []*Socket    // pending, admitted or open; one per namespace at most
	formerNamespaces []*Namespace // namespaces that it has left
	ready            *Socket      // list of sockets that have events but are not running
	backlog          backlog
	timer            timingwheel.Timer // connect timeout
}

// What has happened to a connection, as bits of Conn.past.
const (
	pastConnect = 1 << iota // a CONNECT has arrived
	pastEntered             // it has been in a namespace
	pastFailed              // Config.Failed or Config.Limited says why it ends
)

// connect starts the handshake of a namespace.
func (c *Conn) connect(name string, payload []byte) error {
	c.past.Or(pastConnect)
	n := c.srv.Lookup(name)
	if n == nil {
		c.session.Send(connectErrorMessage(name, []byte(`{"message":"Invalid namespace"}`)))
		c.onConnectRefused(name, true)
		return nil
	}
	s, err := c.addSocket(n)
	switch {
	case errors.Is(err, errNamespaces):
		c.session.Send(connectErrorMessage(name, []byte(`{"message":"Too many namespaces","data":{"code":"rate_limited"}}`)))
		c.limited(nil, LimitNamespaces)
		c.onConnectRefused(name, false)
		return nil
	case s == nil:
		return err
	}
	go s.connect(payload)
	return nil
}

// onConnectRefused is called after the answer to a CONNECT that was refused before
// Hooks.Connect.
func (c *Conn) onConnectRefused(name string, unknown bool) {
	if f := c.srv.cfg.Refused; f != nil && !f(c, name, unknown) {
		c.end()
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.awaitConnectLocked()
}

// Close closes the connection. Queued messages are still delivered, until the close
// timeout of the engine. A stock client reconnects after ReasonForcedClose.
func (c *Conn) Close(reason Reason) { c.session.Close(reason) }

// Drain makes the connection drop the events and CONNECTs that arrive from now on. Acks are
// still handled, because a running handler may wait for one. The caller closes the connection
// when it is no longer Busy, so that what was taken gets its ack.
func (c *Conn) Drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.draining = true
}

// Draining reports whether Drain was called.
func (c *Conn) Draining() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.draining
}

// Busy reports whether an event of the connection is being handled or waits for its handler, or
// its sockets' Wake hook does.
func (c *Conn) Busy() bool {
	c.mu.Lock()
	sockets := slices.Clone(c.sockets)
	c.mu.Unlock()
	return slices.ContainsFunc(sockets, func(s *Socket) bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.running && !s.abandoned.Load()
	})
}

// Cork makes messages gather until Uncork, which writes them together. The time
// between the two must be short, without calls to the host.
func (c *Conn) Cork() { c.session.Cork() }

// Uncork writes the messages that gathered since Cork.
func (c *Conn) Uncork() { c.session.Uncork() }

// Protocol returns the Engine.IO protocol that the client speaks, 4 or 3.
func (c *Conn) Protocol() int { return c.session.Protocol() }

// Transport returns the name of the current transport, "polling" or "websocket".
func (c *Conn) Transport() string { return c.session.Transport() }

// end closes the connection with ReasonForcedClose.
func (c *Conn) end() { c.session.Close(ReasonForcedClose) }

// addSocket adds a new socket to the connection, and counts its handshake as running.
// It returns no socket and no error if the connection is closed.
func (c *Conn) addSocket(n *Namespace) (*Socket, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed, c.draining:
		return nil, nil
	case c.socketLocked([]byte(n.name)) != nil:
		return nil, errNamespaceUp
	case len(c.sockets) >= c.srv.cfg.Namespaces:
		return nil, errNamespaces
	}
	s := newSocket(c, n)
	c.sockets, c.dismiss = append(c.sockets, s), false
	c.srv.running.Add(1)
	return s, nil
}

func (c *Conn) socketLocked(namespace []byte) *Socket {
	for _, s := range c.sockets {
		if s.ns.name == string(namespace) {
			return s
		}
	}
	return nil
}

func (c *Conn) wasInLocked(namespace []byte) bool {
	for _, n := range c.formerNamespaces {
		if n.name == string(namespace) {
			return true
		}
	}
	return false
}

// Sockets returns the open sockets.
func (c *Conn) Sockets() []*Socket {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(c.sockets), func(s *Socket) bool { return !s.Opened() })
}

// removeSocket removes a socket from the connection, and returns how many are left and
// whether the connection is closed. saidLast must follow.
func (c *Conn) removeSocket(s *Socket, wasOpen bool) (others int, closed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sockets = slices.DeleteFunc(c.sockets, func(o *Socket) bool { return o == s })
	c.leaving++
	if wasOpen {
		c.leaveLocked(s.ns)
	}
	c.awaitConnectLocked()
	return len(c.sockets), c.closed
}

// saidLast records that the last messages of a removed socket are queued. dismiss says that the client, if it has no
// socket any more, is to be dismissed. That must not overtake the last messages of a socket that is removed at the same time.
func (c *Conn) saidLast(dismiss bool) {
	c.mu.Lock()
	c.leaving--
	c.dismiss = c.dismiss || dismiss && len(c.sockets) == 0
	dismiss = c.dismiss && c.leaving == 0
	c.mu.Unlock()
	if dismiss {
		c.session.Dismiss(ReasonForcedClose)
	}
}

// leave records a namespace as left, so that further packets for it are ignored.
func (c *Conn) leave(n *Namespace) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leaveLocked(n)
}

func (c *Conn) leaveLocked(n *Namespace) {
	if !slices.Contains(c.formerNamespaces, n) {
		c.formerNamespaces = append(c.formerNamespaces, n)
	}
}

// countKnown adds n to Conn.known and passes the result to the engine.
func (c *Conn) countKnown(n int16) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known += n
	c.session.SetKnown(c.known > 0)
}

// awaitConnectLocked starts the connect timeout of a client without a namespace. If the
// client has never been in one, the timeout that began with the connection keeps running:
// otherwise a client could stay connected without a login by being refused now and then.
func (c *Conn) awaitConnectLocked() {
	switch {
	case c.closed || len(c.sockets) > 0:
	case c.past.Load()&pastEntered != 0:
		c.srv.cfg.Wheel.Arm(&c.timer, c.srv.cfg.ConnectTimeout)
	case !c.srv.cfg.Wheel.Armed(&c.timer): // it fired during a handshake, when it closed nothing
		c.srv.cfg.Wheel.Arm(&c.timer, 0)
	}
}

// onConnectTimeout is the callback of the connect timeout.
func (c *Conn) onConnectTimeout() {
	c.mu.Lock()
	n := len(c.sockets)
	if f := c.srv.cfg.Failed; f != nil && n == 0 && c.past.Load()&pastConnect == 0 && !c.closed {
		c.past.Or(pastFailed)
		c.srv.running.Go(func() { f(c, nil) })
	}
	c.mu.Unlock()
	if n == 0 {
		c.end()
	}
}

// Serve implements engineio.Handler. It runs the sockets of the ready list, the last
// one on the caller's goroutine.
func (c *Conn) Serve() {
	c.mu.Lock()
	s := c.ready
	c.ready = nil
	c.mu.Unlock()
	for s != nil {
		next := s.next // read before run: a running socket may join the list again
		if next == nil {
			s.run()
			return
		}
		go s.run()
		s = next
	}
}

// Closed implements engineio.Handler. The sockets end on a goroutine of their own,
// because the caller may hold the lock of a socket.
func (c *Conn) Closed(reason engineio.Reason) {
	c.mu.Lock()
	sockets := slices.Clone(c.sockets) // each removes itself from the list
	if reason == engineio.ReasonParseError && !c.session.Limited() {
		c.failLocked(errMalformed)
	}
	c.closed = true
	c.srv.cfg.Wheel.Stop(&c.timer)
	c.mu.Unlock()
	if len(sockets) > 0 {
		c.srv.running.Go(func() {
			for _, s := range sockets {
				s.end(string(reason))
			}
		})
	}
	c.srv.cfg.Closed(c.Data)
}
