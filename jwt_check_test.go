// What New asks a JWTVerifier about itself.

package realtime

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
)

// TestJWTVerifierCheck: New asks a verifier by these two methods, which are not
// for the host.
func TestJWTVerifierCheck(t *testing.T) {
	t.Parallel()
	hs256 := JWTOptions{Methods: []string{"HS256"}}
	public, _, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	secret := func(n int) []byte { return make([]byte, n) }
	keyfunc := func(*jwt.Token) (any, error) { return secret(1), nil }
	tests := map[string]struct {
		key      any
		o        JWTOptions
		mistakes []string
		warnings []string // parts of them
	}{
		"32 bytes":         {key: secret(32), o: hs256},
		"31 bytes":         {key: secret(31), o: hs256, warnings: []string{"31 bytes"}},
		"one byte":         {key: secret(1), o: hs256, warnings: []string{"1 bytes"}},
		"no secret":        {key: secret(0), o: hs256, mistakes: []string{"JWT secret is empty"}},
		"Ed25519":          {key: public, o: JWTOptions{Methods: []string{"EdDSA"}}},
		"ECDSA":            {key: &curve.PublicKey, o: JWTOptions{Methods: []string{"ES256"}}},
		"Keyfunc":          {key: jwt.Keyfunc(keyfunc), o: hs256},
		"func":             {key: keyfunc, o: hs256},
		"full":             {key: secret(32), o: JWTOptions{Methods: []string{"HS256", "HS512"}, Leeway: time.Minute, Audiences: map[string]string{"/drivers": "d"}}},
		"text for a key":   {key: "secret", o: hs256, mistakes: []string{"JWT key is a string"}},
		"another's method": {key: secret(32), o: JWTOptions{Methods: []string{"RS256"}}, mistakes: []string{"RS256 does not fit"}},
		"another curve":    {key: &curve.PublicKey, o: JWTOptions{Methods: []string{"ES384"}}, mistakes: []string{"ES384 does not fit"}},
		"all at once": {
			key: secret(8),
			o:   JWTOptions{Methods: []string{"none", "ES256"}, Leeway: 61 * time.Second, MaxLength: -1, Audiences: map[string]string{"drivers": ""}},
			mistakes: []string{
				"ES256 does not fit", `"none" is unknown or unsafe`, "Leeway is 1m1s", "MaxLength is -1",
				`"drivers" is no namespace; write "/drivers"`, `empty audience for "drivers"`,
			},
			warnings: []string{"8 bytes"},
		},
	}
	for name, test := range tests {
		v := NewJWTVerifier(test.key, test.o)
		if test.mistakes == nil {
			require.NoError(t, v.check(), name)
		}
		for _, m := range test.mistakes {
			require.ErrorContains(t, v.check(), m, name)
		}
		require.Len(t, v.warnings(), len(test.warnings), name)
		for i, w := range test.warnings {
			require.Contains(t, v.warnings()[i], w, name)
		}
		_, err := v.VerifyToken(t.Context(), "token", "/drivers")
		if test.mistakes != nil {
			require.Equal(t, v.check(), err, "%s: a mistaken verifier accepts nothing, and blames no token", name)
		} else {
			require.ErrorIs(t, err, ErrTokenInvalid, name)
		}
	}
}
