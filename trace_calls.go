// The calls of the functions of Trace. Where one is nil it costs a comparison.

package realtime

import (
	"context"
	"sync"
	"time"

	"github.com/rodando/realtime/internal/admission"
	"github.com/rodando/realtime/internal/socketio"
)

// tracing hands a call of a function of Trace, which is not nil, to the queue of those.
func tracing[Info any](rt *Server, ctx context.Context, f func(context.Context, Info), i Info) { //nolint:revive // the server comes first, as with a method
	if ctx.Done() != nil {
		ctx = context.WithoutCancel(ctx)
	}
	rt.host.trace.Add(func() { f(ctx, i) })
}

// traceQueue is how many calls of the functions of Trace wait.
const traceQueue = 1 << 16

// droppedTrace is what TraceDropped has not been told yet.
type droppedTrace struct {
	mu     sync.Mutex // guards what follows
	calls  int
	failed bool // there was no room for the call of TraceDropped itself
}

// traceDropped tells the host how many calls of Trace were not made. The queue calls
// it again while there is no room for that.
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
		d.calls-- // calls counts the call of TraceDropped too
	}
	i := TraceDroppedInfo{Calls: d.calls}
	d.failed = !rt.host.trace.Add(func() { f(context.Background(), i) })
	if !d.failed {
		d.calls = 0
	}
}

// traceContext is the context of what happens to a socket.
func (s *Socket) traceContext() context.Context { return s.conn().with(context.Background()) }

// connTraceContext is the context of what happens to a connection.
func connTraceContext(c *socketio.Conn) context.Context {
	return c.Data.(*connState).with(context.Background()) //nolint:errcheck,forcetypeassert // the Data is always a *connState
}

func connTraceInfo(c *socketio.Conn) SocketInfo {
	return SocketInfo{Transport: Transport(c.Transport()), RemoteAddr: c.Data.(*connState).Addr()} //nolint:errcheck,forcetypeassert // the Data is always a *connState
}

func (s *Socket) traceInfo() SocketInfo {
	i := connTraceInfo(s.inner.Conn())
	i.Namespace, i.SocketID, i.UserID = s.ns.name, s.ID(), s.Identity().UserID
	return i
}

func (r *received) traceInfo() DomainInfo {
	return DomainInfo{Event: r.env.Name, ID: r.env.ID, Key: r.env.Key}
}

func (ns *Namespace) traceConnected(s *Socket, start time.Time) {
	if f := ns.rt.opts.Trace.Connected; f != nil {
		tracing(ns.rt, s.traceContext(), f, ConnectedInfo{SocketInfo: s.traceInfo(), Time: start, Duration: time.Since(start)})
	}
}

func (ns *Namespace) traceRefused(h *handshake, code Code) {
	f := ns.rt.opts.Trace.Refused
	if f == nil {
		return
	}
	i := h.s.traceInfo()
	i.UserID = ns.rt.pending.user(h)
	tracing(ns.rt, h.s.traceContext(), f, RefusedInfo{SocketInfo: i, Time: h.start, Duration: time.Since(h.start), Code: code})
}

// connectRefused is socketio's Config.Refused: a CONNECT that did not come to a
// handshake.
func (rt *Server) connectRefused(c *socketio.Conn, unknown bool) bool {
	if f := rt.opts.Trace.Refused; f != nil {
		code := CodeRateLimited
		if unknown {
			code = CodeNotFound
		}
		tracing(rt, connTraceContext(c), f, RefusedInfo{SocketInfo: connTraceInfo(c), Time: time.Now(), Code: code})
	}
	v := rt.admission.Charge(&c.Data.(*connState).Conn) //nolint:errcheck,forcetypeassert // the Data is always a *connState
	if v != admission.Pass {
		rt.connLimited(c, LimitInfo{Limit: LimitRateConnect})
	}
	return v != admission.End
}

// traceHandled reports an event that has been answered.
func (s *Socket) traceHandled(event string, took time.Duration, code Code, bytes, ackBytes int) {
	if f := s.ns.rt.opts.Trace.Handled; f != nil {
		tracing(s.ns.rt, s.traceContext(), f, HandledInfo{
			SocketInfo: s.traceInfo(), Event: event, Time: time.Now().Add(-took), Duration: took, Code: code, Bytes: bytes, AckBytes: ackBytes,
		})
	}
}

// traceAbandoned reports a call of the host's code that does not return.
func (s *Socket) traceAbandoned(event string, took time.Duration) {
	if f := s.ns.rt.opts.Trace.Abandoned; f != nil {
		tracing(s.ns.rt, s.traceContext(), f, AbandonedInfo{SocketInfo: s.traceInfo(), Event: event, Duration: took})
	}
}

// traceEmitted reports an emission to a socket.
func (s *Socket) traceEmitted(event string, ms []*socketio.Message) {
	if f := s.ns.rt.opts.Trace.Emitted; f != nil {
		tracing(s.ns.rt, s.traceContext(), f, EmittedInfo{SocketInfo: s.traceInfo(), Event: event, Receivers: 1, Bytes: sizeOf(ms)})
	}
}

// traceEmitted reports an emission to a broadcast.
func (ns *Namespace) traceEmitted(event string, receivers int, ms []*socketio.Message) {
	if f := ns.rt.opts.Trace.Emitted; f != nil && receivers > 0 {
		i := EmittedInfo{SocketInfo: SocketInfo{Namespace: ns.name}, Event: event, Receivers: receivers, Bytes: sizeOf(ms)}
		tracing(ns.rt, context.Background(), f, i)
	}
}

func sizeOf(ms []*socketio.Message) (n int) {
	for _, m := range ms {
		n += m.Size()
	}
	return n
}

// tracedBytes is the size of an event, 0 when no function of Trace wants to know.
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

func (ns *Namespace) traceDisconnected(s *Socket, reason DisconnectReason) {
	if f := ns.rt.opts.Trace.Disconnected; f != nil {
		tracing(ns.rt, s.traceContext(), f, DisconnectedInfo{SocketInfo: s.traceInfo(), Reason: reason})
	}
}

func (p *publisher) traceDelivered(r *received) {
	if f := p.rt.opts.Trace.Delivered; f != nil {
		tracing(p.rt, r.ctx, f, DeliveredInfo{DomainInfo: r.traceInfo(), Age: time.Since(r.env.At)})
	}
}
