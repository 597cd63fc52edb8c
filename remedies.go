// Remedies: the log lines of what fails below CONNECT, where no ack and no CONNECT_ERROR say
// why, and what to do about each.

package realtime

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"

	"github.com/rodando/realtime/internal/logsample"
)

// advice is the level of a line, and what to do about what it says.
type advice struct {
	level  slog.Level
	remedy string
}

// requestAdvice has the advice for each RequestFailure, but for those that have a line of their
// own: FailureOrigin, FailureConnContext and FailureLimit. Warnings are mistakes in the
// deployment; the others also come from what wanders about on the internet.
var requestAdvice = map[RequestFailure]advice{
	FailureTransport:     {slog.LevelInfo, "use a Socket.IO client; if it is one, add its transport to Options.Transports"},
	FailureSession:       {slog.LevelInfo, "nothing after the session has ended; with several nodes, polling clients need sticky sessions (docs/scaling.md)"},
	FailureMethod:        {slog.LevelInfo, "use a Socket.IO client; a proxy must not change the method"},
	FailureUpgradeHeader: {slog.LevelWarn, "let the proxy use HTTP/1.1 and pass on the headers Upgrade and Connection (docs/scaling.md)"},
	FailureRequest:       {slog.LevelInfo, "use a Socket.IO client; a proxy must not repeat its requests"},
	FailureProtocol:      {slog.LevelWarn, "clients of Socket.IO 1 and 2 need Options.Compat.AllowEIO3; all others send EIO=4"},
	FailureShutdown:      {slog.LevelInfo, "nothing; a load balancer that asks Server.Check sends no requests here"},
	FailureBody:          {slog.LevelInfo, "nothing if the client's network is bad; a proxy must pass on the whole body"},
	FailureHijack:        {slog.LevelError, "a websocket needs HTTP/1.1 and the net/http connection: give the type in detail, of a middleware, a method Unwrap() http.ResponseWriter"},
	FailureHandshake:     {slog.LevelInfo, "let the proxy pass on the headers Connection, Upgrade and Sec-WebSocket-* (docs/scaling.md)"},
	FailureConnect:       {slog.LevelInfo, "connect to a namespace, with a Socket.IO client, within Options.Timeouts.Connect; a plain WebSocket or Engine.IO client sends no CONNECT"},
	FailurePacket:        {slog.LevelInfo, "use a Socket.IO client; a proxy must not change what it passes on"},
	FailureUpgrade:       {slog.LevelInfo, "nothing: the client goes on with polling, or has gone; if no client gets a websocket, look for a proxy that stops them"},
}

// logRequestFailure logs a request that failed, if no other line does. detail is more about
// the reason, or empty.
func (rt *Server) logRequestFailure(i RequestFailedInfo, r *http.Request, detail string) {
	a, ok := requestAdvice[i.Reason]
	if !ok || i.Reason == FailureBody && i.Status != http.StatusBadRequest { // the line of the limit
		return
	}
	if i.Reason == FailureUpgradeHeader && i.Transport == TransportPolling {
		a.remedy = "a proxy must not add the header Upgrade: websocket to requests that have none (docs/scaling.md)"
	}
	if i.Reason == FailureHijack && detail == "*http.timeoutWriter" {
		a.remedy = "mount the server outside of the http.TimeoutHandler, which ends polls too"
	}
	attrs := []any{"reason", i.Reason, "status", i.Status}
	if detail != "" {
		attrs = append(attrs, "detail", detail)
	}
	if r != nil { // never the query: it may have a token, and has the session's id
		q := r.URL.Query()
		attrs = append(attrs, "method", i.Method, "transport", short(q.Get("transport")), "protocol", short(q.Get("EIO")), "userAgent", r.UserAgent())
	}
	rt.logRemedy(a, "realtime: request failed", i.RemoteAddr, attrs...)
}

// short returns a value of a query, if it is short: a longer one may be a token in the wrong
// place.
func short(value string) string {
	if len(value) > 16 {
		return "..."
	}
	return value
}

// logRemedy logs something with its remedy, at most once in ten seconds for each message and
// reason or limit, and ten times at once.
func (rt *Server) logRemedy(a advice, message string, from netip.Addr, attrs ...any) {
	if ctx := context.Background(); rt.log.Enabled(ctx, a.level) {
		if from.IsValid() {
			attrs = append(attrs, "address", from.String())
		}
		rt.log.Log(ctx, a.level, message, append(attrs, logsample.Remedy, a.remedy)...)
	}
}

// quietLimits are those whose client gets a code, in an ack or a CONNECT_ERROR, and those of
// the host's own calls.
var quietLimits = map[Limit]bool{
	LimitRateLocation: true, LimitRateEvent: true, LimitRateEvents: true, LimitRateUser: true,
	LimitRoomsPerSocket: true, LimitSocketsPerUser: true, LimitNamespaces: true, LimitPendingAcks: true,
}

// limitAdvice returns the advice for a limit that was reached.
func limitAdvice(l Limit) advice {
	a := advice{slog.LevelWarn, "if the clients are right, raise Options." + string(l)}
	if !strings.HasPrefix(string(l), "Rates.") {
		a.remedy = "if the clients are right, raise Options.Limits." + string(l)
	}
	if quietLimits[l] {
		a.level = slog.LevelInfo
	}
	switch l { //nolint:exhaustive // of the others the client may send less
	case LimitConnections, LimitUnauthenticated:
		a.remedy = "more nodes, or raise Options.Limits." + string(l)
	case LimitConnectionsPerIP, LimitUnauthenticatedPerIP, LimitRateHandshake, LimitRateUnauthenticated:
		a.remedy = "if the address is a proxy of yours, add it to Options.TrustedProxies; if many clients share it, " + strings.TrimPrefix(a.remedy, "if the clients are right, ")
	case LimitHandlers, LimitHandlersPerEvent:
		a.remedy = "make the handlers return sooner, or raise Options.Limits." + string(l)
	case LimitOutbox:
		a.remedy = "nothing if the client's network is bad; otherwise emit less to it, or raise Options.Limits.OutboxBytes, Options.Limits.OutboxMessages or Options.Timeouts.Write"
	case LimitIncomingBytes:
		a.remedy = "nothing: the clients send large messages slowly, perhaps on purpose"
	case LimitNamespaceName:
		a.remedy = "use a shorter name: this limit is fixed"
	case LimitPendingAcks:
		a.remedy = "the client does not answer; ask less often, or raise Options.Limits.PendingAcks"
	}
	return a
}

// logLimit logs a limit that was reached, if no other line does.
func (rt *Server) logLimit(i LimitInfo) {
	if i.Limit == LimitRateConnect || i.Limit == LimitRateBreach { // the lines of the refused handshake, and of the disconnection
		return
	}
	attrs := []any{"limit", i.Limit}
	for _, a := range []struct{ key, value string }{
		{"namespace", i.Namespace}, {"event", i.Event}, {"socket", i.SocketID}, {"user", i.UserID}, {"transport", string(i.Transport)},
	} {
		if a.value != "" {
			attrs = append(attrs, a.key, a.value)
		}
	}
	if i.Limit == LimitOutbox {
		attrs = append(attrs, "messages", i.OutboxMessages, "bytes", i.OutboxBytes)
	}
	rt.logRemedy(limitAdvice(i.Limit), "realtime: limit reached", i.RemoteAddr, attrs...)
}
