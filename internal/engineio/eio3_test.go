package engineio_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/engineio"
	"github.com/rodando/realtime/internal/testkit"
)

func allowEIO3(set *setup) { set.engine.AllowEIO3 = true }

// recorded makes handlers keep messages for the test instead of echoing them.
func recorded(set *setup) { set.message = (*handler).record }

// lengths returns a text payload of ASCII packets.
func lengths(packets ...string) string {
	var b strings.Builder
	for _, p := range packets {
		fmt.Fprintf(&b, "%d:%s", len(p), p)
	}
	return b.String()
}

// binaryPayload returns a binary payload; packets that begin with a byte 4 are binary.
func binaryPayload(packets ...string) string {
	var b strings.Builder
	for _, p := range packets {
		kind := byte(0)
		if p[0] == 4 {
			kind = 1
		}
		b.WriteByte(kind)
		for _, digit := range fmt.Sprint(len(p)) {
			b.WriteByte(byte(digit - '0'))
		}
		b.WriteByte(0xff)
		b.WriteString(p)
	}
	return b.String()
}

// pollingEIO3 opens an EIO3 session on long-polling.
func (s *server) pollingEIO3(query string) *poller {
	s.t.Helper()
	status, body, err := s.request(context.Background(), http.MethodGet, "EIO=3&transport=polling"+query, nil)
	require.NoError(s.t, err)
	require.Equal(s.t, http.StatusOK, status, body)
	length, packet, ok := strings.Cut(body, ":")
	require.True(s.t, ok)
	require.Equal(s.t, fmt.Sprint(len(packet)), length)
	sid := parseOpen(s.t, packet).SID
	return &poller{s: s, sid: sid, h: s.handler(sid)}
}

// do makes a request whose body, or answer, may be binary.
func (p *poller) do(method, contentType, body string) (status int, got, gotType string) {
	p.s.t.Helper()
	r, err := http.NewRequestWithContext(p.s.t.Context(), method, "http://engine.test/?"+p.query(), strings.NewReader(body))
	require.NoError(p.s.t, err)
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	resp, err := p.s.http.Do(r)
	require.NoError(p.s.t, err)
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	require.NoError(p.s.t, err)
	return resp.StatusCode, string(b), resp.Header.Get("Content-Type")
}

func (s *server) websocketEIO3(query string) *wsClient {
	s.t.Helper()
	c, resp := s.dialWebSocket("EIO=3&transport=websocket" + query)
	require.NotNil(s.t, c, resp.Status)
	c.sid = parseOpen(s.t, c.text()).SID
	c.h = s.handler(c.sid)
	return c
}

const textType, octetType = "text/plain; charset=UTF-8", "application/octet-stream"

func TestServer_BothProtocols(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c, allowEIO3)
		require.Equal(t, 3, s.pollingEIO3("").h.Protocol())
		require.Equal(t, 3, s.websocketEIO3("").h.Protocol())
		require.Equal(t, 4, s.polling().h.Protocol())
		require.Equal(t, 4, s.websocket().h.Protocol())
		for query, want := range map[string]string{
			"EIO=2&transport=polling":         badVersion,
			"EIO=03&transport=polling":        badVersion,
			"EIO=3&EIO=3&transport=polling":   badVersion,
			"EIO=3&EIO=4&transport=polling":   badVersion,
			"transport=polling":               badVersion,
			"EIO=3&transport=polling&j=0":     badRequest, // JSONP
			"EIO=3&transport=polling&sid=bad": unknownSession,
		} {
			status, body, err := s.request(t.Context(), http.MethodGet, query, nil)
			require.NoError(t, err)
			require.Equal(t, http.StatusBadRequest, status, query)
			require.Equal(t, want, body, query)
		}
	})
}

func TestEIO3_Polling(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c, allowEIO3, recorded)
		p := s.pollingEIO3("")

		p.postOK("4:4abc5:4höö!3:4😀6:b4AAEC1:4")
		for _, want := range []message{{"abc", false}, {"höö!", false}, {"😀", false}, {"\x00\x01\x02", true}, {"", false}} {
			require.Equal(t, want, receive(t, p.h.in))
		}
		status, body, _ := p.do(http.MethodPost, octetType, binaryPayload("4höö!", "\x04\x00\xff", "4", "\x04"))
		require.Equal(t, "ok", body)
		require.Equal(t, http.StatusOK, status)
		for _, want := range []message{{"höö!", false}, {"\x00\xff", true}, {"", false}, {"", true}} {
			require.Equal(t, want, receive(t, p.h.in))
		}

		p.h.Send(text("hö"), text("😀"), engineio.BinaryMessage([]byte{0, 255}), engineio.BinaryMessage(nil), text("end"))
		status, body, contentType := p.do(http.MethodGet, "", "")
		require.Equal(t, http.StatusOK, status)
		require.Equal(t, binaryPayload("4hö", "4😀", "\x04\x00\xff", "\x04", "4end"), body)
		require.Equal(t, octetType, contentType)
		p.h.Send(text("hö"), text("😀"))
		_, body, contentType = p.do(http.MethodGet, "", "")
		require.Equal(t, "3:4hö3:4😀", body)
		require.Equal(t, textType, contentType)

		poll := p.open()
		p.postOK("1:1")
		require.Equal(t, "1:6", receive(t, poll).body)
		require.Equal(t, engineio.ReasonTransportClose, p.h.ended(t))
		p.expectUnknown()
	})
}

// A client with b64 gets binary messages as base64 in text, on either transport.
func TestEIO3_Base64(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c, allowEIO3)
		p, ws := s.pollingEIO3("&b64=1"), s.websocketEIO3("&b64=1")
		p.postOK("3:4hö6:b4AP8=")
		_, body, contentType := p.do(http.MethodGet, "", "")
		require.Equal(t, "3:4hö6:b4AP8=", body)
		require.Equal(t, textType, contentType)
		ws.send("4hö", "b4AP8=")
		ws.expect("4hö", "b4AP8=")
		ws.sendBinary("\x04\x00")
		ws.expect("b4AA==")
	})
}

func TestEIO3_WebSocket(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c, allowEIO3)
		ws := s.websocketEIO3("")
		ws.send("4hö😀", "6")
		ws.expect("4hö😀")
		ws.sendBinary("\x04\x00\xff")
		ws.expectBinary("\x04\x00\xff")
		ws.send("b4" + base64.StdEncoding.EncodeToString([]byte{1}))
		ws.expectBinary("\x04\x01")
		ws.send("2", "2with data")
		ws.expect("3", "3")
		ws.h.Close(engineio.ReasonForcedClose)
		ws.expectEOF()
	})
}

// One message goes to clients of both protocols, to each in its form.
func TestEIO3_MessageForBothProtocols(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c, allowEIO3)
		old, base, recent := s.websocketEIO3(""), s.websocketEIO3("&b64=1"), s.websocket()
		ms := []*engineio.Message{text("event"), engineio.BinaryMessage([]byte{7})}
		for _, ws := range []*wsClient{old, recent, base, old, recent} {
			ws.h.Send(ms...)
		}
		for range 2 {
			old.expect("4event")
			old.expectBinary("\x04\x07")
			recent.expect("4event")
			recent.expectBinary("\x07")
		}
		base.expect("4event", "b4Bw==")
	})
}

func TestEIO3_Malformed(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c, allowEIO3, func(set *setup) { set.engine.MaxPackets = 3 })
		for _, body := range []string{
			"", "4", "2:4", "1:", "x:4", "2:4😀", "2:4\xff", "1:3", "1:5", "6:2probex", "1:0", "1:b", "2:b3", "3:b4=", "4\x1e4",
			strings.Repeat("1:4", 4), strings.Repeat("9", 100_000),
		} {
			p := s.pollingEIO3("")
			status, _ := p.post(body)
			require.Equal(t, http.StatusBadRequest, status, "%.40q", body)
			require.Equal(t, engineio.ReasonParseError, p.h.ended(t), "%.40q", body)
		}
		for _, body := range []string{"\x00", "\x02\x01\xff4", binaryPayload("\x04") + "\x01\x05\xff\x04", "\x01\x01\xff\x03", "\x01\xff", binaryPayload("4") + "4", "\x00\x01\xff\xff"} {
			p := s.pollingEIO3("")
			status, _, _ := p.do(http.MethodPost, octetType, body)
			require.Equal(t, http.StatusBadRequest, status, "%.40q", body)
			require.Equal(t, engineio.ReasonParseError, p.h.ended(t), "%.40q", body)
		}
		for _, packet := range []string{"", "3", "0{}", "5", "b", "b3", "b4*", "x"} {
			ws := s.websocketEIO3("")
			ws.send(packet)
			require.Equal(t, engineio.ReasonParseError, ws.h.ended(t), packet)
			ws.expectClose(1002)
		}
		for _, data := range []string{"", "\x03", "4text", "\x00\x04"} {
			ws := s.websocketEIO3("")
			ws.sendBinary(data)
			require.Equal(t, engineio.ReasonParseError, ws.h.ended(t), data)
			ws.expectClose(1002)
		}
		testkit.Eventually(t, "sessions are left", func() bool { return s.Len() == 0 })
	})
}

func TestEIO3_Upgrade(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c, allowEIO3)
		p := s.pollingEIO3("")
		poll := p.open()
		ws, _ := s.dialWebSocket("EIO=3&transport=websocket&sid=" + p.sid)
		ws.send("2probe")
		ws.expect("3probe")
		require.Equal(t, "1:6", receive(t, poll).body, "the client can't stop polling")
		p.h.Send(text("queued"), engineio.BinaryMessage([]byte{9}))
		ws.send("5")
		ws.expect("4queued")
		ws.expectBinary("\x04\x09")
		ws.send("4a", "2")
		ws.expect("4a", "3")
		require.Equal(t, "websocket", p.h.Transport())
	})
}

// The client pings and the server does not; a client that stops times out.
func TestEIO3_Heartbeat(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := startInMemory(t, allowEIO3)
		ws, p := s.websocketEIO3(""), s.pollingEIO3("")
		for range 10 {
			time.Sleep(pingInterval + pingTimeout - 4*tick)
			ws.send("2")
			ws.expect("3")
			p.postOK("1:2")
			_, body := p.poll()
			require.Equal(t, "1:3", body)
		}
		a, b := silence(ws.h), silence(p.h)
		go func() { _, _ = io.Copy(io.Discard, ws.in) }() // a pipe has no buffer
		within(t, pingInterval+pingTimeout, <-a)
		within(t, pingInterval+pingTimeout, <-b)
		require.Zero(t, s.Len())
	})
}

// For a client that sends many pings and does not read, only one pong waits.
func TestEIO3_PingFlood(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := startInMemory(t, allowEIO3)
		p := s.pollingEIO3("")
		time.Sleep(2 * time.Second) // until a client that does not poll counts as not writable
		for range 100 {
			p.postOK(strings.Repeat("1:2", 100))
		}
		messages, _ := p.h.Queued()
		require.Equal(t, 1, messages)
	})
}

// Socket.IO 1 encodes text as UTF-8 twice, and Socket.IO 2 once; both can read text
// that is ASCII.
func TestConfig_DoubleUTF8(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c, allowEIO3, recorded, func(set *setup) { set.engine.DoubleUTF8 = true })
		p := s.pollingEIO3("&b64=1")
		p.postOK("5:4hÃ¶!4:4hö!")
		for range 2 {
			require.Equal(t, message{"hö!", false}, receive(t, p.h.in))
		}
		p.h.Send(text(`2["hö😀"]`))
		_, body := p.poll()
		require.Equal(t, lengths(`42["h\u00f6\ud83d\ude00"]`), body)

		// Both encode binary payloads once.
		p = s.pollingEIO3("")
		p.do(http.MethodPost, octetType, binaryPayload("4hÃ¶"))
		require.Equal(t, message{"hÃ¶", false}, receive(t, p.h.in))
	})
}

// A payload that would be too long in its binary form ends before the binary packet.
func TestEIO3_BinaryPayloadsAreSplit(t *testing.T) {
	t.Parallel()
	s := start(t, tcp, allowEIO3, func(set *setup) { set.engine.MaxPayload, set.engine.DoubleUTF8 = 100, true })
	p := s.pollingEIO3("")
	for _, tc := range []struct {
		sent string // after a text of 60 bytes
		want []string
	}{
		{strings.Repeat("a", 31), []string{binaryPayload("4"+large(59), "\x04"+strings.Repeat("a", 31))}},
		{strings.Repeat("a", 32), []string{lengths("4" + large(59)), binaryPayload("\x04" + strings.Repeat("a", 32))}},
	} {
		p.h.Send(text(large(59)), engineio.BinaryMessage([]byte(tc.sent)))
		for _, want := range tc.want {
			_, body := p.poll()
			require.Equal(t, want, body)
		}
	}
	// Clients of Socket.IO 1 too decode the text in a binary payload once.
	p.h.Send(text(`"hö"`), engineio.BinaryMessage(nil))
	_, body := p.poll()
	require.Equal(t, binaryPayload(`4"hö"`, "\x04"), body)
}

func TestEIO3_PayloadsAreSplit(t *testing.T) {
	t.Parallel()
	s := start(t, tcp, allowEIO3, func(set *setup) { set.engine.MaxPayload = 1000 })
	p := s.pollingEIO3("")
	long := large(500)
	p.h.Send(text(long), text(long), text(large(2000)), text("end"))
	for _, want := range []string{"4" + long, "4" + long, "4" + large(2000), "4end"} {
		_, body := p.poll()
		require.Equal(t, lengths(want), body)
	}
}
