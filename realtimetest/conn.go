// The connection of a Client, its sockets, and the record of received events.

package realtimetest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rodando/realtime"
)

// conn is a connection and the sockets on it.
type conn struct {
	engine  *engine
	partial *incoming // a binary packet whose attachments have not all arrived; used by receive alone

	mu                  sync.Mutex         // guards sockets and disconnectedSockets
	sockets             map[string]*socket // by namespace
	disconnectedSockets map[string]*socket // those that the server has disconnected
}

func newConn(d *dial) *conn {
	c := &conn{sockets: map[string]*socket{}, disconnectedSockets: map[string]*socket{}}
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
		return nil, fmt.Errorf("the connection has already joined %s", namespace)
	}
	c.sockets[namespace] = s
	delete(c.disconnectedSockets, namespace)
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
	if f := d.former; f != nil {
		f.mu.Lock()
		s.recovered = f.pid != "" && f.pid == s.pid
		offset := f.offset
		f.mu.Unlock()
		s.mu.Lock()
		s.offset = cmp.Or(s.offset, offset)
		s.mu.Unlock()
	}
	return &Client{s, Timeout}, nil
}

// leave removes a socket from the connection and reports whether it was the last. It
// sends DISCONNECT if the socket was connected.
func (c *conn) leave(s *socket) (last bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sockets[s.namespace] == s {
		delete(c.sockets, s.namespace)
		s.mu.Lock()
		connected := s.id != "" && s.reason == ""
		s.mu.Unlock()
		if connected {
			c.engine.send(message('1', s.namespace, noID, nil, 0))
		}
	}
	return len(c.sockets) == 0
}

// closed is called by the engine once, when the connection has ended.
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
	s, disconnectedSockets := c.sockets[in.namespace], c.disconnectedSockets[in.namespace]
	if s != nil && in.kind == disconnectPacket {
		c.disconnectedSockets[in.namespace] = s
	}
	c.mu.Unlock()
	switch {
	case s == nil && disconnectedSockets != nil:
		disconnectedSockets.stray()
		return
	case s == nil:
		return // the client has left the namespace
	}
	s.take(in)
	if in.kind == disconnectPacket && c.leave(s) {
		c.engine.close() // as a stock client does
	}
}

// socket is a connection's socket in one namespace.
type socket struct {
	conn      *conn
	namespace string
	settled   func(ctx context.Context) error // waits until the server has handled everything; may be nil

	mu        sync.Mutex    // guards the fields below
	changed   chan struct{} // closed and replaced on any change
	name      string        // for messages of tests
	id        string        // once connected
	pid       string        // once connected, if the server has recovery
	offset    string        // of the newest event that has one
	recovered bool          // set by join
	refusal   error
	reason    string // once disconnected
	received  []Received
	taken     []bool // for each of received, whether Expect has returned it
	acks      map[int]chan realtime.Raw
	lastAck   int
	strays    int
	answers   map[string]func(realtime.Raw) realtime.Raw
}

// await waits until ok returns true or ctx ends. ok is called with s.mu held.
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

// changeLocked wakes every await.
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

func (s *socket) stray() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.strays++
}

func (s *socket) take(in *incoming) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch in.kind {
	case connectPacket:
		var answer struct {
			SID string `json:"sid"`
			PID string `json:"pid"`
		}
		_ = json.Unmarshal(in.data, &answer) // without a valid sid the client is not connected
		s.id, s.pid = answer.SID, answer.PID
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
		if s.pid != "" && in.id == noID {
			s.offset = cmp.Or(offsetOf(in.args.Args), s.offset)
		}
		if in.event == offsetEvent {
			break
		}
		s.received = append(s.received, Received{Event: in.event, Raw: in.args, At: time.Now()})
		s.taken = append(s.taken, false)
		if f := s.answers[in.event]; f != nil && in.id != noID {
			go func() { _ = s.reply(in.id, f(in.args)) }() // fails only if the client is disconnected
		}
	case ackPacket:
		if answer := s.acks[in.id]; answer != nil {
			delete(s.acks, in.id)
			answer <- in.args
		} else {
			s.strays++
		}
	}
	s.changeLocked()
}

// offsetEvent has the offset of the event before it, for clients that may not know offsets.
const offsetEvent = "realtime:offset"

// offsetOf returns the offset of an event: its last argument, if that is a string.
func offsetOf(args []json.RawMessage) (offset string) {
	if len(args) > 0 {
		_ = json.Unmarshal(args[len(args)-1], &offset) // otherwise it has none
	}
	return offset
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

// send sends an event or an ack. kind is the type of its non-binary packet.
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

// historySize is the number of events in the message of a failing test.
const historySize = 50

// history lists the client's events, for the message of a failing test.
func (s *socket) history() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	if len(s.received) == 0 {
		b.WriteString("it received no events")
	} else {
		b.WriteString("it received these events (+: taken by Expect):")
	}
	start := max(0, len(s.received)-historySize)
	if start > 0 {
		fmt.Fprintf(&b, "\n  (%d earlier events)", start)
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
		b.WriteString("\nand was disconnected: " + s.reason)
	}
	return b.String()
}

// clip returns the first 300 bytes of arguments.
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
