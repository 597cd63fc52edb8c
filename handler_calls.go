// Calls of handlers and of OnConnect, which run on the goroutine that has the event
// and are looked after by a watchdog. Go cannot stop a goroutine: in place of a handler
// that does not return the server acknowledges its event with CodeUnavailable and
// closes the connection, so that the client comes back with a new socket.

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
	s     *Socket
	event string
	e     *socketio.Event // nil for OnConnect
}

// begin lists a call of a socket's, which has one at a time. The error is why it must
// not be made.
func (s *Socket) begin(event string, e *socketio.Event, h *hostcall.Handler, start time.Time) (*call, error) {
	c := &call{s: s, event: event, e: e}
	err := s.ns.rt.watchdog.Begin(&c.Call, c, h, s.shard, start)
	switch {
	case err == nil:
		return c, nil
	case errors.Is(err, hostcall.ErrBusyHandler):
		s.ns.rt.limited("HandlersPerEvent")
	case errors.Is(err, hostcall.ErrBusy):
		s.ns.rt.limited("Handlers")
	}
	s.ns.rt.hostFailed("handler", err, "namespace", s.ns.name, "event", event)
	return nil, err
}

// end takes it off the list, and reports whether it had not been abandoned.
func (c *call) end() bool { return c.s.ns.rt.watchdog.End(&c.Call) }

// Abandoned implements hostcall.Owner: it answers the event and closes the connection,
// since the socket's further events, which come one at a time, would wait for ever.
// OnDisconnect does not wait.
func (c *call) Abandoned(took time.Duration) {
	s, ns := c.s, c.s.ns
	ns.rt.log.Error("realtime: handler does not return", "namespace", ns.name, "event", c.event, "socket", s.ID(), "user", s.Identity().UserID, "after", took)
	if c.e != nil {
		if c.e.WantsAck() {
			c.e.Ack(nil, failure(errUnavailable).bytes()...)
		}
		ns.rt.traceHandled(ns.name, c.event, took, CodeUnavailable)
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
	c, err := s.begin("connect", nil, &h.calls, time.Now())
	if err != nil {
		s.Close() // to try again
		return false
	}
	done := func(err error) bool {
		inTime := c.end()
		if err != nil {
			ns.rt.clientError(err, ns.name, "connect", s)
			s.Disconnect()
		}
		return inTime && err == nil && s.Connected()
	}
	return done(hostcall.Guard(func() error { return h.f(c, s) }, func(err error) { done(err) }))
}

// serve is socketio's Hooks.Event: one event from decode to ack.
func (ns *Namespace) serve(inner *socketio.Socket, e *socketio.Event) {
	s, ok := inner.Data.(*Socket)
	if !ok || !s.admitted {
		return // refused the original's way: connected only to be told so
	}
	start := time.Now()
	r := ns.handler(e.Name)
	name := e.Name
	if r == nil {
		name = "" // what clients invent counts as one
	}
	verdict := ratelimit.Pass
	if limiter := ns.rt.limiter; limiter != nil {
		verdict = limiter.Allow(&s.rates, s.Identity().UserID, name)
	}
	a := answer{s: s, e: e, event: name, start: start, abuse: verdict == ratelimit.Abuse, known: r != nil}
	switch {
	case verdict != ratelimit.Pass:
		a.give(Raw{}, errTooOften)
	case r == nil:
		a.give(Raw{}, errNoEvent)
	default:
		c, err := s.begin(name, e, &r.calls, start)
		if err != nil {
			a.give(Raw{}, errUnavailable)
			return
		}
		a.call = c
		var ack Raw
		err = hostcall.Guard(func() (err error) { ack, err = r.handle(c, s, e); return err }, func(err error) { a.give(Raw{}, err) })
		a.give(ack, err)
	}
}

// answer is what is needed to answer an event.
type answer struct {
	s     *Socket
	e     *socketio.Event
	call  *call // of its handler, if that was called
	event string
	start time.Time
	known bool // it has a handler
	abuse bool // of the rates, for which the socket is disconnected
}

// give answers the event, unless that was done in place of its handler.
func (a answer) give(ack Raw, err error) {
	s, ns, rt := a.s, a.s.ns, a.s.ns.rt
	if a.call != nil && !a.call.end() {
		s.uncork()
		if err != nil {
			rt.clientError(err, ns.name, a.event, s) // for the log
		}
		return
	}
	var code Code
	if err != nil {
		shown := rt.clientError(err, ns.name, a.event, s)
		code = shown.Code
		ack = failure(shown)
		if a.known && rt.opts.Compat.EmitExceptions {
			_ = EventException.Emit(s, Exception{Status: "error", Message: shown.Message}) // the socket may have closed
		}
	}
	if a.e.WantsAck() {
		a.e.Ack(ack.Attachments, ack.bytes()...)
	}
	s.uncork()
	rt.traceHandled(ns.name, a.event, time.Since(a.start), code)
	if a.abuse {
		rt.limited("Rates.Breach")
		rt.log.Warn("realtime: disconnected for sending too much", "namespace", ns.name, "event", a.event, "socket", s.ID(), "user", s.Identity().UserID)
		s.Disconnect()
	}
}

var (
	errNoEvent     = Errorf(CodeNotFound, "no such event")
	errTooOften    = Errorf(CodeRateLimited, "too many, slow down")
	errUnavailable = Errorf(CodeUnavailable, "not available, try again")
)
