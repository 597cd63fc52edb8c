// Authentication: who may connect, and for how long. The checks of the
// handshake stand in authenticate, in the contract's order.

package realtime

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rodando/realtime/internal/engineio"
	"github.com/rodando/realtime/internal/socketio"
	"github.com/rodando/realtime/internal/wheel"
)

// maxTokenLength is what a token may have in bytes, whatever the verifier.
const maxTokenLength = 8 << 10

// refusals are the messages behind the codes of a refused CONNECT.
var refusals = map[Code]string{
	CodeMissingToken:   "Missing token",
	CodeInvalidToken:   "Invalid token",
	CodeTokenExpired:   "Access token expired",
	CodeMissingClaims:  "Missing sub/sid",
	CodeUserNotFound:   "User not found",
	CodeWrongUserType:  "Wrong userType",
	CodeUserInactive:   "User inactive",
	CodeInvalidSession: "Invalid session",
	CodeAccessExpired:  "Access expired",
	CodeUnavailable:    "Service unavailable",
}

func refuse(code Code) *Error { return &Error{Code: code, Message: refusals[code]} }

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

// connect is socketio's Hooks.Connect: one handshake, on its own goroutine.
func (ns *Namespace) connect(inner *socketio.Socket, payload []byte) {
	start := time.Now()
	s := &Socket{inner: inner, ns: ns}
	inner.Data = s
	h := &handshake{s: s}
	h.timer.F = func() { go h.timedOut() }
	hello, err := ns.admit(s, h, payload)
	ns.rt.pending.done(h)
	switch {
	case !h.decide(), errors.Is(err, ErrClosed):
		return // refused already, or nobody there to be told
	case err != nil:
		ns.refuseConnect(s, s.identity.UserID, err)
		return
	}
	s.armExpiry()
	if inner.OpenThen(func() { ns.connected(s) }, hello) {
		if f := ns.rt.opts.Trace.Connected; f != nil {
			f(ns.name, time.Since(start))
		}
	}
}

// admit runs the checks and puts the socket into its rooms, where what is sent
// to it is held back until it is opened. It returns the socket's first event.
func (ns *Namespace) admit(s *Socket, h *handshake, payload []byte) (hello *engineio.Message, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = panicked{p, debug.Stack()}
		}
	}()
	var rooms []string
	if !ns.opts.Anonymous {
		token, err := connectToken(payload, s.inner.Conn().Data)
		if err != nil {
			return nil, err
		}
		if s.identity, s.expiresAt, err = ns.authenticate(ns.rt.ctx, token, h); err != nil {
			return nil, err
		}
		rooms = connectRooms(ns.name, s.identity)
	}
	if !s.inner.Admit(rooms...) {
		return nil, ErrClosed
	}
	if err := ns.joinTrips(s, h); err != nil {
		return nil, err
	}
	if h.revoked.Load() {
		return nil, refuse(CodeInvalidSession)
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
	err := ns.hook(func(ctx context.Context) error { return f(ctx, s) })
	if err != nil {
		ns.rt.shown(err, ns.name, "connect", s)
		s.Disconnect()
	}
}

// hook runs a host's function under a deadline; a panic is an error.
func (ns *Namespace) hook(f func(ctx context.Context) error) (err error) {
	ctx := ns.rt.handlerContext()
	defer ctx.stop()
	defer func() {
		if p := recover(); p != nil {
			err = panicked{p, debug.Stack()}
		}
	}()
	return f(ctx)
}

// gone is socketio's Hooks.Disconnect.
func (ns *Namespace) gone(inner *socketio.Socket, reason string) {
	s, ok := inner.Data.(*Socket)
	if !ok {
		return
	}
	s.mu.Lock()
	ns.rt.wheel.Stop(&s.expiry)
	s.mu.Unlock()
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
func (ns *Namespace) refuseConnect(s *Socket, userID string, err error) {
	rt := ns.rt
	var e *Error
	if !errors.As(err, &e) {
		e = refuse(CodeUnavailable)
	}
	attrs := []any{"namespace", ns.name, "code", e.Code, "socket", s.ID(), "user", userID}
	if e.Code == CodeUnavailable {
		var p panicked
		if errors.As(err, &p) {
			attrs = append(attrs, "stack", string(p.stack))
		}
		rt.log.Error("realtime: handshake not decided", append(attrs, "error", err)...)
	} else {
		rt.log.Info("realtime: handshake refused", attrs...)
	}
	if f := rt.opts.Trace.Refused; f != nil {
		f(ns.name, e.Code)
	}
	session := s.inner.Conn().Session()
	switch {
	case e.Code == CodeUnavailable && !rt.opts.RefuseUnavailable:
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

// authenticate runs the contract's checks. An *Error is a refusal; any other
// error means that it could not tell. From the moment that the token names user
// and session, a revocation of either reaches h.
func (ns *Namespace) authenticate(ctx context.Context, token string, h *handshake) (id Identity, expiresAt time.Time, err error) {
	o := &ns.rt.opts
	if token == "" {
		return id, expiresAt, refuse(CodeMissingToken)
	}
	if len(token) > maxTokenLength {
		return id, expiresAt, refuse(CodeInvalidToken)
	}
	claims, err := ask(ns.rt, ctx, h, func(ctx context.Context) (Claims, error) {
		return o.Tokens.VerifyToken(ctx, token, ns.name)
	})
	switch {
	case errors.Is(err, ErrTokenExpired):
		return id, expiresAt, refuse(CodeTokenExpired)
	case errors.Is(err, ErrTokenInvalid):
		return id, expiresAt, refuse(CodeInvalidToken)
	case err != nil:
		return id, expiresAt, fmt.Errorf("verifying the token: %w", err)
	case claims.ExpiresAt.IsZero():
		return id, expiresAt, refuse(CodeInvalidToken)
	case !claims.ExpiresAt.After(time.Now()):
		return id, expiresAt, refuse(CodeTokenExpired)
	case claims.Subject == "" || claims.SessionID == "":
		return id, expiresAt, refuse(CodeMissingClaims)
	}
	ns.rt.pending.add(ns.name, h, ownRoom(ns.name, claims.Subject), SessionRoom(claims.SessionID))
	id.UserID, id.SessionID = claims.Subject, claims.SessionID

	user, err := ask(ns.rt, ctx, h, func(ctx context.Context) (User, error) { return o.Users.FindUser(ctx, claims.Subject) })
	switch {
	case errors.Is(err, ErrNotFound):
		return id, expiresAt, refuse(CodeUserNotFound)
	case err != nil:
		return id, expiresAt, fmt.Errorf("finding the user: %w", err)
	case user.ID != claims.Subject:
		return id, expiresAt, errors.New("finding the user: the repository returned another one")
	case len(ns.opts.UserTypes) > 0 && !slices.Contains(ns.opts.UserTypes, user.Type):
		return id, expiresAt, refuse(CodeWrongUserType)
	case !user.Active:
		return id, expiresAt, refuse(CodeUserInactive)
	}
	id.UserType = user.Type

	session, err := ask(ns.rt, ctx, h, func(ctx context.Context) (Session, error) { return o.Sessions.FindSession(ctx, claims.SessionID) })
	expiresAt = claims.ExpiresAt
	switch {
	case errors.Is(err, ErrNotFound):
		return id, expiresAt, refuse(CodeInvalidSession)
	case err != nil:
		return id, expiresAt, fmt.Errorf("finding the session: %w", err)
	case session.ID != claims.SessionID:
		return id, expiresAt, errors.New("finding the session: the repository returned another one")
	case session.UserID != user.ID || session.Revoked:
		return id, expiresAt, refuse(CodeInvalidSession)
	case !session.AccessTokenExpiresAt.IsZero():
		if !session.AccessTokenExpiresAt.After(time.Now()) {
			return id, expiresAt, refuse(CodeAccessExpired)
		}
		if session.AccessTokenExpiresAt.Before(expiresAt) {
			expiresAt = session.AccessTokenExpiresAt
		}
	}
	if ns.opts.Authorize != nil {
		_, err = ask(ns.rt, ctx, h, func(ctx context.Context) (None, error) { return None{}, ns.opts.Authorize(ctx, id) })
	}
	return id, expiresAt, err
}

// ask puts a question to the host within the repositories' timeout. A handshake
// does not wait longer even for a host that does not heed ctx: it is refused
// meanwhile, and its goroutine ends when the host returns.
func ask[T any](rt *Server, ctx context.Context, h *handshake, question func(ctx context.Context) (T, error)) (T, error) {
	deadline := newLazyContext(ctx, rt.opts.RepoTimeout)
	defer deadline.stop()
	if h != nil && h.timer.F != nil {
		rt.wheel.Arm(&h.timer, rt.opts.RepoTimeout)
		defer rt.wheel.Stop(&h.timer)
	}
	return question(deadline)
}

// connectToken finds the token of a handshake: in the CONNECT payload, else in
// the Authorization header of the connection's first request.
func connectToken(payload []byte, header any) (string, error) {
	if len(payload) > 0 {
		// A map, because a struct's fields match whatever their case.
		var auth map[string]json.RawMessage
		if err := json.Unmarshal(payload, &auth); err != nil {
			return "", refuse(CodeInvalidToken)
		}
		if raw, ok := auth["token"]; ok && !bytes.Equal(raw, []byte("null")) {
			var token string
			if err := json.Unmarshal(raw, &token); err != nil {
				return "", refuse(CodeInvalidToken)
			}
			if token = stripBearer(token); token != "" {
				return token, nil
			}
		}
	}
	token, _ := header.(string)
	return token, nil
}

// bearer returns the token of an Authorization header, empty when it has none.
func bearer(header string) string {
	if token := stripBearer(header); token != header {
		return token
	}
	return ""
}

// stripBearer takes the scheme off, in any case.
func stripBearer(s string) string {
	const scheme = "Bearer "
	if len(s) >= len(scheme) && strings.EqualFold(s[:len(scheme)], scheme) {
		return strings.TrimSpace(s[len(scheme):])
	}
	return s
}

// armExpiry ends the socket when its authorisation does.
func (s *Socket) armExpiry() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.expiresAt.IsZero() || s.inner.Closed() {
		return
	}
	if s.expiry.F == nil {
		s.expiry.F = s.expired
	}
	s.ns.rt.wheel.Arm(&s.expiry, time.Until(s.expiresAt))
}

// expired tells the client that its authorisation has ended and closes the
// transport, so that it comes back with a fresh token.
func (s *Socket) expired() {
	_ = EventAuthExpired.Emit(s, AuthExpiredPayload{At: Time{s.ExpiresAt()}})
	s.Close()
}

// refresh renews a socket's authorisation in place.
func (ns *Namespace) refresh(ctx context.Context, s *Socket, in TokenRefresh) (Refreshed, error) {
	h := &handshake{}
	defer ns.rt.pending.done(h)
	was := s.Identity()
	id, expiresAt, err := ns.authenticate(ctx, stripBearer(in.Token), h)
	var e *Error
	switch {
	case errors.As(err, &e):
		return Refreshed{}, &Error{Code: CodeUnauthorized, Message: e.Message}
	case err != nil:
		return Refreshed{}, errors.Join(ErrUnavailable, err)
	case id.UserID != was.UserID || id.UserType != was.UserType:
		return Refreshed{}, Errorf(CodeForbidden, "the token is another user's")
	}
	s.inner.Join(SessionRoom(id.SessionID).name)
	if h.revoked.Load() {
		s.inner.Leave(SessionRoom(id.SessionID).name)
		return Refreshed{}, &Error{Code: CodeUnauthorized, Message: refusals[CodeInvalidSession]}
	}
	if id.SessionID != was.SessionID {
		s.inner.Leave(SessionRoom(was.SessionID).name)
	}
	s.mu.Lock()
	s.identity, s.expiresAt = id, expiresAt
	s.mu.Unlock()
	s.armExpiry()
	return Refreshed{ExpiresAt: Time{expiresAt}}, nil
}

// handshakes knows who is being checked right now, so that a revocation wins
// over a handshake that has read the old state.
//
// handshakes.mu guards byRoom.
type handshakes struct {
	mu     sync.Mutex
	byRoom map[string][]*handshake
}

// handshake is one check under way: of a connecting socket, or of auth:refresh,
// which has no s and no timer.
type handshake struct {
	s        *Socket
	revoked  atomic.Bool
	decided  atomic.Bool
	timer    wheel.Timer // for the host's answer to a question
	listedIn []string    // the keys of handshakes.byRoom
}

// decide reports whether the caller is the one who says how the handshake ends.
func (h *handshake) decide() bool { return h.decided.CompareAndSwap(false, true) }

var errRepoTimeout = errors.New("no answer within Options.RepoTimeout")

func (h *handshake) timedOut() {
	if h.decide() {
		h.s.ns.refuseConnect(h.s, "", errRepoTimeout)
	}
}

func (p *handshakes) add(namespace string, h *handshake, rooms ...Room) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.byRoom == nil {
		p.byRoom = map[string][]*handshake{}
	}
	for _, r := range rooms {
		key := namespace + "\x00" + r.name
		h.listedIn = append(h.listedIn, key)
		p.byRoom[key] = append(p.byRoom[key], h)
	}
}

func (p *handshakes) done(h *handshake) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, key := range h.listedIn {
		rest := slices.DeleteFunc(p.byRoom[key], func(o *handshake) bool { return o == h })
		if len(rest) == 0 {
			delete(p.byRoom, key)
		} else {
			p.byRoom[key] = rest
		}
	}
}

// revoke marks the handshakes that are about to enter one of the rooms.
func (p *handshakes) revoke(namespace string, rooms []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, room := range rooms {
		for _, h := range p.byRoom[namespace+"\x00"+room] {
			h.revoked.Store(true)
		}
	}
}
