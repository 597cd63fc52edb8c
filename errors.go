// Errors: the codes and errors that clients receive, the errors that the host's code returns,
// and the prefix of errors of the exported API.

package realtime

import (
	"errors"
	"fmt"
	"strings"

	"github.com/rodando/realtime/internal/hostcall"
)

// Code is a machine-readable reason from a closed list. A client decides by the code; the
// message that comes with it is for people.
type Code string

// Codes of a failed acknowledgment, `{ok:false, error:{code, message, fields?}}`.
const (
	CodeInvalidPayload Code = "invalid_payload" // wrong type, missing field or value out of range; Fields names them
	CodeUnauthorized   Code = "unauthorized"    // the token or the identity is not valid
	CodeForbidden      Code = "forbidden"       // the user is not allowed to do this
	CodeNotFound       Code = "not_found"       // what the event names does not exist, or the event has no handler
	CodeConflict       Code = "conflict"        // not possible in the current state
	CodeRateLimited    Code = "rate_limited"    // too many events; send less
	CodeUnavailable    Code = "unavailable"     // the handler or a service of the host did not answer in time, or the server is overloaded; try again
	CodeInternal       Code = "internal"        // any other fault of the server; its log has the cause
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

// Known reports whether c is one of the constants above. A handler may return an *Error with another
// code, even with a text of a client's, so only a known one is fit for the label of a metric.
func (c Code) Known() bool {
	switch c {
	case CodeInvalidPayload, CodeUnauthorized, CodeForbidden, CodeNotFound, CodeConflict, CodeRateLimited, CodeUnavailable, CodeInternal,
		CodeMissingToken, CodeInvalidToken, CodeTokenExpired, CodeMissingClaims, CodeUserNotFound, CodeWrongUserType, CodeUserInactive,
		CodeInvalidSession, CodeAccessExpired:
		return true
	}
	return false
}

// Error is an error that the client receives. A handler or a service of the host returns it
// when the client may know the reason. Any other error is logged, and the client receives,
// without its text, CodeUnavailable for ErrUnavailable and context.DeadlineExceeded, and
// otherwise CodeInternal.
//
// Its text is "code: message", without the prefix "realtime: " that the other errors of this
// package have: it is the answer to a client, most often the host's own, and also what
// MemoryDrivers, Call.Input and the Validate methods of payloads return.
type Error struct {
	Code    Code     `json:"code"` // if empty, the client receives CodeInternal
	Message string   `json:"message"`
	Fields  []string `json:"fields,omitempty"` // payload fields at fault, with CodeInvalidPayload
}

// Errorf returns an *Error with the code and a formatted message. Both are sent to the client.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Error implements error.
func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

// errorPrefix begins the text of every error of the exported API except *Error, so that the
// host's log shows where it comes from.
const errorPrefix = "realtime: "

// apiError is an error whose text has the prefix exactly once, even if an error that it wraps
// has the prefix too.
type apiError struct{ err error }

func (e *apiError) Error() string {
	return errorPrefix + strings.ReplaceAll(e.err.Error(), errorPrefix, "")
}

func (e *apiError) Unwrap() error { return e.err }

// errorf is fmt.Errorf for errors of the exported API. It adds the prefix to the text.
func errorf(format string, args ...any) error { return &apiError{fmt.Errorf(format, args...)} }

// prefixed returns an error with the prefix, for the exported API; nil stays nil. It calls
// methods of the host's own error, so use it only to return an error to the host's code.
func prefixed(err error) error {
	err = hostcall.Original(err)
	if err == nil || strings.LastIndex(err.Error(), errorPrefix) == 0 {
		return err
	}
	return &apiError{err}
}

// Errors that the host's code and this package return, possibly wrapped.
var (
	// ErrNotFound says that a row does not exist. With any other error of a repository the
	// handshake cannot be decided (CodeUnavailable).
	ErrNotFound = errors.New("realtime: not found")
	// ErrUnavailable says that a service cannot answer now. A jwt.Keyfunc wraps it when a key
	// server does not answer: the handshake is then undecided (CodeUnavailable) and the
	// client tries again, instead of learning that its token is invalid. A repository
	// need not wrap it: every error other than ErrNotFound means the same. Namespace.ServerEmit
	// returns it when too many messages wait for the adapter.
	ErrUnavailable = errors.New("realtime: unavailable")
	// ErrTokenInvalid says that a token is not valid.
	ErrTokenInvalid = errors.New("realtime: token invalid")
	// ErrTokenExpired says that a token is valid, but has expired.
	ErrTokenExpired = errors.New("realtime: token expired")
	// ErrClosed is returned by a Server after Shutdown (by Publish only if the bus is the
	// server's own), by a Socket that has closed, and by an EventBus after Close.
	ErrClosed = errors.New("realtime: closed")
	// ErrAckTimeout is returned by Query.Ask and Query.AskAll if a client did not
	// acknowledge in time.
	ErrAckTimeout = errors.New("realtime: acknowledgment timed out")
	// ErrTooManyAcks is returned by Query.Ask and Query.AskAll if a socket already has
	// Limits.PendingAcks queries without an ack.
	ErrTooManyAcks = errors.New("realtime: too many acknowledgments pending")
	// ErrNotReceived is returned by Receipts.Wait if no socket has proved that it has received the
	// event.
	ErrNotReceived = errors.New("realtime: no socket has received the event")
)
