// How long Shutdown waits for a client that polls.

package realtime_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// The connection of a client that lost its network between two polls is closed a heartbeat after
// server:drain, as nobody can know that the client polls no more.
func TestShutdown_WaitsAHeartbeatForAClientThatPolled(t *testing.T) {
	const heartbeat, rest = 20 * time.Second, 2500 * time.Millisecond // what the other steps need
	for limit, want := range map[time.Duration]string{
		heartbeat + rest: "",
		heartbeat:        "realtime: shutdown: connections cut off: 1 connections were cut off: context deadline exceeded",
	} {
		t.Run(limit.String(), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Timeouts.PingTimeout = heartbeat })
				d := srv.Driver(t, "d1", realtimetest.Polling())
				d.Stall()
				note := realtime.NewEvent[string]("note") // the answer to its last poll
				require.NoError(t, note.Emit(srv.Realtime.Drivers().To(realtime.DriverRoom("d1")), "text"))
				synctest.Wait()
				d.Drop()
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				defer cancel()
				if err := srv.Realtime.Shutdown(ctx); want == "" {
					require.NoError(t, err)
				} else {
					require.EqualError(t, err, want)
				}
			})
		})
	}
}
