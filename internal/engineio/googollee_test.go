package engineio_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	googollee "github.com/googollee/go-socket.io/engineio"
	"github.com/googollee/go-socket.io/engineio/session"
	"github.com/googollee/go-socket.io/engineio/transport"
	"github.com/googollee/go-socket.io/engineio/transport/polling"
	"github.com/googollee/go-socket.io/engineio/transport/websocket"
	"github.com/stretchr/testify/require"
)

// keepBodies keeps the status and body of the last response.
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

// googollee/go-socket.io v1.7.0 speaks protocol 3, which a server without AllowEIO3
// refuses with the error of the reference implementation.
func TestServer_RefusesEIO3ByDefault(t *testing.T) {
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
		require.ErrorAs(t, err, &refused)
		require.Equal(t, http.StatusBadRequest, refused.Response.StatusCode)
		body, err := io.ReadAll(refused.Response.Body)
		require.NoError(t, err)
		require.Equal(t, badVersion, string(body))
	})
	require.Zero(t, s.Len())
}

// byGoogollee returns the two transports of googollee.
func byGoogollee(dial func(network, addr string) (net.Conn, error)) map[string]transport.Transport {
	return map[string]transport.Transport{
		"polling": &polling.Transport{Client: &http.Client{Transport: &http.Transport{
			DialContext:       func(_ context.Context, network, addr string) (net.Conn, error) { return dial(network, addr) },
			DisableKeepAlives: true, // nothing is left when it is closed
		}}},
		"websocket": &websocket.Transport{NetDial: dial},
	}
}

// An independent implementation of protocol 3 understands this one. googollee counts
// the bytes of text where others count UTF-16 code units, so polling works only because
// text is escaped.
func TestServer_EchoToGoogollee(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c, allowEIO3, func(set *setup) { set.engine.DoubleUTF8 = true })
		for name, over := range byGoogollee(func(string, string) (net.Conn, error) { return s.dial() }) {
			t.Run(name, func(t *testing.T) {
				dialer := googollee.Dialer{Transports: []transport.Transport{over}}
				conn, err := dialer.Dial("http://engine.test/", nil)
				require.NoError(t, err)
				defer func() { _ = conn.Close() }()
				echo := func(frame session.FrameType, data []byte) []byte {
					w, err := conn.NextWriter(frame)
					require.NoError(t, err)
					_, err = w.Write(data)
					require.NoError(t, err)
					require.NoError(t, w.Close())
					got, r, err := conn.NextReader()
					require.NoError(t, err)
					require.Equal(t, frame, got)
					b, err := io.ReadAll(r)
					require.NoError(t, err)
					require.NoError(t, r.Close())
					return b
				}
				for _, text := range []string{"plain", "", "höö ☃ 😀", strings.Repeat("😀", 10_000)} {
					quoted, err := json.Marshal(text)
					require.NoError(t, err)
					var back string
					require.NoError(t, json.Unmarshal(echo(session.TEXT, quoted), &back))
					require.Equal(t, text, back)
				}
				for _, data := range []string{"\x00\xff\x1e1:4", strings.Repeat("\x04", 10_000)} {
					require.Equal(t, data, string(echo(session.BINARY, []byte(data))))
				}
			})
		}
	})
}
