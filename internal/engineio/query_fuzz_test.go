package engineio

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/testkit"
)

// hijackable is a recorder that can be hijacked. It keeps what is written to the
// connection then; reading from the connection returns nothing.
type hijackable struct {
	*httptest.ResponseRecorder
	taken  net.Conn
	answer <-chan string // what the client has read until the connection ended
}

func (h *hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	server, client := net.Pipe()
	answer := make(chan string, 1)
	go func() {
		b, _ := io.ReadAll(client)
		answer <- string(b)
	}()
	h.taken, h.answer = client, answer
	return server, bufio.NewReadWriter(bufio.NewReader(server), bufio.NewWriter(server)), nil
}

// counted is a handler that only counts its end.
type counted struct {
	ignore
	closed *atomic.Int64
}

func (c counted) Closed(Reason) { c.closed.Add(1) }

// numbered are all answers to a refused request.
var numbered = map[string]problem{
	`{"code":0,"message":"Transport unknown"}`:            errTransport,
	`{"code":1,"message":"Session ID unknown"}`:           errSession,
	`{"code":2,"message":"Bad handshake method"}`:         errMethod,
	`{"code":3,"message":"Bad request"}`:                  errRequest,
	`{"code":5,"message":"Unsupported protocol version"}`: errProtocol,
}

// FuzzQuery makes arbitrary requests, in whose queries $SID stands for the id of an
// existing session. Exactly the complete handshake requests open a session. Any other
// answer is one of the numbered errors, or an answer of the existing session. No
// session is left over.
func FuzzQuery(f *testing.F) {
	const poll, websocket = "EIO=4&transport=polling", "EIO=4&transport=websocket"
	add := func(query, method, upgrade string) {
		f.Add(query, method, upgrade, "", "", []byte("4a"), false)
		f.Add(query, method, upgrade, "", "", []byte("2:4a"), true)
	}
	for _, q := range []string{
		poll, websocket, poll + "&sid=$SID", websocket + "&sid=$SID", poll + "&sid=", poll + "&sid=unknown", poll + "&sid=$SID&sid=$SID",
		"", "EIO=4", "transport=polling", "EIO=3&transport=polling", "EIO=5&transport=polling", "EIO=4&EIO=4&transport=polling",
		"EIO=3&EIO=4&transport=websocket", "EIO=04&transport=polling", "EIO=4.0&transport=polling", "EIO=&transport=polling",
		// CVE-2023-31125: the transport was used as a key of an object.
		"EIO=4&transport=", "EIO=4&transport=unknown", "EIO=4&transport=constructor", "EIO=4&transport=__proto__", "EIO=4&transport=toString",
		"EIO=4&transport=hasOwnProperty&sid=$SID", "EIO=4&transport=polling&transport=polling", "EIO=4&transport=websocket&transport=polling",
		"EIO=4&transport[]=polling", "EIO=4&transport=webtransport", "EIO=4&transport=Polling", "EIO=4&transport=flashsocket",
		poll + "&b64=1&j=0", "EIO=3&transport=polling&b64=1", "EIO=3&transport=polling&j=0", "EIO=3&transport=websocket&b64=0", poll + "&t=" + strings.Repeat("x", 10_000), strings.Repeat("&", 5_000), strings.Repeat("a=b&", 5_000) + poll,
		"%", "EIO=4&transport=%zz", "EIO=4;transport=polling", "%45IO=4&transport=poll%69ng", "EIO=4&transport=polling%00", poll + "&sid=%24SID",
		"\x00\xff", poll + "&token=a.b.c",
	} {
		add(q, http.MethodGet, "")
		add(q, http.MethodGet, "websocket")
		add(q, http.MethodPost, "")
	}
	for _, method := range []string{http.MethodPut, http.MethodOptions, http.MethodHead, http.MethodDelete, "get", "", "constructor"} {
		add(poll, method, "")
		add(poll+"&sid=$SID", method, "")
		add(websocket, method, "websocket")
	}
	for _, upgrade := range []string{"WebSocket", "h2c", "websocket, h2c", "constructor"} {
		add(websocket, http.MethodGet, upgrade)
		add(websocket+"&sid=$SID", http.MethodGet, upgrade)
	}
	// Extensions named like properties of every JavaScript object; and CVE-2021-32640,
	// a subprotocol header that took quadratic time.
	for _, extensions := range []string{"constructor", "__proto__; toString", "permessage-deflate; client_max_window_bits", ";,=\"", strings.Repeat("x,", 20_000)} {
		f.Add(websocket, http.MethodGet, "websocket", extensions, "", []byte{}, false)
	}
	for _, protocol := range []string{"chat", "a" + strings.Repeat(" ", 65_536) + "x", strings.Repeat("x, ", 20_000), ",", "\x00"} {
		f.Add(websocket, http.MethodGet, "websocket", "", protocol, []byte{}, false)
	}
	// CVE-2020-36048: a very long body.
	for _, body := range []string{"", "1", "4refuse", "4\xff", strings.Repeat("4", 100_001), strings.Repeat("4\x1e", 2_000)} {
		f.Add(poll+"&sid=$SID", http.MethodPost, "", "", "", []byte(body), false)
	}

	var accepted, closed atomic.Int64
	servers := map[bool]*Server{}
	for _, eio3 := range []bool{false, true} {
		s := newServer(f)
		s.cfg.AllowEIO3 = eio3
		s.cfg.Accept = func(*Session, *http.Request) (Handler, *Busy) {
			accepted.Add(1)
			return counted{closed: &closed}, nil
		}
		servers[eio3] = s
	}
	f.Fuzz(func(t *testing.T, query, method, upgrade, extensions, protocol string, body []byte, eio3 bool) {
		s := servers[eio3]
		old, _ := s.newSession(nil, eio3, false)
		require.True(t, s.add(old))
		query = strings.ReplaceAll(query, "$SID", old.id)
		known := accepted.Load()

		ctx, cancel := context.WithCancel(t.Context())
		cancel() // no poll waits
		r := (&http.Request{
			Method: method, URL: &url.URL{Path: "/socket.io/", RawQuery: query}, Host: "example.com", Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
			Header: http.Header{}, Body: io.NopCloser(strings.NewReader(string(body))), ContentLength: -1,
		}).WithContext(ctx)
		for name, value := range map[string]string{
			"Upgrade": upgrade, "Connection": "Upgrade", "Sec-Websocket-Version": "13", "Sec-Websocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
			"Sec-Websocket-Extensions": extensions, "Sec-Websocket-Protocol": protocol,
		} {
			if value != "" {
				r.Header.Set(name, value)
			}
		}
		w := &hijackable{ResponseRecorder: httptest.NewRecorder()}
		s.ServeHTTP(w, r)

		opened := accepted.Load() - known
		for _, ss := range s.allSessions() {
			testkit.Eventually(t, "the first write is not complete", ss.written)
			ss.abort(ReasonForcedClose)
		}
		answer := w.Body.String()
		if w.taken != nil { // the server has closed its end, or is about to
			answer = <-w.answer
			require.NoError(t, w.taken.Close())
		}
		q, _ := url.ParseQuery(query)
		is := func(key, value string) bool { return len(q[key]) == 1 && q[key][0] == value }
		asksFor := slices.ContainsFunc(strings.Split(upgrade, ","), func(v string) bool { return strings.EqualFold(strings.Trim(v, " \t"), "websocket") })
		fits := is("transport", "websocket") && asksFor || is("transport", "polling") && !asksFor
		named := len(q["sid"]) > 0 && !is("sid", "")
		whole := fits && method == http.MethodGet && (is("EIO", "4") || eio3 && is("EIO", "3") && !q.Has("j")) && !named

		refusal, refused := numbered[answer]
		switch {
		case whole && w.taken != nil:
			require.True(t, strings.HasPrefix(answer, "HTTP/1.1 101 "), answer)
			require.Contains(t, answer, `0{"sid":"`)
			require.EqualValues(t, 1, opened)
			require.NotContains(t, strings.ToLower(answer), "sec-websocket-extensions")
		case whole && !asksFor:
			require.Equal(t, http.StatusOK, w.Code)
			if is("EIO", "3") {
				_, answer, _ = strings.Cut(answer, ":")
			}
			require.True(t, strings.HasPrefix(answer, `0{"sid":"`), answer)
			require.EqualValues(t, 1, opened)
		case whole: // the other headers prevented the websocket
			require.GreaterOrEqual(t, w.Code, 400)
			require.Less(t, w.Code, 500)
		case refused:
			require.Zero(t, opened)
			require.Equal(t, "application/json", w.Header().Get("Content-Type"))
			require.Equal(t, http.StatusBadRequest, w.Code)
			switch refusal {
			case errTransport:
				require.False(t, is("transport", "polling") || is("transport", "websocket"))
			case errSession:
				require.True(t, named && !is("sid", old.id))
			case errMethod:
				require.NotEqual(t, http.MethodGet, method)
			case errProtocol:
				require.False(t, is("EIO", "4"))
			case errRequest: // or the body has closed the session
				require.True(t, !fits || named && method == http.MethodPost || eio3 && is("EIO", "3") && q.Has("j"))
			}
		case w.Code == http.StatusRequestEntityTooLarge:
			require.Empty(t, answer)
			require.Greater(t, len(body), s.cfg.MaxPayload)
		default: // an answer of the existing session
			require.Zero(t, opened)
			require.True(t, fits && is("sid", old.id), answer)
		}
		require.Zero(t, s.Len())
		require.Equal(t, accepted.Load(), closed.Load())
	})
}
