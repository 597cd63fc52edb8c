// The database in Redis: what instances that share it see of each other.

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
)

// patience is how long something may take that is no matter of time.
const patience = 30 * time.Second

// storesOn returns stores of n instances on one Redis, with the demo's users.
func storesOn(t *testing.T, m *miniredis.Miniredis, n int) []*store {
	t.Helper()
	stores := make([]*store, n)
	for i := range stores {
		client, err := dialRedis("redis://" + m.Addr())
		require.NoError(t, err)
		t.Cleanup(client.Close)
		stores[i] = newStore(newRedisDatabase(client, nil, quiet), time.Hour)
		require.NoError(t, stores[i].createSeed(t.Context(), demoSeed()))
	}
	return stores
}

func redisStores(t *testing.T, n int) []*store {
	t.Helper()
	return storesOn(t, startRedis(t), n)
}

// take removes the outbox.
func (r *redisDatabase) take(t *testing.T) (events []realtime.Envelope) {
	t.Helper()
	publish := r.publish
	defer func() { r.publish = publish }()
	r.publish = func(_ context.Context, e realtime.Envelope) error { events = append(events, e); return nil }
	n, err := r.client.Do(t.Context(), r.client.B().Xlen().Key(redisOutbox).Build()).AsInt64()
	require.NoError(t, err)
	if n == 0 {
		return nil
	}
	next, err := r.relaySome(t.Context())
	require.NoError(t, err)
	held, err := r.hold(t.Context(), next)
	require.NoError(t, err)
	require.True(t, held)
	return events
}

// What one instance changes, every other one sees, and each may take the next step.
func TestRedisDatabase_AnyInstanceServesAnyRequest(t *testing.T) {
	t.Parallel()
	s := redisStores(t, 3)
	trip, o := offered(t, s[0])
	_, view := currentOf(t, s[1], diego.ID)
	require.Equal(t, o.ID, view.AssignmentID)
	_, err := s[2].accept(t.Context(), diego.ID, o.ID, "")
	require.NoError(t, err)
	for i, do := range []step{stepArriving, stepArrived, stepStart, stepComplete} {
		running, err := s[i%3].runningTrips(t.Context())
		require.NoError(t, err)
		require.Len(t, running, 1)
		_, err = s[(i+1)%3].advance(t.Context(), diego.ID, trip, do, 0)
		require.NoError(t, err)
	}
	running, err := s[0].runningTrips(t.Context())
	require.NoError(t, err)
	require.Empty(t, running)
	v, err := s[1].trip(t.Context(), paula, trip)
	require.NoError(t, err)
	require.Equal(t, realtime.TripStatusCompleted, v.Status)
}

func TestRedisDatabase_Sessions(t *testing.T) {
	t.Parallel()
	m := startRedis(t)
	s := storesOn(t, m, 2)
	_, sid, err := s[0].login(t.Context(), diego.ID, nil)
	require.NoError(t, err)
	require.Equal(t, time.Hour, m.TTL(redisPrefix+sessions.key(sid)))
	fresh, err := s[1].refresh(t.Context(), diego.ID, sid, time.Time{})
	require.NoError(t, err)
	require.NoError(t, s[0].revoke(t.Context(), fresh, "logout"))
	found, err := s[1].FindSession(t.Context(), fresh)
	require.NoError(t, err)
	require.True(t, found.Revoked)
	require.Equal(t, []string{"auth.user.logged_in", "auth.session.refreshed", "auth.session.revoked"}, s[0].happened(t))
	m.FastForward(time.Hour)
	_, err = s[1].FindSession(t.Context(), fresh)
	require.ErrorIs(t, err, realtime.ErrNotFound)
}

// An instance that starts again must not lift a ban or a revocation.
func TestStore_SeedKeepsWhatIsThere(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, s *store) {
		seed := demoSeed()
		seed.Sessions = []sessionRow{{SessionID: "s", UserID: diego.ID}, {SessionID: "s2", UserID: diego.ID}}
		require.NoError(t, s.createSeed(t.Context(), seed))
		require.NoError(t, s.revoke(t.Context(), "s", ""))
		require.NoError(t, s.setStatus(t.Context(), paula.ID, banned, ""))
		require.NoError(t, s.createSeed(t.Context(), seed))
		row, err := s.session(t.Context(), "s")
		require.NoError(t, err)
		require.True(t, row.Revoked)
		u, err := s.FindUser(t.Context(), paula.ID)
		require.NoError(t, err)
		require.False(t, u.Active)
		sid, err := s.sessionFor(t.Context(), diego.ID, seed)
		require.NoError(t, err)
		require.Equal(t, "s2", sid, "the other one is revoked")
	})
}

// A session of the seed never ceases to exist: an instance that starts again would create it anew,
// not revoked.
func TestRedisDatabase_RevokedSessionOfTheSeed(t *testing.T) {
	t.Parallel()
	m := startRedis(t)
	s := storesOn(t, m, 1)[0]
	seed := seed{Sessions: []sessionRow{{SessionID: "s", UserID: diego.ID}}}
	require.NoError(t, s.createSeed(t.Context(), seed))
	require.NoError(t, s.revoke(t.Context(), "s", ""))
	m.FastForward(1000 * time.Hour)
	require.NoError(t, s.createSeed(t.Context(), seed))
	found, err := s.FindSession(t.Context(), "s")
	require.NoError(t, err)
	require.True(t, found.Revoked)
}

// Two drivers cannot have one trip, one driver not two, and a passenger not two.
func TestRedisDatabase_ConcurrentRequests(t *testing.T) {
	t.Parallel()
	s := redisStores(t, 3)
	for range 10 {
		var made sync.Map
		var wg sync.WaitGroup
		for i := range 6 {
			wg.Go(func() {
				if v, err := s[i%3].request(t.Context(), paula.ID, capitol, plaza, ""); err == nil {
					made.Store(v.TripID, true)
				}
			})
		}
		wg.Wait()
		n := 0
		made.Range(func(id, _ any) bool {
			n++
			assigning(t, s[0], id.(string))
			var offers sync.WaitGroup
			for i := range 6 {
				offers.Go(func() {
					_, err := s[i%3].offerTo(t.Context(), id.(string), []string{diego.ID, "driver-2"}, time.Minute)
					if err != nil {
						t.Error(err)
					}
				})
			}
			offers.Wait()
			_, err := s[1].cancel(t.Context(), paula, id.(string), "")
			require.NoError(t, err)
			return true
		})
		require.Equal(t, 1, n)
		require.Equal(t, []string{
			"trip.requested", "trip.assigning.started", "trip.assignment.offered", "trip.assignment.cancelled", "trip.cancelled",
		}, s[0].happened(t))
	}
}

// The matchers of all instances look at every trip: each step is still taken once, also when
// the instance that had the request has died.
func TestMatcher_SeveralInstances(t *testing.T) {
	t.Parallel()
	s := redisStores(t, 3)
	for _, id := range []string{"a", "b"} {
		addDriver(t, s[0], id, active)
		_, err := s[0].UpdateStatus(t.Context(), id, realtime.StatusUpdate{IsAvailableForTrips: new(true)})
		require.NoError(t, err)
		_, _, err = s[0].UpdateLocation(t.Context(), id, realtime.LocationPing{Position: new(position(capitol))})
		require.NoError(t, err)
	}
	v, err := s[0].request(t.Context(), paula.ID, capitol, plaza, "") // this instance has no matcher
	require.NoError(t, err)
	for _, other := range s[1:] {
		m := newMatcher(other, config{offerTTL: 300 * time.Millisecond, radius: defaultRadius, maxAge: defaultMaxAge}, quiet, connectedIf(everybody))
		defer m.close()
	}
	require.Eventually(t, func() bool {
		found, err := s[0].trip(t.Context(), paula, v.TripID)
		return err == nil && found.Status == statusNoDrivers
	}, patience, 10*time.Millisecond)
	require.Equal(t, []string{
		"trip.requested", "trip.assigning.started", "trip.assignment.offered", "trip.assignment.expired",
		"trip.assignment.offered", "trip.assignment.expired", "trip.no_drivers_found",
	}, s[0].happened(t))
}

// published records what relays publish, by whom.
type published struct {
	mu     sync.Mutex // guards events
	events []string   // "relay id"
	ids    []string
}

func (p *published) by(relay string, fail func() error) func(context.Context, realtime.Envelope) error {
	return func(_ context.Context, e realtime.Envelope) error {
		p.mu.Lock()
		defer p.mu.Unlock()
		if err := fail(); err != nil {
			return err
		}
		sid := strings.Split(string(e.Data), `"`)[3]
		p.events, p.ids = append(p.events, relay+" "+sid), append(p.ids, e.ID)
		return nil
	}
}

func (p *published) until(t *testing.T, n int) (events, ids []string) {
	t.Helper()
	require.Eventually(t, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.events) >= n
	}, patience, time.Millisecond, "%d events", n)
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.events), slices.Clone(p.ids)
}

func fine() error { return nil }

// relayOf starts the relay of a store and returns how to stop it.
func relayOf(t *testing.T, s *store, publish func(context.Context, realtime.Envelope) error, lease time.Duration) (stop func()) {
	t.Helper()
	db := s.db.(*redisDatabase)
	db.publish, db.lease = publish, lease
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { db.relay(ctx, nil) })
	stop = func() { cancel(); running.Wait() }
	t.Cleanup(stop)
	return stop
}

func happen(t *testing.T, s *store, id string) {
	t.Helper()
	require.NoError(t, s.db.change(t.Context(), func(t *tx) error { t.add(realtime.SessionRevoked{SessionID: id}); return nil }))
}

// One instance publishes the events of all, in their order; another one goes on when it stops.
func TestRedisDatabase_Relay(t *testing.T) {
	t.Parallel()
	s := redisStores(t, 2)
	var p published
	var want []string
	stop := relayOf(t, s[0], p.by("first", fine), time.Minute)
	for i := range 20 {
		id := fmt.Sprint("e", i)
		happen(t, s[i%2], id)
		want = append(want, "first "+id)
	}
	events, _ := p.until(t, 20)
	require.Equal(t, want, events)
	relayOf(t, s[1], p.by("second", fine), time.Second) // its lease decides how often it asks
	stop()
	happen(t, s[0], "last")
	events, _ = p.until(t, 21)
	require.Equal(t, append(want, "second last"), events)
}

// A relay that died before it had removed what it published: the other one publishes it again,
// with the same id.
func TestRedisDatabase_RelayTakesOver(t *testing.T) {
	t.Parallel()
	m := startRedis(t)
	s := storesOn(t, m, 2)
	var p published
	dead := s[0].db.(*redisDatabase)
	dead.publish = p.by("dead", fine)
	happen(t, s[0], "e1")
	happen(t, s[0], "e2")
	held, err := dead.hold(t.Context(), "")
	require.NoError(t, err)
	require.True(t, held)
	_, err = dead.relaySome(t.Context())
	require.NoError(t, err)

	relayOf(t, s[1], p.by("living", fine), time.Second)
	held, err = s[1].db.(*redisDatabase).hold(t.Context(), "")
	require.NoError(t, err)
	require.False(t, held, "the lease is the dead one's")
	m.FastForward(dead.lease)
	events, ids := p.until(t, 4)
	require.Equal(t, []string{"dead e1", "dead e2", "living e1", "living e2"}, events)
	require.Equal(t, ids[:2], ids[2:])
}

// An event that the bus refuses is published again, before later ones.
func TestRedisDatabase_RelayRepeatsAfterAnError(t *testing.T) {
	t.Parallel()
	s := redisStores(t, 1)[0]
	var p published
	fails := 1
	happen(t, s, "e1")
	happen(t, s, "e2")
	relayOf(t, s, p.by("relay", func() error {
		if fails--; fails == 0 {
			return context.DeadlineExceeded
		}
		return nil
	}), time.Minute)
	events, _ := p.until(t, 2)
	require.Equal(t, []string{"relay e1", "relay e2"}, events)
}

// What fails has changed nothing, and says so.
func TestRedisDatabase_Failures(t *testing.T) {
	t.Parallel()
	m := startRedis(t)
	s := storesOn(t, m, 1)[0]
	m.SetError("READONLY You can't write against a read only replica.")
	_, err := s.request(t.Context(), paula.ID, nil, nil, "")
	require.ErrorContains(t, err, "READONLY")
	_, err = s.FindUser(t.Context(), paula.ID)
	require.ErrorContains(t, err, "READONLY")
	require.NotErrorIs(t, err, realtime.ErrNotFound)
	m.SetError("")
	_, err = s.request(t.Context(), paula.ID, nil, nil, "")
	require.NoError(t, err)
	require.NoError(t, m.Set(redisPrefix+users.key("broken"), "{"))
	_, err = s.FindUser(t.Context(), "broken")
	require.ErrorContains(t, err, "row user")
}

func TestDialRedis_ErrorsQuoteNoPassword(t *testing.T) {
	t.Parallel()
	_, err := dialRedis("redis://user:hunter2@[bad")
	require.Error(t, err)
	require.NotContains(t, err.Error(), "hunter2")
}
