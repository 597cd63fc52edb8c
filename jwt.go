// JWTVerifier: the TokenVerifier for access tokens that are signed JSON Web Tokens.

package realtime

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// JWTOptions says which tokens a JWTVerifier accepts.
type JWTOptions struct {
	// Methods lists the accepted algorithms, such as "HS256" or "ES256". HS* needs a []byte
	// key, RS* and PS* an *rsa.PublicKey, ES* an *ecdsa.PublicKey of the matching curve,
	// and EdDSA an ed25519.PublicKey. A token with another algorithm in its header is
	// invalid. Required.
	Methods []string
	// Issuer is the value that the claim "iss" must have. By default "iss" is not checked.
	Issuer string
	// Audiences maps a namespace, such as "/drivers", to the value that the claim "aud"
	// must have or contain there. In a namespace without an entry, "aud" is not checked.
	Audiences map[string]string
	// Claims maps the names of further claims to the string values that they must have,
	// for instance {"token_use": "access"} if access and refresh tokens are signed with the
	// same key. In any case a token is invalid if its claim "typ", "type", "token_type" or
	// "token_use" is "refresh".
	Claims map[string]string
	// Leeway is how far the issuer's clock may be ahead when "nbf" is checked, at most one
	// minute. It does not extend "exp", and "iat" is not checked. Negative: none. Defaults
	// to 5 s.
	Leeway time.Duration
	// MaxLength is the maximum length of a token in bytes. A longer token is invalid and is
	// not parsed. A Server also refuses every token longer than 8192 bytes. Defaults to
	// 8192.
	MaxLength int
	// AllowShortSecret accepts a []byte secret that is shorter than the hash of one of
	// Methods: 32 bytes for HS256, 48 for HS384, 64 for HS512. An attacker who has one token
	// can guess such a secret offline, so set it only for a secret that is in use and
	// cannot be changed yet. By default NewJWTVerifier returns an error for such a secret,
	// and a token for which a Keyfunc returns one is invalid.
	AllowShortSecret bool
}

// JWTVerifier is a TokenVerifier for signed JSON Web Tokens. NewJWTVerifier returns one; the
// zero value cannot be used. Its methods may be called concurrently. They block only if the
// host's jwt.Keyfunc blocks.
type JWTVerifier struct {
	keyfunc   func(ctx context.Context) jwt.Keyfunc
	parser    *jwt.Parser
	methods   []string
	issuer    string
	audiences map[string]string
	claims    map[string]string
	leeway    time.Duration
	maxLength int
}

var _ TokenVerifier = (*JWTVerifier)(nil)

// NewJWTVerifier returns a verifier for tokens that are signed with key. key is a []byte
// secret (which is copied), an *rsa.PublicKey, an *ecdsa.PublicKey, an ed25519.PublicKey, or
// a jwt.Keyfunc, which JWKS libraries provide to find the key of a token. For a Keyfunc that
// calls a key server, pass a func(context.Context) jwt.Keyfunc, which these libraries
// provide too: the call to the key server then ends when the handshake ends, and does not
// count as an abandoned call.
//
// A Keyfunc receives tokens that are not verified yet, so it may use their "kid" to find a
// key and nothing else. Its error means that the token is invalid, unless the error wraps
// ErrUnavailable or ctx has ended.
//
// NewJWTVerifier reports all mistakes in key and options at once. If a key that a Keyfunc
// returns later does not fit the token's algorithm, the token is invalid.
func NewJWTVerifier(key any, o JWTOptions) (*JWTVerifier, error) {
	v := &JWTVerifier{
		methods:   slices.Clone(o.Methods),
		issuer:    o.Issuer,
		audiences: maps.Clone(o.Audiences),
		claims:    maps.Clone(o.Claims),
		leeway:    max(0, cmp.Or(o.Leeway, defaultLeeway)),
		maxLength: cmp.Or(o.MaxLength, defaultMaxTokenLength),
		// VerifyToken checks the claims. The parser's own check would accept a missing
		// "exp", ignore fractions of seconds, and apply the leeway to "exp" too.
		parser: jwt.NewParser(jwt.WithValidMethods(slices.Clone(o.Methods)), jwt.WithStrictDecoding(), jwt.WithoutClaimsValidation()),
	}
	var mistakes []error
	v.keyfunc, mistakes = keySource(key, o)
	if err := errors.Join(append(mistakes, optionMistakes(o)...)...); err != nil {
		return nil, err
	}
	return v, nil
}

// VerifyToken implements TokenVerifier. The token must be signed with the key and one of the
// methods, and must fit issuer, audience and claims. Its "exp" is required and must be in the
// future; its "nbf" must not be, apart from JWTOptions.Leeway. Its error wraps ErrTokenInvalid and
// says what is wrong, or wraps ErrTokenExpired if only "exp" is not in the future.
//
// Claim names are case-sensitive. "sub", "sid" and "jti" are not required here: if one is missing
// or not a string, its field in Claims is empty. No error contains any part of the token but the
// name of its algorithm, unless a Keyfunc returns an error that wraps ErrUnavailable and contains one.
func (v *JWTVerifier) VerifyToken(ctx context.Context, token, namespace string) (Claims, error) {
	if len(token) > v.maxLength {
		return Claims{}, errTokenTooLong
	}
	if strings.ContainsAny(token, "\r\n") { // even strict decoding ignores them, and a signature can be written in one way only
		return Claims{}, errTokenMalformed
	}
	if err := ctx.Err(); err != nil {
		return Claims{}, errorf("verifying the token: %w", err) // the caller has stopped waiting: do not spend time on the signature
	}
	claims := jwt.MapClaims{}
	if parsed, err := v.parser.ParseWithClaims(token, claims, v.keyfunc(ctx)); err != nil {
		if ended := ctx.Err(); ended != nil && errors.Is(err, jwt.ErrTokenUnverifiable) {
			return Claims{}, errorf("finding the token's key: %w", ended)
		}
		return Claims{}, v.tokenError(parsed, err)
	}
	now := time.Now()
	if v.issuer != "" && claims["iss"] != v.issuer {
		return Claims{}, errTokenIssuer
	}
	if want, checked := v.audiences[namespace]; checked && !isAudience(claims["aud"], want) {
		return Claims{}, errTokenAudience
	}
	if err := v.checkUse(claims); err != nil {
		return Claims{}, err
	}
	if begin, given := claims["nbf"]; given {
		if at, ok := numericDate(begin); !ok || now.Add(v.leeway).Before(at) {
			return Claims{}, errTokenEarly
		}
	}
	exp, ok := numericDate(claims["exp"])
	switch {
	case claims["exp"] == nil:
		return Claims{}, errTokenNoExpiry
	case !ok:
		return Claims{}, errTokenExpiry
	case !now.Before(exp):
		return Claims{}, fmt.Errorf("%w %v ago", ErrTokenExpired, now.Sub(exp).Round(time.Second))
	}
	sub, _ := claims["sub"].(string)
	sid, _ := claims["sid"].(string)
	jti, _ := claims["jti"].(string)
	return Claims{Subject: sub, SessionID: sid, ExpiresAt: exp, TokenID: jti}, nil
}

const (
	defaultMaxTokenLength = 8192
	minMaxTokenLength     = 100 // a signed token with sub, sid and exp is longer
	defaultLeeway         = 5 * time.Second
	maxLeeway             = time.Minute
)

// keySource returns the parser's Keyfunc for the key that the host passed, and the mistakes
// in the key.
func keySource(key any, o JWTOptions) (func(ctx context.Context) jwt.Keyfunc, []error) {
	switch f := key.(type) {
	case func(*jwt.Token) (any, error):
		key = jwt.Keyfunc(f)
	case func(ctx context.Context) func(*jwt.Token) (any, error):
		if f != nil {
			key = func(ctx context.Context) jwt.Keyfunc { return f(ctx) }
		}
	}
	switch k := key.(type) {
	case jwt.Keyfunc:
		if k == nil {
			return nil, []error{errors.New("realtime: JWT key is a nil jwt.Keyfunc")}
		}
		fitting := fittingKeyfunc(k, o.AllowShortSecret)
		return func(context.Context) jwt.Keyfunc { return fitting }, nil
	case func(ctx context.Context) jwt.Keyfunc:
		if k == nil {
			return nil, []error{errors.New("realtime: JWT key is a nil func(context.Context) jwt.Keyfunc")}
		}
		return func(ctx context.Context) jwt.Keyfunc { return fittingKeyfunc(k(ctx), o.AllowShortSecret) }, nil
	case []byte:
		if len(k) == 0 {
			return nil, []error{errors.New("realtime: JWT secret is empty")}
		}
		if isPEM(k) {
			// A public key that is used as a secret would let everybody sign tokens.
			return nil, []error{errors.New("realtime: JWT secret is a PEM file; parse it, for instance with jwt.ParseRSAPublicKeyFromPEM")}
		}
		key = bytes.Clone(k)
	case *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey:
	case nil:
		return nil, []error{errors.New("realtime: JWT key is nil; pass []byte, *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey or jwt.Keyfunc")}
	default:
		return nil, []error{fmt.Errorf(
			"realtime: JWT key is a %T; pass []byte, *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey or jwt.Keyfunc", key)}
	}
	var mistakes []error
	for _, name := range o.Methods {
		if m := jwt.GetSigningMethod(name); isMethod(m) && !fits(key, m) {
			mistakes = append(mistakes, fmt.Errorf("realtime: JWT method %s does not fit the key, a %T", name, key))
		}
	}
	if secret, ok := key.([]byte); ok && !o.AllowShortSecret {
		mistakes = append(mistakes, shortSecret(len(secret), o.Methods)...)
	}
	fixed := func(t *jwt.Token) (any, error) {
		if isCritical(t) {
			return nil, errTokenCritical
		}
		return key, nil
	}
	return func(context.Context) jwt.Keyfunc { return fixed }, mistakes
}

// shortSecret returns an error if a secret of n bytes is shorter than the hash of one of the
// methods, which RFC 7518 section 3.2 forbids.
func shortSecret(n int, methods []string) []error {
	longest, hash := "", 0
	for _, name := range methods {
		if m, ok := jwt.GetSigningMethod(name).(*jwt.SigningMethodHMAC); ok && m.Hash.Size() > hash {
			longest, hash = name, m.Hash.Size()
		}
	}
	if n >= hash {
		return nil
	}
	return []error{fmt.Errorf("realtime: JWT secret has %d bytes and can be guessed offline from one token; %s needs %d random bytes or more, or set JWTOptions.AllowShortSecret",
		n, longest, hash)}
}

// fittingKeyfunc returns a Keyfunc that calls the host's Keyfunc and accepts only keys that
// fit the token's algorithm.
func fittingKeyfunc(find jwt.Keyfunc, allowShort bool) jwt.Keyfunc {
	return func(t *jwt.Token) (any, error) {
		if isCritical(t) {
			return nil, errTokenCritical
		}
		found, err := find(t)
		if err != nil {
			return nil, err
		}
		return fittingKey(found, t.Method, allowShort)
	}
}

// optionMistakes returns the mistakes in the options that do not depend on the key.
func optionMistakes(o JWTOptions) (mistakes []error) {
	if len(o.Methods) == 0 {
		mistakes = append(mistakes, errors.New(`realtime: JWTOptions.Methods is empty; name the algorithms, such as "HS256"`))
	}
	for _, name := range o.Methods {
		if !isMethod(jwt.GetSigningMethod(name)) {
			mistakes = append(mistakes, fmt.Errorf("realtime: JWT method %q is unknown or unsafe", name))
		}
	}
	for _, namespace := range slices.Sorted(maps.Keys(o.Audiences)) {
		if !strings.HasPrefix(namespace, "/") {
			mistakes = append(mistakes, fmt.Errorf(`realtime: JWTOptions.Audiences: %q is not a namespace; write "/%[1]s"`, namespace))
		}
		if o.Audiences[namespace] == "" {
			mistakes = append(mistakes, fmt.Errorf("realtime: JWTOptions.Audiences: empty audience for %q; remove the entry to accept any", namespace))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(o.Claims)) {
		if name == "" {
			mistakes = append(mistakes, errors.New("realtime: JWTOptions.Claims: a claim's name is empty"))
		} else if o.Claims[name] == "" {
			mistakes = append(mistakes, fmt.Errorf("realtime: JWTOptions.Claims: %q has no value; remove the entry to accept any", name))
		}
	}
	if o.Leeway > 0 && o.Leeway < time.Millisecond {
		mistakes = append(mistakes, fmt.Errorf("realtime: JWTOptions.Leeway %s", tooShort(o.Leeway, time.Millisecond)))
	}
	if o.Leeway > maxLeeway {
		mistakes = append(mistakes, fmt.Errorf("realtime: JWTOptions.Leeway is %v; it must be %v or less", o.Leeway, maxLeeway))
	}
	if o.MaxLength != 0 && o.MaxLength < minMaxTokenLength {
		mistakes = append(mistakes, fmt.Errorf("realtime: JWTOptions.MaxLength is %d; no token is shorter than %d bytes", o.MaxLength, minMaxTokenLength))
	}
	return mistakes
}

// isMethod reports whether fits knows the method. It does not know "none", nor the methods
// that a program has registered in the JWT library itself.
func isMethod(m jwt.SigningMethod) bool {
	switch m.(type) {
	case *jwt.SigningMethodHMAC, *jwt.SigningMethodRSA, *jwt.SigningMethodRSAPSS, *jwt.SigningMethodECDSA, *jwt.SigningMethodEd25519:
		return true
	}
	return false
}

// fits reports whether the key has the type that the method needs. This check prevents that
// a public key is used as an HMAC secret.
func fits(key any, m jwt.SigningMethod) bool {
	switch m := m.(type) {
	case *jwt.SigningMethodHMAC:
		k, ok := key.([]byte)
		return ok && len(k) > 0 && !isPEM(k)
	case *jwt.SigningMethodRSA, *jwt.SigningMethodRSAPSS:
		k, ok := key.(*rsa.PublicKey)
		return ok && k != nil && k.N != nil
	case *jwt.SigningMethodECDSA:
		k, ok := key.(*ecdsa.PublicKey)
		return ok && k != nil && k.Curve != nil && k.Curve.Params().BitSize == m.CurveBits
	case *jwt.SigningMethodEd25519:
		k, ok := key.(ed25519.PublicKey)
		return ok && len(k) == ed25519.PublicKeySize
	}
	return false
}

// isShort reports whether the key is a secret that is shorter than the hash of the method.
func isShort(key any, m jwt.SigningMethod) bool {
	secret, ok := key.([]byte)
	hmac, isHMAC := m.(*jwt.SigningMethodHMAC)
	return ok && isHMAC && len(secret) < hmac.Hash.Size()
}

// fittingKey returns the key that a Keyfunc has returned, if it fits the method. From a set of
// keys, which a Keyfunc may return for a token without "kid", it returns those that fit.
func fittingKey(found any, m jwt.SigningMethod, allowShort bool) (any, error) {
	none := errTokenNoKey
	set, ok := found.(jwt.VerificationKeySet)
	if !ok {
		set.Keys = []jwt.VerificationKey{found}
	}
	var fitting jwt.VerificationKeySet
	for _, key := range set.Keys {
		switch {
		case !fits(key, m):
		case !allowShort && isShort(key, m):
			none = errTokenShort
		default:
			fitting.Keys = append(fitting.Keys, key)
		}
	}
	if len(fitting.Keys) == 0 {
		return nil, none
	}
	return fitting, nil
}

// isCritical reports whether the token's header has critical extensions, which a verifier
// must not ignore (RFC 7515 section 4.1.11). JWTVerifier supports none.
func isCritical(t *jwt.Token) bool {
	_, critical := t.Header["crit"]
	return critical
}

func isPEM(secret []byte) bool {
	return bytes.HasPrefix(bytes.TrimSpace(secret), []byte("-----BEGIN "))
}

// checkUse returns an error unless a token is an access token: it is not a refresh token, and has
// the claims of JWTOptions.Claims.
func (v *JWTVerifier) checkUse(claims jwt.MapClaims) error {
	for _, name := range [...]string{"typ", "type", "token_type", "token_use"} {
		if use, ok := claims[name].(string); ok && strings.EqualFold(use, "refresh") {
			return errTokenRefresh
		}
	}
	for name, want := range v.claims {
		if claims[name] != want {
			return fmt.Errorf("%w: wrong claim %q", ErrTokenInvalid, name)
		}
	}
	return nil
}

// isAudience reports whether the claim "aud", a string or an array, names want.
func isAudience(aud any, want string) bool {
	if list, ok := aud.([]any); ok {
		return slices.Contains(list, any(want))
	}
	return aud == want
}

// numericDate returns the time of a claim, a JSON number of seconds since 1970. ok is false
// for another type, and for times outside the years 1 to 9999: a time.Time and ISO 8601
// cannot represent all of them, and no correct token has one.
func numericDate(v any) (at time.Time, ok bool) {
	const yearOne, yearTenThousand = -62135596800, 253402300800
	seconds, ok := v.(float64)
	if !ok || seconds < yearOne || seconds >= yearTenThousand {
		return time.Time{}, false
	}
	whole, fraction := math.Modf(seconds)
	return time.Unix(int64(whole), int64(fraction*1e9)), true
}
