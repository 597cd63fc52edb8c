// How long the servers have to shut down.

package main

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
)

// A client that loses its network between two polls delays the shutdown for a heartbeat, which is
// no breach. Without one the shutdown has no time for that.
func TestWorld_ShutDownWithAVanishedClient(t *testing.T) {
	w, err := newWorld(config{seed: 1})
	require.NoError(t, err)
	defer w.lag.close()
	require.Equal(t, shutDown, w.shutDownTime())

	w.users.Set(realtime.User{ID: "p1", Type: realtime.UserPassenger, Active: true})
	_, token := w.login("p1", 1)
	c, err := dialRaw(w.nodes[0], honest(1))
	require.NoError(t, err)
	sid, err := c.open()
	require.NoError(t, err)
	require.NoError(t, c.post(sid, connectPacket(realtime.NamespacePassengers, token)))
	for answer := ""; !strings.Contains(answer, realtime.EventHello.Name()); {
		answer += c.poll(t, sid)
	}
	require.NoError(t, c.Close())
	w.vanished()
	began := time.Now()
	w.oracle.drain()
	w.shutDown()
	_, breaches := w.oracle.verdict()
	require.Empty(t, breaches)
	require.Greater(t, time.Since(began), shutDown, "the close did not wait for the client")

	w.vanishedAt.Store(time.Now().Add(-pingInterval - pingTimeout).UnixNano()) // heartbeats have found it out
	require.Equal(t, shutDown, w.shutDownTime())
}

// poll makes one poll.
func (c *raw) poll(t *testing.T, sid string) string {
	t.Helper()
	res, err := c.request(http.MethodGet, "polling&sid="+sid, "", "")
	require.NoError(t, err)
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, res.StatusCode, "%s", body)
	return string(body)
}
