// Authentication: who may connect, and for how long. The checks of the
// handshake stand in authenticate, in the contract's order.

package realtime

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rodando/realtime/internal/hostcall"
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
	CodeRateLimited:    "Too many, try again later",
}

func refuse(code Code) *Error { return &Error{Code: code, Message: refusals[code]} }

// asRefusal finds the *Error that an error is or wraps.
func asRefusal(err error) (*Error, bool) {
	var e *Error
	ok := errors.As(err, &e)
	return e, ok && e != nil
}

// authenticate runs the contract's checks. An *Error is a refusal; any other
// error means that it could not tell. A revocation of the user or the session
// reaches h from the beginning, though they are known only once the token is.
func (ns *Namespace) authenticate(ctx context.Context, token string, h *handshake) (id Identity, expiresAt time.Time, err error) {
	claims, err := ns.verifyToken(ctx, token, h)
	if err != nil {
		return id, expiresAt, err
	}
	if !ns.rt.pending.identify(h, ns.name, claims) {
		return id, expiresAt, errRevokedMeanwhile
	}
	user, err := ns.loadUser(ctx, claims.Subject, h)
	if err != nil {
		return id, expiresAt, err
	}
	session, err := ns.loadSession(ctx, claims, h)
	if err != nil {
		return id, expiresAt, err
	}
	id = Identity{UserID: user.ID, UserType: user.Type, SessionID: session.ID}
	expiresAt = claims.ExpiresAt
	if end := session.AccessTokenExpiresAt; !end.IsZero() && end.Before(expiresAt) {
		expiresAt = end
	}
	return id, expiresAt, ns.authorize(ctx, id, h)
}

// verifyToken returns what the token says, once that is known to be true.
func (ns *Namespace) verifyToken(ctx context.Context, token string, h *handshake) (Claims, error) {
	if token == "" {
		return Claims{}, refuse(CodeMissingToken)
	}
	if len(token) > maxTokenLength {
		return Claims{}, refuseBecause(CodeInvalidToken, "the token is too long")
	}
	ns.rt.pending.begin(h)
	claims, err := ask(ctx, ns.rt.host.verify, h, func(ctx context.Context) (Claims, error) {
		return ns.rt.opts.Tokens.VerifyToken(ctx, token, ns.name)
	})
	switch {
	case errors.Is(err, ErrTokenInvalid):
		return Claims{}, refuseBecause(CodeInvalidToken, tokenCause(err, token))
	case errors.Is(err, ErrTokenExpired):
		return Claims{}, refuse(CodeTokenExpired)
	case err != nil:
		return Claims{}, undecided{what: askToken, err: err, secret: token}
	case claims.ExpiresAt.IsZero():
		return Claims{}, refuseBecause(CodeInvalidToken, "no exp")
	case !claims.ExpiresAt.After(time.Now()):
		return Claims{}, refuse(CodeTokenExpired)
	case !validID(claims.Subject):
		return Claims{}, refuseBecause(CodeMissingClaims, "no sub")
	case !validID(claims.SessionID):
		return Claims{}, refuseBecause(CodeMissingClaims, "no sid")
	}
	return claims, nil
}

// loadUser returns the user, who may enter the namespace.
func (ns *Namespace) loadUser(ctx context.Context, userID string, h *handshake) (User, error) {
	user, err := load(ctx, ns.rt.users, userID, h)
	switch {
	case errors.Is(err, ErrNotFound):
		return User{}, refuse(CodeUserNotFound)
	case err != nil:
		return User{}, undecided{what: askUser, err: err}
	case user.ID != userID:
		return User{}, undecided{what: askUser, err: errAnotherRow}
	case len(ns.opts.UserTypes) > 0 && !slices.Contains(ns.opts.UserTypes, user.Type):
		return User{}, refuseBecause(CodeWrongUserType, "the user is a "+string(user.Type))
	case !user.Active:
		return User{}, refuse(CodeUserInactive)
	}
	return user, nil
}

// loadSession returns the login session of a token, which is not over.
func (ns *Namespace) loadSession(ctx context.Context, claims Claims, h *handshake) (Session, error) {
	session, err := load(ctx, ns.rt.sessions, claims.SessionID, h)
	switch {
	case errors.Is(err, ErrNotFound):
		return Session{}, refuseBecause(CodeInvalidSession, "there is no such session")
	case err != nil:
		return Session{}, undecided{what: askSession, err: err}
	case session.ID != claims.SessionID:
		return Session{}, undecided{what: askSession, err: errAnotherRow}
	case session.UserID != claims.Subject:
		return Session{}, refuseBecause(CodeInvalidSession, "the session is another user's")
	case session.Revoked:
		return Session{}, refuseBecause(CodeInvalidSession, "the session is revoked")
	case !session.AccessTokenExpiresAt.IsZero() && !session.AccessTokenExpiresAt.After(time.Now()):
		return Session{}, refuse(CodeAccessExpired)
	}
	return session, nil
}

// authorize asks the host, who has the last word in a namespace of its own.
func (ns *Namespace) authorize(ctx context.Context, id Identity, h *handshake) error {
	if ns.opts.Authorize == nil {
		return nil
	}
	r := AuthorizeRequest{Identity: id, Socket: cmp.Or(h.s, h.renews), Auth: h.auth}
	_, err := ask(ctx, ns.authorizes, h, func(ctx context.Context) (None, error) { return None{}, ns.opts.Authorize(ctx, r) })
	if _, refused := asRefusal(err); err != nil && !refused {
		err = undecided{what: askAuthorize, err: err}
	}
	return err
}

// What a handshake asks the host, for the log.
const (
	askToken     = "verifying the token"
	askUser      = "finding the user"
	askSession   = "finding the session"
	askAuthorize = "authorizing"
	askTrips     = "finding the trips"
)

var (
	errAnotherRow  = errors.New("the repository returned a row with a different id")
	errRepoTimeout = errors.New("no answer within Options.Timeouts.Repo")
)

// undecided says that the host could not tell. What its error wraps has no
// meaning here, except that the log finds the stack of a panic; an *Error would
// be shown to the client.
type undecided struct {
	what   string
	err    error
	secret string // kept out of the log
}

func (u undecided) Error() string {
	text := fmt.Sprintf("%s: %v", u.what, u.err)
	if u.secret != "" {
		text = withoutToken(text, u.secret)
	}
	return text
}

// As implements what errors.As looks for.
func (u undecided) As(target any) bool {
	p, ok := target.(**hostcall.PanicError)
	return ok && errors.As(u.err, p)
}

// ask puts a question of a handshake to the host, unless the client has left.
func ask[T any](ctx context.Context, k *hostcall.Kind, h *handshake, question func(ctx context.Context) (T, error)) (answer T, err error) {
	var from any
	if h.s != nil {
		if h.s.inner.Closed() {
			return answer, ErrClosed
		}
		if network, ok := h.conn().Network(); ok {
			from = network
		}
	}
	answer, err = hostcall.Do(ctx, k, from, question)
	return answer, namingTimeout(err)
}

// load is ask for a row. A client that renews itself knows that its own may just have
// changed.
func load[T any](ctx context.Context, from *hostcall.Lookup[T], id string, h *handshake) (row T, err error) {
	switch {
	case h.s == nil:
		row, err = from.FindFresh(ctx, id)
	case h.s.inner.Closed():
		return row, ErrClosed
	default:
		row, err = from.Find(ctx, id)
	}
	return row, namingTimeout(err)
}

// namingTimeout says which option a timeout is about.
func namingTimeout(err error) error {
	if err == hostcall.ErrTimeout { //nolint:errorlint // the call's own, not one that the host wraps
		return errRepoTimeout
	}
	return err
}

// maxAuth is what the auth object of a CONNECT may have in bytes, without its token,
// where Authorize is to see it.
const maxAuth = 16 << 10

// credentials returns the token of a handshake: that of the CONNECT payload, else the
// one that came with the connection's first request. What else the payload has is kept
// for Authorize.
func (ns *Namespace) credentials(h *handshake, payload []byte) (token string, err error) {
	inAuth, auth, err := splitAuth(payload)
	if err != nil {
		return "", err
	}
	if ns.opts.Authorize != nil && len(auth) > 0 {
		if h.auth, err = json.Marshal(auth); err != nil || len(h.auth) > maxAuth {
			return "", Errorf(CodeInvalidPayload, "auth is too large")
		}
	}
	if h.s.inner.Conn().Protocol() < 4 && !ns.rt.opts.Compat.LegacyQueryToken {
		inAuth = nil // the payload is the query after the namespace
	}
	return connectToken(inAuth, h.conn().token())
}

// splitAuth returns what the auth object of a CONNECT has as its token, and the rest.
func splitAuth(payload []byte) (token json.RawMessage, rest map[string]json.RawMessage, err error) {
	if len(payload) == 0 {
		return nil, nil, nil
	}
	// A map, because a struct's fields match whatever their case.
	if err := json.Unmarshal(payload, &rest); err != nil {
		return nil, nil, refuseBecause(CodeInvalidToken, "auth is no object")
	}
	token = rest["token"]
	delete(rest, "token")
	return token, rest, nil
}

// connectToken is the token of an auth object, if it has one, else that of the request.
func connectToken(inAuth json.RawMessage, header string) (string, error) {
	if len(inAuth) > 0 && !bytes.Equal(inAuth, []byte("null")) {
		var token string
		if err := json.Unmarshal(inAuth, &token); err != nil {
			return "", refuseBecause(CodeInvalidToken, "auth.token is no string")
		}
		if token = stripBearer(token); token != "" {
			return token, nil
		}
	}
	return header, nil
}

// bearer returns the token of an Authorization header, empty when it has none.
func bearer(header string) string {
	token := stripBearer(header)
	if token == header {
		return ""
	}
	return clipped(token)
}

// clipped returns a token that can be kept: of one that is too long as much as
// shows that.
func clipped(token string) string {
	if len(token) > maxTokenLength {
		return strings.Clone(token[:maxTokenLength+1])
	}
	return token
}

// stripBearer takes the scheme off, in any case.
func stripBearer(s string) string {
	const scheme = "Bearer "
	if len(s) >= len(scheme) && strings.EqualFold(s[:len(scheme)], scheme) {
		return strings.TrimSpace(s[len(scheme):])
	}
	return s
}

// refresh renews a socket's authorisation in place.
func (ns *Namespace) refresh(ctx context.Context, s *Socket, in TokenRefresh) (Refreshed, error) {
	h := &handshake{renews: s}
	defer ns.rt.pending.done(h)
	was := s.Identity()
	id, expiresAt, err := ns.authenticate(ctx, stripBearer(in.Token), h)
	refused, ok := asRefusal(err)
	switch {
	case ok:
		return Refreshed{}, &Error{Code: CodeUnauthorized, Message: refused.Message}
	case err != nil:
		return Refreshed{}, errors.Join(ErrUnavailable, err)
	case id.UserID != was.UserID || id.UserType != was.UserType:
		return Refreshed{}, Errorf(CodeForbidden, "the token is another user's")
	}
	// In the new room first, so that a revocation from here on finds the socket
	// there. Where that is the old room it stays in: the revocation that is under
	// way is to find it.
	moves := id.SessionID != was.SessionID
	s.inner.Join(SessionRoom(id.SessionID).name)
	if h.revoked.Load() {
		if moves {
			s.inner.Leave(SessionRoom(id.SessionID).name)
		}
		return Refreshed{}, &Error{Code: CodeUnauthorized, Message: refusals[CodeInvalidSession]}
	}
	if moves {
		s.inner.Leave(SessionRoom(was.SessionID).name)
	}
	s.renew(id, expiresAt)
	return Refreshed{ExpiresAt: Time{expiresAt}}, nil
}
