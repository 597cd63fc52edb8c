// Recovery when a connection is dead and the server has not noticed it.

package realtime_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// A client whose connection is dead, which the server has not noticed, takes its place.
func TestRecovery_DeadConnection(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := recoverySite(t)
		room := realtime.DriverRoom("d1")
		former := s.Driver(t, "d1")
		notes(t, s, room, 1)
		require.Equal(t, 1, realtimetest.Expect(t, former, note))
		former.Stall()
		notes(t, s, room, 2)
		c, hello := back(t, s, former, "d1")
		recovers(t, c, hello, former, 2)
		sockets, err := s.Realtime.Drivers().To(room).Sockets(t.Context())
		require.NoError(t, err)
		require.Len(t, sockets, 1)
	})
}

// A client that loses the connection of its reconnect too gets its socket with the next attempt.
func TestRecovery_SecondAttempt(t *testing.T) {
	for name, test := range map[string]struct {
		seen  bool          // the server notices that the connection of the first attempt is lost
		after time.Duration // the second attempt comes so long after the first one
	}{
		"the server asks the former connection, and notices that the next one is lost": {seen: true, after: 100 * time.Millisecond},
		"the server asks the former connection":                                        {after: 100 * time.Millisecond},
		"the first attempt has got the socket":                                         {after: 1500 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				s := recoverySite(t)
				former := s.Driver(t, "d1")
				former.Stall()
				notes(t, s, realtime.DriverRoom("d1"), 1)
				first := openRaw(t, s)
				first.silent.Store(true)
				packet, err := json.Marshal(map[string]string{"token": s.Login("d1", realtime.UserDriver), "pid": former.PID(), "offset": former.Offset()})
				require.NoError(t, err)
				first.send(t, "40/drivers,"+string(packet))
				time.Sleep(test.after)
				if test.seen {
					require.NoError(t, first.body.Close())
				}
				c, hello := back(t, s, former, "d1")
				recovers(t, c, hello, former, 1)
				if test.after > time.Second {
					require.True(t, first.closed())
				}
			})
		})
	}
}
