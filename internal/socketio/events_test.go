// Tests of events and acks in both directions.

package socketio

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/engineio"
	"github.com/rodando/realtime/internal/testkit"
)

// echo acks an event with the same arguments and attachments.
func echo(s *Socket, e *Event) {
	if e.WantsAck() {
		e.Ack(e.Attachments, e.Args...)
	} else {
		s.Send(EventMessages(s.Namespace().Name(), NoID, e.Name, e.Args, e.Attachments)...)
	}
}

func TestSocket_Events(t *testing.T) {
	long := strings.Repeat("é", 49_000)
	payloads := []string{
		`[""]`, `["","",null]`, `["a"]`, `["a",1,"two",{"three":[4,{}]},null,true,-1.5e3]`, `["é","ñandú","🚕","\ud83d\ude95",{"clé":"üß"}]`,
		`["a","` + "\u2028\u2029\u007f" + `","\u0000\u001e"]`, `["a",[],{},""]`, `["` + strings.Repeat("n", 64) + `"]`, `["a","` + long + `"]`,
	}
	each(t, func(t *testing.T, transport string) {
		s := serve(t)
		s.namespace("/", Hooks{Event: echo})
		s.namespace("/a", Hooks{Event: echo})
		c, _ := s.join(transport, "/", "/a")
		for _, p := range payloads {
			for _, n := range []string{"", "/a,"} {
				c.text("2" + n + p)
				c.expect("2" + n + p)
				// An ack has the arguments without the name.
				c.text("2" + n + "12" + p)
				_, args, several := strings.Cut(p[1:], ",")
				if !several {
					args = "]"
				}
				c.expect("3" + n + "12[" + args)
			}
		}
		c.text(`20["a"]`, `29007199254740991["a"]`)
		c.expect(`30[]`, `39007199254740991[]`)
	})
}

// A packet of exactly the maximum size passes in both directions; one byte more ends
// the connection.
func TestConn_LargestPayload(t *testing.T) {
	const limit = 1e5
	each(t, func(t *testing.T, transport string) {
		s := serve(t)
		s.namespace("/", Hooks{Event: echo})
		c, _ := s.join(transport, "/")
		p := func(size int) string { // with the packet type byte of the engine
			return `2["a","` + strings.Repeat("x", size-1-len(`2["a",""]`)) + `"]`
		}
		c.text(p(limit))
		c.expect(p(limit))
		c.text(p(limit + 1))
		require.True(t, c.isClosed())
	})
}

func TestConn_Binary(t *testing.T) {
	const one, two = `{"_placeholder":true,"num":0}`, `{"_placeholder":true,"num":1}`
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	each(t, func(t *testing.T, transport string) {
		s := serve(t)
		s.namespace("/", Hooks{Event: echo})
		s.namespace("/a", Hooks{Event: echo})
		c, _ := s.join(transport, "/", "/a")

		c.text(`51-["a",` + one + `]`)
		c.binary(string(every))
		c.expect1(`51-["a",` + one + `]`)
		c.expectBinary(string(every))

		// The sender chooses the order of the placeholders.
		c.text(`52-/a,7["a",` + two + `,"x",{"y":[` + one + `]},` + two + `]`)
		c.binary("", "second")
		c.expect1(`62-/a,7[` + two + `,"x",{"y":[` + one + `]},` + two + `]`)
		c.expectBinary("", "second")

		// No attachments announced: an event like any other.
		c.text(`50-["a",` + one + `]`)
		c.expect(`2["a",` + one + `]`)

		// Ten is the limit.
		ten := slices.Repeat([]string{"x"}, 10)
		c.text(`510-["a"]`)
		c.binary(ten...)
		c.expect1(`510-["a"]`)
		c.expectBinary(ten...)
		c.expectNone()
	})
}

// The limit counts the attachments of one packet together, without the text.
func TestConn_BinarySize(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		s := serve(t, func(sc *Config, _ *engineio.Config) { sc.AttachmentBytes = 5000 })
		s.namespace("/", Hooks{Event: echo})
		text := `52-["a","` + strings.Repeat("x", 5000) + `"]`
		half := strings.Repeat("y", 2500)
		c, _ := s.join("websocket", "/")
		for range 3 {
			c.text(text)
			c.binary(half, half)
			c.expect1(text)
			c.expectBinary(half, half)
		}
		c.text(text)
		c.binary(half, half+"y")
		c.expect1(`2["a"]`) // without its content: see TestConn_EventsOverALimit
		require.False(t, c.isClosed())
	})
}

// When a socket leaves its namespace, its incomplete binary packet is dropped
// completely.
func TestConn_BinaryAcrossDisconnect(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		s := serve(t)
		var l log
		s.namespace("/", events(&l))
		s.namespace("/a", events(&l))
		c, sockets := s.join("websocket", "/", "/a")
		c.text(`51-/a,["a"]`)
		synctest.Wait()
		sockets[1].Disconnect()
		c.expect(`1/a,`)
		c.binary("x")
		c.text(`2["b"]`)
		require.Equal(t, []string{"b "}, l.take())
	})
}

// Input that is not valid protocol closes the connection.
func TestConn_InvalidPackets(t *testing.T) {
	const one = `{"_placeholder":true,"num":0}`
	invalid := []struct {
		name string
		send []string // "b:" marks binary
	}{
		{"empty", []string{""}},
		{"unknown type", []string{`7`}},
		{"unknown type with event", []string{`9["a"]`}},
		{"not a digit", []string{`x["a"]`}},
		{"data that is no array", []string{`2{"a":1}`}},
		{"data that is a string", []string{`2"a"`}},
		{"event without data", []string{`2`}},
		{"event without data in a namespace", []string{`2/a,`}},
		{"event without a name", []string{`2[]`}},
		{"cut json", []string{`2["a`}},
		{"trailing json", []string{`2["a"]]`}},
		{"numeric name", []string{`2[1]`}},
		{"object for a name", []string{`2[{"toString":"foo"}]`}},
		{"null for a name", []string{`2[null]`}},
		{"placeholder for a name", []string{`51-[` + one + `]`}},
		{"connect", []string{`2["connect"]`}},
		{"connect, escaped", []string{`2["\u0063onnect"]`}},
		{"connect_error", []string{`2["connect_error",{}]`}},
		{"disconnect", []string{`2["disconnect","x"]`}},
		{"disconnecting", []string{`2["disconnecting"]`}},
		{"newListener", []string{`2["newListener"]`}},
		{"removeListener", []string{`2["removeListener"]`}},
		{"reserved, binary", []string{`51-["disconnect",` + one + `]`}},
		{"ack id too large", []string{`29007199254740992["a"]`}},
		{"ack id endless", []string{`2` + strings.Repeat("1", 90_000)}},
		{"ack id negative", []string{`2-1["a"]`}},
		{"ack id fractional", []string{`21.5["a"]`}},
		{"ack without id", []string{`3["a"]`}},
		{"ack without data", []string{`31`}},
		{"ack whose data is no array", []string{`31{"a":1}`}},
		{"ack of null", []string{`31null`}},
		{"placeholder out of range", []string{`51-["a",{"_placeholder":true,"num":1}]`}},
		{"placeholder negative", []string{`51-["a",{"_placeholder":true,"num":-1}]`}},
		{"placeholder fractional", []string{`51-["a",{"_placeholder":true,"num":0.5}]`}},
		{"placeholder huge", []string{`51-["a",{"_placeholder":true,"num":9999}]`}},
		{"placeholder that is a word", []string{`51-["a",{"_placeholder":true,"num":"length"}]`}},
		{"placeholder without number", []string{`51-["a",{"_placeholder":true}]`}},
		{"far too many attachments", []string{`5` + strings.Repeat("9", 90_000) + `-["a"]`}},
		{"attachment count missing", []string{`5-["a"]`}},
		{"attachment count without end", []string{`51["a"]`}},
		{"attachment count negative", []string{`5-1-["a"]`}},
		{"text where an attachment is due", []string{`51-["a",` + one + `]`, `2["a"]`}},
		{"connect where an attachment is due", []string{`51-["a",` + one + `]`, `0/a,`}},
		{"binary that nothing announced", []string{`b:x`}},
		{"one attachment too many", []string{`51-["a",` + one + `]`, `b:x`, `b:x`}},
		{"disconnect with a payload", []string{`1{}`}},
		{"disconnect with an id", []string{`11`}},
		{"connect error", []string{`4{"message":"x"}`}},
		{"connect error for a namespace", []string{`4/a,{"message":"x"}`}},
		{"connect with an array", []string{`0/other,["x"]`}},
		{"connect with text", []string{`0/other,"x"`}},
		{"connect with an id", []string{`0/other,1{}`}},
		{"connect while connected", []string{`0`}},
		{"long namespace", []string{`0/` + strings.Repeat("n", 80)}},
		{"endless namespace", []string{`0/` + strings.Repeat("n", 90_000)}},
		{"control character in a namespace", []string{"0/\x00,"}},
		{"event, never joined", []string{`2/other,["a"]`}},
		{"event, unknown namespace", []string{`2/unknown,["a"]`}},
		{"binary event, never joined", []string{`51-/other,["a"]`}}, // before anything is kept of it
		{"binary ack, never joined", []string{`61-/other,1["a"]`}},
		{"binary event, pending", []string{`0/pending`, `51-/pending,["a"]`}},
		{"ack, never joined", []string{`3/other,1[]`}},
		{"disconnect, never joined", []string{`1/other,`}},
		{"event, pending", []string{`0/pending`, `2/pending,["a"]`}},
		{"ack, pending", []string{`0/pending`, `3/pending,1[]`}},
		{"event, pending again", []string{`1`, `0/unknown`, `0/pending`, `1/pending`, `0/pending`, `2/pending,["a"]`}},
		{"event, refused", []string{`0/refused`, `2/refused,["a"]`}},
	}
	for _, tt := range invalid {
		t.Run(tt.name, func(t *testing.T) {
			each(t, func(t *testing.T, transport string) {
				s := serve(t)
				var l log
				s.namespace("/", events(&l))
				s.namespace("/other", events(&l))
				s.namespace("/pending", Hooks{Connect: func(*Socket, []byte) {}})
				s.namespace("/refused", Hooks{Connect: func(sock *Socket, _ []byte) { sock.Refuse([]byte(`{}`), false) }})
				c, _ := s.join(transport, "/")
				c.text(`2["before"]`)
				for _, m := range tt.send {
					require.False(t, c.isClosed(), "closed before %.40q", m)
					if data, ok := strings.CutPrefix(m, "b:"); ok {
						c.binary(data)
					} else {
						c.text(m)
					}
				}
				require.True(t, c.isClosed())
				require.Equal(t, []string{"before "}, slices.DeleteFunc(l.take(), func(s string) bool { return s == "a "+one }))
				require.Len(t, s.reasons.take(), 1)
			})
		})
	}

	// On polling it also ends the POST, whose other packets are ignored.
	t.Run("polling answer", func(t *testing.T) {
		testkit.Bubble(t, func(t *testing.T) {
			s := serve(t)
			var l log
			s.namespace("/", events(&l))
			c, _ := s.join("polling", "/")
			require.True(t, c.post(`42["a"]`+"\x1e"+`42["b"]`))
			require.False(t, c.post(`42["c"]`+"\x1e"+`42[1]`+"\x1e"+`42["d"]`))
			require.Equal(t, []string{"a ", "b ", "c "}, l.take())
			require.True(t, c.isClosed())
			require.Equal(t, []string{"/ parse error"}, s.reasons.take())
		})
	})
}

// A packet for a namespace that the client has left is dropped, whichever side left.
func TestConn_PacketsForALeftNamespace(t *testing.T) {
	each(t, func(t *testing.T, transport string) {
		s := serve(t)
		var l log
		s.namespace("/", events(&l))
		s.namespace("/a", events(&l))
		s.namespace("/b", events(&l))
		c, sockets := s.join(transport, "/", "/a", "/b")
		c.text(`1/a,`)
		sockets[2].Disconnect()
		require.Equal(t, packet{`1/b,`, false}, c.next())
		for _, n := range []string{"/a,", "/b,"} {
			c.text(`2`+n+`["x"]`, `2`+n+`5["x"]`, `3`+n+`1[]`, `51-`+n+`["x"]`)
			c.binary("x")
			c.text(`1` + n)
		}
		c.text(`2["still here"]`)
		require.Equal(t, []string{"still here "}, l.take())
		require.False(t, c.isClosed())
		s.enter(c, "/a")
		c.text(`2/a,["x"]`)
		require.Equal(t, []string{"x "}, l.take())
		c.text(`2/c,["x"]`)
		require.True(t, c.isClosed())
	})
}

// The events of one socket come one at a time and in order; sockets of the same
// connection do not wait for each other.
func TestSocket_EventsInOrder(t *testing.T) {
	each(t, func(t *testing.T, transport string) {
		s := serve(t)
		var l log
		step := make(chan struct{})
		var busy atomic.Bool
		hooks := Hooks{Event: func(sock *Socket, e *Event) {
			if sock.Namespace().Name() == "/slow" {
				if busy.Swap(true) {
					t.Error("two events of a socket at a time")
				}
				<-step
				busy.Store(false)
			}
			l.addf("%s %s", sock.Namespace().Name(), e.Args[0])
		}}
		s.namespace("/", hooks)
		s.namespace("/slow", hooks)
		c, _ := s.join(transport, "/", "/slow")
		for i := range 20 {
			c.text(fmt.Sprintf(`2/slow,["n",%d]`, i))
		}
		for i := range 20 {
			c.text(fmt.Sprintf(`2["n",%d]`, i))
		}
		for _, n := range []string{"/", "/slow"} {
			var want []string
			for i := range 20 {
				if n == "/slow" {
					step <- struct{}{}
				}
				want = append(want, fmt.Sprintf("%s %d", n, i))
			}
			require.Equal(t, want, l.take())
		}
	})
}

// A blocked handler delays neither acks nor heartbeats nor other namespaces, and may
// ask the client.
func TestSocket_BlockedHandler(t *testing.T) {
	each(t, func(t *testing.T, transport string) {
		s := serve(t)
		block := make(chan struct{})
		var replies log
		s.namespace("/", Hooks{Event: func(sock *Socket, e *Event) {
			r, err := sock.Ask(context.Background(), func(id int64) bool { return sock.Send(EventMessage("/", id, "question", []byte("1"))) })
			replies.addf("%s %v", bytes.Join(r.Args, []byte(" ")), err)
			<-block
			e.Ack(nil, []byte("2"))
		}})
		s.namespace("/b", Hooks{Event: echo})
		c, _ := s.join(transport, "/", "/b")
		c.text(`25["x"]`)
		c.expect(`20["question",1]`)
		time.Sleep(5 * time.Minute)
		require.False(t, c.isClosed(), "heartbeats go on")
		c.text(`30["answer",{"x":1}]`)
		require.Equal(t, []string{`"answer" {"x":1} <nil>`}, replies.take())
		c.text(`2/b,1["x",2]`)
		c.expect(`3/b,1[2]`)
		time.Sleep(5 * time.Minute)
		require.False(t, c.isClosed())
		close(block)
		c.expect(`35[2]`)
	})
}

// A client that sends faster than its handlers work is paused: few events wait, and
// none is lost.
func TestConn_Backpressure(t *testing.T) {
	const queued, flood = 10, 2000
	each(t, func(t *testing.T, transport string) {
		s := serve(t, func(sc *Config, ec *engineio.Config) {
			sc.QueuedEvents = queued
			ec.MaxPackets = 20
		})
		var l log
		worst := 0
		s.namespace("/", Hooks{Event: func(sock *Socket, e *Event) {
			worst = max(worst, backlogOf(sock).events)
			time.Sleep(time.Millisecond)
			l.addf("%s", e.Args[0])
		}})
		c, sockets := s.join(transport, "/")
		var want []string
		sent := 0
		for i := 0; i < flood; i += 20 {
			var batch []string
			for j := i; j < i+20; j++ {
				batch = append(batch, fmt.Sprintf(`2["n",%d]`, j))
				want = append(want, fmt.Sprint(j))
			}
			c.text(batch...)
			sent++
		}
		time.Sleep(2 * flood * time.Millisecond)
		require.Equal(t, want, l.take())
		require.LessOrEqual(t, worst, queued+1)
		require.GreaterOrEqual(t, worst, queued)
		require.Equal(t, backlog{}, waiting(sockets[0]))
		require.False(t, c.isClosed())
	})
}

// The same over TCP: every event is acked, in order.
func TestConn_BackpressureTCP(t *testing.T) {
	t.Parallel()
	const flood = 5000
	s := serveTCP(t, func(sc *Config, _ *engineio.Config) { sc.QueuedEvents = 10 })
	s.namespace("/", Hooks{Event: echo})
	s.namespace("/b", Hooks{Event: echo})
	c, _ := s.join("websocket", "/", "/b")
	go func() {
		for i := range flood {
			c.text(fmt.Sprintf(`2%d["n"]`, i), fmt.Sprintf(`2/b,%d["n"]`, i))
		}
	}()
	next := map[bool]int{}
	for range 2 * flood {
		text := c.next().data
		ack, other := strings.CutPrefix(text, "3/b,")
		if !other {
			ack = strings.TrimPrefix(text, "3")
		}
		require.Equal(t, fmt.Sprintf("%d[]", next[other]), ack)
		next[other]++
	}
}

func backlogOf(s *Socket) backlog {
	c := s.Conn()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.backlog
}

// waiting returns the backlog after all goroutines are blocked.
func waiting(s *Socket) backlog {
	synctest.Wait()
	return backlogOf(s)
}

// The size of the queued events counts as well.
func TestConn_BackpressureBytes(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		s := serve(t, func(sc *Config, _ *engineio.Config) { sc.QueuedBytes = 10_000 })
		step := make(chan struct{})
		n := 0
		s.namespace("/", Hooks{Event: func(*Socket, *Event) {
			<-step
			n++
		}})
		c, sockets := s.join("websocket", "/")
		big := `51-["a","` + strings.Repeat("x", 3000) + `"]`
		c.text(`2["running"]`)
		require.Equal(t, backlog{}, waiting(sockets[0]))
		c.text(big)
		c.binary(strings.Repeat("y", 8000))
		full := waiting(sockets[0])
		require.Equal(t, 1, full.events)
		require.True(t, full.paused)
		require.InDelta(t, len(big)+8000+eventSize, full.bytes, 500)
		go c.text(`2["b"]`) // blocks: the server does not read
		require.Equal(t, full, waiting(sockets[0]))
		step <- struct{}{}
		b := waiting(sockets[0])
		require.Equal(t, 1, b.events)
		require.False(t, b.paused)
		require.InDelta(t, eventSize, b.bytes, 50)
		step <- struct{}{}
		step <- struct{}{}
		require.Equal(t, backlog{}, waiting(sockets[0]))
		require.Equal(t, 3, n)
	})
}

// Queued events are dropped when the server disconnects a socket, and count no longer;
// those before the client's own DISCONNECT are handled.
func TestSocket_QueueAtDisconnect(t *testing.T) {
	each(t, func(t *testing.T, transport string) {
		s := serve(t, func(sc *Config, _ *engineio.Config) { sc.QueuedEvents = 2 })
		var l log
		step := make(chan struct{}, 100)
		s.namespace("/", Hooks{
			Event: func(sock *Socket, e *Event) {
				<-step
				l.addf("%s", e.Name)
				if e.Name == "out" {
					sock.Disconnect()
					e.Ack(nil)
				}
			},
			Disconnect: func(_ *Socket, reason string) { l.addf("%s", reason) },
		})
		s.namespace("/b", Hooks{Event: echo})
		c, sockets := s.join(transport, "/", "/b")
		go c.text(`21["out"]`, `22["b"]`, `2["c"]`, `2["d"]`)
		require.True(t, waiting(sockets[0]).paused)
		step <- struct{}{}
		require.Equal(t, []string{"out", ReasonServer}, l.take())
		c.expect("1")
		require.Equal(t, backlog{}, waiting(sockets[0]))
		c.text(`2/b,1["x"]`)
		c.expect(`3/b,1[]`)

		s.enter(c, "/")
		go c.text(`2["a"]`, `2["b"]`, `1`)
		for range 2 {
			step <- struct{}{}
		}
		require.Equal(t, []string{"a", "b", ReasonClient}, l.take())
		require.False(t, c.isClosed())
	})
}

func TestSocket_Acks(t *testing.T) {
	each(t, func(t *testing.T, transport string) {
		s := serve(t)
		n := s.namespace("/", Hooks{})
		c, sockets := s.join(transport, "/")
		sock := sockets[0]
		var l log
		expect := func() int64 {
			id := n.NextID()
			require.NoError(t, sock.Expect(id, func(r Reply) { l.addf("%d %s %s %v", id, r.Args, r.Attachments, r.Err) }))
			require.True(t, sock.Send(EventMessage("/", id, "ask")))
			c.expect(fmt.Sprintf(`2%d["ask"]`, id))
			return id
		}
		// Acks may come in any order; a second ack and one with an unknown id are
		// ignored.
		require.EqualValues(t, 0, expect())
		require.EqualValues(t, 1, expect())
		c.text(`31["é",2]`, `31["again"]`, `30[]`, `377["invented"]`)
		require.Equal(t, []string{`1 ["é" 2] [] <nil>`, `0 [] [] <nil>`}, l.take())

		// With attachments.
		require.EqualValues(t, 2, expect())
		c.text(`61-2[{"_placeholder":true,"num":0}]`)
		c.binary("bytes")
		require.Equal(t, []string{`2 [{"_placeholder":true,"num":0}] [bytes] <nil>`}, l.take())

		// No longer awaited.
		require.EqualValues(t, 3, expect())
		sock.Forget(3)
		c.text(`33[]`)
		require.Empty(t, l.take())

		// Too late.
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		ask := func(id int64) bool { return sock.Send(EventMessage("/", id, "ask")) }
		_, err := sock.Ask(ctx, ask)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		c.expect(`24["ask"]`)
		c.text(`34[]`)
		synctest.Wait()
		require.Empty(t, sock.acks)

		// The end of the socket fails all awaited acks. Later ones are not registered.
		require.EqualValues(t, 5, expect())
		failed := make(chan error)
		go func() {
			_, err := sock.Ask(context.Background(), ask)
			failed <- err
		}()
		c.expect(`26["ask"]`)
		c.text("1")
		require.ErrorIs(t, <-failed, ErrClosed)
		require.Equal(t, []string{`5 [] [] socket is closed`}, l.take())
		_, err = sock.Ask(context.Background(), ask)
		require.ErrorIs(t, err, ErrClosed)
		require.ErrorIs(t, sock.Expect(9, func(Reply) { l.addf("called") }), ErrClosed)
		require.Empty(t, l.take())
		c.expectNone()
	})
}

// Ask in a handler returns when the connection ends, although the queue waits for that
// handler.
func TestSocket_AskAtClose(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		s := serve(t)
		var l log
		s.namespace("/", Hooks{
			Event: func(sock *Socket, _ *Event) {
				_, err := sock.Ask(context.Background(), func(id int64) bool { return sock.Send(EventMessage("/", id, "ask")) })
				l.addf("%v", errors.Is(err, ErrClosed))
			},
			Disconnect: func(_ *Socket, reason string) { l.addf("%s", reason) },
		})
		c, _ := s.join("websocket", "/")
		c.text(`2["a"]`)
		c.expect(`20["ask"]`)
		require.NoError(t, c.conn.Close())
		require.Equal(t, []string{"true", "transport close"}, l.take())
	})
}

// A hook that never returns is abandoned: the queued events are dropped, and the
// Disconnect hook is called without waiting for it, once.
func TestSocket_Abandon(t *testing.T) {
	each(t, func(t *testing.T, transport string) {
		for _, leavesFirst := range []bool{false, true} {
			s, l := serve(t), &log{}
			release := make(chan struct{})
			s.namespace("/", Hooks{Event: func(_ *Socket, e *Event) {
				l.addf("%s", e.Name)
				<-release
			}})
			c, sockets := s.join(transport, "/")
			c.text(`2["a"]`, `2["b"]`)
			require.Equal(t, []string{"a"}, l.take())
			sock := sockets[0]
			if leavesFirst {
				sock.Disconnect()
				require.Empty(t, s.reasons.take(), "it waits for the event")
				sock.Abandon()
			} else {
				sock.Abandon()
				c.text(`2["c"]`)
				require.Empty(t, s.reasons.take())
				sock.Disconnect()
			}
			sock.Abandon()
			require.Equal(t, []string{"/ " + ReasonServer}, s.reasons.take())
			close(release)
			require.Empty(t, l.take())
			require.Empty(t, s.reasons.take())
		}
	})
}

// The function of OpenThen is abandoned likewise, and Wait waits for it.
func TestSocket_AbandonOpenThen(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		s := serve(t)
		release := make(chan struct{})
		entered := make(chan *Socket)
		s.namespace("/", Hooks{Connect: func(sock *Socket, _ []byte) {
			if sock.Admit() {
				sock.OpenThen(func() { entered <- sock; <-release })
			}
		}})
		c := s.dial("websocket")
		c.text("0")
		sock := <-entered
		sock.Abandon()
		sock.Disconnect()
		waited := make(chan struct{})
		synctest.Wait()
		go func() { s.sio.Stop(); s.sio.Wait(); close(waited) }()
		require.Equal(t, []string{"/ " + ReasonServer}, s.reasons.take())
		select {
		case <-waited:
			t.Fatal("Wait returned while an abandoned call is running")
		default:
		}
		close(release)
		<-waited
	})
}
