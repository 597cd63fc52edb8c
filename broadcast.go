// Broadcast: a selection of the sockets of a namespace, and the operations on them. Each
// operation is applied to the sockets of this node first, then handed to the adapter for the
// other nodes.

package realtime

import (
	"encoding/json"
	"math"
	"slices"

	"github.com/rodando/realtime/internal/socketio"
)

// Broadcast selects sockets of one namespace, by room or all of them, each once
// however many of the rooms it is in. It is an immutable value: each method returns a
// new one, which may be kept and used concurrently. The zero Broadcast, one made from it,
// and one without rooms select no socket.
//
// Events, Join, Leave, Disconnect and Close take effect on the sockets of this node before the
// call returns, and on those of the other nodes later, without an error if a node cannot be
// reached. They apply to the sockets that are selected at that time, not to later ones.
type Broadcast struct {
	ns       *Namespace // nil: the zero Broadcast, or one made from it
	all      bool
	rooms    []string
	except   []string // rooms and socket ids: no room has the name of a socket's id
	volatile bool
	local    bool
	key      string
}

// To selects the sockets that are in any of the rooms.
func (ns *Namespace) To(rooms ...Room) Broadcast { return Broadcast{ns: ns}.To(rooms...) }

// All selects every socket of the namespace. The library itself sends no domain event to all
// of /drivers or /passengers, so that no user receives what is about another.
func (ns *Namespace) All() Broadcast { return Broadcast{ns: ns, all: true} }

// To adds rooms: the result selects the sockets that are in any room of the calls of To. On
// ns.All() it selects only the sockets in the rooms, and ns.All().To() selects none.
func (b Broadcast) To(rooms ...Room) Broadcast {
	b.all, b.rooms = false, with(b.rooms, rooms)
	return b
}

// with returns the names in to and those of rooms, as a new slice.
func with(to []string, rooms []Room) []string {
	if len(to) == 0 {
		return names(rooms)
	}
	return append(slices.Clip(to), names(rooms)...)
}

// Except leaves out the sockets that are in any of the rooms.
func (b Broadcast) Except(rooms ...Room) Broadcast {
	b.except = with(b.except, rooms)
	return b
}

// ExceptSocket leaves out one socket. It panics if s is nil.
func (b Broadcast) ExceptSocket(s *Socket) Broadcast {
	if s == nil {
		panicNoSocket("ExceptSocket")
	}
	b.except = append(slices.Clip(b.except), s.ID())
	return b
}

// Volatile drops the event for each socket whose connection is not writable, that is, when a
// write to it would block. A socket of another node that has joined the room a moment ago may
// also miss it: nodes announce their rooms to each other, usually within 0.1 s.
func (b Broadcast) Volatile() Broadcast {
	b.volatile = true
	return b
}

// Latest makes the event replace an unsent event with the same key, for sockets whose
// connection is not writable. Each namespace has its own keys. An event with attachments
// replaces nothing.
func (b Broadcast) Latest(key string) Broadcast {
	b.key = key
	return b
}

// Local selects only sockets of this node.
func (b Broadcast) Local() Broadcast {
	b.local = true
	return b
}

// EmitRaw emits an event with its arguments in wire format, without waiting for the network.
// The caller must not change args afterwards. It returns an error for a name for which NewEvent
// panics, if an argument is not JSON or has a placeholder without attachment, and if the event
// exceeds Limits.OutboxBytes by itself; nil does not mean that a client receives the event.
func (b Broadcast) EmitRaw(event string, args Raw) error {
	if err := checkRaw(event, args); err != nil {
		return err
	}
	_, err := b.send(event, args.Args, args.Attachments)
	return err
}

// checkRaw returns an error unless an event can be emitted by EmitRaw.
func checkRaw(event string, args Raw) error {
	if err := checkEventName(event); err != nil {
		return errorf("EmitRaw: %w", err)
	}
	if err := args.check(); err != nil {
		return errorf("EmitRaw of %s: %w", event, err)
	}
	return nil
}

// emit is EmitRaw with one argument.
func (b Broadcast) emit(event string, arg []byte) error {
	_, err := b.send(event, []json.RawMessage{arg}, nil)
	return err
}

// send emits to this node's sockets, then to the other nodes. It returns the number of receivers on
// this node.
func (b Broadcast) send(event string, args []json.RawMessage, attachments [][]byte) (receivers int, err error) {
	if err := b.fits(event, args, attachments); err != nil {
		return 0, err
	}
	if b.nobody() {
		return 0, nil
	}
	remote := b.remote() && (!b.volatile || b.elsewhere())
	if b.keeps() {
		return b.sendKept(event, args, attachments, remote), nil
	}
	out := b.outgoing(event, attachments)
	receivers = b.emitLocal(&out, args)
	if remote {
		b.publish(ClusterMessage{Op: OpBroadcast, Event: packEvent(event, args, attachments)})
	}
	return receivers, nil
}

// outgoing returns an event for the sockets of this node.
func (b Broadcast) outgoing(event string, attachments [][]byte) (out socketio.Outgoing) {
	out = socketio.Outgoing{Name: event, Attachments: attachments, Volatile: b.volatile}
	if b.key != "" {
		out.Key = b.ns.name + " " + b.key // a connection carries other namespaces too
	}
	return out
}

// keeps reports whether every node keeps the event, for clients that have lost their connection.
func (b Broadcast) keeps() bool {
	return b.ns != nil && !b.volatile && b.key == "" && b.ns.inner.Keeps()
}

// sendKept is send for an event that every node keeps. The other nodes get the events of a namespace in
// the order in which this one has kept them.
func (b Broadcast) sendKept(event string, args []json.RawMessage, attachments [][]byte, remote bool) (receivers int) {
	var then func()
	out := b.outgoing(event, attachments)
	out.Here = !remote
	out.Share = func(mark string) {
		m := b.message(ClusterMessage{Op: OpBroadcast, Event: packEvent(event, args, attachments), Mark: mark})
		if !remote {
			m = m.kept()
		}
		then = b.ns.rt.clusterHand(m)
	}
	receivers = b.emitLocal(&out, args)
	if then != nil {
		then()
	}
	return receivers
}

// fits is sendable for an event to the selected sockets.
func (b Broadcast) fits(event string, args []json.RawMessage, attachments [][]byte) error {
	if b.ns == nil {
		return nil
	}
	return sendable(b.ns.rt, event, args, attachments)
}

// nobody reports whether the broadcast can select no socket on any node.
func (b Broadcast) nobody() bool { return b.ns == nil || !b.all && len(b.rooms) == 0 }

// emptyLocal reports whether no socket of this node, and no client that may recover here, is in the
// selected rooms.
func (b Broadcast) emptyLocal() bool {
	return b.ns == nil || !b.keeps() && !b.ns.inner.Wanted(b.target())
}

// emitLocal queues the event on each socket of this node, and returns their number.
func (b Broadcast) emitLocal(out *socketio.Outgoing, args []json.RawMessage) (receivers int) {
	if b.emptyLocal() {
		return 0
	}
	receivers, size := b.ns.inner.EmitEvent(b.target(), out, args)
	b.traceEmitted(out.Name, receivers, size)
	return receivers
}

func (b Broadcast) target() socketio.Target {
	return socketio.Target{All: b.all, Rooms: b.rooms, Except: b.except}
}

// selectLocal returns the selected sockets of this node.
func (b Broadcast) selectLocal() []*socketio.Socket {
	if b.nobody() {
		return nil
	}
	return b.ns.inner.Select(b.target())
}

// remote reports whether other nodes may have selected sockets.
func (b Broadcast) remote() bool { return !b.local && !b.nobody() && b.ns.rt.clustered }

// elsewhere reports whether another node may have selected sockets.
func (b Broadcast) elsewhere() bool { return b.all || b.ns.rt.peerRooms.elsewhere(b.ns, b.rooms) }

// publish sends a message for the selected sockets to the other nodes. It also does so
// while the server shuts down, so that messages sent during the shutdown get out.
func (b Broadcast) publish(m ClusterMessage) {
	_ = b.ns.rt.clusterPublish(b.message(m)) // logged
}

func (b Broadcast) message(m ClusterMessage) ClusterMessage {
	m.Namespace, m.All, m.Rooms, m.Except, m.Volatile, m.Key = b.ns.name, b.all, b.rooms, b.except, b.volatile, b.key
	return m
}

// selection returns the sockets of this node that a message of another node selects.
func (m ClusterMessage) selection(ns *Namespace) Broadcast {
	return Broadcast{ns: ns, all: m.All, rooms: m.Rooms, except: m.Except, volatile: m.Volatile, key: m.Key, local: true}
}

// maxRemoteRooms is the maximum number of rooms of a socket into which messages of other nodes put
// it. Whoever can publish as a node could otherwise fill the memory.
const maxRemoteRooms = 4096

// Join puts the selected sockets into rooms, on all nodes. A socket of another node that is in 4096
// rooms joins no further ones; on this node there is no such limit.
func (b Broadcast) Join(rooms ...Room) { b.move(OpJoin, names(rooms)) }

// Leave takes the selected sockets out of rooms, on all nodes.
func (b Broadcast) Leave(rooms ...Room) { b.move(OpLeave, names(rooms)) }

func (b Broadcast) move(op ClusterOp, targets []string) {
	if op == OpJoin {
		b.joinLocal(targets, math.MaxInt)
	} else {
		b.leaveLocal(targets)
	}
	if b.remote() {
		b.publish(ClusterMessage{Op: op, Targets: targets})
	}
}

// joinLocal puts the selected sockets of this node into rooms, up to that many rooms of a socket. It
// reports whether it has left out any.
func (b Broadcast) joinLocal(targets []string, limit int) (refused bool) {
	if b.ns != nil {
		b.ns.rt.peerRooms.expect(b.ns, targets)
	}
	for _, s := range b.selectLocal() {
		if limit == math.MaxInt {
			s.Join(targets...)
		} else if s.JoinUpTo(limit, targets...) {
			refused = true
		}
	}
	return refused
}

func (b Broadcast) leaveLocal(targets []string) {
	for _, s := range b.selectLocal() {
		s.Leave(targets...)
	}
}

// Disconnect disconnects the selected sockets, on all nodes, as Socket.Disconnect does. It
// is not a revocation: the users may connect again. See Server.DisconnectUser and
// Server.DisconnectSession for that.
func (b Broadcast) Disconnect() {
	b.disconnectLocal()
	if b.remote() {
		b.publish(ClusterMessage{Op: OpDisconnect})
	}
}

func (b Broadcast) disconnectLocal() {
	for _, s := range b.selectLocal() {
		b.ns.refuseOrDisconnect(s, CodeInvalidSession)
	}
}

// Close closes the connections of the selected sockets, on all nodes, as
// Socket.Close does.
func (b Broadcast) Close() {
	b.closeLocal()
	if b.remote() {
		b.publish(ClusterMessage{Op: OpDisconnect, Close: true})
	}
}

func (b Broadcast) closeLocal() {
	for _, s := range b.selectLocal() {
		s.Conn().Close(socketio.ReasonForcedClose)
	}
}
