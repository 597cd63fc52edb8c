// Fakes of the host's services: maps with a lock, and faults on demand.

package realtimetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rodando/realtime"
)

// Faults makes a fake fail or hang. Every fake embeds it. Its methods may be called
// concurrently.
type Faults struct {
	mu      sync.Mutex // guards the fields below
	err     error
	blocked *blockade
}

// blockade is one Block.
type blockade struct {
	entered, released chan struct{}
	enter             func()
}

// Fail makes every later call return err. Fail(nil) ends that.
func (f *Faults) Fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

// Block makes every later call hang until release is called or the call's ctx ends.
// entered is closed when the first call hangs. A call reads the fake's data only
// when it continues.
func (f *Faults) Block() (entered <-chan struct{}, release func()) {
	b := &blockade{entered: make(chan struct{}), released: make(chan struct{})}
	b.enter = sync.OnceFunc(func() { close(b.entered) })
	f.mu.Lock()
	defer f.mu.Unlock()
	f.blocked = b
	return b.entered, sync.OnceFunc(func() {
		f.mu.Lock()
		if f.blocked == b {
			f.blocked = nil
		}
		f.mu.Unlock()
		close(b.released)
	})
}

// pass applies the faults to a call. Every call of a fake begins with it.
func (f *Faults) pass(ctx context.Context) error {
	f.mu.Lock()
	b := f.blocked
	f.mu.Unlock()
	if b != nil {
		b.enter()
		select {
		case <-b.released:
		case <-ctx.Done():
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return f.err
	}
	return ctx.Err()
}

// rows is the data of a fake. Its zero value is empty.
type rows[T any] struct {
	mu  sync.Mutex // guards all
	all map[string]T
}

func (r *rows[T]) set(key string, row T) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all == nil {
		r.all = map[string]T{}
	}
	r.all[key] = row
}

func (r *rows[T]) setIfAbsent(key string, row T) {
	if _, ok := r.get(key); !ok {
		r.set(key, row)
	}
}

// change changes a row if it exists.
func (r *rows[T]) change(key string, f func(row *T)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if row, ok := r.all[key]; ok {
		f(&row)
		r.all[key] = row
	}
}

func (r *rows[T]) remove(key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.all, key)
}

func (r *rows[T]) get(key string) (row T, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	row, ok = r.all[key]
	return row, ok
}

// find returns a row as a repository does, after the faults.
func find[T any](ctx context.Context, f *Faults, r *rows[T], key string) (row T, err error) {
	if err := f.pass(ctx); err != nil {
		return row, err
	}
	row, ok := r.get(key)
	if !ok {
		return row, fmt.Errorf("%q: %w", key, realtime.ErrNotFound)
	}
	return row, nil
}

// Tokens is a TokenVerifier with a map from tokens to claims. Its zero value has no
// token. All methods may be called concurrently.
type Tokens struct {
	Faults
	claims rows[realtime.Claims]
	minted atomic.Int64
}

// Mint returns a new token for a user and a login session that expires in ttl.
func (k *Tokens) Mint(userID, sessionID string, ttl time.Duration) string {
	token := fmt.Sprintf("token-%d-of-%s", k.minted.Add(1), userID)
	k.Set(token, realtime.Claims{Subject: userID, SessionID: sessionID, ExpiresAt: time.Now().Add(ttl)})
	return token
}

// Set makes a token valid, with any claims.
func (k *Tokens) Set(token string, c realtime.Claims) { k.claims.set(token, c) }

// Delete makes a token invalid.
func (k *Tokens) Delete(token string) { k.claims.remove(token) }

// VerifyToken implements realtime.TokenVerifier. It returns ErrTokenInvalid for a token
// that is not in the map, and ErrTokenExpired for an expired one.
func (k *Tokens) VerifyToken(ctx context.Context, token, _ string) (realtime.Claims, error) {
	c, err := find(ctx, &k.Faults, &k.claims, token)
	switch {
	case errors.Is(err, realtime.ErrNotFound):
		return realtime.Claims{}, realtime.ErrTokenInvalid
	case err == nil && !c.ExpiresAt.IsZero() && !c.ExpiresAt.After(time.Now()):
		return realtime.Claims{}, realtime.ErrTokenExpired
	}
	return c, err
}

// Users is a UserRepo with a map. Its zero value is empty. All methods may be called
// concurrently.
type Users struct {
	Faults
	users rows[realtime.User]
}

// Set adds or replaces a user.
func (u *Users) Set(user realtime.User) { u.users.set(user.ID, user) }

// Delete removes a user.
func (u *Users) Delete(id string) { u.users.remove(id) }

// FindUser implements realtime.UserRepo.
func (u *Users) FindUser(ctx context.Context, id string) (realtime.User, error) {
	return find(ctx, &u.Faults, &u.users, id)
}

// Sessions is a SessionRepo with a map. Its zero value is empty. All methods may be
// called concurrently.
type Sessions struct {
	Faults
	sessions rows[realtime.Session]
}

// Set adds or replaces a session.
func (s *Sessions) Set(session realtime.Session) { s.sessions.set(session.ID, session) }

// Delete removes a session.
func (s *Sessions) Delete(sessionID string) { s.sessions.remove(sessionID) }

// Revoke marks a session as revoked. To end its sockets, the test must also publish
// realtime.SessionRevoked.
func (s *Sessions) Revoke(sessionID string) {
	s.sessions.change(sessionID, func(row *realtime.Session) { row.Revoked = true })
}

// FindSession implements realtime.SessionRepo.
func (s *Sessions) FindSession(ctx context.Context, sessionID string) (realtime.Session, error) {
	return find(ctx, &s.Faults, &s.sessions, sessionID)
}

// Trips is a TripLookup with a map. Its zero value is empty. All methods may be called
// concurrently.
type Trips struct {
	Faults
	trips rows[[]string]
}

// Set sets the active trips of a user; without ids there are none.
func (l *Trips) Set(userID string, tripIDs ...string) { l.trips.set(userID, slices.Clone(tripIDs)) }

// ActiveTrips implements realtime.TripLookup.
func (l *Trips) ActiveTrips(ctx context.Context, userID string) ([]string, error) {
	ids, err := find(ctx, &l.Faults, &l.trips, userID)
	if errors.Is(err, realtime.ErrNotFound) {
		return nil, nil
	}
	return slices.Clone(ids), err
}

// Snapshots is a SnapshotLookup with a map. Its zero value is empty. A server has none unless a
// configure function sets one. All methods may be called concurrently.
type Snapshots struct {
	Faults
	snapshots rows[realtime.Snapshot]
}

// Set sets the snapshot of a user; that of any other user is zero. Do not change it afterwards.
func (l *Snapshots) Set(userID string, snapshot realtime.Snapshot) {
	l.snapshots.set(userID, snapshot)
}

// FindSnapshot implements realtime.SnapshotLookup.
func (l *Snapshots) FindSnapshot(ctx context.Context, _ string, id realtime.Identity) (realtime.Snapshot, error) {
	found, err := find(ctx, &l.Faults, &l.snapshots, id.UserID)
	if errors.Is(err, realtime.ErrNotFound) {
		return realtime.Snapshot{}, nil
	}
	return found, err
}

// Parties is a PartyLookup with a map. Its zero value is empty. All methods may be
// called concurrently.
type Parties struct {
	Faults
	parties rows[realtime.TripParties]
}

// Set sets the passenger and the driver of a trip.
func (p *Parties) Set(tripID string, parties realtime.TripParties) { p.parties.set(tripID, parties) }

// Delete makes a trip unknown.
func (p *Parties) Delete(tripID string) { p.parties.remove(tripID) }

// FindParties implements realtime.PartyLookup.
func (p *Parties) FindParties(ctx context.Context, tripID string) (realtime.TripParties, error) {
	return find(ctx, &p.Faults, &p.parties, tripID)
}
