// Arguments in wire format that no client could decode.

package realtime_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// A handler's ack that no client could decode is an error of the host. The client stays
// connected.
func TestNamespace_HandleRawWithAnInvalidAck(t *testing.T) {
	for i, bad := range badRaws {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				var log logBuffer
				srv := realtimetest.NewServer(t, logTo(&log))
				srv.Realtime.Drivers().HandleRaw("raw", func(context.Context, *realtime.Socket, realtime.Raw) (realtime.Raw, error) { return bad, nil })
				d := srv.Driver(t, "d1")
				require.JSONEq(t, `{"ok":false,"error":{"code":"internal","message":"internal error"}}`, rawAck(t, d, "raw", `1`))
				require.Contains(t, log.String(), "argument ")
				require.True(t, d.Connected())
			})
		})
	}
}
