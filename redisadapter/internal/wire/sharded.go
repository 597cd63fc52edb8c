// Sharded: the protocol of createShardedAdapter, over SPUBLISH. Its envelope is that of all
// of Node's cluster adapters.

package wire

import (
	"encoding/json"
)

// Sharded is the protocol of createShardedAdapter in @socket.io/redis-adapter.
type Sharded struct{ Limits Limits }

// Types of messages.
const (
	shardedBroadcast  = 3 // an Ask, if it has a request id
	shardedJoin       = 4
	shardedLeave      = 5
	shardedDisconnect = 6
	shardedFetch      = 7
	shardedFetched    = 8
	shardedServerEmit = 9
	shardedEmitted    = 10
	shardedAsked      = 11
	shardedAcked      = 12
	// shardedAskDone is sent between Go nodes only.
	shardedAskDone = 100
)

var shardedTypes = map[Kind]int{
	Broadcast: shardedBroadcast, Ask: shardedBroadcast, Join: shardedJoin, Leave: shardedLeave, Disconnect: shardedDisconnect,
	Fetch: shardedFetch, Fetched: shardedFetched, ServerEmit: shardedServerEmit, Emitted: shardedEmitted,
	Asked: shardedAsked, Acked: shardedAcked, AskDone: shardedAskDone,
}

type envelope struct {
	UID  string        `json:"uid"`
	NSP  string        `json:"nsp"`
	Type int           `json:"type"`
	Data *envelopeData `json:"data,omitempty"`
}

// envelopeData has the fields of all messages. Only Go nodes use Args, Realtime and Count.
type envelopeData struct {
	Opts        *selection         `json:"opts,omitempty"`
	Packet      json.RawMessage    `json:"packet,omitempty"`
	RequestID   string             `json:"requestId,omitempty"`
	Rooms       *names             `json:"rooms,omitempty"`
	Close       *bool              `json:"close,omitempty"`
	Sockets     *[]json.RawMessage `json:"sockets,omitempty"`
	ClientCount *int               `json:"clientCount,omitempty"`
	Args        *[]json.RawMessage `json:"args,omitempty"`
	Realtime    bool               `json:"realtime,omitempty"`
	Count       *int               `json:"count,omitempty"`
}

// Append appends the encoded message to b.
func (c Sharded) Append(b []byte, m *Message) ([]byte, error) {
	typ, ok := shardedTypes[m.Kind]
	if !ok {
		return nil, ErrMalformed
	}
	if len(m.Args.Attachments) > 0 {
		return c.appendBinary(b, m, typ)
	}
	values, err := validValues(m.Args.Values, c.Limits)
	if err != nil {
		return nil, err
	}
	d := &envelopeData{RequestID: m.RequestID, Realtime: m.Native}
	switch m.Kind {
	case Broadcast, Ask:
		d.Opts = broadcastOptions(m)
		d.Packet, err = json.Marshal(jsonPacket{Type: eventPacket, Data: values, NSP: m.Namespace})
	case Join, Leave:
		d.Opts, d.Rooms = selectionOf(m), (*names)(&m.Targets)
	case Disconnect:
		d.Opts, d.Close = selectionOf(m), &m.Close
	case Fetch:
		d.Opts = selectionOf(m)
	case Fetched:
		var list []json.RawMessage
		list, err = jsonSockets(m.Sockets)
		d.Sockets = &list
		if m.Counts {
			d.Count = &m.Count
		}
	case ServerEmit:
		d.Packet, err = json.Marshal(values)
	case Emitted, Acked:
		d.Packet = firstOf(m.Args).Values[0]
		if len(values) != 1 && m.Kind == Acked {
			list := append([]json.RawMessage{}, values...)
			d.Args = &list
		}
	case Asked:
		d.ClientCount = &m.Count
	default: // only the request id
	}
	if err != nil {
		return nil, err
	}
	return marshal(b, envelope{UID: m.UID, NSP: m.Namespace, Type: typ, Data: d}, c.Limits)
}

// appendBinary appends a message with binary values.
func (c Sharded) appendBinary(b []byte, m *Message, typ int) ([]byte, error) {
	var data []byte
	var err error
	n := 1
	switch m.Kind {
	case Broadcast, Ask:
		n++
		data = appendOptions(appendString(data, "opts"), m)
		data, err = appendPacket(appendString(data, "packet"), m, c.Limits)
	case ServerEmit:
		data, err = appendArgs(appendString(data, "packet"), m.Args, c.Limits)
	case Emitted:
		data, err = appendAck(data, firstOf(m.Args), c.Limits)
	case Acked:
		if len(m.Args.Values) != 1 {
			n++
		}
		data, err = appendAck(data, m.Args, c.Limits)
	default:
		return nil, ErrMalformed
	}
	if err != nil {
		return nil, err
	}
	if m.RequestID != "" {
		n++
		data = appendMember(data, "requestId", m.RequestID)
	}
	if m.Native {
		n++
		data = appendBool(appendString(data, "realtime"), true)
	}
	b = appendMember(appendMapHead(b, 4), "uid", m.UID)
	b = appendMember(b, "nsp", m.Namespace)
	b = appendUint(appendString(b, "type"), uint64(typ))
	b = append(appendMapHead(appendString(b, "data"), n), data...)
	return fit(b, c.Limits)
}

// shardedMessage is a decoded envelope in either encoding.
type shardedMessage struct {
	Message
	typ    int
	packet packed // an event's packet, a list of arguments, or one argument
	args   packed
	// opts, asked and sockets report whether these members were present.
	opts, asked, sockets bool
}

// Message decodes a message of either channel, but not the arguments of a Broadcast or
// Ask.
func (c Sharded) Message(msg string) (*Message, error) {
	if len(msg) > c.Limits.Bytes {
		return nil, ErrTooLarge
	}
	s := &shardedMessage{}
	var err error
	if isJSON(msg) {
		err = s.json(msg)
	} else {
		err = s.msgpack(msg)
	}
	if err == nil {
		err = s.finish(c.Limits)
	}
	if err != nil {
		return nil, err
	}
	return &s.Message, nil
}

func (s *shardedMessage) json(msg string) (err error) {
	var e envelope
	if err := unmarshal(msg, &e); err != nil {
		return err
	}
	s.UID, s.Namespace, s.typ = e.UID, e.NSP, e.Type
	d := e.Data
	if d == nil {
		return nil
	}
	s.opts = d.Opts.apply(&s.Message) == nil
	s.RequestID, s.Native = d.RequestID, d.Realtime
	s.packet = packedJSON(d.Packet)
	if d.Args != nil {
		s.args.json = *d.Args
	}
	if d.Rooms != nil {
		s.Targets = *d.Rooms
	}
	if d.Close != nil {
		s.Close = *d.Close
	}
	if d.ClientCount != nil {
		s.Count, s.asked = *d.ClientCount, true
	}
	if d.Sockets != nil {
		s.sockets = true
		if s.Sockets, err = socketsOf(*d.Sockets); err == nil {
			err = s.number(d.Count)
		}
	}
	return err
}

func (s *shardedMessage) msgpack(msg string) error {
	r := &reader{s: msg}
	r.object(func(key string) {
		switch key {
		case "uid":
			s.UID = r.stringOrEmpty()
		case "nsp":
			s.Namespace = r.stringOrEmpty()
		case "type":
			s.typ = r.integer()
		case "data":
			r.object(func(key string) { s.member(r, key) })
		default:
			r.skip()
		}
	})
	return r.done()
}

func (s *shardedMessage) member(r *reader, key string) {
	switch key {
	case "opts":
		s.opts = true
		r.options(&s.Message)
	case "packet":
		s.packet.msgpack = r.value()
	case "args":
		s.args.msgpack = r.value()
	case "requestId":
		s.RequestID = r.stringOrEmpty()
	case "rooms":
		s.Targets = r.names()
	case "close":
		s.Close = r.boolean()
	case "clientCount":
		s.Count, s.asked = r.integer(), true
	case "realtime":
		s.Native = r.boolean()
	case "sockets":
		s.sockets = true
		r.array(func() { s.Sockets = append(s.Sockets, r.socket()) })
	default:
		r.skip()
	}
}

// finish sets the message's kind, and returns an error if a required member is missing.
func (s *shardedMessage) finish(l Limits) (err error) {
	answer := false // the message is an answer, or requires one, so it must have a request id
	if s.typ >= shardedBroadcast && s.typ <= shardedFetch && !s.opts {
		return ErrMalformed
	}
	switch s.typ {
	case shardedBroadcast:
		s.Kind = Broadcast
		if s.RequestID != "" {
			s.Kind = Ask
		}
		return s.event()
	case shardedJoin:
		s.Kind = Join
	case shardedLeave:
		s.Kind = Leave
	case shardedDisconnect:
		s.Kind = Disconnect
	case shardedFetch:
		s.Kind, answer = Fetch, true
	case shardedFetched:
		s.Kind, answer = Fetched, true
		if !s.sockets {
			return ErrMalformed
		}
	case shardedServerEmit:
		s.Kind = ServerEmit
		s.Args, err = s.packet.list(l)
	case shardedEmitted:
		s.Kind, answer = Emitted, true
		s.Args, err = s.packet.one(l)
	case shardedAsked:
		s.Kind, answer = Asked, true
		if !s.asked || s.Count < 0 {
			return ErrMalformed
		}
	case shardedAcked:
		s.Kind, answer = Acked, true
		s.Args, err = ackArgs(s.packet, s.args, l)
	case shardedAskDone:
		s.Kind, answer = AskDone, true
	default:
		return ErrMalformed
	}
	if err == nil && answer && s.RequestID == "" {
		return ErrMalformed
	}
	return err
}

// event reads the packet of a Broadcast or Ask. The namespace is the envelope's.
func (s *shardedMessage) event() error {
	ns := s.Namespace
	defer func() { s.Namespace = ns }()
	if len(s.packet.json) > 0 {
		return s.pack(s.packet.json[0])
	}
	r := &reader{s: s.packet.msgpack}
	r.packet(&s.Message)
	return r.done()
}
