// Handler calls: an inbound event from its packet to its ack. dispatch checks the rate
// limits, run calls the handler, reply sends the ack. OnConnect is called here too. A
// watchdog abandons a handler that does not return: Go cannot stop a goroutine, so the
// server acknowledges the event with CodeUnavailable and closes the connection. The client
// reconnects with a new socket.

package realtime

import (
	"errors"
	"time"

	"github.com/rodando/realtime/internal/hostcall"
	"github.com/rodando/realtime/internal/socketio"
)

// call is one call of a handler or of OnConnect. It is also the ctx of that call.
type call struct {
	hostcall.Call
	CallRequest            // for OnConnect, only the socket is set
	first       *firstCall // nil unless the event has an idempotency key
}

// Value implements context.Context. The values are those of Options.ConnContext.
func (c *call) Value(key any) any {
	if v := c.Call.Value(key); v != nil {
		return v
	}
	if values := c.socket.conn().values(); values != nil {
		return values.Value(key)
	}
	return nil
}

// begin registers a call with the watchdog. It returns an error if a limit forbids the call.
// A socket has one call at a time.
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

// end unregisters the call. It reports whether the call returned before it was abandoned.
func (c *call) end() (inTime bool) { return c.socket.ns.rt.watchdog.End(&c.Call) }

// Abandoned implements hostcall.Owner. It acknowledges the event and closes the connection:
// a socket's events are handled one at a time, so the next ones would wait for this call.
// OnDisconnect does not wait for it.
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
		s.traceHandled(c.Event(), took, CodeUnavailable, 0, ackBytes) // not the size of the arguments: the handler may change them
	}
	s.inner.Abandon()
	s.Close()
}

// connected calls the functions of OnConnect in order, before the socket's first event is
// handled. It stops at the first one that fails or is abandoned, and if the socket has ended.
func (ns *Namespace) connected(s *Socket) {
	for _, h := range ns.connectHooks() {
		if !ns.runConnectHook(s, h) {
			return
		}
	}
}

// runConnectHook calls one function of OnConnect. It disconnects the socket if the function
// fails, and closes the connection if a limit forbids the call. It reports whether the next
// function may be called.
func (ns *Namespace) runConnectHook(s *Socket, h *connectHook) bool {
	c, err := ns.begin(CallRequest{socket: s}, &h.calls, time.Now())
	if err != nil {
		s.Close() // the client reconnects and tries again
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

// dispatch is socketio's Hooks.Event. It handles one inbound event, or refuses it if it
// exceeds a rate limit or has no handler. bursts.go has the rates.
func (ns *Namespace) dispatch(inner *socketio.Socket, e *socketio.Event) {
	s, ok := socketOf(inner)
	if !ok {
		return
	}
	a := answer{socket: s, event: e, route: ns.route(e.Name), start: time.Now()}
	a.bytes = ns.rt.tracedBytes(e.Args, e.Attachments) // before the handler, which may change them
	switch {
	case ns.rt.limiter == nil:
		a.serve()
	case s.ended:
		a.reply(nil, Raw{}, errTooOften) // the connection is being closed
	case a.route != nil && a.route.newest && e.Over == 0:
		a.servePosition()
	case s.mayRelease():
		inner.Unread(e) // first, so that it is handled however the position's handler ends
		s.release()
	default:
		a.serveWithin()
	}
}

// answer is an inbound event until its ack is sent.
type answer struct {
	socket *Socket
	event  *socketio.Event
	route  *route // nil: the event has no handler
	start  time.Time
	bytes  int // the size of the event, for Trace.Handled
}

// name returns the event's name for limits, traces and the log. It is empty for every event
// without a handler: clients can invent any number of names.
func (a answer) name() string {
	if a.route == nil {
		return ""
	}
	return a.event.Name
}

// serve handles the event, unless it exceeds a limit or has no handler.
func (a answer) serve() {
	switch {
	case a.event.Over != 0:
		a.reply(nil, Raw{}, Errorf(CodeInvalidPayload, "exceeds Limits.%s", protocolLimits[a.event.Over]))
	case a.route == nil:
		a.reply(nil, Raw{}, errNoEvent)
	default:
		a.run()
	}
}

// run calls the interceptors and the event's handler, and replies. It makes no call for a repeat of an
// event.
func (a answer) run() {
	ns := a.socket.ns
	key, err := a.key()
	if err != nil {
		a.reply(nil, Raw{}, err)
		return
	}
	c, err := ns.begin(CallRequest{socket: a.socket, event: a.event, route: a.route}, &a.route.calls, a.start)
	if err != nil {
		a.reply(nil, Raw{}, errUnavailable)
		return
	}
	if key != "" && !a.isFirst(c, key) {
		return
	}
	var ack Raw
	err = hostcall.Guard(func() (err error) {
		ack, err = ns.interceptors.call(c, &c.CallRequest)
		return inspect(err)
	}, func(err error) { a.reply(c, Raw{}, err) })
	a.reply(c, ack, err)
}

// reply emits the events that the handler has queued in its call, then sends the ack. If
// the call was abandoned the ack was sent already. c is nil if no handler was called.
func (a answer) reply(c *call, ack Raw, err error) {
	s, rt := a.socket, a.socket.ns.rt
	inTime := c == nil || c.end() // first, so that the call ends whatever follows
	ack, clientErr := a.outcome(ack, err, c != nil && c.first != nil)
	var code Code
	if clientErr != nil {
		code = clientErr.Code
	}
	c.release(code)
	if !inTime {
		rt.send(c.emissions, false) // the handler's changes are made, and other clients need to know
		c.remember(ack, code)
		return
	}
	if c != nil && len(c.emissions) > 0 {
		// Cork joins the ack and the emitted events for this client in one write.
		conn := s.inner.Conn()
		conn.Cork()
		defer conn.Uncork()
		rt.send(c.emissions, false)
	}
	if clientErr != nil && a.route != nil && rt.opts.Compat.EmitExceptions {
		_ = EventException.Emit(s, Exception{Status: "error", Message: clientErr.Message}) // the socket may have closed
	}
	ackBytes := 0
	if a.event.WantsAck() {
		args := ack.bytes()
		ackBytes = rt.tracedBytes(args, ack.Attachments)
		a.event.Ack(ack.Attachments, args...)
	}
	c.remember(ack, code) // not before: no repeat's ack overtakes this one
	s.traceHandled(a.name(), time.Since(a.start), code, a.bytes, ackBytes)
}

// outcome returns the ack of a call that has returned ack and err, and the error that is in it. An ack that cannot be
// sent is an error, also if only a repeat of the event may ask for it.
func (a answer) outcome(ack Raw, err error, repeatable bool) (Raw, *Error) {
	ns := a.socket.ns
	var clientErr *Error
	if err != nil {
		clientErr = ns.rt.clientError(err, ns.name, a.name(), a.socket)
		ack = failure(clientErr)
	}
	if a.event.WantsAck() || repeatable {
		if err := sendable(ns.rt, "", ack.Args, ack.Attachments); err != nil {
			clientErr = ns.rt.clientError(err, ns.name, a.name(), a.socket)
			ack = failure(clientErr)
		}
	}
	return ack, clientErr
}

var (
	errNoEvent     = Errorf(CodeNotFound, "no such event")
	errTooOften    = Errorf(CodeRateLimited, "too many, slow down")
	errUnavailable = Errorf(CodeUnavailable, "not available, try again")
)
