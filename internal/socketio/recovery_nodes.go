// Recovery across nodes: the sockets of other nodes, whose clients may come here, and what is emitted
// to them alone.

package socketio

import (
	"encoding/json"
	"time"

	"github.com/rodando/realtime/internal/engineio"
	"github.com/rodando/realtime/internal/eventlog"
)

// Record describes a socket for other nodes.
type Record = eventlog.Record

// RecordNode names the node of a record.
type RecordNode = eventlog.Emitter

// RecoveryID names a socket for other nodes. Unlike a pid it proves nothing.
type RecoveryID = eventlog.ID

// ParseRecoveryID reads the text of an id.
func ParseRecoveryID(text string) (RecoveryID, bool) { return eventlog.ParseID(text) }

// Keep keeps an event of another node for clients that come to this one.
func (n *Namespace) Keep(t Target, e *Outgoing, args []json.RawMessage) {
	n.begin(targetOf(t), e, args)
	n.log.End()
}

// AtHead calls f with the mark of the newest event that this node has emitted, while none is emitted. f must
// not block, nor call the namespace.
func (n *Namespace) AtHead(f func(mark string)) {
	n.log.Pause()
	defer n.log.End()
	f(n.log.Newest().String())
}

// HeardNode is what a node has heard of a third one.
type HeardNode struct {
	Mark  string `json:"mark"`  // of its newest event
	AgoMS int64  `json:"agoMs"` // how long ago, in milliseconds
	// GoneMS is how long ago it was known to have ended, in milliseconds; nil: it was not.
	GoneMS *int64 `json:"goneMs,omitempty"`
}

// Hear records that another node has emitted the events up to a mark, and of which third nodes it has
// heard. Those that it emits later arrive here. It reports whether the marks are valid.
func (n *Namespace) Hear(mark string, others []HeardNode) bool {
	m, ok := eventlog.ParseMark(mark)
	if !ok {
		return false
	}
	n.log.HearAll(m)
	for _, other := range others {
		o, ok := eventlog.ParseMark(other.Mark)
		if !ok || other.AgoMS < 0 || other.GoneMS != nil && *other.GoneMS < 0 {
			return false
		}
		h := eventlog.Heard{Mark: o, Ago: heardAgo(other.AgoMS)}
		if h.Gone = other.GoneMS != nil; h.Gone {
			h.GoneAgo = heardAgo(*other.GoneMS)
		}
		n.log.HearOf(h)
	}
	return true
}

// maxHeardAgo is the maximum age of what another node has heard.
const maxHeardAgo = 24 * time.Hour

func heardAgo(ms int64) time.Duration {
	return time.Duration(min(ms, maxHeardAgo.Milliseconds())) * time.Millisecond
}

// Heard returns the other nodes, for Hear.
func (n *Namespace) Heard() (others []HeardNode) {
	for _, h := range n.log.Heard() {
		other := HeardNode{Mark: h.String(), AgoMS: h.Ago.Milliseconds()}
		if h.Gone {
			gone := h.GoneAgo.Milliseconds()
			other.GoneMS = &gone
		}
		others = append(others, other)
	}
	return others
}

// Gap says that events of a node since a time may be lost, or of all others if the name is empty or unknown: no
// client that is away can recover until these have told what they have emitted.
func (n *Namespace) Gap(node string, since time.Time) {
	e, _ := eventlog.ParseEmitter(node)
	n.log.Gap(e, since)
}

// Silence says that since a time nothing may arrive from other nodes, or with the zero time that it arrives again.
func (n *Namespace) Silence(since time.Time) { n.log.Silence(since) }

// Running records which other nodes ran at a time; the others that were not heard since have ended.
func (n *Namespace) Running(nodes []string, at time.Time) {
	var all []eventlog.Emitter
	for _, node := range nodes {
		if e, ok := eventlog.ParseEmitter(node); ok {
			all = append(all, e)
		}
	}
	n.log.Running(all, at)
}

// HeardSince returns when another node was last heard, if that was after a time.
func (n *Namespace) HeardSince(node string, at time.Time) time.Time {
	if e, ok := eventlog.ParseEmitter(node); ok {
		return n.log.HeardSince(e, at)
	}
	return at
}

// Lost records that another node has ended.
func (n *Namespace) Lost(node string) {
	if e, ok := eventlog.ParseEmitter(node); ok {
		n.log.Lost(e)
	}
}

// Returned records that a node which was lost has not ended.
func (n *Namespace) Returned(node string) {
	if e, ok := eventlog.ParseEmitter(node); ok {
		n.log.Returned(e)
	}
}

// Node is the node of the namespace's records.
func (n *Namespace) Node() string {
	e := n.log.Emitter()
	return string(e[:])
}

// IsNode reports whether a record with that node is of this one.
func (n *Namespace) IsNode(node string) bool {
	e, ok := eventlog.ParseEmitter(node)
	return ok && e == n.log.Emitter()
}

// CheckRecord reports whether the record of another node is valid, and returns its id.
func (n *Namespace) CheckRecord(r *Record) (RecoveryID, bool) {
	a, ok := n.log.Foreign(*r, time.Time{}, nil)
	if !ok || len(a.Socket) != socketIDLength {
		return RecoveryID{}, false
	}
	return a.ID, true
}

// Foreign returns the socket of a valid record, whose node was heard at a time, or nil.
func (n *Namespace) Foreign(r Record, heard time.Time, owner any) *Away {
	a, ok := n.log.Foreign(r, heard, owner)
	if !ok {
		return nil
	}
	return a
}

// AwaySockets returns the sockets whose clients are away from this node.
func (n *Namespace) AwaySockets() []*Away { return n.log.Each() }

// Left returns how long ago a socket has left this node.
func (n *Namespace) Left(a *Away) time.Duration { return n.log.Left(a) }

// RecordOf describes a socket that is away for other nodes. ok is false if its client cannot come to them.
func (n *Namespace) RecordOf(a *Away) (r Record, ok bool) {
	n.log.Pause()
	defer n.log.End()
	return n.log.Record(a), shareable(a)
}

// Received returns the record of a socket that is away, with what its client has received. ok is
// false if the client cannot come back, or the other nodes lack events. unshared is the last time when an event did
// not reach them, or zero.
func (n *Namespace) Received(a *Away, offset *string, unshared time.Time) (r Record, ok bool) {
	return n.log.Received(a, offset, unshared)
}

// Moved ends a socket of this node whose client has come to another node for the turn'th time.
func (n *Namespace) Moved(id RecoveryID, socket string, turn int) {
	n.log.Forget(id, turn)
	s := n.ConnectedAs(id, socket)
	if s == nil || !s.Opened() || s.turn() >= turn {
		return
	}
	s.conn.session.Abort(engineio.ReasonTransportClose)
	s.end(string(engineio.ReasonTransportClose))
	n.log.Forget(id, turn)
}

func (s *Socket) turn() int {
	s.ns.log.Pause()
	defer s.ns.log.End()
	if s.mem.more == nil {
		return 0
	}
	return s.mem.more.turn
}
