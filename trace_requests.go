// Requests that fail, as Trace.RequestFailed names them.

package realtime

import (
	"net/http"
	"net/netip"

	"github.com/rodando/realtime/internal/admission"
	"github.com/rodando/realtime/internal/socketio"
)

// RequestFailure says why an HTTP request failed.
type RequestFailure string

// Why requests fail.
const (
	// FailureTransport: the transport is unknown, or not among Options.Transports.
	FailureTransport RequestFailure = "transport"
	// FailureSession: there is no such session. It has ended, or is one of another node:
	// polling takes a load balancer with sticky sessions.
	FailureSession RequestFailure = "session"
	// FailureMethod: not a method of the protocol.
	FailureMethod RequestFailure = "method"
	// FailureUpgradeHeader: a websocket without its Upgrade header, which a proxy has
	// probably removed, or the header without a websocket.
	FailureUpgradeHeader RequestFailure = "upgrade header"
	// FailureRequest: the request contradicts the state of its session, or is malformed.
	FailureRequest RequestFailure = "request"
	// FailureProtocol: an unknown version of Engine.IO, or 3 without Compat.AllowEIO3.
	FailureProtocol RequestFailure = "protocol"
	// FailureOrigin: the page's origin may not connect. See Options.Origins.
	FailureOrigin RequestFailure = "origin"
	// FailureLimit: a limit on connections, which Trace.Limited names.
	FailureLimit RequestFailure = "limit"
	// FailureConnContext: Options.ConnContext failed, which the log says.
	FailureConnContext RequestFailure = "conn context"
	// FailureShutdown: the server shuts down.
	FailureShutdown RequestFailure = "shutdown"
	// FailureBody: the body was too large, or did not arrive.
	FailureBody RequestFailure = "body"
	// FailureHijack: the http.ResponseWriter does not give its connection away, so that
	// there can be no websocket. It is a middleware's, most often, which lacks Unwrap.
	FailureHijack RequestFailure = "hijack"
	// FailureHandshake: the websocket's handshake is malformed, or its answer could not be
	// written.
	FailureHandshake RequestFailure = "handshake"
	// FailureUpgrade: an upgrade from polling to a websocket was not completed, within
	// Timeouts.Upgrade. The connection goes on with polling.
	FailureUpgrade RequestFailure = "upgrade"
)

// RequestFailedInfo is about a request that did not get what it asked for.
type RequestFailedInfo struct {
	Reason RequestFailure
	// Status is the answer's, 101 for a websocket that failed after its handshake.
	Status int
	Method string
	// Transport is what the request asked for, empty if that is none of ours.
	Transport Transport
	// RemoteAddr is the client's address, as Socket.RemoteAddr returns it.
	RemoteAddr netip.Addr
}

// requestFailures names the failures of package socketio.
var requestFailures = map[socketio.FailureReason]RequestFailure{
	socketio.FailedTransport:     FailureTransport,
	socketio.FailedSession:       FailureSession,
	socketio.FailedMethod:        FailureMethod,
	socketio.FailedUpgradeHeader: FailureUpgradeHeader,
	socketio.FailedRequest:       FailureRequest,
	socketio.FailedProtocol:      FailureProtocol,
	socketio.FailedBusy:          FailureLimit,
	socketio.FailedShutdown:      FailureShutdown,
	socketio.FailedBody:          FailureBody,
	socketio.FailedHijack:        FailureHijack,
	socketio.FailedHandshake:     FailureHandshake,
	socketio.FailedUpgrade:       FailureUpgrade,
}

// engineFailed is the Failed of socketio's EngineConfig.
func (rt *Server) engineFailed(r *http.Request, f socketio.Failure) {
	why := requestFailures[f.Reason]
	if f.Reason == socketio.FailedBusy && f.Status == http.StatusInternalServerError {
		why = FailureConnContext
	}
	rt.requestFailed(r, why, f.Status)
}

func (rt *Server) requestFailed(r *http.Request, why RequestFailure, status int) {
	f := rt.opts.Trace.RequestFailed
	if f == nil {
		return
	}
	addr, _, _ := admission.Address(r, rt.opts.TrustedProxies)
	tracing(rt, r.Context(), f, RequestFailedInfo{
		Reason: why, Status: status, Method: knownMethod(r.Method), Transport: requestedTransport(r), RemoteAddr: addr,
	})
}

// requestedTransport returns the transport that a request asks for, or "".
func requestedTransport(r *http.Request) Transport {
	switch t := Transport(r.URL.Query().Get("transport")); t {
	case TransportPolling, TransportWebSocket:
		return t
	}
	return ""
}

// upgradeFailed is socketio's Config.UpgradeFailed.
func (rt *Server) upgradeFailed(c *socketio.Conn) {
	if f := rt.opts.Trace.RequestFailed; f != nil {
		tracing(rt, connTraceContext(c), f, RequestFailedInfo{
			Reason: FailureUpgrade, Status: http.StatusSwitchingProtocols, Method: http.MethodGet, Transport: TransportWebSocket,
			RemoteAddr: c.Data.(*connState).Addr(), //nolint:errcheck,forcetypeassert // the Data is always a *connState
		})
	}
}

// knownMethod returns a method that a client may have made up as "".
func knownMethod(method string) string {
	switch method {
	case http.MethodGet, http.MethodPost, http.MethodOptions, http.MethodHead, http.MethodPut, http.MethodPatch, http.MethodDelete:
		return method
	}
	return ""
}
