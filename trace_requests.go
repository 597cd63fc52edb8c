// Trace requests: the reasons of Trace.RequestFailed, and the calls of it.

package realtime

import (
	"net/http"
	"net/netip"

	"github.com/rodando/realtime/internal/admission"
	"github.com/rodando/realtime/internal/socketio"
)

// RequestFailure says why an HTTP request failed.
type RequestFailure string

// The reasons why requests fail.
const (
	// FailureTransport: the transport is unknown, or not in Options.Transports.
	FailureTransport RequestFailure = "transport"
	// FailureSession: this node has no such session. It has ended, or it is on another
	// node: polling needs a load balancer with sticky sessions.
	FailureSession RequestFailure = "session"
	// FailureMethod: the protocol does not use this HTTP method.
	FailureMethod RequestFailure = "method"
	// FailureUpgradeHeader: a websocket request without the Upgrade header, which a proxy
	// has probably removed, or a polling request with it.
	FailureUpgradeHeader RequestFailure = "upgrade header"
	// FailureRequest: the request is malformed, or does not fit the state of its session.
	FailureRequest RequestFailure = "request"
	// FailureProtocol: the version of Engine.IO is unknown, or it is 3 and
	// Compat.AllowEIO3 is not set.
	FailureProtocol RequestFailure = "protocol"
	// FailureOrigin: Options.Origins does not allow the page's origin.
	FailureOrigin RequestFailure = "origin"
	// FailureLimit: a limit on connections. Trace.Limited names it.
	FailureLimit RequestFailure = "limit"
	// FailureConnContext: Options.ConnContext failed. The log has the error.
	FailureConnContext RequestFailure = "conn context"
	// FailureShutdown: the server is shutting down.
	FailureShutdown RequestFailure = "shutdown"
	// FailureBody: the request's body was too large, or could not be read.
	FailureBody RequestFailure = "body"
	// FailureHijack: the http.ResponseWriter cannot be hijacked, which a websocket needs.
	// Usually a middleware has wrapped it in a type without a method Unwrap.
	FailureHijack RequestFailure = "hijack"
	// FailureHandshake: the websocket handshake is malformed, or the connection failed
	// during it. If the client does not read the response, a connection that began with a
	// websocket ends as a slow consumer instead.
	FailureHandshake RequestFailure = "handshake"
	// FailureUpgrade: an upgrade from polling to a websocket did not complete within
	// Timeouts.Upgrade, or the client ended it. The connection continues with polling, unless
	// the client ends that too, as one does whose CONNECT is refused.
	FailureUpgrade RequestFailure = "upgrade"
	// FailureConnect: a connection was closed because its client sent no CONNECT within
	// Timeouts.Connect.
	FailureConnect RequestFailure = "connect"
	// FailurePacket: a connection was closed because its client broke the protocol, before or
	// after its CONNECT. The log says how.
	FailurePacket RequestFailure = "packet"
)

// RequestFailedInfo describes a request that failed.
type RequestFailedInfo struct {
	Reason RequestFailure
	// Status is the status code of the response; 101 for a websocket that failed after its
	// handshake, and 200 for a polling connection that failed later.
	Status int
	// Method is the request's method; empty if it is not one of the usual ones.
	Method string
	// Transport is the transport that the request names; empty if that is unknown.
	Transport Transport
	// RemoteAddr is the client's address, as Socket.RemoteAddr returns it.
	RemoteAddr netip.Addr
}

// requestFailures maps the failures of package socketio to their names.
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

// engineFailed is the Failed function of socketio's EngineConfig: a request failed there.
func (rt *Server) engineFailed(r *http.Request, f socketio.Failure) {
	reason := requestFailures[f.Reason]
	if f.Reason == socketio.FailedBusy && f.Status == http.StatusInternalServerError {
		reason = FailureConnContext // accept has refused the request with this status
	}
	rt.requestFailed(r, reason, f.Status, f.Detail)
}

// requestFailed logs a request that failed, and calls Trace.RequestFailed. detail is more about
// the reason, or empty.
func (rt *Server) requestFailed(r *http.Request, reason RequestFailure, status int, detail string) {
	addr, _, _ := admission.Address(r, rt.opts.TrustedProxies)
	i := RequestFailedInfo{
		Reason: reason, Status: status, Method: knownMethod(r.Method), Transport: requestedTransport(r), RemoteAddr: addr,
	}
	rt.logRequestFailure(i, r, detail)
	if f := rt.opts.Trace.RequestFailed; f != nil {
		callTrace(rt, r.Context(), f, i)
	}
}

// requestedTransport returns the transport that a request names, or "" if it is unknown.
func requestedTransport(r *http.Request) Transport {
	switch t := Transport(r.URL.Query().Get("transport")); t {
	case TransportPolling, TransportWebSocket:
		return t
	}
	return ""
}

// upgradeFailed is socketio's Config.UpgradeFailed.
func (rt *Server) upgradeFailed(c *socketio.Conn) {
	rt.connFailed(c, RequestFailedInfo{Reason: FailureUpgrade, Method: http.MethodGet, Transport: TransportWebSocket}, "")
}

// connectionFailed is socketio's Config.Failed: a connection is closed because its client has
// sent no CONNECT in time or, with an error, because it has broken the protocol.
func (rt *Server) connectionFailed(c *socketio.Conn, broken error) {
	i := RequestFailedInfo{Reason: FailureConnect, Method: http.MethodGet, Transport: Transport(c.Transport())}
	detail := "no CONNECT arrived"
	if broken != nil {
		i.Reason, detail = FailurePacket, broken.Error()
	} else if place, ok := connOf(c).Network(); ok {
		rt.comebacks.Ended(uint64(place))
	}
	rt.connFailed(c, i, detail)
}

// connFailed logs the failure of a connection, and calls Trace.RequestFailed.
func (rt *Server) connFailed(c *socketio.Conn, i RequestFailedInfo, detail string) {
	i.Status, i.RemoteAddr = http.StatusOK, connOf(c).Addr()
	if i.Transport == TransportWebSocket {
		i.Status = http.StatusSwitchingProtocols
	}
	rt.logRequestFailure(i, nil, detail)
	if f := rt.opts.Trace.RequestFailed; f != nil {
		callTrace(rt, connTraceContext(c), f, i)
	}
}

// knownMethod returns the method, or "" if it is not one of the usual ones: a client can
// invent any number of methods.
func knownMethod(method string) string {
	switch method {
	case http.MethodGet, http.MethodPost, http.MethodOptions, http.MethodHead, http.MethodPut, http.MethodPatch, http.MethodDelete:
		return method
	}
	return ""
}
