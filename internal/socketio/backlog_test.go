// Tests of the backlog: how it is counted, and that an ack is read although events wait
// before it.

package socketio

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/engineio"
)

// ask asks the client and waits for at most ten seconds.
func ask(sock *Socket) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	r, err := sock.Ask(ctx, func(id int64) bool { return sock.Send(EventMessage("/", id, "ask")) })
	return string(joinArgs(r.Args)), err
}

func joinArgs(args [][]byte) []byte {
	var b []byte
	for _, a := range args {
		b = append(b, a...)
	}
	return b
}

// A handler asks its own client while more events than the limit wait before the ack.
func TestConn_AckAfterWaitingEvents(t *testing.T) {
	each(t, func(t *testing.T, transport string) {
		s := serve(t, func(sc *Config, _ *engineio.Config) { sc.QueuedEvents = 10 })
		var l log
		block := make(chan struct{})
		s.namespace("/", Hooks{
			Event: func(sock *Socket, e *Event) {
				l.addf("%s", e.Args[0])
				switch e.Name {
				case "first":
					answer, err := ask(sock)
					l.addf("answer %s %v", answer, err)
				case "slow":
					<-block
				}
			},
			Overflow: func(*Socket, *Event) { t.Error("refused") },
		})
		c, sockets := s.join(transport, "/")
		packets := []string{`2["first",0]`}
		want := []string{"0", `answer "yes" <nil>`}
		for i := 1; i <= 40; i++ {
			packets = append(packets, fmt.Sprintf(`2["n",%d]`, i))
			want = append(want, fmt.Sprint(i))
		}
		go c.text(append(packets, `30["yes"]`)...)
		c.expect1(`20["ask"]`)
		require.Equal(t, want, l.take())
		require.Equal(t, backlog{}, waiting(sockets[0]))

		// The same when another goroutine awaits an ack, and when reading is already
		// paused.
		sock := sockets[0]
		packets[0] = `2["slow",0]`
		go c.text(append(packets, `31["late"]`)...)
		require.InDelta(t, 10, waiting(sock).events, 1)
		require.True(t, waiting(sock).paused)
		require.NoError(t, sock.Expect(1, func(r Reply) { l.addf("%s", joinArgs(r.Args)) }))
		require.Equal(t, []string{"0", `"late"`}, l.take())
		require.Equal(t, 40, waiting(sock).events)
		require.True(t, waiting(sock).paused, "no ack is awaited any more")
		close(block)
		require.Len(t, l.take(), 40)
		require.Equal(t, backlog{}, waiting(sock))
	})
}

// While an ack is awaited, the bytes are the limit, and an event above it is refused.
func TestConn_RefusesEventsWhileAnAckIsAwaited(t *testing.T) {
	each(t, func(t *testing.T, transport string) {
		const limit, n = 20_000, 150
		limits := make(chan Limit, n)
		s := serve(t, func(sc *Config, _ *engineio.Config) {
			sc.QueuedBytes = limit
			sc.Limited = func(_ *Conn, _ *Socket, e Exceeded) { limits <- e.Limit }
		})
		var handled, refused []string
		s.namespace("/", Hooks{
			Event: func(sock *Socket, e *Event) {
				if e.Name == "first" {
					answer, err := ask(sock)
					require.NoError(t, err)
					require.Equal(t, `"yes"`, answer)
					return
				}
				require.LessOrEqual(t, backlogOf(sock).bytes, limit)
				handled = append(handled, string(e.Args[0]))
			},
			Overflow: func(_ *Socket, e *Event) {
				refused = append(refused, string(e.Args[0]))
				e.Ack(nil, []byte(`"busy"`))
			},
		})
		c, sockets := s.join(transport, "/")
		packets := []string{`2["first"]`}
		var all []string
		for i := range n {
			packets = append(packets, fmt.Sprintf(`2%d["n",%d,"%s"]`, 1000+i, i, strings.Repeat("x", 500)))
			all = append(all, fmt.Sprint(i))
		}
		go c.text(append(packets, `30["yes"]`)...)
		c.expect1(`20["ask"]`)
		time.Sleep(time.Second)
		require.Equal(t, backlog{}, waiting(sockets[0]))
		require.Greater(t, len(handled), limit/800)
		require.Equal(t, all, append(handled, refused...), "the first are handled, the others answered, and none is lost")
		for _, r := range refused {
			c.expect1(fmt.Sprintf(`31%03s["busy"]`, r))
		}
		require.Equal(t, LimitQueuedEvents, <-limits)
		require.Empty(t, limits, "reported once")
		require.False(t, c.isClosed())
	})
}

// A connection that ends while acks are awaited leaves nothing.
func TestConn_BacklogEndsWithTheSocket(t *testing.T) {
	each(t, func(t *testing.T, transport string) {
		s := serve(t, func(sc *Config, _ *engineio.Config) { sc.QueuedEvents = 3 })
		block := make(chan struct{})
		s.namespace("/", Hooks{Event: func(*Socket, *Event) { <-block }})
		s.namespace("/b", Hooks{})
		c, sockets := s.join(transport, "/", "/b")
		for range 3 {
			require.NoError(t, sockets[0].Expect(sockets[0].Namespace().NextID(), func(Reply) {}))
		}
		go c.text(strings.Split(strings.Repeat(`2["x"]|`, 20), "|")[:20]...)
		require.Equal(t, 3, waiting(sockets[0]).awaitedAcks)
		require.Equal(t, 19, waiting(sockets[0]).events)
		sockets[0].Disconnect()
		require.Equal(t, backlog{}, waiting(sockets[1]))
		close(block)
	})
}

// The backlog holds no more memory than the limit, whatever the events consist of.
func TestConn_QueuedBytesAreMemory(t *testing.T) {
	const limit = 4 << 20
	for name, messages := range map[string][]string{
		"small arguments": {`2["e"` + strings.Repeat(",0", 1900) + `]`},
		"no arguments":    {`2["e"]`},
		"few arguments":   {`2["event",1,2,3,4]`},
		"large":           {`2["e","` + strings.Repeat("x", 50_000) + `"]`},
		"attachments":     {`510-["e"]`, "", "b", "b", "b", "b", "b", "b", "b", "b", strings.Repeat("x", 300)},
	} {
		t.Run(name, func(t *testing.T) {
			q := newQuiet(Config{Limits: testLimits, AttachmentBytes: 1e6, QueuedEvents: 1e9, QueuedBytes: limit})
			defer q.close()
			block, opened := make(chan struct{}), make(chan *Socket, 1)
			q.sio.Namespace("/", Hooks{
				Connect: func(s *Socket, _ []byte) {
					if s.Admit() && s.Open() {
						opened <- s
					}
				},
				Event:      func(*Socket, *Event) { <-block },
				Disconnect: func(*Socket, string) {},
			})
			c := q.conn()
			release := sync.OnceFunc(func() {
				close(block)
				go c.Serve()
			})
			defer release()
			require.NoError(t, c.Message([]byte("0"), false))
			sock := <-opened
			before := heap()
			for !backlogOf(sock).paused {
				for i, m := range messages {
					require.NoError(t, c.Message([]byte(m), i > 0))
				}
			}
			held := heap() - before
			require.InDelta(t, limit, held, limit/5)
			release()
			require.Eventually(t, func() bool { return backlogOf(sock) == backlog{} }, 10*time.Second, time.Millisecond)
		})
	}
}

func heap() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// Attachments count while they arrive. Without a queued event they cause no pause,
// because nothing would end it.
func TestConn_PartialPacketCounts(t *testing.T) {
	each(t, func(t *testing.T, transport string) {
		s := serve(t, func(sc *Config, _ *engineio.Config) { sc.QueuedBytes = 10_000 })
		block := make(chan struct{})
		var handled atomic.Int64
		s.namespace("/", Hooks{Event: func(*Socket, *Event) {
			<-block
			handled.Add(1)
		}})
		c, sockets := s.join(transport, "/")
		sock := sockets[0]
		c.text(`52-["a"]`)
		c.binary(strings.Repeat("x", 15_000))
		b := waiting(sock)
		require.Zero(t, b.events)
		require.False(t, b.paused)
		require.InDelta(t, 15_000+eventSize, b.bytes, 1500)
		c.binary("y")
		require.Equal(t, backlog{}, waiting(sock), "it is being handled")
		c.text(`2["waits"]`, `52-["b"]`)
		go c.binary(strings.Repeat("x", 15_000), "y")
		b = waiting(sock)
		require.Equal(t, 1, b.events)
		require.True(t, b.paused)
		close(block)
		synctest.Wait()
		require.EqualValues(t, 3, handled.Load())
		require.Equal(t, backlog{}, waiting(sock))
	})
}

// What clients hold of incomplete packets is bounded over all connections: the oldest
// make room. A packet that the client has no namespace for any more is not held.
func TestConn_PartialPacketsAreBounded(t *testing.T) {
	each(t, func(t *testing.T, transport string) {
		s := serve(t, func(sc *Config, ec *engineio.Config) {
			sc.AttachmentBytes, ec.MaxPayload, ec.MaxIncomingBytes = 100_000, 100_000, 300_000
		})
		var l log
		s.namespace("/", events(&l))
		s.namespace("/left", events(&l))
		begin := func(namespace string) *client {
			c, _ := s.join(transport, "/", "/left")
			c.text(`1/left,`)
			c.text(`52-` + prefix(namespace) + `["a"]`)
			c.binary(strings.Repeat("x", 60_000))
			return c
		}
		var clients []*client
		for range 10 {
			clients = append(clients, begin("/"))
		}
		synctest.Wait()
		var open []*client
		for i, c := range clients {
			if !c.isClosed() {
				require.GreaterOrEqual(t, i, 5, "the oldest make room")
				open = append(open, c)
			}
		}
		require.GreaterOrEqual(t, len(open), 3)
		require.LessOrEqual(t, len(open), 5)
		for range 10 {
			begin("/left")
			synctest.Wait() // frames that are being read count too
		}
		for _, c := range open { // what was counted is let go of when it is complete
			require.False(t, c.isClosed(), "those that hold nothing need no room")
			c.binary("y")
			for range 3 {
				c.text(`52-["a"]`)
				c.binary(strings.Repeat("x", 60_000), "y")
			}
			require.False(t, c.isClosed())
		}
	})
}

// The same over TCP, where pauses begin and end on several goroutines at once.
func TestConn_AsksInAFloodTCP(t *testing.T) {
	t.Parallel()
	const flood = 3000
	s := serveTCP(t, func(sc *Config, _ *engineio.Config) { sc.QueuedEvents = 10 })
	var answered, handled atomic.Int64
	s.namespace("/", Hooks{Event: func(sock *Socket, _ *Event) {
		if handled.Add(1)%7 == 0 {
			if _, err := ask(sock); err == nil {
				answered.Add(1)
			}
		}
	}})
	c := s.dial("websocket")
	c.text("0")
	sock := <-s.opened
	c.next()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range flood {
			c.text(`2["n"]`)
		}
	}()
	for range flood / 7 {
		text := c.next().data
		c.text("3" + strings.TrimSuffix(strings.TrimPrefix(text, "2"), `["ask"]`) + "[]")
	}
	<-done
	require.Eventually(t, func() bool { return handled.Load() == flood && backlogOf(sock) == backlog{} }, 20*time.Second, time.Millisecond)
	require.EqualValues(t, flood/7, answered.Load())
}
