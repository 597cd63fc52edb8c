// Tests of how a client gets into a namespace and out of it.

package socketio

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/engineio"
	"github.com/rodando/realtime/internal/testkit"
)

const invalidNamespace = `{"message":"Invalid namespace"}`

func TestConn_Connect(t *testing.T) {
	each(t, func(t *testing.T, transport string) {
		s := serve(t)
		var payloads log
		hooks := s.fill(Hooks{})
		connect := hooks.Connect
		hooks.Connect = func(sock *Socket, payload []byte) {
			payloads.addf("%s %s %s", sock.Namespace().Name(), payload, sock.Conn().Data)
			connect(sock, payload)
		}
		s.sio.Namespace("/", hooks)
		s.sio.Namespace("/a", hooks)
		c := s.dial(transport)

		c.text(`0{"token":"t"}`)
		root := <-s.opened
		c.expect(`0{"sid":"` + root.ID() + `"}`)
		c.text(`0/a`) // without a comma, as nothing follows
		a := <-s.opened
		c.expect(`0/a,{"sid":"` + a.ID() + `"}`)
		require.Equal(t, []string{`/ {"token":"t"} `, `/a  `}, payloads.take())
		require.NotEqual(t, root.ID(), a.ID())
		require.NotEqual(t, root.ID(), c.sid, "the session's id is a secret")
		require.Same(t, root.Conn(), a.Conn())
		require.ElementsMatch(t, []*Socket{root, a}, root.Conn().Sockets())

		// The two sockets work independently.
		require.True(t, root.Send(msg("/", "x")))
		require.True(t, a.Send(msg("/a", "y")))
		c.expect(`2["x"]`, `2/a,["y"]`)
		c.text(`1/a,`)
		require.Equal(t, []string{"/a " + ReasonClient}, s.reasons.take())
		require.True(t, a.Closed())
		require.False(t, a.Send(msg("/a", "y")))
		require.True(t, root.Send(msg("/", "x")))
		c.expect(`2["x"]`)
		require.Equal(t, []*Socket{root}, root.Conn().Sockets())
		require.False(t, c.isClosed())
	})
}

func TestConn_ConnectUnknownNamespace(t *testing.T) {
	each(t, func(t *testing.T, transport string) {
		s := serve(t)
		s.namespace("/a", Hooks{})
		c := s.dial(transport)
		c.text(`0`)
		c.expect(`4` + invalidNamespace)
		c.text(`0/b,{"token":"t"}`)
		c.expect(`4/b,` + invalidNamespace)
		c.text(`0/b?x=1,`)
		c.expect(`4/b,` + invalidNamespace)
		s.enter(c, "/a")
		c.text(`0/b,`)
		c.expect(`4/b,` + invalidNamespace)
		require.False(t, c.isClosed())
	})
}

func TestSocket_Refuse(t *testing.T) {
	each(t, func(t *testing.T, transport string) {
		s := serve(t)
		tries := 0
		var rooms log
		n := s.namespace("/a", Hooks{
			Connect: func(sock *Socket, _ []byte) {
				tries++
				switch tries {
				case 1:
					require.True(t, sock.Refuse([]byte(`{"message":"no","data":{"code":"x"}}`), false))
					require.False(t, sock.Refuse([]byte(`{}`), false))
					require.False(t, sock.Drop())
					require.False(t, sock.Admit("r"))
					require.False(t, sock.Open())
					require.False(t, sock.Join("r"))
				case 2: // after it has joined rooms
					require.True(t, sock.Admit("r"))
					require.True(t, sock.Send(msg("/a", "never seen")))
					require.True(t, sock.Refuse([]byte(`{"message":"no"}`), true))
					require.False(t, sock.Open())
				case 3:
					require.True(t, sock.Admit("r"))
					require.True(t, sock.Open())
					require.False(t, sock.Drop())
					require.False(t, sock.Refuse([]byte(`{}`), true))
					s.opened <- sock
				}
			},
			Room: func(room string) { rooms.addf("%s", room) },
		})
		c := s.dial(transport)
		c.text(`0/a`)
		c.expect(`4/a,{"message":"no","data":{"code":"x"}}`)
		c.text(`0/a`)
		c.expect(`4/a,{"message":"no"}`, `1/a,`)
		require.Equal(t, []string{"r", "r"}, rooms.take())
		require.Zero(t, n.Len())
		s.enter(c, "/a")
		require.Empty(t, s.reasons.take())
	})
}

// A socket that is refused as if it had been open is never in the namespace, and packets
// that its client sends meanwhile are ignored.
func TestSocket_RefuseOpened(t *testing.T) {
	each(t, func(t *testing.T, transport string) {
		s := serve(t)
		s.namespace("/", Hooks{})
		var n *Namespace
		n = s.namespace("/a", Hooks{Connect: func(sock *Socket, _ []byte) {
			require.Zero(t, n.Emit(Target{All: true}, msg("/a", "before")))
			require.True(t, sock.RefuseOpened())
			require.False(t, sock.RefuseOpened())
			require.False(t, sock.Admit())
			require.False(t, sock.Refuse([]byte(`{}`), false))
			require.Zero(t, n.Emit(Target{All: true, Rooms: []string{sock.ID()}}, msg("/a", "after")))
			require.Zero(t, n.Len())
		}})
		c, sockets := s.join(transport, "/")
		c.text(`0/a`)
		require.Regexp(t, `^0/a,\{"sid":"[A-Za-z0-9_-]{20}"\}$`, c.next().data)
		c.expect(`1/a,`)
		c.text(`2/a,["x"]`)
		c.expectNone()
		require.False(t, c.isClosed(), "another socket is on it")
		sockets[0].Disconnect()
		c.expect("1")
		require.True(t, c.isClosedSoon())
		require.Equal(t, []string{"/ " + ReasonServer}, s.reasons.take())

		c = s.dial(transport)
		c.text(`0/a`)
		c.next()
		require.Equal(t, packet{`1/a,`, false}, c.next())
		require.True(t, c.isClosedSoon(), "no other socket was on it")
	})
}

// An admitted socket is refused as such only.
func TestSocket_RefuseOpenedAfterAdmit(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		s := serve(t)
		s.namespace("/a", Hooks{Connect: func(sock *Socket, _ []byte) {
			require.True(t, sock.Admit("r"))
			require.False(t, sock.RefuseOpened())
			require.True(t, sock.Drop())
		}})
		c := s.dial("websocket")
		c.text(`0/a`)
		c.expectNone()
	})
}

// A pending socket is dropped without an answer; the layer above closes the connection
// soon.
func TestSocket_Drop(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		s := serve(t)
		s.namespace("/", Hooks{Connect: func(sock *Socket, _ []byte) {
			require.True(t, sock.Admit("r"))
			require.True(t, sock.Drop())
		}})
		c := s.dial("websocket")
		c.text("0")
		c.expectNone()
		require.False(t, c.isClosed())
		require.Empty(t, s.reasons.take())
	})
}

// Messages to an admitted socket are sent after the answer to CONNECT and the first
// messages.
func TestSocket_HoldsMessagesUntilOpen(t *testing.T) {
	each(t, func(t *testing.T, transport string) {
		s := serve(t)
		admitted, open := make(chan *Socket), make(chan struct{})
		n := s.namespace("/", Hooks{Connect: func(sock *Socket, _ []byte) {
			require.False(t, sock.Send(msg("/", "pending")))
			require.True(t, sock.Admit("r"))
			require.False(t, sock.Admit("r"))
			admitted <- sock
			<-open
			require.True(t, sock.Open(msg("/", "hello"), msg("/", "second")))
			require.False(t, sock.Open())
		}})
		c := s.dial(transport)
		c.text("0")
		sock := <-admitted
		require.Empty(t, sock.Conn().Sockets())
		n.Emit(Target{Rooms: []string{"r"}}, msg("/", "early"))
		require.True(t, sock.Send(EventMessages("/", NoID, "bin", [][]byte{[]byte(`{"_placeholder":true,"num":0}`)}, [][]byte{[]byte("b")})...))
		var replied log
		require.NoError(t, sock.Expect(7, func(r Reply) { replied.addf("%s %v", r.Args, r.Err) }))
		require.True(t, sock.Send(EventMessage("/", 7, "ask")))
		c.expectNone()
		close(open)
		want := []string{`0{"sid":"` + sock.ID() + `"}`, `2["hello"]`, `2["second"]`, `2["early"]`, `51-["bin",{"_placeholder":true,"num":0}]`}
		for _, text := range want {
			require.Equal(t, packet{text, false}, c.next())
		}
		c.expectBinary("b")
		c.expect(`27["ask"]`)
		c.text(`37["yes"]`)
		require.Equal(t, []string{`["yes"] <nil>`}, replied.take())
		n.Emit(Target{Rooms: []string{"r"}}, msg("/", "late"))
		c.expect(`2["late"]`)
	})
}

// The function of OpenThen runs before the first event, and Disconnect after both.
func TestSocket_OpenThen(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		s := serve(t)
		var order log
		proceed := make(chan struct{})
		s.namespace("/", Hooks{
			Connect: func(sock *Socket, _ []byte) {
				require.False(t, sock.OpenThen(func() { t.Error("called") }))
				require.True(t, sock.Admit())
				require.True(t, sock.OpenThen(func() {
					<-proceed
					order.addf("first")
				}))
			},
			Event:      func(_ *Socket, e *Event) { order.addf("%s", e.Name) },
			Disconnect: func(_ *Socket, reason string) { order.addf("%s", reason) },
		})
		for _, leave := range []string{"1", ""} {
			c := s.dial("websocket")
			c.text("0")
			c.next()
			c.text(`2["a"]`, `2["b"]`, leave)
			require.Empty(t, order.take())
			proceed <- struct{}{}
			reason := ReasonClient
			if leave == "" { // an invalid packet
				reason = string(engineio.ReasonParseError)
			}
			require.Equal(t, []string{"first", "a", "b", reason}, order.take())
		}
	})
}

func TestConn_ConnectTwice(t *testing.T) {
	each(t, func(t *testing.T, transport string) {
		s := serve(t)
		proceed := make(chan bool)
		s.namespace("/", Hooks{Connect: func(sock *Socket, _ []byte) {
			if <-proceed {
				if sock.Admit() && sock.Open() {
					s.opened <- sock
				}
			} else {
				sock.Refuse([]byte(`{"message":"no"}`), false)
			}
		}})
		// A second CONNECT is allowed after CONNECT_ERROR, and after DISCONNECT from
		// either side.
		c := s.dial(transport)
		c.text("0")
		proceed <- false
		c.expect(`4{"message":"no"}`)
		for range 2 {
			c.text("0")
			proceed <- true
			sock := <-s.opened
			c.expect(`0{"sid":"` + sock.ID() + `"}`)
			c.text("1")
			require.Equal(t, []string{"/ " + ReasonClient}, s.reasons.take())
		}
		c.text("0")
		proceed <- true
		<-s.opened
		c.next()

		c.text("0") // while connected
		require.True(t, c.isClosed())
		require.Equal(t, []string{"/ parse error"}, s.reasons.take())

		c = s.dial(transport)
		c.text("0", "0") // while pending
		require.True(t, c.isClosed())
		proceed <- true // too late
		require.Empty(t, s.reasons.take())
	})
}

// A client that the server has disconnected from one namespace may connect to it again
// while it is in another.
func TestConn_ConnectAfterServerDisconnect(t *testing.T) {
	each(t, func(t *testing.T, transport string) {
		s := serve(t)
		s.namespace("/", Hooks{})
		s.namespace("/a", Hooks{})
		c, sockets := s.join(transport, "/", "/a")
		for range 10 {
			sockets[1].Disconnect()
			require.Equal(t, packet{"1/a,", false}, c.next())
			sockets[1] = s.enter(c, "/a")
		}
		require.False(t, c.isClosed())
		require.Len(t, s.reasons.take(), 10)
	})
}

func TestConn_ConnectTimeout(t *testing.T) {
	// Just before the timeout and just after it: the timing wheel may fire a tick
	// early.
	const before, after = 15*time.Second - 10*time.Millisecond, 220 * time.Millisecond // a close takes 200 ms
	each(t, func(t *testing.T, transport string) {
		s := serve(t)
		block := make(chan struct{})
		refuse := func(sock *Socket, _ []byte) { sock.Refuse([]byte(`{}`), false) }
		s.namespace("/", Hooks{})
		s.namespace("/no", Hooks{Connect: refuse})
		s.namespace("/slow", Hooks{Connect: func(sock *Socket, payload []byte) {
			<-block
			refuse(sock, payload)
		}})
		dial := func() *client { return s.dial(transport) }
		expires := func(c *client) {
			t.Helper()
			time.Sleep(before)
			require.False(t, c.isClosed())
			time.Sleep(after)
			require.True(t, c.isClosed())
		}

		expires(dial()) // only a connection

		c := dial() // refused, which does not restart the timeout
		start := time.Now()
		for i := range 14 {
			time.Sleep(time.Second)
			c.text([]string{"0/no", "0/unknown"}[i%2])
			c.next()
		}
		time.Sleep(before - time.Since(start))
		require.False(t, c.isClosed())
		time.Sleep(after)
		require.True(t, c.isClosed())

		c = dial() // refused after a success
		s.enter(c, "/")
		c.text("1")
		for i := range 4 {
			time.Sleep(10 * time.Second)
			c.text([]string{"0/no", "0/unknown"}[i%2])
			c.next()
		}
		expires(c)

		c = dial() // left, on the request of either side
		time.Sleep(10 * time.Second)
		s.enter(c, "/")
		time.Sleep(time.Minute)
		require.False(t, c.isClosed())
		c.text("1")
		expires(c)

		c = dial() // dropped while pending
		c.text("0/slow")
		time.Sleep(time.Minute)
		require.False(t, c.isClosed(), "a handshake is under way")
		c.text("0/unknown") // does not start the timeout either
		c.next()
		time.Sleep(time.Minute)
		require.False(t, c.isClosed())
		block <- struct{}{}
		c.next()
		time.Sleep(after) // the timeout has passed
		require.True(t, c.isClosed())

		c = dial() // the client abandoned a handshake
		c.text("0/slow")
		time.Sleep(time.Minute)
		c.text("1/slow")
		time.Sleep(after)
		require.True(t, c.isClosed())
		block <- struct{}{}

		c = dial() // left one of two namespaces
		s.enter(c, "/")
		c.text("0/slow")
		time.Sleep(10 * time.Second)
		c.text("1")
		time.Sleep(time.Minute)
		require.False(t, c.isClosed())
		block <- struct{}{}
		c.next()
		expires(c)
	})
}

// Every way in which a socket ends, and the reason that the hook gets.
func TestSocket_DisconnectReasons(t *testing.T) {
	for _, tt := range []struct {
		name   string
		end    func(c *client, s *Socket)
		reason string
		closes bool
	}{
		{"client leaves", func(c *client, _ *Socket) { c.text("1/a,") }, ReasonClient, false},
		{"server disconnects", func(_ *client, s *Socket) { s.Disconnect() }, ReasonServer, true},
		{"parse error", func(c *client, _ *Socket) { c.text("9") }, "parse error", true},
		{"silent", func(c *client, _ *Socket) {
			c.silent.Store(true)
			time.Sleep(45*time.Second + 10*time.Millisecond)
		}, "ping timeout", true},
		{"close packet", func(c *client, _ *Socket) {
			if c.conn == nil {
				c.post("1")
			} else {
				c.raw("1")
			}
		}, "transport close", true},
		{"server closes", func(_ *client, s *Socket) { s.Conn().Close(ReasonForcedClose) }, "forced close", true},
		{"slow consumer", func(c *client, s *Socket) {
			<-c.read // what was written and what the pipe holds still arrives
			for s.Send(msg("/a", "x")) {
				continue
			}
			c.read <- struct{}{}
		}, "slow consumer", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			each(t, func(t *testing.T, transport string) {
				s := serve(t, func(_ *Config, ec *engineio.Config) { ec.MaxOutboxMessages = 10 })
				s.namespace("/a", Hooks{})
				c, sockets := s.join(transport, "/a")
				tt.end(c, sockets[0])
				require.Equal(t, []string{"/a " + tt.reason}, s.reasons.take())
				require.Equal(t, tt.closes, c.isClosedSoon())
				require.True(t, sockets[0].Closed())
				require.False(t, sockets[0].Join("r"))
				require.Empty(t, sockets[0].Rooms())
			})
		})
	}

	t.Run("connection cut", func(t *testing.T) {
		testkit.Bubble(t, func(t *testing.T) {
			s := serve(t)
			s.namespace("/a", Hooks{})
			c, _ := s.join("websocket", "/a")
			require.NoError(t, c.conn.Close())
			require.Equal(t, []string{"/a transport close"}, s.reasons.take())
		})
	})

	t.Run("shutdown", func(t *testing.T) {
		testkit.Bubble(t, func(t *testing.T) {
			s := serve(t)
			s.namespace("/a", Hooks{})
			s.join("websocket", "/a")
			s.join("polling", "/a")
			require.NoError(t, s.sio.Shutdown(t.Context()))
			s.sio.Wait()
			require.Equal(t, []string{"/a server shutting down", "/a server shutting down"}, s.reasons.take())
		})
	})
}

// The Disconnect hook still sees the rooms that the socket was in.
func TestSocket_RoomsInDisconnect(t *testing.T) {
	each(t, func(t *testing.T, transport string) {
		s := serve(t)
		var rooms log
		s.namespace("/", Hooks{Disconnect: func(sock *Socket, _ string) { rooms.addf("%v", sock.Rooms()) }})
		c, sockets := s.join(transport, "/")
		require.True(t, sockets[0].Join("r"))
		c.text("1")
		require.Equal(t, []string{"[all r]"}, rooms.take())
		require.Empty(t, sockets[0].Rooms())
	})
}

// Disconnect closes the connection only if no other socket is left on it, open or
// pending.
func TestSocket_DisconnectOfTheLastOne(t *testing.T) {
	each(t, func(t *testing.T, transport string) {
		s := serve(t)
		s.namespace("/", Hooks{})
		s.namespace("/a", Hooks{})
		s.namespace("/pending", Hooks{Connect: func(sock *Socket, _ []byte) { s.opened <- sock }})
		c, sockets := s.join(transport, "/", "/a")
		c.text("0/pending")
		pending := <-s.opened

		sockets[0].Disconnect()
		sockets[0].Disconnect()
		c.expect("1")
		sockets[1].Disconnect()
		c.expect("1/a,")
		require.False(t, c.isClosed())
		pending.Disconnect()
		require.Equal(t, packet{"1/pending,", false}, c.next())
		require.True(t, c.isClosedSoon())
		require.Equal(t, []string{"/ " + ReasonServer, "/a " + ReasonServer}, s.reasons.take())
	})
}

// A connection that ends during a handshake leaves nothing, at whatever step the
// handshake is.
func TestConn_ClosedDuringHandshake(t *testing.T) {
	each(t, func(t *testing.T, transport string) {
		s := serve(t)
		step := make(chan struct{})
		hooks := s.fill(Hooks{})
		var result log
		hooks.Connect = func(sock *Socket, _ []byte) {
			<-step
			admitted := sock.Admit("r")
			<-step
			result.addf("%v %v %v %v", admitted, sock.Join("q"), sock.Open(), sock.Refuse([]byte(`{}`), false))
		}
		n := s.sio.Namespace("/", hooks)
		for steps, want := range []string{"false false false false", "true false false false"} {
			c := s.dial(transport)
			c.text("0")
			for range steps {
				step <- struct{}{}
			}
			synctest.Wait()
			require.Equal(t, steps, n.Len())
			c.text("nonsense")
			require.True(t, c.isClosed())
			requireEmpty(t, n)
			for range 2 - steps {
				step <- struct{}{}
			}
			require.Equal(t, []string{want}, result.take())
			requireEmpty(t, n)
		}
	})
}

// Open returns true if and only if the Disconnect hook will be called.
func TestSocket_OpenWhileClosing(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		s := serve(t, func(_ *Config, ec *engineio.Config) { ec.MaxOutboxMessages = 2 })
		var opened log
		hooks := s.fill(Hooks{})
		hooks.Connect = func(sock *Socket, _ []byte) {
			require.True(t, sock.Admit("all"))
			for range 5 { // more than the outbox takes
				require.True(t, sock.Send(msg("/", "x")))
			}
			opened.addf("%v", sock.Open())
			s.live.Add(1)
		}
		s.sio.Namespace("/", hooks)
		c := s.dial("websocket")
		c.text("0")
		require.True(t, c.isClosed())
		require.Equal(t, []string{"true"}, opened.take())
		require.Equal(t, []string{"/ slow consumer"}, s.reasons.take())
	})
}

func TestHooks_Panic(t *testing.T) {
	for _, where := range []string{"connect", "event", "disconnect", "room", "ack", "ack failed"} {
		t.Run(where, func(t *testing.T) {
			testkit.Bubble(t, func(t *testing.T) {
				s := serve(t)
				var caught log
				fail := func(here string) {
					if here == where {
						panic("oops")
					}
				}
				h := Hooks{
					Connect: func(sock *Socket, _ []byte) {
						require.True(t, sock.Admit("r"))
						fail("connect")
						require.True(t, sock.Open())
						s.opened <- sock
					},
					Event:      func(*Socket, *Event) { fail("event") },
					Disconnect: func(*Socket, string) { fail("disconnect") },
					Room:       func(string) { fail("room") },
					Panic:      func(sock *Socket, v any) { caught.addf("%v %v", sock != nil, v) },
				}
				s.namespace("/", h)
				c := s.dial("websocket")
				c.text("0")
				if where == "connect" {
					require.True(t, c.isClosedSoon())
					require.Equal(t, []string{"true oops"}, caught.take())
					return
				}
				sock := <-s.opened
				c.next()
				require.NoError(t, sock.Expect(1, func(Reply) { fail("ack") }))
				require.NoError(t, sock.Expect(2, func(Reply) { fail("ack failed") }))
				c.text(`2["x"]`, `31[]`, `1`)
				switch where {
				case "room": // filled and emptied: both steps of a panicking hook were completed
					require.Equal(t, []string{"false oops", "false oops"}, caught.take())
					require.False(t, c.isClosed())
				default:
					require.Equal(t, []string{"true oops"}, caught.take())
					require.True(t, c.isClosedSoon())
				}
			})
		})
	}
}

func TestSocket_JoinUpTo(t *testing.T) {
	each(t, func(t *testing.T, transport string) {
		s := serve(t)
		s.namespace("/", Hooks{})
		_, sockets := s.join(transport, "/")
		sock := sockets[0]
		in := len(sock.Rooms())
		require.False(t, sock.JoinUpTo(in+2, "a", "a", "b", "b"))
		require.False(t, sock.JoinUpTo(in+2, "b", "a"), "it is in them")
		require.True(t, sock.JoinUpTo(in+3, "a", "c", "d", "c"))
		require.Len(t, sock.Rooms(), in+3)
		require.True(t, sock.In("c"))
		require.False(t, sock.In("d"))
		require.True(t, sock.JoinUpTo(1, "e"))
		require.True(t, sock.Join("e"), "Join has no limit")
		sock.Leave("a", "b")
		require.False(t, sock.JoinUpTo(in+3, "d"))
	})
}
