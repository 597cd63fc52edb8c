// Origins: their canonical form, the policy, and mistakes in a configuration.

package origin_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rodando/realtime/internal/origin"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// own is the server's own host where it does not matter.
var own = origin.Host{Name: "server.example.com"}

// An Origin header is read as its client means it, or not at all.
func TestPolicy_Reads(t *testing.T) {
	t.Parallel()
	long := "https://" + strings.Repeat("a", 253)
	for configured, pages := range map[string][]string{
		"https://app.example.com": {
			"https://app.example.com", "HTTPS://APP.EXAMPLE.COM:443", "https://app.example.com/", "wss://app.example.com", "wss://app.example.com:443/",
			"https://app.example.com/socket.io/?EIO=4", "https://app.example.com?EIO=4",
		},
		"http://localhost":           {"http://localhost:80", "ws://localhost", "http://LOCALHOST/"},
		"http://localhost:5173":      {"http://localhost:5173", "ws://localhost:5173/"},
		"https://[2001:db8::1]:8443": {"https://[2001:DB8::1]:8443"},
		long:                         {long},
		"null":                       {"null"},
		"file://":                    {"file://", "file:///"},
	} {
		p := origin.New([]string{configured}, false, false)
		for _, page := range pages {
			require.True(t, p.Allows([]string{page}, own), page)
		}
	}
	listed := origin.New([]string{"https://app.example.com", "https://kiosk.example", "https://hop.example"}, false, false)
	everything := origin.New([]string{"*"}, false, false)
	for _, page := range []string{
		"", "*", "//app.example.com", "app.example.com", "https:app.example.com",
		"https://app.example.com#", "https://user@app.example.com", "https://%61pp.example.com", "https://app.example.com\\.evil.com",
		"https://app.example.com, https://example.com", "https://app.example.com/,https://example.com", "https://app.example.com https://example.com",
		"https://\u212aiosk.example", // the Kelvin sign, which folds to k
		"https://\u017fhop.example",  // a long s
		"\u212a://kiosk.example", "https://b\u00fccher.example",
		"https://" + strings.Repeat("a", 1024),
	} {
		require.False(t, listed.Allows([]string{page}, own), page)
		require.False(t, everything.Allows([]string{page}, own), page)
	}
	require.False(t, listed.Allows([]string{"null"}, own))
	require.False(t, listed.Allows([]string{"file://"}, own))
	require.True(t, everything.Allows([]string{"null"}, own), "there are no credentials then")
}

// A pattern admits one label, or the ports of localhost, and nothing else.
func TestPolicy_Patterns(t *testing.T) {
	t.Parallel()
	for configured, c := range map[string]struct{ in, out []string }{
		"https://*.example.com": {
			[]string{"https://app.example.com", "https://APP.example.com:443", "wss://a-1.example.com/"},
			[]string{"https://example.com", "https://.example.com", "https://a.b.example.com", "http://app.example.com", "https://app.example.com:8443", "https://evilexample.com", "https://app.example.com.evil.com"},
		},
		"https://*.example.com:8443": {
			[]string{"https://app.example.com:8443"},
			[]string{"https://app.example.com", "https://app.example.com:443", "https://app.example.com:18443"},
		},
		"http://localhost:*": {
			[]string{"http://localhost", "http://localhost:80", "http://localhost:5173", "ws://localhost:1/"},
			[]string{"https://localhost:5173", "http://localhost.evil.com:80", "http://localhostevil.com", "http://127.0.0.1:5173"},
		},
		"http://[::1]:*": {[]string{"http://[::1]:3000", "http://[::1]"}, []string{"http://[::2]:3000"}},
	} {
		require.Empty(t, origin.Problem(configured), configured)
		p := origin.New([]string{configured}, false, false)
		for _, page := range c.in {
			require.True(t, p.Allows([]string{page}, own), "%s for %s", page, configured)
		}
		for _, page := range c.out {
			require.False(t, p.Allows([]string{page}, own), "%s for %s", page, configured)
		}
	}
}

// A page of the server's own host may connect, whichever way the client writes it, and
// whatever a trusted proxy calls the host.
func TestPolicy_OwnHost(t *testing.T) {
	t.Parallel()
	forwarded := func(host, proto string) origin.Host {
		r := httptest.NewRequest(http.MethodGet, "http://10.0.0.7:3000/socket.io/", nil)
		if host != "" {
			r.Header.Set("X-Forwarded-Host", host)
		}
		if proto != "" {
			r.Header.Set("X-Forwarded-Proto", proto)
		}
		return origin.Forwarded(r)
	}
	p := origin.New(nil, false, false)
	for name, c := range map[string]struct {
		own  origin.Host
		page string
		ok   bool
	}{
		"plain":                        {origin.Host{Name: "api.example.com"}, "https://api.example.com", true},
		"Starscream":                   {origin.Host{Name: "api.example.com:443"}, "wss://api.example.com", true},
		"Starscream, other port":       {origin.Host{Name: "api.example.com:444"}, "wss://api.example.com", false},
		"default port of the page":     {origin.Host{Name: "api.example.com"}, "http://api.example.com:80", true},
		"old React Native":             {origin.Host{Name: "api.example.com"}, "https://api.example.com/", true},
		"app scheme with that host":    {origin.Host{Name: "api.example.com"}, "evil://api.example.com", false},
		"null":                         {origin.Host{Name: "null"}, "null", false},
		"forwarded":                    {forwarded("api.example.com", "https"), "https://api.example.com", true},
		"forwarded, with default port": {forwarded("api.example.com:443", "https"), "wss://api.example.com", true},
		"forwarded through two":        {forwarded("api.example.com, inner", "https, http"), "https://api.example.com", true},
		"forwarded, other scheme":      {forwarded("api.example.com", "https"), "http://api.example.com", false},
		"forwarded, no scheme":         {forwarded("api.example.com", ""), "http://api.example.com", true},
		"forwarded, strange scheme":    {forwarded("api.example.com", "gopher"), "https://api.example.com", true},
		"only the scheme":              {forwarded("", "http"), "http://10.0.0.7:3000", true},
		"another":                      {forwarded("api.example.com", "https"), "https://10.0.0.7:3000", false},
		"no host":                      {origin.Host{}, "https://api.example.com", false},
	} {
		require.Equal(t, c.ok, p.Allows([]string{c.page}, c.own), name)
	}
}

// A letter that case folding turns into an ASCII letter is not that letter.
func TestPolicy_LettersOfOtherAlphabets(t *testing.T) {
	t.Parallel()
	p := origin.New([]string{"https://kiosk.shop.example", "https://\u212aanzlei.example"}, false, false)
	require.True(t, p.Allows([]string{"https://KIOSK.shop.example"}, origin.Host{Name: "api.example.com"}))
	require.False(t, p.Allows([]string{"https://\u212aiosk.shop.example"}, origin.Host{Name: "api.example.com"}))
	require.False(t, p.Allows([]string{"https://kio\u017fk.shop.example"}, origin.Host{Name: "api.example.com"}))
	require.False(t, p.Allows([]string{"https://kanzlei.example"}, origin.Host{Name: "api.example.com"}), "an entry with such a letter admits nobody")
	require.True(t, p.Allows([]string{"https://kiosk.example"}, origin.Host{Name: "KIOSK.example"}), "the server's own host")
	require.False(t, p.Allows([]string{"https://kiosk.example"}, origin.Host{Name: "\u212aiosk.example"}))
}

// A preflight's list of headers is repeated only up to maxHeaders bytes.
func TestPolicy_LongPreflight(t *testing.T) {
	t.Parallel()
	p := origin.New([]string{"https://app.example.com"}, true, false)
	for names, want := range map[string]string{"authorization": "authorization", strings.Repeat("x", 1<<20): ""} {
		r := httptest.NewRequest(http.MethodOptions, "https://api.example.com/socket.io/", nil)
		r.Header.Set("Origin", "https://app.example.com")
		r.Header.Set("Access-Control-Request-Headers", names)
		w := httptest.NewRecorder()
		require.Equal(t, origin.Preflight, p.Check(w, r, own))
		require.Equal(t, http.StatusNoContent, w.Code)
		require.Equal(t, want, w.Header().Get("Access-Control-Allow-Headers"))
	}
}

// An origin without a Problem admits its page; each mistake is named.
func TestProblem(t *testing.T) {
	t.Parallel()
	for configured, page := range map[string]string{ // what a browser sends
		"https://app.example.com":      "https://app.example.com",
		"https://APP.example.com:443":  "https://app.example.com",
		"http://localhost:5173":        "http://localhost:5173",
		"http://[::1]:3000":            "http://[::1]:3000",
		"http://[::1]":                 "http://[::1]",
		"https://192.0.2.1:8443":       "https://192.0.2.1:8443",
		"https://4.example":            "https://4.example",
		"https://app.example.com.":     "https://app.example.com.",
		"https://0xyz":                 "https://0xyz",
		"capacitor://localhost":        "capacitor://localhost",
		"chrome-extension://abcdefghi": "chrome-extension://abcdefghi",
		"https://shop.example.com/":    "https://shop.example.com",
		"wss://live.example.com":       "https://live.example.com",
		"https://*.example.org/":       "https://app.example.org",
		"null":                         "null",
		"file://":                      "file://",
	} {
		require.Empty(t, origin.Problem(configured), configured)
		require.True(t, origin.New([]string{configured}, false, false).Allows([]string{page}, own), configured)
	}
	for configured, why := range map[string]string{
		"NULL":          "scheme://host",
		"*.example.com": "one label", "**": "one label", "https://*": "one label", "https://app.*.example.com": "one label", "https://app*.example.com": "one label", "*://app.example.com": "one label",
		"https://*.com": "two labels", "https://*.com.": "two labels", "https://*.localhost": "two labels",
		"https://app.example.com:*": "only localhost", "https://*.example.com:*": "only localhost",
		"": "scheme://host", "app.example.com": "scheme://host", "localhost:5173": "scheme://host", "https://": "scheme://host",
		"https://app.example.com/a": "scheme://host", "https://app.example.com?": "scheme://host", "https://app.example.com//": "scheme://host", "https://u@app.example.com": "scheme://host", "https://ünïcode.example": "scheme://host",
		"file://host":       "sends file:// or null",
		"http://localhost:": "port", "http://localhost:0": "port", "http://localhost:65536": "port", "http://localhost:05173": "port",
		"https://127.1": "IP address", "https://192.0.2.01": "IP address", "https://192.0.2": "IP address", "https://0x7f.0.0.0x1": "IP address", "https://[0:0:0:0:0:0:0:1]": "IP address", "http://[::ffff:192.0.2.1]": "IP address", "https://2130706433:8443": "IP address",
	} {
		require.Contains(t, origin.Problem(configured), why, configured)
	}
}
