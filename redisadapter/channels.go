// Names and slots of channels in either protocol.

package redisadapter

import (
	"strconv"
	"strings"

	"github.com/rodando/realtime/redisadapter/internal/wire"
)

// source is the kind of channel that a message came on.
type source uint8

const (
	fromBroadcasts source = iota + 1
	fromRequests
	fromAnswers
	fromState
	fromNodes // no message: the id of a node that has left
)

// subscription is a channel, or a pattern, that a namespace subscribes to.
type subscription struct {
	name    string
	pattern bool
	source  source
}

// protocol is the protocol of one of Node's two adapters.
type protocol interface {
	Append(b []byte, m *wire.Message) ([]byte, error)
	// subscriptions returns what a namespace subscribes to. The first is the channel of
	// requests; other nodes count its subscribers.
	subscriptions(namespace string) []subscription
	// channel returns the channel for a message. An answer goes to the node that asked.
	channel(m *wire.Message, asker string) string
	// decode decodes a message from a channel of a namespace. It returns nil if the
	// message is not for this node: it is its own, for another namespace, or for a room
	// that this node does not have. It may return a message of this node's own.
	decode(ns *namespace, from source, channel, msg string) (*wire.Message, error)
	// prefix begins the names of a namespace's channels of broadcasts.
	prefix(namespace string) string
	// own reports whether a message is this node's own, where that can be seen at once.
	own(msg string) bool
}

// classic is the protocol of createAdapter.
type classic struct {
	wire.Classic
	key, uid string
}

func (c classic) prefix(namespace string) string { return c.key + "#" + namespace + "#" }

func (c classic) own(msg string) bool { return c.Sender(msg) == c.uid }

func (c classic) requests(namespace string) string { return c.key + "-request#" + namespace + "#" }

func (c classic) answers(namespace string) string { return c.key + "-response#" + namespace + "#" }

func (c classic) subscriptions(ns string) []subscription {
	return []subscription{
		{name: c.requests(ns), source: fromRequests},
		{name: c.answers(ns) + c.uid + "#", source: fromAnswers},
		{name: c.answers(ns), source: fromAnswers},
		{name: literal(c.prefix(ns)) + "*", pattern: true, source: fromBroadcasts},
	}
}

func (c classic) channel(m *wire.Message, asker string) string {
	switch {
	case m.Kind == wire.Broadcast && len(m.Rooms) == 1:
		return c.key + "#" + m.Namespace + "#" + m.Rooms[0] + "#"
	case m.Kind == wire.Broadcast:
		return c.prefix(m.Namespace)
	case m.Kind < wire.Fetched:
		return c.requests(m.Namespace)
	case !isUID(asker) || m.Kind == wire.Emitted: // as Node does
		return c.answers(m.Namespace)
	}
	return c.answers(m.Namespace) + asker + "#"
}

func (c classic) decode(ns *namespace, from source, channel, msg string) (m *wire.Message, err error) {
	switch from {
	case fromBroadcasts:
		if ns.lacks(channel) || c.own(msg) {
			return nil, nil
		}
		if m, err = c.Broadcast(msg); err == nil && m.Namespace != ns.name {
			return nil, nil
		}
	case fromRequests:
		m, err = c.Request(msg)
		if err == nil && m.Namespace != "" && m.Namespace != ns.name {
			return nil, wire.ErrMalformed
		}
	case fromAnswers:
		m, err = c.Answer(msg)
	case fromState, fromNodes: // receive handles these
	}
	return m, err
}

// sharded is the protocol of createShardedAdapter.
type sharded struct {
	wire.Sharded
	key, uid string
}

func (s sharded) prefix(namespace string) string { return s.key + "#" + namespace + "#" }

// own reports whether a message in JSON begins with this node's id, as Append and Node write it.
func (s sharded) own(msg string) bool {
	rest, ok := strings.CutPrefix(msg, `{"uid":"`)
	return ok && strings.HasPrefix(rest, s.uid) && strings.HasPrefix(rest[len(s.uid):], `"`)
}

func (s sharded) subscriptions(ns string) []subscription {
	return []subscription{
		{name: s.prefix(ns), source: fromRequests},
		{name: s.prefix(ns) + s.uid + "#", source: fromAnswers},
	}
}

func (s sharded) channel(m *wire.Message, asker string) string {
	if m.Kind >= wire.Fetched && isUID(asker) {
		return s.prefix(m.Namespace) + asker + "#"
	}
	return s.prefix(m.Namespace)
}

func (s sharded) decode(ns *namespace, _ source, _, msg string) (*wire.Message, error) {
	m, err := s.Message(msg)
	if err == nil && m.Namespace != ns.name {
		return nil, nil
	}
	return m, err
}

// stateChannel is the channel on which Go nodes exchange a namespace's state. Its tag puts
// it into the slot of the namespace's other channels. So it uses the same connection, and
// messages keep their order.
func stateChannel(key, namespace string) string {
	return "realtime:{" + key + "#" + namespace + "#}:state"
}

// nodesChannel is the channel of the Go nodes' heartbeats.
func nodesChannel(key string) string { return "realtime:{" + key + "}:nodes" }

// probeChannel is the channel of a node's own probes. It is in the slot of the channel
// like, to which the link subscribes.
func probeChannel(like, uid string) string {
	probe := func(tag string) string { return "realtime:{" + tag + "}:probe:" + uid }
	if t := tag(like); !strings.Contains(t, "}") {
		return probe(t)
	}
	for n := 0; ; n++ { // no tag can hold a brace: another one of the same slot
		if p := probe(strconv.Itoa(n)); slot(p) == slot(like) {
			return p
		}
	}
}

// literal escapes the special characters of a pattern.
func literal(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`).Replace(s)
}

// isUID reports whether another node's id is safe as part of a channel's name, and not
// "emitter", which stands for a process that is not a node.
func isUID(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return s != "emitter"
}

// tag returns the part of a channel's name that determines its slot.
func tag(channel string) string {
	if _, rest, ok := strings.Cut(channel, "{"); ok {
		if tag, _, ok := strings.Cut(rest, "}"); ok && tag != "" {
			return tag
		}
	}
	return channel
}

// slot returns a channel's slot in a Redis Cluster: CRC16/XMODEM of its tag.
func slot(channel string) uint16 {
	var crc uint16
	for _, c := range []byte(tag(channel)) {
		crc ^= uint16(c) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return crc % 16384
}
