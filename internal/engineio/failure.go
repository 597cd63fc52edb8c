// Failures: the responses to requests that fail, and the reports to the layer above.

package engineio

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"

	"github.com/gobwas/ws"
)

// Failure describes a request that failed.
type Failure struct {
	Reason FailureReason
	Status int // of the answer
	// Detail is the message of the answer; for FailedHijack the type that cannot be hijacked, and
	// for FailedHandshake what is wrong. It has nothing that the client chose.
	Detail string
}

// FailureReason says why a request failed.
type FailureReason uint8

// The reasons.
const (
	FailedTransport     FailureReason = iota + 1 // the transport is unknown, or off
	FailedSession                                // there is no such session
	FailedMethod                                 // an HTTP method that the protocol does not use here
	FailedUpgradeHeader                          // a websocket without its Upgrade header, or that header without a websocket
	FailedRequest                                // the request contradicts the state of its session, or is malformed
	FailedProtocol                               // a version of the protocol that is unknown, or off
	FailedBusy                                   // Config.Accept refused the session
	FailedShutdown                               // the server is closed
	FailedBody                                   // the body was too large, did not arrive, or exceeded MaxIncomingBytes
	FailedHijack                                 // Hijack of the host's http.ResponseWriter failed
	FailedHandshake                              // the websocket's handshake is malformed
	FailedUpgrade                                // the session has a websocket or another upgrade already, or is closing
)

// problem is an error of the handshake, with the number that the reference
// implementation gives it.
type problem struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

var (
	errTransport = problem{0, "Transport unknown"}
	errSession   = problem{1, "Session ID unknown"}
	errMethod    = problem{2, "Bad handshake method"}
	errRequest   = problem{3, "Bad request"}
	errForbidden = problem{4, "Forbidden"}
	errProtocol  = problem{5, "Unsupported protocol version"}
)

// Forbidden answers a request that the host does not admit, such as one from a foreign
// origin.
func Forbidden(w http.ResponseWriter, r *http.Request) {
	errForbidden.write(w, r, http.StatusForbidden)
}

// endIfUpgrade makes the connection of a request end with its answer if the request asks for a
// websocket, which is refused: Swift's client waits for that.
func endIfUpgrade(w http.ResponseWriter, r *http.Request) {
	if isUpgrade(r) {
		w.Header().Set(headerConnection, "close")
	}
}

func (p problem) write(w http.ResponseWriter, r *http.Request, status int) {
	endIfUpgrade(w, r)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(p.body()) // fails only if the client has disconnected
}

func (p problem) body() []byte {
	b, _ := json.Marshal(p) //nolint:errchkjson // cannot fail: a number and a string
	return b
}

func (b *Busy) write(w http.ResponseWriter, r *http.Request) {
	endIfUpgrade(w, r)
	w.Header().Set("Retry-After", strconv.FormatInt(int64(max(1, math.Ceil(b.RetryAfter.Seconds()))), 10))
	http.Error(w, http.StatusText(b.Status), b.Status)
}

// failed reports a request that has been answered with an error.
func (s *Server) failed(r *http.Request, why FailureReason, status int, detail string) {
	if s.cfg.Failed != nil {
		s.cfg.Failed(r, Failure{why, status, detail})
	}
}

func (s *Server) refuse(w http.ResponseWriter, r *http.Request, p problem, why FailureReason) {
	p.write(w, r, http.StatusBadRequest)
	s.failed(r, why, http.StatusBadRequest, p.Message)
}

func (s *Server) refuseBusy(w http.ResponseWriter, r *http.Request, busy *Busy, why FailureReason) {
	busy.write(w, r)
	s.failed(r, why, busy.Status, "")
}

func (s *Server) refuseClosed(w http.ResponseWriter, r *http.Request) {
	s.refuseBusy(w, r, &Busy{Status: http.StatusServiceUnavailable, RetryAfter: s.cfg.RetryAfter}, FailedShutdown)
}

// refusePost answers a POST whose body was not read completely.
func (s *Session) refusePost(w http.ResponseWriter, r *http.Request, err error) {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		s.reportLimit(LimitPayload)
		w.Header().Set("Content-Length", "0")
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		s.srv.failed(r, FailedBody, http.StatusRequestEntityTooLarge, "")
	case errors.Is(err, errIncoming):
		s.srv.refuseBusy(w, r, &Busy{Status: http.StatusServiceUnavailable, RetryAfter: s.srv.cfg.RetryAfter}, FailedBody)
	default:
		s.srv.refuse(w, r, errRequest, FailedBody)
	}
}

// handshakeFailed reports a websocket handshake that failed. w is the request's
// http.ResponseWriter, or nil if a method of it panicked.
func (s *Server) handshakeFailed(r *http.Request, w http.ResponseWriter, hijacked bool, err error) {
	var refused *ws.ConnectionRejectedError
	switch {
	case !hijacked:
		s.failed(r, FailedHijack, http.StatusInternalServerError, typeWithoutHijack(w))
	case errors.As(err, &refused):
		s.failed(r, FailedHandshake, refused.StatusCode(), refused.Error())
	default: // the response could not be written, or a method of the connection panicked
		s.failed(r, FailedHandshake, http.StatusSwitchingProtocols, "the connection failed")
	}
}

// typeWithoutHijack returns the type of the http.ResponseWriter that has neither Hijack nor
// Unwrap, so that a websocket is not possible. It is w, or one that w wraps.
func typeWithoutHijack(w http.ResponseWriter) string {
	for {
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			break
		}
		w = u.Unwrap()
	}
	if w == nil {
		return ""
	}
	return fmt.Sprintf("%T", w)
}

// reportUpgrade reports an upgrade that was not completed, on a goroutine of its own, because
// its caller holds locks.
func (s *Session) reportUpgrade() {
	if s.srv.cfg.UpgradeFailed != nil && s.srv.addRunning() {
		go func() {
			defer s.srv.running.Done()
			s.srv.cfg.UpgradeFailed(s.handler)
		}()
	}
}

// Limited reports whether Config.Limited was called for the session, or is about to be.
func (s *Session) Limited() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.limited
}

// reportLimit reports a limit that the session has reached, on a goroutine of its own.
func (s *Session) reportLimit(l Limit) {
	s.mu.Lock()
	s.limited = true
	s.mu.Unlock()
	if s.srv.cfg.Limited != nil && s.srv.addRunning() {
		go func() {
			defer s.srv.running.Done()
			s.srv.cfg.Limited(s.handler, Exceeded{Limit: l})
		}()
	}
}
