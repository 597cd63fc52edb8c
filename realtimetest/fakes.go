// Fakes of what a host plugs in: maps with a lock, and faults on demand.

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

// Faults makes a fake fail or hang. It is part of each of them.
type Faults struct {
	mu      sync.Mutex
	err     error
	blocked *blockade
}

type blockade struct {
	entered, released chan struct{}
	enter             func()
}

// Fail makes every call return err from now on; with nil it works again.
func (f *Faults) Fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

// Block makes every call hang, from now on until release is called or the
// call's ctx ends. Entered is closed when the first call hangs. What a call
// answers is decided when it goes on.
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

// pass is what every call of a fake goes through.
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

// rows is what a fake has. Its zero value is empty.
type rows[T any] struct {
	mu  sync.Mutex
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

// change changes a row, if it is there.
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

// find answers a query as a repository does.
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

// Tokens is a TokenVerifier over a map from token to claims. The zero value
// knows no token. All methods may be called concurrently.
type Tokens struct {
	Faults
	claims rows[realtime.Claims]
	minted atomic.Int64
}

// Mint returns a new token for a user and a login session, that expires in ttl.
func (k *Tokens) Mint(userID, sid string, ttl time.Duration) string {
	token := fmt.Sprintf("token-%d-of-%s", k.minted.Add(1), userID)
	k.Set(token, realtime.Claims{Subject: userID, SessionID: sid, ExpiresAt: time.Now().Add(ttl)})
	return token
}

// Set makes a token verify, with any claims.
func (k *Tokens) Set(token string, c realtime.Claims) { k.claims.set(token, c) }

// Delete makes a token invalid.
func (k *Tokens) Delete(token string) { k.claims.remove(token) }

// VerifyToken implements realtime.TokenVerifier. A token that is not in the map
// is ErrTokenInvalid, one whose time has passed ErrTokenExpired.
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

// Users is a UserRepo over a map. The zero value is empty. All methods may be
// called concurrently.
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

// Sessions is a SessionRepo over a map. The zero value is empty. All methods
// may be called concurrently.
type Sessions struct {
	Faults
	sessions rows[realtime.Session]
}

// Set adds or replaces a session.
func (s *Sessions) Set(session realtime.Session) { s.sessions.set(session.ID, session) }

// Delete removes a session.
func (s *Sessions) Delete(sid string) { s.sessions.remove(sid) }

// Revoke marks a session revoked. Its live sockets hear of that by the domain
// event SessionRevoked, which is the test's to publish.
func (s *Sessions) Revoke(sid string) {
	s.sessions.change(sid, func(row *realtime.Session) { row.Revoked = true })
}

// FindSession implements realtime.SessionRepo.
func (s *Sessions) FindSession(ctx context.Context, sid string) (realtime.Session, error) {
	return find(ctx, &s.Faults, &s.sessions, sid)
}

// Trips is a TripLookup over a map. The zero value is empty. All methods may be
// called concurrently.
type Trips struct {
	Faults
	trips rows[[]string]
}

// Set says which trips a user takes part in now; none, without any.
func (l *Trips) Set(userID string, tripIDs ...string) { l.trips.set(userID, slices.Clone(tripIDs)) }

// ActiveTrips implements realtime.TripLookup.
func (l *Trips) ActiveTrips(ctx context.Context, userID string) ([]string, error) {
	ids, err := find(ctx, &l.Faults, &l.trips, userID)
	if errors.Is(err, realtime.ErrNotFound) {
		return nil, nil
	}
	return slices.Clone(ids), err
}

// Parties is a PartyLookup over a map. The zero value is empty. All methods may
// be called concurrently.
type Parties struct {
	Faults
	parties rows[realtime.TripParties]
}

// Set says who takes part in a trip.
func (p *Parties) Set(tripID string, parties realtime.TripParties) { p.parties.set(tripID, parties) }

// Delete makes a trip unknown.
func (p *Parties) Delete(tripID string) { p.parties.remove(tripID) }

// FindParties implements realtime.PartyLookup.
func (p *Parties) FindParties(ctx context.Context, tripID string) (realtime.TripParties, error) {
	return find(ctx, &p.Faults, &p.parties, tripID)
}
