// Recovery on a node that lacks something, and asks the others.

package realtime_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// What a node inherits is checked before a client gets it.
func TestRecoveryInherit_Liar(t *testing.T) {
	t.Parallel()
	const state = `"state":{"ageMs":60000,"known":[{"mark":"LIAR--------2"}]}`
	event := func(of string) string {
		return `"events":[{"event":{"Args":["note",7,"LIAR--------1"]},"mark":"LIAR--------1",` + of + `}],`
	}
	for name, c := range map[string]struct {
		page   string
		missed []int // nil: the client is a new one
	}{
		"the truth":             {event(`"rooms":["driver:d1"]`) + state, []int{7}},
		"for another room":      {event(`"rooms":["driver:d2"]`) + state, []int{}},
		"for no room":           {event(`"rooms":[]`) + state, nil},
		"without a mark":        {event(`"rooms":["driver:d1"],"mark":""`) + state, nil},
		"without an offset":     {`"events":[{"event":{"Args":["note",7]},"mark":"LIAR--------1","all":true}],` + state, nil},
		"a reserved name":       {`"events":[{"event":{"Args":["connect","LIAR--------1"]},"mark":"LIAR--------1","all":true}],` + state, nil},
		"from another system":   {event(`"rooms":["driver:d1"],"unknown":true`) + state, nil},
		"it lacks events":       {event(`"rooms":["driver:d1"]`) + `"state":{"ageMs":60000,"known":[{"mark":"LIAR--------2","floor":1,"lacks":true}]}`, nil},
		"it knows no such mark": {event(`"rooms":["driver:d1"]`) + `"state":{"known":[{"mark":"x"}]}`, nil},
		"too much":              {`"events":[` + strings.Repeat(`{"event":{"Args":["note",7,"LIAR--------1"]},"mark":"LIAR--------1","all":true},`, 300) + `{"event":{"Args":["note",7,"LIAR--------1"]},"mark":"LIAR--------1","all":true}],` + state, nil},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				n := newNodes(t, 1)
				l := &liar{adapter: n.hub.Node(), node: "LIAR--", emitted: true, log: []string{`"n":0,` + c.page}}
				l.part = func(string) []string { return []string{`"n":0,"last":true`} }
				require.NoError(t, l.adapter.Start(t.Context(), l))
				t.Cleanup(func() { _ = l.adapter.Close(context.Background()) })
				former := n.servers[0].Driver(t, "d1")
				for _, l.record = range realtime.SharedSockets(n.servers[0].Realtime) {
					break
				}
				n.kill(0)
				fresh := n.start(func(o *realtime.Options) { o.Recovery.Events = 100 })
				n.inherits(1)
				client, hello := back(t, fresh, former, "d1")
				if c.missed == nil {
					require.False(t, *hello.Recovered)
					require.Empty(t, receivedNotes(t, client))
					return
				}
				require.True(t, *hello.Recovered)
				require.Equal(t, c.missed, append([]int{}, receivedNotes(t, client)...))
			})
		})
	}
}

// A client comes to a node that has begun after its former one had died, and after events that it has missed.
// From there it goes on as from any node.
func TestRecoveryParts_NewNode(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newNodes(t, 3)
		room := realtime.DriverRoom("d1")
		former := c.servers[0].Driver(t, "d1")
		other := c.servers[1].Driver(t, "d2")
		for node := range c.servers {
			c.emit(node, room, node)
			require.Equal(t, node, realtimetest.Expect(t, former, note))
		}
		c.settle()
		former.Stall()
		c.emit(0, room, 10)
		c.emit(1, room, 11)
		c.kill(0)
		former.Drop()
		c.emit(2, room, 12)
		c.kill(2)
		c.emit(1, room, 13)
		c.emit(1, realtime.DriverRoom("d2"), 99)
		fresh := c.start()
		client, hello := back(t, fresh, former, "d1")
		recovers(t, client, hello, former, 10, 11, 12, 13)
		require.Equal(t, 99, realtimetest.Expect(t, other, note))
		c.emit(3, room, 20)
		c.emit(1, room, 21)
		for _, want := range []int{10, 11, 12, 13, 20, 21} {
			require.Equal(t, want, realtimetest.Expect(t, client, note))
		}

		// To the node that has helped, to another new one, and home.
		c.settle()
		c.cut(3, client)
		c.emit(3, room, 30)
		second, hello := back(t, c.servers[1], client, "d1")
		recovers(t, second, hello, former, 30)
		c.settle()
		c.cut(1, second)
		c.emit(3, room, 40)
		c.emit(1, room, 41)
		third, hello := back(t, c.start(), second, "d1")
		recovers(t, third, hello, former, 40, 41)
		c.settle()
		c.cut(4, third)
		c.emit(1, room, 50)
		home, hello := back(t, c.servers[3], third, "d1")
		recovers(t, home, hello, former, 50)
		realtimetest.ExpectNone(t, other, note)
		all, err := c.servers[1].Realtime.Drivers().To(room).Sockets(t.Context())
		require.NoError(t, err)
		require.Len(t, all, 1)
	})
}

// A client that has received a part of a part goes on where it has stopped, on any node.
func TestRecoveryParts_BreaksAgain(t *testing.T) {
	t.Parallel()
	for received := range 5 {
		for _, to := range []string{"the same node", "the node that has helped"} {
			t.Run(fmt.Sprint(received, " received, to ", to), func(t *testing.T) {
				inBubble(t, func(t *testing.T) {
					c := newNodes(t, 2)
					room := realtime.DriverRoom("d1")
					former := c.servers[0].Driver(t, "d1")
					c.emit(1, room, 0)
					require.Equal(t, 0, realtimetest.Expect(t, former, note))
					c.settle()
					former.Stall()
					c.emit(0, room, 1)
					c.emit(1, room, 2)
					c.kill(0)
					former.Drop()
					fresh := c.start()
					c.settle()
					client, hello := back(t, fresh, former, "d1")
					recovers(t, client, hello, former, 1, 2)
					c.emit(1, room, 3)
					c.emit(2, room, 4)
					for _, want := range []int{1, 2, 3, 4} {
						require.Equal(t, want, realtimetest.Expect(t, client, note))
					}
					c.settle()
					c.cut(2, client)
					on := map[string]*realtimetest.Server{"the same node": fresh, "the node that has helped": c.servers[1]}[to]
					again, hello := backFrom(t, on, client, "d1", append([]string{former.Offset()}, offsetsOf(t, client)...)[received])
					recovers(t, again, hello, former, append([]int(nil), []int{1, 2, 3, 4}[received:]...)...)
				})
			})
		}
	}
}

// backFrom is back for a driver who has received the events up to an offset.
func backFrom(t *testing.T, s *realtimetest.Server, former *realtimetest.Client, user, offset string) (*realtimetest.Client, realtime.HelloPayload) {
	t.Helper()
	c, err := s.Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Auth(map[string]string{"token": s.Login(user, realtime.UserDriver), "pid": former.PID(), "offset": offset}))
	require.NoError(t, err)
	return c, realtimetest.Expect(t, c, realtime.EventHello)
}

// offsetsOf returns the offsets of the notes that a client has received.
func offsetsOf(t *testing.T, c *realtimetest.Client) (offsets []string) {
	t.Helper()
	for _, r := range c.Received() {
		if r.Event == note.Name() {
			var offset string
			require.NoError(t, json.Unmarshal(r.Args[len(r.Args)-1], &offset))
			offsets = append(offsets, offset)
		}
	}
	return offsets
}

// A node that had a gap asks those that had none.
func TestRecoveryParts_Gap(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newNodes(t, 3)
		room := realtime.DriverRoom("d1")
		former := c.servers[0].Driver(t, "d1")
		c.emit(1, room, 1)
		require.Equal(t, 1, realtimetest.Expect(t, former, note))
		c.settle()
		c.cut(0, former)
		c.adapters[1].Cut()
		notes(t, c.servers[2], room, 2)
		c.gapIn(1)
		c.emit(0, room, 3)
		client, hello := back(t, c.servers[1], former, "d1")
		recovers(t, client, hello, former, 2, 3)
	})
}

// A part has attachments, and more events than a message.
func TestRecoveryParts_Attachments(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newNodes(t, 2)
		room := realtime.DriverRoom("d1")
		former := c.servers[0].Driver(t, "d1")
		c.settle()
		c.cut(0, former)
		to := c.servers[1].Realtime.Drivers().To(room)
		require.NoError(t, to.EmitRaw("photo", realtime.Raw{Args: []json.RawMessage{json.RawMessage(`{"_placeholder":true,"num":0}`), json.RawMessage(`"text"`)}, Attachments: [][]byte{{1, 2, 3}}}))
		for n := range 600 { // several messages
			require.NoError(t, note.Emit(to, n))
		}
		c.kill(0)
		client, hello := back(t, c.start(), former, "d1")
		require.True(t, *hello.Recovered)
		require.Equal(t, 601, *hello.Missed)
		numbers := make([]int, 600)
		for n := range numbers {
			numbers[n] = n
		}
		require.Equal(t, numbers, receivedNotes(t, client))
		i := slices.IndexFunc(client.Received(), func(e realtimetest.Received) bool { return e.Event == "photo" })
		require.GreaterOrEqual(t, i, 0, "the event with an attachment is missing")
		require.Equal(t, [][]byte{{1, 2, 3}}, client.Received()[i].Attachments)
		require.JSONEq(t, `"text"`, string(client.Received()[i].Args[1]))
	})
}

// liar is a node that answers questions of other nodes, wrongly.
type liar struct {
	nobody
	adapter *realtimetest.HubNode
	record  string // a socket
	node    string // the name of the liar in records
	part    func(id string) []string
	log     []string // the answers to a request for the log
	emitted bool     // it has emitted events
}

func (l *liar) say(namespace, state string) {
	var s realtime.NodeState
	if json.Unmarshal([]byte(state), &s) == nil {
		_ = l.adapter.Publish(context.Background(), realtime.ClusterMessage{Version: realtime.ClusterVersion, Op: realtime.OpState, Namespace: namespace, State: &s})
	}
}

func (l *liar) Deliver(m realtime.ClusterMessage) {
	if m.Op != realtime.OpState || m.Namespace != realtime.NamespaceDrivers {
		return
	}
	text, err := json.Marshal(m.State)
	if err != nil {
		return
	}
	var s struct {
		Sockets *struct{ First bool }
		Find    *struct{ Find string }
		PartOf  *struct{ Part string }
		LogOf   *struct{ Log string }
	}
	switch _ = json.Unmarshal(text, &s); {
	case s.Sockets != nil && s.Sockets.First:
		position := "-------"
		if l.emitted {
			position = "------1"
		}
		l.say(m.Namespace, `{"sockets":{"mark":"`+l.node+position+`","first":true}}`)
	case s.Find != nil:
		l.say(m.Namespace, `{"found":{"find":"`+s.Find.Find+`","socket":`+l.record+`,"lost":true,"leftMs":10}}`)
	case s.LogOf != nil:
		for _, answer := range l.log {
			l.say(m.Namespace, `{"logPage":{"log":"`+s.LogOf.Log+`",`+answer+`}}`)
		}
	case s.PartOf != nil:
		for _, answer := range l.part(s.PartOf.Part) {
			l.say(m.Namespace, `{"part":{"part":"`+s.PartOf.Part+`",`+answer+`}}`)
		}
	}
}

// What another node answers is checked before a client gets it.
func TestRecoveryParts_Liar(t *testing.T) {
	t.Parallel()
	const upto = `"last":true,"upto":"LIAR---------MORE---------"`
	note := func(args string) string { return `"events":[{"Args":["note",` + args + `]}],` }
	for name, c := range map[string]struct {
		answers []string
		missed  []int // nil: the client is a new one
	}{
		"the truth":            {[]string{`"n":0,` + note(`7,"LIAR--------0"`) + upto}, []int{7}},
		"in two messages":      {[]string{`"n":0,` + note(`7,"LIAR--------0"`) + `"last":false`, `"n":1,` + note(`8,"LIAR--------1"`) + upto}, []int{7, 8}},
		"in the wrong order":   {[]string{`"n":1,` + note(`7,"LIAR--------0"`) + `"last":false`, `"n":0,` + upto}, nil},
		"without an end":       {[]string{`"n":0,"last":true`}, nil},
		"up to a lie":          {[]string{`"n":0,"last":true,"upto":"*"`}, nil},
		"no offset":            {[]string{`"n":0,` + note(`7`) + upto}, nil},
		"a text for an offset": {[]string{`"n":0,` + note(`7,"text"`) + upto}, nil},
		"no arguments":         {[]string{`"n":0,"events":[{"Args":["note"]}],` + upto}, nil},
		"no name":              {[]string{`"n":0,"events":[{"Args":[]}],` + upto}, nil},
		"a reserved name":      {[]string{`"n":0,"events":[{"Args":["connect","LIAR--------0"]}],` + upto}, nil},
		"no attachment":        {[]string{`"n":0,"events":[{"Args":["note",{"_placeholder":true,"num":1},"LIAR--------0"],"Attachments":[""]}],` + upto}, nil},
		"too large":            {[]string{`"n":0,` + note(`"`+strings.Repeat("x", 3<<20)+`","LIAR--------0"`) + upto}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				n := newNodes(t, 1)
				l := &liar{adapter: n.hub.Node(), node: "LIAR--"}
				l.part = func(string) []string { return c.answers }
				former := n.servers[0].Driver(t, "d1")
				for _, l.record = range realtime.SharedSockets(n.servers[0].Realtime) {
					break
				}
				n.kill(0)
				require.NoError(t, l.adapter.Start(t.Context(), l))
				t.Cleanup(func() { _ = l.adapter.Close(context.Background()) })
				client, hello := back(t, n.start(), former, "d1")
				if c.missed == nil {
					require.False(t, *hello.Recovered)
					require.Empty(t, receivedNotes(t, client))
					return
				}
				recovers(t, client, hello, former, c.missed...)
			})
		})
	}
}

// A node inherits the events of another one, which is killed then. So a client recovers although each node of
// before is gone, and so on with the next.
func TestRecoveryInherit(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newNodes(t, 2)
		room := realtime.DriverRoom("d1")
		other := realtime.DriverRoom("d2")
		former := c.servers[0].Driver(t, "d1")
		c.emit(1, room, 0)
		require.Equal(t, 0, realtimetest.Expect(t, former, note))
		c.settle()
		former.Stall()
		c.emit(0, room, 1)
		c.emit(1, room, 2)
		c.emit(1, other, 99)
		c.kill(0)
		former.Drop()
		want := []int{1, 2}
		for node := 2; node < 5; node++ {
			c.start()
			c.emit(node, room, 10*node) // before it has inherited, or after
			c.inherits(node)
			c.emit(node-1, room, 10*node+1)
			c.kill(node - 1)
			c.emit(node, room, 10*node+2)
			want = append(want, 10*node, 10*node+1, 10*node+2)
		}
		client, hello := back(t, c.servers[4], former, "d1")
		recovers(t, client, hello, former, want...)

		offsets := append([]string{former.Offset()}, offsetsOf(t, client)...)
		for received := range offsets {
			c.start()
			last := len(c.servers) - 1
			c.inherits(last)
			c.settle()
			c.cut(last-1, client)
			client, hello = backFrom(t, c.servers[last], client, "d1", offsets[received])
			recovers(t, client, hello, former, append([]int(nil), want[received:]...)...)
		}
	})
}

// inherits waits until a node has the log of another one.
func (c *nodes) inherits(node int) {
	c.t.Helper()
	require.Eventually(c.t, func() bool { return !realtime.Inheriting(c.servers[node].Realtime) }, 4*realtimetest.Timeout, time.Millisecond)
}

// While a node asks for what a client has missed, nothing that is sent to rooms of its former socket is queued for it: it may be a
// new client in the end.
func TestRecoveryParts_NewAfterAll(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		team := realtime.NewRoom("team", "a")
		back := func(o *realtime.Options) {
			o.Recovery.Rooms = func(context.Context, *realtime.Socket, []realtime.Room) ([]realtime.Room, error) {
				return []realtime.Room{team}, nil
			}
		}
		n := newNodes(t, 1, back)
		former := n.servers[0].Driver(t, "d1")
		n.servers[0].Realtime.Drivers().To(realtime.DriverRoom("d1")).Join(team)
		n.settle()
		l := &liar{adapter: n.hub.Node(), node: "LIAR--"}
		for _, l.record = range realtime.SharedSockets(n.servers[0].Realtime) {
			break
		}
		n.kill(0)
		asked := make(chan struct{}, 1)
		answer := make(chan struct{})
		l.part = func(string) []string {
			asked <- struct{}{}
			<-answer
			return []string{`"n":0,"last":true`}
		}
		require.NoError(t, l.adapter.Start(t.Context(), l))
		t.Cleanup(func() { _ = l.adapter.Close(context.Background()) })
		fresh := n.start(back)
		go func() {
			<-asked
			_ = note.Emit(fresh.Realtime.Drivers().To(team).Local().Latest("position"), 1)
			close(answer)
		}()
		client, err := fresh.Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Token(fresh.Login("d1", realtime.UserDriver)), realtimetest.Recover(former))
		require.NoError(t, err)
		require.False(t, *realtimetest.Expect(t, client, realtime.EventHello).Recovered)
		realtimetest.ExpectNone(t, client, note)
	})
}

// partAsker is a node that counts the answers to its requests for a part.
type partAsker struct {
	liar
	answers atomic.Int64
}

func (p *partAsker) Deliver(m realtime.ClusterMessage) {
	if text, err := json.Marshal(m.State); err == nil && strings.HasPrefix(string(text), `{"part":`) {
		p.answers.Add(1)
	}
}

// A node does not answer a request with more rooms than the socket of a record may have.
func TestRecoveryParts_ManyRooms(t *testing.T) {
	for rooms, want := range map[int]int64{4096: 1, 4097: 0} {
		t.Run(fmt.Sprint(rooms), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				n := newNodes(t, 1)
				n.inherits(0)
				n.servers[0].Driver(t, "d1")
				p := &partAsker{liar: liar{adapter: n.hub.Node()}}
				require.NoError(t, p.adapter.Start(t.Context(), p))
				t.Cleanup(func() { _ = p.adapter.Close(context.Background()) })
				for _, record := range realtime.SharedSockets(n.servers[0].Realtime) {
					var of struct{ Node string }
					require.NoError(t, json.Unmarshal([]byte(record), &of))
					names, err := json.Marshal(make([]string, rooms))
					require.NoError(t, err)
					p.say(realtime.NamespaceDrivers, `{"partOf":{"part":"00000000-0000-4000-8000-000000000000","node":"`+of.Node+`","by":"LIAR--","socket":`+record+`,"rooms":`+string(names)+`}}`)
				}
				time.Sleep(time.Second) // of the bubble: until then everybody has done what there is to do
				require.Equal(t, want, p.answers.Load())
			})
		})
	}
}
