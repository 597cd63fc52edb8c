// Everything that knows both realtime's messages and those of the wire.

package redisadapter

import (
	"encoding/json"
	"errors"
	"strings"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/redisadapter/internal/wire"
)

// ownEvents begins the names of the events by which servers keep their own
// state together.
const ownEvents = "realtime:"

// isState reports whether a message is about the servers' own state, which is
// between Go nodes. Node never sees it, and it is not believed from there.
func isState(m realtime.ClusterMessage) bool {
	if m.Op != realtime.OpServerEmit || m.Event == nil || len(m.Event.Args) == 0 {
		return false
	}
	var name string
	return json.Unmarshal(m.Event.Args[0], &name) == nil && strings.HasPrefix(name, ownEvents)
}

var kinds = map[realtime.ClusterOp]wire.Kind{
	realtime.OpBroadcast:    wire.Broadcast,
	realtime.OpJoin:         wire.Join,
	realtime.OpLeave:        wire.Leave,
	realtime.OpDisconnect:   wire.Disconnect,
	realtime.OpServerEmit:   wire.ServerEmit,
	realtime.OpFetchSockets: wire.Fetch,
	realtime.OpAsk:          wire.Ask,
}

var ops = func() map[wire.Kind]realtime.ClusterOp {
	m := map[wire.Kind]realtime.ClusterOp{}
	for op, kind := range kinds {
		m[kind] = op
	}
	return m
}()

var (
	errOp    = errors.New("redisadapter: an operation that it does not know")
	errEvent = errors.New("redisadapter: a message without an event")
)

// toWire translates what the server says.
func toWire(m realtime.ClusterMessage) (wire.Message, error) {
	kind, ok := kinds[m.Op]
	if !ok {
		return wire.Message{}, errOp
	}
	w := wire.Message{
		Kind: kind, Namespace: m.Namespace, Rooms: m.Rooms, Except: m.Except, Targets: m.Targets,
		Close: m.Close, Volatile: m.Volatile, Latest: m.Key,
	}
	switch kind {
	case wire.Broadcast, wire.ServerEmit, wire.Ask:
		if m.Event == nil || len(m.Event.Args) == 0 {
			return wire.Message{}, errEvent
		}
		w.Args = toArgs(*m.Event)
	}
	return w, nil
}

// fromWire translates what another node says.
func fromWire(w *wire.Message) realtime.ClusterMessage {
	m := realtime.ClusterMessage{
		Op: ops[w.Kind], Namespace: w.Namespace, Rooms: w.Rooms, Except: w.Except, Targets: w.Targets,
		Close: w.Close, Volatile: w.Volatile, Key: w.Latest,
	}
	switch w.Kind {
	case wire.Broadcast, wire.ServerEmit, wire.Ask:
		m.Event = fromArgs(w.Args)
	}
	return m
}

// everybody asks for all sockets of a namespace.
func everybody(namespace string) realtime.ClusterMessage {
	return realtime.ClusterMessage{Op: realtime.OpFetchSockets, Namespace: namespace}
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
		ID: s.ID, Rooms: s.Rooms, Connecting: s.Connecting,
		UserID: s.Identity.UserID, UserType: string(s.Identity.UserType), SessionID: s.Identity.SessionID,
	}
}

func fromSocket(namespace string, s wire.Socket) *realtime.RemoteSocket {
	return &realtime.RemoteSocket{
		ID: s.ID, Namespace: namespace, Rooms: s.Rooms, Connecting: s.Connecting,
		Identity: realtime.Identity{UserID: s.UserID, UserType: realtime.UserType(s.UserType), SessionID: s.SessionID},
	}
}

// stateVersion is raised when nodes of an older version must not apply what
// newer ones send.
const stateVersion = 1

// state is a message about the servers' own state.
type state struct {
	Version int                     `json:"v"`
	UID     string                  `json:"uid"`
	Message realtime.ClusterMessage `json:"m"`
}

func encodeState(uid string, m realtime.ClusterMessage) ([]byte, error) {
	return json.Marshal(state{stateVersion, uid, m})
}

// decodeState refuses what is not about state, and other versions.
func decodeState(msg string) (uid string, m realtime.ClusterMessage, err error) {
	var s state
	if err := json.Unmarshal([]byte(msg), &s); err != nil {
		return "", m, err
	}
	if s.Version != stateVersion || !isState(s.Message) {
		return "", m, wire.ErrMalformed
	}
	return s.UID, s.Message, nil
}
