// The errors a client may see, and the sentinels a host's repositories return.

package realtime

import (
	"errors"
	"fmt"
)

// Code is a machine-readable reason from a closed list. A client branches on
// it; the text beside it is for people.
type Code string

// Codes of a failed acknowledgement, `{ok:false, error:{code, message, fields?}}`.
const (
	CodeInvalidPayload Code = "invalid_payload" // wrong type, missing field or value out of range; Fields names them
	CodeUnauthorized   Code = "unauthorized"    // the caller's identity does not hold
	CodeForbidden      Code = "forbidden"       // known, but not allowed to do this
	CodeNotFound       Code = "not_found"       // no such thing, or no such event
	CodeConflict       Code = "conflict"        // not possible in the present state
	CodeRateLimited    Code = "rate_limited"    // too many, slow down
	CodeUnavailable    Code = "unavailable"     // something behind the server did not answer, try again
	CodeInternal       Code = "internal"        // a fault of the server; the detail is in its log
)

// Codes of a refused CONNECT, `{message, data:{code}}`, in the order in which
// the checks run. CodeUnavailable and CodeRateLimited occur there too.
const (
	CodeMissingToken   Code = "missing_token"
	CodeInvalidToken   Code = "invalid_token"
	CodeTokenExpired   Code = "token_expired"
	CodeMissingClaims  Code = "missing_claims"
	CodeUserNotFound   Code = "user_not_found"
	CodeWrongUserType  Code = "wrong_user_type"
	CodeUserInactive   Code = "user_inactive"
	CodeInvalidSession Code = "invalid_session"
	CodeAccessExpired  Code = "access_expired"
)

// Error is what a handler or a host's service returns when the client may know
// why. Everything in it is sent to the client; any other error is logged and
// sent as CodeInternal without its text.
type Error struct {
	Code    Code     `json:"code"`
	Message string   `json:"message"`
	Fields  []string `json:"fields,omitempty"` // payload fields at fault, with CodeInvalidPayload
}

// Errorf returns an *Error with the given code and a formatted message, which
// is sent to the client as it stands.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Error implements error.
func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

// Sentinels that repositories, verifiers and services return, wrapped or bare.
var (
	// ErrNotFound says that a row does not exist. Any other error of a
	// repository means "could not tell" and refuses with CodeUnavailable.
	ErrNotFound = errors.New("not found")
	// ErrUnavailable says "could not tell". A jwt.Keyfunc wraps it when it has no
	// answer, for instance because a key server is down: the handshake is then
	// refused with CodeUnavailable and the client tries again, instead of reading
	// that its token is bad. A repository may wrap it too, but need not: every
	// error it returns beside ErrNotFound means the same.
	ErrUnavailable = errors.New("unavailable")
	// ErrTokenInvalid says that a token does not verify.
	ErrTokenInvalid = errors.New("token invalid")
	// ErrTokenExpired says that a token verified but its time has passed.
	ErrTokenExpired = errors.New("token expired")
	// ErrClosed is returned by a Server, Socket or EventBus that was shut down.
	ErrClosed = errors.New("closed")
	// ErrAckTimeout is returned by Query.Ask when the client did not
	// acknowledge in time.
	ErrAckTimeout = errors.New("acknowledgement timed out")
	// ErrTooManyAcks is returned by Query.Ask when Limits.PendingAcks of the socket
	// have not been answered.
	ErrTooManyAcks = errors.New("too many acknowledgements pending")
)
