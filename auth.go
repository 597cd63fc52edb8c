// Authentication: the checks of the handshake and of auth:refresh, in the order of the wire
// contract. They call the host only through package hostcall, and change no socket; checkAgain
// and refresh store what the checks returned.

package realtime

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rodando/realtime/internal/hostcall"
)

// maxTokenLength is the maximum length of a token in bytes, for every verifier.
const maxTokenLength = 8 << 10

// connectMessages are the messages of a CONNECT_ERROR, by code.
var connectMessages = map[Code]string{ //nolint:gosec // messages, no credentials
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

// connectError returns the error that refuses a CONNECT with that code.
func connectError(code Code) *Error { return &Error{Code: code, Message: connectMessages[code]} }

// asError returns the *Error that an error is or wraps.
func asError(err error) (*Error, bool) {
	e, ok := errors.AsType[*Error](err)
	if !ok || e == nil {
		return nil, false
	}
	if e.Code == "" {
		return &Error{Code: CodeInternal, Message: e.Message, Fields: e.Fields}, true
	}
	return e, true
}

// authenticate runs the checks of the contract. An *Error means that the handshake is
// refused; any other error means that it cannot be decided. A revocation of the user or
// the session that comes after the start of the token's verification reaches h, although
// the server learns the user and the session only from the token.
func (ns *Namespace) authenticate(ctx context.Context, token string, h *handshake) (id Identity, expiresAt time.Time, err error) {
	claims, err := ns.verifyToken(ctx, token, h)
	if err != nil {
		return id, expiresAt, err
	}
	if !ns.rt.pending.identify(h, ns.name, claims) {
		return id, expiresAt, errRevokedMeanwhile
	}
	return ns.checkRows(ctx, claims, h)
}

// checkRows runs the checks after that of the token: it reads the user and the session, and
// calls Authorize.
func (ns *Namespace) checkRows(ctx context.Context, claims Claims, h *handshake) (id Identity, expiresAt time.Time, err error) {
	h.gaps = ns.rt.pending.gaps.Load()
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

// maxReads is the maximum number of times that a handshake reads its rows: once, and once more
// for each gap in between. If there is a gap after the last time, the handshake is undecided.
const maxReads = 4

var errGaps = errors.New("messages between the nodes were lost repeatedly during the handshake")

// checkAgain checks the rows of an admitted socket again if there was a gap since they were
// read. For a later gap, the sweep checks the socket.
func (ns *Namespace) checkAgain(ctx context.Context, h *handshake) error {
	if !ns.gapSince(h) {
		return nil
	}
	id, expiresAt, err := ns.checkRowsAgain(ctx, h.s.Identity(), h.s.ExpiresAt(), h)
	if err == nil {
		h.s.setIdentity(id, expiresAt)
	}
	return err
}

// checkRowsAgain calls checkRows until there was no gap since the rows were read, because in
// a gap a revocation may have been lost.
func (ns *Namespace) checkRowsAgain(ctx context.Context, id Identity, expiresAt time.Time, h *handshake) (Identity, time.Time, error) {
	for reads := 1; ns.gapSince(h); reads++ {
		if reads == maxReads {
			return id, expiresAt, undecided{step: stepSession, err: errGaps}
		}
		var err error
		if id, expiresAt, err = ns.checkRows(ctx, Claims{Subject: id.UserID, SessionID: id.SessionID, ExpiresAt: expiresAt}, h); err != nil {
			return id, expiresAt, err
		}
	}
	return id, expiresAt, nil
}

// gapSince reports whether there was a gap since the handshake read its rows.
func (ns *Namespace) gapSince(h *handshake) bool { return h.gaps != ns.rt.pending.gaps.Load() }

// verifyToken calls the TokenVerifier and returns the claims of a valid token.
func (ns *Namespace) verifyToken(ctx context.Context, token string, h *handshake) (Claims, error) {
	if token == "" {
		return Claims{}, connectError(CodeMissingToken)
	}
	if len(token) > maxTokenLength {
		return Claims{}, connectErrorBecause(CodeInvalidToken, "the token is too long")
	}
	ns.rt.pending.begin(h)
	claims, err := callHost(ctx, ns.rt.host.verify, h.source(), h, func(ctx context.Context) (Claims, error) {
		return ns.rt.opts.Tokens.VerifyToken(ctx, token, ns.name)
	})
	if ns.rt.opts.TokenSessions {
		claims.SessionID = tokenSession(claims, token)
	}
	switch {
	case errors.Is(err, ErrTokenInvalid):
		return Claims{}, connectErrorBecause(CodeInvalidToken, tokenCause(err, ErrTokenInvalid, token))
	case errors.Is(err, ErrTokenExpired):
		return Claims{}, connectErrorBecause(CodeTokenExpired, tokenCause(err, ErrTokenExpired, token))
	case err != nil:
		return Claims{}, undecided{step: stepToken, err: err, secret: token}
	case claims.ExpiresAt.IsZero():
		return Claims{}, connectErrorBecause(CodeInvalidToken, "no exp")
	case !claims.ExpiresAt.After(time.Now()):
		return Claims{}, connectErrorBecause(CodeTokenExpired, ago(claims.ExpiresAt))
	case !validID(claims.Subject):
		return Claims{}, connectErrorBecause(CodeMissingClaims, missingClaim("sub", claims.Subject, ""))
	case !validID(claims.SessionID):
		return Claims{}, connectErrorBecause(CodeMissingClaims, missingClaim("sid", claims.SessionID, "; a host without login sessions sets Options.TokenSessions"))
	}
	return claims, nil
}

// missingClaim says why a claim is no id. A JWTVerifier leaves a claim empty that is not a string,
// as numeric ids of users often are.
func missingClaim(name, value, advice string) string {
	if value == "" {
		return name + " is missing or not a string" + advice
	}
	return fmt.Sprintf("%s is longer than %d bytes, or contains NUL or invalid UTF-8", name, maxID)
}

// loadUser returns the user, or an error if the user may not connect to the namespace.
func (ns *Namespace) loadUser(ctx context.Context, userID string, h *handshake) (User, error) {
	user, err := load(ctx, ns.rt.users, userID, h)
	switch {
	case errors.Is(err, ErrNotFound):
		return User{}, connectError(CodeUserNotFound)
	case err != nil:
		return User{}, undecided{step: stepUser, err: err}
	case user.ID != userID:
		return User{}, undecided{step: stepUser, err: errAnotherRow}
	case len(ns.opts.UserTypes) > 0 && !slices.Contains(ns.opts.UserTypes, user.Type):
		return User{}, connectErrorBecause(CodeWrongUserType, "the user is a "+string(user.Type))
	case !user.Type.valid():
		return User{}, undecided{step: stepUser, err: errUserType}
	case !user.Active:
		return User{}, connectError(CodeUserInactive)
	}
	return user, nil
}

// loadSession returns the login session of a token, or an error if the session has ended.
func (ns *Namespace) loadSession(ctx context.Context, claims Claims, h *handshake) (Session, error) {
	if ns.rt.opts.TokenSessions {
		return Session{ID: claims.SessionID, UserID: claims.Subject}, nil
	}
	session, err := load(ctx, ns.rt.sessions, claims.SessionID, h)
	switch {
	case errors.Is(err, ErrNotFound):
		return Session{}, connectErrorBecause(CodeInvalidSession, "there is no such session")
	case err != nil:
		return Session{}, undecided{step: stepSession, err: err}
	case session.ID != claims.SessionID:
		return Session{}, undecided{step: stepSession, err: errAnotherRow}
	case session.UserID != claims.Subject:
		return Session{}, connectErrorBecause(CodeInvalidSession, "the session belongs to another user")
	case session.Revoked:
		return Session{}, connectErrorBecause(CodeInvalidSession, "the session is revoked")
	case !session.AccessTokenExpiresAt.IsZero() && !session.AccessTokenExpiresAt.After(time.Now()):
		return Session{}, connectErrorBecause(CodeAccessExpired, "the session's AccessTokenExpiresAt: "+ago(session.AccessTokenExpiresAt))
	}
	return session, nil
}

// authorize calls NamespaceOptions.Authorize, if it is set.
func (ns *Namespace) authorize(ctx context.Context, id Identity, h *handshake) error {
	if ns.opts.Authorize == nil {
		return nil
	}
	r := AuthorizeRequest{Identity: id, Socket: h.socket(), Auth: h.auth}
	_, err := callHost(ctx, ns.authorizes, h.source(), h, func(ctx context.Context) (None, error) { return None{}, ns.opts.Authorize(ctx, r) })
	if _, refused := asError(err); err != nil && !refused {
		err = undecided{step: stepAuthorize, err: err}
	}
	return err
}

// The steps of a handshake that call the host, for the log.
const (
	stepToken     = "verifying the token"
	stepUser      = "finding the user"
	stepSession   = "finding the session"
	stepAuthorize = "authorizing"
	stepTrips     = "finding the trips"
	stepSnapshot  = "finding the snapshot"
)

var (
	errAnotherRow  = errors.New("the repository returned a row with a different id")
	errUserType    = errors.New("the user has " + invalidTypeText)
	errRepoTimeout = errors.New("no answer within Options.Timeouts.Repo")
)

// undecided is an error of the host that leaves a handshake undecided. It hides what the
// host's error wraps, because an *Error in it would be sent to the client. Only a panic is
// visible, so that the log contains its stack.
type undecided struct {
	step   string
	err    error
	secret string // the token; Error leaves it out
}

func (u undecided) Error() string {
	text := fmt.Sprintf("%s: %v", u.step, u.err)
	if u.secret != "" {
		text = withoutToken(text, u.secret)
	}
	return text
}

// As lets errors.As find a panic.
func (u undecided) As(target any) bool {
	p, ok := target.(**hostcall.PanicError)
	return ok && errors.As(u.err, p)
}

// source returns the network that a call of the handshake counts for: see connState.source.
func (h *handshake) source() any { return h.socket().conn().source() }

// callHost makes a call of a handshake to the host, unless the client has disconnected.
func callHost[T any](ctx context.Context, k *hostcall.Kind, source any, h *handshake, f func(ctx context.Context) (T, error)) (result T, err error) {
	if !h.refreshes() && h.s.inner.Closed() {
		return result, ErrClosed
	}
	result, err = hostcall.Do(ctx, k, source, f)
	return result, namingTimeout(err)
}

// load reads a row for a handshake. auth:refresh bypasses the cache: a client refreshes
// because its session has just changed.
func load[T any](ctx context.Context, from *hostcall.Lookup[T], id string, h *handshake) (row T, err error) {
	switch {
	case h.refreshes():
		row, err = from.FindFresh(ctx, id)
	case h.s.inner.Closed():
		return row, ErrClosed
	default:
		row, err = from.Find(ctx, id)
	}
	return row, namingTimeout(err)
}

// namingTimeout replaces a timeout by an error that names its option.
func namingTimeout(err error) error {
	if err == hostcall.ErrTimeout { //nolint:errorlint // the call's own, not one that the host wraps
		return errRepoTimeout
	}
	return err
}

// maxAuth is the maximum size of AuthorizeRequest.Auth in bytes.
const maxAuth = 16 << 10

// credentials returns the token of a handshake: that of the CONNECT payload, or else that
// of the connection's first request. It keeps the rest of the payload for Authorize.
func (ns *Namespace) credentials(h *handshake, payload []byte) (token string, err error) {
	inAuth, auth, err := splitAuth(payload)
	if err != nil {
		return "", err
	}
	if ns.inner.Recovers() {
		h.claim = takeClaim(auth)
		if h.conn().passesLists() && !ns.rt.opts.Recovery.AllClients {
			h.claim = claim{} // what it has missed would come with offsets
		}
	}
	if ns.opts.Authorize != nil && len(auth) > 0 {
		if h.auth, err = json.Marshal(auth); err != nil || len(h.auth) > maxAuth {
			return "", Errorf(CodeInvalidPayload, "auth is too large")
		}
	}
	m := missingToken{eio3: h.s.inner.Conn().Protocol() < 4, auth: len(payload) > 0, request: h.conn().request}
	if m.eio3 && !ns.rt.opts.Compat.LegacyQueryToken {
		m.inQuery, inAuth = len(inAuth) > 0, nil // for EIO3 the payload was made from the namespace's query string
	}
	token, err = connectToken(inAuth, h.conn().token())
	if err == nil && token == "" {
		err = connectErrorBecause(CodeMissingToken, m.cause())
	}
	return token, err
}

// splitAuth returns the token of a CONNECT's auth object, and the object's other members.
func splitAuth(payload []byte) (token json.RawMessage, rest map[string]json.RawMessage, err error) {
	if len(payload) == 0 {
		return nil, nil, nil
	}
	// A map, because the fields of a struct match names in any case.
	if err := json.Unmarshal(payload, &rest); err != nil {
		return nil, nil, connectErrorBecause(CodeInvalidToken, "auth is not an object")
	}
	token = rest["token"]
	delete(rest, "token")
	return token, rest, nil
}

// connectToken returns the token of an auth object, or that of the request if the object
// has none.
func connectToken(inAuth json.RawMessage, header string) (string, error) {
	if len(inAuth) > 0 && !bytes.Equal(inAuth, []byte("null")) {
		var token string
		if err := json.Unmarshal(inAuth, &token); err != nil {
			return "", connectErrorBecause(CodeInvalidToken, "auth.token is not a string")
		}
		if token = stripBearer(token); token != "" {
			return token, nil
		}
	}
	return header, nil
}

// bearer returns the token of an Authorization header, or "".
func bearer(header string) string {
	token := stripBearer(header)
	if token == header {
		return ""
	}
	return copyToken(token)
}

// copyToken returns a copy of a token of a request. The token itself would keep the whole
// header or URL in memory, which may be a megabyte. An oversized token is cut to
// maxTokenLength+1 bytes, enough to be refused.
func copyToken(token string) string {
	return strings.Clone(token[:min(len(token), maxTokenLength+1)])
}

// stripBearer removes the scheme "Bearer", in upper or lower case.
func stripBearer(s string) string {
	const scheme = "Bearer "
	if len(s) >= len(scheme) && strings.EqualFold(s[:len(scheme)], scheme) {
		return strings.TrimSpace(s[len(scheme):])
	}
	return s
}

// refresh is the handler of auth:refresh: it runs the checks of a handshake with a new
// token and stores the new session and expiry time.
func (ns *Namespace) refresh(ctx context.Context, s *Socket, in TokenRefresh) (Refreshed, error) {
	h := &handshake{renews: s}
	defer ns.rt.pending.done(h)
	was := s.Identity()
	id, expiresAt, err := ns.authenticate(ctx, stripBearer(in.Token), h)
	if err == nil {
		id, expiresAt, err = ns.checkRowsAgain(ctx, id, expiresAt, h)
	}
	refused, ok := asError(err)
	switch {
	case ok:
		ns.logRefresh(s, refused.Code, causeOf(err))
		return Refreshed{}, &Error{Code: CodeUnauthorized, Message: refused.Message}
	case err != nil:
		return Refreshed{}, errors.Join(ErrUnavailable, err)
	case id.UserID != was.UserID || id.UserType != was.UserType:
		ns.logRefresh(s, CodeForbidden, "the token belongs to another user")
		return Refreshed{}, Errorf(CodeForbidden, "the token belongs to another user")
	}
	// The socket joins the new session's room before the check, so that a later revocation
	// finds it there. It leaves that room again only if it is a new one: in the old one a
	// revocation in progress must find it.
	moves := id.SessionID != was.SessionID
	s.inner.Join(SessionRoom(id.SessionID).name)
	if h.revoked.Load() {
		if moves {
			s.inner.Leave(SessionRoom(id.SessionID).name)
		}
		ns.logRefresh(s, CodeInvalidSession, "revoked meanwhile")
		return Refreshed{}, &Error{Code: CodeUnauthorized, Message: connectMessages[CodeInvalidSession]}
	}
	if moves {
		s.inner.Leave(SessionRoom(was.SessionID).name)
	}
	s.renew(id, expiresAt)
	if ns.gapSince(h) {
		ns.rt.sweep.now() // the sweep of the gap may have checked the old session
	}
	return Refreshed{ExpiresAt: Time{expiresAt}}, nil
}
