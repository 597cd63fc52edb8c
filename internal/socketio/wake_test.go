// The Wake hook, and events that are put back.

package socketio

import (
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/testkit"
)

// waking returns hooks that log what is called.
func waking(l *log, step chan struct{}) Hooks {
	return Hooks{
		Event: func(_ *Socket, e *Event) {
			<-step
			l.addf("%s", e.Name)
		},
		Wake:       func(*Socket) { l.addf("wake") },
		Disconnect: func(_ *Socket, reason string) { l.addf("%s", reason) },
	}
}

// Wake comes after the queued events, also of an idle socket, and once for several calls.
func TestSocket_Wake(t *testing.T) {
	each(t, func(t *testing.T, transport string) {
		s, l, step := serve(t), &log{}, make(chan struct{}, 100)
		s.namespace("/", waking(l, step))
		c, sockets := s.join(transport, "/")
		sockets[0].Wake()
		require.Equal(t, []string{"wake"}, l.take())
		c.text(`2["a"]`, `2["b"]`)
		synctest.Wait()
		sockets[0].Wake()
		sockets[0].Wake()
		require.True(t, sockets[0].Conn().Busy())
		step <- struct{}{}
		step <- struct{}{}
		require.Equal(t, []string{"a", "b", "wake"}, l.take())
		require.False(t, sockets[0].Conn().Busy())
	})
}

// Before the Disconnect hook Wake is called, unless the server has ended the socket.
func TestSocket_WakeAtTheEnd(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(c *client, s *Socket)
		want []string
	}{
		"client leaves":      {func(c *client, _ *Socket) { c.text("1") }, []string{"a", "b", "wake", ReasonClient}},
		"line is cut":        {func(c *client, _ *Socket) { _ = c.conn.Close() }, []string{"a", "b", "wake", "transport close"}},
		"server disconnects": {func(_ *client, s *Socket) { s.Disconnect() }, []string{"a", ReasonServer}},
		"server closes":      {func(_ *client, s *Socket) { s.Conn().Close(ReasonForcedClose) }, []string{"a", "forced close"}},
		"abandoned":          {func(_ *client, s *Socket) { s.Wake(); s.Abandon(); s.Wake(); s.Disconnect() }, []string{ReasonServer, "a"}},
	} {
		t.Run(name, func(t *testing.T) {
			testkit.Bubble(t, func(t *testing.T) {
				s, l, step := serve(t), &log{}, make(chan struct{}, 100)
				s.namespace("/", waking(l, step))
				cl, sockets := s.join("websocket", "/")
				cl.text(`2["a"]`, `2["b"]`)
				synctest.Wait()
				c.end(cl, sockets[0])
				synctest.Wait()
				step <- struct{}{}
				step <- struct{}{}
				require.Equal(t, c.want, l.take())
				sockets[0].Wake()
				require.Empty(t, l.take())
			})
		})
	}
}

// An event that is put back is the next one, and counts in the backlog.
func TestSocket_Unread(t *testing.T) {
	each(t, func(t *testing.T, transport string) {
		s, l, step := serve(t), &log{}, make(chan struct{})
		var back atomic.Bool
		s.namespace("/", Hooks{Event: func(sock *Socket, e *Event) {
			if e.Name == "b" && !back.Swap(true) {
				sock.Unread(e)
				l.addf("back")
				<-step
				return
			}
			l.addf("%s", e.Name)
		}})
		c, sockets := s.join(transport, "/")
		c.text(`2["a"]`, `2["b"]`, `2["c"]`)
		require.Equal(t, []string{"a", "back"}, l.take())
		require.Equal(t, 2, waiting(sockets[0]).events)
		step <- struct{}{}
		require.Equal(t, []string{"b", "c"}, l.take())
		require.Equal(t, backlog{}, waiting(sockets[0]))
		back.Store(false)
		c.text(`2["b"]`)
		require.Equal(t, []string{"back"}, l.take())
		step <- struct{}{}
		require.Equal(t, []string{"b"}, l.take(), "it was the last one too")
	})
}
