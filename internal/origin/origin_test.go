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

func TestCanonical(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"https://app.example.com":             "https://app.example.com",
		"HTTPS://APP.EXAMPLE.COM:443":         "https://app.example.com",
		"http://localhost:80":                 "http://localhost",
		"http://localhost:5173":               "http://localhost:5173",
		"https://[2001:DB8::1]:8443":          "https://[2001:db8::1]:8443",
		"https://" + strings.Repeat("a", 253): "https://" + strings.Repeat("a", 253),
		"null":                                "",
		"":                                    "",
		"*":                                   "",
		"https://app.example.com/":            "",
		"https://app.example.com?":            "",
		"https://app.example.com#":            "",
		"https://user@app.example.com":        "",
		"https://%61pp.example.com":           "",
		"https://app.example.com, https://example.com": "",
		"https://\u212aiosk.example":                   "", // the Kelvin sign, which folds to k
		"https://\u017fhop.example":                    "", // a long s
		"\u212a://kiosk.example":                       "",
		"https://b\u00fccher.example":                  "",
		"https://" + strings.Repeat("a", 400):          "",
	} {
		got, ok := origin.Canonical(in)
		require.Equal(t, want, got, in)
		require.Equal(t, want != "", ok, in)
	}
}

// A letter that case folding turns into an ASCII letter is not that letter.
func TestPolicy_LettersOfOtherAlphabets(t *testing.T) {
	t.Parallel()
	p := origin.New([]string{"https://kiosk.shop.example", "https://\u212aanzlei.example"}, false, false)
	require.True(t, p.Allows([]string{"https://KIOSK.shop.example"}, "api.example.com"))
	require.False(t, p.Allows([]string{"https://\u212aiosk.shop.example"}, "api.example.com"))
	require.False(t, p.Allows([]string{"https://kio\u017fk.shop.example"}, "api.example.com"))
	require.False(t, p.Allows([]string{"https://kanzlei.example"}, "api.example.com"), "an entry with such a letter admits nobody")
	require.True(t, p.Allows([]string{"https://kiosk.example"}, "KIOSK.example"), "the server's own host")
	require.False(t, p.Allows([]string{"https://kiosk.example"}, "\u212aiosk.example"))
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
		require.Equal(t, origin.Preflight, p.Check(w, r))
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
	} {
		require.Empty(t, origin.Problem(configured), configured)
		require.True(t, origin.New([]string{configured}, false, false).Allows([]string{page}, "server.example.com"), configured)
	}
	for configured, why := range map[string]string{
		"null": "sends null", "NULL": "sends null",
		"https://*.example.com": "no patterns", "*.example.com": "no patterns", "**": "no patterns",
		"": "scheme://host", "app.example.com": "scheme://host", "localhost:5173": "scheme://host", "https://": "scheme://host",
		"https://app.example.com/": "scheme://host", "https://u@app.example.com": "scheme://host", "https://ünïcode.example": "scheme://host",
		"wss://app.example.com": "http or https", "ws://localhost:3000": "http or https", "WS://localhost": "http or https",
		"file://host":       "sends null",
		"http://localhost:": "port", "http://localhost:0": "port", "http://localhost:65536": "port", "http://localhost:05173": "port",
		"https://127.1": "IP address", "https://192.0.2.01": "IP address", "https://192.0.2": "IP address", "https://0x7f.0.0.0x1": "IP address", "https://[0:0:0:0:0:0:0:1]": "IP address", "http://[::ffff:192.0.2.1]": "IP address", "https://2130706433:8443": "IP address",
	} {
		require.Contains(t, origin.Problem(configured), why, configured)
	}
}
