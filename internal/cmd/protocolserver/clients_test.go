// Tests that the program behaves as the suites of engine.io-client and socket.io-client expect.

package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws/wsutil"
	"github.com/stretchr/testify/require"
)

// forClients are the settings for those suites.
var forClients = settings{pingInterval: 2 * time.Second, pingTimeout: 20 * time.Second, maxPayload: 1e6, clients: true}

func TestHandler_Flags(t *testing.T) {
	withSettings(t, settings{pingInterval: 500 * time.Millisecond, pingTimeout: 5 * time.Second, maxPayload: 100}, func(t *testing.T, s *server) {
		c, open := s.open(t, "/engine.io/")
		require.Contains(t, open, `"pingInterval":500,"pingTimeout":5000,"maxPayload":100}`)
		began := time.Now()
		b, _, err := wsutil.ReadServerData(c.rw)
		require.NoError(t, err)
		require.Equal(t, "2", string(b))
		require.InDelta(t, 500, time.Since(began).Milliseconds(), 10)
	})
}

func TestHandler_EngineForClients(t *testing.T) {
	withSettings(t, forClients, func(t *testing.T, s *server) {
		url := "http://test/engine.io/?EIO=4&transport=polling"
		_, opened, _ := strings.Cut(s.request(t, http.MethodGet, url, ""), `{"sid":"`)
		sid, _, _ := strings.Cut(opened, `"`)
		url += "&sid=" + sid
		get := func() string { return s.request(t, http.MethodGet, url, "") }
		require.Equal(t, "4hi", get())
		s.request(t, http.MethodPost, url, "4give binary\x1e4give utf8\x1e4bounce\x1ebAQID")
		require.Equal(t, "bAAECAwQ=\x1e4пойду спать всем спокойной ночи\x1e4bounce\x1ebAQID", get())
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader("4sendHeaders"))
		require.NoError(t, err)
		r.Header.Set("Cookie", "1=1; 2=2")
		res, err := s.web.Do(r)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		var headers map[string]string
		require.NoError(t, json.Unmarshal([]byte(strings.TrimPrefix(get(), "4")), &headers))
		require.Equal(t, "1=1; 2=2", headers["cookie"])

		c, _ := s.open(t, "/engine.io/")
		c.expect("4hi")
		c.send("4give binary")
		c.expectBinary("\x00\x01\x02\x03\x04")
	})
}

func TestHandler_EngineHandshakesForClients(t *testing.T) {
	withSettings(t, forClients, func(t *testing.T, s *server) {
		handshake := func(query string) *http.Response {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://test/engine.io/?EIO=4&transport=polling"+query, nil)
			require.NoError(t, err)
			res, err := s.web.Do(r)
			require.NoError(t, err)
			require.NoError(t, res.Body.Close())
			return res
		}
		require.Equal(t, http.StatusForbidden, handshake("&deny=1").StatusCode)
		res := handshake("")
		require.Equal(t, http.StatusOK, res.StatusCode)
		cookies := res.Cookies()
		require.Len(t, cookies, 4)
		require.Equal(t, 86400, cookies[0].MaxAge)
		require.True(t, cookies[1].Secure && cookies[1].HttpOnly && cookies[1].SameSite == http.SameSiteStrictMode)
		require.Negative(t, cookies[2].MaxAge)
		require.True(t, cookies[3].Expires.Before(time.Now()))
	})
}

// A client's socket on /socket.io/, in the main namespace.
func (s *server) client(t *testing.T) *socket {
	t.Helper()
	c, _ := s.open(t, "/socket.io/")
	c.send("40")
	reply, _ := c.next()
	require.Regexp(t, `^40\{"sid":"[^"]+"\}$`, reply)
	return c
}

func TestHandler_EventsForClients(t *testing.T) {
	const buffer = `{"_placeholder":true,"num":0}`
	withSettings(t, forClients, func(t *testing.T, s *server) {
		c := s.client(t)
		c.send(`42["hi"]`)
		c.expect(`42["hi"]`)
		c.send(`420["echo",{"a":1}]`)
		c.expect(`430[{"a":1}]`)
		c.send(`42["false"]`)
		c.expect(`42["false",false]`)
		c.send(`42["getUtf8"]`)
		c.expect(`42["takeUtf8","てすと"]`, `42["takeUtf8","Я Б Г Д Ж Й"]`, `42["takeUtf8","Ä ä Ü ü ß"]`, `42["takeUtf8","utf8 — string"]`, `42["takeUtf8","utf8 — string"]`)
		for event, want := range map[string]string{
			`42["getDate"]`: `^42\["takeDate","\d{4}-.*Z"\]$`, `42["getDateObj"]`: `^42\["takeDateObj",\{"date":"\d{4}-.*Z"\}\]$`,
			`427["getAckDate",{"test":true}]`: `^437\["\d{4}-.*Z"\]$`, `428["getId"]`: `^438\["[\w-]{20}"\]$`,
		} {
			c.send(event)
			answer, _ := c.next()
			require.Regexp(t, want, answer)
		}
		for event, answer := range map[string]string{"doge": "doge", "getbin": "takebin"} {
			c.send(`42["` + event + `"]`)
			c.expect(`451-["` + answer + `",` + buffer + `]`)
			c.expectBinary("asdfasdf")
		}
		// The client acks, rightly or not.
		for _, tc := range []struct{ args, want string }{{`5,{"test":true}`, `42["got it"]`}, {`5,{}`, ""}, {`4,{"test":true}`, ""}} {
			c.send(`42["ack"]`)
			asked, _ := c.next()
			var id int
			_, err := fmt.Sscanf(asked, `42%d["ack"]`, &id)
			require.NoError(t, err)
			c.send(fmt.Sprintf("43%d[%s]", id, tc.args))
			if tc.want != "" {
				c.expect(tc.want)
			}
		}
		c.send(`429["unknown"]`) // no ack
		c.send(`42["hi"]`)
		c.expect(`42["hi"]`)
	})
}

func TestHandler_BinaryForClients(t *testing.T) {
	const buffer = `{"_placeholder":true,"num":0}`
	withSettings(t, forClients, func(t *testing.T, s *server) {
		send := func(c *socket, name string) {
			c.send(`451-["` + name + `",` + buffer + `]`)
			c.sendBinary("howl")
		}
		for _, name := range []string{"buffa", "blob"} {
			c := s.client(t)
			send(c, name)
			c.expect(map[string]string{"buffa": `42["buffack"]`, "blob": `42["back"]`}[name])
			c.send(`42["` + name + `","no buffer"]`)
			c.send(`451-["json` + map[string]string{"buffa": "buff", "blob": "blob"}[name] + `",{"hello":"lol","message":` + buffer + `,"goodbye":"gotcha"}]`)
			c.sendBinary("howl")
			c.expect(map[string]string{"buffa": `42["jsonbuff-ack"]`, "blob": `42["jsonblob-ack"]`}[name])
		}
		c := s.client(t)
		send(c, "abuff1")
		c.send(`42["abuff2","second"]`)
		c.expect(`42["abuff2-ack"]`)
		c = s.client(t)
		send(c, "blob1")
		c.send(`42["blob2","second"]`)
		send(c, "blob3")
		c.expect(`42["blob3-ack"]`)
		c = s.client(t)
		send(c, "blob3") // too early
		c.send(`42["abuff2","second"]`)
		c.send(`42["hi"]`)
		c.expect(`42["hi"]`)
	})
}

func TestHandler_NamespacesForClients(t *testing.T) {
	withSettings(t, forClients, func(t *testing.T, s *server) {
		c, _ := s.open(t, "/socket.io/?a=b&%26a=%26%3D%3Fa&")
		for _, name := range []string{"/foo", "/timeout_socket", "/valid", "/asd"} {
			c.send("40" + name + ",")
			reply, _ := c.next()
			require.Regexp(t, `^40`+name+`,\{"sid":"[^"]+"\}$`, reply)
		}
		c.send(`42/foo,0["getId"]`)
		answer, _ := c.next()
		require.Regexp(t, `^43/foo,0\["[\w-]{20}"\]$`, answer)
		c.send(`40/abc,{"c":"d"}`)
		_, _ = c.next()
		shown, _ := c.next()
		shown, ok := strings.CutPrefix(shown, `42/abc,["handshake",`)
		require.True(t, ok)
		var h handshake
		require.NoError(t, json.Unmarshal([]byte(strings.TrimSuffix(shown, "]")), &h))
		require.Equal(t, "b", h.Query["a"])
		require.Equal(t, "&=?a", h.Query["&a"])
		require.JSONEq(t, `{"c":"d"}`, string(h.Auth))
		require.Equal(t, "websocket", h.Headers["upgrade"])
		c.send("40/no,")
		c.expect(`44/no,{"message":"Auth failed (custom namespace)"}`)
		c.send("40/invalid,")
		c.expect(`44/invalid,{"message":"Invalid namespace"}`)

		c, _ = s.open(t, "/socket.io/?fail=true&")
		c.send("40")
		c.expect(`44{"message":"Auth failed (main namespace)"}`)
	})
}

// The certificate is good for this machine.
func TestSelfSigned(t *testing.T) {
	t.Parallel()
	config, err := selfSigned()
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &http.Server{Handler: http.NotFoundHandler(), TLSConfig: config, ReadHeaderTimeout: time.Second}
	served := make(chan error, 1)
	go func() { served <- s.ServeTLS(l, "", "") }()
	c, err := x509.ParseCertificate(config.Certificates[0].Certificate[0])
	require.NoError(t, err)
	roots := x509.NewCertPool()
	roots.AddCert(c)
	for _, name := range []string{"localhost", "127.0.0.1"} {
		conn, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{RootCAs: roots, ServerName: name})
		require.NoError(t, err, name)
		require.NoError(t, conn.Close())
	}
	require.NoError(t, s.Close())
	require.ErrorIs(t, <-served, http.ErrServerClosed)
}
