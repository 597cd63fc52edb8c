// Emitting: the methods of Event and Query that send to a socket or a broadcast, and that wait
// for acks. They encode and decode the payloads; socket.go and broadcast.go send.

package realtime

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"

	"github.com/rodando/realtime/internal/socketio"
)

// Emitter is what an event can be emitted to: a *Socket or a Broadcast.
type Emitter interface {
	emit(event string, arg []byte) error
}

// panicNoSocket panics because the socket that a method was called with is nil.
func panicNoSocket(method string) { panic("realtime: " + method + ": the socket is nil") }

var errUndeclared = errors.New("realtime: the event has no name; declare it with NewEvent or NewQuery")

// Emit sends the event to a socket, or to the sockets that a broadcast selects, without
// waiting for the network. It returns ErrClosed if the socket has closed, and an error if
// the payload does not marshal or exceeds Limits.OutboxBytes by itself, or NewEvent did not
// declare the event. A nil error does not
// mean that the client receives the event. Emit panics if to is nil.
func (e Event[T]) Emit(to Emitter, payload T) error {
	if e.name == "" {
		return errUndeclared
	}
	if s, one := to.(*Socket); to == nil || one && s == nil {
		panicNoSocket("Emit of " + e.name)
	}
	arg, err := json.Marshal(payload)
	if err != nil {
		return errorf("encoding %s: %w", e.name, err)
	}
	return to.emit(e.name, arg)
}

// Ask emits the query to one socket and waits for the client's ack, whose first
// argument is decoded into Out. It may be called from the socket's own handler. It returns
// ErrAckTimeout if ctx ends before the ack, or if Timeouts.Ack passes and ctx has no
// deadline. It returns ErrClosed if the socket closes, and ErrTooManyAcks if too many earlier
// acks of the socket are pending. It panics if s is nil.
func (q Query[In, Out]) Ask(ctx context.Context, s *Socket, in In) (Out, error) {
	var out Out
	if q.name == "" {
		return out, errUndeclared
	}
	if s == nil {
		panicNoSocket("Ask of " + q.name)
	}
	arg, err := json.Marshal(in)
	if err != nil {
		return out, errorf("encoding %s: %w", q.name, err)
	}
	if s.inner == nil {
		return out, ErrClosed
	}
	if err := sendable(s.ns.rt, q.name, [][]byte{arg}, nil); err != nil {
		return out, err
	}
	ctx, cancel := s.ns.rt.ackContext(ctx)
	defer cancel()
	r, err := s.inner.Ask(ctx, func(id int64) bool {
		return s.send(q.name, socketio.EventMessage(s.ns.name, id, q.name, arg)) == nil
	})
	if err != nil {
		return out, askError(err)
	}
	return decodeAck[Out](q.name, rawOf(r.Args, r.Attachments))
}

// AskAll emits the query to every selected socket, on all nodes, and blocks until all acks
// have arrived, or as long as Ask. It returns the acks that arrived, in any order, with
// ErrAckTimeout if some did not. It does not wait for a socket that closes. An ack that cannot
// be decoded into Out is left out; the error reports it.
func (q Query[In, Out]) AskAll(ctx context.Context, to Broadcast, in In) ([]Out, error) {
	if q.name == "" {
		return nil, errUndeclared
	}
	arg, err := json.Marshal(in)
	if err != nil {
		return nil, errorf("encoding %s: %w", q.name, err)
	}
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

// packetOverhead is more than what a packet has besides its name and arguments, or its attachment:
// the namespace, the numbers, and the header of its frame.
const packetOverhead = 384

// sendable returns an error for an event, or an ack without a name, that exceeds Limits.OutboxBytes or
// OutboxMessages by itself: each of its receivers would be closed as a slow consumer.
func sendable[A ~[]byte](rt *Server, event string, args []A, attachments [][]byte) error {
	size := len(event)
	for _, a := range args {
		size += len(a) + 1
	}
	for _, a := range attachments {
		size += len(a) + packetOverhead
	}
	if size += packetOverhead; size > rt.opts.Limits.OutboxBytes {
		return errorf("%s: %d bytes for one client, more than Options.Limits.OutboxBytes", cmp.Or(event, "ack"), size)
	}
	if len(attachments) >= rt.opts.Limits.OutboxMessages {
		return errorf("%s: %d attachments for one client, more than Options.Limits.OutboxMessages", cmp.Or(event, "ack"), len(attachments))
	}
	return nil
}

// ackContext returns ctx, with the timeout Timeouts.Ack if it has no deadline.
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
		return out, errorf("ack of %s: %w", event, err)
	}
	return out, nil
}
