// Messages of both protocols, compared with those that the npm packages publish.

package wire_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/redisadapter/internal/wire"
)

var (
	classic = wire.Classic{Limits: limits}
	sharded = wire.Sharded{Limits: limits}
)

func args(texts ...string) wire.Args {
	var a wire.Args
	for _, t := range texts {
		a.Values = append(a.Values, json.RawMessage(t))
	}
	return a
}

func withBinary(a wire.Args, attachments ...[]byte) wire.Args {
	a.Attachments = attachments
	return a
}

var photo = []byte{0, 1, 0xff}

// decode decodes a golden message, by its channel.
func decode(t testing.TB, name, channel, msg string) *wire.Message {
	var m *wire.Message
	var err error
	switch {
	case strings.HasPrefix(name, "sharded"):
		m, err = sharded.Message(msg)
	case strings.HasPrefix(channel, "socket.io-request#"):
		m, err = classic.Request(msg)
	case strings.HasPrefix(channel, "socket.io-response#"):
		m, err = classic.Answer(msg)
	default:
		m, err = classic.Broadcast(msg)
	}
	require.NoError(t, err, name)
	require.NoError(t, m.Open(limits), name)
	return m
}

func TestMessages_OfNode(t *testing.T) {
	news := func(texts ...string) wire.Args { return args(append([]string{`"news"`}, texts...)...) }
	node := "nodeuid"
	want := map[string]wire.Message{
		"broadcast to all":               {Kind: wire.Broadcast, Args: news(`{"a":1,"at":"ñ"}`)},
		"broadcast to one room":          {Kind: wire.Broadcast, Rooms: []string{"driver:1"}, Args: news(`1`)},
		"broadcast to two rooms but one": {Kind: wire.Broadcast, Rooms: []string{"driver:1", "trip:2"}, Except: []string{"sid1"}, Args: news()},
		"volatile broadcast":             {Kind: wire.Broadcast, Rooms: []string{"driver:1"}, Volatile: true, Args: news(`null`)},
		"binary broadcast": {Kind: wire.Broadcast, Rooms: []string{"driver:1"}, Args: withBinary(
			args(`"photo"`, `{"photo":{"_placeholder":true,"num":0},"n":[{"_placeholder":true,"num":1}]}`), photo, photo)},
		"numeric room":         {Kind: wire.Broadcast, Rooms: []string{"7", "8"}, Args: news()},
		"join":                 {Kind: wire.Join, Rooms: []string{"driver:1"}, Except: []string{"x"}, Targets: []string{"trip:1", "trip:2"}},
		"leave":                {Kind: wire.Leave, Rooms: []string{"driver:1"}, Targets: []string{"trip:1"}},
		"disconnect":           {Kind: wire.Disconnect, Rooms: []string{"driver:1"}},
		"disconnect and close": {Kind: wire.Disconnect, Close: true},
		"fetch":                {Kind: wire.Fetch, RequestID: "*", Rooms: []string{"driver:1"}, Except: []string{"x"}},
		"server emit":          {Kind: wire.ServerEmit, Args: args(`"hello"`, `{"n":1}`)},
		"server emit with ack": {Kind: wire.ServerEmit, RequestID: "*", Args: args(`"hello"`, `1`)},
		"ask":                  {Kind: wire.Ask, RequestID: "*", Timeout: 50, Rooms: []string{"driver:1"}, Args: args(`"where"`, `{"q":1}`)},
		"binary ask":           {Kind: wire.Ask, RequestID: "*", Timeout: 50, Args: withBinary(args(`"where"`, `{"_placeholder":true,"num":0}`), photo)},
		"all rooms":            {Kind: wire.ListRooms, RequestID: "*"},
		"answer to fetch": {Kind: wire.Fetched, RequestID: "*", Sockets: []wire.Socket{
			{ID: "sid1", Rooms: []string{"sid1", "driver:1"}, UserID: "u1", SessionID: "s1"}}}, // without the token and the phone number
		"answer to list ids":   {Kind: wire.ListedIDs, RequestID: "*", Names: []string{"sid1"}},
		"answer to list rooms": {Kind: wire.ListedRooms, RequestID: "*", Names: []string{"sid1", "driver:1"}},
		"answer to ask":        {Kind: wire.Asked, RequestID: "*", Count: 1}, // the first of four answers

		"emitter: broadcast":            {Kind: wire.Broadcast, Args: news(`{"a":[1.5]}`)},
		"emitter: to one room":          {Kind: wire.Broadcast, Rooms: []string{"driver:1"}, Volatile: true, Args: withBinary(news(`{"_placeholder":true,"num":0}`), photo)},
		"emitter: to two rooms but one": {Kind: wire.Broadcast, Rooms: []string{"a", "b"}, Except: []string{"c"}, Args: news()},
		"emitter: join":                 {Kind: wire.Join, Rooms: []string{"driver:1"}, Targets: []string{"trip:1"}},
		"emitter: leave":                {Kind: wire.Leave, Rooms: []string{"driver:1"}, Targets: []string{"trip:1", "trip:2"}},
		"emitter: disconnect":           {Kind: wire.Disconnect, Rooms: []string{"driver:1"}, Close: true},
		"emitter: server emit":          {Kind: wire.ServerEmit, Args: args(`"hello"`, `"world"`)},

		"classic: binary server emit":    {Kind: wire.ServerEmit, Args: args(`"hello"`, `{"type":"Buffer","data":[0,1,255]}`)},
		"sharded: binary server emit":    {Kind: wire.ServerEmit, Args: withBinary(args(`"hello"`, `{"_placeholder":true,"num":0}`), photo)},
		"classic: answer to server emit": {Kind: wire.Emitted, RequestID: "*", Args: args(`{"ok":{"type":"Buffer","data":[1]}}`)},
		"sharded: answer to server emit": {Kind: wire.Emitted, RequestID: "*", Args: withBinary(args(`{"ok":{"_placeholder":true,"num":0}}`), []byte{1})},
	}
	seen := map[string]bool{}
	acks := map[string][]wire.Args{}
	for _, g := range readGolden(t).Messages {
		m := decode(t, g.Name, g.Channel, unhex(t, g.Hex))
		protocol, what, _ := strings.Cut(g.Name, ": ")
		if m.Kind == wire.Acked {
			acks[protocol] = append(acks[protocol], m.Args)
			continue
		}
		w, ok := want[g.Name]
		if ok {
			seen[g.Name] = true
		} else {
			w, ok = want[what]
			seen[what] = true
		}
		require.True(t, ok, "%s is not expected", g.Name)
		switch {
		case protocol == "emitter":
			if w.Kind == wire.Broadcast || w.Kind == wire.ServerEmit {
				w.UID = "emitter"
			}
		case protocol == "sharded" || !strings.HasPrefix(what, "answer"):
			w.UID = node
		}
		if protocol == "sharded" || w.Kind == wire.Broadcast || w.Kind == wire.Ask {
			w.Namespace = "/drivers"
		}
		if w.RequestID == "*" {
			require.NotEmpty(t, m.RequestID, g.Name)
			w.RequestID = m.RequestID
		}
		require.Equal(t, &w, m, g.Name)
	}
	for name := range want {
		require.True(t, seen[name], "%s was not among Node's", name)
	}
	for _, protocol := range []string{"classic", "sharded"} {
		require.Len(t, acks[protocol], 3)
		require.Equal(t, withBinary(args(`{"photo":{"_placeholder":true,"num":0}}`), photo), acks[protocol][0])
		require.Equal(t, args(`"text"`), acks[protocol][1])
	}
}

// TestMessages_RoundTrip encodes and decodes every message of a Go node, in each protocol
// that has it.
func TestMessages_RoundTrip(t *testing.T) {
	const ns = "/drivers"
	rooms, except := []string{"a", "ñ 1"}, []string{"x"}
	binary := withBinary(args(`"photo"`, `{"_placeholder":true,"num":0}`), photo)
	ack := withBinary(args(`{"photo":{"_placeholder":true,"num":0}}`, `"second"`), photo)
	socket := wire.Socket{ID: "sid", Rooms: rooms, UserID: "u", UserType: "driver", SessionID: "s", Connecting: true, ConnectedAt: 1893553445000001}
	for _, m := range []wire.Message{
		{Kind: wire.Broadcast, Args: args(`"e"`)},
		{Kind: wire.Broadcast, Rooms: rooms, Except: except, Volatile: true, Latest: "k", Mark: "ABCDEF-0123abc", Args: args(`"e"`, `{"a":[1.5,null]}`)},
		{Kind: wire.Broadcast, Rooms: rooms[:1], Latest: "k", Args: binary},
		{Kind: wire.Join, Rooms: rooms, Except: except, Targets: []string{"t"}},
		{Kind: wire.Leave, Rooms: rooms, Targets: []string{"t"}},
		{Kind: wire.Disconnect, Rooms: rooms, Except: except},
		{Kind: wire.Disconnect, Rooms: rooms, Close: true},
		{Kind: wire.ServerEmit, Args: args(`"e"`, `1`)},
		{Kind: wire.ServerEmit, RequestID: "r", Args: args(`"e"`)},
		{Kind: wire.Fetch, RequestID: "r", Rooms: rooms, Except: except},
		{Kind: wire.Fetch, RequestID: "r", After: "sid", Limit: 100},
		{Kind: wire.Fetch, RequestID: "r", Rooms: rooms, Counts: true},
		{Kind: wire.Ask, RequestID: "r", Native: true, Timeout: 1500, Volatile: true, Rooms: rooms, Except: except, Args: args(`"e"`)},
		{Kind: wire.Ask, RequestID: "r", Rooms: rooms, Args: binary},
		{Kind: wire.ListIDs, RequestID: "r", Rooms: rooms},
		{Kind: wire.ListRooms, RequestID: "r"},
		{Kind: wire.Fetched, RequestID: "r", Sockets: []wire.Socket{socket, {ID: "other"}}},
		{Kind: wire.Fetched, RequestID: "r"},
		{Kind: wire.Fetched, RequestID: "r", Counts: true, Count: 3},
		{Kind: wire.Fetched, RequestID: "r", Counts: true},
		{Kind: wire.Asked, RequestID: "r", Count: 3},
		{Kind: wire.Asked, RequestID: "r"},
		{Kind: wire.Acked, RequestID: "r", Args: args(`1`)},
		{Kind: wire.Acked, RequestID: "r", Args: ack},
		{Kind: wire.Acked, RequestID: "r"},
		{Kind: wire.AskDone, RequestID: "r"},
		{Kind: wire.Emitted, RequestID: "r", Args: args(`{"a":1}`)},
		{Kind: wire.ListedIDs, RequestID: "r", Names: []string{"a", "b"}},
		{Kind: wire.ListedRooms, RequestID: "r", Names: []string{"a"}},
		{Kind: wire.Applied, RequestID: "r"},
	} {
		m.UID, m.Namespace = "gouid", ns
		for _, protocol := range []string{"classic", "sharded"} {
			t.Run(fmt.Sprintf("%s %d", protocol, m.Kind), func(t *testing.T) {
				var b []byte
				var err error
				var got *wire.Message
				want := m
				if protocol == "sharded" {
					b, err = sharded.Append([]byte("before"), &m)
					switch m.Kind {
					case wire.ListIDs, wire.ListRooms, wire.ListedIDs, wire.ListedRooms, wire.Applied:
						require.ErrorIs(t, err, wire.ErrMalformed)
						return
					}
					require.NoError(t, err)
					got, err = sharded.Message(string(b[6:]))
				} else {
					b, err = classic.Append([]byte("before"), &m)
					require.NoError(t, err)
					switch {
					case m.Kind == wire.Broadcast:
						require.Equal(t, "gouid", classic.Sender(string(b[6:])))
						got, err = classic.Broadcast(string(b[6:]))
					case m.Kind >= wire.Fetched:
						got, err = classic.Answer(string(b[6:]))
					default:
						got, err = classic.Request(string(b[6:]))
					}
					if m.Kind != wire.Broadcast && m.Kind != wire.Ask {
						want.Namespace = "" // the channel has it
					}
				}
				require.NoError(t, err)
				require.Equal(t, "before", string(b[:6]))
				require.NoError(t, got.Open(limits))
				if len(got.Args.Values) == 0 {
					got.Args.Values = nil
				}
				require.Equal(t, &want, got)
			})
		}
	}
}

// TestMessages_ContainNoTokens: the handshake that is sent is empty.
func TestMessages_ContainNoTokens(t *testing.T) {
	m := &wire.Message{Kind: wire.Fetched, UID: "u", Namespace: "/", RequestID: "r", Sockets: []wire.Socket{{ID: "s", UserID: "u1"}}}
	b, err := classic.Append(nil, m)
	require.NoError(t, err)
	require.JSONEq(t, `{"uid":"u","requestId":"r","sockets":[{"id":"s","handshake":{"headers":{},"query":{},"auth":{}},"rooms":[],"data":{"userId":"u1"}}]}`, string(b))
}

func TestClassic_BroadcastIsAnArrayOfThree(t *testing.T) {
	b, err := classic.Append(nil, &wire.Message{Kind: wire.Broadcast, UID: "u", Namespace: "/", Latest: "k", Args: args(`"e"`)})
	require.NoError(t, err)
	require.Equal(t, byte(0x93), b[0])
}

func TestClassic_Legacy(t *testing.T) {
	m, err := classic.Request(`{"requestId":"r","type":2,"sid":"s","room":"t"}`)
	require.NoError(t, err)
	require.Equal(t, &wire.Message{Kind: wire.Join, RequestID: "r", Legacy: true, Rooms: []string{"s"}, Targets: []string{"t"}}, m)
	m, err = classic.Request(`{"requestId":"r","type":3,"sid":"s","room":5}`)
	require.NoError(t, err)
	require.Equal(t, []string{"5"}, m.Targets)
	m, err = classic.Request(`{"requestId":"r","type":4,"sid":"s","close":true}`)
	require.NoError(t, err)
	require.Equal(t, &wire.Message{Kind: wire.Disconnect, RequestID: "r", Legacy: true, Close: true, Rooms: []string{"s"}}, m)
}

func TestClassic_BroadcastWithWhatMayBeMissing(t *testing.T) {
	m, err := classic.Broadcast("\x93\xa1u\x82\xa4type\x02\xa4data\x91\xa1e\x80") // no nsp, empty opts
	require.NoError(t, err)
	require.Equal(t, "/", m.Namespace)
	require.NoError(t, m.Open(limits))
	require.Equal(t, args(`"e"`), m.Args)
}

func TestMessages_RefuseTheHostile(t *testing.T) {
	for _, text := range []string{
		"", "{", "null", "[]", "{}", `{"type":"x"}`, `{"type":99}`, `{"type":2}`, `{"type":2,"opts":{"rooms":{}}}`, `{"type":2,"opts":{"rooms":[{}]},"rooms":[]}`,
		`{"type":6,"data":{}}`, `{"type":6}`, `{"type":7}`, `{"type":7,"packet":{"type":3,"data":["e"]}}`, `{"type":2,"sid":""}`, `{"type":2,"sid":"s"}`,
		"{\"type\":6,\"data\":[\"\xff\"]}", `{"type":6,"data":[` + strings.Repeat("[", 70) + strings.Repeat("]", 70) + `]}`, strings.Repeat("[", 100000),
		"\x80", "\x90", "\x93\x01\x02\x03", "\x81\xa4type\x07", "\xc1", "\x93\xa1u\x82\xa4type\x03\xa4data\x91\xa1e\x80",
		"\x93\xa1u\x81\xa4type\x02\x80", strings.Repeat("x", 2<<20),
	} {
		short := text[:min(40, len(text))]
		_, err := classic.Request(text)
		require.Error(t, err, short)
		_, err = classic.Broadcast(text)
		require.Error(t, err, short)
		_, err = sharded.Message(text)
		require.Error(t, err, short)
	}
	for _, text := range []string{`{"requestId":""}`, `{"sockets":[]}`, `{"requestId":"r","type":8}`, `{"requestId":"r","type":8,"clientCount":-1}`, `{"requestId":"r","sockets":[{}]}`, `{"requestId":"r","sockets":[1]}`, `{"requestId":"r","sockets":[],"count":-1}`, `{"requestId":"r","sockets":[],"count":9007199254740991}`, "\x81\xa4type\x09"} {
		_, err := classic.Answer(text)
		require.Error(t, err, text)
	}
	for _, text := range []string{
		`{"uid":"u","nsp":"/","type":3}`, `{"uid":"u","nsp":"/","type":3,"data":{"packet":{}}}`, `{"uid":"u","nsp":"/","type":7,"data":{"opts":{}}}`,
		`{"uid":"u","nsp":"/","type":8,"data":{"requestId":"r"}}`, `{"uid":"u","nsp":"/","type":8,"data":{"requestId":"r","sockets":[],"count":-1}}`, `{"uid":"u","nsp":"/","type":9,"data":{"packet":1}}`, `{"uid":"u","nsp":"/","type":11,"data":{"requestId":"r"}}`,
	} {
		_, err := sharded.Message(text)
		require.Error(t, err, text)
	}
	require.Empty(t, classic.Sender(""))
	require.Empty(t, classic.Sender("\x90"))
	require.Empty(t, classic.Sender("{"))
}

func TestMessages_AreNotLargerThanOthersTake(t *testing.T) {
	big := &wire.Message{Kind: wire.Broadcast, UID: "u", Namespace: "/", Args: args(`"` + strings.Repeat("x", limits.Bytes) + `"`)}
	_, err := classic.Append(nil, big)
	require.ErrorIs(t, err, wire.ErrTooLarge)
	_, err = sharded.Append(nil, big)
	require.ErrorIs(t, err, wire.ErrTooLarge)
}

// FuzzMessages passes any input to every decoder.
func FuzzMessages(f *testing.F) {
	for _, g := range readGolden(f).Messages {
		f.Add(unhex(f, g.Hex))
	}
	f.Fuzz(func(t *testing.T, msg string) {
		_ = classic.Sender(msg)
		for _, decode := range []func(string) (*wire.Message, error){classic.Broadcast, classic.Request, classic.Answer, sharded.Message} {
			m, err := decode(msg)
			if err != nil {
				continue
			}
			require.NotZero(t, m.Kind)
			if m.Open(limits) != nil {
				continue
			}
			for _, v := range m.Args.Values {
				require.True(t, json.Valid(v))
			}
		}
	})
}
