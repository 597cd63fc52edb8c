// Session events: login sessions begin, are replaced or end, and the access of users changes.
// The call auth:refresh is here too.

package realtime

import (
	"cmp"
	"encoding/json"
	"fmt"
	"time"

	"github.com/rodando/realtime/internal/jsonscan"
)

// sessionEvents are the domain events of this file.
var sessionEvents = []DomainEventType{
	domainType("The user opened a login session.",
		exampleLogin(exampleDriver, UserDriver), exampleLogin(examplePassenger, UserPassenger), exampleLogin(exampleAdmin, UserAdmin)),
	domainType("The login session `oldSid` was replaced by `newSid`. If `oldSid` is this socket's, send `auth:refresh` with a token of the new session: the server closes a socket that is still in the old session after `Options.Timeouts.RefreshGrace`, by default 10 s, unless the backend has set the new session's expiry, with which the server moves the socket itself.",
		SessionRefreshed{UserID: exampleDriver, OldSessionID: exampleSession, NewSessionID: "session-2", At: exampleTime}),
	domainType("The login session `sid` ended, or, if `sid` is null, the user's access did. If it is this socket's session, or null, log out: the server then sends the socket a DISCONNECT. Otherwise it was another device that was logged out, and this socket stays connected.",
		SessionRevoked{SessionID: exampleSession, UserID: exampleDriver, Reason: "stolen phone", At: exampleTime}),
	domainType("The user was banned, deactivated, or given another type.",
		UserAccessChanged{UserID: exampleDriver, Change: AccessBanned, Reason: "fraud", At: exampleTime}),
}

func exampleLogin(userID string, t UserType) UserLoggedIn {
	return UserLoggedIn{
		UserID: userID, UserType: t, SessionID: exampleSession, SessionType: "mobile_app", DeviceInfo: map[string]any{"os": "Android"}, At: exampleTime,
	}
}

// UserLoggedIn says that a user opened a login session. All admins receive everything in it;
// the user's sockets in the namespace of the user's type receive the session's id.
type UserLoggedIn struct {
	UserID      string         `json:"userId"`
	UserType    UserType       `json:"userType,omitempty"` // if it is not driver, passenger or admin, only the admins receive the event
	SessionID   string         `json:"sid"`
	SessionType string         `json:"sessionType,omitempty"`
	DeviceInfo  map[string]any `json:"deviceInfo,omitempty"` // sent to the admins unchanged
	At          time.Time      `json:"at,omitzero"`
}

// EventName implements DomainEvent.
func (UserLoggedIn) EventName() string { return "auth.user.logged_in" }

// EventKey implements DomainEvent.
func (e UserLoggedIn) EventKey() string { return e.UserID }

func (e UserLoggedIn) check() error {
	if err := missing(e.EventName(), "userId", e.UserID, "sid", e.SessionID); err != nil {
		return err
	}
	if _, err := json.Marshal(e.DeviceInfo); err != nil {
		return fmt.Errorf("%s: %w: deviceInfo: %w", e.EventName(), errInvalidEvent, err)
	}
	return nil
}
func (e UserLoggedIn) about() subject { return subject{at: e.At, userID: e.UserID} }

// EventUserLoggedIn is sent to every admin when a user has logged in.
var EventUserLoggedIn = NewEvent[UserLoggedInPayload]("admin:auth:user_logged_in")

// EventLoggedIn is sent to the user's sockets in the namespace of the user's type.
var EventLoggedIn = NewEvent[LoggedInPayload]("auth:logged_in")

// UserLoggedInPayload is what EventUserLoggedIn carries.
type UserLoggedInPayload struct {
	EventID     string         `json:"eventId" doc:"a UUID, the same in every repeat of the event"`
	UserID      string         `json:"userId"`
	UserType    *UserType      `json:"userType" null:"not known"`
	SessionID   string         `json:"sid" doc:"the new login session's id"`
	SessionType *string        `json:"sessionType" null:"not known"`
	At          Time           `json:"at"`
	DeviceInfo  map[string]any `json:"deviceInfo" doc:"what the host supplied, unchanged" null:"not supplied"`
}

// LoggedInPayload is what EventLoggedIn carries.
type LoggedInPayload struct {
	EventID   string `json:"eventId" doc:"a UUID, the same in every repeat of the event"`
	SessionID string `json:"sid" doc:"the new login session's id"`
	At        Time   `json:"at"`
}

func (e UserLoggedIn) deliver(f facts) []Delivery {
	out := []Delivery{EventUserLoggedIn.Deliver(UserLoggedInPayload{
		EventID:     f.eventID,
		UserID:      e.UserID,
		UserType:    orNull(e.UserType),
		SessionID:   e.SessionID,
		SessionType: orNull(e.SessionType),
		At:          Time{f.at},
		DeviceInfo:  e.DeviceInfo,
	}, ToAdmins())}
	if home := builtinByUserType(e.UserType); home != nil {
		out = append(out, EventLoggedIn.Deliver(LoggedInPayload{f.eventID, e.SessionID, Time{f.at}}, own(home.name, e.UserID)))
	}
	return out
}

// SessionRefreshed says that a login session was replaced by a new one. The user's sockets in
// every namespace receive it. After Timeouts.RefreshGrace the server sends auth:expired to
// those that are still in the old session, and closes their connections; meanwhile a sweep leaves
// them as they are, also if the row of the old session is revoked or does not exist any more.
//
// With ExpiresAt the sockets need not send auth:refresh: the server moves them to the new session,
// and they expire then. If both sessions are the same, their sockets expire then if that is later.
type SessionRefreshed struct {
	UserID       string    `json:"userId"`
	OldSessionID string    `json:"oldSid"`
	NewSessionID string    `json:"newSid"`
	ExpiresAt    time.Time `json:"expiresAt,omitzero"` // when the access token of the new session expires; zero: each socket must send auth:refresh
	At           time.Time `json:"at,omitzero"`
}

// EventName implements DomainEvent.
func (SessionRefreshed) EventName() string { return "auth.session.refreshed" }

// EventKey implements DomainEvent.
func (e SessionRefreshed) EventKey() string { return AccessKey(e.UserID) }

func (e SessionRefreshed) about() subject {
	s := subject{at: e.At, userID: e.UserID, sessionID: e.OldSessionID}
	if e.OldSessionID != e.NewSessionID || !e.ExpiresAt.IsZero() {
		s.access = replacesSession
	}
	return s
}
func (e SessionRefreshed) check() error {
	return missing(e.EventName(), "userId", e.UserID, "oldSid", e.OldSessionID, "newSid", e.NewSessionID)
}

// EventSessionRefreshed asks the user's sockets in every namespace to send auth:refresh.
var EventSessionRefreshed = NewEvent[SessionRefreshedPayload]("auth:session_refreshed")

// SessionRefreshedPayload is what EventSessionRefreshed carries.
type SessionRefreshedPayload struct {
	EventID      string `json:"eventId" doc:"a UUID, the same in every repeat of the event"`
	OldSessionID string `json:"oldSid" doc:"the replaced login session's id"`
	NewSessionID string `json:"newSid" doc:"the new login session's id"`
	At           Time   `json:"at"`
}

func (e SessionRefreshed) deliver(f facts) []Delivery {
	v := SessionRefreshedPayload{f.eventID, e.OldSessionID, e.NewSessionID, Time{f.at}}
	return []Delivery{EventSessionRefreshed.Deliver(v, ToUser(e.UserID))}
}

// SessionRevoked says that a login session ended. The sockets of the session and the other
// sockets of the user receive it, in every namespace. Then the server disconnects the
// sockets of the session, and refuses its pending handshakes. Store the revocation before you
// publish it: a handshake that begins later reads the session's row.
type SessionRevoked struct {
	SessionID string    `json:"sid"`
	UserID    string    `json:"userId,omitempty"` // empty: only the session's sockets receive it
	Reason    string    `json:"reason,omitempty"`
	At        time.Time `json:"at,omitzero"`
}

// EventName implements DomainEvent.
func (SessionRevoked) EventName() string { return "auth.session.revoked" }

// EventKey implements DomainEvent.
func (e SessionRevoked) EventKey() string { return AccessKey(cmp.Or(e.UserID, e.SessionID)) }

func (e SessionRevoked) check() error { return missing(e.EventName(), "sid", e.SessionID) }
func (e SessionRevoked) about() subject {
	return subject{at: e.At, userID: e.UserID, sessionID: e.SessionID, access: revokesSession, reason: e.Reason}
}

// EventSessionRevoked is sent to the sockets of the session and of the user, in every
// namespace. A DISCONNECT follows for the sockets of the session, or for all of the user if
// the payload has no session.
var EventSessionRevoked = NewEvent[SessionRevokedPayload]("auth:session_revoked")

// SessionRevokedPayload is what EventSessionRevoked carries.
type SessionRevokedPayload struct {
	EventID   string  `json:"eventId" doc:"a UUID, the same in every repeat of the event"`
	SessionID *string `json:"sid" doc:"the login session's id" null:"every session of the user"`
	Reason    *string `json:"reason" doc:"for people" null:"none was given"`
	At        Time    `json:"at"`
}

func (e SessionRevoked) deliver(f facts) []Delivery {
	v := SessionRevokedPayload{f.eventID, orNull(e.SessionID), orNull(e.Reason), Time{f.at}}
	return []Delivery{EventSessionRevoked.Deliver(v, Audience{session: e.SessionID, user: e.UserID})}
}

// AccessChange says how a user's access changed.
type AccessChange string

// Changes of a user's access.
const (
	AccessBanned      AccessChange = "banned"
	AccessDeactivated AccessChange = "deactivated"
	AccessRoleChanged AccessChange = "role_changed"
)

// UserAccessChanged says that a user was banned, deactivated or given another type. The
// user's sockets in every namespace receive auth:session_revoked and are then disconnected.
// The user's pending handshakes are refused. Store the change before you publish it: a
// handshake that begins later reads the user's row.
type UserAccessChanged struct {
	UserID string       `json:"userId"`
	Change AccessChange `json:"change,omitempty"`
	Reason string       `json:"reason,omitempty"` // sent to the user; if empty, Change is sent instead
	At     time.Time    `json:"at,omitzero"`
}

// EventName implements DomainEvent.
func (UserAccessChanged) EventName() string { return "auth.user.access_changed" }

// EventKey implements DomainEvent.
func (e UserAccessChanged) EventKey() string { return AccessKey(e.UserID) }

func (e UserAccessChanged) check() error { return missing(e.EventName(), "userId", e.UserID) }
func (e UserAccessChanged) about() subject {
	return subject{at: e.At, userID: e.UserID, access: revokesUser, change: e.Change, reason: e.Reason}
}

func (e UserAccessChanged) deliver(f facts) []Delivery {
	reason := cmp.Or(e.Reason, string(e.Change))
	v := SessionRevokedPayload{f.eventID, nil, orNull(reason), Time{f.at}}
	return []Delivery{EventSessionRevoked.Deliver(v, ToUser(e.UserID))}
}

// AuthRefresh replaces a socket's token without a reconnect. Every namespace has a handler for
// it, except those with NamespaceOptions.Anonymous.
var AuthRefresh = NewCall[TokenRefresh, Refreshed]("auth:refresh").Documented(CallDoc[TokenRefresh, Refreshed]{
	Does:  "Replaces the socket's token without a reconnect. The server makes the checks of a CONNECT; the user and the user's type must be the same.",
	Codes: []Code{CodeUnauthorized, CodeForbidden},
	In:    TokenRefresh{Token: "eyJhbGciOi..."}, //nolint:gosec // an example, no credential
	Out:   Refreshed{Time{exampleTime}},
})

// TokenRefresh is the body of auth:refresh.
type TokenRefresh struct {
	Token string `json:"token" doc:"a new access token of the same user"`
}

// UnmarshalJSON implements json.Unmarshaler.
func (r *TokenRefresh) UnmarshalJSON(b []byte) error {
	*r = TokenRefresh{}
	return jsonscan.Decode(b, jsonscan.Field{Name: "token", To: &r.Token})
}

// Validate returns an *Error if the token is missing. The TokenVerifier checks the token.
func (r TokenRefresh) Validate() error {
	var p problems
	if r.Token == "" {
		p.add("is required", "token")
	}
	return p.err()
}

// Refreshed is the ack's data of auth:refresh.
type Refreshed struct {
	ExpiresAt Time `json:"expiresAt" doc:"when the new token or its session expires, whichever is first"`
}
