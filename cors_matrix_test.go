// The matrix of origins: every kind of origin, on every kind of request, with every kind of
// credential.

package realtime_test

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// originClient sends the requests of one case: from these origins, with this credential.
type originClient struct {
	srv     *realtimetest.Server
	origins []string
	header  http.Header // of the credential
	payload string      // of CONNECT
}

// request sends a request. A native one has no Origin header.
func (a originClient) request(t *testing.T, native bool, method, query, body string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, a.srv.URL()+realtime.Path+"?EIO=4&"+query, strings.NewReader(body))
	require.NoError(t, err)
	r.Host = "api.example.com:3000"
	maps.Copy(r.Header, a.header)
	if !native {
		r.Header["Origin"] = a.origins
	}
	if method == http.MethodOptions {
		r.Header.Set("Access-Control-Request-Method", "POST")
		r.Header.Set("Access-Control-Request-Headers", "authorization,content-type")
	}
	if strings.Contains(query, "websocket") {
		r.Header.Set("Connection", "Upgrade")
		r.Header.Set("Upgrade", "websocket")
		r.Header.Set("Sec-WebSocket-Version", "13")
		r.Header.Set("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==")
	}
	res, err := a.srv.HTTPClient().Do(r)
	require.NoError(t, err)
	if res.StatusCode == http.StatusSwitchingProtocols {
		return res, ""
	}
	b, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	return res, string(b)
}

const (
	overPolling = "transport=polling"
	overSocket  = "transport=websocket"
)

// session opens a session over polling.
func (a originClient) session(t *testing.T, native bool) (res *http.Response, sid string) {
	t.Helper()
	res, body := a.request(t, native, http.MethodGet, overPolling, "")
	if res.StatusCode != http.StatusOK {
		return res, ""
	}
	var open struct{ SID string }
	require.NoError(t, json.Unmarshal([]byte(body[1:]), &open))
	return res, "&sid=" + open.SID
}

// poll polls as a native app and returns the body.
func (a originClient) poll(t *testing.T, sid string) string {
	t.Helper()
	synctest.Wait()
	_, body := a.request(t, true, http.MethodGet, overPolling+sid, "")
	return body
}

func TestOrigins_Matrix(t *testing.T) {
	const allowed, refused = true, false
	origins := []struct {
		name    string
		origins []string
		ok      bool
	}{
		{"none, as native apps", nil, allowed},
		{"listed", []string{"https://app.example.com"}, allowed},
		{"listed, upper case", []string{"HTTPS://APP.EXAMPLE.COM"}, allowed},
		{"listed, with the default port", []string{"https://app.example.com:443"}, allowed},
		{"listed with a port", []string{"http://localhost:5173"}, allowed},
		{"listed, punycode", []string{"https://xn--bcher-kva.example"}, allowed},
		{"own host", []string{"http://api.example.com:3000"}, allowed},
		{"own host, other port", []string{"http://api.example.com:3001"}, refused},
		{"own host without its port", []string{"http://api.example.com"}, refused},
		{"other port", []string{"https://app.example.com:8443"}, refused},
		{"other port on localhost", []string{"http://localhost:5174"}, refused},
		{"other scheme", []string{"http://app.example.com"}, refused},
		{"subdomain", []string{"https://evil.app.example.com"}, refused},
		{"parent domain", []string{"https://example.com"}, refused},
		{"suffix", []string{"https://app.example.com.evil.com"}, refused},
		{"prefix", []string{"https://evil-app.example.com"}, refused},
		{"user information", []string{"https://app.example.com@evil.com"}, refused},
		{"user information of the own host", []string{"http://evil.com@api.example.com:3000"}, refused},
		{"trailing dot", []string{"https://app.example.com."}, refused},
		{"slash", []string{"https://app.example.com/"}, allowed},
		{"path", []string{"https://app.example.com/socket.io/?EIO=4"}, allowed},
		{"path of a foreign one", []string{"https://evil.com/https://app.example.com"}, refused},
		{"websocket scheme", []string{"wss://app.example.com"}, allowed},
		{"null", []string{"null"}, refused},
		{"empty", []string{""}, refused},
		{"no scheme", []string{"app.example.com"}, refused},
		{"homograph", []string{"https://b\u00fccher.example"}, refused},
		{"two headers", []string{"https://app.example.com", "https://app.example.com"}, refused},
		{"two headers, one foreign", []string{"https://app.example.com", "https://evil.com"}, refused},
		{"two in one header", []string{"https://app.example.com, https://evil.com"}, refused},
	}
	// A credential decides the answer to the CONNECT, not the HTTP status. A cookie, which
	// the browser sends for a foreign page too, is not a credential.
	credentials := []struct {
		name    string
		header  func(token string) http.Header
		payload func(token string) string
		enters  bool
	}{
		{name: "none"},
		{name: "header", header: func(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }, enters: true},
		{name: "auth payload", payload: func(token string) string { return `{"token":"` + token + `"}` }, enters: true},
		{name: "cookie", header: func(token string) http.Header {
			return http.Header{"Cookie": {"token=" + token + "; Authorization=Bearer " + token + "; access_token=" + token}}
		}},
	}
	for _, o := range origins {
		for _, c := range credentials {
			t.Run(o.name+", "+c.name, func(t *testing.T) {
				inBubble(t, func(t *testing.T) {
					logs, withLogs := recordLogs(t)
					srv := realtimetest.NewServer(t, withLogs, func(opts *realtime.Options) {
						opts.Origins.Allowed = []string{"https://app.example.com", "http://localhost:5173", "https://xn--bcher-kva.example"}
						opts.Origins.Credentials = true
					})
					a := originClient{srv: srv, origins: o.origins}
					token := logs.secret(srv.Login("d1", realtime.UserDriver))
					if c.header != nil {
						a.header = c.header(token)
					}
					if c.payload != nil {
						a.payload = c.payload(token)
					}
					connect := "40" + realtime.NamespaceDrivers + "," + a.payload
					logged := 0
					// status checks an answer, and reports whether to go on.
					status := func(res *http.Response, body string, want int) bool {
						t.Helper()
						require.Contains(t, res.Header.Values("Vary"), "Origin")
						if !o.ok {
							logged++
							require.Equal(t, http.StatusForbidden, res.StatusCode)
							require.JSONEq(t, `{"code":4,"message":"Forbidden"}`, body)
							require.Empty(t, res.Header.Get("Access-Control-Allow-Origin"))
							require.Empty(t, res.Header.Get("Access-Control-Allow-Credentials"))
							require.Len(t, logs.lines(t, "realtime: origin not allowed; if it should be, add it to Options.Origins.Allowed"), logged)
							return false
						}
						require.Equal(t, want, res.StatusCode)
						if len(o.origins) > 0 {
							require.Equal(t, o.origins[0], res.Header.Get("Access-Control-Allow-Origin"))
							require.Equal(t, "true", res.Header.Get("Access-Control-Allow-Credentials"))
						} else {
							require.Empty(t, res.Header.Get("Access-Control-Allow-Origin"))
						}
						return true
					}
					outcome := func(got string) {
						t.Helper()
						if c.enters {
							require.Contains(t, got, `"hello",{"ok":true,"nsp":"/drivers"`)
							return
						}
						require.Equal(t, refusalPacket(realtime.NamespaceDrivers, realtime.CodeMissingToken, "Missing token"), got)
					}

					// A preflight opens no session.
					res, body := a.request(t, false, http.MethodOptions, overPolling, "")
					if status(res, body, http.StatusNoContent) {
						require.Equal(t, "GET, POST", res.Header.Get("Access-Control-Allow-Methods"))
						require.Equal(t, "authorization,content-type", res.Header.Get("Access-Control-Allow-Headers"))
					}

					// The first request of a polling client.
					res, sid := a.session(t, false)
					if body = `{"code":4,"message":"Forbidden"}`; status(res, body, http.StatusOK) {
						require.NotEmpty(t, sid)
					}

					// The next requests, with the id of another client's session.
					_, sid = a.session(t, true)
					res, body = a.request(t, false, http.MethodPost, overPolling+sid, connect)
					if !status(res, body, http.StatusOK) {
						res, body = a.request(t, false, http.MethodGet, overPolling+sid, "")
						status(res, body, http.StatusOK)
						res, body = a.request(t, true, http.MethodPost, overPolling+sid, connect) // which goes on unharmed
						require.Equal(t, http.StatusOK, res.StatusCode, body)
						outcome(a.poll(t, sid))
					} else {
						synctest.Wait()
						res, body = a.request(t, false, http.MethodGet, overPolling+sid, "")
						status(res, body, http.StatusOK)
						outcome(body)
					}

					// A websocket.
					res, body = a.request(t, false, http.MethodGet, overSocket, "")
					if status(res, body, http.StatusSwitchingProtocols) {
						conn := readRaw(t, res)
						outcome(strings.Join(conn.send(t, connect)[1:], ""))
					}

					// A websocket that upgrades another client's session.
					_, sid = a.session(t, true)
					res, body = a.request(t, false, http.MethodGet, overSocket+sid, "")
					if status(res, body, http.StatusSwitchingProtocols) {
						require.Equal(t, []string{"3probe"}, readRaw(t, res).send(t, "2probe"))
						return
					}
					res, _ = a.request(t, true, http.MethodPost, overPolling+sid, connect)
					require.Equal(t, http.StatusOK, res.StatusCode)
					outcome(a.poll(t, sid))
				})
			})
		}
	}
}
