// The cause of a refused CONNECT, for the log. The client gets only the code and its
// message.

package realtime

import (
	"errors"
	"strings"
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

// maxCause is the maximum length of a verifier's error text in the log, in bytes.
const maxCause = 150

// tokenCause returns the text of a verifier's error, without any part of the token.
func tokenCause(err error, token string) string {
	text := strings.TrimPrefix(err.Error(), ErrTokenInvalid.Error())
	text = withoutToken(strings.TrimPrefix(text, ": "), token)
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
