// A namespace's queue of received messages. A goroutine decodes them and passes them to the
// server, one at a time, so that the connection's reader never waits for the host.

package redisadapter

import (
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rodando/realtime/internal/hostcall"
	"github.com/rodando/realtime/internal/stackroom"
	"github.com/rodando/realtime/redisadapter/internal/wire"
)

// namespace is one namespace's queue of received messages.
type namespace struct {
	a      *Adapter
	name   string
	prefix string // of the channels of broadcasts
	// subscribed are closed when the namespace's channels are subscribed to.
	subscribed []<-chan struct{}

	mu      sync.Mutex // guards the rest
	queue   []incoming
	bytes   int
	running bool
	dropped int
	lost    time.Time // the first dropped message reached Redis then or later

	pushed, handled uint64        // messages that were queued, and that left the queue
	mark            uint64        // pushed at the time marked
	marked          time.Time     // zero: never
	waited          time.Duration // how long the last message before that waited
}

// incoming is a message that has not been decoded.
type incoming struct {
	from         source
	channel, msg string
}

func newNamespace(a *Adapter, name string) *namespace {
	return &namespace{a: a, name: name, prefix: a.protocol.prefix(name)}
}

// push is called by the connections' readers with a message that reached Redis at since or later.
// It drops the message if the queue is full or the message is too large.
func (ns *namespace) push(in incoming, since time.Time) {
	if in.from < fromState && ns.drops(in.from, in.channel, in.msg) {
		return
	}
	ns.mu.Lock()
	defer ns.mu.Unlock()
	o := &ns.a.opts
	if len(in.msg) > o.MaxMessage || len(ns.queue) >= o.QueuedMessages || ns.bytes+len(in.msg) > o.QueuedBytes && len(ns.queue) > 0 {
		if ns.dropped == 0 {
			ns.lost = since
		}
		ns.dropped++
		return
	}
	ns.queue = append(ns.queue, in)
	ns.bytes += len(in.msg)
	ns.pushed++
	if !ns.running && ns.a.enter() {
		ns.running = true
		go ns.run()
	}
}

// delay returns about how long queued messages wait. It is called regularly. No message has a time:
// the one that is the last in the queue at a call is timed until a call finds that it has left.
func (ns *namespace) delay(now time.Time) time.Duration {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	if ns.marked.IsZero() {
		ns.marked = now
	}
	if ns.handled >= ns.mark {
		ns.mark, ns.marked, ns.waited = ns.pushed, now, now.Sub(ns.marked)
		if len(ns.queue) == 0 {
			ns.waited = 0
		}
		return ns.waited
	}
	return ns.waitLocked(now)
}

// waitLocked returns about how long queued messages wait, as delay does.
func (ns *namespace) waitLocked(now time.Time) time.Duration {
	switch {
	case ns.handled < ns.mark:
		return max(now.Sub(ns.marked), ns.waited)
	case len(ns.queue) == 0:
		return 0
	}
	return ns.waited
}

// queued returns how many messages were queued so far.
func (ns *namespace) queued() uint64 {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	return ns.pushed
}

// delivered reports whether the first n messages that were queued have been handled.
func (ns *namespace) delivered(n uint64) bool {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	return ns.handled > n || !ns.running // the last one that has left the queue may still be under way
}

// drops reports whether a message is not for this node, as far as that can be seen without
// decoding it. A queued message may be a join to the room of a broadcast, so that only an empty
// queue lets it ask for rooms. msg may be the beginning of the message.
func (ns *namespace) drops(from source, channel, msg string) bool {
	if ns.a.protocol.own(msg) {
		return true
	}
	return from == fromBroadcasts && ns.idle() && ns.lacks(channel)
}

// idle reports whether no message is queued or handled.
func (ns *namespace) idle() bool {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	return !ns.running
}

// lacks reports whether a channel of broadcasts is that of one room, which this node does not
// have.
func (ns *namespace) lacks(channel string) bool {
	room := strings.TrimPrefix(channel, ns.prefix)
	return room != "" && !ns.hasRoom(room[:len(room)-1])
}

// run handles the queued messages. It ends when the queue is empty or the adapter closes.
func (ns *namespace) run() {
	stackroom.Reserve() // the server encodes and delivers
	done := false
	defer func() {
		if !done { // the node has ended this goroutine with runtime.Goexit
			go ns.run()
			return
		}
		ns.a.leave()
	}()
	for {
		ns.mu.Lock()
		if len(ns.queue) == 0 || ns.a.isClosed() {
			ns.queue, ns.bytes, ns.running, ns.handled = nil, 0, false, ns.pushed
			dropped, lost := ns.dropped, ns.lost
			ns.dropped = 0
			ns.mu.Unlock()
			if dropped > 0 {
				ns.a.overflowed(ns.name, dropped, lost)
			}
			done = true
			return
		}
		in := ns.queue[0]
		ns.queue[0] = incoming{}
		ns.queue = ns.queue[1:]
		ns.bytes -= len(in.msg)
		ns.handled++
		ns.mu.Unlock()
		ns.handle(in)
	}
}

// guard calls f; it recovers a panic, of the host or on a hostile message, and logs it.
func (a *Adapter) guard(what string, f func()) {
	defer func() {
		if p := recover(); p != nil {
			a.log.Error("redisadapter: panic", "on", what, "error", hostcall.PanicText(p), "stack", string(debug.Stack()))
		}
	}()
	f()
}

func (ns *namespace) handle(in incoming) {
	ns.a.guard("a message", func() {
		if err := ns.receive(in); err != nil {
			ns.a.malformed(ns.name, err)
		}
	})
}

func (ns *namespace) receive(in incoming) error {
	if in.from == fromState {
		uid, m, err := decodeState(in.msg)
		if err != nil || uid == ns.a.uid {
			return err
		}
		m.Namespace, m.From = ns.name, uid
		ns.a.node.Deliver(m)
		return nil
	}
	if in.from == fromNodes {
		ns.a.requests.nodeLeft(ns.name, in.msg)
		return nil
	}
	m, err := ns.a.protocol.decode(ns, in.from, in.channel, in.msg)
	if m == nil || err != nil || m.UID == ns.a.uid {
		return err
	}
	m.Namespace = ns.name
	if m.Kind >= wire.Fetched {
		ns.a.requests.addAnswer(m)
		return nil
	}
	return ns.apply(m, len(in.msg))
}

// apply applies a message of that size, of another node or of an emitter.
func (ns *namespace) apply(m *wire.Message, size int) error {
	switch m.Kind {
	case wire.Broadcast:
		if !ns.hasAny(m.Rooms) {
			return nil
		}
		if err := m.Open(ns.a.limits); err != nil {
			return err
		}
		ns.a.node.Deliver(fromWire(m))
	case wire.Join, wire.Leave, wire.Disconnect:
		here := m.Legacy && ns.hasRoom(m.Rooms[0])
		ns.a.node.Deliver(fromWire(m)) // even without the room: a disconnect also concerns handshakes
		if here {
			ns.a.reply(m, wire.Message{Kind: wire.Applied})
		}
	case wire.ServerEmit:
		if m.RequestID != "" {
			return ns.a.answer(m, size)
		}
		r := fromWire(m)
		if len(m.Args.Values) > 0 {
			ns.a.guard("a server-side emit", func() { ns.a.node.Deliver(r) })
		}
	case wire.Ask:
		if err := m.Open(ns.a.limits); err != nil {
			return err
		}
		return ns.a.answer(m, size)
	case wire.Fetch, wire.ListIDs, wire.ListRooms:
		return ns.a.answer(m, size)
	default: // an answer; receive has handled it
	}
	return nil
}

func (ns *namespace) hasRoom(room string) bool { return ns.a.node.HasRoom(ns.name, room) }

// hasAny reports whether this node has one of the rooms. No rooms means all sockets.
func (ns *namespace) hasAny(rooms []string) bool {
	return len(rooms) == 0 || slices.ContainsFunc(rooms, ns.hasRoom)
}
