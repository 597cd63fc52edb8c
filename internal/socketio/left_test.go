// Connections that nobody has logged in on, or not any more.

package socketio

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/engineio"
)

// The engine treats a connection whose sockets are all anonymous as one without a known user,
// also if it had another socket before: it makes room for users who have logged in.
func TestHooks_Anonymous(t *testing.T) {
	each(t, func(t *testing.T, transport string) {
		for name, leaves := range map[string]bool{"from the beginning": false, "after leaving the other namespace": true} {
			s := serve(t, func(sc *Config, ec *engineio.Config) {
				sc.AttachmentBytes, ec.MaxPayload, ec.MaxIncomingBytes = 100_000, 100_000, 300_000
			})
			var l log
			s.namespace("/", events(&l))
			anonymous := events(&l)
			anonymous.Anonymous = true
			s.namespace("/anonymous", anonymous)
			begin := func(c *client, namespace string) {
				c.text(`52-` + prefix(namespace) + `["a"]`)
				c.binary(strings.Repeat("x", 60_000))
				synctest.Wait()
			}
			var known []*client
			for _, namespaces := range [][]string{{"/"}, {"/anonymous", "/"}} {
				c, _ := s.join(transport, namespaces...)
				begin(c, namespaces[0])
				known = append(known, c)
			}
			for range 10 {
				c, _ := s.join(transport, "/anonymous")
				if leaves {
					s.enter(c, "/")
					c.text("1")
				}
				begin(c, "/anonymous")
			}
			for _, c := range known {
				require.False(t, c.isClosed(), name)
			}
		}
	})
}

// Config.Left is called once for each admitted socket that leaves a connection, unless
// the connection is closed.
func TestConfig_Left(t *testing.T) {
	each(t, func(t *testing.T, transport string) {
		var left log
		s := serve(t, func(sc *Config, _ *engineio.Config) {
			sc.Left = func(s *Socket) { left.addf("%s", s.Namespace().Name()) }
		})
		s.namespace("/", Hooks{})
		s.namespace("/other", Hooks{})
		s.namespace("/refused", Hooks{Connect: func(s *Socket, _ []byte) { s.Refuse(nil, false) }})
		s.namespace("/regretted", Hooks{Connect: func(s *Socket, _ []byte) { s.Admit("all"); s.Refuse(nil, false) }})
		c, sockets := s.join(transport, "/", "/other")
		c.text("0/refused,")
		c.expect1("4/refused,")
		synctest.Wait()
		require.Empty(t, left.take())
		c.text("0/regretted,")
		c.expect1("4/regretted,")
		synctest.Wait()
		require.Equal(t, []string{"/regretted"}, left.take())
		c.text("1", "1")
		synctest.Wait()
		require.Equal(t, []string{"/"}, left.take())
		s.enter(c, "/").Disconnect()
		synctest.Wait()
		require.Equal(t, []string{"/"}, left.take())
		sockets[1].Disconnect() // the last one: the connection is closed
		synctest.Wait()
		c, _ = s.join(transport, "/", "/other")
		c.text("1/other,")
		synctest.Wait()
		require.Equal(t, []string{"/other"}, left.take())
		c.text("1")
		synctest.Wait()
		require.Equal(t, []string{"/"}, left.take())
		_, _ = s.join(transport, "/", "/other")
		require.NoError(t, s.sio.Shutdown(t.Context()))
		s.sio.Wait()
		require.Empty(t, left.take())
	})
}

// Two sockets of a connection are disconnected at the same time: the connection is not closed before both have sent their
// DISCONNECT, or one of the clients would come back.
func TestSocket_Disconnect_OfTwoAtTheSameTime(t *testing.T) {
	each(t, func(t *testing.T, transport string) {
		s := serve(t)
		s.namespace("/a", Hooks{})
		s.namespace("/b", Hooks{})
		c, sockets := s.join(transport, "/a", "/b")
		a, b := sockets[0], sockets[1]
		a.mu.Lock()
		closing := a.closeLocked(ReasonServer)
		a.mu.Unlock()
		b.Disconnect()
		c.expect1("1/b,")
		require.False(t, c.isClosedSoon())
		a.finishClose(closing, closing.others == 0, disconnectMessage("/a"))
		c.expect1("1/a,")
		require.True(t, c.isClosedSoon())
	})
}
