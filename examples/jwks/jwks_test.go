package jwks_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/examples/jwks"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// issuer signs tokens, and answers requests for its keys.
type issuer struct {
	mu       sync.Mutex // guards the fields below
	set      []map[string]string
	fails    error
	status   int
	requests int
	delay    time.Duration
}

func (i *issuer) RoundTrip(r *http.Request) (*http.Response, error) {
	i.mu.Lock()
	i.requests++
	set, fails, status, delay := i.set, i.fails, i.status, i.delay
	i.mu.Unlock()
	select {
	case <-time.After(delay):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	body, err := json.Marshal(map[string]any{"keys": set})
	if err = errors.Join(fails, err); err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: max(status, http.StatusOK), Body: io.NopCloser(bytes.NewReader(body)), Request: r}, nil
}

func (i *issuer) publish(set ...map[string]string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.set = set
}

func (i *issuer) fail(err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.fails = err
}

func (i *issuer) asked() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.requests
}

func text(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// signer is a private key with its name.
type signer struct {
	kid    string
	method jwt.SigningMethod
	key    crypto.Signer
}

func newSigner(t *testing.T, kid string) signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return signer{kid, jwt.SigningMethodES256, key}
}

func (s signer) public(t *testing.T) map[string]string {
	t.Helper()
	switch k := s.key.Public().(type) {
	case *ecdsa.PublicKey:
		b, err := k.Bytes()
		require.NoError(t, err)
		return map[string]string{"kty": "EC", "kid": s.kid, "use": "sig", "crv": k.Params().Name, "x": text(b[1 : 1+len(b)/2]), "y": text(b[1+len(b)/2:])}
	case *rsa.PublicKey:
		return map[string]string{"kty": "RSA", "kid": s.kid, "n": text(k.N.Bytes()), "e": text(big.NewInt(int64(k.E)).Bytes())}
	case ed25519.PublicKey:
		return map[string]string{"kty": "OKP", "kid": s.kid, "crv": "Ed25519", "x": text(k)}
	}
	t.Fatal("unknown kind")
	return nil
}

func (s signer) token(t *testing.T) string {
	t.Helper()
	token := jwt.NewWithClaims(s.method, jwt.MapClaims{"sub": "ana", "sid": "s1", "exp": time.Now().Add(time.Hour).Unix()})
	token.Header["kid"] = s.kid
	signed, err := token.SignedString(s.key)
	require.NoError(t, err)
	return signed
}

// verifier returns a function that verifies a token with the keys of an issuer.
func verifier(t *testing.T, i *issuer) func(token string) error {
	t.Helper()
	keys := jwks.New("https://login.example.com/jwks", &http.Client{Transport: i})
	v, err := realtime.NewJWTVerifier(keys.Keyfunc, realtime.JWTOptions{Methods: []string{"ES256", "ES384", "ES512", "RS256", "EdDSA"}})
	require.NoError(t, err)
	return func(token string) error {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err := v.VerifyToken(ctx, token, realtime.NamespaceDrivers)
		return err
	}
}

func TestKeys_EveryKind(t *testing.T) {
	t.Parallel()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	require.NoError(t, err)
	all := []signer{newSigner(t, "ec"), {"p521", jwt.SigningMethodES512, p521}, {"rsa", jwt.SigningMethodRS256, rsaKey}, {"ed", jwt.SigningMethodEdDSA, edKey}}
	i := &issuer{}
	var set []map[string]string
	for _, s := range all {
		set = append(set, s.public(t))
	}
	i.publish(set...)
	verify := verifier(t, i)
	for _, s := range all {
		require.NoError(t, verify(s.token(t)), s.kid)
	}
	require.Equal(t, 1, i.asked())
}

func TestKeys_BadKeysAreIgnored(t *testing.T) {
	t.Parallel()
	good, other := newSigner(t, "good"), newSigner(t, "x")
	change := func(field, value string) map[string]string {
		w := other.public(t)
		w[field] = value
		return w
	}
	i := &issuer{}
	i.publish(
		map[string]string{"kty": "oct", "kid": "x"}, map[string]string{"kty": "RSA", "kid": "x", "n": "AQ", "e": "Aw"}, map[string]string{"kty": "OKP", "kid": "x", "crv": "Ed25519", "x": "AQ"},
		change("use", "enc"), change("crv", "P-192"), change("x", "!"), change("x", text(make([]byte, 200))), change("y", text([]byte{1})),
		good.public(t),
	)
	verify := verifier(t, i)
	require.NoError(t, verify(good.token(t)))
	require.ErrorIs(t, verify(other.token(t)), realtime.ErrTokenInvalid)
}

// A token of the new key is accepted at once; one of the old key until it is removed and maxAge has
// passed.
func TestKeys_Rotation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		old, next, i := newSigner(t, "2026-01"), newSigner(t, "2026-02"), &issuer{}
		i.publish(old.public(t))
		verify := verifier(t, i)
		require.NoError(t, verify(old.token(t)))

		time.Sleep(time.Minute)
		i.publish(old.public(t), next.public(t))
		require.NoError(t, verify(next.token(t)))
		require.Equal(t, 2, i.asked())

		i.publish(next.public(t))
		require.NoError(t, verify(old.token(t)), "the set was read a moment ago")
		time.Sleep(11 * time.Minute)
		require.ErrorIs(t, verify(old.token(t)), realtime.ErrTokenInvalid)
		require.NoError(t, verify(next.token(t)))
	})
}

// Tokens with invented names of keys do not make the server ask.
func TestKeys_InventedNames(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		good, invented, i := newSigner(t, "good"), newSigner(t, "invented"), &issuer{delay: time.Second}
		i.publish(good.public(t))
		verify := verifier(t, i)
		token := invented.token(t)
		for range 20 {
			go func() { _ = verify(token) }()
		}
		require.NoError(t, verify(good.token(t)))
		for range 1000 {
			require.ErrorIs(t, verify(invented.token(t)), realtime.ErrTokenInvalid)
		}
		require.Equal(t, 1, i.asked())
		time.Sleep(time.Minute)
		require.ErrorIs(t, verify(invented.token(t)), realtime.ErrTokenInvalid)
		require.Equal(t, 2, i.asked())
	})
}

// While the issuer does not answer, nobody is refused: known keys are used, and a token of another
// key is undecided.
func TestKeys_IssuerIsAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		good, next, i := newSigner(t, "good"), newSigner(t, "next"), &issuer{}
		i.publish(good.public(t), next.public(t))
		i.fail(errors.New("connection refused"))
		verify := verifier(t, i)
		err := verify(good.token(t))
		require.ErrorIs(t, err, realtime.ErrUnavailable)
		require.NotErrorIs(t, err, realtime.ErrTokenInvalid)

		i.fail(nil)
		i.publish(good.public(t))
		time.Sleep(time.Minute)
		require.NoError(t, verify(good.token(t)))

		i.fail(errors.New("connection refused"))
		time.Sleep(time.Hour)
		require.NoError(t, verify(good.token(t)), "an old key is better than none")
		require.ErrorIs(t, verify(next.token(t)), realtime.ErrUnavailable)
	})
}

func TestKeys_BadAnswers(t *testing.T) {
	t.Parallel()
	s := newSigner(t, "s")
	for name, i := range map[string]*issuer{
		"a status": {status: 503, set: []map[string]string{s.public(t)}},
		"no keys":  {},
	} {
		require.ErrorIs(t, verifier(t, i)(s.token(t)), realtime.ErrUnavailable, name)
	}
}

// A caller that does not wait any longer does not end the request of the others.
func TestKeys_CallersEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, i := newSigner(t, "s"), &issuer{delay: 2 * time.Second}
		i.publish(s.public(t))
		keys := jwks.New("https://login.example.com/jwks", &http.Client{Transport: i})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		token := &jwt.Token{Header: map[string]any{"kid": "s"}}
		_, err := keys.Keyfunc(ctx)(token)
		require.ErrorIs(t, err, realtime.ErrUnavailable)
		_, err = keys.Keyfunc(t.Context())(token)
		require.NoError(t, err)
		require.Equal(t, 1, i.asked())
	})
}
