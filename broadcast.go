// Broadcast: a selection of the sockets of a namespace, and the operations on them. Each
// operation is applied to the sockets of this node first, then handed to the adapter for the
// other nodes.

package realtime

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"sync"

	"github.com/rodando/realtime/internal/hostcall"
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
// panics, and if an argument is not JSON or has a placeholder without attachment; nil does not
// mean that a client receives the event.
func (b Broadcast) EmitRaw(event string, args Raw) error {
	if err := checkRaw(event, args); err != nil {
		return err
	}
	b.send(event, args.Args, args.Attachments)
	return nil
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
	b.send(event, []json.RawMessage{arg}, nil)
	return nil
}

// send emits to this node's sockets, then to the other nodes.
func (b Broadcast) send(event string, args []json.RawMessage, attachments [][]byte) {
	b.emitLocal(event, args, attachments)
	if b.remote() && (!b.volatile || b.elsewhere()) {
		b.publish(ClusterMessage{Op: OpBroadcast, Event: packEvent(event, args, attachments)})
	}
}

// nobody reports whether the broadcast can select no socket on any node.
func (b Broadcast) nobody() bool { return b.ns == nil || !b.all && len(b.rooms) == 0 }

// emptyLocal reports whether no socket of this node is in the selected rooms.
func (b Broadcast) emptyLocal() bool {
	if b.ns == nil {
		return true
	}
	return !b.all && !slices.ContainsFunc(b.rooms, b.ns.inner.Has)
}

// emitLocal encodes the event once and queues it on each socket of this node.
func (b Broadcast) emitLocal(event string, args []json.RawMessage, attachments [][]byte) {
	if b.emptyLocal() {
		return
	}
	var one [1]*socketio.Message
	ms := socketio.AppendEventMessages(one[:0], b.ns.name, socketio.NoID, event, args, attachments)
	for _, m := range ms {
		m.Volatile = b.volatile
	}
	if b.key != "" && len(ms) == 1 {
		ms[0].Key = b.ns.name + " " + b.key // a connection carries other namespaces too
	}
	b.ns.traceEmitted(event, b.ns.inner.Emit(b.target(), ms...), ms)
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

// Sockets describes the selected sockets of all nodes. It blocks until every node has
// answered. If ctx ends before that, or a node cannot answer, it returns the sockets found so
// far and an error. Use SocketsPage for large selections.
func (b Broadcast) Sockets(ctx context.Context) ([]RemoteSocket, error) {
	return b.sockets(ctx, "", 0)
}

// SocketsPage describes at most n of the selected sockets of all nodes, in the order of
// their ids, beginning after the id after: "" for the first page, then the last id of the
// previous page. The last page has fewer than n sockets; if n is not positive, there are none.
// A socket that connects or closes between two pages is in one of them or in none. It blocks
// and fails as Sockets does.
func (b Broadcast) SocketsPage(ctx context.Context, after string, n int) ([]RemoteSocket, error) {
	if n <= 0 {
		return nil, nil
	}
	return b.sockets(ctx, after, n)
}

// pageSlack is how many more sockets than a page has are collected before the page is cut.
const pageSlack = 1024

func (b Broadcast) sockets(ctx context.Context, after string, n int) ([]RemoteSocket, error) {
	id := func(s RemoteSocket) string { return s.ID }
	found := b.socketsLocal(after, n)
	if !b.remote() {
		return found, nil
	}
	m := b.message(ClusterMessage{Op: OpFetchSockets, After: after, Limit: n})
	err := b.ns.rt.clusterRequest(ctx, m, func(a ClusterAnswer) {
		if a.Socket == nil {
			return
		}
		found = append(found, *a.Socket)
		if n > 0 && len(found)-n > max(n, pageSlack) { // a node may answer with more than n
			found = page(found, id, after, n)
		}
	})
	return page(found, id, after, n), prefixed(err)
}

// socketsLocal describes the selected sockets of this node, or one page of them if n > 0.
func (b Broadcast) socketsLocal(after string, n int) []RemoteSocket {
	var found []RemoteSocket
	for _, inner := range page(b.selectLocal(), (*socketio.Socket).ID, after, n) {
		s, ok := socketOf(inner)
		if !ok {
			continue
		}
		found = append(found, RemoteSocket{
			ID: s.ID(), Namespace: b.ns.name, Identity: s.Identity(), Rooms: s.Rooms(), Connecting: !inner.Opened(),
			ConnectedAt: int64(inner.Order()),
		})
	}
	return found
}

// page returns the n values with the lowest ids after the id after, in order, or all
// values unsorted if n is 0. It reuses the memory of all.
func page[T any](all []T, id func(T) string, after string, n int) []T {
	if n <= 0 {
		return all
	}
	byID := func(a, b T) int { return cmp.Compare(id(a), id(b)) }
	first, full := all[:0], false
	for _, v := range all {
		if id(v) <= after || full && id(v) > id(first[n-1]) {
			continue
		}
		if first = append(first, v); len(first) == 2*n {
			slices.SortFunc(first, byID)
			first, full = first[:n], true
		}
	}
	slices.SortFunc(first, byID)
	return first[:min(n, len(first))]
}

// Count returns the number of selected sockets, on all nodes. Like Sockets it includes
// those whose handshake is in progress. It blocks until every node has answered. If ctx ends
// before that, or a node cannot answer, it returns the number so far and an error. With Local,
// counting one room or All takes constant time.
func (b Broadcast) Count(ctx context.Context) (int, error) {
	n := b.countLocal()
	if !b.remote() {
		return n, nil
	}
	err := b.ns.rt.clusterRequest(ctx, b.message(ClusterMessage{Op: OpCount}), func(a ClusterAnswer) { n += max(0, a.Count) })
	return n, prefixed(err)
}

func (b Broadcast) countLocal() int {
	switch {
	case b.nobody():
		return 0
	case len(b.except) == 0 && b.all:
		return b.ns.inner.Len()
	case len(b.except) == 0 && len(b.rooms) == 1 && b.ns.inner.HasRoom(b.rooms[0]):
		return b.ns.inner.RoomLen(b.rooms[0])
	}
	return len(b.selectLocal())
}

// ask emits an event to the selected sockets of all nodes and returns their acks.
func (b Broadcast) ask(ctx context.Context, event string, arg []byte) ([]Raw, error) {
	if b.nobody() {
		return nil, nil
	}
	ctx, cancel := b.ns.rt.ackContext(ctx)
	defer cancel()
	var mu sync.Mutex // guards acks
	var acks []Raw
	collect := func(a ClusterAnswer) {
		if a.Ack != nil {
			mu.Lock()
			acks = append(acks, *a.Ack)
			mu.Unlock()
		}
	}
	args := []json.RawMessage{arg}
	var asking sync.WaitGroup
	var remoteErr error
	if b.remote() {
		m := b.message(ClusterMessage{Op: OpAsk, Event: packEvent(event, args, nil)})
		asking.Go(func() { remoteErr = b.ns.rt.clusterRequest(ctx, m, collect) })
	}
	missing, err := b.askLocal(ctx, event, args, nil, collect)
	asking.Wait()
	switch late := ctx.Err(); {
	case missing > 0 || late != nil && remoteErr != nil:
		late = cmp.Or(late, context.DeadlineExceeded)
		if remoteErr != nil {
			return acks, errorf("%w: %w: %w", ErrAckTimeout, late, remoteErr)
		}
		return acks, errorf("%w: %w", ErrAckTimeout, late)
	case err != nil:
		return acks, askError(err)
	}
	return acks, prefixed(remoteErr)
}

// askLocal emits an event to the selected sockets of this node and calls answer for each ack,
// one at a time. It returns the number of sockets that did not answer in time, without those
// that closed. err is socketio.ErrTooManyAcks if the event was not sent to one of them.
func (b Broadcast) askLocal(
	ctx context.Context, event string, args []json.RawMessage, attachments [][]byte, answer func(ClusterAnswer),
) (missing int, err error) {
	sockets := b.selectLocal()
	answer(ClusterAnswer{Asked: len(sockets)})
	id := b.ns.inner.NextID()
	replies := make(chan socketio.Reply, len(sockets))
	ms := socketio.EventMessages(b.ns.name, id, event, args, attachments)
	asked, receivers := 0, 0
	for _, s := range sockets {
		switch failed := s.Expect(id, func(r socketio.Reply) { replies <- r }); {
		case failed == nil:
			asked++
			if s.Send(ms...) { // otherwise the socket is closed, or about to be, and the reply is ErrClosed
				receivers++
			}
		case errors.Is(failed, socketio.ErrTooManyAcks):
			err = failed
		}
	}
	b.ns.traceEmitted(event, receivers, ms)
	for n := asked; n > 0; n-- {
		select {
		case r := <-replies:
			if r.Err == nil {
				ack := rawOf(r.Args, r.Attachments)
				answer(ClusterAnswer{Ack: &ack})
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

// askError returns the error of the exported API for an error of an ask.
func askError(err error) error {
	switch {
	case errors.Is(err, socketio.ErrClosed):
		return ErrClosed
	case errors.Is(err, socketio.ErrTooManyAcks):
		return ErrTooManyAcks
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return errorf("%w: %w", ErrAckTimeout, hostcall.Original(err))
	}
	return prefixed(err)
}
