// The errors a client may see, and the sentinels a host's repositories return.

package realtime

import (
	"errors"
	"fmt"
	"strings"

	"github.com/rodando/realtime/internal/hostcall"
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

// errorPrefix is what an error of the exported API begins with, so that its line in the
// host's log says whose it is.
const errorPrefix = "realtime: "

// apiError is an error with the prefix, which it has once although what it wraps, an
// error of ours in one of the host's for instance, may have it too.
type apiError struct{ err error }

func (e *apiError) Error() string {
	return errorPrefix + strings.ReplaceAll(e.err.Error(), errorPrefix, "")
}

func (e *apiError) Unwrap() error { return e.err }

// errorf is fmt.Errorf for what the exported API returns; the format needs no prefix.
func errorf(format string, args ...any) error { return &apiError{fmt.Errorf(format, args...)} }

// prefixed returns an error as the exported API returns it, nil for nil, to the host's
// code: that is whose methods it calls.
func prefixed(err error) error {
	err = hostcall.Original(err)
	if err == nil || strings.LastIndex(err.Error(), errorPrefix) == 0 {
		return err
	}
	return &apiError{err}
}

// Sentinels that repositories, verifiers and services return, wrapped or bare.
var (
	// ErrNotFound says that a row does not exist. Any other error of a
	// repository means "could not tell" and refuses with CodeUnavailable.
	ErrNotFound = errors.New("realtime: not found")
	// ErrUnavailable says that there is no answer now. A jwt.Keyfunc wraps it when a key
	// server does not answer: the handshake is then undecided (CodeUnavailable) and the
	// client tries again, instead of learning that its token is invalid. A repository
	// need not wrap it: every error other than ErrNotFound means the same.
	ErrUnavailable = errors.New("realtime: unavailable")
	// ErrTokenInvalid says that a token does not verify.
	ErrTokenInvalid = errors.New("realtime: token invalid")
	// ErrTokenExpired says that a token verified but its time has passed.
	ErrTokenExpired = errors.New("realtime: token expired")
	// ErrClosed is returned by a Server, Socket or EventBus that was shut down.
	ErrClosed = errors.New("realtime: closed")
	// ErrAckTimeout is returned by Query.Ask when the client did not
	// acknowledge in time.
	ErrAckTimeout = errors.New("realtime: acknowledgement timed out")
	// ErrTooManyAcks is returned by Query.Ask when Limits.PendingAcks of the socket
	// have not been answered.
	ErrTooManyAcks = errors.New("realtime: too many acknowledgements pending")
)
