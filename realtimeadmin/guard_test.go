// Who may use the view, and what its answers let a browser do.

package realtimeadmin_test

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimeadmin"
	"github.com/rodando/realtime/realtimetest"
)

func anybody(*http.Request) (string, bool) { return "anybody", true }

func with(key, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(key, value) }
}

func from(addr string) func(*http.Request) { return func(r *http.Request) { r.RemoteAddr = addr } }

// Only the token opens the view. Wrong ones are limited for each address; meanwhile the right one is not
// looked at either.
func TestView_Token(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := start(t, 1, realtimeadmin.Options{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("198.51.100.1/32")}})[0]
		status := func(change ...func(*http.Request)) int {
			return request(t, n.view, http.MethodGet, "/api/overview", nil, change...).Code
		}
		require.Equal(t, 200, status())
		require.Equal(t, 200, status(with("Authorization", "bearer "+token)))
		for range 10 { // not a guess
			for _, none := range []string{"", "Bearer ", "Basic " + token, token} {
				require.Equal(t, 401, status(with("Authorization", none)), none)
			}
		}
		for i, wrong := range []string{"x", token + "x", token[1:], strings.Repeat("x", 10_000), "\x00"} {
			require.Equal(t, 401, status(with("Authorization", "Bearer "+wrong), from("203.0.113.1:1")), i)
		}
		require.Equal(t, 429, status(with("Authorization", "Bearer x"), from("203.0.113.1:2")))
		require.Equal(t, 429, status(from("203.0.113.1:3")), "also the right one")
		require.Equal(t, 429, status(from("198.51.100.1:1"), with("X-Forwarded-For", "203.0.113.1")))
		w := request(t, n.view, http.MethodGet, "/api/overview", nil, from("203.0.113.1:3"))
		require.Equal(t, "10", w.Header().Get("Retry-After"))
		require.Equal(t, 200, status(from("203.0.113.2:1")))
		time.Sleep(10 * time.Second)
		require.Equal(t, 200, status(from("203.0.113.1:3")))
		require.Equal(t, 401, status(with("Authorization", "Bearer x"), from("203.0.113.1:1")))
		require.Equal(t, 429, status(from("203.0.113.1:3")))

		for i := range 5 { // one client has a whole /64
			require.Equal(t, 401, status(with("Authorization", "Bearer x"), from("[2001:db8::"+string(rune('1'+i))+"]:1")))
		}
		require.Equal(t, 429, status(from("[2001:db8::ffff]:1")))
		require.Equal(t, 200, status(from("[2001:db8:0:1::1]:1")))
		require.Equal(t, 11, strings.Count(n.log.String(), "wrong token"))
		require.NotContains(t, n.log.String(), token[1:])
	})
}

// A host's own login decides about every request, that of the page included.
func TestView_Operator(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := start(t, 1, realtimeadmin.Options{Operator: func(r *http.Request) (string, bool) {
			c, err := r.Cookie("login")
			return "eva", err == nil && c.Value == "eva"
		}})[0]
		for _, path := range []string{"/", "/view.js", "/style.css", "/api/overview", "/api/user?id=d1"} {
			require.Equal(t, 403, request(t, n.view, http.MethodGet, path, nil).Code, path)
			require.Equal(t, 200, request(t, n.view, http.MethodGet, path, nil, with("Cookie", "login=eva")).Code, path)
		}
	})
}

// What another page makes an operator's browser send is refused.
func TestView_OtherOrigins(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := start(t, 1, realtimeadmin.Options{Operator: anybody})[0]
		d := n.Driver(t, "d1")
		body := func() *strings.Reader { return strings.NewReader(`{"sessionId":"session-of-d1"}`) }
		for name, change := range map[string]func(*http.Request){
			"no header":         func(r *http.Request) { r.Header.Del("X-Realtime-Admin") },
			"another site":      with("Sec-Fetch-Site", "cross-site"),
			"another subdomain": with("Sec-Fetch-Site", "same-site"),
			"an address bar":    with("Sec-Fetch-Site", "none"),
			"an older browser":  func(r *http.Request) { r.Header.Del("Sec-Fetch-Site"); r.Header.Set("Origin", "https://evil.example") },
			"a sandboxed page":  func(r *http.Request) { r.Header.Del("Sec-Fetch-Site"); r.Header.Set("Origin", "null") },
		} {
			w := request(t, n.view, http.MethodPost, "/api/disconnect", body(), with("Content-Type", "application/json"), change)
			require.Equal(t, 403, w.Code, name)
			require.Empty(t, w.Header().Get("Access-Control-Allow-Origin"))
			if name == "an older browser" || name == "a sandboxed page" {
				continue // a GET: without the header it is refused, and nobody can read the answer
			}
			require.Equal(t, 403, request(t, n.view, http.MethodGet, "/api/overview", nil, change).Code, name)
		}
		for name, w := range map[string]int{
			"form": request(t, n.view, http.MethodPost, "/api/disconnect", body(), with("Content-Type", "text/plain")).Code,
			"GET":  request(t, n.view, http.MethodGet, "/api/disconnect", nil).Code,
		} {
			require.GreaterOrEqual(t, w, 400, name)
		}
		require.Equal(t, 405, request(t, n.view, http.MethodOptions, "/api/disconnect", nil).Code)
		require.True(t, d.Connected())
		require.Empty(t, n.log.String())
	})
}

// Disconnecting a session ends its sockets on every node, and the log says who did it.
func TestView_Disconnect(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nodes := start(t, 2, realtimeadmin.Options{Operator: func(*http.Request) (string, bool) { return "eva\n", true }})
		one, two, other := nodes[0].Driver(t, "d1"), nodes[1].Driver(t, "d1"), nodes[1].Driver(t, "d1", realtimetest.Session("tablet"))
		w := request(t, nodes[0].view, http.MethodPost, "/api/disconnect", strings.NewReader(`{"sessionId":"session-of-d1"}`), with("Content-Type", "application/json"))
		require.Equal(t, 200, w.Code, w.Body.String())
		settle(t, nodes...)
		for _, c := range []*realtimetest.Client{one, two} {
			require.Equal(t, "operator", *realtimetest.Expect(t, c, realtime.EventSessionRevoked).Reason)
			c.Disconnected(t)
		}
		require.True(t, other.Connected())
		require.Contains(t, nodes[0].log.String(), `operator="eva\n" sid=session-of-d1 error=<nil>`)
		require.Equal(t, 1, strings.Count(nodes[0].log.String(), "\n"))

		for _, body := range []string{``, `7`, `{}`, `{"sessionId":""}`, `{"sessionId":7}`, `{"sessionId":"` + strings.Repeat("x", 257) + `"}`, `{"sessionId":"a\u0000"}`} {
			w := request(t, nodes[0].view, http.MethodPost, "/api/disconnect", strings.NewReader(body), with("Content-Type", "application/json"))
			require.Equal(t, 400, w.Code, body)
		}
		w = request(t, nodes[0].view, http.MethodPost, "/api/disconnect", strings.NewReader(strings.Repeat(" ", 5000)), with("Content-Type", "application/json"))
		require.Equal(t, 413, w.Code)
		require.NoError(t, nodes[0].Realtime.Shutdown(t.Context()))
	})
}

// A bus that does not accept the revocation is an error, and is in the log.
func TestView_DisconnectFails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := start(t, 1, realtimeadmin.Options{})[0]
		n.Bus.Fail(http.ErrServerClosed)
		w := request(t, n.view, http.MethodPost, "/api/disconnect", strings.NewReader(`{"sessionId":"s1"}`), with("Content-Type", "application/json"))
		require.Equal(t, 502, w.Code)
		require.NotContains(t, w.Body.String(), http.ErrServerClosed.Error())
		require.Contains(t, n.log.String(), http.ErrServerClosed.Error())
		require.Contains(t, n.log.String(), "operator=token")
		n.Bus.Fail(nil)
	})
}

func TestView_InvalidQueries(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := start(t, 1, realtimeadmin.Options{})[0]
		for _, query := range []string{"", "?id=", "?id=a&id=b", "?id=%00", "?id=%ff", "?id=" + strings.Repeat("x", 257), "?id=x&" + strings.Repeat("y", 1024)} {
			for _, path := range []string{"/api/user", "/api/timeline"} {
				require.Equal(t, 400, request(t, n.view, http.MethodGet, path+query, nil).Code, path+query)
			}
		}
		for _, path := range []string{"/x", "/page/index.html", "/api/", "/api/user/", "//evil.example/", "/../view.go", "/index.html"} {
			w := request(t, n.view, http.MethodGet, path, nil)
			require.Equal(t, 404, w.Code, path)
			require.Empty(t, w.Header().Get("Location"))
		}
		require.Equal(t, 405, request(t, n.view, http.MethodPost, "/", nil).Code)
		require.Equal(t, 405, request(t, n.view, http.MethodDelete, "/api/overview", nil).Code)
	})
}

// Before the host has called Watch there is nothing to see.
func TestView_BeforeWatch(t *testing.T) {
	t.Parallel()
	view, err := realtimeadmin.New(realtimeadmin.Options{Token: token})
	require.NoError(t, err)
	require.Equal(t, 503, request(t, view, http.MethodGet, "/api/overview", nil).Code)
	require.Equal(t, 200, request(t, view, http.MethodGet, "/", nil).Code)
}

// A browser that shows the page loads nothing from elsewhere, runs no inline code, and keeps nothing.
func TestView_Page(t *testing.T) {
	t.Parallel()
	view, err := realtimeadmin.New(realtimeadmin.Options{Token: token})
	require.NoError(t, err)
	for path, contentType := range map[string]string{"/": "text/html; charset=utf-8", "/view.js": "text/javascript; charset=utf-8", "/style.css": "text/css; charset=utf-8"} {
		w := request(t, view, http.MethodGet, path, nil, func(r *http.Request) { r.Header = http.Header{} })
		require.Equal(t, 200, w.Code, path)
		h := w.Header()
		require.Equal(t, contentType, h.Get("Content-Type"))
		require.Equal(t, "no-store", h.Get("Cache-Control"))
		require.Equal(t, "nosniff", h.Get("X-Content-Type-Options"))
		require.Equal(t, "DENY", h.Get("X-Frame-Options"))
		require.Equal(t, "no-referrer", h.Get("Referrer-Policy"))
		policy := h.Get("Content-Security-Policy")
		require.True(t, strings.HasPrefix(policy, "default-src 'none'; script-src 'self';"), policy)
		require.NotContains(t, policy, "unsafe")
		require.Contains(t, policy, "frame-ancestors 'none'")
		require.NotRegexp(t, `https?://|//[a-z]|@import|innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function`, w.Body.String())
		require.NotContains(t, w.Body.String(), token)
	}
	html, err := os.ReadFile("page/index.html")
	require.NoError(t, err)
	require.NotRegexp(t, `(?i)<style|\sstyle=|\son[a-z]+=|<script(?:\s[^>]*)?>[^<]|javascript:`, string(html))
	js, err := os.ReadFile("page/view.js")
	require.NoError(t, err)
	for _, m := range regexp.MustCompile(`byID\('([a-z-]+)'\)`).FindAllStringSubmatch(string(js), -1) {
		require.Contains(t, string(html), `id="`+m[1]+`"`)
	}
	w := request(t, view, http.MethodGet, "/api/overview", nil)
	require.Equal(t, "application/json", w.Header().Get("Content-Type"))
	require.True(t, json.Valid(w.Body.Bytes()))
}

// Wrong tokens from many addresses do not fill the log.
func TestView_WrongTokensAreSampled(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := start(t, 1, realtimeadmin.Options{})[0]
		for i := range 1000 {
			addr := netip.AddrFrom4([4]byte{203, 0, byte(i / 250), byte(1 + i%250)})
			require.Equal(t, 401, request(t, n.view, http.MethodGet, "/api/overview", nil, with("Authorization", "Bearer x"), from(addr.String()+":1")).Code)
		}
		require.Equal(t, 100, strings.Count(n.log.String(), "wrong token"))
	})
}
