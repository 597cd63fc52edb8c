// Who may open a connection.

package realtime_test

import (
	"io"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// knock asks for a session, over polling or a websocket, and returns the status
// and Retry-After.
func knock(t *testing.T, srv *realtimetest.Server, transport string, header ...string) (status, retryAfter int) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL()+realtime.Path+"?EIO=4&transport="+transport, nil)
	require.NoError(t, err)
	if transport == "websocket" {
		header = append(header, "Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13",
			"Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	res, err := srv.HTTPClient().Do(r)
	require.NoError(t, err)
	if res.StatusCode != http.StatusSwitchingProtocols {
		_, err = io.Copy(io.Discard, res.Body)
		require.NoError(t, err)
	}
	t.Cleanup(func() { _ = res.Body.Close() }) // a websocket that the server has closed
	if s := res.Header.Get("Retry-After"); s != "" {
		retryAfter, err = strconv.Atoi(s)
		require.NoError(t, err)
	}
	return res.StatusCode, retryAfter
}

// Each limit on numbers refuses before there is a session, and lets in again when
// somebody has left.
func TestConnectionLimits(t *testing.T) {
	for name, c := range map[string]struct {
		set    func(l *realtime.Limits)
		status int
		all    bool // logged in or not
	}{
		"Connections":          {func(l *realtime.Limits) { l.Connections = 2 }, http.StatusServiceUnavailable, true},
		"Unauthenticated":      {func(l *realtime.Limits) { l.Unauthenticated = 2 }, http.StatusServiceUnavailable, false},
		"ConnectionsPerIP":     {func(l *realtime.Limits) { l.ConnectionsPerIP = 2 }, http.StatusTooManyRequests, true},
		"UnauthenticatedPerIP": {func(l *realtime.Limits) { l.UnauthenticatedPerIP = 2 }, http.StatusTooManyRequests, false},
	} {
		for _, transport := range []string{"polling", "websocket"} {
			t.Run(name+" "+transport, func(t *testing.T) {
				inBubble(t, func(t *testing.T) {
					l := &limits{}
					srv := realtimetest.NewServer(t, l.options, func(o *realtime.Options) { c.set(&o.Limits) })
					refused := func() {
						t.Helper()
						status, wait := knock(t, srv, transport)
						require.Equal(t, c.status, status)
						require.GreaterOrEqual(t, wait, 1)
						require.LessOrEqual(t, wait, 5)
						require.Equal(t, []string{name}, l.take())
					}
					driver := srv.Driver(t, "d1")
					conn := openRaw(t, srv)
					if !c.all {
						openRaw(t, srv) // the driver does not count
					}
					refused()
					require.NoError(t, conn.body.Close())
					synctest.Wait()
					openRaw(t, srv)
					refused()
					if c.all {
						driver.Close()
						synctest.Wait()
						openRaw(t, srv)
						refused()
					}
				})
			})
		}
	}
}

// A session that comes to nothing is counted out.
func TestConnectionsThatFailAreCountedOut(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := &limits{}
		srv := realtimetest.NewServer(t, l.options, func(o *realtime.Options) { o.Limits.Connections = 1 })
		for range 5 { // no key: the websocket handshake fails
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL()+realtime.Path+"?EIO=4&transport=websocket", nil)
			require.NoError(t, err)
			r.Header.Set("Connection", "Upgrade")
			r.Header.Set("Upgrade", "websocket")
			res, err := srv.HTTPClient().Do(r)
			require.NoError(t, err)
			require.NoError(t, res.Body.Close())
			require.Equal(t, http.StatusBadRequest, res.StatusCode)
		}
		status, _ := knock(t, srv, "polling")
		require.Equal(t, http.StatusOK, status)
		time.Sleep(20 * time.Second) // it entered no namespace
		require.True(t, srv.Driver(t, "d1").Connected())
	})
}

func TestHandshakeRate(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := &limits{}
		srv := realtimetest.NewServer(t, l.options, func(o *realtime.Options) {
			o.Rates.Handshake = realtime.Rate{PerSecond: 1, Burst: 3}
			o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} // where the clients of a test come from
		})
		from := func(address string) int {
			status, _ := knock(t, srv, "polling", "X-Forwarded-For", address)
			return status
		}
		for range 3 {
			require.Equal(t, http.StatusOK, from("203.0.113.7"))
		}
		require.Equal(t, http.StatusTooManyRequests, from("203.0.113.7"))
		require.Equal(t, []string{"Rates.Handshake"}, l.take())
		require.Equal(t, http.StatusOK, from("203.0.113.8"))
		time.Sleep(time.Second)
		require.Equal(t, http.StatusOK, from("203.0.113.7"))
	})
}

// Which address counts: of two requests that share it the second is refused.
func TestAddresses(t *testing.T) {
	for name, c := range map[string]struct {
		first, second string // X-Forwarded-For, lines separated by |
		same          bool
	}{
		"same":                    {"203.0.113.7", "203.0.113.7", true},
		"another":                 {"203.0.113.7", "203.0.113.8", false},
		"what the client wrote":   {"198.51.100.1, 203.0.113.7", "198.51.100.2, 203.0.113.7", true},
		"in a line of its own":    {"198.51.100.1|203.0.113.7", "198.51.100.2|203.0.113.7", true},
		"a proxy in between":      {"203.0.113.7, 10.1.2.3", "203.0.113.7, 10.1.2.4", true},
		"behind a proxy":          {"203.0.113.7, 10.1.2.3", "203.0.113.8, 10.1.2.3", false},
		"with a port":             {"203.0.113.7:1000", "203.0.113.7:2000", true},
		"IPv4 as IPv6":            {"::ffff:203.0.113.7", "203.0.113.7", true},
		"IPv6, one customer":      {"2001:db8:1:2::1", "2001:db8:1:2:3::4", true},
		"IPv6, two customers":     {"2001:db8:1:2::1", "2001:db8:1:3::1", false},
		"IPv6 in brackets":        {"[2001:db8:1:2::1]:443", "2001:db8:1:2::1", true},
		"a zone":                  {"2001:db8::1%eth0", "2001:db8::1", true},
		"none":                    {"", "", true},
		"garbage":                 {"unknown", "", true},
		"garbage behind a proxy":  {"unknown, 10.1.2.3", "x, 10.1.2.3", true},
		"long garbage":            {strings.Repeat("9", 5000), "", true},
		"only commas":             {",,,,", "", true},
		"nothing but proxies":     {"10.1.2.3, 10.1.2.4", "10.1.2.3", true},
		"a client in the network": {"10.9.9.9, 203.0.113.7", "10.8.8.8, 203.0.113.7", true},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				srv := realtimetest.NewServer(t, func(o *realtime.Options) {
					o.Unlimited, o.Limits.ConnectionsPerIP = false, 1
					o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.2/32"), netip.MustParsePrefix("10.0.0.0/8")}
				})
				ask := func(lines string) int {
					var header []string
					for line := range strings.SplitSeq(lines, "|") {
						header = append(header, "X-Forwarded-For", line)
					}
					status, _ := knock(t, srv, "polling", header...)
					return status
				}
				require.Equal(t, http.StatusOK, ask(c.first))
				want := http.StatusOK
				if c.same {
					want = http.StatusTooManyRequests
				}
				require.Equal(t, want, ask(c.second))
			})
		})
	}
}

// Without TrustedProxies nobody can make himself another address.
func TestForwardedByNobodyKnown(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Unlimited, o.Limits.ConnectionsPerIP = false, 1 })
		status, _ := knock(t, srv, "polling", "X-Forwarded-For", "203.0.113.7")
		require.Equal(t, http.StatusOK, status)
		status, _ = knock(t, srv, "polling", "X-Forwarded-For", "203.0.113.8")
		require.Equal(t, http.StatusTooManyRequests, status)
	})
}
