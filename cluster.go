// The cluster: node applies the messages and requests of other nodes to the sockets of this
// node, and sends nothing to other nodes itself.

package realtime

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"

	"github.com/rodando/realtime/internal/jsonscan"
	"github.com/rodando/realtime/internal/socketio"
)

// node is the server as its adapter sees it.
type node struct{ rt *Server }

// Deliver implements Node.
func (n node) Deliver(m ClusterMessage) {
	ns, ok := n.namespaceOf(m)
	if !ok {
		return
	}
	b := m.selection(ns)
	switch m.Op {
	case OpBroadcast:
		if slices.Contains(m.Except, trackedMark) {
			return
		}
		name, args, ok := unpackEvent(m.Event)
		if !ok {
			n.drop(m, DropMalformed)
			return
		}
		if err := b.fits(name, args, m.Event.Attachments); err != nil {
			ns.notEmitted(name, err)
			return
		}
		out := b.outgoing(name, m.Event.Attachments)
		out.Mark, out.Foreign = m.Mark, m.Mark == ""
		receivers := b.emitLocal(&out, args)
		if n.rt.log.Enabled(context.Background(), slog.LevelDebug) {
			n.rt.log.Debug("realtime: event of another node emitted", "namespace", ns.name, "event", name, "rooms", m.Rooms, "all", m.All, "receivers", receivers)
		}
	case OpJoin, OpLeave:
		targets := slices.DeleteFunc(slices.Clone(m.Targets), func(name string) bool { return !validRoomName(name) })
		if len(targets) < len(m.Targets) {
			n.drop(m, DropMalformed)
		}
		if m.Op == OpLeave {
			b.leaveLocal(targets)
		} else if b.joinLocal(targets, maxRemoteRooms) {
			n.drop(m, DropLimit)
		}
	case OpDisconnect:
		if m.Close {
			b.closeLocal()
		} else {
			b.disconnectLocal()
		}
	case OpRevoke:
		if m.Revoke == nil || m.Revoke.room(ns) == (Room{}) {
			n.drop(m, DropMalformed)
			return
		}
		n.rt.forgetRows()
		ns.revokeLocal(*m.Revoke)
	case OpState:
		if !ns.applyState(m.State, m.From) {
			n.drop(m, DropMalformed)
		}
	case OpServerEmit:
		if !ns.listen(m.Event) {
			n.drop(m, DropMalformed)
		}
	default:
		n.drop(m, DropUnknownOp)
	}
}

// Answer implements Node.
func (n node) Answer(ctx context.Context, m ClusterMessage, answer func(ClusterAnswer)) {
	ns, ok := n.namespaceOf(m)
	if !ok {
		return
	}
	b := m.selection(ns)
	switch m.Op {
	case OpFetchSockets:
		for _, s := range b.socketsLocal(m.After, m.Limit) {
			answer(ClusterAnswer{Socket: &s})
		}
	case OpCount:
		answer(ClusterAnswer{Count: b.countLocal()})
	case OpAsk:
		name, args, ok := unpackEvent(m.Event)
		if !ok {
			n.drop(m, DropMalformed)
			return
		}
		if err := b.fits(name, args, m.Event.Attachments); err != nil {
			ns.notEmitted(name, err)
			return
		}
		b.askLocal(ctx, name, args, m.Event.Attachments, answer) //nolint:errcheck // the asking node counts the missing acks
	case OpServerAsk:
		if !ns.listen(m.Event) {
			n.drop(m, DropMalformed)
			return
		}
		answer(ClusterAnswer{Reply: ns.answerServer(ctx, m.Event)})
	default:
		n.drop(m, DropUnknownOp)
	}
}

// HasRoom implements Node. A socket's id is a room too.
func (n node) HasRoom(namespace, room string) bool {
	ns := n.rt.lookup(namespace)
	return ns != nil && (ns.inner.Keeps() || ns.inner.Wanted(socketio.Target{Rooms: []string{room}}))
}

// namespaceOf returns the namespace of a message. It drops a message of another version or
// for an unknown namespace.
func (n node) namespaceOf(m ClusterMessage) (ns *Namespace, ok bool) {
	if m.Version != ClusterVersion {
		n.drop(m, DropVersion)
		return nil, false
	}
	if ns = n.rt.lookup(m.Namespace); ns == nil {
		n.drop(m, DropUnknownNamespace)
		return nil, false
	}
	return ns, true
}

// drop reports a message that the node does not apply.
func (n node) drop(m ClusterMessage, why DropReason) {
	if f := n.rt.opts.Trace.ClusterDropped; f != nil {
		callTrace(n.rt, context.Background(), f, ClusterDroppedInfo{Op: m.Op, Version: m.Version, Namespace: m.Namespace, State: subjectOf(m.State), Reason: why})
	}
	n.rt.log.Warn("realtime: message of another node dropped", "reason", why, "op", m.Op, "version", m.Version, "namespace", m.Namespace, "state", subjectOf(m.State))
}

// notEmitted logs that an event of another node does not fit: a node with a higher limit has sent it.
func (ns *Namespace) notEmitted(event string, err error) {
	ns.rt.log.Error("realtime: event not emitted", "namespace", ns.name, "event", event, "error", err)
}

// packEvent returns an event with its name as first argument.
func packEvent(name string, args []json.RawMessage, attachments [][]byte) *Raw {
	e := &struct {
		raw  Raw
		args [2]json.RawMessage // most events have one argument
	}{}
	e.raw = Raw{Args: append(append(e.args[:0], socketio.JSONString(name)), args...), Attachments: attachments}
	return &e.raw
}

// unpackEvent returns the name and the arguments of an event that packEvent packed.
func unpackEvent(e *Raw) (name string, args []json.RawMessage, ok bool) {
	if e == nil || len(e.Args) == 0 {
		return "", nil, false
	}
	text, ok := jsonscan.String(e.Args[0])
	return string(text), e.Args[1:], ok
}
