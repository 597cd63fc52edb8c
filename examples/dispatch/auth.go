// Authentication: signing and verifying access tokens, login and logout, and the caller of a REST
// request.

package main

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/rodando/realtime"
)

// tokens signs access tokens; realtime's verifier checks them, for REST as for
// sockets.
type tokens struct {
	secret   []byte
	issuer   string // empty: neither written nor checked
	ttl      time.Duration
	verifier realtime.TokenVerifier
}

func newTokens(secret []byte, issuer string, ttl time.Duration) (*tokens, error) {
	verifier, err := realtime.NewJWTVerifier(secret, realtime.JWTOptions{Methods: []string{"HS256"}, Issuer: issuer})
	return &tokens{secret, issuer, ttl, verifier}, err
}

// expiry returns when a token that is signed now expires.
func (t *tokens) expiry() time.Time { return time.Now().Add(t.ttl).Truncate(time.Millisecond) }

// mint returns a token for a user's session. The claim userType is for people who read the
// token; no check uses it.
func (t *tokens) mint(u userRow, sid string, expiresAt time.Time) (token string, err error) {
	claims := jwt.MapClaims{
		"sub": u.ID, "sid": sid, "userType": u.Type,
		"iat": time.Now().Unix(), "exp": float64(expiresAt.UnixMilli()) / 1000,
	}
	if t.issuer != "" {
		claims["iss"] = t.issuer
	}
	token, err = jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString(t.secret)
	if err != nil {
		return "", fmt.Errorf("signing a token: %w", err)
	}
	return token, nil
}

// refreshWindow is how long after its expiry a token can still be exchanged for a new one, if
// its session is valid. A backend with refresh tokens needs no such window.
const refreshWindow = 24 * time.Hour

// verify returns the token's user and session ids. late accepts a token that
// has expired within the refresh window.
func (t *tokens) verify(ctx context.Context, token string, late bool) (userID, sid string, err error) {
	c, err := t.verifier.VerifyToken(ctx, token, "")
	if late && errors.Is(err, realtime.ErrTokenExpired) {
		c, err = expiredClaims(token, err)
	}
	switch {
	case errors.Is(err, realtime.ErrTokenExpired):
		return "", "", realtime.Errorf(realtime.CodeTokenExpired, "Access token expired")
	case errors.Is(err, realtime.ErrTokenInvalid):
		return "", "", realtime.Errorf(realtime.CodeInvalidToken, "Invalid token")
	case err != nil:
		return "", "", err
	case c.Subject == "" || c.SessionID == "":
		return "", "", realtime.Errorf(realtime.CodeMissingClaims, "Missing sub/sid")
	}
	return c.Subject, c.SessionID, nil
}

// expiredClaims returns the claims of a token that the verifier has found valid but expired. It
// returns expired if the refresh window has passed.
func expiredClaims(token string, expired error) (realtime.Claims, error) {
	claims := jwt.MapClaims{}
	if _, _, err := jwt.NewParser().ParseUnverified(token, claims); err != nil {
		return realtime.Claims{}, expired
	}
	exp, err := claims.GetExpirationTime()
	if err != nil || exp == nil || time.Since(exp.Time) > refreshWindow {
		return realtime.Claims{}, expired
	}
	sub, _ := claims["sub"].(string)
	sid, _ := claims["sid"].(string)
	return realtime.Claims{Subject: sub, SessionID: sid, ExpiresAt: exp.Time}, nil
}

// caller is the user and the session of a request.
type caller struct {
	user userRow
	sid  string
}

// caller runs the checks of a socket's handshake on a request, in their order.
func (a *app) caller(r *http.Request, late bool) (caller, error) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return caller{}, realtime.Errorf(realtime.CodeMissingToken, "Missing token")
	}
	userID, sid, err := a.tokens.verify(r.Context(), strings.TrimSpace(token), late)
	if err != nil {
		return caller{}, err
	}
	u, err := a.store.user(r.Context(), userID)
	switch {
	case err != nil:
		return caller{}, err
	case u == nil:
		return caller{}, realtime.Errorf(realtime.CodeUserNotFound, "User not found")
	case u.Status != active:
		return caller{}, realtime.Errorf(realtime.CodeUserInactive, "User inactive")
	}
	row, err := a.store.session(r.Context(), sid)
	switch {
	case err != nil:
		return caller{}, err
	case row == nil || row.UserID != userID || row.Revoked:
		return caller{}, realtime.Errorf(realtime.CodeInvalidSession, "Invalid session")
	case !row.usable():
		return caller{}, realtime.Errorf(realtime.CodeAccessExpired, "Access expired")
	}
	return caller{*u, sid}, nil
}

// credentials is the answer to a login or refresh.
type credentials struct {
	Token     string            `json:"token"`
	SessionID string            `json:"sid"`
	UserID    string            `json:"userId"`
	Type      realtime.UserType `json:"type"`
	ExpiresAt realtime.Time     `json:"expiresAt"`
}

func (a *app) newLogin(u userRow, sid string, expiresAt time.Time) (credentials, error) {
	token, err := a.tokens.mint(u, sid, expiresAt)
	return credentials{token, sid, u.ID, u.Type, realtime.Time{Time: expiresAt}}, err
}

// maySignIn reports whether a password is right. All users share one. If none is configured, any
// password is accepted while only this machine can connect, and none otherwise.
func (c config) maySignIn(password string) bool {
	if c.password == "" {
		return c.isLocal()
	}
	// Hashed first, because the time of the comparison depends on the lengths.
	given, want := sha256.Sum256([]byte(password)), sha256.Sum256([]byte(c.password))
	return subtle.ConstantTimeCompare(given[:], want[:]) == 1
}

func (a *app) login(r *http.Request) (any, error) {
	var in struct {
		UserID     string         `json:"userId"`
		Password   string         `json:"password"`
		DeviceInfo map[string]any `json:"deviceInfo"`
	}
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	if in.UserID == "" {
		return nil, invalid("userId", "is required")
	}
	if !a.cfg.maySignIn(in.Password) {
		return nil, realtime.Errorf(realtime.CodeForbidden, "wrong password")
	}
	if in.DeviceInfo == nil {
		in.DeviceInfo = map[string]any{"userAgent": r.UserAgent()}
	}
	u, sid, err := a.store.login(r.Context(), in.UserID, in.DeviceInfo)
	if err != nil {
		return nil, err
	}
	return a.newLogin(u, sid, a.tokens.expiry())
}

// refresh moves the caller to a new session. Their sockets move with auth:refresh, or, with
// -carry-sessions, by themselves.
func (a *app) refresh(r *http.Request) (any, error) {
	c, err := a.caller(r, true)
	if err != nil {
		return nil, err
	}
	expiresAt := a.tokens.expiry()
	var carried time.Time
	if a.cfg.carrySessions {
		carried = expiresAt
	}
	sid, err := a.store.refresh(r.Context(), c.user.ID, c.sid, carried)
	if err != nil {
		return nil, err
	}
	return a.newLogin(c.user, sid, expiresAt)
}

func (a *app) logout(r *http.Request, c caller) (any, error) {
	if err := a.store.logout(r.Context(), c); err != nil {
		return nil, err
	}
	return map[string]string{"sid": c.sid}, nil
}
