package engineio_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/engineio"
	"github.com/rodando/realtime/internal/testkit"
)

// upgradeWith upgrades a polling session with a handshake of this query.
func (p *poller) upgradeWith(query string) *wsClient {
	p.s.t.Helper()
	c, resp := p.s.dialWebSocket(query + "&transport=websocket&sid=" + p.sid)
	require.NotNil(p.s.t, c, resp.Status)
	c.send("2probe")
	c.expect("3probe")
	c.send("5")
	testkit.Eventually(p.s.t, "not upgraded", func() bool { return p.h.Transport() == "websocket" })
	c.sid, c.h = p.sid, p.h
	return c
}

// A client with the option forceBase64 sends and gets binary data as base64 in text, on a
// websocket too.
func TestWSConn_Base64(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c, recordMessages)
		forced, resp := s.dialWebSocket("EIO=4&transport=websocket&b64=1")
		require.NotNil(t, forced, resp.Status)
		forced.sid = parseOpen(t, forced.text()).SID
		forced.h = s.handler(forced.sid)
		plain := s.websocket()

		for _, ws := range []*wsClient{forced, plain} { // base64 needs no b64
			ws.send("bAAH+", "b", "4b")
			ws.sendBinary("\x04")
			for _, want := range []message{{"\x00\x01\xfe", true}, {"", true}, {"b", false}, {"\x04", true}} {
				require.Equal(t, want, receive(t, ws.h.in))
			}
			ws.h.Send(text("a"), engineio.BinaryMessage([]byte{0, 1, 254}), engineio.BinaryMessage(nil), text("b"))
		}
		forced.expect("4a", "bAAH+", "b", "4b")
		plain.expect("4a")
		plain.expectBinary("\x00\x01\xfe")
		plain.expectBinary("")
		plain.expect("4b")

		forced.send("bAAH") // cut short
		forced.expectClose(1002)
	})
}

// Each transport has its own b64: clients in Node ask for base64 on polling only.
func TestSession_Base64AfterUpgrade(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c, allowEIO3, recordMessages)
		data := engineio.BinaryMessage([]byte{7})
		for _, tc := range []struct {
			polling, websocket string // the b64 of their queries
			base64             bool
		}{{"", "", false}, {"&b64=1", "", false}, {"&b64=1", "&b64=1", true}, {"", "&b64=1", true}} {
			p := s.pollingWith("EIO=4" + tc.polling)
			p.h.Send(data)
			p.expect("bBw==")
			ws := p.upgradeWith("EIO=4" + tc.websocket)
			ws.h.Send(data)
			if tc.base64 {
				ws.expect("bBw==")
			} else {
				ws.expectBinary("\x07")
			}

			old := s.pollingEIO3(tc.polling)
			ws = old.upgradeWith("EIO=3" + tc.websocket)
			ws.h.Send(data)
			if tc.base64 {
				ws.expect("b4Bw==")
			} else {
				ws.expectBinary("\x04\x07")
			}
		}
		// What was queued before the upgrade arrives as the client had asked for then.
		p := s.pollingWith("EIO=4&b64=1")
		ws, _ := s.dialWebSocket("EIO=4&transport=websocket&sid=" + p.sid)
		ws.send("2probe")
		ws.expect("3probe")
		p.h.Send(text("a"), data)
		ws.send("5")
		ws.expect("4a", "bBw==")
	})
}
