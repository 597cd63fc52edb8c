// Limits on connections, and addresses behind proxies.

package realtime_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// openSession opens a session over polling or a websocket, and returns the status and
// Retry-After.
func openSession(t *testing.T, srv *realtimetest.Server, transport string, header ...string) (status, retryAfter int) {
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

// Each limit on numbers refuses a connection before it has a session, and admits one again after
// another has closed.
func TestLimits_Connections(t *testing.T) {
	for name, c := range map[string]struct {
		set    func(l *realtime.Limits)
		status int
	}{
		"Connections":      {func(l *realtime.Limits) { l.Connections = 2 }, http.StatusServiceUnavailable},
		"ConnectionsPerIP": {func(l *realtime.Limits) { l.ConnectionsPerIP = 2 }, http.StatusTooManyRequests},
	} {
		for _, transport := range []string{"polling", "websocket"} {
			t.Run(name+" "+transport, func(t *testing.T) {
				inBubble(t, func(t *testing.T) {
					l := &limitRecorder{}
					srv := realtimetest.NewServer(t, l.options, func(o *realtime.Options) { c.set(&o.Limits) })
					refused := func() {
						t.Helper()
						status, wait := openSession(t, srv, transport)
						require.Equal(t, c.status, status)
						require.GreaterOrEqual(t, wait, 1)
						require.LessOrEqual(t, wait, 5)
						require.Equal(t, []realtime.Limit{realtime.Limit(name)}, l.take())
					}
					driver := srv.Driver(t, "d1")
					conn := openRaw(t, srv)
					refused()
					require.NoError(t, conn.body.Close())
					synctest.Wait()
					openRaw(t, srv)
					refused()
					driver.Close()
					synctest.Wait()
					openRaw(t, srv)
					refused()
				})
			})
		}
	}
}

// Beyond the limits on unauthenticated connections the oldest of them makes room, unless all of
// them have a handshake in progress.
func TestConnectionLimits_UnauthenticatedMakeRoom(t *testing.T) {
	for name, c := range map[string]struct {
		set    func(l *realtime.Limits)
		status int
	}{
		"Unauthenticated":      {func(l *realtime.Limits) { l.Unauthenticated = 2 }, http.StatusServiceUnavailable},
		"UnauthenticatedPerIP": {func(l *realtime.Limits) { l.UnauthenticatedPerIP = 2 }, http.StatusTooManyRequests},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				l := &limitRecorder{}
				srv := realtimetest.NewServer(t, l.options, func(o *realtime.Options) { c.set(&o.Limits) })
				connect := connectPacket(realtime.NamespaceDrivers, srv.Login("d1", realtime.UserDriver))
				driver := srv.Driver(t, "d2") // does not count
				first, second := openRaw(t, srv), openRaw(t, srv)
				require.Empty(t, l.take())
				third := openRaw(t, srv)
				require.Equal(t, []realtime.Limit{realtime.Limit(name)}, l.take())
				require.True(t, first.closedSoon())
				require.Equal(t, []string{refusalPacket("/drivers", realtime.CodeInvalidToken, "Invalid token")}, third.send(t, connectPacket(realtime.NamespaceDrivers, "bad")))
				status, _ := openSession(t, srv, "polling")
				require.Equal(t, http.StatusOK, status)
				require.Equal(t, []realtime.Limit{realtime.Limit(name)}, l.take())
				require.True(t, third.closedSoon(), "a refused connection is the next")
				require.False(t, second.closed())

				_, release := srv.Users.Block()
				require.Empty(t, second.send(t, connect))
				last := openRaw(t, srv) // instead of the one that polls
				l.take()
				require.Empty(t, last.send(t, connect))
				status, wait := openSession(t, srv, "websocket")
				require.Equal(t, c.status, status, "both are about to log in")
				require.GreaterOrEqual(t, wait, 1)
				require.Equal(t, []realtime.Limit{realtime.Limit(name)}, l.take())
				release()
				requireEntered(t, second.received(), realtime.NamespaceDrivers, "d1", realtimetest.SessionID("d1"))
				requireEntered(t, last.received(), realtime.NamespaceDrivers, "d1", realtimetest.SessionID("d1"))
				openRaw(t, srv)
				openRaw(t, srv)
				require.Empty(t, l.take())
				require.True(t, driver.Connected())
			})
		})
	}
}

// attacker opens polling sessions and never logs in. It calls the handler directly, so
// that each session can have an address of its own.
type attacker struct {
	srv  *realtimetest.Server
	sids []string // with the peer that opened each
}

func (a *attacker) request(method, peer, query, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, realtime.Path+"?EIO=4&transport=polling"+query, strings.NewReader(body))
	r.RemoteAddr = peer
	w := httptest.NewRecorder()
	a.srv.Realtime.ServeHTTP(w, r)
	return w
}

// open opens a session, and reports whether the server admitted it.
func (a *attacker) open(peer string) bool {
	w := a.request(http.MethodGet, peer, "", "")
	if w.Code == http.StatusOK {
		a.sids = append(a.sids, peer+" "+w.Body.String()[9:31])
	}
	return w.Code == http.StatusOK
}

// postToEach sends a packet on each open session, and returns the number of sessions
// that are still open.
func (a *attacker) postToEach(packet string) int {
	a.sids = slices.DeleteFunc(a.sids, func(s string) bool {
		peer, sid, _ := strings.Cut(s, " ")
		return a.request(http.MethodPost, peer, "&sid="+sid, packet).Code != http.StatusOK
	})
	return len(a.sids)
}

// At a tenth of the default limits a user can log in at any moment, while an attacker opens
// connections from all networks of one site, a hundred addresses, or many sites.
func TestServer_UnauthenticatedKeepNobodyOut(t *testing.T) {
	for name, peer := range map[string]func(i int) string{
		"one /48":               func(i int) string { return fmt.Sprintf("[2001:db8:1:%x::1]:1234", i) },
		"one /24":               func(i int) string { return fmt.Sprintf("198.51.100.%d:1234", i) },
		"a hundred addresses":   func(i int) string { return fmt.Sprintf("20.%d.0.1:1234", i) },
		"behind unnamed proxy":  func(i int) string { return fmt.Sprintf("100.64.0.%d:1234", i) },
		"a hundred of all /48s": func(i int) string { return fmt.Sprintf("[2001:db8:%x::1]:1234", i) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				srv := realtimetest.NewServer(t, func(o *realtime.Options) {
					o.Unlimited = false
					o.Limits.Unauthenticated, o.Limits.UnauthenticatedPerIP, o.Limits.ConnectionsPerIP = 1000, 10, 20
				})
				a := &attacker{srv: srv}
				attack := func() {
					for i := range 100 {
						for range 12 {
							a.open(peer(i))
						}
					}
				}
				begin := time.Now()
				for round := range 4 {
					attack()
					require.True(t, srv.Driver(t, fmt.Sprint("d", round)).Connected())
					require.Positive(t, a.postToEach("40/nowhere,"))
					require.True(t, srv.Passenger(t, fmt.Sprint("p", round)).Connected())
					time.Sleep(7 * time.Second)
				}
				require.Less(t, time.Since(begin), time.Minute)
				time.Sleep(10 * time.Second)
				require.Zero(t, a.postToEach("40/nowhere,"), "all have had their 15 seconds")
			})
		})
	}
}

// Refused CONNECTs count towards the rate, even those that are refused without a call of the host.
// A connection that goes on sending them is closed.
func TestServer_ConnectFloodsAreEnded(t *testing.T) {
	for name, packet := range map[string]string{
		"unknown namespace":   "40/nowhere,",
		"unknown namespaces":  "40/x%d,",
		"bad token":           connectPacket(realtime.NamespaceDrivers, "bad"),
		"too many namespaces": "40/support,",
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				limited := 0
				srv := realtimetest.NewServer(t, func(o *realtime.Options) {
					o.Unlimited = false
					o.Limits.Namespaces = 1
					o.Trace = &realtime.Trace{Limited: func(_ context.Context, i realtime.LimitInfo) {
						if i.Limit == realtime.LimitRateConnect {
							limited++
						}
					}}
				})
				addNamespace(t, srv, "/support", realtime.NamespaceOptions{Anonymous: true})
				conn := openRaw(t, srv)
				if name == "too many namespaces" {
					requireEntered(t, conn.send(t, connectPacket(realtime.NamespaceDrivers, srv.Login("d1", realtime.UserDriver))),
						realtime.NamespaceDrivers, "d1", realtimetest.SessionID("d1"))
				}
				n := 0
				for ; n < 100 && len(conn.send(t, strings.ReplaceAll(packet, "%d", strconv.Itoa(n)))) == 1; n++ {
					continue
				}
				require.True(t, conn.closedSoon())
				require.InDelta(t, 20, n, 1)
				require.Equal(t, 11, limited)
			})
		})
	}
}

// A connection whose handshake fails, or that enters no namespace, does not stay in the counts.
func TestServer_FailedConnectionsAreCountedOut(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := &limitRecorder{}
		srv := realtimetest.NewServer(t, l.options, func(o *realtime.Options) { o.Limits.Connections = 1 })
		for range 5 { // no key: the websocket handshake fails
			synctest.Wait() // the answer comes before the server has counted it out
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL()+realtime.Path+"?EIO=4&transport=websocket", nil)
			require.NoError(t, err)
			r.Header.Set("Connection", "Upgrade")
			r.Header.Set("Upgrade", "websocket")
			res, err := srv.HTTPClient().Do(r)
			require.NoError(t, err)
			require.NoError(t, res.Body.Close())
			require.Equal(t, http.StatusBadRequest, res.StatusCode)
		}
		synctest.Wait()
		status, _ := openSession(t, srv, "polling")
		require.Equal(t, http.StatusOK, status)
		time.Sleep(20 * time.Second) // it entered no namespace
		require.True(t, srv.Driver(t, "d1").Connected())
	})
}

func TestRates_Handshake(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := &limitRecorder{}
		srv := realtimetest.NewServer(t, l.options, func(o *realtime.Options) {
			o.Rates.Handshake = realtime.Rate{PerSecond: 1, Burst: 3}
			o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} // where the clients of a test come from
		})
		from := func(address string) int {
			status, _ := openSession(t, srv, "polling", "X-Forwarded-For", address)
			return status
		}
		for range 3 {
			require.Equal(t, http.StatusOK, from("203.0.113.7"))
		}
		require.Equal(t, http.StatusTooManyRequests, from("203.0.113.7"))
		require.Equal(t, []realtime.Limit{realtime.LimitRateHandshake}, l.take())
		require.Equal(t, http.StatusOK, from("203.0.113.8"))
		time.Sleep(time.Second)
		require.Equal(t, http.StatusOK, from("203.0.113.7"))
	})
}

// Whoever logs in does not count for the rate of those who do not. Options.Rates.Handshake counts
// all.
func TestRates_Unauthenticated(t *testing.T) {
	for name, c := range map[string]struct {
		set     func(r *realtime.Rates)
		limit   realtime.Limit
		drivers int // that log in before the first refusal
	}{
		"Unauthenticated": {func(r *realtime.Rates) { r.Unauthenticated = realtime.Rate{PerSecond: 1, Burst: 3} }, realtime.LimitRateUnauthenticated, 10},
		"Handshake":       {func(r *realtime.Rates) { r.Handshake = realtime.Rate{PerSecond: 1, Burst: 3} }, realtime.LimitRateHandshake, 0},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				l := &limitRecorder{}
				srv := realtimetest.NewServer(t, l.options, func(o *realtime.Options) { c.set(&o.Rates) })
				for i := range c.drivers {
					srv.Driver(t, fmt.Sprint("d", i))
				}
				for range 3 {
					openRaw(t, srv)
				}
				status, wait := openSession(t, srv, "websocket")
				require.Equal(t, http.StatusTooManyRequests, status)
				require.GreaterOrEqual(t, wait, 1)
				require.Equal(t, []realtime.Limit{c.limit}, l.take())
				time.Sleep(time.Second)
				srv.Driver(t, "d1")
				if c.drivers > 0 {
					srv.Driver(t, "d1")
				}
				require.Empty(t, l.take())
			})
		})
	}
}

// The phones of one carrier have one address. By default all of them are let in once they have
// logged in, and those that have not are limited.
func TestLimits_OneAddress(t *testing.T) {
	const peer = "203.0.113.7:1234"
	for name, c := range map[string]struct {
		set    func(o *realtime.Options)
		phones int // of 1500 that are let in
	}{
		"default":          {func(*realtime.Options) {}, 1500},
		"ConnectionsPerIP": {func(o *realtime.Options) { o.Limits.ConnectionsPerIP = 1200 }, 1200},
		"Handshake":        {func(o *realtime.Options) { o.Rates.Handshake = realtime.Rate{PerSecond: 1, Burst: 1300} }, 1300},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				l := &limitRecorder{}
				srv := realtimetest.NewServer(t, l.options, c.set)
				a := &attacker{srv: srv}
				in := 0
				for wave := range 3 { // after a restart they come together
					opened := 0
					for range 500 {
						if a.open(peer) {
							opened++
						}
					}
					for i, sid := range a.sids[in : in+opened] {
						_, sid, _ := strings.Cut(sid, " ")
						token := srv.Login(fmt.Sprint("d", wave, "-", i), realtime.UserDriver)
						require.Equal(t, http.StatusOK, a.request(http.MethodPost, peer, "&sid="+sid, connectPacket(realtime.NamespaceDrivers, token)).Code)
					}
					in += opened
					synctest.Wait()
				}
				require.Equal(t, c.phones, in)
				count, err := srv.Realtime.Drivers().All().Count(t.Context())
				require.NoError(t, err)
				require.Equal(t, in, count)
				if name != "default" {
					return
				}
				require.Empty(t, l.take())
				strangers := 0
				for a.open(peer) {
					strangers++
				}
				require.Equal(t, 1000, strangers)
				require.Equal(t, []realtime.Limit{realtime.LimitRateUnauthenticated}, l.take())
				time.Sleep(time.Second)
				require.True(t, a.open(peer), "the oldest stranger makes room")
				require.Equal(t, []realtime.Limit{realtime.LimitUnauthenticatedPerIP}, l.take())
				count, err = srv.Realtime.Drivers().All().Count(t.Context())
				require.NoError(t, err)
				require.Equal(t, in, count)
			})
		})
	}
}

// With a small number of unauthenticated connections one address has no more than a part of them
// by default.
func TestLimits_UnauthenticatedPerIPFollows(t *testing.T) {
	for total, most := range map[int]int{5000: 500, 300: 100, 50_000: 1000, -1: 1000} {
		t.Run(fmt.Sprint(total), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				l := &limitRecorder{}
				srv := realtimetest.NewServer(t, l.options, func(o *realtime.Options) {
					o.Limits.Unauthenticated, o.Rates.Unauthenticated.PerSecond = total, -1
				})
				a := &attacker{srv: srv}
				for range most {
					require.True(t, a.open("203.0.113.7:1234"))
				}
				require.Empty(t, l.take())
				require.True(t, a.open("203.0.113.7:1234"))
				require.Equal(t, []realtime.Limit{realtime.LimitUnauthenticatedPerIP}, l.take())
			})
		})
	}
}

// The client's address behind proxies: of two requests with the same one the second is refused.
func TestServer_Addresses(t *testing.T) {
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
					status, _ := openSession(t, srv, "polling", header...)
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

// Without TrustedProxies a client cannot choose its address.
func TestOptions_TrustedProxies_Unknown(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Unlimited, o.Limits.ConnectionsPerIP = false, 1 })
		status, _ := openSession(t, srv, "polling", "X-Forwarded-For", "203.0.113.7")
		require.Equal(t, http.StatusOK, status)
		status, _ = openSession(t, srv, "polling", "X-Forwarded-For", "203.0.113.8")
		require.Equal(t, http.StatusTooManyRequests, status)
	})
}
