// What a node sends and receives.

package redisadapter_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/redistest"
	"github.com/rodando/realtime/internal/testkit"
	"github.com/rodando/realtime/realtimetest"
	"github.com/rodando/realtime/redisadapter"
	"github.com/rodando/realtime/redisadapter/internal/wire"
)

func TestNew_ReportsEveryMistake(t *testing.T) {
	t.Parallel()
	_, err := redisadapter.New(redisadapter.Options{Namespaces: []string{"x"}, MaxDepth: -1, RequestTimeout: 1, QueuedBytes: -1})
	for _, want := range []string{"URL or Options.Client", `"x"`, "MaxDepth", "RequestTimeout", "QueuedBytes"} {
		require.ErrorContains(t, err, want)
	}
	_, err = redisadapter.New(redisadapter.Options{URL: "http://user:secret@%zz"})
	require.Error(t, err)
	require.NotContains(t, err.Error(), "secret")
}

// sendEveryKind makes a node publish messages of every kind, and then send requests of every kind. It
// returns the number of the messages.
func sendEveryKind(t *testing.T, a *peer, answer func(realtime.ClusterAnswer)) (messages int) {
	t.Helper()
	binary := event(1)
	binary.Key, binary.Volatile = "k", true
	binary.Event.Args[1] = json.RawMessage(`{"_placeholder":true,"num":0}`)
	binary.Event.Attachments = [][]byte{{1}}
	all := event(2)
	all.All, all.Rooms = true, nil
	several := event(3)
	several.Rooms = []string{room, "other"}
	state := realtime.ClusterMessage{Op: realtime.OpState, Namespace: ns, State: &realtime.NodeState{}}
	require.NoError(t, state.State.UnmarshalJSON([]byte(`{"tripsOf":"of-this-driver"}`)))
	sent := []realtime.ClusterMessage{
		event(0), binary, all, several, state,
		{Op: realtime.OpServerEmit, Namespace: ns, Event: &realtime.Raw{Args: []json.RawMessage{json.RawMessage(`"hello"`)}}},
		{Op: realtime.OpJoin, Namespace: ns, Rooms: []string{room}, Targets: []string{"t"}},
		{Op: realtime.OpLeave, Namespace: ns, Rooms: []string{room}, Targets: []string{"t"}},
		{Op: realtime.OpDisconnect, Namespace: ns, Rooms: []string{room}},
		{Op: realtime.OpRevoke, Namespace: ns, Rooms: []string{room}, Revoke: &realtime.Revocation{UserID: "1"}},
	}
	for _, m := range sent {
		require.NoError(t, a.Publish(t.Context(), m))
	}
	ask := event(4)
	ask.Op = realtime.OpAsk
	for _, m := range []realtime.ClusterMessage{
		ask, {Op: realtime.OpFetchSockets, Namespace: ns, All: true}, {Op: realtime.OpCount, Namespace: ns, All: true},
	} {
		require.NoError(t, a.Request(t.Context(), m, answer))
	}
	return len(sent)
}

// TestAdapter_PublishesArraysOfThree: any other message on a channel K#N# crashes Node
// processes.
func TestAdapter_PublishesArraysOfThree(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	a, b := start(t, s, withASocket), start(t, s, withASocket)
	waitForPeers(t, a, b)
	nobody := event(5)
	nobody.Rooms = nil
	require.NoError(t, a.Publish(t.Context(), nobody), "without rooms it would be everybody's on the wire")
	require.NoError(t, a.Request(t.Context(), realtime.ClusterMessage{Op: realtime.OpFetchSockets, Namespace: ns}, nil))
	sent := sendEveryKind(t, a, func(realtime.ClusterAnswer) {})
	require.Equal(t, sent, b.node.count())
	below := 0
	for _, m := range s.Published() {
		if !strings.HasPrefix(m.Channel, "socket.io#/drivers#") {
			require.NotContains(t, m.Channel, "socket.io#/drivers##")
			continue
		}
		below++
		require.Equal(t, byte(0x93), m.Text[0], m.Channel)
		_, err := classicNode.Broadcast(m.Text)
		require.NoError(t, err, m.Channel)
	}
	require.Equal(t, 4, below)
	for _, m := range s.Published() {
		if strings.Contains(m.Text, "of-this-driver") {
			require.Equal(t, redisadapter.StateChannel("socket.io", ns), m.Channel)
		}
	}
}

// TestAdapter_ReceivesFromNode: the messages of a Node server and of an emitter.
func TestAdapter_ReceivesFromNode(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	a := start(t, s, nil)
	rooms := []string{room}
	e := wire.Message{Kind: wire.Broadcast, UID: "node01", Namespace: ns, Rooms: rooms, Args: text(`"e"`, `1`)}
	publishAsNode(t, s, "socket.io#/drivers#driver:1#", e)
	e.UID = "emitter"
	publishAsNode(t, s, "socket.io#/drivers#driver:1#", e)
	e.Rooms = []string{"driver:2", room}
	publishAsNode(t, s, "socket.io#/drivers#", e)
	e.Namespace = "/passengers" // another namespace
	publishAsNode(t, s, "socket.io#/drivers#", e)
	requests := "socket.io-request#/drivers#"
	publishAsNode(t, s, requests, wire.Message{Kind: wire.Join, UID: "node01", Rooms: rooms, Targets: []string{"t"}})
	publishAsNode(t, s, requests, wire.Message{Kind: wire.Leave, Rooms: rooms, Targets: []string{"t"}})
	publishAsNode(t, s, requests, wire.Message{Kind: wire.Disconnect, UID: "node01", Rooms: rooms, Close: true})
	publishAsNode(t, s, requests, wire.Message{Kind: wire.ServerEmit, UID: "emitter", Args: text(`"hello"`)})
	// A server-side emit never becomes state, whatever its name.
	publishAsNode(t, s, requests, wire.Message{Kind: wire.ServerEmit, UID: "node01", Args: text(`"realtime:trip"`, `{"tripId":"t1"}`)})
	s.Publish(requests, `{"requestId":"r","type":2,"sid":"driver:1","room":"t"}`) // of socket.io-redis
	testkit.Eventually(t, "everything arrives", func() bool { return a.node.count() == 9 })
	var ops []realtime.ClusterOp
	for _, m := range a.node.all() {
		require.Equal(t, ns, m.Namespace)
		ops = append(ops, m.Op)
	}
	require.Equal(t, []realtime.ClusterOp{
		realtime.OpBroadcast, realtime.OpBroadcast, realtime.OpBroadcast, realtime.OpJoin, realtime.OpLeave, realtime.OpDisconnect,
		realtime.OpServerEmit, realtime.OpServerEmit, realtime.OpJoin,
	}, ops)
	published(t, s, "the legacy request is answered", func(m redistest.Message) bool {
		return m.Channel == "socket.io-response#/drivers#" && strings.Contains(m.Text, `"requestId":"r"`)
	})
}

// TestAdapter_AnswersAlways: if one server does not answer, every request of a Node server
// takes five seconds and fails.
func TestAdapter_AnswersAlways(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change   func(*redisadapter.Options, *recorder)
		ids      string
		rooms    string
		count    int
		fetching int
	}{
		"with a socket": {withASocket, `["sid1"]`, `["driver:1","sid1"]`, 1, 1},
		"with nothing":  {nil, `[]`, `[]`, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startRedis(t)
			start(t, s, test.change)
			requests := "socket.io-request#/drivers#"
			ask := func(id string, m wire.Message) string {
				m.UID, m.RequestID, m.Namespace = "node01", id, ns
				publishAsNode(t, s, requests, m)
				found := published(t, s, "an answer to "+id, func(m redistest.Message) bool {
					return strings.HasPrefix(m.Channel, "socket.io-response#/drivers#") && strings.Contains(m.Text, `"`+id+`"`)
				})
				if m.Kind != wire.ServerEmit {
					require.Equal(t, "socket.io-response#/drivers#node01#", found.Channel)
				}
				return found.Text
			}
			var got struct {
				Sockets, Rooms json.RawMessage
				ClientCount    *int
				Data           json.RawMessage
			}
			require.NoError(t, json.Unmarshal([]byte(ask("r0", wire.Message{Kind: wire.ListIDs})), &got))
			require.JSONEq(t, test.ids, string(got.Sockets))
			require.NoError(t, json.Unmarshal([]byte(ask("r1", wire.Message{Kind: wire.ListRooms})), &got))
			require.JSONEq(t, test.rooms, string(got.Rooms))
			m, err := classicNode.Answer(ask("r5", wire.Message{Kind: wire.Fetch}))
			require.NoError(t, err)
			require.Equal(t, wire.Fetched, m.Kind)
			require.Len(t, m.Sockets, test.fetching)
			require.NoError(t, json.Unmarshal([]byte(ask("r6", wire.Message{Kind: wire.ServerEmit, Args: text(`"hello"`)})), &got))
			require.Equal(t, "null", string(got.Data))
			require.NoError(t, json.Unmarshal([]byte(ask("r7", wire.Message{Kind: wire.Ask, Args: text(`"hello"`)})), &got))
			require.Equal(t, test.count, *got.ClientCount)
		})
	}
}

// TestAdapter_DoesNotDecodeForOthers: a message for a room that this node does not have is
// not decoded, so a malformed one is not reported.
func TestAdapter_DoesNotDecodeForOthers(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	a := start(t, s, nil)
	s.Publish("socket.io#/drivers#driver:2#", "\x93\xc1")
	delivered := event(1)
	b := start(t, s, nil)
	require.NoError(t, b.Publish(t.Context(), delivered))
	testkit.Eventually(t, "what came behind it", func() bool { return a.node.count() == 1 })
	require.Zero(t, a.log.Times("dropped"))
	s.Publish("socket.io#/drivers#driver:1#", "\x93\xc1")
	testkit.Eventually(t, "of a room that is here it is", func() bool { return a.log.Times("dropped") == 1 })
}

// TestAdapter_IgnoresItself: a node ignores its own messages, however late they arrive.
func TestAdapter_IgnoresItself(t *testing.T) {
	t.Parallel()
	for name, change := range bothProtocol {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startRedis(t)
			a := start(t, s, func(o *redisadapter.Options, r *recorder) {
				if change != nil {
					change(o, r)
				}
				r.answer = func(m realtime.ClusterMessage) []realtime.ClusterAnswer {
					t.Errorf("it asks itself: %s", m.Op)
					return nil
				}
			})
			sendEveryKind(t, a, func(realtime.ClusterAnswer) { t.Error("it has answered itself") })
			said := s.Published()
			for _, m := range said { // again, when no request waits for it
				s.Publish(m.Channel, m.Text)
			}
			b := start(t, s, change)
			require.NoError(t, b.Publish(t.Context(), event(7)))
			testkit.Eventually(t, "another node's arrives", func() bool { return a.node.count() > 0 })
			require.Equal(t, 7, number(t, a.node.all()[0]))
			require.Equal(t, 1, a.node.count())
			for _, m := range s.Published()[len(said):] {
				require.NotContains(t, m.Channel, a.UID()+"#", "it has answered itself")
			}
			require.NoError(t, a.Check(t.Context()))
		})
	}
}

// TestAdapter_Garbage sends malformed messages on every channel.
func TestAdapter_Garbage(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("[", 5000) + strings.Repeat("]", 5000)
	garbage := []string{
		"", "{", "null", "[]", "\x00", "\xc1", "\x90", "\x93", "\x93\x01\x02\x03", "\xdd\xff\xff\xff\xff", "\xdf\xff\xff\xff\xff", "\xc9\xff\xff\xff\xff\x00",
		strings.Repeat("\x91", 1<<16), strings.Repeat("\x81\xa1a", 1<<15), strings.Repeat("x", 1<<20), deep, `{"type":6,"data":[` + deep + `]}`,
		`{"type":5,"requestId":{}}`, `{"type":0}`, `{"type":7,"packet":[]}`, `{"requestId":1}`, `{"v":1}`, `{"v":1,"uid":"x","op":"bye"}`, `{"v":1,"uid":"x","m":{"op":"server_emit"}}`,
		`{"v":1,"uid":"../..#","op":"hello"}`, `{"uid":"x","nsp":"/drivers","type":3,"data":{"opts":{},"packet":{"type":2,"data":[]}}}`, `{"uid":"x","nsp":"/drivers","type":12,"data":{"requestId":"r"}}`,
		"\x93\xa1u\x82\xa4type\x02\xa4data\x92\xc4\x01x\x82\xac_placeholder\xc3\xa3num\x09\x80",
	}
	for name, change := range bothProtocol {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startRedis(t)
			a, b := start(t, s, change), start(t, s, change)
			waitForPeers(t, a, b)
			channels := []string{
				"socket.io#/drivers#", "socket.io#/drivers#driver:1#", "socket.io#/drivers##", "socket.io-request#/drivers#", "socket.io-response#/drivers#",
				"socket.io-response#/drivers#" + a.UID() + "#", "socket.io#/drivers#" + a.UID() + "#",
				redisadapter.StateChannel("socket.io", ns), redisadapter.NodesChannel("socket.io"),
			}
			for _, channel := range channels {
				for _, g := range garbage {
					s.Publish(channel, g)
				}
			}
			requireReaches(t, b, a)
			requireReaches(t, a, b)
			require.NoError(t, a.Check(t.Context()))
			require.Zero(t, a.log.Times("panic"))
			require.Positive(t, a.log.Times("dropped"))
			require.LessOrEqual(t, a.log.Times("dropped"), 2, "each is not worth a line")
			var found int
			require.NoError(t, a.Request(t.Context(), realtime.ClusterMessage{Op: realtime.OpFetchSockets, Namespace: ns, All: true}, func(realtime.ClusterAnswer) { found++ }))
			require.Zero(t, found)
		})
	}
}

// everySocket asks for all sockets.
var everySocket = realtime.ClusterMessage{Op: realtime.OpFetchSockets, Namespace: ns, All: true}

// impatient asks for all sockets while a node never answers, with a ctx that ends soon. It tries again, with more
// time, while a busy machine keeps back the answers of the others, of which there are so many.
func (p *peer) impatient(t *testing.T, answers int) (got []realtime.ClusterAnswer, err error) {
	t.Helper()
	for d := 200 * time.Millisecond; d < patience; d *= 2 {
		ctx, cancel := context.WithTimeout(t.Context(), d)
		got = nil
		err = p.Request(ctx, everySocket, func(r realtime.ClusterAnswer) { got = append(got, r) })
		cancel()
		if len(got) == answers {
			break
		}
	}
	return got, err
}

// TestAdapter_NamesSilentNodes: the error names the nodes that did not answer, and the
// answers of the others are returned.
func TestAdapter_NamesSilentNodes(t *testing.T) {
	t.Parallel()
	for name, change := range bothProtocol {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startRedis(t)
			stuck := make(chan struct{})
			defer close(stuck)
			a := start(t, s, change)
			b := start(t, s, func(o *redisadapter.Options, r *recorder) {
				withASocket(o, r)
				o.Sharded = name == "sharded"
			})
			c := start(t, s, func(o *redisadapter.Options, r *recorder) {
				o.Name, o.Sharded = "the stuck one", name == "sharded"
				r.deliver = func(realtime.ClusterMessage) { <-stuck }
			})
			waitForPeers(t, a, b, c)
			require.NoError(t, a.Publish(t.Context(), event(0)))
			got, err := a.impatient(t, 1)
			var silent *redisadapter.SilentError
			require.ErrorAs(t, err, &silent)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.Len(t, silent.Nodes, 1)
			require.Contains(t, silent.Nodes[0], "the stuck one")
			require.Zero(t, silent.Others)
			require.Len(t, got, 1)
			require.Equal(t, someSocket, *got[0].Socket)
		})
	}
}

// A reply that cannot be sent, because it is too large or too deep, arrives as null, so that the node
// that asks does not wait.
func TestAdapter_ReplyThatCannotBeSent(t *testing.T) {
	t.Parallel()
	replies := map[string]string{
		"too large": `"` + strings.Repeat("x", 64<<10) + `"`,
		"too deep":  strings.Repeat("[", 40) + strings.Repeat("]", 40),
	}
	for name, change := range bothProtocol {
		for what, reply := range replies {
			t.Run(name+" "+what, func(t *testing.T) {
				t.Parallel()
				s := startRedis(t)
				a := start(t, s, change)
				b := start(t, s, func(o *redisadapter.Options, r *recorder) {
					o.Sharded, o.MaxMessage, o.MaxDepth = name == "sharded", 64<<10, 32
					r.answer = func(realtime.ClusterMessage) []realtime.ClusterAnswer {
						return []realtime.ClusterAnswer{{Reply: &realtime.Raw{Args: []json.RawMessage{json.RawMessage(reply)}}}}
					}
				})
				waitForPeers(t, a, b)
				ask := event(1)
				ask.Op, ask.Rooms = realtime.OpServerAsk, nil
				var got []realtime.ClusterAnswer
				require.NoError(t, a.Request(t.Context(), ask, func(r realtime.ClusterAnswer) { got = append(got, r) }))
				require.Equal(t, []realtime.ClusterAnswer{{Reply: &realtime.Raw{Args: []json.RawMessage{json.RawMessage("null")}}}}, got)
				require.Equal(t, 1, b.log.Times("answer not sent"))
			})
		}
	}
}

// TestAdapter_WaitsForNode: a request also waits for a server without a name.
func TestAdapter_WaitsForNode(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	a := start(t, s, nil)
	b := start(t, s, withASocket)
	waitForPeers(t, a, b)
	ghost := subscriber(t, s, "socket.io-request#/drivers#")
	got, err := a.impatient(t, 1)
	var silent *redisadapter.SilentError
	require.ErrorAs(t, err, &silent)
	require.Equal(t, redisadapter.SilentError{Others: 1}.Others, silent.Others)
	require.Empty(t, silent.Nodes)
	require.Len(t, got, 1)

	// Now it answers.
	ghost(func(msg string) {
		m, err := classicNode.Request(msg)
		if err == nil && m.Kind == wire.Fetch {
			publishAsNode(t, s, "socket.io-response#/drivers#", wire.Message{Kind: wire.Fetched, RequestID: m.RequestID, Sockets: []wire.Socket{{ID: "node-socket"}}})
		}
	})
	var ids []string
	require.NoError(t, a.Request(t.Context(), everySocket, func(r realtime.ClusterAnswer) { ids = append(ids, r.Socket.ID) }))
	require.ElementsMatch(t, []string{"sid1", "node-socket"}, ids)
}

// TestAdapter_RoomOfASocketsID: Node emits to one socket by the room of its id.
func TestAdapter_RoomOfASocketsID(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	server := realtimetest.NewServer(t, func(o *realtime.Options) {
		o.Cluster.Adapter = newAdapter(t, redisadapter.Options{URL: s.URL()})
	})
	c := server.Driver(t, "d1")
	publishAsNode(t, s, "socket.io#/drivers#"+c.ID()+"#", wire.Message{Kind: wire.Broadcast, UID: "node01", Namespace: ns, Rooms: []string{c.ID()}, Args: text(`"from:node"`, `1`)})
	got, err := c.NextRaw(t.Context(), "from:node")
	require.NoError(t, err)
	require.Equal(t, "1", string(got.Args[0]))
}

func TestSlot(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]uint16{"123456789": 0x31c3, "{user1000}.following": 3443, "foo{}{bar}": 8363, "foo{{bar}}zap": 4015, "": 0} {
		require.Equal(t, want, redisadapter.Slot(name), name)
	}
	require.Equal(t, redisadapter.Slot("socket.io#/drivers#"), redisadapter.Slot(redisadapter.StateChannel("socket.io", ns)))
	for _, like := range []string{"socket.io#/drivers#", "{shop}:a", "shop-}#/drivers#", "a}b{c", "{}#/drivers#", "{#", "}{"} {
		require.Equal(t, redisadapter.Slot(like), redisadapter.Slot(redisadapter.ProbeChannel(like, "node")), "a link subscribes to both: %s", like)
	}
}
