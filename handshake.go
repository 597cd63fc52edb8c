// The handshake: from the CONNECT packet to hello or to the refusal, and the end of a socket.
// auth.go has the checks.

package realtime

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/rodando/realtime/internal/admission"
	"github.com/rodando/realtime/internal/hostcall"
	"github.com/rodando/realtime/internal/socketio"
	"github.com/rodando/realtime/internal/timingwheel"
)

// connect is socketio's Hooks.Connect: one handshake, on its own goroutine.
func (ns *Namespace) connect(inner *socketio.Socket, payload []byte) {
	s := &Socket{inner: inner, ns: ns, shard: ns.rt.watchdog.Shard()}
	inner.Data = s
	ctx, cancel := context.WithCancel(ns.rt.ctx)
	ctx = s.conn().with(ctx)
	h := &handshake{s: s, start: time.Now(), cancel: cancel}
	ns.rt.pending.open(h)
	defer ns.rt.pending.done(h)
	first, err := ns.checkAndJoin(ctx, s, h, payload)
	if err == nil && !ns.opts.Anonymous {
		err = ns.checkAgain(ctx, h)
	}
	opened := false
	defer func() {
		if h.former != nil && !opened {
			ns.rt.peerSockets.again(ns, h.former)
		}
	}()
	switch {
	case !h.decide(), err != nil && (inner.Closed() || ctx.Err() != nil):
		return // already refused, client disconnected, or the server is shutting down
	case err != nil:
		ns.refuseHandshake(h, err)
		if err == errConnectFlood { //nolint:errorlint // the value itself, never wrapped
			s.Close()
		}
		return
	}
	opened = inner.OpenThen(func() {
		ns.rt.offers.connected(s)
		s.opened()
		ns.rt.presence.socketConnected(s)
		ns.rt.peerSockets.connected(s)
		ns.connected(s)
	}, first...)
	if opened {
		ns.rt.undecided.decided()
		ns.rt.welcome(s.conn())
		ns.rt.userLimit.connected(s)
		ns.traceConnected(s, h.start)
	} else if h.revoked.Load() {
		ns.refuseHandshake(h, errRevokedMeanwhile) // only for the log and Trace: the client has received the refusal
	}
}

// errConnectFlood refuses a CONNECT of a connection that went on after many refusals for
// Rates.Connect. The connection is closed too.
var errConnectFlood = connectErrorBecause(CodeRateLimited, string(LimitRateConnect)+", repeatedly")

// checkAndJoin runs the checks and puts the socket into its rooms. Events for the socket are held
// until it is opened. It returns what the socket gets first.
func (ns *Namespace) checkAndJoin(ctx context.Context, s *Socket, h *handshake, payload []byte) (first []*socketio.Message, err error) {
	var rooms []string
	from := s.conn()
	switch ns.rt.admission.Begin(&from.Conn) { //nolint:exhaustive // Pass goes on below
	case admission.Refuse:
		s.limited(LimitRateConnect, "")
		return nil, connectErrorBecause(CodeRateLimited, string(LimitRateConnect))
	case admission.End:
		s.limited(LimitRateConnect, "")
		return nil, errConnectFlood
	case admission.Evicted:
		return nil, errConnectFlood
	}
	defer ns.rt.admission.Decided(&from.Conn)
	if !ns.opts.Anonymous {
		token, err := ns.credentials(h, payload)
		if err != nil {
			return nil, err
		}
		id, expiresAt, err := ns.authenticate(ctx, token, h)
		if err != nil {
			return nil, err
		}
		s.setIdentity(id, expiresAt)
		rooms = connectRooms(ns.name, h.own)
		ns.recoverable(ctx, s, h)
	}
	ns.rt.admission.Joined(&from.Conn, !ns.opts.Anonymous)
	if !s.inner.Admit(rooms...) {
		ns.rt.socketLeft(s.inner)
		return nil, ErrClosed
	}
	if err := ns.enforceSocketsPerUser(ctx, s); err != nil {
		return nil, err
	}
	if err := ns.joinTrips(ctx, s, h); err != nil {
		return nil, undecided{step: stepTrips, err: err}
	}
	return ns.firstMessages(ctx, s, h)
}

// disconnected is socketio's Hooks.Disconnect: it stops the socket's expiry timer and calls the
// functions of OnDisconnect in order.
func (ns *Namespace) disconnected(inner *socketio.Socket, reason string) {
	s, ok := socketOf(inner)
	if !ok {
		return
	}
	defer func() { ns.rt.peerSockets.disconnected(s, inner.Settle(s.Identity())) }()
	s.mu.Lock()
	ns.rt.wheel.Stop(&s.expiry)
	s.mu.Unlock()
	ns.rt.offers.disconnected(s)
	ns.rt.presence.socketDisconnected(s, DisconnectReason(reason))
	ns.traceDisconnected(s, DisconnectReason(reason))
	for _, h := range ns.disconnectHooks() {
		began := time.Now()
		err := hostcall.Run(s.conn().with(context.Background()), h.calls, func(ctx context.Context) error {
			h.f(ctx, s, DisconnectReason(reason))
			return nil
		})
		if errors.Is(err, hostcall.ErrTimeout) {
			s.traceAbandoned("disconnect", time.Since(began))
		}
		switch {
		case err == nil:
		case errors.Is(err, hostcall.ErrBusy), errors.Is(err, hostcall.ErrAbandoned):
			ns.rt.hostFailed("OnDisconnect", err, "namespace", ns.name)
		default:
			ns.rt.clientError(err, ns.name, "disconnect", s) //nolint:errcheck // for the log
		}
	}
}

// refuseHandshake ends a handshake that failed: it sends a CONNECT_ERROR, or closes the transport
// after a delay instead, so that stock clients try again.
func (ns *Namespace) refuseHandshake(h *handshake, err error) {
	rt, s := ns.rt, h.s
	e := connectError(CodeUnavailable)
	if refused, ok := asError(err); ok {
		e = refused
	}
	user := rt.pending.user(h)
	attrs := []any{"namespace", ns.name, "event", "connect", "code", e.Code, "socket", s.ID(), "user", user}
	attrs = withCause(attrs, s, causeOf(err))
	rt.undecided.refused(e.Code, user, s)
	if e.Code == CodeUnavailable {
		rt.log.Error("realtime: handshake not decided", withStack(err, append(attrs, "error", err)...)...)
	} else {
		rt.log.Info("realtime: handshake refused", attrs...)
	}
	ns.traceRefused(h, e.Code)
	conn := s.inner.Conn()
	switch {
	case rt.opts.Compat.retries(e.Code):
		s.inner.Drop() // leaves its rooms, if it had joined any
		delay := rt.opts.Timeouts.UnavailableDelay
		delay = delay/5 + rand.N(delay-delay/5+1)
		rt.wheel.Arm(&timingwheel.Timer{F: func() { conn.Close(socketio.ReasonForcedClose) }}, delay)
	case rt.opts.Compat.RefuseAfterConnect && s.inner.RefuseOpened():
	default:
		s.inner.Refuse(encodeConnectError(e), rt.opts.Compat.DisconnectRefused)
	}
}

// retries reports whether a client whose CONNECT is refused with the code is to try again by itself.
func (c *Compat) retries(code Code) bool {
	switch code { //nolint:exhaustive // the others refuse
	case CodeUnavailable:
		return !c.RefuseUnavailable
	case CodeTokenExpired, CodeAccessExpired:
		return c.RetryExpired
	}
	return false
}

// refuse refuses a socket whose handshake is in progress, and reports whether it did.
func (ns *Namespace) refuse(s *socketio.Socket, why Code) bool {
	return s.Refuse(connectErrorPayload(why), ns.rt.opts.Compat.DisconnectRefused)
}

// refuseOrDisconnect refuses a socket whose handshake is in progress, and disconnects a
// connected one.
func (ns *Namespace) refuseOrDisconnect(s *socketio.Socket, why Code) {
	if !ns.refuse(s, why) {
		s.Disconnect()
	}
}

// connectErrorPayload returns the payload of a CONNECT_ERROR with that code.
func connectErrorPayload(code Code) []byte { return encodeConnectError(connectError(code)) }

func encodeConnectError(e *Error) []byte {
	var payload struct {
		Message string `json:"message"`
		Data    struct {
			Code Code `json:"code"`
		} `json:"data"`
	}
	payload.Message, payload.Data.Code = e.Message, e.Code
	b, err := json.Marshal(payload)
	if err != nil { // cannot happen: strings marshal
		return []byte(`{"message":"refused"}`)
	}
	return b
}
