// The handshake: a CONNECT from its packet to hello or its refusal, and how a
// revocation wins over it. What is checked stands in auth.go.

package realtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rodando/realtime/internal/engineio"
	"github.com/rodando/realtime/internal/socketio"
	"github.com/rodando/realtime/internal/wheel"
)

// connect is socketio's Hooks.Connect: one handshake, on its own goroutine.
func (ns *Namespace) connect(inner *socketio.Socket, payload []byte) {
	start := time.Now()
	s := &Socket{inner: inner, ns: ns, lane: ns.rt.calls.lane()}
	inner.Data = s
	h := &handshake{s: s}
	h.timer.F = func() {
		ns.rt.lost.Add(1) // until the question returns
		go h.timedOut()
	}
	defer ns.rt.pending.done(h)
	hello, err := ns.admit(s, h, payload)
	switch {
	case !h.decide(), errors.Is(err, ErrClosed), err != nil && ns.rt.ctx.Err() != nil:
		return // refused already, nobody there to be told, or the server's end
	case err != nil:
		ns.refuseConnect(h, err)
		return
	}
	opened := inner.OpenThen(func() {
		s.renew(s.identity, s.expiresAt)
		ns.rt.presence.arrived(s)
		ns.connected(s)
	}, hello)
	if opened {
		if f := ns.rt.opts.Trace.Connected; f != nil {
			f(ns.name, time.Since(start))
		}
	} else if h.revoked.Load() {
		ns.refuseConnect(h, refuse(CodeInvalidSession)) // the client has been told
	}
}

// admit runs the checks and puts the socket into its rooms, where what is sent
// to it is held back until it is opened. It returns the socket's first event.
func (ns *Namespace) admit(s *Socket, h *handshake, payload []byte) (hello *engineio.Message, err error) {
	defer caught(&err)
	var rooms []string
	from := s.inner.Conn().Data.(*visitor)
	if !ns.rt.admission.mayConnect(from) {
		ns.rt.limited("Rates.Connect")
		return nil, refuse(CodeRateLimited)
	}
	if from.older && !ns.rt.opts.LegacyQueryToken {
		payload = nil // it is the query behind the namespace
	}
	if !ns.opts.Anonymous {
		token, err := connectToken(payload, from.token)
		if err != nil {
			return nil, err
		}
		if s.identity, s.expiresAt, err = ns.authenticate(ns.rt.ctx, token, h); err != nil {
			return nil, err
		}
		rooms = connectRooms(ns.name, s.identity)
	}
	ns.rt.admission.authenticated(from)
	if !s.inner.Admit(rooms...) {
		return nil, ErrClosed
	}
	s.admitted = true
	if err := ns.enforceSocketsPerUser(s); err != nil {
		return nil, err
	}
	if err := ns.joinTrips(s, h); err != nil {
		return nil, undecided{what: askTrips, err: err}
	}
	return ns.hello(s)
}

// hello is the first event of a socket.
func (ns *Namespace) hello(s *Socket) (*engineio.Message, error) {
	arg, err := json.Marshal(HelloPayload{
		OK: true, Namespace: ns.name, SID: s.identity.SessionID, UserID: s.identity.UserID, ServerTime: Time{time.Now()},
	})
	if err != nil {
		return nil, fmt.Errorf("encoding hello: %w", err)
	}
	return socketio.EventMessage(ns.name, socketio.NoID, EventHello.name, arg), nil
}

// connected runs the host's OnConnect, before any of the socket's events.
func (ns *Namespace) connected(s *Socket) {
	ns.mu.RLock()
	f := ns.onConnect
	ns.mu.RUnlock()
	if f == nil {
		return
	}
	if ns.stuck.Load() >= maxStuck {
		s.Close() // to try again
		return
	}
	c := ns.rt.calls.begin(s, "connect", nil, &ns.stuck, time.Now())
	err := func() (err error) {
		defer caught(&err)
		return f(c, s)
	}()
	ns.rt.calls.end(c)
	if err != nil {
		ns.rt.shown(err, ns.name, "connect", s)
		s.Disconnect()
	}
}

// hook runs a host's function under a deadline; a panic is an error.
func (ns *Namespace) hook(f func(ctx context.Context) error) (err error) {
	ctx := ns.rt.handlerContext()
	defer ctx.stop()
	defer caught(&err)
	return f(ctx)
}

// caught, deferred, turns a panic of the host's code into an error.
func caught(err *error) {
	if p := recover(); p != nil {
		*err = panicked{p, debug.Stack()}
	}
}

// gone is socketio's Hooks.Disconnect.
func (ns *Namespace) gone(inner *socketio.Socket, reason string) {
	s, ok := inner.Data.(*Socket)
	if !ok || !s.admitted {
		return
	}
	s.mu.Lock()
	ns.rt.wheel.Stop(&s.expiry)
	s.mu.Unlock()
	ns.rt.presence.departed(s, reason)
	if f := ns.rt.opts.Trace.Disconnected; f != nil {
		f(ns.name, reason)
	}
	ns.mu.RLock()
	f := ns.onDisconnect
	ns.mu.RUnlock()
	if f == nil {
		return
	}
	if err := ns.hook(func(context.Context) error { f(s, reason); return nil }); err != nil {
		ns.rt.shown(err, ns.name, "disconnect", s)
	}
}

// refuseConnect ends a handshake that did not pass. What could not be decided
// closes the transport after a while, so that stock clients try again.
func (ns *Namespace) refuseConnect(h *handshake, err error) {
	rt, s := ns.rt, h.s
	e := refuse(CodeUnavailable)
	if shown, ok := asRefusal(err); ok {
		e = shown
	}
	attrs := []any{"namespace", ns.name, "event", "connect", "code", e.Code, "socket", s.ID(), "user", rt.pending.user(h)}
	if e.Code == CodeUnavailable {
		attrs = append(attrs, "error", err)
		var p panicked
		if errors.As(err, &p) {
			attrs = append(attrs, "stack", string(p.stack))
		}
		rt.log.Error("realtime: handshake not decided", attrs...)
	} else {
		rt.log.Info("realtime: handshake refused", attrs...)
	}
	if f := rt.opts.Trace.Refused; f != nil {
		f(ns.name, e.Code)
	}
	session := s.inner.Conn().Session()
	switch {
	case e.Code == CodeUnavailable && !rt.opts.RefuseUnavailable:
		s.inner.Drop() // out of its rooms, if it came so far
		delay := rt.opts.UnavailableDelay
		delay = delay/5 + rand.N(delay-delay/5+1)
		rt.wheel.Arm(&wheel.Timer{F: func() { session.Close(engineio.ReasonForcedClose) }}, delay)
	case rt.opts.RefuseAfterConnect && s.inner.Admit():
		if s.inner.Open() {
			s.inner.Disconnect()
		}
	default:
		s.inner.Refuse(refusalPayload(e), rt.opts.DisconnectRefused)
	}
}

// refusal is the payload of a CONNECT_ERROR.
func (rt *Server) refusal(code Code) []byte { return refusalPayload(refuse(code)) }

func refusalPayload(e *Error) []byte {
	var payload struct {
		Message string `json:"message"`
		Data    struct {
			Code Code `json:"code"`
		} `json:"data"`
	}
	payload.Message, payload.Data.Code = e.Message, e.Code
	b, err := json.Marshal(payload)
	if err != nil { // cannot happen: strings
		return []byte(`{"message":"refused"}`)
	}
	return b
}

// handshakes knows who is being checked right now, so that a revocation wins
// over a handshake that has read the old state.
//
// handshakes.mu guards all of it, and what a handshake says that it guards.
type handshakes struct {
	mu     sync.Mutex
	byRoom map[string][]*handshake
	// A handshake whose token is being verified has no rooms yet, so what is
	// revoked meanwhile is remembered: each revocation has a number.
	verifying int
	number    uint64
	revoked   map[string]uint64
}

// handshake is one check under way: of a connecting socket, or of auth:refresh,
// which has no s and no timer.
type handshake struct {
	s        *Socket
	revoked  atomic.Bool
	decided  atomic.Bool
	timer    wheel.Timer // for the host's answer to a question
	question string      // the one that the timer is for

	// handshakes.mu guards these.
	verifying bool
	began     uint64 // the number of the last revocation before it
	userID    string
	listedIn  []string // the keys of handshakes.byRoom
}

// decide reports whether the caller is the one who says how the handshake ends.
func (h *handshake) decide() bool { return h.decided.CompareAndSwap(false, true) }

func (h *handshake) timedOut() {
	if h.decide() {
		ns := h.s.ns
		ns.refuseConnect(h, undecided{what: h.question, err: errRepoTimeout})
		ns.rt.pending.done(h)
	}
}

// begin is called before the token is looked at.
func (p *handshakes) begin(h *handshake) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h.verifying, h.began = true, p.number
	p.verifying++
}

// identify lists the handshake under what the token says, and reports whether
// that has not been revoked since begin.
func (p *handshakes) identify(h *handshake, namespace string, c Claims) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	h.userID = c.Subject
	if p.byRoom == nil {
		p.byRoom = map[string][]*handshake{}
	}
	for _, r := range [...]Room{ownRoom(namespace, c.Subject), SessionRoom(c.SessionID)} {
		key := handshakeKey(namespace, r.name)
		if p.revoked[key] > h.began {
			h.revoked.Store(true)
		}
		h.listedIn = append(h.listedIn, key)
		p.byRoom[key] = append(p.byRoom[key], h)
	}
	p.verifiedLocked(h)
	return !h.revoked.Load()
}

func (p *handshakes) verifiedLocked(h *handshake) {
	if !h.verifying {
		return
	}
	h.verifying = false
	if p.verifying--; p.verifying == 0 {
		p.revoked = nil
	}
}

// user returns whose handshake it is, as far as known.
func (p *handshakes) user(h *handshake) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return h.userID
}

// done forgets a handshake; it is idempotent.
func (p *handshakes) done(h *handshake) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.verifiedLocked(h)
	for _, key := range h.listedIn {
		rest := slices.DeleteFunc(p.byRoom[key], func(o *handshake) bool { return o == h })
		if len(rest) == 0 {
			delete(p.byRoom, key)
		} else {
			p.byRoom[key] = rest
		}
	}
	h.listedIn = nil
}

// revoke refuses the handshakes that are about to enter one of the rooms.
func (p *handshakes) revoke(namespace string, rooms []string) {
	for _, h := range p.mark(namespace, rooms) {
		if h.s != nil && h.decide() {
			h.s.ns.refuseConnect(h, refuse(CodeInvalidSession))
		}
	}
}

// mark returns them, marked.
func (p *handshakes) mark(namespace string, rooms []string) (found []*handshake) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.number++
	for _, room := range rooms {
		key := handshakeKey(namespace, room)
		if p.verifying > 0 {
			if p.revoked == nil {
				p.revoked = map[string]uint64{}
			}
			p.revoked[key] = p.number
		}
		for _, h := range p.byRoom[key] {
			h.revoked.Store(true)
			found = append(found, h)
		}
	}
	return found
}

func handshakeKey(namespace, room string) string { return namespace + "\x00" + room }
