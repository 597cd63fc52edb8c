// The store: users and login sessions, and the library's interfaces to look them up. The rules
// of trips are in trips.go, those of drivers in drivers.go.

package main

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/rodando/realtime"
)

// store has the rules of this program. What they are about is in db.
type store struct {
	db         database
	sessionTTL time.Duration // how long a session that was opened by a login is stored; 0: forever

	// changed is called when a trip may need a new offer. It does not block.
	changed func()
}

func newStore(db database, sessionTTL time.Duration) *store {
	return &store{db: db, sessionTTL: sessionTTL, changed: func() {}}
}

// createSeed stores the rows of a seed that do not exist: an instance that starts again must
// not undo what has happened to the others.
func (s *store) createSeed(ctx context.Context, seed seed) error {
	return s.db.change(ctx, func(t *tx) error {
		for _, u := range seed.Users {
			if users.get(t, u.ID) == nil {
				users.put(t, u.ID, u, 0)
			}
		}
		for _, row := range seed.Sessions {
			if sessions.get(t, row.SessionID) == nil {
				sessions.put(t, row.SessionID, row, 0)
			}
		}
		return nil
	})
}

// FindUser implements realtime.UserRepo.
func (s *store) FindUser(ctx context.Context, id string) (realtime.User, error) {
	u, err := s.user(ctx, id)
	switch {
	case err != nil:
		return realtime.User{}, err
	case u == nil:
		return realtime.User{}, realtime.ErrNotFound
	}
	return realtime.User{ID: u.ID, Type: u.Type, Active: u.Status == active}, nil
}

// FindSession implements realtime.SessionRepo.
func (s *store) FindSession(ctx context.Context, sid string) (realtime.Session, error) {
	row, err := s.session(ctx, sid)
	switch {
	case err != nil:
		return realtime.Session{}, err
	case row == nil:
		return realtime.Session{}, realtime.ErrNotFound
	}
	found := realtime.Session{ID: row.SessionID, UserID: row.UserID, Revoked: row.Revoked}
	if row.AccessTokenExpiresAt != nil {
		found.AccessTokenExpiresAt = *row.AccessTokenExpiresAt
	}
	return found, nil
}

// ActiveTrips implements realtime.TripLookup.
func (s *store) ActiveTrips(ctx context.Context, userID string) (ids []string, err error) {
	err = s.db.view(ctx, func(t *tx) error {
		if trip := tripOf(t, running, userID); trip != nil && trip.DriverID != "" {
			ids = []string{trip.ID}
		}
		return nil
	})
	return ids, err
}

// FindParties implements realtime.PartyLookup.
func (s *store) FindParties(ctx context.Context, tripID string) (parties realtime.TripParties, err error) {
	err = s.db.view(ctx, func(t *tx) error {
		trip := trips.get(t, tripID)
		if trip == nil {
			return realtime.ErrNotFound
		}
		parties = realtime.TripParties{PassengerID: trip.PassengerID, DriverID: trip.DriverID}
		return nil
	})
	return parties, err
}

// user returns a user, or nil if there is none.
func (s *store) user(ctx context.Context, id string) (u *userRow, err error) {
	err = s.db.view(ctx, func(t *tx) error { u = users.get(t, id); return nil })
	return u, err
}

// session returns a session, or nil if there is none.
func (s *store) session(ctx context.Context, sid string) (row *sessionRow, err error) {
	err = s.db.view(ctx, func(t *tx) error { row = sessions.get(t, sid); return nil })
	return row, err
}

// newSession opens a session.
func (s *store) newSession(t *tx, userID string) (sid string) {
	sid = uuid.NewString()
	sessions.put(t, sid, sessionRow{SessionID: sid, UserID: userID}, s.sessionTTL)
	return sid
}

// sessionFor returns a session for a printed token: a usable one of the seed's if there is one,
// otherwise any of them, otherwise a new one.
func (s *store) sessionFor(ctx context.Context, userID string, seed seed) (sid string, err error) {
	err = s.db.change(ctx, func(t *tx) error {
		sid = ""
		for _, row := range seed.Sessions {
			if row.UserID != userID {
				continue
			}
			if now := sessions.get(t, row.SessionID); now != nil && now.usable() {
				sid = row.SessionID
				return nil
			}
			sid = row.SessionID
		}
		if sid == "" {
			sid = s.newSession(t, userID)
		}
		return nil
	})
	return sid, err
}

// login opens a session for an active user.
func (s *store) login(ctx context.Context, userID string, device map[string]any) (u userRow, sid string, err error) {
	err = s.db.change(ctx, func(t *tx) error {
		row := users.get(t, userID)
		switch {
		case row == nil:
			return realtime.Errorf(realtime.CodeNotFound, "no such user")
		case row.Status != active:
			return realtime.Errorf(realtime.CodeUserInactive, "User inactive")
		}
		u, sid = *row, s.newSession(t, userID)
		t.add(realtime.UserLoggedIn{UserID: userID, UserType: row.Type, SessionID: sid, SessionType: "app", DeviceInfo: device})
		return nil
	})
	return u, sid, err
}

// refresh replaces a session by a new one. The old one stays valid for refreshGrace, for
// a client that reconnects before it has received the new one. With a carried time the sockets
// of the old session are carried over, and expire then.
func (s *store) refresh(ctx context.Context, userID, oldSessionID string, carried time.Time) (sid string, err error) {
	err = s.db.change(ctx, func(t *tx) error {
		old := sessions.get(t, oldSessionID)
		if old == nil || !old.usable() { // ended since the caller's token was checked
			return realtime.Errorf(realtime.CodeInvalidSession, "Invalid session")
		}
		sid = s.newSession(t, userID)
		end := time.Now().Add(refreshGrace)
		if old.AccessTokenExpiresAt == nil || old.AccessTokenExpiresAt.After(end) {
			old.AccessTokenExpiresAt = &end
		}
		sessions.put(t, oldSessionID, *old, sameTTL)
		t.add(realtime.SessionRefreshed{UserID: userID, OldSessionID: oldSessionID, NewSessionID: sid, ExpiresAt: carried})
		return nil
	})
	return sid, err
}

// refreshGrace is the library's default, see Timeouts.RefreshGrace.
const refreshGrace = 10 * time.Second

// revoke ends a session, if it exists and has not ended. The row changes before the event
// is published, so that a socket that connects in between is refused, and one that
// connected before is disconnected.
func (s *store) revoke(ctx context.Context, sid, reason string) error {
	return s.db.change(ctx, func(t *tx) error { return revoke(t, sid, reason) })
}

func revoke(t *tx, sid, reason string) error {
	row := sessions.get(t, sid)
	if row == nil {
		return realtime.Errorf(realtime.CodeNotFound, "no such session")
	}
	if !row.Revoked {
		row.Revoked = true
		sessions.put(t, sid, *row, sameTTL) // one of the seed's stays revoked forever
		t.add(realtime.SessionRevoked{SessionID: sid, UserID: row.UserID, Reason: reason})
	}
	return nil
}

// logout ends the caller's session. A driver goes offline.
func (s *store) logout(ctx context.Context, c caller) error {
	return s.db.change(ctx, func(t *tx) error {
		if err := revoke(t, c.sid, "logout"); err != nil {
			return err
		}
		return goOffline(t, c.user)
	})
}

// goOffline takes a driver offline, and publishes that; it does nothing for others.
func goOffline(t *tx, u userRow) error {
	if u.Type != realtime.UserDriver {
		return nil
	}
	before := driverOf(t, u.ID)
	d, err := before.WithStatus(realtime.StatusUpdate{IsOnline: new(false)}, time.Now())
	if err == nil && d.AvailabilityChanged(before) {
		putDriver(t, u.ID, d)
		t.add(realtime.DriverStatusChanged{Availability: snapshotOf(t, u.ID, d)})
	}
	return err
}

// setStatus changes a user's status.
func (s *store) setStatus(ctx context.Context, userID string, status userStatus, reason string) error {
	return s.db.change(ctx, func(t *tx) error {
		u := users.get(t, userID)
		if u == nil {
			return realtime.Errorf(realtime.CodeNotFound, "no such user")
		}
		u.Status = status
		users.put(t, userID, *u, 0)
		switch status {
		case banned:
			t.add(realtime.UserAccessChanged{UserID: userID, Change: realtime.AccessBanned, Reason: reason})
		case inactive:
			t.add(realtime.UserAccessChanged{UserID: userID, Change: realtime.AccessDeactivated, Reason: reason})
		default: // activation ends no socket, so it has no event
			return nil
		}
		return goOffline(t, *u)
	})
}
