// What clients that are not in JavaScript put on the wire: their handshakes, their frames and
// their goodbyes, byte by byte.

package engineio_test

import (
	"bufio"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/engineio"
	"github.com/rodando/realtime/internal/testkit"
)

// clientScript is how a client behaves on a websocket.
type clientScript struct {
	query   string   // that it adds
	headers []string // beside those that every websocket has
	sends   [][]byte
	replies []reply
	goodbye []byte // what it sends when it closes, or has read a DISCONNECT
}

// open opens the client's websocket.
func (cs clientScript) open(s *server) *wsClient {
	s.t.Helper()
	conn, err := s.dial()
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = conn.Close() })
	first, rest, _ := strings.Cut(handshake("EIO=4&transport=websocket"+cs.query), "\r\n")
	_, err = io.WriteString(conn, strings.Join(append([]string{first}, cs.headers...), "\r\n")+"\r\n"+rest)
	require.NoError(s.t, err)
	c := &wsClient{t: s.t, conn: conn, in: bufio.NewReader(conn)}
	resp, err := http.ReadResponse(c.in, nil)
	require.NoError(s.t, err)
	require.Equal(s.t, http.StatusSwitchingProtocols, resp.StatusCode)
	require.Empty(s.t, resp.Header["Sec-Websocket-Extensions"], "none is supported")
	c.sid = parseOpen(s.t, c.text()).SID
	c.h = s.handler(c.sid)
	return c
}

// run takes the client through a conversation and every ending.
func (cs clientScript) run(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c)
		ws := cs.open(s)
		ws.write(slices.Concat(cs.sends...))
		for _, want := range cs.replies {
			op, data, err := ws.frame()
			require.NoError(t, err)
			require.Equal(t, want.op, op)
			require.Equal(t, want.data, string(data))
		}
		require.True(t, ws.h.Send(text("server's")))
		ws.expect("4server's")

		// The client closes.
		ws.write(cs.goodbye)
		ws.expectClose(normal)
		require.Equal(t, engineio.ReasonTransportClose, ws.h.ended(t))
		require.NoError(t, ws.conn.Close())

		// The server tells it to stay away: it closes by itself, and is answered at once.
		ws = cs.open(s)
		lastWords(ws, ws.h.Dismiss)
		ws.write(cs.goodbye)
		ws.expectClose(normal)
		require.NoError(t, ws.conn.Close())

		// The server wants it back: the end of the stream comes without a close frame.
		ws = cs.open(s)
		lastWords(ws, ws.h.Close)
		ws.expectEOF()
		_, _ = ws.conn.Write(cs.goodbye)
		require.NoError(t, ws.conn.Close())
		testkit.Eventually(t, "sessions are left", func() bool { return s.Len() == 0 })
		require.Zero(t, s.Cut())
	})
}

// Java's client, on Android, has OkHttp's websocket.
func TestSession_JavaFrames(t *testing.T) {
	clientScript{
		query:   "&t=OvXqzXo",
		headers: []string{"Sec-WebSocket-Extensions: permessage-deflate", "Accept-Encoding: gzip", "User-Agent: okhttp/3.12.13"},
		sends:   [][]byte{frameBytes(0x80|opText, "3"), frameBytes(0x80|opText, `4["José"]`), frameBytes(0x80|opBinary, "\x00\xff")},
		replies: []reply{textReply(`4["José"]`), {opBinary, "\x00\xff"}},
		goodbye: frameBytes(0x80|opClose, closePayload(normal, "")),
	}.run(t)
}

// Swift's client has Starscream's websocket. It says goodbye twice, as a packet and as a frame.
func TestSession_SwiftFrames(t *testing.T) {
	clientScript{
		headers: []string{
			"Origin: ws://engine.test", "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits; server_max_window_bits=15",
		},
		sends:   [][]byte{frameBytes(0x80|opText, `4["José"]`), frameBytes(0x80|opPing, ""), frameBytes(0x80|opBinary, "\x00\xff")},
		replies: []reply{textReply(`4["José"]`), {opPong, ""}, {opBinary, "\x00\xff"}},
		goodbye: slices.Concat(frameBytes(0x80|opText, "1"), frameBytes(0x80|opClose, closePayload(normal, ""))),
	}.run(t)
}

// The C++ client has WebSocket++. It gives a reason.
func TestSession_CppFrames(t *testing.T) {
	clientScript{
		query:   "&t=1764216000",
		headers: []string{"User-Agent: WebSocket++/0.8.2"},
		sends:   [][]byte{frameBytes(0x80|opText, "40"), frameBytes(0x80|opText, `42["José"]`), frameBytes(0x80|opBinary, "\x00\xff")},
		replies: []reply{textReply("40"), textReply(`42["José"]`), {opBinary, "\x00\xff"}},
		goodbye: frameBytes(0x80|opClose, closePayload(normal, "End by user")),
	}.run(t)
}

// .NET's client sends fragments of 8 KiB, which cut characters in two, and pongs that nobody
// asked for.
func TestSession_DotNetFrames(t *testing.T) {
	long := "4" + strings.Repeat("ñ☃", 5000)
	const size = 8 << 10
	var fragmented []byte
	for i := 0; i < len(long); i += size {
		op, end := byte(opContinuation), min(i+size, len(long))
		if i == 0 {
			op = opText
		}
		if end == len(long) {
			op |= 0x80
		}
		fragmented = append(fragmented, frameBytes(op, long[i:end])...)
	}
	clientScript{
		sends:   [][]byte{frameBytes(0x80|opPong, ""), frameBytes(0x80|opText, "3"), fragmented, frameBytes(0x80|opBinary, "\x00\xff"), frameBytes(0x80|opPong, "")},
		replies: []reply{textReply(long), {opBinary, "\x00\xff"}},
		goodbye: frameBytes(0x80|opClose, closePayload(normal, "")),
	}.run(t)
}
