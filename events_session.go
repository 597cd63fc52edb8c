// Events of login sessions and of a user's access. A user's sockets are those in
// the user's own room.

package realtime

import (
	"cmp"

	"github.com/rodando/realtime/internal/jsonscan"
)

// EventUserLoggedIn is sent to every admin: who logged in.
var EventUserLoggedIn = NewEvent[UserLoggedInPayload]("admin:auth:user_logged_in")

// EventLoggedIn is sent to the user's other sockets in the namespace of the user's
// type.
var EventLoggedIn = NewEvent[LoggedInPayload]("auth:logged_in")

// UserLoggedInPayload is what EventUserLoggedIn carries.
type UserLoggedInPayload struct {
	EventID     string         `json:"eventId"`
	UserID      string         `json:"userId"`
	UserType    *UserType      `json:"userType"`
	SID         string         `json:"sid"`
	SessionType *string        `json:"sessionType"`
	At          Time           `json:"at"`
	DeviceInfo  map[string]any `json:"deviceInfo"` // as the host supplied it
}

// LoggedInPayload is what EventLoggedIn carries.
type LoggedInPayload struct {
	EventID string `json:"eventId"`
	SID     string `json:"sid"` // the new session's
	At      Time   `json:"at"`
}

func (e UserLoggedIn) deliver(a audience) []delivery {
	out := send(EventUserLoggedIn, UserLoggedInPayload{
		EventID:     a.eventID,
		UserID:      e.UserID,
		UserType:    orNull(e.UserType),
		SID:         e.SID,
		SessionType: orNull(e.SessionType),
		At:          Time{a.at},
		DeviceInfo:  e.DeviceInfo,
	}, target{NamespaceAdmin, []Room{AdminAllRoom}})
	if home := homeOf(e.UserType); home != nil {
		out = append(out, send(EventLoggedIn, LoggedInPayload{a.eventID, e.SID, Time{a.at}}, own(home.name, e.UserID))...)
	}
	return out
}

// EventSessionRefreshed is sent to the user's sockets in every namespace: renew.
var EventSessionRefreshed = NewEvent[SessionRefreshedPayload]("auth:session_refreshed")

// SessionRefreshedPayload is what EventSessionRefreshed carries.
type SessionRefreshedPayload struct {
	EventID string `json:"eventId"`
	OldSID  string `json:"oldSid"`
	NewSID  string `json:"newSid"`
	At      Time   `json:"at"`
}

func (e SessionRefreshed) deliver(a audience) []delivery {
	v := SessionRefreshedPayload{a.eventID, e.OldSID, e.NewSID, Time{a.at}}
	return send(EventSessionRefreshed, v, a.everywhere(e.UserID)...)
}

// EventSessionRevoked is sent to the session's and the user's sockets in every
// namespace; a DISCONNECT follows for those that it concerns.
var EventSessionRevoked = NewEvent[SessionRevokedPayload]("auth:session_revoked")

// SessionRevokedPayload is what EventSessionRevoked carries.
type SessionRevokedPayload struct {
	EventID string  `json:"eventId"`
	SID     *string `json:"sid"` // null: every session of the user
	Reason  *string `json:"reason"`
	At      Time    `json:"at"`
}

func (e SessionRevoked) deliver(a audience) []delivery {
	to := a.everywhere(e.UserID)
	for i, ns := range a.namespaces {
		to[i] = target{ns, append([]Room{SessionRoom(e.SID)}, to[i].rooms...)}
	}
	return send(EventSessionRevoked, SessionRevokedPayload{a.eventID, orNull(e.SID), orNull(e.Reason), Time{a.at}}, to...)
}

func (e UserAccessChanged) deliver(a audience) []delivery {
	reason := cmp.Or(e.Reason, string(e.Change))
	v := SessionRevokedPayload{a.eventID, nil, orNull(reason), Time{a.at}}
	return send(EventSessionRevoked, v, a.everywhere(e.UserID)...)
}

// AuthRefresh renews a socket's token in place, in every namespace.
var AuthRefresh = NewCall[TokenRefresh, Refreshed]("auth:refresh")

// TokenRefresh is the body of auth:refresh.
type TokenRefresh struct {
	Token string `json:"token"`
}

// UnmarshalJSON implements json.Unmarshaler.
func (r *TokenRefresh) UnmarshalJSON(b []byte) error {
	*r = TokenRefresh{}
	return jsonscan.Decode(b, jsonscan.Field{Name: "token", To: &r.Token})
}

// Validate refuses a missing token; the TokenVerifier judges the rest.
func (r TokenRefresh) Validate() error {
	var p problems
	if r.Token == "" {
		p.add("is required", "token")
	}
	return p.err()
}

// Refreshed answers auth:refresh.
type Refreshed struct {
	ExpiresAt Time `json:"expiresAt"`
}
