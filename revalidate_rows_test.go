// A sweep goes on, whichever calls of a repository never return.

package realtime_test

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// deafness decides which calls never return.
type deafness struct {
	ids     atomic.Pointer[[]string] // the calls for these; nil: none; "": all
	once    atomic.Bool              // only the next one
	hung    atomic.Int32             // calls that have not returned
	calls   atomic.Int32
	release chan struct{}
}

func newDeaf(t *testing.T) *deafness {
	d := &deafness{release: make(chan struct{})}
	t.Cleanup(func() { close(d.release); synctest.Wait() })
	return d
}

func (d *deafness) to(ids ...string) { d.ids.Store(&ids) }

func (d *deafness) hears() { d.ids.Store(nil) }

func (d *deafness) pass(ids ...string) {
	d.calls.Add(1)
	of := d.ids.Load()
	if of == nil || !slices.Contains(*of, "") && !slices.ContainsFunc(ids, func(id string) bool { return slices.Contains(*of, id) }) {
		return
	}
	if d.once.Load() {
		d.ids.Store(nil)
	}
	d.hung.Add(1)
	<-d.release
	d.hung.Add(-1)
}

type deafUsers struct {
	*realtimetest.Users
	deaf *deafness
}

func (u deafUsers) FindUser(ctx context.Context, id string) (realtime.User, error) {
	u.deaf.pass(id)
	return u.Users.FindUser(ctx, id)
}

type deafManyUsers struct{ deafUsers }

func (u deafManyUsers) FindUsers(ctx context.Context, ids []string) ([]realtime.User, error) {
	u.deaf.pass(ids...)
	return findAll(ctx, ids, u.Users.FindUser)
}

type deafSessions struct {
	*realtimetest.Sessions
	deaf *deafness
}

func (s deafSessions) FindSession(ctx context.Context, id string) (realtime.Session, error) {
	s.deaf.pass(id)
	return s.Sessions.FindSession(ctx, id)
}

type deafManySessions struct{ deafSessions }

func (s deafManySessions) FindSessions(ctx context.Context, ids []string) ([]realtime.Session, error) {
	s.deaf.pass(ids...)
	return findAll(ctx, ids, s.Sessions.FindSession)
}

type deafTrips struct {
	*realtimetest.Trips
	deaf *deafness
}

func (l deafTrips) ActiveTrips(ctx context.Context, id string) ([]string, error) {
	l.deaf.pass(id)
	return l.Trips.ActiveTrips(ctx, id)
}

type deafManyTrips struct{ deafTrips }

func (l deafManyTrips) ActiveTripsOf(ctx context.Context, ids []string) (map[string][]string, error) {
	l.deaf.pass(ids...)
	found := map[string][]string{}
	for _, id := range ids {
		found[id], _ = l.Trips.ActiveTrips(ctx, id)
	}
	return found, nil
}

func findAll[T any](ctx context.Context, ids []string, one func(context.Context, string) (T, error)) (found []T, err error) {
	for _, id := range ids {
		if row, err := one(ctx, id); err == nil {
			found = append(found, row)
		}
	}
	return found, nil
}

// sweptRepo is a repository of a sweep: how it is made deaf, and how a row changes that
// the sweep is to notice.
type sweptRepo struct {
	use     func(o *realtime.Options, d *deafness)
	id      func(user string) string
	changes func(srv *realtimetest.Server)
	noticed func(t *testing.T, srv *realtimetest.Server, driver *realtimetest.Client) bool
}

func sweptRepos() map[string]sweptRepo {
	ended := func(_ *testing.T, _ *realtimetest.Server, driver *realtimetest.Client) bool {
		return !driver.Connected()
	}
	users := sweptRepo{
		id: func(user string) string { return user }, noticed: ended,
		changes: func(srv *realtimetest.Server) { srv.Users.Set(realtime.User{ID: "d1", Type: realtime.UserDriver}) },
	}
	sessions := sweptRepo{
		id: realtimetest.SessionID, noticed: ended,
		changes: func(srv *realtimetest.Server) { srv.Sessions.Revoke(realtimetest.SessionID("d1")) },
	}
	trips := sweptRepo{
		id:      func(user string) string { return user },
		changes: func(srv *realtimetest.Server) { srv.Trips.Set("d1") },
		noticed: func(t *testing.T, srv *realtimetest.Server, _ *realtimetest.Client) bool {
			return inTripRoom(t, srv.Realtime.Drivers(), "t1") == 0
		},
	}
	with := func(r sweptRepo, use func(o *realtime.Options, d *deafness)) sweptRepo { r.use = use; return r }
	oneUser := func(o *realtime.Options, d *deafness) deafUsers { return deafUsers{o.Users.(*realtimetest.Users), d} }
	oneSession := func(o *realtime.Options, d *deafness) deafSessions {
		return deafSessions{o.Sessions.(*realtimetest.Sessions), d}
	}
	oneTrips := func(o *realtime.Options, d *deafness) deafTrips { return deafTrips{o.Trips.(*realtimetest.Trips), d} }
	return map[string]sweptRepo{
		"users one by one":     with(users, func(o *realtime.Options, d *deafness) { o.Users = oneUser(o, d) }),
		"users many at once":   with(users, func(o *realtime.Options, d *deafness) { o.Users = deafManyUsers{oneUser(o, d)} }),
		"sessions one by one":  with(sessions, func(o *realtime.Options, d *deafness) { o.Sessions = oneSession(o, d) }),
		"sessions many":        with(sessions, func(o *realtime.Options, d *deafness) { o.Sessions = deafManySessions{oneSession(o, d)} }),
		"trips one by one":     with(trips, func(o *realtime.Options, d *deafness) { o.Trips = oneTrips(o, d) }),
		"trips many at a time": with(trips, func(o *realtime.Options, d *deafness) { o.Trips = deafManyTrips{oneTrips(o, d)} }),
	}
}

// startSwept starts a server on a repository, with the drivers d1 to d4, each in a trip.
func startSwept(t *testing.T, repo sweptRepo) (*realtimetest.Server, *deafness, *realtimetest.Client) {
	t.Helper()
	d := newDeaf(t)
	srv := realtimetest.NewServer(t, func(o *realtime.Options) { repo.use(o, d) })
	var first *realtimetest.Client
	for i := range 4 {
		id := fmt.Sprint("d", i+1)
		srv.Trips.Set(id, fmt.Sprint("t", i+1))
		srv.Login(id, realtime.UserDriver)
		token := srv.Tokens.Mint(id, realtimetest.SessionID(id), 24*time.Hour)
		driver, err := srv.Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Token(token))
		require.NoError(t, err)
		if i == 0 {
			first = driver
		}
	}
	waitForSweep()
	require.False(t, repo.noticed(t, srv, first))
	return srv, d, first
}

// A lost event is noticed within a few intervals after a call that never returned.
func TestSweep_ACallThatNeverReturns(t *testing.T) {
	t.Parallel()
	for name, repo := range sweptRepos() {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				srv, d, driver := startSwept(t, repo)
				d.once.Store(true)
				d.to("")
				waitForSweep()
				require.EqualValues(t, 1, d.hung.Load())
				repo.changes(srv)
				time.Sleep(3 * time.Minute)
				synctest.Wait()
				require.True(t, repo.noticed(t, srv, driver))
			})
		})
	}
}

// A row whose calls never return, of a lock for instance, keeps no other from being read,
// and costs a few calls.
func TestSweep_ARowThatAlwaysHangs(t *testing.T) {
	t.Parallel()
	for name, repo := range sweptRepos() {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				srv, d, driver := startSwept(t, repo)
				d.to(repo.id("d4"))
				time.Sleep(3 * time.Hour)
				require.False(t, repo.noticed(t, srv, driver))
				repo.changes(srv)
				time.Sleep(3 * time.Minute)
				synctest.Wait()
				require.True(t, repo.noticed(t, srv, driver))
				require.Positive(t, d.hung.Load())
				require.LessOrEqual(t, d.hung.Load(), int32(20))
			})
		})
	}
}

// A repository none of whose calls returned for hours is asked again, though they never do.
func TestSweep_ARepositoryThatHangsForHours(t *testing.T) {
	t.Parallel()
	for name, repo := range sweptRepos() {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				srv, d, driver := startSwept(t, repo)
				d.to("")
				time.Sleep(2 * time.Hour)
				require.LessOrEqual(t, d.hung.Load(), int32(80))
				d.hears()
				require.False(t, repo.noticed(t, srv, driver))
				repo.changes(srv)
				time.Sleep(3 * time.Hour)
				synctest.Wait()
				require.True(t, repo.noticed(t, srv, driver))
			})
		})
	}
}
