// The cause of a refused CONNECT, for the log. The client gets only the code and its
// message.

package realtime

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// refusal is an error that refuses a CONNECT, with a cause for the log.
type refusal struct {
	toClient *Error // sent to the client
	cause    string // only for the log
}

func (r *refusal) Error() string { return r.toClient.Error() + ": " + r.cause }

func (r *refusal) Unwrap() error { return r.toClient }

// connectErrorBecause returns a connectError with a cause for the log.
func connectErrorBecause(code Code, cause string) error { return &refusal{connectError(code), cause} }

var errRevokedMeanwhile = connectErrorBecause(CodeInvalidSession, "revoked during the handshake")

// causeOf returns the cause of a refusal, or "".
func causeOf(err error) string {
	if r, ok := errors.AsType[*refusal](err); ok {
		return r.cause
	}
	return ""
}

// withCause returns the attributes of a log line with the address of a socket, and a cause if there
// is one.
func withCause(attrs []any, s *Socket, cause string) []any {
	if addr := s.RemoteAddr(); addr.IsValid() {
		attrs = append(attrs, "address", addr.String())
	}
	if cause != "" {
		attrs = append(attrs, "cause", cause)
	}
	return attrs
}

// logRefresh logs that an auth:refresh of a socket was refused.
func (ns *Namespace) logRefresh(s *Socket, code Code, cause string) {
	attrs := []any{"namespace", ns.name, "event", AuthRefresh.name, "code", code, "socket", s.ID(), "user", s.Identity().UserID}
	ns.rt.log.Info("realtime: auth:refresh refused", withCause(attrs, s, cause)...)
}

// ago says how long ago something expired.
func ago(at time.Time) string { return fmt.Sprintf("%v ago", time.Since(at).Round(time.Second)) }

// missingToken is what is known of a CONNECT that came without a token.
type missingToken struct {
	eio3    bool
	auth    bool         // it has an auth object
	inQuery bool         // of the namespace, which only EIO3 has
	request *requestData // of the connection; may be nil
}

// cause says where the client may have put the token, for the log.
func (m missingToken) cause() string {
	if m.request != nil {
		m.inQuery = m.inQuery || m.request.inQuery
	}
	switch {
	case m.request != nil && m.request.otherScheme:
		return "the Authorization header is not a Bearer token"
	case m.inQuery && m.eio3:
		return "it is in the query: set Options.Compat.LegacyQueryToken"
	case m.inQuery:
		return "it is in the query: send it as auth.token"
	case m.eio3:
		return "no Authorization header"
	case m.auth:
		return "auth has no token, and there is no Authorization header"
	}
	return "no auth, and no Authorization header"
}

// maxCause is the maximum length of a verifier's error text in the log, in bytes.
const maxCause = 150

// tokenCause returns the text of a verifier's error, which wraps kind, without any part of the
// token.
func tokenCause(err, kind error, token string) string {
	text := strings.TrimPrefix(err.Error(), kind.Error())
	text = withoutToken(strings.TrimLeft(text, ": "), token)
	if len(text) > maxCause {
		text = strings.ToValidUTF8(text[:maxCause], "") + "..."
	}
	return text
}

// minTokenPart is the minimum length of a part of a token that withoutToken replaces, in
// bytes.
const minTokenPart = 8

// withoutToken returns the text with "[token]" in place of the token and of parts of it.
func withoutToken(text, token string) string {
	text = strings.ReplaceAll(text, token, "[token]")
	var b strings.Builder
	for text != "" {
		n := strings.IndexFunc(text, func(r rune) bool { return !inToken(r) })
		if n < 0 {
			n = len(text)
		}
		if word := text[:n]; n >= minTokenPart && strings.Contains(token, word) {
			b.WriteString("[token]")
		} else {
			b.WriteString(word)
		}
		text = text[n:]
		n = strings.IndexFunc(text, inToken)
		if n < 0 {
			n = len(text)
		}
		b.WriteString(text[:n])
		text = text[n:]
	}
	return b.String()
}

// inToken reports whether a character may be part of a JSON Web Token.
func inToken(r rune) bool {
	return r == '-' || r == '_' || r == '=' || r == '.' || r == '+' || r == '/' || '0' <= r && r <= '9' || 'A' <= r && r <= 'Z' || 'a' <= r && r <= 'z'
}
