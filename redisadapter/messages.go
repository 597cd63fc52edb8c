// Translation between realtime's messages and those of the wire.

package redisadapter

import (
	"encoding/json"
	"errors"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/redisadapter/internal/wire"
)

// isState reports whether a message is about the servers' own state. Only Go nodes
// exchange such messages, on channels of their own.
func isState(m realtime.ClusterMessage) bool { return m.Op == realtime.OpState }

var kinds = map[realtime.ClusterOp]wire.Kind{
	realtime.OpBroadcast:    wire.Broadcast,
	realtime.OpJoin:         wire.Join,
	realtime.OpLeave:        wire.Leave,
	realtime.OpDisconnect:   wire.Disconnect,
	realtime.OpServerEmit:   wire.ServerEmit,
	realtime.OpFetchSockets: wire.Fetch,
	realtime.OpAsk:          wire.Ask,
}

// ops is the inverse of kinds. kindOf and fromWire add the operations that Node does not
// have.
var ops = func() map[wire.Kind]realtime.ClusterOp {
	m := map[wire.Kind]realtime.ClusterOp{}
	for op, kind := range kinds {
		m[kind] = op
	}
	return m
}()

// kindOf returns an operation's kind on the wire. Node handles a revocation as a
// disconnection. A count is a request for the sockets, which Go nodes answer with a number. An
// event that nodes answer differs from the others by its RequestID.
func kindOf(op realtime.ClusterOp) (wire.Kind, bool) {
	switch op {
	case realtime.OpRevoke:
		return wire.Disconnect, true
	case realtime.OpCount:
		return wire.Fetch, true
	case realtime.OpServerAsk:
		return wire.ServerEmit, true
	default:
		kind, ok := kinds[op]
		return kind, ok
	}
}

var (
	errOp    = errors.New("redisadapter: unknown operation")
	errEvent = errors.New("redisadapter: a message without an event")
	// errNoReceivers is not returned to the server: nothing is sent. On the wire a selection
	// without rooms means all sockets.
	errNoReceivers = errors.New("redisadapter: a message without receivers")
)

// toWire translates a message of the server.
func toWire(m realtime.ClusterMessage) (wire.Message, error) {
	kind, ok := kindOf(m.Op)
	switch {
	case !ok:
		return wire.Message{}, errOp
	case !m.All && len(m.Rooms) == 0 && kind != wire.ServerEmit:
		return wire.Message{}, errNoReceivers
	case m.All:
		m.Rooms = nil
	}
	w := wire.Message{
		Kind: kind, Namespace: m.Namespace, Rooms: m.Rooms, Except: m.Except, Targets: m.Targets,
		Close: m.Close, Volatile: m.Volatile, Latest: m.Key, Mark: m.Mark,
	}
	if m.Op == realtime.OpRevoke && m.Revoke != nil {
		w.Revoke = &wire.Revoke{UserID: m.Revoke.UserID, SessionID: m.Revoke.SessionID}
	}
	switch kind {
	case wire.Broadcast, wire.ServerEmit, wire.Ask:
		if m.Event == nil || len(m.Event.Args) == 0 {
			return wire.Message{}, errEvent
		}
		w.Args = toArgs(*m.Event)
	case wire.Fetch:
		w.After, w.Limit, w.Counts = m.After, max(m.Limit, 0), m.Op == realtime.OpCount
	default: // without an event
	}
	return w, nil
}

// fromWire translates a message of another node.
func fromWire(w *wire.Message) realtime.ClusterMessage {
	m := realtime.ClusterMessage{
		Version: realtime.ClusterVersion, Op: ops[w.Kind], Namespace: w.Namespace,
		All: len(w.Rooms) == 0 && w.Kind != wire.ServerEmit, Rooms: w.Rooms, Except: w.Except, Targets: w.Targets,
		Close: w.Close, Volatile: w.Volatile, Key: w.Latest, Mark: w.Mark,
	}
	switch w.Kind {
	case wire.Broadcast, wire.ServerEmit, wire.Ask:
		m.Event = fromArgs(w.Args)
		if w.Kind == wire.ServerEmit && w.RequestID != "" {
			m.Op = realtime.OpServerAsk
		}
	case wire.Disconnect:
		if w.Revoke != nil {
			m.Op, m.Revoke = realtime.OpRevoke, &realtime.Revocation{UserID: w.Revoke.UserID, SessionID: w.Revoke.SessionID}
		}
	case wire.Fetch:
		m.After, m.Limit = w.After, w.Limit
		if w.Counts {
			m.Op = realtime.OpCount
		}
	default: // without an event
	}
	return m
}

// allSockets selects all sockets of a namespace.
func allSockets(namespace string) realtime.ClusterMessage {
	return realtime.ClusterMessage{Version: realtime.ClusterVersion, Op: realtime.OpFetchSockets, Namespace: namespace, All: true}
}

func toArgs(r realtime.Raw) wire.Args { return wire.Args{Values: r.Args, Attachments: r.Attachments} }

func fromArgs(a wire.Args) *realtime.Raw {
	r := &realtime.Raw{Args: a.Values, Attachments: a.Attachments}
	if len(r.Args) == 0 {
		r.Args = nil
	}
	return r
}

func toSocket(s realtime.RemoteSocket) wire.Socket {
	return wire.Socket{
		ID: s.ID, Rooms: roomNames(s.Rooms), Connecting: s.Connecting,
		UserID: s.Identity.UserID, UserType: string(s.Identity.UserType), SessionID: s.Identity.SessionID,
		ConnectedAt: s.ConnectedAt,
	}
}

func fromSocket(namespace string, s wire.Socket) *realtime.RemoteSocket {
	return &realtime.RemoteSocket{
		ID: s.ID, Namespace: namespace, Rooms: roomsOf(s.Rooms), Connecting: s.Connecting,
		ConnectedAt: s.ConnectedAt, Identity: realtime.Identity{UserID: s.UserID, UserType: realtime.UserType(s.UserType), SessionID: s.SessionID},
	}
}

func roomNames(rooms []realtime.Room) []string {
	names := make([]string, len(rooms))
	for i, r := range rooms {
		names[i] = r.String()
	}
	return names
}

// roomsOf returns the rooms, without the names that no room can have: in Node, each
// socket is also in a room named by its id.
func roomsOf(names []string) []realtime.Room {
	rooms := make([]realtime.Room, 0, len(names))
	for _, name := range names {
		var r realtime.Room
		if err := r.UnmarshalText([]byte(name)); err == nil && name != "" {
			rooms = append(rooms, r)
		}
	}
	return rooms
}

// stateVersion must be raised when older nodes must not apply the messages of newer ones.
const stateVersion = 1

// state is a message about the servers' own state.
type state struct {
	Version int                     `json:"v"`
	UID     string                  `json:"uid"`
	Message realtime.ClusterMessage `json:"m"`
}

func encodeState(uid string, m realtime.ClusterMessage) ([]byte, error) {
	return json.Marshal(state{stateVersion, uid, m}) //nolint:musttag // ClusterMessage has Go's names, and only Go reads it
}

// decodeState refuses messages of another version, messages that are not about state, and those
// whose sender's id no node can have: the server stores it.
func decodeState(msg string) (uid string, m realtime.ClusterMessage, err error) {
	var s state
	if err := json.Unmarshal([]byte(msg), &s); err != nil { //nolint:musttag // as above
		return "", m, err
	}
	if s.Version != stateVersion || !isState(s.Message) || !isUID(s.UID) {
		return "", m, wire.ErrMalformed
	}
	return s.UID, s.Message, nil
}
