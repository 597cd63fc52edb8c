// The client: Socket.IO 5 as a stock client speaks it, and a record of all that
// it was told.

package realtimetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rodando/realtime"
)

// Client is one client in one namespace. It answers heartbeats, remembers every
// event and does not reconnect. All methods may be called concurrently.
type Client struct {
	*socket
	timeout time.Duration
}

// Timeout is how long a client waits for what a test expects, unless Within
// says otherwise. In a testing/synctest bubble that is fake time.
const Timeout = 5 * time.Second

// Received is an event as it arrived.
type Received struct {
	Event string
	realtime.Raw
	At time.Time
}

// Within returns the same client with another time to wait for what is
// expected of it.
func (c *Client) Within(d time.Duration) *Client { return &Client{c.socket, d} }

// Join connects to another namespace over the same connection. Of the options
// those that make the CONNECT payload count. A refusal leaves the connection as
// it is.
func (c *Client) Join(ctx context.Context, namespace string, opts ...Option) (*Client, error) {
	d := &dial{}
	for _, o := range opts {
		o(d)
	}
	joined, err := c.conn.join(ctx, namespace, d)
	if err != nil {
		return nil, err
	}
	joined.settled = c.settled
	return joined, nil
}

// ID returns the socket's id, as Socket.ID on the server.
func (c *Client) ID() string { return c.id }

// Namespace returns the namespace's name.
func (c *Client) Namespace() string { return c.namespace }

// Transport returns what the connection is over now, "websocket" or "polling".
func (c *Client) Transport() string { return c.conn.engine.transportName() }

// Received returns every event so far, in the order of arrival.
func (c *Client) Received() []Received {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.received)
}

// Emit sends an event that asks for no ack.
func (c *Client) Emit(event string, args ...any) error {
	var raw realtime.Raw
	for _, a := range args {
		b, err := json.Marshal(a)
		if err != nil {
			return fmt.Errorf("encoding %s: %w", event, err)
		}
		raw.Args = append(raw.Args, b)
	}
	return c.EmitRaw(event, raw)
}

// EmitRaw sends an event by its arguments as they go on the wire, binary ones
// included.
func (c *Client) EmitRaw(event string, args realtime.Raw) error {
	return c.emit(noID, event, args)
}

// CallRaw sends an event that asks for an ack, and returns the ack. The error
// is realtime.ErrAckTimeout or realtime.ErrClosed.
func (c *Client) CallRaw(ctx context.Context, event string, args realtime.Raw) (realtime.Raw, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	return c.call(ctx, event, args)
}

// Connected reports whether the client is in its namespace.
func (c *Client) Connected() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reason == ""
}

// Disconnected waits until the client is disconnected and returns the reason,
// in the words of the JavaScript client; see ReasonServer.
func (c *Client) Disconnected(t testing.TB) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), c.timeout)
	defer cancel()
	var reason string
	err := c.await(ctx, func() bool {
		reason = c.reason
		return reason != ""
	})
	if err != nil {
		t.Fatalf("%s is still connected after %v\n%s", c, c.timeout, c.history())
	}
	return reason
}

// Close leaves the namespace, as disconnect() of a stock client does, and the
// connection when no other namespace is left on it; then it waits until the
// connection is gone, a second at most. What was sent before arrives.
func (c *Client) Close() {
	last := c.conn.leave(c.socket)
	c.disconnected(ReasonClient)
	if last {
		c.conn.engine.stall(false)
		c.conn.engine.finish()
	}
}

// Drop cuts the connection without a word, as a crash does. The server sees its
// end, but for one over polling that is between two polls: that is missed by its
// heartbeats. For a network that swallows everything see Stall.
func (c *Client) Drop() {
	c.conn.engine.drop()
	c.conn.engine.wait()
}

// Stall stops reading: what the server sends fills the connection's buffers,
// and heartbeats are not answered. What had been read by then is still
// recorded.
func (c *Client) Stall() { c.conn.engine.stall(true) }

// Resume ends a Stall.
func (c *Client) Resume() { c.conn.engine.stall(false) }

// String says which client it is, for messages of tests.
func (c *Client) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return fmt.Sprintf("client %s of %s", c.name, c.namespace)
}

// Answer makes a client acknowledge a query with what f returns, until another
// Answer for it. f may block; each question has a goroutine.
func Answer[In, Out any](c *Client, q realtime.Query[In, Out], f func(In) Out) {
	c.AnswerRaw(q.Name(), func(args realtime.Raw) realtime.Raw {
		var in In
		if len(args.Args) > 0 {
			if err := json.Unmarshal(args.Args[0], &in); err != nil {
				return realtime.Raw{} // no ack fits; the server's decoding fails
			}
		}
		out := f(in)
		if _, none := any(out).(realtime.None); none {
			return realtime.Raw{}
		}
		b, err := json.Marshal(out)
		if err != nil {
			return realtime.Raw{}
		}
		return realtime.Raw{Args: []json.RawMessage{b}}
	})
}

// AnswerRaw is Answer by arguments as they go on the wire.
func (c *Client) AnswerRaw(event string, f func(args realtime.Raw) realtime.Raw) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answers[event] = f
}

// conn is a connection and the namespaces on it.
//
// conn.mu guards sockets; partial belongs to receive.
type conn struct {
	engine  *engine
	partial *incoming // a binary packet whose attachments have not all arrived

	mu      sync.Mutex
	sockets map[string]*socket
}

func newConn(d *dial) *conn {
	c := &conn{sockets: map[string]*socket{}}
	c.engine = newEngine(d, c.receive, c.closed)
	return c
}

// join connects to a namespace and waits for the answer.
func (c *conn) join(ctx context.Context, namespace string, d *dial) (*Client, error) {
	payload, err := d.payload()
	if err != nil {
		return nil, fmt.Errorf("encoding the CONNECT payload: %w", err)
	}
	s := &socket{
		conn: c, namespace: namespace, changed: make(chan struct{}),
		acks: map[int]chan realtime.Raw{}, answers: map[string]func(realtime.Raw) realtime.Raw{},
	}
	c.mu.Lock()
	if c.sockets[namespace] != nil {
		c.mu.Unlock()
		return nil, fmt.Errorf("the connection is in %s already", namespace)
	}
	c.sockets[namespace] = s
	c.mu.Unlock()
	if !c.engine.send(message('0', namespace, noID, payload, 0)) {
		s.disconnected(ReasonTransportClose)
	}
	var refusal error
	err = s.await(ctx, func() bool {
		refusal = s.refusal
		return refusal != nil || s.id != "" || s.reason != ""
	})
	if err == nil && refusal == nil && s.id == "" {
		err = fmt.Errorf("%w: %s, and no answer to CONNECT", realtime.ErrClosed, s.reason)
	}
	if err = errors.Join(refusal, err); err != nil {
		c.leave(s)
		return nil, err
	}
	return &Client{s, Timeout}, nil
}

// leave takes a socket off the connection, tells the server if it does not
// know, and reports whether it was the last.
func (c *conn) leave(s *socket) (last bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sockets[s.namespace] == s {
		delete(c.sockets, s.namespace)
		s.mu.Lock()
		tell := s.id != "" && s.reason == ""
		s.mu.Unlock()
		if tell {
			c.engine.send(message('1', s.namespace, noID, nil, 0))
		}
	}
	return len(c.sockets) == 0
}

// closed is called by the engine when the connection has ended.
func (c *conn) closed(reason string) {
	c.mu.Lock()
	all := c.sockets
	c.sockets = map[string]*socket{}
	c.mu.Unlock()
	for _, s := range all {
		s.disconnected(reason)
	}
}

// receive is called by the engine with one message.
func (c *conn) receive(p packet) {
	in := c.partial
	if p.binary {
		if in == nil {
			c.engine.end(ReasonParseError)
			return
		}
		in.args.Attachments = append(in.args.Attachments, p.data)
	} else {
		var err error
		if in, err = parse(p.data); err != nil || c.partial != nil {
			c.engine.end(ReasonParseError)
			return
		}
	}
	c.partial = in
	if len(in.args.Attachments) < in.attachments {
		return
	}
	c.partial = nil
	c.mu.Lock()
	s := c.sockets[in.namespace]
	c.mu.Unlock()
	if s == nil {
		return // it has been left
	}
	s.take(in)
	if in.kind == disconnectPacket && c.leave(s) {
		c.engine.close() // as a stock client does
	}
}

// socket is a connection's place in a namespace.
//
// socket.mu guards the fields below it. changed is closed and replaced on any
// change.
type socket struct {
	conn      *conn
	namespace string
	settled   func(ctx context.Context) error // waits until the server has nothing under way; may be nil

	mu       sync.Mutex
	changed  chan struct{}
	name     string // for messages of tests
	id       string // once connected
	refusal  error
	reason   string // once disconnected
	received []Received
	taken    []bool // by Expect
	acks     map[int]chan realtime.Raw
	lastAck  int
	answers  map[string]func(realtime.Raw) realtime.Raw
}

// await waits until ok, which is called with the socket locked, or ctx ends.
func (s *socket) await(ctx context.Context, ok func() bool) error {
	for {
		s.mu.Lock()
		done, changed := ok(), s.changed
		s.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// changeLocked wakes those who await something.
func (s *socket) changeLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *socket) disconnected(reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reason == "" {
		s.reason = reason
		s.changeLocked()
	}
}

func (s *socket) take(in *incoming) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch in.kind {
	case connectPacket:
		var answer struct{ SID string }
		_ = json.Unmarshal(in.data, &answer) // parse has seen that it is JSON
		s.id = answer.SID
		if s.name == "" {
			s.name = s.id
		}
	case connectErrorPacket:
		s.refusal = connectError(in.data)
	case disconnectPacket:
		if s.reason == "" {
			s.reason = ReasonServer
		}
	case eventPacket:
		s.received = append(s.received, Received{Event: in.event, Raw: in.args, At: time.Now()})
		s.taken = append(s.taken, false)
		if f := s.answers[in.event]; f != nil && in.id != noID {
			go func() { _ = s.reply(in.id, f(in.args)) }() // a client that is gone owes no answer
		}
	case ackPacket:
		if answer := s.acks[in.id]; answer != nil {
			delete(s.acks, in.id)
			answer <- in.args
		}
	}
	s.changeLocked()
}

func (s *socket) emit(id int, event string, args realtime.Raw) error {
	name, err := json.Marshal(event)
	if err != nil {
		return err
	}
	return s.send('2', id, append([]json.RawMessage{name}, args.Args...), args.Attachments)
}

func (s *socket) reply(id int, args realtime.Raw) error {
	return s.send('3', id, args.Args, args.Attachments)
}

// send sends an event or an ack, whose type is kind where it is not binary.
func (s *socket) send(kind byte, id int, args []json.RawMessage, attachments [][]byte) error {
	if args == nil {
		args = []json.RawMessage{}
	}
	data, err := json.Marshal(args)
	if err != nil {
		return err
	}
	packets := []packet{message(kind, s.namespace, id, data, len(attachments))}
	for _, a := range attachments {
		packets = append(packets, packet{data: slices.Clone(a), binary: true})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reason != "" || !s.conn.engine.send(packets...) {
		return realtime.ErrClosed
	}
	return nil
}

// call emits an event with an ack and waits for it.
func (s *socket) call(ctx context.Context, event string, args realtime.Raw) (ack realtime.Raw, err error) {
	answer := make(chan realtime.Raw, 1)
	s.mu.Lock()
	s.lastAck++
	id := s.lastAck
	s.acks[id] = answer
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.acks, id)
	}()
	if err := s.emit(id, event, args); err != nil {
		return ack, err
	}
	arrived := false
	err = s.await(ctx, func() bool {
		select {
		case ack = <-answer:
			arrived = true
		default:
		}
		return arrived || s.reason != ""
	})
	switch {
	case err != nil:
		return ack, errors.Join(realtime.ErrAckTimeout, err)
	case !arrived:
		return ack, realtime.ErrClosed
	}
	return ack, nil
}

// historySize is how many events a failing test shows.
const historySize = 50

// history is what the client was told, for a test that fails.
func (s *socket) history() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	if len(s.received) == 0 {
		b.WriteString("it was told nothing")
	} else {
		b.WriteString("it was told, with + what was expected:")
	}
	start := max(0, len(s.received)-historySize)
	if start > 0 {
		fmt.Fprintf(&b, "\n  %d events, and then", start)
	}
	for i, r := range s.received[start:] {
		i += start
		mark := ' '
		if s.taken[i] {
			mark = '+'
		}
		fmt.Fprintf(&b, "\n%c %3d. %s %s %s", mark, i+1, r.At.Format("15:04:05.000"), r.Event, clip(r.Args))
	}
	if s.reason != "" {
		b.WriteString("\nand disconnected: " + s.reason)
	}
	return b.String()
}

// clip shows arguments, the first 300 bytes of them.
func clip(args []json.RawMessage) string {
	var parts []string
	for _, a := range args {
		parts = append(parts, string(a))
	}
	s := strings.Join(parts, ", ")
	if len(s) > 300 {
		return s[:300] + "… (" + strconv.Itoa(len(s)) + " bytes)"
	}
	return s
}

func (s *socket) setName(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.name = name
}
