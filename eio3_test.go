// EIO3 clients: how they log in, and what they may do. internal/engineio tests the wire format,
// and e2e has real clients.

package realtime_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// oldClient is a client of Engine.IO 3 that polls.
type oldClient struct {
	t    *testing.T
	http *http.Client
	url  string
}

func dialOld(t *testing.T, srv *realtimetest.Server, query string, header http.Header) *oldClient {
	t.Helper()
	c := &oldClient{t: t, http: srv.HTTPClient(), url: srv.URL() + realtime.Path + "?EIO=3&transport=polling" + query}
	open := c.do(http.MethodGet, "", header)
	_, rest, ok := strings.Cut(open, `"sid":"`)
	require.True(t, ok, open)
	sid, _, _ := strings.Cut(rest, `"`)
	c.url = srv.URL() + realtime.Path + "?EIO=3&transport=polling&sid=" + sid
	require.Equal(t, "2:40", c.poll(), "it is connected to / at once")
	return c
}

func (c *oldClient) do(method, body string, header http.Header) string {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), method, c.url, strings.NewReader(body))
	require.NoError(c.t, err)
	if header != nil {
		r.Header = header
	}
	resp, err := c.http.Do(r)
	require.NoError(c.t, err)
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	require.NoError(c.t, err)
	return string(b)
}

func (c *oldClient) poll() string { c.t.Helper(); return c.do(http.MethodGet, "", nil) }

func (c *oldClient) send(packet string) {
	c.t.Helper()
	require.Equal(c.t, "ok", c.do(http.MethodPost, fmt.Sprintf("%d:%s", len(packet), packet), nil))
}

const oldRefusal = `4/drivers,{"message":"%s","data":{"code":"%s"}}`

func TestEIO3_Tokens(t *testing.T) {
	const valid, other = "the-token-of-d1", "the-token-of-nobody"
	bearer := func(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }
	missing, invalid := fmt.Sprintf(oldRefusal, "Missing token", "missing_token"), fmt.Sprintf(oldRefusal, "Invalid token", "invalid_token")
	const connected = "0/drivers,"
	for _, c := range []struct {
		name, url, connect string
		header             http.Header
		strict, lenient    string // the answer without and with LegacyQueryToken
	}{
		{name: "none", strict: missing, lenient: missing},
		{name: "header", header: bearer(valid), strict: connected, lenient: connected},
		{name: "URL", url: "&token=" + valid, strict: missing, lenient: connected},
		{name: "CONNECT", connect: "?token=" + valid, strict: missing, lenient: connected},
		{name: "with scheme", url: "&token=Bearer%20" + valid, strict: missing, lenient: connected},
		{name: "escaped", connect: "?a=1&token=" + url.QueryEscape("bearer "+valid), strict: missing, lenient: connected},
		{name: "header before URL", header: bearer(valid), url: "&token=" + other, strict: connected, lenient: connected},
		{name: "CONNECT before header", header: bearer(other), connect: "?token=" + valid, strict: invalid, lenient: connected},
		{name: "CONNECT before URL", url: "&token=" + other, connect: "?token=" + valid, strict: missing, lenient: connected},
		{name: "the first of several", connect: "?token=" + valid + "&token=" + other, strict: missing, lenient: connected},
		{name: "empty", connect: "?token=", url: "&token=", strict: missing, lenient: missing},
		{name: "malformed", connect: "?token=%zz", strict: missing, lenient: missing},
		{name: "too long in CONNECT", connect: "?token=" + strings.Repeat("x", 8<<10+1), strict: missing, lenient: invalid},
		{name: "too long in URL", url: "&token=" + strings.Repeat("x", 8<<10+1), strict: missing, lenient: invalid},
		{name: "wrong", url: "&token=" + other, strict: missing, lenient: invalid},
	} {
		for lenient, want := range map[bool]string{false: c.strict, true: c.lenient} {
			t.Run(fmt.Sprintf("%s/%v", c.name, lenient), func(t *testing.T) {
				inBubble(t, func(t *testing.T) {
					var log bytes.Buffer
					srv := realtimetest.NewServer(t, func(o *realtime.Options) {
						o.Compat.AllowEIO3, o.Compat.LegacyQueryToken = true, lenient
						o.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
					})
					srv.Login("d1", realtime.UserDriver)
					srv.Tokens.Set(valid, realtime.Claims{Subject: "d1", SessionID: realtimetest.SessionID("d1"), ExpiresAt: time.Now().Add(time.Hour)})
					client := dialOld(t, srv, c.url, c.header)
					client.send("40/drivers" + c.connect)
					_, packet, _ := strings.Cut(client.poll(), ":4")
					if want == connected {
						require.True(t, strings.HasPrefix(packet, connected), packet)
						require.Contains(t, packet, `42/drivers,["hello",{"ok":true,"nsp":"/drivers"`)
					} else {
						require.Equal(t, want, packet)
					}
					srv.Close()
					require.NotContains(t, log.String(), valid)
					require.NotContains(t, log.String(), other)
				})
			})
		}
	}
}

// The query token of a client that could send it in the payload is ignored.
func TestEIO3_QueryTokensOfNewClients(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Compat.AllowEIO3, o.Compat.LegacyQueryToken = true, true })
		token := srv.Login("d1", realtime.UserDriver)
		c := &oldClient{t: t, http: srv.HTTPClient(), url: srv.URL() + realtime.Path + "?EIO=4&transport=polling&token=" + token}
		_, rest, _ := strings.Cut(c.do(http.MethodGet, "", nil), `"sid":"`)
		sid, _, _ := strings.Cut(rest, `"`)
		c.url = srv.URL() + realtime.Path + "?EIO=4&transport=polling&sid=" + sid
		require.Equal(t, "ok", c.do(http.MethodPost, "40/drivers?token="+token+",", nil))
		require.Equal(t, "4"+fmt.Sprintf(oldRefusal, "Missing token", "missing_token"), c.poll())
	})
}

// A connection that is only in / is closed like one without a namespace.
func TestEIO3_ClientWithoutNamespace(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Compat.AllowEIO3 = true })
		c := dialOld(t, srv, "", nil)
		c.send(`420["driver:location:ping",{}]`) // no handler receives it
		c.send("40")
		began := time.Now()
		require.Equal(t, "1:1", c.poll())
		require.InDelta(t, 15, time.Since(began).Seconds(), 1)
	})
}

func TestEIO3_OffByDefault(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		c := &oldClient{t: t, http: srv.HTTPClient(), url: srv.URL() + realtime.Path + "?EIO=3&transport=polling"}
		require.JSONEq(t, `{"code":5,"message":"Unsupported protocol version"}`, c.do(http.MethodGet, "", nil))
	})
	_, err := realtime.New(realtime.Options{
		Tokens: &realtimetest.Tokens{}, Users: &realtimetest.Users{}, Sessions: &realtimetest.Sessions{}, Compat: realtime.Compat{LegacyQueryToken: true},
	})
	require.ErrorContains(t, err, "LegacyQueryToken")
}

// EIO3 and newer clients of one user receive the same events, and are counted and revoked
// together.
func TestEIO3_BesideEIO4(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Compat.AllowEIO3 = true })
		recent := srv.Passenger(t, "p1")
		old := dialOld(t, srv, "", http.Header{"Authorization": {"Bearer " + srv.Login("p1", realtime.UserPassenger)}})
		unrelated := dialOld(t, srv, "", http.Header{"Authorization": {"Bearer " + srv.Login("p2", realtime.UserPassenger)}})
		for _, c := range []*oldClient{old, unrelated} {
			c.send("40/passengers,")
			require.Contains(t, c.poll(), `"hello"`)
		}
		srv.Publish(t, realtime.TripRequested{TripID: "t1", PassengerID: "p1"})
		require.Equal(t, "t1", realtimetest.Expect(t, recent, realtime.EventTripRequested).TripID)
		require.Contains(t, old.poll(), `42/passengers,["trip:requested",{`)
		srv.Publish(t, realtime.UserAccessChanged{UserID: "p1", Reason: "banned"})
		received := old.poll()
		require.Contains(t, received, `"auth:session_revoked"`)
		require.True(t, strings.HasSuffix(received, ":41/passengers,"), received)
		require.Equal(t, "1:1", old.poll())
		srv.Publish(t, realtime.TripRequested{TripID: "t2", PassengerID: "p2"})
		body := unrelated.poll()
		require.Contains(t, body, `"t2"`)
		require.NotContains(t, body, `"t1"`)
	})
}
