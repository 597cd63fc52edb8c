// Classic: the protocol of createAdapter and of @socket.io/redis-emitter, over PUBLISH.

package wire

import (
	"encoding/json"
	"slices"
)

// Classic is the protocol of createAdapter in @socket.io/redis-adapter.
type Classic struct{ Limits Limits }

// Types of requests and of answers.
const (
	classicIDs        = 0
	classicRooms      = 1
	classicJoin       = 2
	classicLeave      = 3
	classicDisconnect = 4
	classicFetch      = 5
	classicServerEmit = 6
	classicAsk        = 7
	classicAsked      = 8
	classicAcked      = 9
)

var classicTypes = map[Kind]int{
	ListIDs: classicIDs, ListRooms: classicRooms, Join: classicJoin, Leave: classicLeave, Disconnect: classicDisconnect,
	Fetch: classicFetch, ServerEmit: classicServerEmit, Ask: classicAsk,
	Asked: classicAsked, Acked: classicAcked, Emitted: classicServerEmit,
}

// classicJSON has the fields of all JSON messages of the protocol. Node ignores Done, Count,
// and the UID of an answer; Go nodes use them.
type classicJSON struct {
	UID       string          `json:"uid,omitempty"`
	RequestID string          `json:"requestId,omitempty"`
	Type      *int            `json:"type,omitempty"`
	Opts      *selection      `json:"opts,omitempty"`
	Rooms     *names          `json:"rooms,omitempty"`
	SID       *string         `json:"sid,omitempty"`
	Room      json.RawMessage `json:"room,omitempty"`
	Close     *bool           `json:"close,omitempty"`
	Packet    json.RawMessage `json:"packet,omitempty"`
	// Data are the arguments of a server-side emit, or the one argument of its answer.
	Data json.RawMessage `json:"data,omitempty"`

	Sockets     *[]json.RawMessage `json:"sockets,omitempty"`
	ClientCount *int               `json:"clientCount,omitempty"`
	Args        *[]json.RawMessage `json:"args,omitempty"`
	Done        bool               `json:"done,omitempty"`
	Count       *int               `json:"count,omitempty"`
}

// Append appends the encoded message to b.
func (c Classic) Append(b []byte, m *Message) ([]byte, error) {
	var err error
	switch m.Kind {
	case Broadcast:
		b = appendString(appendArrayHead(slices.Grow(b, broadcastSize(m)), 3), m.UID)
		if b, err = appendPacket(b, m, c.Limits); err != nil {
			return nil, err
		}
		return fit(appendOptions(b, m), c.Limits)
	case Ask:
		return c.appendAsk(b, m)
	case Acked:
		n := 4
		if len(m.Args.Values) != 1 {
			n++
		}
		b = appendUint(appendString(appendMapHead(b, n), "type"), classicAcked)
		b = appendMember(b, "requestId", m.RequestID)
		b = appendMember(b, "uid", m.UID)
		if b, err = appendAck(b, m.Args, c.Limits); err != nil {
			return nil, err
		}
		return fit(b, c.Limits)
	default: // the other kinds are JSON
	}
	j := classicJSON{UID: m.UID, RequestID: m.RequestID}
	if t, ok := classicTypes[m.Kind]; ok {
		j.Type = &t
	}
	switch m.Kind {
	case Join, Leave:
		j.Opts, j.Rooms = selectionOf(m), (*names)(&m.Targets)
	case Disconnect:
		j.Opts, j.Close = selectionOf(m), &m.Close
	case Fetch:
		j.Opts = selectionOf(m)
	case ListIDs:
		j.Rooms = (*names)(&m.Rooms)
	case ListRooms, Applied:
	case ServerEmit:
		values, err := withBuffers(m.Args, c.Limits)
		if err != nil {
			return nil, err
		}
		j.Data, err = json.Marshal(values)
		if err != nil {
			return nil, err
		}
	case Fetched:
		list, err := jsonSockets(m.Sockets)
		if err != nil {
			return nil, err
		}
		j.Sockets = &list
		if m.Counts {
			j.Count = &m.Count
		}
	case ListedIDs:
		list := make([]json.RawMessage, 0, len(m.Names))
		for _, id := range m.Names {
			text, err := json.Marshal(id)
			if err != nil {
				return nil, err
			}
			list = append(list, text)
		}
		j.Sockets = &list
	case ListedRooms:
		j.Rooms = (*names)(&m.Names)
	case Asked:
		j.ClientCount = &m.Count
	case AskDone:
		j.Done = true
	case Emitted:
		values, err := withBuffers(firstOf(m.Args), c.Limits)
		if err != nil {
			return nil, err
		}
		j.Data = values[0]
	default:
		return nil, ErrMalformed
	}
	return marshal(b, j, c.Limits)
}

// broadcastSize is about the length of an encoded broadcast, rather more than less. MessagePack
// takes less room than JSON.
func broadcastSize(m *Message) int {
	n := 128 + len(m.UID) + len(m.Namespace) + len(m.Latest) + len(m.Mark)
	for _, list := range [...][]string{m.Rooms, m.Except} {
		for _, s := range list {
			n += len(s) + 5
		}
	}
	for _, v := range m.Args.Values {
		n += len(v)
	}
	for _, v := range m.Args.Attachments {
		n += len(v) + 5
	}
	return n
}

func (c Classic) appendAsk(b []byte, m *Message) ([]byte, error) {
	n := 5
	if m.Native {
		n++
	}
	b = appendMember(appendMapHead(b, n), "uid", m.UID)
	b = appendMember(b, "requestId", m.RequestID)
	b = appendUint(appendString(b, "type"), classicAsk)
	b, err := appendPacket(appendString(b, "packet"), m, c.Limits)
	if err != nil {
		return nil, err
	}
	b = appendOptions(appendString(b, "opts"), m)
	if m.Native {
		b = appendBool(appendString(b, "realtime"), true)
	}
	return fit(b, c.Limits)
}

// Head returns the beginning of all broadcasts that a node encodes with Append.
func (Classic) Head(uid string) []byte { return appendString(appendArrayHead(nil, 3), uid) }

// Sender returns the UID of a broadcast without decoding the rest.
func (Classic) Sender(msg string) string {
	r := &reader{s: msg}
	if t := r.token(); t.kind != kindArray || t.n == 0 {
		return ""
	}
	return r.token().s
}

// Broadcast decodes a message of the broadcast channel, but not its arguments. A packet
// without a namespace is for "/".
func (c Classic) Broadcast(msg string) (*Message, error) {
	if len(msg) > c.Limits.Bytes {
		return nil, ErrTooLarge
	}
	r := &reader{s: msg}
	if t := r.token(); t.kind != kindArray || t.n != 3 {
		return nil, ErrMalformed
	}
	m := &Message{Kind: Broadcast}
	m.UID = r.stringOrEmpty()
	r.packet(m)
	r.options(m)
	if m.Namespace == "" {
		m.Namespace = "/"
	}
	return m, r.done()
}

// Request decodes a message of the request channel.
func (c Classic) Request(msg string) (*Message, error) {
	if len(msg) > c.Limits.Bytes {
		return nil, ErrTooLarge
	}
	if !isJSON(msg) {
		return c.ask(msg)
	}
	var j classicJSON
	if err := unmarshal(msg, &j); err != nil {
		return nil, err
	}
	m := &Message{UID: j.UID, RequestID: j.RequestID}
	if j.Type == nil {
		return nil, ErrMalformed
	}
	if j.Opts != nil || *j.Type == classicFetch || *j.Type == classicAsk {
		if err := j.Opts.apply(m); err != nil {
			return nil, err
		}
	}
	switch *j.Type {
	case classicIDs:
		m.Kind = ListIDs
		if j.Rooms != nil {
			m.Rooms = *j.Rooms
		}
	case classicRooms:
		m.Kind = ListRooms
	case classicJoin, classicLeave, classicDisconnect:
		m.Kind = map[int]Kind{classicJoin: Join, classicLeave: Leave, classicDisconnect: Disconnect}[*j.Type]
		m.Close = j.Close != nil && *j.Close
		if j.Rooms != nil {
			m.Targets = *j.Rooms
		}
		if j.Opts == nil {
			return m, legacy(m, &j)
		}
	case classicFetch:
		m.Kind = Fetch
	case classicServerEmit:
		m.Kind = ServerEmit
		var err error
		m.Args, err = packedJSON(j.Data).list(c.Limits)
		return m, err
	case classicAsk:
		m.Kind = Ask
		return m, m.pack(j.Packet)
	default:
		return nil, ErrMalformed
	}
	return m, nil
}

// legacy reads the selection of one socket by its id.
func legacy(m *Message, j *classicJSON) error {
	if j.SID == nil || *j.SID == "" {
		return ErrMalformed
	}
	m.Legacy, m.Rooms, m.Targets = true, []string{*j.SID}, nil
	if m.Kind == Disconnect {
		return nil
	}
	room, err := roomName(j.Room)
	m.Targets = []string{room}
	return err
}

// pack reads an event's packet. It does not decode the arguments.
func (m *Message) pack(packet json.RawMessage) error {
	var p jsonPacket
	if json.Unmarshal(packet, &p) != nil || p.Type != eventPacket || len(p.Data) == 0 {
		return ErrMalformed
	}
	m.packed.json = p.Data
	if p.NSP != "" {
		m.Namespace = p.NSP
	}
	return nil
}

// ask decodes an Ask, the only request in MessagePack.
func (c Classic) ask(msg string) (*Message, error) {
	m := &Message{Kind: Ask}
	r := &reader{s: msg}
	typ, opts := -1, false
	r.object(func(key string) {
		switch key {
		case "uid":
			m.UID = r.stringOrEmpty()
		case "requestId":
			m.RequestID = r.stringOrEmpty()
		case "type":
			typ = r.integer()
		case "packet":
			r.packet(m)
		case "opts":
			opts = true
			r.options(m)
		case "realtime":
			m.Native = r.boolean()
		default:
			r.skip()
		}
	})
	if err := r.done(); err != nil {
		return nil, err
	}
	if typ != classicAsk || m.RequestID == "" || m.packed.msgpack == "" || !opts {
		return nil, ErrMalformed
	}
	return m, nil
}

// Answer decodes a message of a response channel.
func (c Classic) Answer(msg string) (*Message, error) {
	if len(msg) > c.Limits.Bytes {
		return nil, ErrTooLarge
	}
	if !isJSON(msg) {
		return c.acked(msg)
	}
	var j classicJSON
	if err := unmarshal(msg, &j); err != nil {
		return nil, err
	}
	m := &Message{UID: j.UID, RequestID: j.RequestID}
	if m.RequestID == "" {
		return nil, ErrMalformed
	}
	var err error
	switch {
	case j.Done:
		m.Kind = AskDone
	case j.Type != nil && *j.Type == classicAsked:
		m.Kind = Asked
		if j.ClientCount == nil || *j.ClientCount < 0 {
			return nil, ErrMalformed
		}
		m.Count = *j.ClientCount
	case j.Type != nil && *j.Type == classicAcked:
		m.Kind = Acked
		var args packed
		if j.Args != nil {
			args.json = *j.Args
		}
		m.Args, err = ackArgs(packedJSON(j.Packet), args, c.Limits)
	case j.Type != nil && *j.Type == classicServerEmit:
		m.Kind = Emitted
		m.Args, err = packedJSON(j.Data).one(c.Limits)
	case j.Sockets != nil:
		list := *j.Sockets
		if len(list) > 0 && len(list[0]) > 0 && list[0][0] == '"' {
			m.Kind = ListedIDs
			for _, id := range list {
				m.Names = append(m.Names, content(id))
			}
			break
		}
		m.Kind = Fetched
		if m.Sockets, err = socketsOf(list); err == nil {
			err = m.number(j.Count)
		}
	case j.Rooms != nil:
		m.Kind, m.Names = ListedRooms, *j.Rooms
	default:
		m.Kind = Applied
	}
	return m, err
}

func (c Classic) acked(msg string) (*Message, error) {
	m := &Message{Kind: Acked}
	r := &reader{s: msg}
	typ := -1
	var packet, args packed
	r.object(func(key string) {
		switch key {
		case "uid":
			m.UID = r.stringOrEmpty()
		case "requestId":
			m.RequestID = r.stringOrEmpty()
		case "type":
			typ = r.integer()
		case "packet":
			packet.msgpack = r.value()
		case "args":
			args.msgpack = r.value()
		default:
			r.skip()
		}
	})
	err := r.done()
	switch {
	case err != nil:
		return nil, err
	case typ != classicAcked || m.RequestID == "":
		return nil, ErrMalformed
	}
	m.Args, err = ackArgs(packet, args, c.Limits)
	return m, err
}
