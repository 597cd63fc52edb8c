// Trace calls: the server calls the functions of Options.Trace here, through a queue. A nil
// function costs one comparison.

package realtime

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/rodando/realtime/internal/admission"
	"github.com/rodando/realtime/internal/socketio"
)

// callTrace queues a call of a function of Trace, which must not be nil.
func callTrace[Info any](rt *Server, ctx context.Context, f func(context.Context, Info), i Info) { //nolint:revive // the server comes first, as with a method
	if ctx.Done() != nil {
		ctx = context.WithoutCancel(ctx)
	}
	rt.host.trace.Add(func() { f(ctx, i) })
}

// traceQueue is the maximum number of queued calls of the functions of Trace.
const traceQueue = 1 << 16

// droppedTrace counts the dropped calls that TraceDropped has not reported yet.
type droppedTrace struct {
	mu     sync.Mutex // guards the fields below
	calls  int
	failed bool // the last call of TraceDropped was dropped itself
}

// traceDropped calls TraceDropped with the number of dropped calls. If the queue has no
// room for that call either, the queue counts it as dropped and calls traceDropped again.
func (rt *Server) traceDropped(calls int) {
	f := rt.opts.Trace.TraceDropped
	if f == nil {
		return
	}
	d := &rt.host.dropped
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls += calls
	if d.failed {
		d.calls-- // the queue has counted the call of TraceDropped
	}
	i := TraceDroppedInfo{Calls: d.calls}
	d.failed = !rt.host.trace.Add(func() { f(context.Background(), i) })
	if !d.failed {
		d.calls = 0
	}
}

// traceContext returns the ctx of a Trace call about a socket.
func (s *Socket) traceContext() context.Context { return s.conn().with(context.Background()) }

// connTraceContext returns the ctx of a Trace call about a connection.
func connTraceContext(c *socketio.Conn) context.Context {
	return connOf(c).with(context.Background())
}

func connTraceInfo(c *socketio.Conn) SocketInfo {
	return SocketInfo{Transport: Transport(c.Transport()), RemoteAddr: connOf(c).Addr()}
}

func (s *Socket) traceInfo() SocketInfo {
	i := connTraceInfo(s.inner.Conn())
	i.Namespace, i.SocketID, i.UserID = s.ns.name, s.ID(), s.Identity().UserID
	return i
}

func (r *received) traceInfo() DomainInfo {
	return DomainInfo{Event: r.env.Name, ID: r.env.ID, Key: r.env.Key}
}

// debugs reports whether lines at Debug are logged.
func (rt *Server) debugs() bool { return rt.log.Enabled(context.Background(), slog.LevelDebug) }

// traceConnected calls Trace.Connected, and logs at Debug who has connected.
func (ns *Namespace) traceConnected(s *Socket, start time.Time) {
	if ns.rt.debugs() {
		i := s.traceInfo()
		ns.rt.log.Debug("realtime: socket connected", "namespace", i.Namespace, "socket", i.SocketID, "user", i.UserID,
			"sid", s.Identity().SessionID, "address", i.RemoteAddr, "transport", i.Transport, "took", time.Since(start))
	}
	if f := ns.rt.opts.Trace.Connected; f != nil {
		callTrace(ns.rt, s.traceContext(), f, ConnectedInfo{SocketInfo: s.traceInfo(), Time: start, Duration: time.Since(start)})
	}
}

func (ns *Namespace) traceRefused(h *handshake, code Code) {
	f := ns.rt.opts.Trace.Refused
	if f == nil {
		return
	}
	i := h.s.traceInfo()
	i.UserID = ns.rt.pending.user(h)
	callTrace(ns.rt, h.s.traceContext(), f, RefusedInfo{SocketInfo: i, Time: h.start, Duration: time.Since(h.start), Code: code})
}

// connectRefused is socketio's Config.Refused: package socketio has refused a CONNECT before
// its handshake. unknown says that the namespace does not exist; otherwise the connection
// has too many namespaces. It reports whether the connection may stay open.
func (rt *Server) connectRefused(c *socketio.Conn, name string, unknown bool) (keep bool) {
	if unknown { // otherwise there is the line of the limit
		rt.log.Info("realtime: CONNECT to a namespace that does not exist", "name", name, "address", connOf(c).Addr(),
			"remedy", "correct it in the app, or add it to Options.Namespaces")
	}
	if f := rt.opts.Trace.Refused; f != nil {
		code := CodeRateLimited
		if unknown {
			code = CodeNotFound
		}
		callTrace(rt, connTraceContext(c), f, RefusedInfo{SocketInfo: connTraceInfo(c), Time: time.Now(), Code: code})
	}
	v := rt.admission.Charge(&connOf(c).Conn)
	if v != admission.Pass {
		rt.connLimited(c, LimitInfo{Limit: LimitRateConnect})
	}
	return v != admission.End
}

// heartbeat returns socketio's Config.Heartbeat, or nil if Trace.Heartbeat is nil.
func (rt *Server) heartbeat() func(c *socketio.Conn, roundTrip time.Duration) {
	f := rt.opts.Trace.Heartbeat
	if f == nil {
		return nil
	}
	return func(c *socketio.Conn, roundTrip time.Duration) {
		callTrace(rt, connTraceContext(c), f, HeartbeatInfo{SocketInfo: connTraceInfo(c), RoundTrip: roundTrip})
	}
}

// traceHandled calls Trace.Handled.
func (s *Socket) traceHandled(event string, took time.Duration, code Code, bytes, ackBytes int) {
	if f := s.ns.rt.opts.Trace.Handled; f != nil {
		callTrace(s.ns.rt, s.traceContext(), f, HandledInfo{
			SocketInfo: s.traceInfo(), Event: event, Time: time.Now().Add(-took), Duration: took, Code: code, Bytes: bytes, AckBytes: ackBytes,
		})
	}
}

// traceAbandoned calls Trace.Abandoned.
func (s *Socket) traceAbandoned(event string, took time.Duration) {
	if f := s.ns.rt.opts.Trace.Abandoned; f != nil {
		callTrace(s.ns.rt, s.traceContext(), f, AbandonedInfo{SocketInfo: s.traceInfo(), Event: event, Duration: took})
	}
}

// traceEmitted calls Trace.Emitted for an emission to a socket.
func (s *Socket) traceEmitted(event string, size int) {
	if f := s.ns.rt.opts.Trace.Emitted; f != nil {
		callTrace(s.ns.rt, s.traceContext(), f, EmittedInfo{SocketInfo: s.traceInfo(), Event: event, Receivers: 1, Bytes: size})
	}
}

// traceEmitted calls Trace.Emitted for a broadcast.
func (b Broadcast) traceEmitted(event string, receivers, size int) {
	f := b.ns.rt.opts.Trace.Emitted
	if f == nil || receivers == 0 {
		return
	}
	to := Audience{namespace: b.ns.name, all: b.all}
	if len(b.rooms) > 0 {
		to.room, to.more = Room{b.rooms[0]}, roomsNamed(b.rooms[1:])
	}
	callTrace(b.ns.rt, context.Background(), f, EmittedInfo{
		SocketInfo: SocketInfo{Namespace: b.ns.name}, Event: event, Audience: to, Receivers: receivers, Bytes: size,
	})
}

// tracedBytes returns the size of an event for Trace.Handled, or 0 if that is nil.
func (rt *Server) tracedBytes(args, attachments [][]byte) (n int) {
	if rt.opts.Trace.Handled == nil {
		return 0
	}
	for _, b := range args {
		n += len(b)
	}
	for _, b := range attachments {
		n += len(b)
	}
	return n
}

// traceDisconnected calls Trace.Disconnected, and logs at Debug who has disconnected and why.
func (ns *Namespace) traceDisconnected(s *Socket, reason DisconnectReason) {
	if ns.rt.debugs() {
		i := s.traceInfo()
		ns.rt.log.Debug("realtime: socket disconnected", "namespace", i.Namespace, "socket", i.SocketID, "user", i.UserID,
			"sid", s.Identity().SessionID, "address", i.RemoteAddr, "transport", i.Transport, "reason", reason, "after", time.Since(s.since()))
	}
	if f := ns.rt.opts.Trace.Disconnected; f != nil {
		since := s.since()
		callTrace(ns.rt, s.traceContext(), f, DisconnectedInfo{SocketInfo: s.traceInfo(), Time: since, Duration: time.Since(since), Reason: reason})
	}
}

// traceDelivered calls Trace.Delivered, and logs at Debug how many received the event.
func (p *publisher) traceDelivered(r *received) {
	if r.heard == nil {
		return
	}
	if f := p.rt.opts.Trace.Delivered; f != nil {
		callTrace(p.rt, r.ctx, f, DeliveredInfo{
			DomainInfo: r.traceInfo(), Age: time.Since(r.env.At), Time: r.begun, Duration: time.Since(r.begun), Audiences: *r.heard,
		})
	}
	if p.rt.log.Enabled(r.ctx, slog.LevelDebug) {
		for _, a := range *r.heard {
			p.rt.log.Debug("realtime: domain event emitted", "event", r.env.Name, "id", r.env.ID,
				"emitted", a.Event, "to", a.Audience, "receivers", a.Receivers, "otherNodes", a.OtherNodes)
		}
	}
}
