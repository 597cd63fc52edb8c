// Runs the frames of rfc6455_cases_test.go and rfc6455_text_test.go on both kinds of link.

package engineio_test

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/engineio"
	"github.com/rodando/realtime/internal/testkit"
)

// reply is a frame of the server's.
type reply struct {
	op   byte
	data string
}

func textReply(s string) reply { return reply{opText, s} }

// frameCase is what a client sends on an open websocket, and what the server, which echoes
// messages, must answer.
type frameCase struct {
	name    string // begins with the section of RFC 6455 that decides
	sends   []byte
	split   int     // bytes of a write; 0: all at once
	replies []reply // in order, but pongs may come before or after messages
	// status is that of the server's close frame, with which the connection then ends;
	// 0: the connection lives on.
	status uint16
	// apart says that the message before has been answered when sends is written, because the
	// server drops what is queued for a client that closes.
	apart bool
}

// Statuses of close frames.
const (
	normal        = 1000
	protocolError = 1002
	invalidData   = 1007
	tooBig        = 1009
)

// echo is the case of one message that comes back.
func echo(name string, op byte, data string, sends ...[]byte) frameCase {
	if len(sends) == 0 {
		sends = [][]byte{frameBytes(0x80|op, data)}
	}
	return frameCase{name: name, sends: slices.Concat(sends...), replies: []reply{{op, data}}}
}

// broken is the case of frames that end the connection.
func broken(name string, status uint16, sends ...[]byte) frameCase {
	return frameCase{name: name, sends: slices.Concat(sends...), status: status}
}

// rawFrame returns a frame whose header and mask are as given, whatever the payload.
func rawFrame(header []byte, mask [4]byte, payload string) []byte {
	b := append(slices.Clone(header), mask[:]...)
	for i := range len(payload) {
		b = append(b, payload[i]^mask[i%4])
	}
	return b
}

// run runs the case, between two messages that have nothing to do with it.
func (fc frameCase) run(t *testing.T, s *server) {
	ws := s.websocket()
	defer func() { _ = ws.conn.Close() }()
	// On a connection that ends, what follows is discarded and causes no reset.
	all := append(slices.Clone(fc.sends), frameBytes(0x80|opText, "4after")...)
	replies := fc.replies
	if fc.apart {
		ws.send("4before")
		ws.expect("4before")
	} else {
		all = append(frameBytes(0x80|opText, "4before"), all...)
		replies = slices.Concat([]reply{textReply("4before")}, replies)
	}
	if fc.status == 0 {
		replies = append(replies, textReply("4after"))
	}
	go func() { // while the answers are read, for the long ones
		for part := range slices.Chunk(all, max(fc.split, 1)) {
			if fc.split == 0 {
				part = all
			}
			if _, err := ws.conn.Write(part); err != nil || fc.split == 0 {
				return // the reads fail then
			}
		}
	}()
	var pongs []string
	// next returns the next frame that is no pong.
	next := func() (byte, string) {
		for {
			op, data, err := ws.frame()
			require.NoError(t, err)
			if op != opPong {
				return op, string(data)
			}
			pongs = append(pongs, string(data))
		}
	}
	var wantPongs []string
	for _, want := range replies {
		if want.op == opPong {
			wantPongs = append(wantPongs, want.data)
			continue
		}
		op, data := next()
		require.Equal(t, want.op, op, "%.100q", data)
		if want.data != data { // Equal would show all of it
			require.Len(t, data, len(want.data))
			require.FailNow(t, "not the same data", "%.100q\n%.100q", want.data, data)
		}
	}
	if fc.status != 0 {
		op, data := next()
		require.EqualValues(t, opClose, op, "%.100q", data)
		require.Len(t, data, 2)
		require.Equal(t, fc.status, binary.BigEndian.Uint16([]byte(data)))
		ws.expectEOF()
	}
	requirePongs(t, wantPongs, pongs)
	if fc.status == 0 {
		require.Empty(t, ws.h.closed)
		return
	}
	reason := engineio.ReasonParseError
	if fc.status == normal {
		reason = engineio.ReasonTransportClose
	}
	require.Equal(t, reason, ws.h.ended(t))
}

// requirePongs checks that pings were answered in order: of those that came while none could be
// answered the last one at least, as section 5.5.3 says.
func requirePongs(t *testing.T, want, got []string) {
	t.Helper()
	if len(want) > 0 {
		require.NotEmpty(t, got)
		require.Equal(t, want[len(want)-1], got[len(got)-1])
	}
	for _, data := range got {
		i := slices.Index(want, data)
		require.GreaterOrEqual(t, i, 0, "pong %q among %q", data, got)
		want = want[i+1:]
	}
}

// What a server must do with each kind of frame, by the sections of RFC 6455. Public test
// suites of the protocol have the same categories.
func TestWSConn_RFC6455(t *testing.T) {
	t.Parallel()
	groups := map[string][]frameCase{
		"framing":       framingCases(),
		"masking":       maskingCases(),
		"reserved bits": reservedBitCases(),
		"opcodes":       opcodeCases(),
		"pings, pongs":  pingCases(),
		"fragmentation": fragmentationCases(),
		"text":          textCases(),
		"close":         closeCases(),
		"limits":        limitCases(),
	}
	names := map[string]bool{}
	for _, cases := range groups {
		for _, fc := range cases {
			require.False(t, names[fc.name], "two cases are called %q", fc.name)
			names[fc.name] = true
		}
	}
	for _, c := range []carrier{tcp, hidden} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := start(t, c)
			for group, cases := range groups {
				t.Run(group, func(t *testing.T) {
					for _, fc := range cases {
						t.Run(fc.name, func(t *testing.T) { fc.run(t, s) })
					}
				})
			}
			testkit.Eventually(t, "sessions are left", func() bool { return s.Len() == 0 })
		})
	}
}

// kinds are the opcodes of messages.
var kinds = map[byte]string{opText: "text", opBinary: "binary"}

// closePayload returns the payload of a close frame.
func closePayload(status int, reason string) string {
	return string(binary.BigEndian.AppendUint16(nil, uint16(status))) + reason
}

// spell names the bytes of a text.
func spell(s string) string { return strings.TrimSpace(fmt.Sprintf("% x", s)) }
