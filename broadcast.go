// Broadcast: whom an emit reaches, on this node and on the others.

package realtime

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"

	"github.com/rodando/realtime/internal/socketio"
)

// Broadcast selects sockets of one namespace by room, each once however many of
// the rooms it is in. It is an immutable value: each method returns a new one,
// which may be kept and used concurrently. Without rooms it selects nobody.
type Broadcast struct {
	ns       *Namespace
	rooms    []string
	except   []string
	volatile bool
	local    bool
	key      string
}

// To selects the sockets that are in any of the rooms.
func (ns *Namespace) To(rooms ...Room) Broadcast { return Broadcast{ns: ns}.To(rooms...) }

// To adds rooms.
func (b Broadcast) To(rooms ...Room) Broadcast {
	b.rooms = with(b.rooms, rooms)
	return b
}

// with returns names and those of rooms, in memory of their own.
func with(to []string, rooms []Room) []string {
	if len(to) == 0 {
		return names(rooms)
	}
	return append(slices.Clip(to), names(rooms)...)
}

// In is To, as the reference implementation has it.
func (b Broadcast) In(rooms ...Room) Broadcast { return b.To(rooms...) }

// Except leaves out the sockets that are in any of the rooms.
func (b Broadcast) Except(rooms ...Room) Broadcast {
	b.except = with(b.except, rooms)
	return b
}

// ExceptSocket leaves out one socket.
func (b Broadcast) ExceptSocket(s *Socket) Broadcast { return b.Except(Room{s.ID()}) }

// Volatile drops the event for sockets whose connection is not writable.
func (b Broadcast) Volatile() Broadcast {
	b.volatile = true
	return b
}

// Latest replaces an unsent event of the same key, where the connection is not
// writable, instead of queueing behind it. Keys are the namespace's own. An event
// with attachments is queued all the same.
func (b Broadcast) Latest(key string) Broadcast {
	b.key = key
	return b
}

// Local keeps to the sockets of this node.
func (b Broadcast) Local() Broadcast {
	b.local = true
	return b
}

// EmitRaw emits an event by its arguments as they go on the wire.
func (b Broadcast) EmitRaw(event string, args Raw) error {
	if len(b.rooms) == 0 {
		return nil
	}
	b.emitLocal(event, args.bytes(), args.Attachments)
	if b.remote() {
		name, err := json.Marshal(event)
		if err != nil {
			return err
		}
		b.publish(ClusterMessage{Op: OpBroadcast, Event: &Raw{
			Args: append([]json.RawMessage{name}, args.Args...), Attachments: args.Attachments,
		}})
	}
	return nil
}

// emit is EmitRaw with one argument.
func (b Broadcast) emit(event string, arg []byte) error {
	if len(b.rooms) == 0 {
		return nil
	}
	b.emitLocal(event, [][]byte{arg}, nil)
	if b.remote() {
		name, err := json.Marshal(event)
		if err != nil {
			return err
		}
		b.publish(ClusterMessage{Op: OpBroadcast, Event: &Raw{Args: []json.RawMessage{name, arg}}})
	}
	return nil
}

func (b Broadcast) emptyHere() bool {
	return len(b.rooms) == 1 && !b.ns.inner.HasRoom(b.rooms[0]) && b.ns.inner.Socket(b.rooms[0]) == nil
}

// emitLocal encodes the event once and queues it on each socket of this node.
func (b Broadcast) emitLocal(event string, args, attachments [][]byte) {
	if b.emptyHere() {
		return
	}
	if len(attachments) == 0 {
		m := socketio.EventMessage(b.ns.name, socketio.NoID, event, args...)
		m.Volatile = b.volatile
		if b.key != "" {
			m.Key = b.ns.name + " " + b.key // a connection carries other namespaces too
		}
		b.ns.inner.Emit(b.target(), m)
		return
	}
	ms := socketio.EventMessages(b.ns.name, socketio.NoID, event, args, attachments)
	for _, m := range ms {
		m.Volatile = b.volatile
	}
	b.ns.inner.Emit(b.target(), ms...)
}

func (b Broadcast) target() socketio.Target { return socketio.Target{Rooms: b.rooms, Except: b.except} }

func (b Broadcast) remote() bool { return !b.local && b.ns.rt.clustered }

// publish completes a message and hands it to the other nodes, while the server
// shuts down too: for the last words of its sockets.
func (b Broadcast) publish(m ClusterMessage) {
	m = b.message(m)
	_ = b.ns.rt.clusterPublish(m) // logged
}

func (b Broadcast) message(m ClusterMessage) ClusterMessage {
	m.Namespace, m.Rooms, m.Except, m.Volatile, m.Key = b.ns.name, b.rooms, b.except, b.volatile, b.key
	return m
}

// Join puts the selected sockets into rooms, on all nodes.
func (b Broadcast) Join(rooms ...Room) {
	b.applyRooms(OpJoin, names(rooms))
}

// Leave takes the selected sockets out of rooms, on all nodes.
func (b Broadcast) Leave(rooms ...Room) {
	b.applyRooms(OpLeave, names(rooms))
}

func (b Broadcast) applyRooms(op ClusterOp, targets []string) {
	if len(b.rooms) == 0 {
		return
	}
	b.applyLocal(op, targets)
	if b.remote() {
		b.publish(ClusterMessage{Op: op, Targets: targets})
	}
}

func (b Broadcast) applyLocal(op ClusterOp, targets []string) {
	for _, s := range b.ns.inner.Select(b.target()) {
		if op == OpJoin {
			s.Join(targets...)
		} else {
			s.Leave(targets...)
		}
	}
}

// Disconnect ends the selected sockets, on all nodes, as Socket.Disconnect does,
// and refuses the handshakes that are about to put one into a selected room.
func (b Broadcast) Disconnect() { b.disconnect(false) }

// Close closes the connections of the selected sockets, on all nodes, as
// Socket.Close does.
func (b Broadcast) Close() { b.disconnect(true) }

func (b Broadcast) disconnect(transport bool) {
	if len(b.rooms) == 0 {
		return
	}
	b.disconnectLocal(transport)
	if b.remote() {
		b.publish(ClusterMessage{Op: OpDisconnect, Close: transport})
	}
}

func (b Broadcast) disconnectLocal(transport bool) {
	if !transport {
		b.ns.rt.users.Reset()
		b.ns.rt.sessions.Reset()
		b.ns.rt.pending.revoke(b.ns.name, b.rooms)
	}
	for _, s := range b.ns.inner.Select(b.target()) {
		switch {
		case transport:
			s.Conn().Close(socketio.ReasonForcedClose)
		case !s.Refuse(b.ns.rt.refusal(CodeInvalidSession), b.ns.rt.opts.Compat.DisconnectRefused):
			s.Disconnect()
		}
	}
}

// Sockets describes the selected sockets of all nodes. When a node does not
// answer before ctx ends it returns those it knows of, with an error.
func (b Broadcast) Sockets(ctx context.Context) ([]RemoteSocket, error) {
	if len(b.rooms) == 0 {
		return nil, nil
	}
	found := b.socketsLocal()
	if !b.remote() {
		return found, nil
	}
	err := b.ns.rt.clusterRequest(ctx, b.message(ClusterMessage{Op: OpFetchSockets}), func(a ClusterAnswer) {
		if a.Socket != nil {
			found = append(found, *a.Socket)
		}
	})
	return found, err
}

func (b Broadcast) socketsLocal() []RemoteSocket {
	var found []RemoteSocket
	for _, inner := range b.ns.inner.Select(b.target()) {
		s, ok := inner.Data.(*Socket)
		if !ok {
			continue
		}
		found = append(found, RemoteSocket{
			ID: s.ID(), Namespace: b.ns.name, Identity: s.Identity(), Rooms: inner.Rooms(), Connecting: !inner.Opened(),
		})
	}
	return found
}

// ask collects acks from all nodes.
func (b Broadcast) ask(ctx context.Context, event string, arg []byte) ([]Raw, error) {
	if len(b.rooms) == 0 {
		return nil, nil
	}
	var mu sync.Mutex
	var acks []Raw
	take := func(a ClusterAnswer) {
		if a.Ack != nil {
			mu.Lock()
			acks = append(acks, *a.Ack)
			mu.Unlock()
		}
	}
	var asking sync.WaitGroup
	var remoteErr error
	if b.remote() {
		name, err := json.Marshal(event)
		if err != nil {
			return nil, err
		}
		m := b.message(ClusterMessage{Op: OpAsk, Event: &Raw{Args: []json.RawMessage{name, arg}}})
		asking.Go(func() { remoteErr = b.ns.rt.clusterRequest(ctx, m, take) })
	}
	missing, err := b.askLocal(ctx, event, [][]byte{arg}, nil, take)
	asking.Wait()
	switch late := ctx.Err(); {
	case missing > 0 || late != nil && remoteErr != nil:
		return acks, askError(errors.Join(late, remoteErr, context.DeadlineExceeded))
	case err != nil:
		return acks, askError(err)
	}
	return acks, remoteErr
}

// askLocal asks the sockets of this node and returns how many did not answer;
// sockets that went away are not missed. The error is of a socket that could not
// be asked. take is called one at a time.
func (b Broadcast) askLocal(
	ctx context.Context, event string, args, attachments [][]byte, take func(ClusterAnswer),
) (missing int, err error) {
	sockets := b.ns.inner.Select(b.target())
	take(ClusterAnswer{Asked: len(sockets)})
	id := b.ns.inner.NextID()
	replies := make(chan socketio.Reply, len(sockets))
	for _, s := range sockets {
		s.Expect(id, func(r socketio.Reply) { replies <- r })
	}
	b.ns.inner.Emit(b.target(), socketio.EventMessages(b.ns.name, id, event, args, attachments)...)
	for n := len(sockets); n > 0; n-- {
		select {
		case r := <-replies:
			switch {
			case r.Err == nil:
				ack := rawOf(r.Args, r.Attachments)
				take(ClusterAnswer{Ack: &ack})
			case errors.Is(r.Err, socketio.ErrTooManyAcks):
				err = r.Err
			}
		case <-ctx.Done():
			for _, s := range sockets {
				s.Forget(id)
			}
			return n, nil
		}
	}
	return 0, err
}

func askError(err error) error {
	switch {
	case errors.Is(err, socketio.ErrClosed):
		return ErrClosed
	case errors.Is(err, socketio.ErrTooManyAcks):
		return ErrTooManyAcks
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return errors.Join(ErrAckTimeout, err)
	}
	return err
}
