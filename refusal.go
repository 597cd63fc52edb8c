// Refusals: why a CONNECT was refused, for the log. The client gets the code alone.

package realtime

import (
	"errors"
	"strings"
)

// refusal is a refusal with its cause.
type refusal struct {
	shown *Error // what the client gets
	cause string
}

func (r *refusal) Error() string { return r.shown.Error() + ": " + r.cause }

func (r *refusal) Unwrap() error { return r.shown }

// refuseBecause is refuse with what the log says besides.
func refuseBecause(code Code, cause string) error { return &refusal{refuse(code), cause} }

var errRevokedMeanwhile = refuseBecause(CodeInvalidSession, "revoked during the handshake")

// causeOf returns the cause of a refusal, empty when its code says all.
func causeOf(err error) string {
	var r *refusal
	if errors.As(err, &r) {
		return r.cause
	}
	return ""
}

// maxCause bounds what the log repeats of a verifier's words, in bytes.
const maxCause = 150

// tokenCause returns why a verifier has refused a token, in its words, without the
// token.
func tokenCause(err error, token string) string {
	text := strings.TrimPrefix(err.Error(), ErrTokenInvalid.Error())
	text = withoutToken(strings.TrimPrefix(text, ": "), token)
	if len(text) > maxCause {
		text = strings.ToValidUTF8(text[:maxCause], "") + "..."
	}
	return text
}

// quoted is from how many bytes on a part of a token counts as one.
const quoted = 8

// withoutToken replaces what a text quotes of a token: all of it, or a part.
func withoutToken(text, token string) string {
	text = strings.ReplaceAll(text, token, "[token]")
	var b strings.Builder
	for text != "" {
		n := strings.IndexFunc(text, func(r rune) bool { return !inToken(r) })
		if n < 0 {
			n = len(text)
		}
		if word := text[:n]; n >= quoted && strings.Contains(token, word) {
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
