// Recovery across nodes with adapters and messages that misbehave.

package realtime_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// oddAdapter is a HubNode with faults.
type oddAdapter struct {
	*realtimetest.HubNode
	node    atomic.Pointer[oddNode]
	drop    atomic.Bool                                         // deliveries
	hold    atomic.Pointer[func(m realtime.ClusterMessage)]     // called before a delivery
	publish atomic.Pointer[func(realtime.ClusterMessage) error] // called before Publish
}

type oddNode struct {
	realtime.Node
	a *oddAdapter
}

func (a *oddAdapter) Start(ctx context.Context, n realtime.Node) error {
	o := &oddNode{n, a}
	a.node.Store(o)
	return a.HubNode.Start(ctx, o)
}

func (n *oddNode) Deliver(m realtime.ClusterMessage) {
	if f := n.a.hold.Load(); f != nil {
		(*f)(m)
	}
	if !n.a.drop.Load() {
		n.Node.Deliver(m)
	}
}

func (a *oddAdapter) Publish(ctx context.Context, m realtime.ClusterMessage) error {
	if f := a.publish.Load(); f != nil {
		if err := (*f)(m); err != nil {
			return err
		}
	}
	return a.HubNode.Publish(ctx, m)
}

// odd makes the adapter of the next node of a cluster odd.
func (c *nodes) odd(change ...func(o *realtime.Options)) (*oddAdapter, *realtimetest.Server) {
	a := &oddAdapter{HubNode: c.hub.Node()}
	s := c.site(a, change...)
	c.adapters, c.servers = append(c.adapters, a.HubNode), append(c.servers, s)
	c.settle()
	return a, s
}

// A node that knows that it receives nothing (Receiving was called with an error) gives a client its socket back,
// without the events that it has not received.
func TestRecoveryNodes_NotReceiving(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newNodes(t, 2)
		a, s := c.odd()
		time.Sleep(1200 * time.Millisecond)
		room := realtime.DriverRoom("d1")
		former := c.servers[0].Driver(t, "d1")
		c.settle()
		c.cut(0, former)
		time.Sleep(150 * time.Millisecond)
		a.drop.Store(true)
		a.node.Load().Receiving(errors.New("the subscription is lost"))
		c.emit(0, room, 1)
		client, hello := back(t, s, former, "d1")
		require.False(t, *hello.Recovered, "got only %v of 1", receivedNotes(t, client))
	})
}

// The others are told that a client has left while its node received nothing: they do not know what it has received.
func TestRecoveryNodes_LeavesASilentNode(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newNodes(t, 1)
		a, silent := c.odd()
		client := silent.Driver(t, "d1")
		c.settle()
		doubts := func() bool {
			for _, s := range realtime.KnownSockets(c.servers[0].Realtime) {
				if strings.Contains(s, `"doubts"`) {
					return true
				}
			}
			return false
		}
		require.False(t, doubts())
		a.drop.Store(true)
		a.node.Load().Receiving(errors.New("the subscription is lost"))
		c.cut(1, client)
		require.Eventually(t, doubts, 5*time.Second, 5*time.Millisecond)
	})
}

// A node that begins hears of a third one from a node that is behind.
func TestRecoveryNodes_HearOfBehind(t *testing.T) {
	t.Parallel()
	c := newNodes(t, 1)
	a, slow := c.odd()
	room := realtime.DriverRoom("d1")
	former := slow.Driver(t, "d1")
	c.settle()
	time.Sleep(1100 * time.Millisecond)
	// The slow node has not yet handled the next event when the third node begins.
	hold := make(chan struct{})
	f := func(m realtime.ClusterMessage) {
		if m.Op == realtime.OpBroadcast {
			<-hold
		}
	}
	a.hold.Store(&f)
	notes(t, c.servers[0], room, 1)
	// The third node hears of the slow one's state first.
	b, third := c.oddHeld(func(m realtime.ClusterMessage) bool { return m.From == c.adapters[0].Peer().ID })
	time.Sleep(1300 * time.Millisecond)
	close(b)
	time.Sleep(100 * time.Millisecond)
	former.Drop()
	time.Sleep(150 * time.Millisecond)
	client, hello := back(t, third, former, "d1")
	close(hold)
	if *hello.Recovered {
		require.Equal(t, []int{1}, receivedNotes(t, client), "recovered")
	}
}

// oddHeld starts a node whose messages that which selects wait.
func (c *nodes) oddHeld(which func(m realtime.ClusterMessage) bool) (release chan struct{}, s *realtimetest.Server) {
	a := &oddAdapter{HubNode: c.hub.Node()}
	release = make(chan struct{})
	f := func(m realtime.ClusterMessage) {
		if which(m) {
			<-release
		}
	}
	a.hold.Store(&f)
	return release, c.site(a)
}

// Publish of one event fails on the node of the client, which lives and answers: the client recovers on another node without it.
func TestRecoveryNodes_PublishFails(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(){"error": func() {}, "panic": func() { panic("adapter") }} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newNodes(t, 1)
				a, s := c.odd()
				room := realtime.DriverRoom("d1")
				former := s.Driver(t, "d1")
				c.settle()
				c.cut(1, former)
				time.Sleep(150 * time.Millisecond)
				f := func(m realtime.ClusterMessage) error {
					if m.Op == realtime.OpBroadcast {
						fail()
						return errors.New("no")
					}
					return nil
				}
				a.publish.Store(&f)
				c.emit(1, room, 1)
				a.publish.Store(nil)
				c.emit(1, room, 2)
				client, hello := back(t, c.servers[0], former, "d1")
				require.False(t, *hello.Recovered, "got only %v of 1, 2", receivedNotes(t, client))
			})
		})
	}
}

// An adapter whose Publish blocks stops nobody.
func TestRecoveryNodes_PublishBlocks(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newNodes(t, 1)
		a, s := c.odd()
		room := realtime.DriverRoom("d1")
		d1, d2 := s.Driver(t, "d1"), s.Driver(t, "d2")
		c.settle()
		hold := make(chan struct{})
		f := func(realtime.ClusterMessage) error { <-hold; return nil }
		a.publish.Store(&f)
		for n := range 20 {
			go func() { _ = note.Emit(s.Realtime.Drivers().To(room), n) }()
		}
		require.Eventually(t, func() bool { return len(receivedNotes(t, d1)) == 20 }, 10*time.Second, time.Millisecond)
		d2.Drop()
		again, hello := back(t, s, d2, "d2")
		t.Log(*hello.Recovered)
		again.Close()
		close(hold)
		require.NoError(t, c.hub.Wait(t.Context()))
	})
}

// The offset of trip:sync says that an event was received that comes behind it, if there was a gap (or the log was trimmed) meanwhile.
func TestRecoveryNodes_SnapshotLabel(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := make(chan struct{})
		entered := make(chan struct{}, 4)
		c := newNodes(t, 2, func(o *realtime.Options) { o.Snapshots = slowSnapshot{entered, s}; o.Recovery.Events = 3 })
		room := realtime.DriverRoom("d1")
		done := make(chan *realtimetest.Client)
		go func() {
			former, err := c.servers[0].Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Token(c.servers[0].Login("d1", realtime.UserDriver)))
			if err != nil {
				t.Error(err)
			}
			done <- former
		}()
		<-entered
		c.emit(1, room, 1)
		notes(t, c.servers[0], realtime.DriverRoom("d9"), 5, 6, 7) // trims the log of node 0 (and of node 1)
		require.NoError(t, c.hub.Wait(t.Context()))
		close(s)
		former := <-done
		require.Equal(t, 1, realtimetest.Expect(t, former, note))
		offset := ""
		for _, r := range former.Received() {
			if r.Event == realtime.EventTripSync.Name() {
				last := r.Args[len(r.Args)-1]
				offset = string(last[1 : len(last)-1])
			}
		}
		require.NotEmpty(t, offset)
		c.settle()
		c.cut(0, former)
		auth := map[string]any{"token": c.servers[0].Login("d1", realtime.UserDriver), "pid": former.PID(), "offset": offset} // the connection broke behind trip:sync
		client, err := c.servers[1].Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Auth(auth))
		require.NoError(t, err)
		hello := realtimetest.Expect(t, client, realtime.EventHello)
		if *hello.Recovered {
			require.Equal(t, []int{1}, receivedNotes(t, client), "recovered")
		}
	})
}

type slowSnapshot struct{ entered, done chan struct{} }

func (s slowSnapshot) FindSnapshot(context.Context, string, realtime.Identity) (realtime.Snapshot, error) {
	s.entered <- struct{}{}
	<-s.done
	return realtime.Snapshot{}, nil
}

// Hostile messages between nodes.
func TestRecoveryNodes_Hostile(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newNodes(t, 2)
		former := c.servers[0].Driver(t, "d1")
		c.settle()
		evil := c.hub.Node()
		require.NoError(t, evil.Start(t.Context(), nobody{}))
		t.Cleanup(func() { _ = evil.Close(context.Background()) })
		var valid, id string
		for i, r := range realtime.SharedSockets(c.servers[0].Realtime) {
			valid, id = r, i
		}
		big := make([]byte, 1<<16)
		for i := range big {
			big[i] = 'A'
		}
		var rec map[string]any
		require.NoError(t, json.Unmarshal([]byte(valid), &rec))
		mut := func(k string, v any) string {
			m := map[string]any{}
			maps.Copy(m, rec)
			m[k] = v
			b, err := json.Marshal(m)
			require.NoError(t, err)
			return string(b)
		}
		recs := []string{valid, "null", "1", `"x"`, "{}", "[]", `{"id":null}`}
		for _, k := range []string{"id", "turn", "socket", "rooms", "since", "least", "node", "identity"} {
			for _, v := range []any{nil, "", "x", string(big), -1, int64(1) << 62, []any{}, []any{nil}, []any{map[string]any{"name": "", "since": "*"}}, map[string]any{}, "ABCDEFGzzzzzz", "ABCDEFzzzzzzz", "ABCDEF-------", "*", "ABCDEFzzzzzzz*", string(big[:13*17]), string(big[:13*18]), "\x00\x00\x00\x00\x00\x00"} {
				recs = append(recs, mut(k, v))
			}
		}
		marks := []string{`""`, `"ABCDEFzzzzzzz"`, `"ABCDEF-------"`, `"AAAAAA0000000"`, `"` + string(big[:100]) + `"`, "null", "1", `"` + rec["node"].(string) + `zzzzzzz"`}
		var states []string
		for _, m := range marks {
			for _, r := range recs {
				for _, f := range []string{"open", "left"} {
					states = append(states, `{"sockets":{"mark":`+m+`,"first":true,"`+f+`":[`+r+`]}}`)
				}
			}
			states = append(states, `{"sockets":{"mark":`+m+`,"heard":[`+m+`,`+m+`],"gone":["`+id+`","","x",null]}}`,
				`{"kept":{"Mark":`+m+`,"mark":`+m+`}}`,
				`{"kept":{"mark":`+m+`,"All":true,"Event":null}}`)
		}
		for _, ev := range []string{`null`, `{}`, `{"Args":[]}`, `{"Args":["note"]}`, `{"Args":[1]}`, `{"Args":["note",{"_placeholder":true,"num":0}]}`, `{"Args":["note",{"_placeholder":true,"num":9}],"Attachments":["AAAA"]}`, `{"Args":["note",1],"Attachments":[null,""]}`, `{"Args":["connect",null]}`} {
			for _, to := range []string{`"All":true`, `"Rooms":[""]`, `"Rooms":["driver:d1"]`, `"Rooms":null`, `"Rooms":["driver:d1","driver:d1"],"Except":["","driver:d1"]`, `"All":true,"Key":"k"`, `"All":true,"Volatile":true`} {
				for _, m := range []string{`"ABCDEFzzzzzzz"`, `"x"`, `"` + rec["node"].(string) + `zzzzzzz"`} {
					states = append(states, `{"kept":{"Mark":`+m+`,"mark":`+m+`,"Event":`+ev+`,"event":`+ev+`,`+to+`}}`)
				}
			}
		}
		for _, cl := range []string{`{}`, `{"claim":"x","node":"` + rec["node"].(string) + `","id":"` + id + `","socket":"` + former.ID() + `"}`,
			`{"claim":"x","node":"` + rec["node"].(string) + `","id":"` + id + `","socket":""}`,
			`{"claim":"","node":"","id":"","socket":""}`,
			`{"claim":"y","node":"` + rec["node"].(string) + `","id":"` + id + `","socket":"` + former.ID() + `","offset":"*"}`,
			`{"claim":"y","node":"` + rec["node"].(string) + `","id":"` + id + `","socket":"` + former.ID() + `","offset":"` + string(big) + `"}`} {
			states = append(states, `{"claim":`+cl+`}`)
		}
		for _, cl := range []string{`{}`, `{"claim":"x"}`, `{"claim":"x","wait":true,"socket":` + valid + `}`, `{"claim":"x","socket":null}`} {
			states = append(states, `{"claimed":`+cl+`}`)
		}
		node := rec["node"].(string)
		states = append(states,
			`{"find":null}`, `{"find":{}}`, `{"find":{"find":"x","id":"`+id+`","socket":"`+former.ID()+`"}}`,
			`{"find":{"find":"x","id":"","socket":""}}`, `{"find":{"find":"x","id":"`+id+`","socket":"`+string(big)+`"}}`,
			`{"found":{}}`, `{"found":{"find":"x","socket":`+valid+`,"leftMs":-1}}`,
			`{"logOf":{}}`, `{"logOf":{"log":"x","node":"`+node+`","peers":["",null]}}`, `{"logPage":{}}`, `{"logPage":{"log":"x","state":{"known":[{}]}}}`,
			`{"part":{}}`, `{"part":{"part":"x","n":-1,"events":[{"Args":null}],"last":true}}`, `{"partOf":{}}`,
		)
		for _, r := range recs {
			for _, by := range []string{"", "ABCDEF", node} {
				states = append(states, `{"partOf":{"part":"x","node":"`+node+`","by":"`+by+`","socket":`+r+`,"rooms":["driver:d1","",null],"heardMs":-9223372036854775808}}`)
			}
		}
		for _, ns := range []string{realtime.NamespaceDrivers, realtime.NamespaceAdmin, "/none"} {
			for _, text := range states {
				var st realtime.NodeState
				if json.Unmarshal([]byte(text), &st) != nil {
					continue
				}
				m := realtime.ClusterMessage{Version: realtime.ClusterVersion, Op: realtime.OpState, Namespace: ns, State: &st}
				require.NoError(t, evil.Publish(t.Context(), m))
			}
			for _, m := range []string{"", "x", "ABCDEFzzzzzzz", rec["node"].(string) + "zzzzzzz", string(big)} {
				require.NoError(t, evil.Publish(t.Context(), realtime.ClusterMessage{Version: realtime.ClusterVersion, Op: realtime.OpBroadcast, Namespace: ns, All: true, Mark: m, Event: &realtime.Raw{Args: []json.RawMessage{[]byte(`"odd"`)}}}))
			}
		}
		require.NoError(t, c.hub.Wait(t.Context()))
		require.NoError(t, c.hub.Err())
		t.Log(former.Connected(), former.Reason())
		notes(t, c.servers[1], realtime.DriverRoom("d1"), 5)
		other := c.servers[1].Driver(t, "d1")
		notes(t, c.servers[0], realtime.DriverRoom("d1"), 6)
		require.Equal(t, 6, realtimetest.Expect(t, other, note))
	})
}

// Odd pids and offsets.
func TestRecoveryNodes_OddClaims(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newNodes(t, 2)
		former := c.servers[0].Driver(t, "d1")
		c.emit(1, realtime.DriverRoom("d1"), 1)
		realtimetest.Expect(t, former, note)
		c.settle()
		c.cut(0, former)
		time.Sleep(100 * time.Millisecond)
		big := make([]byte, 100_000)
		for i := range big {
			big[i] = 'A'
		}
		o := former.Offset()
		emitter := o[:6]
		token := c.servers[0].Login("d1", realtime.UserDriver)
		for _, pid := range []any{nil, 1, "", former.PID(), former.PID() + "A", former.PID()[:46] + "\x00", string(big[:47]), string(big), []any{former.PID()}, map[string]any{}} {
			for _, off := range []any{nil, 1, "", "*", o + "*", o[:12], emitter + "zzzzzzz", o + o, "ABCDEFzzzzzzz" + o, string(big), string(big[:17*13]), []any{o}, "\u0000", emitter + "zzzzzzzz"} {
				if pid == former.PID() && off == nil {
					continue
				}
				for _, s := range c.servers {
					client, err := s.Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Auth(map[string]any{"token": token, "pid": pid, "offset": off}))
					require.NoError(t, err)
					if client.Recovered() {
						t.Logf("recovered with %.60v %.60v", pid, off)
					}
					client.Close()
				}
			}
		}
		require.NoError(t, c.hub.Err())
	})
}

// A node is lost, which is noticed late (the adapter of Redis needs some time): the client is taken for one that has
// received what came then.
func TestRecoveryNodes_NotedLate(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newNodes(t, 2, fastBeat, func(o *realtime.Options) { o.Recovery.Events = 4 })
		room := realtime.DriverRoom("d1")
		former := c.servers[0].Driver(t, "d1")
		c.settle()
		c.adapters[0].Cut() // it dies, and nobody knows
		former.Drop()
		c.emit(1, room, 1, 2, 3, 4, 5, 6, 7, 8)
		time.Sleep(8 * time.Second)
		client, hello := back(t, c.servers[1], former, "d1")
		require.False(t, *hello.Recovered, "got only %v of 1..8", receivedNotes(t, client))
	})
}

// The former node, whose log was trimmed, claims that the client has received what is not in it. No long absence is needed.
func TestRecoveryNodes_FormerTrimmed(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newNodes(t, 2, func(o *realtime.Options) { o.Recovery.Events = 4 })
		room := realtime.DriverRoom("d1")
		former := c.servers[0].Driver(t, "d1")
		c.settle()
		c.cut(0, former)
		c.emit(1, room, 1, 2, 3, 4, 5, 6, 7, 8)
		client, hello := back(t, c.servers[1], former, "d1")
		require.False(t, *hello.Recovered, "got only %v of 1..8", receivedNotes(t, client))
	})
}

// The same because of a gap on the former node alone: the other one has every event.
func TestRecoveryNodes_FormerGap(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newNodes(t, 2)
		room := realtime.DriverRoom("d1")
		former := c.servers[0].Driver(t, "d1")
		c.settle()
		c.cut(0, former)
		time.Sleep(150 * time.Millisecond)
		c.emit(1, room, 1)
		c.adapters[0].Cut()
		c.adapters[0].Heal()
		require.NoError(t, c.hub.Wait(t.Context()))
		client, hello := back(t, c.servers[1], former, "d1")
		require.True(t, !*hello.Recovered || len(receivedNotes(t, client)) == 1, "recovered without 1")
	})
}

// The former node had a gap while the client was connected. If nothing has come since, another node knows what was lost.
func TestRecoveryNodes_GapWhileConnected(t *testing.T) {
	t.Parallel()
	room := realtime.DriverRoom("d1")
	for name, test := range map[string]struct {
		to    int // the node to which the client comes back
		since bool
		died  bool
	}{
		"the same node":                  {to: 0},
		"another node":                   {to: 1},
		"the same, something came since": {to: 0, since: true},
		"another, something came since":  {to: 1, since: true},
		"its node has died":              {to: 1, died: true},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newNodes(t, 3)
				former := c.servers[0].Driver(t, "d1")
				c.emit(1, room, 1)
				require.Equal(t, 1, realtimetest.Expect(t, former, note))
				c.settle()
				c.adapters[0].Cut()
				c.emit(1, room, 2)
				c.adapters[0].Heal()
				require.NoError(t, c.hub.Wait(t.Context()))
				c.emit(2, realtime.DriverRoom("d2"), 99)
				if test.since {
					c.emit(1, room, 3)
					require.Equal(t, 3, realtimetest.Expect(t, former, note))
				}
				c.settle()
				if test.died {
					c.kill(0)
					former.Drop()
				} else {
					c.cut(0, former)
				}
				client, hello := back(t, c.servers[test.to], former, "d1")
				switch {
				case test.since: // the gap is from before its offset
					recovers(t, client, hello, former)
				default:
					recovers(t, client, hello, former, 2)
				}
			})
		})
	}
}

// A client has the same time to come back, also if its former node tells again that it is away, and then dies.
func TestRecoveryNodes_AwayIsToldAgain(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		rest     time.Duration
		recovers bool
	}{
		"within the window": {10 * time.Second, true},
		"after it":          {time.Minute, false},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newNodes(t, 2)
				former := c.servers[0].Driver(t, "d1")
				c.settle()
				c.cut(0, former)
				time.Sleep(80 * time.Second)
				c.adapters[0].Cut()
				c.adapters[0].Heal()
				time.Sleep(5 * time.Second)
				c.kill(0)
				time.Sleep(test.rest)
				_, hello := back(t, c.servers[1], former, "d1")
				require.Equal(t, test.recovers, *hello.Recovered)
			})
		})
	}
}

// A client has come to a node, which has told of it, and answers another one over a slow path: it keeps the socket. If
// that node says nothing for longer, it is taken for dead.
func TestRecoveryNodes_SlowAnswer(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		slow  bool
		rest  time.Duration // before the second device comes
		keeps bool
	}{
		"slow":              {true, 0, true},
		"it is dead":        {false, 0, false},
		"slow, a while ago": {true, 2 * time.Second, false},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newNodes(t, 2)
				a, far := c.odd()
				former := c.servers[0].Driver(t, "d1")
				c.settle()
				c.cut(0, former)
				first, hello := back(t, c.servers[1], former, "d1")
				recovers(t, first, hello, former)
				c.settle(former.ID())
				over := make(chan struct{})
				f := func(m realtime.ClusterMessage) {
					if m.Op != realtime.OpState || m.From != c.adapters[1].Peer().ID {
						return
					}
					if !test.slow {
						<-over
						return
					}
					time.Sleep(time.Second)
				}
				a.hold.Store(&f)
				time.Sleep(test.rest)
				second, hello := back(t, far, former, "d1")
				close(over)
				require.Equal(t, test.keeps, !*hello.Recovered)
				time.Sleep(5 * time.Second)
				require.Equal(t, test.keeps, first.Connected())
				second.Close()
			})
		})
	}
}

// A node that begins while a client is away does not know it.
func TestRecoveryNodes_NodeBeginsWhileAway(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(c *nodes){"former node lives": func(*nodes) {}, "former node was shut down": func(c *nodes) { _ = c.servers[0].Realtime.Shutdown(context.Background()); c.gone[0] = true }} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newNodes(t, 2)
				former := c.servers[0].Driver(t, "d1")
				c.settle()
				time.Sleep(100 * time.Millisecond)
				c.cut(0, former)
				time.Sleep(150 * time.Millisecond)
				end(c)
				s := c.start()
				time.Sleep(1500 * time.Millisecond)
				client, hello := back(t, s, former, "d1")
				if name == "former node lives" {
					recovers(t, client, hello, former)
				} else { // nobody can tell it of the client any more
					recoversOrIsNew(t, client, hello, former)
				}
			})
		})
	}
}
