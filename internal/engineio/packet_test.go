package engineio

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"
)

// A websocket library can read the frame, whatever its length.
func TestMessage_Frames(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 124, 125, 126, 65534, 65535, 65536, 1 << 20} {
		data := strings.Repeat("x", n)
		for _, tc := range []struct {
			m       *Message
			op      ws.OpCode
			payload string
			polled  string
		}{
			{textOf(data), ws.OpText, "4" + data, "4" + data},
			{BinaryMessage([]byte(data)), ws.OpBinary, data, "b" + base64.StdEncoding.EncodeToString([]byte(data))},
			{control("2" + data), ws.OpText, "2" + data, "2" + data},
		} {
			h, payload := parseFrame(t, tc.m)
			require.True(t, h.Fin)
			require.False(t, h.Masked)
			require.Zero(t, h.Rsv)
			require.Equal(t, tc.op, h.OpCode)
			require.Equal(t, tc.payload, payload)
			require.Equal(t, tc.payload, string(tc.m.payload()))
			require.Equal(t, tc.polled, string(tc.m.appendPolled(nil)))
			require.Equal(t, len(tc.polled), tc.m.polledLen())
		}
	}
	h, payload := parseFrame(t, closeFrame(ws.StatusMessageTooBig))
	require.Equal(t, ws.OpClose, h.OpCode)
	require.Equal(t, "\x03\xf1", payload)
}

// parseFrame parses the frame of a message with the library's parser.
func parseFrame(t *testing.T, m *Message) (ws.Header, string) {
	t.Helper()
	r := bytes.NewReader(m.frame)
	h, err := ws.ReadHeader(r)
	require.NoError(t, err)
	require.EqualValues(t, h.Length, r.Len())
	return h, string(m.frame[len(m.frame)-r.Len():])
}

// A buffer of the right size is not copied.
func TestTextMessage_KeepsItsBuffer(t *testing.T) {
	t.Parallel()
	b := append(TextBuffer(5), "hello"...)
	m := TextMessage(b)
	require.Same(t, &b[len(b)-1], &m.frame[len(m.frame)-1])
	data := []byte("binary")
	bin := BinaryMessage(data)
	data[0] = 'x'
	require.Equal(t, "binary", string(bin.payload()))
}
