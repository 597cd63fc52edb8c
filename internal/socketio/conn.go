// A connection: the packets of one client, sorted by namespace.

package socketio

import (
	"bytes"
	"errors"
	"slices"
	"sync"

	"github.com/rodando/realtime/internal/engineio"
	"github.com/rodando/realtime/internal/wheel"
)

// Conn is one client's connection, which carries a socket for each namespace
// that the client is in. It implements engineio.Handler.
//
// Conn.mu guards the fields below it; partial belongs to Message, whose calls
// come one at a time. Conn.mu may be held while taking a Socket's, not the
// other way round.
type Conn struct {
	// Data is what Config.Accept returned.
	Data any

	srv     *Server
	session *engineio.Session
	partial *inbound // a binary packet whose attachments have not all arrived

	mu      sync.Mutex
	closed  bool
	paused  bool
	sockets []*Socket    // pending or connected, one of a namespace at most
	left    []*Namespace // namespaces that it has been in
	ready   []*Socket    // sockets with events and nobody running them
	events  int          // events in all queues
	bytes   int          // and their size
	timer   wheel.Timer
}

// inbound is a packet with what it refers to.
type inbound struct {
	packet      Packet
	attachments [][]byte
	size        int
	args        [3][]byte // room for the usual number of arguments
}

var (
	errBinary      = errors.New("binary data that nothing announced")
	errExpected    = errors.New("text where an attachment is due")
	errTooLarge    = errors.New("attachments too large")
	errNamespaceUp = errors.New("second connect of a namespace")
	errNotJoined   = errors.New("packet for a namespace never joined")
)

// Session returns the engine's session below.
func (c *Conn) Session() *engineio.Session { return c.session }

// Message implements engineio.Handler.
func (c *Conn) Message(data []byte, binary bool) error {
	if binary {
		return c.attachment(data)
	}
	if c.partial != nil {
		return errExpected
	}
	in := &inbound{size: len(data)}
	in.packet.Args = in.args[:0]
	// The packet outlives data, which is the engine's.
	if err := in.packet.Parse(bytes.Clone(data), c.srv.cfg.Limits); err != nil {
		return err
	}
	if in.packet.Attachments > 0 {
		c.partial = in
		return nil
	}
	return c.dispatch(in)
}

func (c *Conn) attachment(data []byte) error {
	in := c.partial
	if in == nil {
		return errBinary
	}
	if in.size += len(data); in.size > c.srv.cfg.AttachmentBytes {
		return errTooLarge
	}
	in.attachments = append(in.attachments, bytes.Clone(data))
	if len(in.attachments) < in.packet.Attachments {
		return nil
	}
	c.partial = nil
	return c.dispatch(in)
}

func (c *Conn) dispatch(in *inbound) error {
	p := &in.packet
	if p.Type == PacketConnect {
		return c.connect(string(p.Namespace), p.Data)
	}
	c.mu.Lock()
	s := c.socketLocked(p.Namespace)
	if s == nil || !s.opened() && p.Type != PacketDisconnect {
		left := slices.ContainsFunc(c.left, func(n *Namespace) bool { return n.name == string(p.Namespace) })
		c.mu.Unlock()
		if !left && !c.isClosed() {
			return errNotJoined
		}
		return nil
	}
	c.mu.Unlock()
	switch p.Type {
	case PacketDisconnect:
		s.leave(ReasonClient)
	case PacketEvent, PacketBinaryEvent:
		s.enqueue(&Event{
			Name: string(p.Name), Args: p.Args, Attachments: in.attachments,
			socket: s, id: p.ID, size: in.size,
		})
	case PacketAck, PacketBinaryAck:
		s.acknowledged(p.ID, p.Args, in.attachments)
	}
	return nil
}

// connect begins the handshake of a namespace.
func (c *Conn) connect(name string, payload []byte) error {
	n := c.srv.Lookup(name)
	if n == nil {
		c.send(connectError(name, []byte(`{"message":"Invalid namespace"}`)))
		c.waitForConnect()
		return nil
	}
	s := newSocket(c, n)
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	if c.socketLocked([]byte(name)) != nil {
		c.mu.Unlock()
		return errNamespaceUp
	}
	c.sockets = append(c.sockets, s)
	c.srv.running.Add(1)
	c.mu.Unlock()
	go func() {
		defer c.srv.running.Done()
		n.hooks.Connect(s, payload)
	}()
	return nil
}

func (c *Conn) socketLocked(namespace []byte) *Socket {
	for _, s := range c.sockets {
		if s.ns.name == string(namespace) {
			return s
		}
	}
	return nil
}

// Sockets returns the sockets that are open now.
func (c *Conn) Sockets() []*Socket {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(c.sockets), func(s *Socket) bool { return !s.opened() })
}

// forget takes a socket off the connection and reports how many are left.
func (c *Conn) forget(s *Socket, wasOpen bool) (others int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sockets = slices.DeleteFunc(c.sockets, func(o *Socket) bool { return o == s })
	if wasOpen && !slices.Contains(c.left, s.ns) {
		c.left = append(c.left, s.ns)
	}
	return len(c.sockets)
}

// waitForConnect gives a client without a namespace another connect timeout.
func (c *Conn) waitForConnect() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.srv.cfg.Wheel.Arm(&c.timer, c.srv.cfg.ConnectTimeout)
	}
}

// idle runs when the connect timeout has passed.
func (c *Conn) idle() {
	c.mu.Lock()
	n := len(c.sockets)
	c.mu.Unlock()
	if n == 0 {
		c.session.Close(engineio.ReasonForcedClose)
	}
}

// Serve implements engineio.Handler: it runs the queues that have events and
// nobody running them, the last one on the caller's goroutine.
func (c *Conn) Serve() {
	for {
		c.mu.Lock()
		n := len(c.ready)
		if n == 0 {
			c.mu.Unlock()
			return
		}
		s := c.ready[n-1]
		c.ready[n-1] = nil
		c.ready = c.ready[:n-1]
		if n == 1 {
			c.ready = nil
		}
		c.mu.Unlock()
		if n == 1 {
			s.run()
			return
		}
		go s.run()
	}
}

// queued counts an event in, and holds the client back when too many wait.
func (c *Conn) queued(s *Socket, size int, idle bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events++
	c.bytes += size
	if idle {
		c.ready = append(c.ready, s)
	}
	if !c.paused && (c.events > c.srv.cfg.QueuedEvents || c.bytes > c.srv.cfg.QueuedBytes) {
		c.paused = true
		c.session.Pause()
	}
}

// taken counts events out.
func (c *Conn) taken(events, size int) {
	c.mu.Lock()
	c.events -= events
	c.bytes -= size
	resume := c.paused && c.events <= c.srv.cfg.QueuedEvents/2 && c.bytes <= c.srv.cfg.QueuedBytes/2
	if resume {
		c.paused = false
	}
	c.mu.Unlock()
	if resume {
		c.session.Resume()
	}
}

// Closed implements engineio.Handler.
func (c *Conn) Closed(reason engineio.Reason) {
	c.mu.Lock()
	c.closed = true
	c.srv.cfg.Wheel.Stop(&c.timer)
	sockets := c.sockets
	c.sockets = nil
	c.mu.Unlock()
	for _, s := range sockets {
		s.close(string(reason))
	}
}

func (c *Conn) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

func (c *Conn) send(ms ...*engineio.Message) bool { return c.session.Send(ms...) }
