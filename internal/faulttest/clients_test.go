// Clients that misbehave, over real sockets. After each row of the table the healthy
// clients are served as before, and in the end nothing is left of the others. The CVE
// numbers name the libraries' faults that the rows would trigger.

package faulttest_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// attackers is how many clients do the same at once.
const attackers = 5

// badFrames returns websocket frames that must end any connection.
func badFrames() map[string][]byte {
	frames := map[string][]byte{
		"256 MB (CVE-2016-10542)":                  longFrame(0x82, 256<<20, ""),
		"64-bit length overflow (CVE-2020-27813)":  longFrame(0x82, 0x8000000000000001, "4a"),
		"15 bytes, MSB set (nats-server)":          longFrame(0x82, 0x8000000000000001, "x"),
		"all bits of the length":                   longFrame(0x81, 1<<64-1, "4a"),
		"largest length":                           longFrame(0x81, 1<<63-1, "4a"),
		"one more than allowed":                    longFrame(0x81, 1_000_001, "4a"),
		"RSV1 without an extension":                masked(0xc1, "4a"),
		"RSV2 (CVE-2022-21676)":                    masked(0xa1, "4a"),
		"RSV3 (CVE-2022-21676)":                    masked(0x91, "4a"),
		"RSV2 and RSV3 of a ping (CVE-2022-21676)": masked(0xb9, ""),
		"unmasked":                []byte("\x81\x024a"),
		"continuation of nothing": masked(0x80, "4a"),
		"fragmented close":        masked(0x08, ""),
		"ping of 126 bytes":       masked(0x89, strings.Repeat("x", 126)),
		"text that is no UTF-8":   masked(0x81, "4\xff\xfe"),
		"100,000 fragments of a byte (CVE-2026-48779)":  append(masked(0x01, "4"), []byte(strings.Repeat(string(masked(0x00, "x")), 100_000))...),
		"100,000 fragments of nothing (CVE-2026-48779)": append(masked(0x01, "4"), []byte(strings.Repeat(string(masked(0x00, "")), 100_000))...),
	}
	for op := range byte(16) {
		if op >= 3 && op <= 7 || op >= 11 {
			frames[fmt.Sprintf("opcode %d (CVE-2022-21676)", op)] = masked(0x80|op, "4a")
		}
	}
	return frames
}

// badPackets returns Socket.IO packets that must end a connected driver's connection.
func badPackets() map[string]string {
	placeholder := func(num string) string {
		return `451-/drivers,["driver:location:ping",{"_placeholder":true,"num":` + num + `}]`
	}
	packets := map[string]string{
		"a MB of digits for attachments (CVE-2020-36049)": "45" + strings.Repeat("9", 999_000),
		"a MB of digits for an id (CVE-2020-36049)":       "42/drivers," + strings.Repeat("9", 980_000) + `["a"]`,
		"a MB of digits for a type (CVE-2020-36049)":      "4" + strings.Repeat("7", 999_000),
		"a namespace without end (CVE-2020-36049)":        "42/" + strings.Repeat("a", 990_000),
		"a connect without end (CVE-2020-36049)":          "40/" + strings.Repeat("a", 990_000),
		"attachments beyond number (CVE-2026-33151)":      `451000000-/drivers,["a",{"_placeholder":true,"num":0}]`,
		"negative attachments":                            `45-1-/drivers,["a"]`,
		"event name that is an object (CVE-2023-32695)":   `42/drivers,[{"toString":"foo"}]`,
		"event name that is a number":                     `42/drivers,[1]`,
		"event name that is an array":                     `42/drivers,[["a"]]`,
		"no event name":                                   `42/drivers,[]`,
		"event that is no array":                          `42/drivers,{"0":"a","length":1}`,
		"reserved: connect (CVE-2024-38355)":              `42/drivers,1["connect"]`,
		"reserved: connect_error (CVE-2024-38355)":        `42/drivers,1["connect_error"]`,
		"reserved: disconnect (CVE-2024-38355)":           `42/drivers,1["disconnect"]`,
		"reserved: disconnecting (CVE-2024-38355)":        `42/drivers,1["disconnecting"]`,
		"reserved: newListener (CVE-2024-38355)":          `42/drivers,1["newListener"]`,
		"not JSON":                                        `42/drivers,["a",NaN]`,
		"a server's packet":                               `44/drivers,{"message":"x"}`,
		"a namespace never joined":                        `42/admin,["admin:trip:join",{"tripId":"t1"}]`,
		"a namespace named like a property":               `42/__proto__,["a"]`,
		"binary that nothing announced":                   "", // sent as a binary frame
	}
	for _, num := range []string{`"length"`, `"constructor"`, "-1", "9999", "1.5", "1e9", "null", "{}", "18446744073709551616"} {
		packets["placeholder "+num+" (CVE-2022-2421)"] = placeholder(num)
	}
	return packets
}

// badEIO3Bodies are polling bodies of Engine.IO 3 that end a session.
func badEIO3Bodies() map[string]struct{ text, contentType string } {
	const plain, octets = "text/plain;charset=UTF-8", "application/octet-stream"
	return map[string]struct{ text, contentType string }{
		"empty":                             {"", plain},
		"revision 4":                        {"40/drivers,", plain},
		"a MB of digits (CVE-2020-36049)":   {strings.Repeat("9", 999_000), plain},
		"a MB of zeros (CVE-2020-36049)":    {strings.Repeat("0", 999_000) + ":4", plain},
		"longer than there is":              {"9999999999:4", plain},
		"negative":                          {"-1:4", plain},
		"half a character":                  {"2:4\U0001f695", plain},
		"no UTF-8":                          {"2:4\xff", plain},
		"300,000 packets":                   {strings.Repeat("1:6", 300_000), plain},
		"base64 of nothing":                 {"1:b", plain},
		"base64 that is none":               {"5:b4*&%", plain},
		"binary of another type":            {"6:b2AAAA", plain},
		"octets: a MB of digits":            {"\x01" + strings.Repeat("\x09", 999_000), octets},
		"octets: longer than there is":      {"\x01\x09\x09\x09\x09\x09\x09\x09\x09\x09\x09\xff\x04", octets},
		"octets: of another type":           {"\x01\x01\xff\x02", octets},
		"octets: neither text nor binary":   {"\x07\x01\xff4", octets},
		"octets: text that is no UTF-8":     {"\x00\x02\xff4\xff", octets},
		"octets: 300,000 packets":           {strings.Repeat("\x00\x01\xff6", 240_000), octets},
		"octets: a length without its end":  {"\x00\x01", octets},
		"octets: a length that is no digit": {"\x00\x41\xff4", octets},
	}
}

// badRequest is a request, and the statuses that may answer it.
type badRequest struct {
	request []byte
	want    []int
}

// badRequests returns requests that the server must refuse without opening a session.
func badRequests() map[string]badRequest {
	bad := []int{http.StatusBadRequest}
	rows := map[string]badRequest{
		"transport twice (CVE-2023-31125)":       {upgrade("EIO=4&transport=websocket&transport=polling"), bad},
		"transport as an array (CVE-2023-31125)": {upgrade("EIO=4&transport[]=websocket"), bad},
		"no query (CVE-2023-31125)":              {upgrade(""), bad},
		"EIO twice":                              {upgrade("EIO=4&EIO=3&transport=websocket"), bad},
		"sid twice":                              {upgrade(overWebSocket + "&sid=a&sid=b"), bad},
		"sid unknown":                            {upgrade(overWebSocket + "&sid=AAAAAAAAAAAAAAAAAAAAAA"), bad},
		"sid of a MB":                            {upgrade(overWebSocket + "&sid=" + strings.Repeat("a", 900_000)), bad},
		"sid named like a property":              {upgrade(overWebSocket + "&sid=__proto__"), bad},
		"POST without a session":                 {request(http.MethodPost, "EIO=4&transport=polling", "40"), bad},
		"PUT":                                    {request(http.MethodPut, "EIO=4&transport=polling", ""), bad},
		"polling that upgrades":                  {upgrade("EIO=4&transport=polling"), bad},
		"websocket that does not":                {get(overWebSocket), bad},
		"broken escapes":                         {get("EIO=4&transport=%zz&%"), bad},
		"semicolons":                             {get("EIO=4;transport=polling"), bad},
		"half an upgrade":                        {get(overWebSocket, "Connection: Upgrade", "Upgrade: websocket"), []int{400, 426}},
		"a version that nobody speaks":           {get(overWebSocket, "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 99", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="), []int{400, 426}},
		"a key that is none":                     {get(overWebSocket, "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: x"), bad},
		"no headers to speak of":                 {[]byte("GET / HTTP/9.9\r\n\r\n"), []int{400, 505}},
		"2 MB of headers":                        {get(overWebSocket, "X: "+strings.Repeat("x", 2<<20)), []int{431}},
		"origin of somebody else":                {upgrade(overWebSocket, "Origin: https://evil.example"), []int{http.StatusForbidden}},
	}
	for _, v := range []string{"", "unknown", "constructor", "__proto__", "toString", "webtransport", "WebSocket", "polling%00", "%F0%9F%9A%95"} {
		rows["transport "+v+" (CVE-2023-31125)"] = badRequest{upgrade("EIO=4&transport=" + v), bad}
	}
	for _, v := range []string{"", "2", "5", "03", "04", "4.0", "-4", "NaN", "4%20", strings.Repeat("4", 10_000)} {
		rows["EIO "+v[:min(len(v), 8)]] = badRequest{upgrade("EIO=" + v + "&transport=websocket"), bad}
	}
	return rows
}

// goodHeaders returns unusual headers, for which the server must not refuse a request.
func goodHeaders() map[string][]string {
	var many []string
	for i := range 2000 {
		many = append(many, fmt.Sprintf("X-%d: %d", i, i))
	}
	return map[string][]string{
		"junk extensions (GHSA-5v72-xg48-5rpm)": {"Sec-WebSocket-Extensions: constructor; __proto__=1, toString, ;;;==,,, permessage-deflate; client_max_window_bits=999999999999"},
		"64 KB of protocols (CVE-2021-32640)":   {"Sec-WebSocket-Protocol: " + strings.Repeat("a"+strings.Repeat(" ", 30), 2000) + "b"},
		"2000 headers (CVE-2024-37890)":         many,
		"forwarded by whomever":                 {"X-Forwarded-For: " + strings.Repeat("1.2.3.4,", 1000) + "'; DROP TABLE"},
		"a token of 64 KB":                      {"Authorization: Bearer " + strings.Repeat(".", 64<<10)},
	}
}

// attack is what one of the attackers does.
type attack func(t *testing.T, s *testServer, user string)

func attacks() map[string]attack {
	rows := map[string]attack{}
	for name, frame := range badFrames() {
		rows["frame/"+name] = func(t *testing.T, s *testServer, user string) {
			s.websocket(t).send(frame).waitForClose()
			s.enter(t, user).send(frame).waitForClose()
			// In an upgrade, before the probe and behind it.
			for _, probe := range []string{"", "2probe"} {
				l := s.connect(t).send(upgrade(strings.Replace(s.polling(t), "polling", "websocket", 1)))
				status, _ := l.response()
				require.Equal(t, http.StatusSwitchingProtocols, status)
				if probe != "" {
					l.send(text(probe)).until("3probe")
				}
				l.send(frame).waitForClose()
			}
		}
	}
	for name, packet := range badPackets() {
		rows["packet/"+name] = func(t *testing.T, s *testServer, user string) {
			frame := text(packet)
			if packet == "" {
				frame = masked(0x82, "\x00")
			}
			s.enter(t, user).send(frame).waitForClose()
			if packet == "" {
				frame = masked(0x82, "\x04\x00")
			}
			s.enterEIO3(t, user).send(frame).waitForClose()
		}
	}
	for name, body := range badEIO3Bodies() {
		rows["old body/"+name] = func(t *testing.T, s *testServer, _ string) {
			status, _ := s.request(t, request(http.MethodPost, s.pollingEIO3(t), body.text, "Content-Type: "+body.contentType))
			require.Equal(t, http.StatusBadRequest, status)
		}
	}
	for name, k := range badRequests() {
		rows["request/"+name] = func(t *testing.T, s *testServer, _ string) {
			l := s.connect(t)
			// What is too much may be refused before it is read, which resets.
			done := make(chan struct{})
			go func() { defer close(done); l.send(k.request) }()
			status, body := l.response()
			require.Contains(t, k.want, status, body)
			_ = l.Close()
			<-done
		}
	}
	for name, header := range goodHeaders() {
		rows["header/"+name] = func(t *testing.T, s *testServer, _ string) { s.websocket(t, header...).reset() }
	}

	// Event names that are reserved elsewhere are like any other that nobody handles.
	rows["events named error, connection (CVE-2024-38355)"] = func(t *testing.T, s *testServer, user string) {
		l := s.enter(t, user)
		for i, name := range []string{"error", "connection", "constructor", "__proto__", "toString", "message", ""} {
			l.send(text(fmt.Sprintf(`42/drivers,%d[%q]`, i, name)))
			require.Contains(t, l.until(fmt.Sprintf("43/drivers,%d[", i)), `"not_found"`)
		}
		l.reset()
	}
	rows["attachments that trickle, then nothing (CVE-2026-33151)"] = func(t *testing.T, s *testServer, user string) {
		l := s.enter(t, user).send(text(`4510-/drivers,["a",{"_placeholder":true,"num":9}]`))
		for range 9 {
			l.send(masked(0x82, strings.Repeat("x", 100_000)))
		}
		l.send(masked(0x82, strings.Repeat("x", 200_000))).waitForClose() // together too large
		s.enter(t, user).send(text(`4510-/drivers,["a",{"_placeholder":true,"num":9}]`)).send(masked(0x82, "x")).reset()
		s.enter(t, user).send(text(`452-/drivers,["a",{"_placeholder":true,"num":0}]`)).send(text("42/drivers,[\"b\"]")).waitForClose()
	}
	rows["upgrade that fails, then RST (CVE-2022-41940)"] = func(t *testing.T, s *testServer, _ string) {
		for range 10 {
			s.connect(t).send(upgrade("EIO=4&transport=constructor")).reset()
			s.connect(t).send(upgrade(overWebSocket + "&sid=unknown")).reset()
			s.connect(t).send(upgrade(overWebSocket)).reset()
			s.connect(t).send(upgrade(strings.Replace(s.polling(t), "polling", "websocket", 1))).reset()
		}
	}
	rows["reset in each step of an upgrade"] = func(t *testing.T, s *testServer, _ string) {
		for step := range 4 {
			query := s.polling(t)
			poll := s.connect(t).send(get(query))
			l := s.connect(t).send(upgrade(strings.Replace(query, "polling", "websocket", 1)))
			if step > 0 {
				_, _ = l.response()
			}
			if step > 1 {
				l.send(text("2probe")).until("3probe")
			}
			if step > 2 {
				l.send(text("5"))
			}
			l.reset()
			poll.reset()
		}
	}
	rows["POST that is too large (CVE-2020-36048)"] = func(t *testing.T, s *testServer, _ string) {
		query := s.polling(t)
		status, _ := s.request(t, request(http.MethodPost, query, "4", "Content-Length: 100000000"))
		require.Equal(t, http.StatusRequestEntityTooLarge, status)
		l := s.connect(t).send(request(http.MethodPost, s.polling(t), "", "Transfer-Encoding: chunked"))
		done := make(chan struct{})
		go func() {
			defer close(done)
			chunk := []byte("10000\r\n" + strings.Repeat("4", 0x10000) + "\r\n")
			for range 32 {
				l.send(chunk)
			}
		}()
		status, _ = l.response()
		require.Equal(t, http.StatusRequestEntityTooLarge, status)
		_ = l.Close()
		<-done
	}
	rows["POST that never ends (CVE-2020-36048)"] = func(t *testing.T, s *testServer, _ string) {
		l := s.connect(t).send(request(http.MethodPost, s.polling(t), "4", "Content-Length: 1000"))
		l.waitForClose() // when the session's time is over
		s.connect(t).send(request(http.MethodPost, s.polling(t), "4", "Content-Length: 1000")).reset()
	}
	rows["POST of separators"] = func(t *testing.T, s *testServer, _ string) {
		status, _ := s.request(t, request(http.MethodPost, s.polling(t), strings.Repeat("\x1e", 900_000)))
		require.Equal(t, http.StatusBadRequest, status)
	}
	rows["POST of a million packets"] = func(t *testing.T, s *testServer, _ string) {
		status, _ := s.request(t, request(http.MethodPost, s.polling(t), strings.Repeat("3\x1e", 450_000)+"3"))
		require.Equal(t, http.StatusBadRequest, status)
	}
	rows["half open"] = func(t *testing.T, s *testServer, user string) {
		s.enter(t, user).waitForClose() // it answers no ping
		s.websocket(t).waitForClose()   // nor connects
		s.polling(t)                    // nor polls
	}
	rows["a request a byte at a time"] = func(t *testing.T, s *testServer, user string) {
		l := s.connect(t)
		for _, b := range upgrade(overWebSocket) {
			l.send([]byte{b})
		}
		status, _ := l.response()
		require.Equal(t, http.StatusSwitchingProtocols, status)
		for _, b := range text(connectPacket(realtime.NamespaceDrivers, s.login(user, realtime.UserDriver))) {
			l.send([]byte{b})
		}
		l.until(`42/drivers,["hello"`)
		for _, b := range text(`42/drivers,7["driver:status:update",{"isOnline":true}]`) {
			l.send([]byte{b})
		}
		require.Contains(t, l.until("43/drivers,7["), `"ok":true`)
		l.send(text(`42/drivers,8["driver:status`)[:9]).reset() // within a frame
	}
	rows["two transports at once"] = func(t *testing.T, s *testServer, user string) {
		query := s.polling(t)
		probe := s.connect(t).send(upgrade(strings.Replace(query, "polling", "websocket", 1)))
		_, _ = probe.response()
		second := s.connect(t).send(upgrade(strings.Replace(query, "polling", "websocket", 1)))
		second.waitForClose()
		var all sync.WaitGroup
		for range 5 {
			all.Go(func() {
				s.connect(t).send(request(http.MethodPost, query, connectPacket(realtime.NamespaceDrivers, s.login(user, realtime.UserDriver)))).hangUpSoon()
			})
			all.Go(func() { s.connect(t).send(get(query)).hangUpSoon() })
			all.Go(func() { probe.send(text("2probe")) })
			all.Go(func() { probe.send(text("5")) })
		}
		all.Wait()
		probe.waitForClose()
	}
	rows["an old sid"] = func(t *testing.T, s *testServer, _ string) {
		query := s.polling(t)
		status, body := s.request(t, request(http.MethodPost, query, "1"))
		require.Equal(t, http.StatusOK, status, body)
		for _, r := range [][]byte{
			get(query), request(http.MethodPost, query, "4"), upgrade(strings.Replace(query, "polling", "websocket", 1)),
		} {
			status, body := s.request(t, r)
			require.Equal(t, http.StatusBadRequest, status)
			require.Contains(t, body, "Session ID unknown")
		}
	}
	rows["the sid of a websocket"] = func(t *testing.T, s *testServer, user string) {
		l := s.connect(t).send(upgrade(overWebSocket))
		_, _ = l.response()
		_, open := l.frame()
		_, rest, _ := strings.Cut(string(open), `"sid":"`)
		sid, _, _ := strings.Cut(rest, `"`)
		l.send(text(connectPacket(realtime.NamespaceDrivers, s.login(user, realtime.UserDriver)))).until(`42/drivers,["hello"`)
		for _, r := range [][]byte{get("EIO=4&transport=polling&sid=" + sid), request(http.MethodPost, "EIO=4&transport=polling&sid="+sid, "41/drivers,")} {
			status, _ := s.request(t, r)
			require.Equal(t, http.StatusBadRequest, status)
		}
		s.connect(t).send(upgrade(overWebSocket + "&sid=" + sid)).waitForClose()
		l.send(text(`42/drivers,1["driver:status:update",{"isOnline":true}]`)).until("43/drivers,1[") // it is untouched
		l.reset()
	}
	rows["floods"] = func(t *testing.T, s *testServer, user string) {
		// None of them reads what it is answered.
		for _, frames := range []string{
			string(masked(0x89, strings.Repeat("p", 125))), // websocket pings
			string(text("3")), // pongs
			string(text(`43/drivers,5[1]`)),
			string(text(`43/drivers,9007199254740991["` + strings.Repeat("x", 200) + `"]`)),
			string(text(`42/drivers,["driver:location:ping",{"lat":1,"lng":1}]`)),
			string(text(`42/drivers,1["nobody:knows"]`)),
			string(text(`41/drivers,`)) + string(text(`40/drivers,{"token":"x"}`)),
		} {
			l := s.enter(t, user)
			b := []byte(strings.Repeat(frames, 200))
			for range 50 {
				l.send(b)
			}
			l.reset()
		}
		s.enter(t, user).send(text("2")).waitForClose() // a ping is the server's
		l := s.enterEIO3(t, user)                       // or the client's
		for range 50 {
			l.send([]byte(strings.Repeat(string(text("2")), 200)))
		}
		l.reset()
		s.enterEIO3(t, user).send(text("3")).waitForClose()
	}
	rows["an old client that does not ping"] = func(t *testing.T, s *testServer, user string) {
		s.enterEIO3(t, user).waitForClose()
		s.pollingEIO3(t)
	}
	rows["noise"] = func(t *testing.T, s *testServer, user string) {
		for i := range 20 {
			b := make([]byte, 300)
			for j := range b {
				b[j] = byte(i*31 + j*j*7 + len(user))
			}
			s.connect(t).send(b).reset()
			s.websocket(t).send(b).reset()
		}
	}
	return rows
}

// hangUpSoon waits a moment for an answer, and closes.
func (l *rawConn) hangUpSoon() {
	_ = l.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	_, _ = l.in.ReadByte()
	_ = l.Close()
}

// TestServer_FaultsOfClients compares goroutines and memory, so nothing runs beside it.
func TestServer_FaultsOfClients(t *testing.T) {
	s := newTestServer(t, nil, func(o *realtime.Options) {
		o.Compat.AllowEIO3 = true
		o.Timeouts.PingInterval, o.Timeouts.PingTimeout = time.Second, 3*time.Second
		o.Timeouts.Connect, o.Timeouts.Upgrade, o.Timeouts.Close = 3*time.Second, 3*time.Second, 200*time.Millisecond
	})
	for name, attack := range attacks() {
		t.Run(name, func(t *testing.T) {
			var all sync.WaitGroup
			for i := range attackers {
				all.Go(func() { attack(t, s, fmt.Sprintf("%s-%d", realtimetest.SessionID(name), i)) })
			}
			all.Wait()
			s.requireHealthy(t)
		})
	}
	s.requireNothingLeft(t)
	require.True(t, s.driver.Connected())
	require.NotContains(t, s.logged(), "panic")
}
