// A JWTVerifier whose keys come from a server.

package realtime_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// The search for a key ends with ctx. The token does not count as invalid then.
func TestJWTVerifier_HeedsContext(t *testing.T) {
	t.Parallel()
	secret := []byte("0123456789abcdef0123456789abcdef")
	token := realtimetest.MintJWT(secret, map[string]any{"sub": "u1", "sid": "s1", "exp": time.Now().Add(time.Hour).Unix()})
	slow := func(ctx context.Context) jwt.Keyfunc {
		return func(*jwt.Token) (any, error) {
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(time.Minute):
				return secret, nil
			}
		}
	}
	for name, key := range map[string]any{
		"jwt.Keyfunc": slow,
		"func":        func(ctx context.Context) func(*jwt.Token) (any, error) { return slow(ctx) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := newVerifier(t, key, realtime.JWTOptions{Methods: []string{"HS256"}})
				token := realtimetest.MintJWT(secret, map[string]any{"sub": "u1", "sid": "s1", "exp": time.Now().Add(time.Hour).Unix()})
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				begun := time.Now()
				_, err := v.VerifyToken(ctx, token, "/drivers")
				require.ErrorIs(t, err, context.DeadlineExceeded)
				require.NotErrorIs(t, err, realtime.ErrTokenInvalid)
				require.Equal(t, time.Second, time.Since(begun))
				claims, err := v.VerifyToken(t.Context(), token, "/drivers")
				require.NoError(t, err)
				require.Equal(t, "u1", claims.Subject)
			})
		})
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	v := newVerifier(t, secret, realtime.JWTOptions{Methods: []string{"HS256"}})
	_, err := v.VerifyToken(ended, token, "/drivers")
	require.ErrorIs(t, err, context.Canceled)
	var none func(context.Context) jwt.Keyfunc
	_, err = realtime.NewJWTVerifier(none, realtime.JWTOptions{Methods: []string{"HS256"}})
	require.ErrorContains(t, err, "nil func(context.Context) jwt.Keyfunc")
}
