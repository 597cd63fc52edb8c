package engineio

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

// A session that closes abandons an upgrade whose probe was not answered, so that its
// client polls and gets the close packet. The reader of the probe may be about to
// answer it.
func TestSession_CloseAbandonsAProbe(t *testing.T) {
	t.Parallel()
	ss, c, l := newLogged(newServer(t), false, true)
	ss.Close(ReasonForcedClose)
	require.False(t, c.handleUpgradePacket([]byte("2probe")))
	require.Equal(t, []string{"link closed", "closed: forced close"}, l.lines, "and nothing is written")
	ss.abort(ReasonForcedClose)
}

// A letter that only case folding makes equal is not accepted.
func TestIsUpgrade(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]bool{
		"websocket": true, "WebSocket": true, "": false, "h2c": false, "websockets": false,
		"h2c, WebSocket": true, "websocket,h2c": true, "h2c,": false, "websocket/13": false,
		"websoc\u212aet": false, "web\u017focket": false, "web\u017foc\u212aet": false,
	} {
		require.Equal(t, want, isUpgrade(&http.Request{Header: http.Header{"Upgrade": {value}}}), value)
		require.Equal(t, want, isUpgrade(&http.Request{Header: http.Header{"Upgrade": {"h2c", value}}}), value)
	}
}
