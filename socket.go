// Socket: one authenticated client in one namespace, as handlers see it.

package realtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rodando/realtime/internal/ratelimit"
	"github.com/rodando/realtime/internal/socketio"
	"github.com/rodando/realtime/internal/timingwheel"
)

// Socket is one client in one namespace. Its events are handled one at a time;
// its methods may be called concurrently and after it is gone, when they do
// nothing.
//
// Socket.mu guards the fields below it; corked belongs to the goroutine that
// handles an event, and so do rates; admitted belongs to the handshake, which
// ends before any event.
type Socket struct {
	inner    *socketio.Socket
	ns       *Namespace
	corked   bool
	shard    uint8 // of the watchdog
	admitted bool  // else refused, by Compat.RefuseAfterConnect behind a CONNECT
	rates    ratelimit.Socket

	mu        sync.Mutex
	identity  Identity
	expiresAt time.Time
	expiry    timingwheel.Timer
}

// ID returns the socket's id, which is public: it is no secret and no proof.
func (s *Socket) ID() string { return s.inner.ID() }

// Namespace returns the namespace that the socket is in.
func (s *Socket) Namespace() *Namespace { return s.ns }

// Identity returns who the socket belongs to, as the handshake found it.
func (s *Socket) Identity() Identity {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.identity
}

// ExpiresAt returns when the socket's authorisation ends; zero: never.
func (s *Socket) ExpiresAt() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.expiresAt
}

// Join puts the socket into rooms and reports whether it is still connected.
func (s *Socket) Join(rooms ...Room) bool { return s.inner.Join(names(rooms)...) }

// Leave takes the socket out of rooms.
func (s *Socket) Leave(rooms ...Room) { s.inner.Leave(names(rooms)...) }

// Rooms returns the rooms that the socket is in.
func (s *Socket) Rooms() []Room {
	inner := s.inner.Rooms()
	rooms := make([]Room, len(inner))
	for i, name := range inner {
		rooms[i] = Room{name}
	}
	return rooms
}

// Connected reports whether the socket is still there.
func (s *Socket) Connected() bool { return !s.inner.Closed() }

// Disconnect takes the socket out of its namespace; a stock client does not
// come back by itself. What was emitted to it before arrives first. The
// connection is closed when no other socket is left on it.
func (s *Socket) Disconnect() { s.inner.Disconnect() }

// Close closes the connection under the socket, and with it the client's
// sockets in other namespaces; a stock client reconnects. What was emitted
// before arrives first.
func (s *Socket) Close() { s.inner.Conn().Close(socketio.ReasonForcedClose) }

// EmitRaw emits an event by its arguments as they go on the wire.
func (s *Socket) EmitRaw(event string, args Raw) error {
	return s.send(socketio.EventMessages(s.ns.name, socketio.NoID, event, args.bytes(), args.Attachments)...)
}

func (s *Socket) emit(event string, arg []byte) error {
	return s.send(socketio.EventMessage(s.ns.name, socketio.NoID, event, arg))
}

func (s *Socket) send(ms ...*socketio.Message) error {
	if !s.inner.Send(ms...) {
		return ErrClosed
	}
	return nil
}

// Emitter is what an event can be emitted to: a *Socket or a Broadcast.
type Emitter interface {
	emit(event string, arg []byte) error
}

// Emit sends the event to a socket, or to those that a broadcast selects. It
// does not wait for the network. The error is ErrClosed for a socket that is
// gone, or that the payload does not marshal.
func (e Event[T]) Emit(to Emitter, payload T) error {
	arg, err := json.Marshal(payload)
	if err != nil {
		return fmt.Errorf("encoding %s: %w", e.name, err)
	}
	return to.emit(e.name, arg)
}

// Ask emits the query to one socket and waits for the client's ack, whose first
// argument is decoded into Out. It may be called from the socket's own handler.
// The error is ErrAckTimeout when ctx ended first, or Timeouts.Ack if it has
// no deadline, ErrClosed when the socket did.
func (q Query[In, Out]) Ask(ctx context.Context, s *Socket, in In) (Out, error) {
	var out Out
	arg, err := json.Marshal(in)
	if err != nil {
		return out, fmt.Errorf("encoding %s: %w", q.name, err)
	}
	ctx, cancel := s.ns.rt.ackContext(ctx)
	defer cancel()
	r, err := s.inner.Ask(ctx, func(id int64) []*socketio.Message {
		return []*socketio.Message{socketio.EventMessage(s.ns.name, id, q.name, arg)}
	})
	if err != nil {
		return out, askError(err)
	}
	return decodeAck[Out](q.name, rawOf(r.Args, r.Attachments))
}

// AskAll emits the query to every selected socket, on all nodes, and collects
// the acks until all have come or ctx ends; then it returns those that came,
// with ErrAckTimeout if some did not. An ack that is no Out is left out, and
// told in the error.
func (q Query[In, Out]) AskAll(ctx context.Context, to Broadcast, in In) ([]Out, error) {
	arg, err := json.Marshal(in)
	if err != nil {
		return nil, fmt.Errorf("encoding %s: %w", q.name, err)
	}
	ctx, cancel := to.ns.rt.ackContext(ctx)
	defer cancel()
	acks, err := to.ask(ctx, q.name, arg)
	var outs []Out
	for _, a := range acks {
		out, decodeErr := decodeAck[Out](q.name, a)
		if decodeErr != nil {
			err = errors.Join(err, decodeErr)
			continue
		}
		outs = append(outs, out)
	}
	return outs, err
}

// ackContext ends with ctx, or with Timeouts.Ack.
func (rt *Server) ackContext(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, rt.opts.Timeouts.Ack)
}

func decodeAck[Out any](event string, ack Raw) (out Out, err error) {
	if _, none := any(out).(None); none || len(ack.Args) == 0 {
		return out, nil
	}
	if err := json.Unmarshal(ack.Args[0], &out); err != nil {
		return out, fmt.Errorf("ack of %s: %w", event, err)
	}
	return out, nil
}

// names returns the names of the rooms, without those that are nobody's.
func names(rooms []Room) []string {
	out := make([]string, 0, len(rooms))
	for _, r := range rooms {
		if r.name != "" {
			out = append(out, r.name)
		}
	}
	return out
}

// trips are those whose rooms the socket is in.
func (s *Socket) trips() (ids []string) {
	var few [8]string
	for _, name := range s.inner.AppendRooms(few[:0]) {
		if id, ok := tripOf(name); ok {
			ids = append(ids, id)
		}
	}
	return ids
}

// cork gathers what is sent to the socket from here to the end of its event's
// handling into one write. Nothing that blocks may follow.
func (s *Socket) cork() {
	s.corked = true
	s.inner.Conn().Cork()
}

func (s *Socket) uncork() {
	if s.corked {
		s.corked = false
		s.inner.Conn().Uncork()
	}
}

// emitFrom emits what follows from a socket's event, before its ack and in one
// write with it.
func (rt *Server) emitFrom(s *Socket, ds []Delivery) {
	s.cork()
	rt.send(ds, false)
}
