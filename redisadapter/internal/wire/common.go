// The parts of messages that both protocols share: selections, packets, sockets.

package wire

import (
	"encoding/json"
	"errors"
	"math"
	"strconv"

	"github.com/rodando/realtime/internal/jsonscan"
)

// eventPacket is Socket.IO's packet type of an event.
const eventPacket = 2

// selection is Node's BroadcastOptions.
type selection struct {
	Rooms  names   `json:"rooms"`
	Except names   `json:"except"`
	Flags  *flags  `json:"flags,omitempty"`
	Latest string  `json:"latest,omitempty"` // between Go nodes; Node ignores it
	Mark   string  `json:"mark,omitempty"`   // likewise
	Revoke *Revoke `json:"revoke,omitempty"` // between Go nodes
	After  string  `json:"after,omitempty"`  // of a Fetch, between Go nodes, as the next two
	Limit  int     `json:"limit,omitempty"`
	Counts bool    `json:"count,omitempty"`
}

type flags struct {
	Volatile bool            `json:"volatile,omitempty"`
	Timeout  json.RawMessage `json:"timeout,omitempty"`
}

func selectionOf(m *Message) *selection {
	return &selection{
		Rooms: names(m.Rooms), Except: names(m.Except), Revoke: m.Revoke, After: m.After, Limit: m.Limit, Counts: m.Counts,
	}
}

// broadcastOptions returns the selection and the options of an event.
func broadcastOptions(m *Message) *selection {
	s := selectionOf(m)
	s.Flags, s.Latest, s.Mark = &flags{Volatile: m.Volatile}, m.Latest, m.Mark
	if m.Timeout > 0 {
		s.Flags.Timeout = strconv.AppendInt(nil, int64(m.Timeout), 10)
	}
	return s
}

// apply copies the selection to m. A missing one is malformed: it would mean all sockets.
func (s *selection) apply(m *Message) error {
	if s == nil {
		return ErrMalformed
	}
	m.Rooms, m.Except, m.Latest, m.Mark, m.Revoke = s.Rooms, s.Except, s.Latest, s.Mark, s.Revoke
	m.After, m.Limit, m.Counts = s.After, max(s.Limit, 0), s.Counts
	if s.Flags != nil {
		m.Volatile = s.Flags.Volatile
		if f, err := strconv.ParseFloat(string(s.Flags.Timeout), 64); err == nil {
			m.Timeout = milliseconds(f)
		}
	}
	return nil
}

// milliseconds converts a timeout, which may be any number.
func milliseconds(f float64) int {
	if !(f > 0) {
		return 0
	}
	return int(min(math.Ceil(f), math.MaxInt32))
}

// appendOptions writes broadcastOptions in MessagePack.
func appendOptions(b []byte, m *Message) []byte {
	n := 3
	if m.Latest != "" {
		n++
	}
	if m.Mark != "" {
		n++
	}
	b = appendMapHead(b, n)
	b = appendNames(appendString(b, "rooms"), m.Rooms)
	b = appendNames(appendString(b, "except"), m.Except)
	flags := 0
	if m.Volatile {
		flags++
	}
	if m.Timeout > 0 {
		flags++
	}
	b = appendMapHead(appendString(b, "flags"), flags)
	if m.Volatile {
		b = appendBool(appendString(b, "volatile"), true)
	}
	if m.Timeout > 0 {
		b = appendUint(appendString(b, "timeout"), uint64(m.Timeout))
	}
	if m.Latest != "" {
		b = appendMember(b, "latest", m.Latest)
	}
	if m.Mark != "" {
		b = appendMember(b, "mark", m.Mark)
	}
	return b
}

// options reads what appendOptions writes. A missing selection is malformed.
func (r *reader) options(m *Message) {
	if !r.isMap() {
		r.fail(ErrMalformed)
	}
	r.object(func(key string) {
		switch key {
		case "rooms":
			m.Rooms = r.names()
		case "except":
			m.Except = r.names()
		case "latest":
			m.Latest = r.stringOrEmpty()
		case "mark":
			m.Mark = r.stringOrEmpty()
		case "flags":
			r.object(func(key string) {
				switch key {
				case "volatile":
					m.Volatile = r.boolean()
				case "timeout":
					m.Timeout = milliseconds(r.number())
				default:
					r.skip()
				}
			})
		default:
			r.skip()
		}
	})
}

// appendPacket writes an event's packet.
func appendPacket(b []byte, m *Message, l Limits) ([]byte, error) {
	b = appendMapHead(b, 3)
	b = appendUint(appendString(b, "type"), eventPacket)
	b, err := appendArgs(appendString(b, "data"), m.Args, l)
	if err != nil {
		return nil, err
	}
	return appendMember(b, "nsp", m.Namespace), nil
}

// packet reads an event's packet. It does not decode the arguments.
func (r *reader) packet(m *Message) {
	typ := -1
	r.object(func(key string) {
		switch key {
		case "type":
			typ = r.integer()
		case "data":
			m.packed.msgpack = r.value()
		case "nsp":
			m.Namespace = r.stringOrEmpty()
		default:
			r.skip()
		}
	})
	if typ != eventPacket || m.packed.msgpack == "" {
		r.fail(ErrMalformed)
	}
}

// jsonPacket is an event's packet in JSON.
type jsonPacket struct {
	Type int               `json:"type"`
	Data []json.RawMessage `json:"data"`
	NSP  string            `json:"nsp,omitempty"`
}

// names are room names. In Node they may also be numbers.
type names []string

func (n names) MarshalJSON() ([]byte, error) {
	if n == nil {
		return []byte("[]"), nil
	}
	return json.Marshal([]string(n))
}

func (n *names) UnmarshalJSON(b []byte) error {
	var list []json.RawMessage
	if err := json.Unmarshal(b, &list); err != nil {
		return err
	}
	*n = nil
	for _, v := range list {
		s, err := roomName(v)
		if err != nil {
			return err
		}
		*n = append(*n, s)
	}
	return nil
}

func roomName(v json.RawMessage) (string, error) {
	if len(v) > 0 && v[0] == '"' {
		var s string
		err := json.Unmarshal(v, &s)
		return s, err
	}
	f, err := strconv.ParseFloat(string(v), 64)
	if err != nil {
		return "", ErrMalformed
	}
	return string(appendFloat(nil, f)), nil
}

// jsonSocket describes a socket. Node applications expect handshake, so it is sent, but
// empty.
type jsonSocket struct {
	ID        string          `json:"id"`
	Handshake handshake       `json:"handshake"`
	Rooms     names           `json:"rooms"`
	Data      json.RawMessage `json:"data"`
}

type handshake struct {
	Headers struct{} `json:"headers"`
	Query   struct{} `json:"query"`
	Auth    struct{} `json:"auth"`
}

type socketData struct {
	UserID     string `json:"userId,omitempty"`
	UserType   string `json:"userType,omitempty"`
	SessionID  string `json:"sid,omitempty"`
	Connecting bool   `json:"connecting,omitempty"`
	At         string `json:"at,omitempty"` // Socket.ConnectedAt, as text: JavaScript need not read it
}

func jsonSockets(sockets []Socket) (list []json.RawMessage, err error) {
	list = make([]json.RawMessage, 0, len(sockets))
	for _, s := range sockets {
		data, err := json.Marshal(socketData{s.UserID, s.UserType, s.SessionID, s.Connecting, timeText(s.ConnectedAt)})
		if err != nil {
			return nil, err
		}
		text, err := json.Marshal(jsonSocket{ID: s.ID, Rooms: names(s.Rooms), Data: data})
		if err != nil {
			return nil, err
		}
		list = append(list, text)
	}
	return list, nil
}

// timeText returns a time as a decimal number, or "" for 0.
func timeText(micros int64) string {
	if micros == 0 {
		return ""
	}
	return strconv.FormatInt(micros, 10)
}

// timeOf reads what timeText writes, and returns 0 for any other text.
func timeOf(text string) int64 {
	micros, err := strconv.ParseInt(text, 10, 64)
	if err != nil || micros < 0 {
		return 0
	}
	return micros
}

// socketsOf reads what jsonSockets or a Node server writes. Node's handshake and data may
// have any form.
func socketsOf(list []json.RawMessage) (sockets []Socket, err error) {
	for _, text := range list {
		var s struct {
			ID    string          `json:"id"`
			Rooms names           `json:"rooms"`
			Data  json.RawMessage `json:"data"`
		}
		if err := json.Unmarshal(text, &s); err != nil || s.ID == "" {
			return nil, ErrMalformed
		}
		var data struct {
			UserID     json.RawMessage `json:"userId"`
			UserType   json.RawMessage `json:"userType"`
			SID        json.RawMessage `json:"sid"`
			Connecting json.RawMessage `json:"connecting"`
			At         json.RawMessage `json:"at"`
		}
		_ = json.Unmarshal(s.Data, &data) // the application's own data may have any form
		sockets = append(sockets, Socket{
			ID: s.ID, Rooms: s.Rooms, UserID: content(data.UserID), UserType: content(data.UserType), SessionID: content(data.SID),
			Connecting: string(data.Connecting) == "true", ConnectedAt: timeOf(content(data.At)),
		})
	}
	return sockets, nil
}

// content returns a JSON string's content, or "" for any other value.
func content(v json.RawMessage) string {
	s, _ := jsonscan.String(v)
	return string(s)
}

// socket reads one socket of a Fetched answer.
func (r *reader) socket() (s Socket) {
	r.object(func(key string) {
		switch key {
		case "id":
			s.ID = r.stringOrEmpty()
		case "rooms":
			s.Rooms = r.names()
		case "data":
			if !r.isMap() {
				r.skip()
				return
			}
			r.object(func(key string) {
				switch key {
				case "userId":
					s.UserID = r.stringOrEmpty()
				case "userType":
					s.UserType = r.stringOrEmpty()
				case "sid":
					s.SessionID = r.stringOrEmpty()
				case "connecting":
					s.Connecting = r.boolean()
				case "at":
					s.ConnectedAt = timeOf(r.stringOrEmpty())
				default:
					r.skip()
				}
			})
		default:
			r.skip()
		}
	})
	if s.ID == "" {
		r.fail(ErrMalformed)
	}
	return s
}

// firstOf returns the arguments of an ack that Node understands: only the first.
func firstOf(a Args) Args {
	if len(a.Values) == 0 {
		return Args{Values: []json.RawMessage{json.RawMessage("null")}}
	}
	return Args{Values: a.Values[:1], Attachments: a.Attachments}
}

// appendAck writes the member packet with the first argument. If there is not exactly one
// argument, it also writes the member args with all of them.
func appendAck(b []byte, a Args, l Limits) ([]byte, error) {
	first, err := appendArgs(nil, firstOf(a), l)
	if err != nil {
		return nil, err
	}
	b = append(appendString(b, "packet"), first[1:]...) // without the array head
	if len(a.Values) != 1 {
		return appendArgs(appendString(b, "args"), a, l)
	}
	return b, nil
}

// withBuffers returns the arguments as JSON, with binary values as Node writes a Buffer.
func withBuffers(a Args, l Limits) ([]json.RawMessage, error) {
	if len(a.Attachments) == 0 {
		return validValues(a.Values, l)
	}
	packed, err := appendArgs(nil, a, l)
	if err != nil {
		return nil, err
	}
	r := &reader{s: string(packed)}
	values := make([]json.RawMessage, 0, len(a.Values))
	d := decoder{r: r, l: l, buffers: true}
	for range r.token().n {
		values = append(values, d.text())
	}
	return values, r.done()
}

// number reads the number of sockets of a Fetched answer. Node and earlier Go nodes send none.
func (m *Message) number(count *int) error {
	switch {
	case count == nil:
		return nil
	case *count < 0 || *count > math.MaxInt32:
		return ErrMalformed
	}
	m.Counts, m.Count = true, *count
	return nil
}

func unmarshal(msg string, v any) error {
	if err := json.Unmarshal([]byte(msg), v); err != nil {
		return errors.Join(ErrMalformed, err)
	}
	return nil
}

func marshal(b []byte, v any, l Limits) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, errors.Join(ErrMalformed, err)
	}
	return fit(append(b, text...), l)
}

// fit returns an error if the message is too large for other nodes.
func fit(b []byte, l Limits) ([]byte, error) {
	if len(b) > l.Bytes {
		return nil, ErrTooLarge
	}
	return b, nil
}

// isJSON reports whether a message is JSON and not MessagePack. It decides as Node does.
func isJSON(msg string) bool { return msg != "" && msg[0] == '{' }
