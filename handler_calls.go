// An event's way from the packet to its ack: dispatch decides what becomes of it, run
// calls its handler, reply answers it. Handlers and OnConnect run on the goroutine that
// has the event, and a watchdog looks after them: Go cannot stop a goroutine, so in
// place of a handler that does not return the server acknowledges its event with
// CodeUnavailable and closes the connection, so that the client comes back with a new
// socket.

package realtime

import (
	"errors"
	"time"

	"github.com/rodando/realtime/internal/hostcall"
	"github.com/rodando/realtime/internal/ratelimit"
	"github.com/rodando/realtime/internal/socketio"
)

// call is one event, or OnConnect, while the host's code handles it. It is the
// context that the code gets.
type call struct {
	hostcall.Call
	CallRequest // of OnConnect it has the socket alone
}

// Value implements context.Context: the values are those of Options.ConnContext.
func (c *call) Value(key any) any {
	if v := c.Call.Value(key); v != nil {
		return v
	}
	if values := c.socket.conn().values(); values != nil {
		return values.Value(key)
	}
	return nil
}

// begin lists a call of a socket's, which has one at a time. The error is why it must
// not be made.
func (ns *Namespace) begin(r CallRequest, h *hostcall.Handler, start time.Time) (*call, error) {
	c := &call{CallRequest: r}
	err := ns.rt.watchdog.Begin(&c.Call, c, h, r.socket.shard, start)
	switch {
	case err == nil:
		return c, nil
	case errors.Is(err, hostcall.ErrBusyHandler):
		r.socket.limited(LimitHandlersPerEvent, r.Event())
	case errors.Is(err, hostcall.ErrBusy):
		r.socket.limited(LimitHandlers, r.Event())
	}
	ns.rt.hostFailed("handler", err, "namespace", ns.name, "event", r.Event())
	return nil, err
}

// end takes it off the list, and reports whether it had not been abandoned.
func (c *call) end() bool { return c.socket.ns.rt.watchdog.End(&c.Call) }

// Abandoned implements hostcall.Owner: it answers the event and closes the connection,
// since the socket's further events, which come one at a time, would wait for ever.
// OnDisconnect does not wait.
func (c *call) Abandoned(took time.Duration) {
	s, ns := c.socket, c.socket.ns
	ns.rt.log.Error("realtime: handler does not return", "namespace", ns.name, "event", c.Event(), "socket", s.ID(), "user", s.Identity().UserID, "after", took)
	s.traceAbandoned(c.Event(), took)
	if c.event != nil {
		ackBytes := 0
		if c.event.WantsAck() {
			args := failure(errUnavailable).bytes()
			ackBytes = ns.rt.tracedBytes(args, nil)
			c.event.Ack(nil, args...)
		}
		s.traceHandled(c.Event(), took, CodeUnavailable, 0, ackBytes) // the arguments are the handler's
	}
	s.inner.Abandon()
	s.Close()
}

// connected calls the functions of OnConnect, before any of the socket's events.
func (ns *Namespace) connected(s *Socket) {
	for _, h := range ns.connectHooks() {
		if !ns.connectedOne(s, h) {
			return
		}
	}
}

// connectedOne reports whether the next function is to be called.
func (ns *Namespace) connectedOne(s *Socket, h *connectHook) bool {
	c, err := ns.begin(CallRequest{socket: s}, &h.calls, time.Now())
	if err != nil {
		s.Close() // to try again
		return false
	}
	done := func(err error) bool {
		inTime := c.end()
		if err != nil {
			ns.rt.clientError(err, ns.name, "connect", s) //nolint:errcheck // only for the log
			s.Disconnect()
		}
		return inTime && err == nil && s.Connected()
	}
	return done(hostcall.Guard(func() error { return inspect(h.f(c, s)) }, func(err error) { done(err) }))
}

// dispatch is socketio's Hooks.Event: it decides what becomes of an event.
func (ns *Namespace) dispatch(inner *socketio.Socket, e *socketio.Event) {
	s, ok := inner.Data.(*Socket)
	if !ok || !s.admitted {
		return // the CONNECT was refused, and Compat.RefuseAfterConnect is set
	}
	a := answer{socket: s, event: e, route: ns.route(e.Name), start: time.Now()}
	a.bytes = ns.rt.tracedBytes(e.Args, e.Attachments) // before they are the handler's
	verdict := ratelimit.Pass
	if limiter := ns.rt.limiter; limiter != nil {
		var limit string
		if verdict, limit = limiter.Allow(&s.rates, s.Identity().UserID, a.name()); verdict != ratelimit.Pass {
			s.limited(Limit(limit), a.name())
		}
	}
	switch {
	case verdict != ratelimit.Pass:
		a.reply(nil, Raw{}, errTooOften)
		if verdict == ratelimit.Abuse {
			ns.disconnectAbuser(s, a.name())
		}
	case a.route == nil:
		a.reply(nil, Raw{}, errNoEvent)
	default:
		a.run()
	}
}

// disconnectAbuser disconnects a socket for what it has sent beyond its rates.
func (ns *Namespace) disconnectAbuser(s *Socket, event string) {
	s.limited(LimitRateBreach, event)
	ns.rt.log.Warn("realtime: disconnected for sending too much", "namespace", ns.name, "event", event, "socket", s.ID(), "user", s.Identity().UserID)
	s.Disconnect()
}

// answer is an event that is to be answered.
type answer struct {
	socket *Socket
	event  *socketio.Event
	route  *route // nil: nobody handles it
	start  time.Time
	bytes  int // of the event, for Trace.Handled
}

// name is the event's for limits, traces and the log, where all that nobody handles
// count as one: clients invent them.
func (a answer) name() string {
	if a.route == nil {
		return ""
	}
	return a.event.Name
}

// run calls the event's handler, by way of the interceptors.
func (a answer) run() {
	ns := a.socket.ns
	c, err := ns.begin(CallRequest{socket: a.socket, event: a.event, route: a.route}, &a.route.calls, a.start)
	if err != nil {
		a.reply(nil, Raw{}, errUnavailable)
		return
	}
	var ack Raw
	err = hostcall.Guard(func() (err error) {
		ack, err = ns.interceptors.call(c, &c.CallRequest)
		return inspect(err)
	}, func(err error) { a.reply(c, Raw{}, err) })
	a.reply(c, ack, err)
}

// reply sends what the event has led to: what its handler left to be emitted, then the
// ack, unless the event has been answered in place of the handler. c is nil when there
// was no call.
func (a answer) reply(c *call, ack Raw, err error) {
	s, ns, rt := a.socket, a.socket.ns, a.socket.ns.rt
	inTime := c == nil || c.end() // first: whatever becomes of the answer, the call is over
	var shown *Error
	var code Code
	if err != nil {
		shown = rt.clientError(err, ns.name, a.name(), s)
		code = shown.Code
	}
	if !inTime {
		rt.send(c.emissions, false) // for the others: it has happened
		return
	}
	if c != nil && len(c.emissions) > 0 {
		// One write for what the socket itself gets of it, and the ack.
		conn := s.inner.Conn()
		conn.Cork()
		defer conn.Uncork()
		rt.send(c.emissions, false)
	}
	if shown != nil {
		ack = failure(shown)
		if a.route != nil && rt.opts.Compat.EmitExceptions {
			_ = EventException.Emit(s, Exception{Status: "error", Message: shown.Message}) // the socket may have closed
		}
	}
	ackBytes := 0
	if a.event.WantsAck() {
		args := ack.bytes()
		ackBytes = rt.tracedBytes(args, ack.Attachments)
		a.event.Ack(ack.Attachments, args...)
	}
	s.traceHandled(a.name(), time.Since(a.start), code, a.bytes, ackBytes)
}

var (
	errNoEvent     = Errorf(CodeNotFound, "no such event")
	errTooOften    = Errorf(CodeRateLimited, "too many, slow down")
	errUnavailable = Errorf(CodeUnavailable, "not available, try again")
)
