// Login sessions that are tokens: Options.TokenSessions.

package realtime_test

import (
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// newTokenSessions starts a server without login sessions. mint returns a token with these claims.
func newTokenSessions(t *testing.T) (srv *realtimetest.Server, mint func(claims map[string]any) string) {
	t.Helper()
	srv = realtimetest.NewServer(t, func(o *realtime.Options) {
		o.Tokens, o.Sessions, o.TokenSessions = newVerifier(t, jwtSecret, jwtOptions), nil, true
	})
	srv.Users.Set(realtime.User{ID: "d1", Type: realtime.UserDriver, Active: true})
	return srv, func(claims map[string]any) string {
		all := map[string]any{"sub": "d1", "exp": time.Now().Add(time.Hour)}
		maps.Copy(all, claims)
		return realtimetest.MintJWT(jwtSecret, all)
	}
}

// dialed connects with a token, and returns the client and its login session.
func dialed(t *testing.T, srv *realtimetest.Server, token string) (c *realtimetest.Client, sid string) {
	t.Helper()
	c, err := srv.Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Token(token))
	require.NoError(t, err)
	return c, sessionsOf(t, srv.Realtime.Drivers().To(realtime.DriverRoom("d1")))[c.ID()]
}

func TestTokenSessions_IDs(t *testing.T) {
	for name, test := range map[string]struct {
		claims map[string]any
		want   string // empty: a hash
	}{
		"sid":             {map[string]any{"sid": "s1", "jti": "j1"}, "s1"},
		"jti":             {map[string]any{"jti": "j1"}, "j1"},
		"neither":         {map[string]any{}, ""},
		"a number":        {map[string]any{"jti": 7}, ""},
		"empty":           {map[string]any{"jti": "", "sid": ""}, ""},
		"too long an id":  {map[string]any{"jti": strings.Repeat("j", 300)}, ""},
		"an id with NUL":  {map[string]any{"jti": "j\x001"}, ""},
		"sid of no use":   {map[string]any{"sid": 7, "jti": "j1"}, "j1"},
		"issued at 0.5 s": {map[string]any{"iat": 0.5}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				srv, mint := newTokenSessions(t)
				token := mint(test.claims)
				_, sid := dialed(t, srv, token)
				if test.want != "" {
					require.Equal(t, test.want, sid)
					return
				}
				require.Len(t, sid, 43)
				require.NotContains(t, token, sid)
				_, again := dialed(t, srv, token)
				require.Equal(t, sid, again, "the same token")
				_, other := dialed(t, srv, mint(map[string]any{"other": true}))
				require.NotEqual(t, sid, other)
			})
		})
	}
}

// The session lasts as long as the token, sweeps included, and auth:refresh replaces it. A revocation
// ends its sockets, and a missing sub is refused as ever.
func TestTokenSessions_Course(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv, mint := newTokenSessions(t)
		first, _ := dialed(t, srv, mint(map[string]any{"jti": "j1"}))
		second, _ := dialed(t, srv, mint(map[string]any{"jti": "j2"}))
		third, _ := dialed(t, srv, mint(map[string]any{"jti": "j3"}))
		time.Sleep(30 * time.Minute) // sweeps
		end := time.Now().Add(time.Hour)
		require.Equal(t, refreshed(end), refresh(t, first, refreshWith(mint(map[string]any{"jti": "j4"}))))
		publish(t, srv, realtime.SessionRevoked{SessionID: "j1", UserID: "d1"})
		publish(t, srv, realtime.SessionRevoked{SessionID: "j2", UserID: "d1"})
		require.Equal(t, realtimetest.ReasonServer, second.Disconnected(t))
		synctest.Wait()
		require.True(t, first.Connected())
		require.Equal(t, realtimetest.ReasonTransportClose, third.Within(time.Hour).Disconnected(t), "its token expires")
		realtimetest.Expect(t, third, realtime.EventSessionRevoked)
		realtimetest.Expect(t, third, realtime.EventSessionRevoked)
		realtimetest.Expect(t, third, realtime.EventAuthExpired)
		srv.Users.Set(realtime.User{ID: "d1", Type: realtime.UserDriver})
		waitForSweep()
		require.Equal(t, realtimetest.ReasonServer, first.Disconnected(t), "a sweep still finds a ban")

		_, err := srv.Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Token(mint(map[string]any{"sub": ""})))
		requireRefused(t, err, realtime.CodeMissingClaims, "Missing sub/sid")
	})
}
