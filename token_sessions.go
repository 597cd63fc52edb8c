// Token sessions: the login sessions of a host that has none, Options.TokenSessions. Each is an
// access token.

package realtime

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
)

// tokenSession returns the id of the login session that a token is.
func tokenSession(c Claims, token string) string {
	switch {
	case validID(c.SessionID):
		return c.SessionID
	case validID(c.TokenID):
		return c.TokenID
	}
	hash := sha256.Sum256([]byte(token)) // the id is public
	return base64.RawURLEncoding.EncodeToString(hash[:])
}

// noSessions takes the place of the SessionRepo. It is not called: the token says everything about
// its session.
type noSessions struct{}

// FindSession implements SessionRepo.
func (noSessions) FindSession(context.Context, string) (Session, error) {
	return Session{}, ErrNotFound
}
