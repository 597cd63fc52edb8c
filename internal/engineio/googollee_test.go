package engineio_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"

	googollee "github.com/googollee/go-socket.io/engineio"
	"github.com/googollee/go-socket.io/engineio/transport"
	"github.com/googollee/go-socket.io/engineio/transport/polling"
	"github.com/googollee/go-socket.io/engineio/transport/websocket"
	"github.com/stretchr/testify/require"
)

// keepBodies keeps the last response's status and body.
type keepBodies struct {
	http.RoundTripper
	status int
	body   []byte
}

func (k *keepBodies) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := k.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	k.status = resp.StatusCode
	k.body, err = io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(k.body))
	return resp, err
}

// googollee/go-socket.io v1.7.0 speaks version 3 of the protocol, which no
// client of version 4 understands; it is told so.
func TestGoogolleeIsRefused(t *testing.T) {
	t.Parallel()
	s := start(t, tcp)

	t.Run("polling", func(t *testing.T) {
		kept := &keepBodies{RoundTripper: s.http.Transport}
		dialer := googollee.Dialer{Transports: []transport.Transport{
			&polling.Transport{Client: &http.Client{Transport: kept}},
		}}
		_, err := dialer.Dial("http://engine.test/", nil)
		require.Error(t, err)
		require.Equal(t, http.StatusBadRequest, kept.status)
		require.Equal(t, badVersion, string(kept.body))
	})
	t.Run("websocket", func(t *testing.T) {
		dialer := googollee.Dialer{Transports: []transport.Transport{
			&websocket.Transport{NetDial: func(string, string) (net.Conn, error) { return s.dial() }},
		}}
		_, err := dialer.Dial("http://engine.test/", nil)
		var refused websocket.DialError
		require.True(t, errors.As(err, &refused), err)
		require.Equal(t, http.StatusBadRequest, refused.Response.StatusCode)
		body, err := io.ReadAll(refused.Response.Body)
		require.NoError(t, err)
		require.Equal(t, badVersion, string(body))
	})
	require.Zero(t, s.Len())
}
