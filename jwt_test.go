package realtime_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
)

var (
	jwtSecret  = []byte("a secret of thirty-two bytes, ok")
	jwtOptions = realtime.JWTOptions{Methods: []string{"HS256"}}
)

// sign returns a token of the given header and claims, both JSON texts, so that
// tests can write what no library would.
func sign(secret []byte, header, claims string) string {
	text := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims))
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(text))
	return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

const hs256 = `{"alg":"HS256","typ":"JWT"}`

// TestJWTVerifier_Claims runs in a bubble, where the time is 946684800 at the
// start, that is 2000-01-01T00:00:00Z, and stands still.
func TestJWTVerifier_Claims(t *testing.T) {
	t.Parallel()
	const good = `"sub":"u1","sid":"s1","exp":946684860`
	valid, invalid, expired := error(nil), realtime.ErrTokenInvalid, realtime.ErrTokenExpired
	tokenUse := realtime.JWTOptions{Claims: map[string]string{"token_use": "access"}}
	tests := []struct {
		name   string
		claims string
		o      realtime.JWTOptions
		ns     string
		want   error
	}{
		{name: "good", claims: good, want: valid},
		{name: "extra claims", claims: good + `,"role":"admin","x":{"y":[1]}`, want: valid},

		{name: "exp missing", claims: `"sub":"u1","sid":"s1"`, want: invalid},
		{name: "exp null", claims: `"exp":null`, want: invalid},
		{name: "exp a string", claims: `"exp":"946684860"`, want: invalid},
		{name: "exp true", claims: `"exp":true`, want: invalid},
		{name: "exp a list", claims: `"exp":[946684860]`, want: invalid},
		{name: "exp 1e300", claims: `"exp":1e300`, want: invalid},
		{name: "exp beyond float64", claims: `"exp":1e400`, want: invalid},
		{name: "exp -1e300", claims: `"exp":-1e300`, want: invalid},
		{name: "exp 2^63", claims: `"exp":9223372036854775808`, want: invalid},
		{name: "exp in milliseconds", claims: `"exp":946684860000`, want: invalid},
		{name: "exp zero", claims: `"exp":0`, want: expired},
		{name: "exp negative", claims: `"exp":-1`, want: expired},
		{name: "exp past", claims: `"exp":946684799`, want: expired},
		{name: "exp now", claims: `"exp":946684800`, want: expired},
		{name: "exp a fraction ahead", claims: `"sub":"u1","sid":"s1","exp":946684800.25`, want: valid},
		{name: "exp a fraction behind", claims: `"exp":946684799.75`, want: expired},
		{name: "exp twice, the last wins", claims: `"exp":946684860,"exp":1`, want: expired},
		{name: "leeway never prolongs exp", claims: `"exp":946684800`, o: realtime.JWTOptions{Leeway: time.Minute}, want: expired},

		{name: "EXP", claims: `"EXP":946684860`, want: invalid},
		{name: "Exp beside exp", claims: `"exp":1,"Exp":946684860`, want: expired},

		{name: "nbf now", claims: good + `,"nbf":946684800`, want: valid},
		{name: "nbf within the default leeway", claims: good + `,"nbf":946684805`, want: valid},
		{name: "nbf beyond the default leeway", claims: good + `,"nbf":946684805.5`, want: invalid},
		{name: "nbf within leeway", claims: good + `,"nbf":946684830`, o: realtime.JWTOptions{Leeway: 30 * time.Second}, want: valid},
		{name: "nbf beyond leeway", claims: good + `,"nbf":946684831`, o: realtime.JWTOptions{Leeway: 30 * time.Second}, want: invalid},
		{name: "nbf ahead, no leeway", claims: good + `,"nbf":946684801`, o: realtime.JWTOptions{Leeway: -1}, want: invalid},
		{name: "nbf now, no leeway", claims: good + `,"nbf":946684800`, o: realtime.JWTOptions{Leeway: -1}, want: valid},
		{name: "nbf no number", claims: good + `,"nbf":"1"`, want: invalid},
		{name: "nbf 1e300", claims: good + `,"nbf":1e300`, want: invalid},
		{name: "nbf ahead and expired", claims: `"exp":1,"nbf":946684806`, want: invalid},
		{name: "iat now", claims: good + `,"iat":946684800`, want: valid},
		{name: "iat ahead", claims: good + `,"iat":946684802`, want: valid},
		{name: "iat far ahead, no leeway", claims: good + `,"iat":946771200`, o: realtime.JWTOptions{Leeway: -1}, want: valid},
		{name: "iat no number", claims: good + `,"iat":{}`, want: valid},
		{name: "iat a string", claims: good + `,"iat":"2000-01-01T00:00:00Z"`, want: valid},
		{name: "exp has no leeway", claims: `"exp":946684800,"iat":946684790`, want: expired},

		{name: "issuer", claims: good + `,"iss":"rodando"`, o: realtime.JWTOptions{Issuer: "rodando"}, want: valid},
		{name: "issuer missing", claims: good, o: realtime.JWTOptions{Issuer: "rodando"}, want: invalid},
		{name: "issuer wrong", claims: good + `,"iss":"Rodando"`, o: realtime.JWTOptions{Issuer: "rodando"}, want: invalid},
		{name: "issuer no string", claims: good + `,"iss":["rodando"]`, o: realtime.JWTOptions{Issuer: "rodando"}, want: invalid},
		{name: "issuer an object", claims: good + `,"iss":{}`, o: realtime.JWTOptions{Issuer: "rodando"}, want: invalid},
		{name: "issuer not asked for", claims: good + `,"iss":"x"`, want: valid},
		{name: "issuer wrong and expired", claims: `"exp":1,"iss":"x"`, o: realtime.JWTOptions{Issuer: "rodando"}, want: invalid},

		{name: "audience", claims: good + `,"aud":"admin_panel"`, ns: "/admin", want: valid},
		{name: "audience in a list", claims: good + `,"aud":["driver_app","admin_panel"]`, ns: "/admin", want: valid},
		{name: "audience of another namespace", claims: good + `,"aud":"driver_app"`, ns: "/admin", want: invalid},
		{name: "audience missing", claims: good, ns: "/admin", want: invalid},
		{name: "audience empty list", claims: good + `,"aud":[]`, ns: "/admin", want: invalid},
		{name: "audience list of others", claims: good + `,"aud":[1,null,{},["admin_panel"]]`, ns: "/admin", want: invalid},
		{name: "audience object", claims: good + `,"aud":{"admin_panel":1}`, ns: "/admin", want: invalid},
		{name: "audience wrong and expired", claims: `"exp":1,"aud":"driver_app"`, ns: "/admin", want: invalid},
		{name: "audience not configured here", claims: good + `,"aud":"driver_app"`, ns: "/passengers", want: valid},

		{name: "typ refresh", claims: good + `,"typ":"Refresh"`, want: invalid},
		{name: "type refresh", claims: good + `,"type":"refresh"`, want: invalid},
		{name: "token_type refresh", claims: good + `,"token_type":"refresh"`, want: invalid},
		{name: "token_use refresh", claims: good + `,"token_use":"refresh"`, want: invalid},
		{name: "token_use refresh and expired", claims: `"exp":1,"token_use":"refresh"`, want: invalid},
		{name: "typ JWT", claims: good + `,"typ":"JWT","type":1`, want: valid},
		{name: "claim", claims: good + `,"token_use":"access"`, o: tokenUse, want: valid},
		{name: "claim missing", claims: good, o: tokenUse, want: invalid},
		{name: "claim wrong", claims: good + `,"token_use":"id"`, o: tokenUse, want: invalid},
		{name: "claim in a list", claims: good + `,"token_use":["access"]`, o: tokenUse, want: invalid},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tt.o.Methods = []string{"HS256"}
				tt.o.Audiences = map[string]string{"/admin": "admin_panel", "/drivers": "driver_app"}
				if tt.ns == "" {
					tt.ns = "/passengers"
				}
				v := newVerifier(t, jwtSecret, tt.o)
				got, err := v.VerifyToken(t.Context(), sign(jwtSecret, hs256, "{"+tt.claims+"}"), tt.ns)
				if tt.want != nil {
					require.ErrorIs(t, err, tt.want)
					require.False(t, errors.Is(err, realtime.ErrTokenInvalid) && errors.Is(err, realtime.ErrTokenExpired))
					require.Zero(t, got)
					return
				}
				require.NoError(t, err)
				require.Equal(t, "u1", got.Subject)
				require.Equal(t, "s1", got.SessionID)
				require.True(t, got.ExpiresAt.After(time.Now()))
			})
		})
	}
}

func TestJWTVerifier_IdentityClaims(t *testing.T) {
	t.Parallel()
	v := newVerifier(t, jwtSecret, jwtOptions)
	tests := []struct{ claims, sub, sid string }{
		{`"sub":"u","sid":"s"`, "u", "s"},
		{`"sub":"first","sub":"u","sid":"s"`, "u", "s"},
		{`"sub":"u"`, "u", ""},
		{`"sub":"u","sid":""`, "u", ""},
		{`"sub":1,"sid":["s"]`, "", ""},
		{`"sub":null,"sid":{}`, "", ""},
		{`"Sub":"u","SID":"s","Sid":"s"`, "", ""},
		{`"sub":"u","SUB":"admin","sid":"s","sId":"x"`, "u", "s"},
	}
	for _, tt := range tests {
		got, err := v.VerifyToken(t.Context(), sign(jwtSecret, hs256, `{"exp":4102444800,`+tt.claims+`}`), "/drivers")
		require.NoError(t, err, tt.claims)
		require.Equal(t, realtime.Claims{Subject: tt.sub, SessionID: tt.sid, ExpiresAt: time.Unix(4102444800, 0)}, got, tt.claims)
	}
}

func TestJWTVerifier_Shape(t *testing.T) {
	t.Parallel()
	v := newVerifier(t, jwtSecret, jwtOptions)
	const claims = `{"sub":"u","sid":"s","exp":4102444800}`
	good := sign(jwtSecret, hs256, claims)
	part := strings.Split(good, ".")
	padded := func(n int) string {
		return sign(jwtSecret, hs256, `{"exp":4102444800,"pad":"`+strings.Repeat("a", n)+`"}`)
	}
	var exact string
	for n := 6000; len(exact) < 8192; n++ {
		exact = padded(n)
	}
	require.Len(t, exact, 8192, "no pad gives the length that the test is about")

	bad := map[string]string{
		"empty":                  "",
		"one part":               part[0],
		"two parts":              part[0] + "." + part[1],
		"four parts":             good + ".",
		"no signature":           part[0] + "." + part[1] + ".",
		"cut signature":          good[:len(good)-2],
		"bearer prefix":          "Bearer " + good,
		"dots":                   strings.Repeat(".", 8192),
		"two dots":               "..",
		"one byte too long":      exact + "a",
		"line feed in signature": part[0] + "." + part[1] + "." + part[2][:9] + "\n" + part[2][9:],
		"line break at the end":  good + "\r\n",
		"line feed in claims":    part[0] + "." + part[1][:3] + "\n" + part[1][3:] + "." + part[2],
		"line feed in header":    part[0][:3] + "\n" + part[0][3:] + "." + part[1] + "." + part[2],
		"padding":                part[0] + "." + part[1] + "." + part[2] + "=",
		"not base64":             part[0] + ".%%%." + part[2],
		"other secret":           sign([]byte("another secret of thirty-two byt"), hs256, claims),
		"other secret, expired":  sign([]byte("another secret of thirty-two byt"), hs256, `{"exp":1}`),
		"other claims":           part[0] + "." + strings.Split(sign(nil, hs256, `{"exp":4102444801}`), ".")[1] + "." + part[2],
		"alg none":               sign(jwtSecret, `{"alg":"none"}`, claims),
		"alg none, unsigned":     base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + part[1] + ".",
		"alg None":               sign(jwtSecret, `{"alg":"None"}`, claims),
		"alg lower case":         sign(jwtSecret, `{"alg":"hs256"}`, claims),
		"alg not pinned":         sign(jwtSecret, `{"alg":"HS384"}`, claims),
		"alg of another family":  sign(jwtSecret, `{"alg":"RS256"}`, claims),
		"alg unknown":            sign(jwtSecret, `{"alg":"XX"}`, claims),
		"alg missing":            sign(jwtSecret, `{"typ":"JWT"}`, claims),
		"alg no string":          sign(jwtSecret, `{"alg":["HS256"]}`, claims),
		"Alg":                    sign(jwtSecret, `{"Alg":"HS256"}`, claims),
		"crit":                   sign(jwtSecret, `{"alg":"HS256","crit":["exp"]}`, claims),
		"crit null":              sign(jwtSecret, `{"alg":"HS256","crit":null}`, claims),
		"header null":            sign(jwtSecret, `null`, claims),
		"header no JSON":         sign(jwtSecret, `{`, claims),
		"claims null":            sign(jwtSecret, hs256, `null`),
		"claims empty":           sign(jwtSecret, hs256, `{}`),
		"claims a list":          sign(jwtSecret, hs256, `[]`),
		"claims a string":        sign(jwtSecret, hs256, `"exp"`),
		"claims no JSON":         sign(jwtSecret, hs256, `{"exp":`),
		"claims followed by":     sign(jwtSecret, hs256, claims+`{}`),
		"claims NaN":             sign(jwtSecret, hs256, `{"exp":NaN}`),
		"claims nested too deep": sign(jwtSecret, hs256, strings.Repeat("[", 4000)),
	}
	for name, token := range bad {
		_, err := v.VerifyToken(t.Context(), token, "/drivers")
		require.ErrorIs(t, err, realtime.ErrTokenInvalid, name)
		require.NotErrorIs(t, err, realtime.ErrTokenExpired, name)
	}

	ignored := sign(jwtSecret, `{"alg":"HS256","jku":"https://evil.example","jwk":{"kty":"oct"},"x5u":"https://evil.example","kid":"../../x"}`, claims)
	for _, token := range []string{good, exact, ignored} {
		_, err := v.VerifyToken(t.Context(), token, "/drivers")
		require.NoError(t, err)
	}
	short := newVerifier(t, jwtSecret, realtime.JWTOptions{Methods: []string{"HS256"}, MaxLength: len(good) - 1})
	_, err := short.VerifyToken(t.Context(), good, "/drivers")
	require.ErrorIs(t, err, realtime.ErrTokenInvalid)
}

// No error may carry what the peer wrote: errors end up in logs.
func TestJWTVerifier_ErrorsQuoteNothing(t *testing.T) {
	t.Parallel()
	const marker = "MARKER"
	encoded := base64.RawURLEncoding.EncodeToString([]byte(marker))
	v := newVerifier(t, jwt.Keyfunc(func(t *jwt.Token) (any, error) {
		return nil, fmt.Errorf("no key %v", t.Header["kid"])
	}), realtime.JWTOptions{Methods: []string{"HS256"}})
	for _, token := range []string{
		marker, marker + "." + marker + "." + marker, encoded + ".." + encoded,
		sign(jwtSecret, `{"alg":"`+marker+`"}`, `{}`),
		sign(jwtSecret, `{"alg":"HS512","x":"`+marker+`"}`, `{}`),
		sign(jwtSecret, `{"alg":"HS256","kid":"`+marker+`"}`, `{"sub":"`+marker+`"}`),
		sign(jwtSecret, hs256, `"`+marker+`"`),
	} {
		_, err := v.VerifyToken(t.Context(), token, "/drivers")
		require.ErrorIs(t, err, realtime.ErrTokenInvalid)
		require.NotContains(t, err.Error(), marker)
		require.NotContains(t, err.Error(), encoded)
	}
}

func TestJWTVerifier_Asymmetric(t *testing.T) {
	t.Parallel()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	edPublic, edKey, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	der, err := x509.MarshalPKIXPublicKey(&rsaKey.PublicKey)
	require.NoError(t, err)
	rsaPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})

	signers := []struct {
		method  jwt.SigningMethod
		private any
		public  any
	}{
		{jwt.SigningMethodHS256, jwtSecret, jwtSecret},
		{jwt.SigningMethodRS256, rsaKey, &rsaKey.PublicKey},
		{jwt.SigningMethodPS256, rsaKey, &rsaKey.PublicKey},
		{jwt.SigningMethodES256, ecKey, &ecKey.PublicKey},
		{jwt.SigningMethodEdDSA, edKey, edPublic},
	}
	claims := jwt.MapClaims{"sub": "u", "sid": "s", "exp": int64(4102444800)}
	for _, verifying := range signers {
		o := realtime.JWTOptions{Methods: []string{verifying.method.Alg()}}
		fixed := newVerifier(t, verifying.public, o)
		found := newVerifier(t, func(*jwt.Token) (any, error) { return verifying.public, nil },
			realtime.JWTOptions{Methods: []string{"HS256", "RS256", "PS256", "ES256", "EdDSA"}})
		for _, signing := range signers {
			token, err := jwt.NewWithClaims(signing.method, claims).SignedString(signing.private)
			require.NoError(t, err)
			_, err = fixed.VerifyToken(t.Context(), token, "/drivers")
			_, foundErr := found.VerifyToken(t.Context(), token, "/drivers")
			if signing.method == verifying.method {
				require.NoError(t, err)
				require.NoError(t, foundErr)
				continue
			}
			require.ErrorIs(t, err, realtime.ErrTokenInvalid)
			if fmt.Sprintf("%T", signing.public) != fmt.Sprintf("%T", verifying.public) {
				require.ErrorIs(t, foundErr, realtime.ErrTokenInvalid)
			}
		}
	}

	// The public key is no secret: signing with its text must get nobody in,
	// not even past a Keyfunc that hands out the text.
	for _, secret := range [][]byte{rsaPEM, bytes.TrimSpace(rsaPEM), der} {
		forged := sign(secret, hs256, `{"sub":"u","sid":"s","exp":4102444800}`)
		for _, v := range []*realtime.JWTVerifier{
			newVerifier(t, &rsaKey.PublicKey, realtime.JWTOptions{Methods: []string{"RS256"}}),
			newVerifier(t, func(*jwt.Token) (any, error) { return &rsaKey.PublicKey, nil },
				realtime.JWTOptions{Methods: []string{"RS256", "HS256"}}),
			newVerifier(t, func(*jwt.Token) (any, error) { return rsaPEM, nil },
				realtime.JWTOptions{Methods: []string{"RS256", "HS256"}}),
		} {
			_, err := v.VerifyToken(t.Context(), forged, "/drivers")
			require.ErrorIs(t, err, realtime.ErrTokenInvalid)
		}
	}
}

// A secret that a Keyfunc finds is held to the same length as one that is passed.
func TestJWTVerifier_KeyfuncFindsAShortSecret(t *testing.T) {
	t.Parallel()
	const claims = `{"sub":"u","sid":"s","exp":4102444800}`
	short := []byte("thirty-one bytes, one too few..")
	require.Len(t, short, 31)
	find := func(*jwt.Token) (any, error) {
		return jwt.VerificationKeySet{Keys: []jwt.VerificationKey{short}}, nil
	}
	withContext := func(context.Context) jwt.Keyfunc { return find }
	for _, key := range []any{find, withContext} {
		v := newVerifier(t, key, realtime.JWTOptions{Methods: []string{"HS256"}})
		_, err := v.VerifyToken(t.Context(), sign(short, hs256, claims), "/drivers")
		require.ErrorIs(t, err, realtime.ErrTokenInvalid)
		require.ErrorContains(t, err, "AllowShortSecret")

		v = newVerifier(t, key, realtime.JWTOptions{Methods: []string{"HS256"}, AllowShortSecret: true})
		_, err = v.VerifyToken(t.Context(), sign(short, hs256, claims), "/drivers")
		require.NoError(t, err)
	}
}

func TestJWTVerifier_Keyfunc(t *testing.T) {
	t.Parallel()
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	const claims = `{"sub":"u","sid":"s","exp":4102444800}`
	down := errors.New("dial tcp: refused")
	tests := []struct {
		name string
		key  any
		err  error
		want error // nil: accepted
	}{
		{name: "found", key: jwtSecret},
		{name: "in a set", key: jwt.VerificationKeySet{Keys: []jwt.VerificationKey{&p256.PublicKey, []byte("other"), jwtSecret}}},
		{name: "unfit set", key: jwt.VerificationKeySet{Keys: []jwt.VerificationKey{&p256.PublicKey, []byte(nil)}}, want: realtime.ErrTokenInvalid},
		{name: "empty set", key: jwt.VerificationKeySet{}, want: realtime.ErrTokenInvalid},
		{name: "nil", want: realtime.ErrTokenInvalid},
		{name: "empty secret", key: []byte{}, want: realtime.ErrTokenInvalid},
		{name: "a string", key: string(jwtSecret), want: realtime.ErrTokenInvalid},
		{name: "nil public key", key: (*rsa.PublicKey)(nil), want: realtime.ErrTokenInvalid},
		{name: "error", err: down, want: realtime.ErrTokenInvalid},
		{name: "unavailable", err: fmt.Errorf("%w: %w", realtime.ErrUnavailable, down), want: realtime.ErrUnavailable},
	}
	for _, tt := range tests {
		v := newVerifier(t, func(*jwt.Token) (any, error) { return tt.key, tt.err },
			realtime.JWTOptions{Methods: []string{"HS256", "RS256", "ES256"}})
		_, err := v.VerifyToken(t.Context(), sign(jwtSecret, hs256, claims), "/drivers")
		require.ErrorIs(t, err, tt.want, tt.name)
		if errors.Is(tt.want, realtime.ErrUnavailable) {
			require.ErrorIs(t, err, down)
			require.NotErrorIs(t, err, realtime.ErrTokenInvalid)
			require.NotErrorIs(t, err, realtime.ErrTokenExpired)
		}
	}

	// ES256 is SHA-256 on P-256: another curve, or half a key, does not fit.
	for _, key := range []any{&p384.PublicKey, &ecdsa.PublicKey{}, (*ecdsa.PublicKey)(nil), *p256, p256} {
		token, err := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{"exp": int64(4102444800)}).SignedString(p256)
		require.NoError(t, err)
		v := newVerifier(t, func(*jwt.Token) (any, error) { return key, nil }, realtime.JWTOptions{Methods: []string{"ES256"}})
		_, err = v.VerifyToken(t.Context(), token, "/drivers")
		require.ErrorIs(t, err, realtime.ErrTokenInvalid)
	}

	// A token with a critical extension never reaches the Keyfunc.
	v := newVerifier(t, func(*jwt.Token) (any, error) { panic("called") }, jwtOptions)
	_, err = v.VerifyToken(t.Context(), sign(jwtSecret, `{"alg":"HS256","crit":[]}`, claims), "/drivers")
	require.ErrorIs(t, err, realtime.ErrTokenInvalid)
}

// newVerifier returns a verifier in whose configuration nothing is wrong.
func newVerifier(t testing.TB, key any, o realtime.JWTOptions) *realtime.JWTVerifier {
	t.Helper()
	v, err := realtime.NewJWTVerifier(key, o)
	require.NoError(t, err)
	return v
}

func TestNewJWTVerifier_ReportsEveryMistake(t *testing.T) {
	t.Parallel()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	methods := func(names ...string) realtime.JWTOptions { return realtime.JWTOptions{Methods: names} }
	tests := []struct {
		name string
		key  any
		o    realtime.JWTOptions
		want []string // parts of the error; none: no mistake
	}{
		{"good", jwtSecret, methods("HS256"), nil},
		{"good for all", make([]byte, 64), methods("HS256", "HS384", "HS512"), nil},
		{"short and meant", []byte("x"), realtime.JWTOptions{Methods: []string{"HS256", "HS512"}, AllowShortSecret: true}, nil},
		{"ES256", &p256.PublicKey, methods("ES256"), nil},
		{"a short secret that a Keyfunc may find, which its tokens are refused for", func(*jwt.Token) (any, error) { return []byte("x"), nil }, methods("HS512"), nil},
		{"rsa", &rsaKey.PublicKey, methods("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), nil},
		{"leeway", jwtSecret, realtime.JWTOptions{Methods: []string{"HS256"}, Leeway: time.Minute}, nil},

		{"no methods", jwtSecret, methods(), []string{"Methods is empty"}},
		{"none", jwtSecret, methods("none"), []string{`"none"`}},
		{"unknown", jwtSecret, methods("HS256", "hs256"), []string{`"hs256"`}},
		{"HS with rsa", &rsaKey.PublicKey, methods("RS256", "HS256"), []string{"HS256 does not fit"}},
		{"RS with a secret", jwtSecret, methods("RS256"), []string{"RS256 does not fit"}},
		{"ES384 with P-256", &p256.PublicKey, methods("ES384"), []string{"ES384 does not fit"}},
		{"EdDSA with a cut key", ed25519.PublicKey{1}, methods("EdDSA"), []string{"EdDSA does not fit"}},
		{"nil rsa key", (*rsa.PublicKey)(nil), methods("RS256"), []string{"RS256 does not fit"}},
		{"nil key", nil, methods("HS256"), []string{"JWT key is nil; pass"}},
		{"nil keyfunc", jwt.Keyfunc(nil), methods("HS256"), []string{"nil jwt.Keyfunc"}},
		{"string key", "secret", methods("HS256"), []string{"string", "[]byte"}},
		{"private key", rsaKey, methods("RS256"), []string{"*rsa.PrivateKey"}},
		{"private key by value", *p256, methods("ES256"), []string{"ecdsa.PrivateKey"}},
		{"short secret", make([]byte, 31), methods("HS256"), []string{"31 bytes", "HS256 needs 32", "AllowShortSecret"}},
		{"short for one", make([]byte, 47), methods("HS256", "HS384"), []string{"47 bytes", "HS384 needs 48"}},
		{"short for the longest", make([]byte, 63), methods("HS512", "HS384"), []string{"63 bytes", "HS512 needs 64"}},
		{"empty secret", []byte{}, methods("HS256"), []string{"empty"}},
		{"empty secret, short ones meant", []byte{}, realtime.JWTOptions{Methods: []string{"HS256"}, AllowShortSecret: true}, []string{"empty"}},
		{"PEM as secret", []byte("\n-----BEGIN PUBLIC KEY-----\n"), methods("HS256"), []string{"PEM"}},
		{"leeway too long", jwtSecret, realtime.JWTOptions{Methods: []string{"HS256"}, Leeway: time.Minute + 1}, []string{"Leeway"}},
		{"no leeway", jwtSecret, realtime.JWTOptions{Methods: []string{"HS256"}, Leeway: -1}, nil},
		{"length negative", jwtSecret, realtime.JWTOptions{Methods: []string{"HS256"}, MaxLength: -1}, []string{"MaxLength"}},
		{
			"audiences", jwtSecret,
			realtime.JWTOptions{Methods: []string{"HS256"}, Audiences: map[string]string{"admin": "x", "/drivers": ""}},
			[]string{`"/admin"`, `empty audience for "/drivers"`},
		},
		{
			"claims", jwtSecret, realtime.JWTOptions{Methods: []string{"HS256"}, Claims: map[string]string{"token_use": "", "": "access"}},
			[]string{`"token_use" has no value`, "a claim's name is empty"},
		},
		{
			"all at once", "secret", realtime.JWTOptions{Methods: []string{"none"}, Leeway: time.Hour, MaxLength: -1},
			[]string{"string", `"none"`, "Leeway", "MaxLength"},
		},
		{
			"all at once, with a secret", make([]byte, 8),
			realtime.JWTOptions{Methods: []string{"none", "HS256", "ES256"}, Audiences: map[string]string{"drivers": ""}},
			[]string{"8 bytes", `"none" is unknown or unsafe`, "ES256 does not fit", `"drivers" is not a namespace; write "/drivers"`, `empty audience for "drivers"`},
		},
		{"leeway in microseconds", jwtSecret, realtime.JWTOptions{Methods: []string{"HS256"}, Leeway: 30 * time.Microsecond}, []string{"Leeway is 30µs; it must be 1ms or more"}},
		{"leeway in the wrong unit", jwtSecret, realtime.JWTOptions{Methods: []string{"HS256"}, Leeway: 30}, []string{"Leeway is 30ns", "time.Second"}},
		{"no token is that short", jwtSecret, realtime.JWTOptions{Methods: []string{"HS256"}, MaxLength: 99}, []string{"MaxLength is 99", "100"}},
	}
	for _, tt := range tests {
		v, err := realtime.NewJWTVerifier(tt.key, tt.o)
		if tt.want == nil {
			require.NoError(t, err, tt.name)
			_, err = v.VerifyToken(t.Context(), "", "/drivers")
			require.ErrorIs(t, err, realtime.ErrTokenInvalid, tt.name)
			continue
		}
		require.Error(t, err, tt.name)
		require.Nil(t, v, tt.name)
		for _, part := range tt.want {
			require.ErrorContains(t, err, part, tt.name)
		}
		for line := range strings.SplitSeq(err.Error(), "\n") {
			require.Regexp(t, "^realtime: ", line, tt.name)
			require.Equal(t, 1, strings.Count(line, "realtime: "), tt.name)
		}
		require.NotContains(t, err.Error(), "secret\"", tt.name)
	}
}

func TestJWTVerifier_KeepsNothingOfTheCaller(t *testing.T) {
	t.Parallel()
	secret := bytes.Clone(jwtSecret)
	o := realtime.JWTOptions{Methods: []string{"HS256"}, Audiences: map[string]string{}}
	v := newVerifier(t, secret, o)
	clear(secret)
	o.Methods[0] = "none"
	o.Audiences["/drivers"] = "x"
	_, err := v.VerifyToken(t.Context(), sign(jwtSecret, hs256, `{"exp":4102444800}`), "/drivers")
	require.NoError(t, err)
}

func TestJWTVerifier_Concurrently(t *testing.T) {
	t.Parallel()
	v := newVerifier(t, jwtSecret, jwtOptions)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			user := fmt.Sprint("u", i)
			token := sign(jwtSecret, hs256, `{"sub":"`+user+`","exp":4102444800}`)
			for range 50 {
				got, err := v.VerifyToken(t.Context(), token, "/drivers")
				if err != nil || got.Subject != user {
					t.Errorf("%q for %q: %v", got.Subject, user, err)
				}
			}
		})
	}
	wg.Wait()
}

func FuzzVerifyToken(f *testing.F) {
	good := sign(jwtSecret, hs256, `{"sub":"u","sid":"s","exp":4102444800}`)
	for _, token := range []string{
		good, good + "\n", "..", strings.Repeat(".", 100), good[:len(good)-1], good[:len(good)-1] + "A",
		sign(jwtSecret, `{"alg":"none"}`, `{"exp":4102444800}`), sign([]byte("x"), hs256, `{"exp":4102444800}`),
		sign(jwtSecret, hs256, `{"exp":1e300,"iat":-1e300}`),
	} {
		f.Add(token)
	}
	v := newVerifier(f, jwtSecret, jwtOptions)
	f.Fuzz(func(t *testing.T, token string) {
		_, err := v.VerifyToken(context.Background(), token, "/drivers")
		if err != nil {
			require.True(t, errors.Is(err, realtime.ErrTokenInvalid) || errors.Is(err, realtime.ErrTokenExpired))
			return
		}
		// Valid: then the signature is the one that the secret gives.
		dot := strings.LastIndexByte(token, '.')
		mac := hmac.New(sha256.New, jwtSecret)
		mac.Write([]byte(token[:dot]))
		signature := strings.NewReplacer("\r", "", "\n", "").Replace(token[dot+1:])
		require.Equal(t, base64.RawURLEncoding.EncodeToString(mac.Sum(nil)), signature)
	})
}

func BenchmarkVerifyHS256(b *testing.B) {
	v := newVerifier(b, jwtSecret, realtime.JWTOptions{
		Methods: []string{"HS256"}, Issuer: "rodando", Audiences: map[string]string{"/drivers": "driver_app"},
	})
	token := sign(jwtSecret, hs256, `{"sub":"0197f6a0-5b5c-7d3e-9d7e-0f0f0f0f0f0f","sid":"0197f6a0-5b5c-7d3e-9d7e-1f1f1f1f1f1f",`+
		`"iss":"rodando","aud":"driver_app","iat":1700000000,"exp":4102444800}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.VerifyToken(b.Context(), token, "/drivers"); err != nil {
			b.Fatal(err)
		}
	}
}
