// Domain events of drivers' availability and of users' login sessions.

package realtime

import (
	"cmp"
	"time"
)

// DriverStatusChanged says that a driver's availability changed other than by
// one of his sockets' own events: through the host's REST API, by a sweeper. He
// and the admins who watch drivers are told.
type DriverStatusChanged struct{ Availability }

func (DriverStatusChanged) EventName() string  { return "driver_availability.status_updated" }
func (e DriverStatusChanged) EventKey() string { return e.DriverID }
func (e DriverStatusChanged) check() error     { return missing(e, "driverId", e.DriverID) }
func (e DriverStatusChanged) about() subject   { return subject{userID: e.DriverID} }

// DriverLocationChanged says that a driver moved, when that did not come in
// over a socket. He, the admins who watch drivers, and whoever follows the trip
// that he is on are told.
type DriverLocationChanged struct{ LocationUpdate }

func (DriverLocationChanged) EventName() string  { return "driver_availability.location_updated" }
func (e DriverLocationChanged) EventKey() string { return e.DriverID }
func (e DriverLocationChanged) check() error     { return missing(e, "driverId", e.DriverID) }
func (e DriverLocationChanged) about() subject {
	return subject{userID: e.DriverID, moved: &e.LocationUpdate}
}

// DriverTripChanged says that a driver's current trip was set or cleared, when
// that did not come in over a socket. He and the admins who watch drivers are
// told. It does not decide who follows the trip: DriverAssigned does.
type DriverTripChanged struct{ DriverTrip }

func (DriverTripChanged) EventName() string  { return "driver_availability.trip_updated" }
func (e DriverTripChanged) EventKey() string { return e.DriverID }
func (e DriverTripChanged) check() error     { return missing(e, "driverId", e.DriverID) }
func (e DriverTripChanged) about() subject   { return subject{userID: e.DriverID} }

// UserLoggedIn says that a user opened a login session. All admins are told in
// full, the user's other sockets in his own namespace get the session's id.
type UserLoggedIn struct {
	UserID      string         `json:"userId"`
	UserType    UserType       `json:"userType,omitempty"` // driver, passenger or admin; else only the admins are told
	SID         string         `json:"sid"`
	SessionType string         `json:"sessionType,omitempty"`
	DeviceInfo  map[string]any `json:"deviceInfo,omitempty"` // sent to admins as it stands
	At          time.Time      `json:"at,omitzero"`
}

func (UserLoggedIn) EventName() string  { return "auth.user.logged_in" }
func (e UserLoggedIn) EventKey() string { return e.UserID }
func (e UserLoggedIn) check() error     { return missing(e, "userId", e.UserID, "sid", e.SID) }
func (e UserLoggedIn) about() subject   { return subject{at: e.At, userID: e.UserID} }

// SessionRefreshed says that a login session was replaced by a new one. The
// user's sockets are told, in every namespace; those still in the old session
// after the grace time are disconnected.
type SessionRefreshed struct {
	UserID string    `json:"userId"`
	OldSID string    `json:"oldSid"`
	NewSID string    `json:"newSid"`
	At     time.Time `json:"at,omitzero"`
}

func (SessionRefreshed) EventName() string  { return "auth.session.refreshed" }
func (e SessionRefreshed) EventKey() string { return AccessKey(e.UserID) }
func (e SessionRefreshed) about() subject {
	s := subject{at: e.At, userID: e.UserID, sid: e.OldSID}
	if e.OldSID != e.NewSID {
		s.access = replaces
	}
	return s
}
func (e SessionRefreshed) check() error {
	return missing(e, "userId", e.UserID, "oldSid", e.OldSID, "newSid", e.NewSID)
}

// AccessChange says what was done to a user.
type AccessChange string

// Changes of a user's access.
const (
	AccessBanned      AccessChange = "banned"
	AccessDeactivated AccessChange = "deactivated"
	AccessRoleChanged AccessChange = "role_changed"
)

// UserAccessChanged says that a user may no longer do what he could. All of his
// sockets are told, in every namespace, and then disconnected.
type UserAccessChanged struct {
	UserID string       `json:"userId"`
	Change AccessChange `json:"change,omitempty"`
	Reason string       `json:"reason,omitempty"` // sent to the user; empty: Change is
	At     time.Time    `json:"at,omitzero"`
}

func (UserAccessChanged) EventName() string  { return "auth.user.access_changed" }
func (e UserAccessChanged) EventKey() string { return AccessKey(e.UserID) }
func (e UserAccessChanged) check() error     { return missing(e, "userId", e.UserID) }
func (e UserAccessChanged) about() subject {
	return subject{at: e.At, userID: e.UserID, access: revokesUser, change: e.Change, reason: e.Reason}
}

// SessionRevoked says that a login session ended. The session's sockets and the
// user's others are told, in every namespace; then the session's are
// disconnected.
type SessionRevoked struct {
	SID    string    `json:"sid"`
	UserID string    `json:"userId,omitempty"` // empty: only the session's sockets are told
	Reason string    `json:"reason,omitempty"`
	At     time.Time `json:"at,omitzero"`
}

func (SessionRevoked) EventName() string { return "auth.session.revoked" }
func (e SessionRevoked) check() error    { return missing(e, "sid", e.SID) }
func (e SessionRevoked) about() subject {
	return subject{at: e.At, userID: e.UserID, sid: e.SID, access: revokesSession, reason: e.Reason}
}
func (e SessionRevoked) EventKey() string {
	return AccessKey(cmp.Or(e.UserID, e.SID))
}
