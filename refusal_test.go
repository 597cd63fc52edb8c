// The cause of a refusal: the log says what is wrong with a token, and where a missing one is.

package realtime_test

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// claimsOf returns the claims of a token that expires in a minute, with changes. A nil value
// removes a claim.
func claimsOf(changes map[string]any) string {
	claims := map[string]any{"sub": "u1", "sid": "s1", "iss": "rides", "aud": "drivers", "token_use": "access", "exp": time.Now().Add(time.Minute).Unix()}
	for name, v := range changes {
		if claims[name] = v; v == nil {
			delete(claims, name)
		}
	}
	b, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// What a verifier with all its options says of each bad token.
func TestRefusal_CauseOfABadToken(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		keys := jwt.Keyfunc(func(tok *jwt.Token) (any, error) {
			switch tok.Header["kid"] {
			case "k1":
				return jwtSecret, nil
			case "ed":
				return ed25519.PublicKey(make([]byte, ed25519.PublicKeySize)), nil
			}
			return nil, errors.New("not in the set")
		})
		logs, log := recordLogs(t)
		srv := realtimetest.NewServer(t, log, func(o *realtime.Options) {
			o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
			o.Tokens = newVerifier(t, keys, realtime.JWTOptions{
				Methods: []string{"HS256"}, Issuer: "rides", Audiences: map[string]string{"/drivers": "drivers"},
				Claims: map[string]string{"token_use": "access"}, MaxLength: 2000,
			})
		})
		good := `{"alg":"HS256","kid":"k1"}`
		for _, c := range []struct {
			header, claims string
			code           realtime.Code
			cause          string
		}{
			{good, claimsOf(map[string]any{"iss": "others"}), realtime.CodeInvalidToken, "wrong issuer"},
			{good, claimsOf(map[string]any{"iss": nil}), realtime.CodeInvalidToken, "wrong issuer"},
			{good, claimsOf(map[string]any{"aud": "passengers"}), realtime.CodeInvalidToken, "wrong audience"},
			{good, claimsOf(map[string]any{"exp": nil}), realtime.CodeInvalidToken, "no exp"},
			{good, claimsOf(map[string]any{"exp": time.Now().UnixMilli()}), realtime.CodeInvalidToken, "exp is not a number of seconds since 1970"},
			{good, claimsOf(map[string]any{"exp": time.Now().Add(-3 * time.Minute).Unix()}), realtime.CodeTokenExpired, "3m0s ago"},
			{good, claimsOf(map[string]any{"nbf": time.Now().Add(time.Minute).Unix()}), realtime.CodeInvalidToken, "nbf is in the future, or no number"},
			{good, claimsOf(map[string]any{"typ": "refresh"}), realtime.CodeInvalidToken, "a refresh token"},
			{good, claimsOf(map[string]any{"token_use": "id"}), realtime.CodeInvalidToken, `wrong claim "token_use"`},
			{good, claimsOf(map[string]any{"sub": nil}), realtime.CodeMissingClaims, "sub is missing or not a string"},
			{good, claimsOf(map[string]any{"sid": nil}), realtime.CodeMissingClaims, "sid is missing or not a string; a host without login sessions sets Options.TokenSessions"},
			{good, claimsOf(map[string]any{"sub": 42}), realtime.CodeMissingClaims, "sub is missing or not a string"},
			{good, claimsOf(map[string]any{"sub": strings.Repeat("x", 257)}), realtime.CodeMissingClaims, "sub is longer than 256 bytes, or contains NUL or invalid UTF-8"},
			{good, claimsOf(map[string]any{"sid": "a\x00b"}), realtime.CodeMissingClaims, "sid is longer than 256 bytes, or contains NUL or invalid UTF-8"},
			{`{"alg":"HS256","kid":"k2"}`, claimsOf(nil), realtime.CodeInvalidToken, "unknown kid"},
			{`{"alg":"HS256"}`, claimsOf(nil), realtime.CodeInvalidToken, "no kid, and no key without one"},
			{`{"alg":"HS256","kid":"ed"}`, claimsOf(nil), realtime.CodeInvalidToken, "the Keyfunc returned no key for the token's algorithm"},
			{`{"alg":"HS384","kid":"k1"}`, claimsOf(nil), realtime.CodeInvalidToken, "algorithm HS384 is not in JWTOptions.Methods"},
			{`{"alg":"none","kid":"k1"}`, claimsOf(nil), realtime.CodeInvalidToken, "algorithm none is not in JWTOptions.Methods"},
			{`{"alg":"HS999","kid":"k1"}`, claimsOf(nil), realtime.CodeInvalidToken, "unknown algorithm"},
			{`{"alg":"HS256","kid":"k1","crit":["b64"]}`, claimsOf(nil), realtime.CodeInvalidToken, "critical header extension"},
			{`{"alg":`, claimsOf(nil), realtime.CodeInvalidToken, "malformed"},
		} {
			token := logs.secret(sign(jwtSecret, c.header, c.claims))
			_, err := srv.Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Token(token), realtimetest.Header("X-Forwarded-For", "203.0.113.7"))
			require.ErrorContains(t, err, string(c.code), c.cause)
			lines := logs.lines(t, logRefused)
			line := lines[len(lines)-1]
			require.Equal(t, string(c.code), line["code"])
			require.Equal(t, c.cause, line["cause"])
			require.Equal(t, "203.0.113.7", line["address"])
		}
		token := logs.secret(sign([]byte("another secret of thirty-two bytes"), good, claimsOf(nil)))
		_, err := srv.Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Token(token))
		require.Error(t, err)
		lines := logs.lines(t, logRefused)
		require.Equal(t, "bad signature", lines[len(lines)-1]["cause"])
	})
}

// A token that the server does not read, because it is in another place.
func TestRefusal_CauseOfAMissingToken(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		logs, log := recordLogs(t)
		srv := realtimetest.NewServer(t, log, func(o *realtime.Options) { o.Compat.AllowEIO3 = true })
		secret := logs.secret("a-token-in-the-wrong-place")
		for _, c := range []struct {
			query, header, connect string
			cause                  string
		}{
			{"EIO=4", "", "40/drivers,", "no auth, and no Authorization header"},
			{"EIO=4", "", `40/drivers,{"accessToken":"` + secret + `"}`, "auth has no token, and there is no Authorization header"},
			{"EIO=4", "", `40/drivers,{"token":""}`, "auth has no token, and there is no Authorization header"},
			{"EIO=4", "Token " + secret, "40/drivers,", "the Authorization header is not a Bearer token"},
			{"EIO=4&token=" + secret, "", "40/drivers,", "it is in the query: send it as auth.token"},
			{"EIO=3&token=" + secret, "", "40/drivers", "it is in the query: set Options.Compat.LegacyQueryToken"},
			{"EIO=3", "", "40/drivers?token=" + secret, "it is in the query: set Options.Compat.LegacyQueryToken"},
			{"EIO=3", "", "40/drivers", "no Authorization header"},
		} {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL()+realtime.Path+"?transport=websocket&"+c.query, nil)
			require.NoError(t, err)
			r.Header.Set("Connection", "Upgrade")
			r.Header.Set("Upgrade", "websocket")
			r.Header.Set("Sec-WebSocket-Version", "13")
			r.Header.Set("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==")
			if c.header != "" {
				r.Header.Set("Authorization", c.header)
			}
			res, err := srv.HTTPClient().Do(r)
			require.NoError(t, err)
			readRaw(t, res).send(t, c.connect)
			lines := logs.lines(t, logRefused)
			line := lines[len(lines)-1]
			require.Equal(t, "missing_token", line["code"])
			require.Equal(t, c.cause, line["cause"], c.query+" "+c.connect)
		}
	})
}

// A refused auth:refresh is logged like a refused CONNECT.
func TestRefusal_CauseOfARefresh(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		logs, log := recordLogs(t)
		srv := realtimetest.NewServer(t, log, func(o *realtime.Options) {
			o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
		})
		driver := srv.Driver(t, "d1", realtimetest.Header("X-Forwarded-For", "203.0.113.7"))
		for _, c := range []struct{ token, code, cause string }{
			{"nonsense-that-is-long", "invalid_token", ""},
			{srv.Login("d2", realtime.UserDriver), "forbidden", "the token belongs to another user"},
		} {
			_, err := realtimetest.Call(t.Context(), driver, realtime.AuthRefresh, realtime.TokenRefresh{Token: logs.secret(c.token)})
			require.Error(t, err)
			synctest.Wait()
			lines := logs.lines(t, "realtime: auth:refresh refused")
			line := lines[len(lines)-1]
			require.Equal(t, c.code, line["code"])
			require.Equal(t, "d1", line["user"])
			require.Equal(t, "203.0.113.7", line["address"])
			if c.cause != "" {
				require.Equal(t, c.cause, line["cause"])
			}
		}
	})
}
