// The errors of JWTVerifier. Their texts are the causes in the log of a refused handshake.

package realtime

import (
	"errors"
	"fmt"
	"slices"

	"github.com/golang-jwt/jwt/v5"
)

// Built once, so that a flood of invalid tokens is cheap to refuse.
var (
	errTokenTooLong   = fmt.Errorf("%w: too long", ErrTokenInvalid)
	errTokenMalformed = fmt.Errorf("%w: malformed", ErrTokenInvalid)
	errTokenSignature = fmt.Errorf("%w: bad signature", ErrTokenInvalid)
	errTokenMethod    = fmt.Errorf("%w: unknown algorithm", ErrTokenInvalid)
	errTokenNoKey     = fmt.Errorf("%w: the Keyfunc returned no key for the token's algorithm", ErrTokenInvalid)
	errTokenKid       = fmt.Errorf("%w: unknown kid", ErrTokenInvalid)
	errTokenNoKid     = fmt.Errorf("%w: no kid, and no key without one", ErrTokenInvalid)
	errTokenShort     = fmt.Errorf("%w: the Keyfunc returned a secret that is shorter than the algorithm's hash; see JWTOptions.AllowShortSecret", ErrTokenInvalid)
	errTokenCritical  = fmt.Errorf("%w: critical header extension", ErrTokenInvalid)
	errTokenIssuer    = fmt.Errorf("%w: wrong issuer", ErrTokenInvalid)
	errTokenAudience  = fmt.Errorf("%w: wrong audience", ErrTokenInvalid)
	errTokenRefresh   = fmt.Errorf("%w: a refresh token", ErrTokenInvalid)
	errTokenEarly     = fmt.Errorf("%w: nbf is in the future, or no number", ErrTokenInvalid)
	errTokenNoExpiry  = fmt.Errorf("%w: no exp", ErrTokenInvalid)
	errTokenExpiry    = fmt.Errorf("%w: exp is not a number of seconds since 1970", ErrTokenInvalid)
)

// tokenError replaces the parser's error, because its text may contain parts of the token. parsed is
// nil if the token is malformed.
func (v *JWTVerifier) tokenError(parsed *jwt.Token, err error) error {
	if errors.Is(err, ErrUnavailable) {
		return errorf("finding the token's key: %w", err)
	}
	for _, own := range [...]error{errTokenCritical, errTokenShort, errTokenNoKey} {
		if errors.Is(err, own) {
			return own
		}
	}
	switch {
	case errors.Is(err, jwt.ErrTokenMalformed), parsed == nil:
		return errTokenMalformed
	case parsed.Method == nil:
		return errTokenMethod
	case !slices.Contains(v.methods, parsed.Method.Alg()):
		return fmt.Errorf("%w: algorithm %s is not in JWTOptions.Methods", ErrTokenInvalid, parsed.Method.Alg())
	case !errors.Is(err, jwt.ErrTokenUnverifiable):
		return errTokenSignature
	case parsed.Header["kid"] == nil:
		return errTokenNoKid
	}
	return errTokenKid
}
