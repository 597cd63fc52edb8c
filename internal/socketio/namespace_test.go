// Tests of rooms: which sockets are in them, and which get a message.

package socketio

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/engineio"
	"github.com/rodando/realtime/internal/testkit"
)

func TestNamespace_Emit(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		s := serve(t)
		n := s.namespace("/", Hooks{})
		s.namespace("/other", Hooks{})
		clients, sockets := map[string]*client{}, map[string]*Socket{}
		for i, rooms := range []string{"", "r1", "r2", "r1 r2", "r1 r2 r3"} {
			name := string(rune('a' + i))
			c, ss := s.join([]string{"websocket", "polling"}[i%2], "/")
			require.True(t, ss[0].Join(strings.Fields(rooms)...))
			clients[name], sockets[name] = c, ss[0]
		}
		other, _ := s.join("websocket", "/other")

		id := func(name string) string { return sockets[name].ID() }
		for _, tt := range []struct {
			target Target
			want   string
		}{
			{Target{}, ""},
			{Target{Rooms: []string{}}, ""},
			{Target{Except: []string{"r1"}}, ""},
			{Target{All: true}, "abcde"},
			{Target{All: true, Rooms: []string{"r1", id("a")}}, "abcde"},
			{Target{Rooms: []string{"r1"}}, "bde"},
			{Target{Rooms: []string{"r1", "r2"}}, "bcde"},
			{Target{Rooms: []string{"r1", "r1"}}, "bde"},
			{Target{Rooms: []string{"r3", "nobody's"}}, "e"},
			{Target{Rooms: []string{"nobody's"}}, ""},
			{Target{Rooms: []string{id("a")}}, "a"},
			{Target{Rooms: []string{id("a"), "r3"}}, "ae"},
			{Target{Rooms: []string{id("e"), "r3", "r1"}}, "bde"},
			{Target{All: true, Except: []string{"r1"}}, "ac"},
			{Target{All: true, Except: []string{"r1", id("a"), "nobody's"}}, "c"},
			{Target{All: true, Except: []string{"r1", "r2", "all"}}, ""},
			{Target{Rooms: []string{"r1"}, Except: []string{id("d")}}, "be"},
			{Target{Rooms: []string{"r1", "r2"}, Except: []string{"r3", id("c")}}, "bd"},
			{Target{Rooms: []string{"r1"}, Except: []string{"r1"}}, ""},
		} {
			n.Emit(tt.target, msg("/", "x"), msg("/", "y"))
			for name := range strings.SplitSeq(tt.want, "") {
				clients[name].expect(`2["x"]`, `2["y"]`)
			}
			for _, c := range clients {
				c.expectNone()
			}
			other.expectNone()
			var selected []*Socket
			for name := range strings.SplitSeq(tt.want, "") {
				selected = append(selected, sockets[name])
			}
			require.ElementsMatch(t, selected, n.Select(tt.target), "%+v", tt)
		}
	})
}

func TestSocket_Rooms(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		s := serve(t)
		var changes log
		n := s.namespace("/", Hooks{Room: func(room string) { changes.addf("%s", room) }})
		c, sockets := s.join("websocket", "/")
		a := sockets[0]
		_, sockets = s.join("polling", "/")
		b := sockets[0]
		require.Equal(t, []string{"all"}, changes.take())
		require.Equal(t, 2, n.Len())
		require.Same(t, a, n.Socket(a.ID()))
		require.Nil(t, n.Socket("all"))
		require.Same(t, n, s.sio.Lookup("/"))
		require.Same(t, n, a.Namespace())

		require.True(t, a.Join("r", "q", "r"))
		require.True(t, a.Join("r"))
		require.True(t, b.Join("r"))
		require.Equal(t, []string{"r", "q"}, changes.take())
		require.Equal(t, []string{"all", "r", "q"}, a.Rooms())
		require.True(t, a.In("q"))
		require.False(t, b.In("q"))
		require.True(t, n.HasRoom("q"))
		require.True(t, n.Has("q"))
		require.True(t, n.Has(a.ID()))
		require.False(t, n.HasRoom(a.ID()), "an id selects a socket and is no room")
		require.Equal(t, []string{"x", "all", "r", "q"}, a.AppendRooms([]string{"x"}))
		var rooms []string
		n.EachRoom(func(name string) { rooms = append(rooms, name) })
		require.ElementsMatch(t, []string{"all", "r", "q"}, rooms)
		require.Equal(t, 3, n.Rooms())

		a.Leave("q", "r", "never in")
		require.Equal(t, []string{"q"}, changes.take())
		require.Equal(t, []string{"all"}, a.Rooms())
		require.False(t, n.HasRoom("q"))
		require.False(t, n.Has("q"))
		require.True(t, n.HasRoom("r"))

		c.text("1")
		require.Empty(t, changes.take())
		b.Disconnect()
		require.Equal(t, []string{"all", "r"}, changes.take())
		requireEmpty(t, n)
	})
}

// Many sockets leave a room in any order, and the room releases its memory.
func TestNamespace_RoomShrinks(t *testing.T) {
	t.Parallel()
	n := newNamespace("/", Hooks{}, nil)
	var ms []*member
	for range 5000 {
		m, first := n.join(&Socket{ns: n}, "r")
		require.Equal(t, len(ms) == 0, first)
		ms = append(ms, m)
	}
	r := ms[0].room
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(ms), func(i, j int) { ms[i], ms[j] = ms[j], ms[i] })
	for i, m := range ms {
		require.Same(t, m, r.members[m.pos])
		require.Equal(t, i == len(ms)-1, n.leave(m))
		require.LessOrEqual(t, cap(r.members), max(64, 4*(len(ms)-i)))
	}
	requireEmpty(t, n)
}

// A client that does not read is closed during a broadcast; the others get the message.
func TestNamespace_EmitToSlowConsumer(t *testing.T) {
	each(t, func(t *testing.T, transport string) {
		s := serve(t, func(_ *Config, ec *engineio.Config) { ec.MaxOutboxMessages = 5 })
		n := s.namespace("/", Hooks{})
		slow, _ := s.join(transport, "/")
		quick, _ := s.join("websocket", "/")
		<-slow.read
		for range 20 {
			n.Emit(Target{Rooms: []string{"all"}}, msg("/", "x"))
			quick.expect(`2["x"]`)
		}
		require.Equal(t, []string{"/ slow consumer"}, s.reasons.take())
		require.Equal(t, 1, n.Len())
		slow.read <- struct{}{}
	})
}

// Nothing follows DISCONNECT, even if others send all the time: it could reach the next
// socket on the connection.
func TestSocket_NothingAfterDisconnect(t *testing.T) {
	each(t, func(t *testing.T, transport string) {
		s := serve(t, func(_ *Config, ec *engineio.Config) { ec.MaxOutboxMessages = 1 << 20 })
		n := s.namespace("/", Hooks{})
		s.namespace("/other", Hooks{}) // keeps the connection open
		c, _ := s.join(transport, "/other")
		for range 20 {
			sock := s.enter(c, "/")
			var sending sync.WaitGroup
			for range 4 {
				sending.Go(func() {
					for range 100 {
						n.Emit(Target{Rooms: []string{sock.ID()}}, msg("/", "x"))
						sock.Send(msg("/", "x"))
					}
				})
			}
			for range 10 {
				c.expect1(`2["x"]`)
			}
			sock.Disconnect()
			sending.Wait()
			p := c.next()
			for p.data == `2["x"]` {
				p = c.next()
			}
			require.Equal(t, packet{"1", false}, p)
			c.expectNone()
		}
	})
}

// Sockets connect, join, leave and disconnect concurrently. At the end no room has a
// socket, no room is left, and the last calls of the Room hook were correct.
func TestNamespace_Churn(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		s := serve(t, func(_ *Config, ec *engineio.Config) { ec.MaxOutboxMessages = 1 << 20 })
		var mu sync.Mutex
		occupied := map[string]bool{} // as an adapter would know it
		var n *Namespace
		ready := make(chan struct{})
		n = s.namespace("/", Hooks{
			Room: func(room string) {
				<-ready
				mu.Lock()
				defer mu.Unlock()
				if n.HasRoom(room) {
					occupied[room] = true
				} else {
					delete(occupied, room)
				}
			},
			Event: echo,
		})
		close(ready)
		rooms := []string{"r0", "r1", "r2", "r3", "r4"}
		end := []func(*client, *Socket){
			func(_ *client, sock *Socket) { sock.Disconnect() },
			func(c *client, _ *Socket) { c.text("1") },
			func(c *client, _ *Socket) { c.text("nonsense") },
			func(_ *client, sock *Socket) { sock.Conn().Close(ReasonForcedClose) },
		}
		for round := range 20 {
			c, sockets := s.join([]string{"websocket", "polling"}[round%2], "/")
			go func() { // a client reads
				for {
					select {
					case <-c.in:
					case <-c.closed:
						return
					}
				}
			}()
			sock := sockets[0]
			var busy sync.WaitGroup
			busy.Go(func() {
				for range 100 {
					n.Emit(Target{Rooms: rooms[:2], Except: rooms[4:]}, msg("/", "x"))
					n.Emit(Target{Rooms: rooms[2:3]}, msg("/", "y"))
					n.Select(Target{All: true})
				}
			})
			for i := range 3 {
				busy.Go(func() {
					r := rand.New(rand.NewPCG(uint64(round), uint64(i)))
					for range 50 {
						room := rooms[r.IntN(len(rooms))]
						if r.IntN(2) == 0 {
							sock.Join(room, "all")
						} else {
							sock.Leave(room)
						}
						if got := sock.Rooms(); len(slices.Compact(slices.Sorted(slices.Values(got)))) != len(got) {
							t.Error("in a room twice", got)
						}
					}
				})
			}
			c.text(`2["a"]`, `21["b"]`)
			end[round%len(end)](c, sock)
			busy.Wait()
			synctest.Wait()
			require.Empty(t, sock.Rooms())
			require.False(t, sock.Join("r0"))
		}
		requireEmpty(t, n)
		require.Empty(t, occupied)
	})
}

// Handshakes run while their connections end.
func TestConn_HandshakeChurn(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		s := serve(t)
		n := s.namespace("/", Hooks{Connect: func(sock *Socket, _ []byte) {
			if sock.Admit("r", "q") {
				sock.Send(msg("/", "held"))
				if sock.Open() {
					sock.Join("p")
				}
			}
		}})
		var clients sync.WaitGroup
		for i := range 50 {
			c := s.dial("websocket")
			clients.Go(func() {
				c.text("0")
				switch i % 3 {
				case 0:
					_ = c.conn.Close()
				case 1:
					c.text("1", "0")
				case 2:
					n.Emit(Target{All: true}, msg("/", fmt.Sprint(i)))
					for _, sock := range n.Select(Target{All: true}) {
						sock.Disconnect()
					}
				}
			})
		}
		clients.Wait()
		synctest.Wait()
		require.LessOrEqual(t, n.Len(), 50)
	})
}
