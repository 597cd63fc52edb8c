// Receipts: by ack, by heartbeat, and what happens when there can be none.

package socketio

import (
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/engineio"
	"github.com/rodando/realtime/internal/testkit"
)

// track sends an event with an ack id to a socket and logs its receipts.
func track(l *log, s *Socket, id int64) bool {
	return s.Track(id, func(r Receipt) {
		l.addf("%d %s", id, [...]string{ReceiptAck: "ack", ReceiptHeartbeat: "heartbeat", ReceiptClosed: "closed"}[r])
	}, EventMessage(s.ns.name, id, "e"))
}

func TestSocket_Track(t *testing.T) {
	each(t, func(t *testing.T, transport string) {
		s := serve(t)
		n := s.namespace("/", Hooks{})
		c, sockets := s.join(transport, "/")
		var l log

		// The client answers pings by itself; the app acks later, or never.
		require.True(t, track(&l, sockets[0], 0))
		c.expect(`20["e"]`)
		require.Equal(t, []string{"0 heartbeat"}, l.take())
		c.text(`30[]`, `30[]`)
		require.Equal(t, []string{"0 ack"}, l.take())

		// No answer to pings.
		c.silent.Store(true)
		require.True(t, track(&l, sockets[0], 1))
		c.expect(`21["e"]`)
		require.Empty(t, l.take())
		c.text(`31["anything"]`)
		require.Equal(t, []string{"1 ack"}, l.take())

		require.True(t, track(&l, sockets[0], 2))
		require.True(t, track(&l, sockets[0], 3))
		c.expect(`22["e"]`, `23["e"]`)
		sockets[0].Forget(2)
		c.text(`32[]`)
		require.Empty(t, l.take())
		c.text(`1`)
		require.Equal(t, []string{"3 closed"}, l.take())
		require.False(t, track(&l, sockets[0], 4))
		require.Equal(t, backlog{}, backlogOf(sockets[0]))
		require.Zero(t, n.Len())
		require.Empty(t, l.take())
	})
}

// A client whose acks are full still proves receipts by its pongs.
func TestSocket_TrackWithTooManyAcks(t *testing.T) {
	each(t, func(t *testing.T, transport string) {
		s := serve(t, func(sc *Config, _ *engineio.Config) { sc.PendingAcks = 2 })
		s.namespace("/", Hooks{})
		c, sockets := s.join(transport, "/")
		var l log
		for id := range int64(4) {
			require.True(t, track(&l, sockets[0], id))
			c.expect(fmt.Sprintf(`2%d["e"]`, id))
			require.Equal(t, []string{fmt.Sprint(id, " heartbeat")}, l.take())
		}
		c.text(`33[]`, `31[]`)
		require.Equal(t, []string{"1 ack"}, l.take())
	})
}

// Nobody waits for the ack of a tracked event: reading pauses as if there were none.
func TestSocket_TrackDoesNotKeepReading(t *testing.T) {
	each(t, func(t *testing.T, transport string) {
		s := serve(t, func(sc *Config, _ *engineio.Config) { sc.QueuedEvents = 3 })
		block := make(chan struct{})
		s.namespace("/", Hooks{Event: func(*Socket, *Event) { <-block }})
		c, sockets := s.join(transport, "/")
		var l log
		require.True(t, track(&l, sockets[0], 0))
		c.expect(`20["e"]`)
		require.Equal(t, []string{"0 heartbeat"}, l.take())
		go c.text(`2["a"]`, `2["b"]`, `2["c"]`, `2["d"]`, `2["e"]`, `30[]`)
		synctest.Wait()
		require.True(t, waiting(sockets[0]).paused)
		require.Empty(t, l.take())
		close(block)
		require.Equal(t, []string{"0 ack"}, l.take())
	})
}

func TestSocket_TrackEIO3(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		s := serve(t, func(_ *Config, e *engineio.Config) { e.AllowEIO3 = true })
		s.namespace("/", Hooks{})
		c := s.dialEIO3()
		c.expect(`0`)
		sock := <-s.opened
		var l log
		require.True(t, track(&l, sock, 0))
		c.expect(`20["e"]`)
		require.Empty(t, l.take())
		c.text(`30[]`)
		require.Equal(t, []string{"0 ack"}, l.take())
	})
}
