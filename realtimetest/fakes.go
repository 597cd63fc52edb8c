// Fakes of what a host plugs in: maps with a lock, and faults on demand.

package realtimetest

import (
	"context"
	"fmt"
	"slices"
	"sync"
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

// table is the rows of a fake.
type table[T any] struct {
	Faults
	rows map[string]T // guarded by Faults.mu
}

func (t *table[T]) set(key string, row T) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.rows == nil {
		t.rows = map[string]T{}
	}
	t.rows[key] = row
}

// setIfAbsent reports whether it did.
func (t *table[T]) setIfAbsent(key string, row T) bool {
	if _, ok := t.row(key); ok {
		return false
	}
	t.set(key, row)
	return true
}

// Delete removes a row; it is not found any more.
func (t *table[T]) Delete(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.rows, key)
}

func (t *table[T]) row(key string) (row T, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	row, ok = t.rows[key]
	return row, ok
}

// find is a query of the host.
func (t *table[T]) find(ctx context.Context, key string) (row T, err error) {
	if err := t.pass(ctx); err != nil {
		return row, err
	}
	row, ok := t.row(key)
	if !ok {
		return row, fmt.Errorf("%q: %w", key, realtime.ErrNotFound)
	}
	return row, nil
}

// Tokens is a TokenVerifier over a map from token to claims. The zero value
// knows no token. All methods may be called concurrently.
type Tokens struct {
	table[realtime.Claims]
	minted int // guarded by Faults.mu
}

// Mint returns a new token for a user and a login session, that expires in ttl.
func (k *Tokens) Mint(userID, sid string, ttl time.Duration) string {
	k.mu.Lock()
	k.minted++
	token := fmt.Sprintf("token-%d-of-%s", k.minted, userID)
	k.mu.Unlock()
	k.Set(token, realtime.Claims{Subject: userID, SessionID: sid, ExpiresAt: time.Now().Add(ttl)})
	return token
}

// Set makes a token verify, with any claims.
func (k *Tokens) Set(token string, c realtime.Claims) { k.set(token, c) }

// VerifyToken implements realtime.TokenVerifier. A token of a past ExpiresAt is
// ErrTokenExpired, one that is not in the map ErrTokenInvalid.
func (k *Tokens) VerifyToken(ctx context.Context, token, _ string) (realtime.Claims, error) {
	if err := k.pass(ctx); err != nil {
		return realtime.Claims{}, err
	}
	c, ok := k.row(token)
	switch {
	case !ok:
		return realtime.Claims{}, realtime.ErrTokenInvalid
	case !c.ExpiresAt.IsZero() && !c.ExpiresAt.After(time.Now()):
		return realtime.Claims{}, realtime.ErrTokenExpired
	}
	return c, nil
}

// Users is a UserRepo over a map. The zero value is empty. All methods may be
// called concurrently.
type Users struct{ table[realtime.User] }

// Set adds or replaces a user.
func (u *Users) Set(user realtime.User) { u.set(user.ID, user) }

// FindUser implements realtime.UserRepo.
func (u *Users) FindUser(ctx context.Context, id string) (realtime.User, error) {
	return u.find(ctx, id)
}

// Sessions is a SessionRepo over a map. The zero value is empty. All methods
// may be called concurrently.
type Sessions struct{ table[realtime.Session] }

// Set adds or replaces a session.
func (s *Sessions) Set(session realtime.Session) { s.set(session.ID, session) }

// Revoke marks a session revoked. Its live sockets hear of it by the domain
// event SessionRevoked, which is for the test to publish.
func (s *Sessions) Revoke(sid string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if row, ok := s.rows[sid]; ok {
		row.Revoked = true
		s.rows[sid] = row
	}
}

// FindSession implements realtime.SessionRepo.
func (s *Sessions) FindSession(ctx context.Context, sid string) (realtime.Session, error) {
	return s.find(ctx, sid)
}

// Trips is a TripLookup over a map. The zero value is empty. All methods may be
// called concurrently.
type Trips struct{ table[[]string] }

// Set says which trips a user takes part in.
func (l *Trips) Set(userID string, tripIDs ...string) { l.set(userID, slices.Clone(tripIDs)) }

// ActiveTrips implements realtime.TripLookup.
func (l *Trips) ActiveTrips(ctx context.Context, userID string) ([]string, error) {
	if err := l.pass(ctx); err != nil {
		return nil, err
	}
	ids, _ := l.row(userID)
	return slices.Clone(ids), nil
}

// Parties is a PartyLookup over a map. The zero value is empty. All methods may
// be called concurrently.
type Parties struct{ table[realtime.TripParties] }

// Set says who takes part in a trip.
func (p *Parties) Set(tripID string, parties realtime.TripParties) { p.set(tripID, parties) }

// FindParties implements realtime.PartyLookup.
func (p *Parties) FindParties(ctx context.Context, tripID string) (realtime.TripParties, error) {
	return p.find(ctx, tripID)
}
