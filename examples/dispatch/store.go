// The store: users, login sessions and trips in memory, and the library's interfaces
// to look them up. The rules of trips are in trips.go.

package main

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/rodando/realtime"
)

// store is the database of this program. It keeps everything until the process
// ends.
type store struct {
	drivers *realtime.MemoryDrivers
	events  *outbox

	mu       sync.Mutex // guards the fields below; nothing that blocks is called while it is held
	users    map[string]*userRow
	sessions map[string]*sessionRow
	trips    map[string]*trip
	offers   map[string]*offer // by assignment
	running  map[string]*trip  // by its passenger's and its driver's id; one for each
	open     map[string]*offer // by driver; one for each
}

func newStore(s seed, events *outbox) *store {
	st := &store{
		drivers: realtime.NewMemoryDrivers(), events: events,
		users: map[string]*userRow{}, sessions: map[string]*sessionRow{},
		trips: map[string]*trip{}, offers: map[string]*offer{}, running: map[string]*trip{}, open: map[string]*offer{},
	}
	for _, u := range s.Users {
		st.users[u.ID] = &u
	}
	for _, row := range s.Sessions {
		st.sessions[row.SessionID] = &row
	}
	return st
}

// FindUser implements realtime.UserRepo.
func (s *store) FindUser(_ context.Context, id string) (realtime.User, error) {
	u, ok := s.user(id)
	if !ok {
		return realtime.User{}, realtime.ErrNotFound
	}
	return realtime.User{ID: u.ID, Type: u.Type, Active: u.Status == active}, nil
}

// FindSession implements realtime.SessionRepo.
func (s *store) FindSession(_ context.Context, sid string) (realtime.Session, error) {
	row, ok := s.session(sid)
	if !ok {
		return realtime.Session{}, realtime.ErrNotFound
	}
	found := realtime.Session{ID: row.SessionID, UserID: row.UserID, Revoked: row.Revoked}
	if row.AccessTokenExpiresAt != nil {
		found.AccessTokenExpiresAt = *row.AccessTokenExpiresAt
	}
	return found, nil
}

// ActiveTrips implements realtime.TripLookup.
func (s *store) ActiveTrips(_ context.Context, userID string) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.running[userID]; t != nil && t.driverID != "" {
		return []string{t.id}, nil
	}
	return nil, nil
}

// FindParties implements realtime.PartyLookup.
func (s *store) FindParties(_ context.Context, tripID string) (realtime.TripParties, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.trips[tripID]
	if t == nil {
		return realtime.TripParties{}, realtime.ErrNotFound
	}
	return realtime.TripParties{PassengerID: t.passengerID, DriverID: t.driverID}, nil
}

func (s *store) user(id string) (userRow, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.users[id]
	if u == nil {
		return userRow{}, false
	}
	return *u, true
}

func (s *store) session(sid string) (sessionRow, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	row := s.sessions[sid]
	if row == nil {
		return sessionRow{}, false
	}
	return *row, true
}

// usersOf returns the active users of a type, by id.
func (s *store) usersOf(t realtime.UserType) []userRow {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []userRow
	for _, u := range s.users {
		if u.Type == t && u.Status == active {
			found = append(found, *u)
		}
	}
	slices.SortFunc(found, func(a, b userRow) int { return strings.Compare(a.ID, b.ID) })
	return found
}

func (s *store) addUser(u userRow) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users[u.ID] = &u
}

// sessionOf returns a session of the user for a printed token: a usable one if there is
// one, otherwise any of the seed's, otherwise a new one.
func (s *store) sessionOf(userID string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []*sessionRow
	for _, row := range s.sessions {
		if row.UserID == userID {
			found = append(found, row)
		}
	}
	if len(found) == 0 {
		return s.newSession(userID)
	}
	return slices.MinFunc(found, func(a, b *sessionRow) int {
		if a.usable() != b.usable() {
			if a.usable() {
				return -1
			}
			return 1
		}
		return strings.Compare(a.SessionID, b.SessionID)
	}).SessionID
}

// newSession is called with s.mu held.
func (s *store) newSession(userID string) (sid string) {
	sid = uuid.NewString()
	s.sessions[sid] = &sessionRow{SessionID: sid, UserID: userID}
	return sid
}

// login opens a session for an active user.
func (s *store) login(userID string, device map[string]any) (u userRow, sid string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	row := s.users[userID]
	switch {
	case row == nil:
		return u, "", realtime.Errorf(realtime.CodeNotFound, "no such user")
	case row.Status != active:
		return u, "", realtime.Errorf(realtime.CodeUserInactive, "User inactive")
	}
	sid = s.newSession(userID)
	s.events.add(realtime.UserLoggedIn{UserID: userID, UserType: row.Type, SessionID: sid, SessionType: "app", DeviceInfo: device})
	return *row, sid, nil
}

// refresh replaces a session by a new one. The old one stays valid for refreshGrace, for
// a client that reconnects before it has received the new one.
func (s *store) refresh(userID, oldSessionID string) (sid string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.sessions[oldSessionID]
	if old == nil || !old.usable() { // ended since the caller's token was checked
		return "", realtime.Errorf(realtime.CodeInvalidSession, "Invalid session")
	}
	sid = s.newSession(userID)
	end := time.Now().Add(refreshGrace)
	if old.AccessTokenExpiresAt == nil || old.AccessTokenExpiresAt.After(end) {
		old.AccessTokenExpiresAt = &end
	}
	s.events.add(realtime.SessionRefreshed{UserID: userID, OldSessionID: oldSessionID, NewSessionID: sid})
	return sid, nil
}

// refreshGrace is the library's default, see Timeouts.RefreshGrace.
const refreshGrace = 10 * time.Second

// revoke ends a session, if it exists and has not ended. The row changes before the event
// is published, so that a socket that connects in between is refused, and one that
// connected before is disconnected.
func (s *store) revoke(sid, reason string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	row := s.sessions[sid]
	if row == nil {
		return realtime.Errorf(realtime.CodeNotFound, "no such session")
	}
	if !row.Revoked {
		row.Revoked = true
		s.events.add(realtime.SessionRevoked{SessionID: sid, UserID: row.UserID, Reason: reason})
	}
	return nil
}

// setStatus changes a user's status.
func (s *store) setStatus(userID string, status userStatus, reason string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.users[userID]
	if u == nil {
		return realtime.Errorf(realtime.CodeNotFound, "no such user")
	}
	u.Status = status
	switch status { //nolint:exhaustive // activation ends no socket, so it has no event
	case banned:
		s.events.add(realtime.UserAccessChanged{UserID: userID, Change: realtime.AccessBanned, Reason: reason})
	case inactive:
		s.events.add(realtime.UserAccessChanged{UserID: userID, Change: realtime.AccessDeactivated, Reason: reason})
	}
	return nil
}
