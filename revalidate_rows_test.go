// A sweep continues, whichever calls of a repository never return.

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

// hangingCalls decides which calls of a repository never return.
type hangingCalls struct {
	ids     atomic.Pointer[[]string] // the calls for these; nil: none; "": all
	once    atomic.Bool              // only the next one
	hung    atomic.Int32             // calls that have not returned
	calls   atomic.Int32
	release chan struct{}
}

func newHangingCalls(t *testing.T) *hangingCalls {
	d := &hangingCalls{release: make(chan struct{})}
	t.Cleanup(func() { close(d.release); synctest.Wait() })
	return d
}

// hangFor makes the calls for these ids hang from now on.
func (d *hangingCalls) hangFor(ids ...string) { d.ids.Store(&ids) }

// returnAll lets further calls return.
func (d *hangingCalls) returnAll() { d.ids.Store(nil) }

// wait hangs until the end of the test if a call for these ids is to hang.
func (d *hangingCalls) wait(ids ...string) {
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

type hangingUsers struct {
	*realtimetest.Users
	calls *hangingCalls
}

func (u hangingUsers) FindUser(ctx context.Context, id string) (realtime.User, error) {
	u.calls.wait(id)
	return u.Users.FindUser(ctx, id)
}

type hangingBatchUsers struct{ hangingUsers }

func (u hangingBatchUsers) FindUsers(ctx context.Context, ids []string) ([]realtime.User, error) {
	u.calls.wait(ids...)
	return findAll(ctx, ids, u.Users.FindUser)
}

type hangingSessions struct {
	*realtimetest.Sessions
	calls *hangingCalls
}

func (s hangingSessions) FindSession(ctx context.Context, id string) (realtime.Session, error) {
	s.calls.wait(id)
	return s.Sessions.FindSession(ctx, id)
}

type hangingBatchSessions struct{ hangingSessions }

func (s hangingBatchSessions) FindSessions(ctx context.Context, ids []string) ([]realtime.Session, error) {
	s.calls.wait(ids...)
	return findAll(ctx, ids, s.Sessions.FindSession)
}

type hangingTrips struct {
	*realtimetest.Trips
	calls *hangingCalls
}

func (l hangingTrips) ActiveTrips(ctx context.Context, id string) ([]string, error) {
	l.calls.wait(id)
	return l.Trips.ActiveTrips(ctx, id)
}

type hangingBatchTrips struct{ hangingTrips }

func (l hangingBatchTrips) ActiveTripsOf(ctx context.Context, ids []string) (map[string][]string, error) {
	l.calls.wait(ids...)
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

// sweptRepo is a repository of a sweep: how its calls are made to hang, and a change of a row
// that the sweep is to notice.
type sweptRepo struct {
	use     func(o *realtime.Options, d *hangingCalls)
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
	with := func(r sweptRepo, use func(o *realtime.Options, d *hangingCalls)) sweptRepo { r.use = use; return r }
	oneUser := func(o *realtime.Options, d *hangingCalls) hangingUsers {
		return hangingUsers{o.Users.(*realtimetest.Users), d}
	}
	oneSession := func(o *realtime.Options, d *hangingCalls) hangingSessions {
		return hangingSessions{o.Sessions.(*realtimetest.Sessions), d}
	}
	oneTrips := func(o *realtime.Options, d *hangingCalls) hangingTrips {
		return hangingTrips{o.Trips.(*realtimetest.Trips), d}
	}
	return map[string]sweptRepo{
		"users one by one":     with(users, func(o *realtime.Options, d *hangingCalls) { o.Users = oneUser(o, d) }),
		"users many at once":   with(users, func(o *realtime.Options, d *hangingCalls) { o.Users = hangingBatchUsers{oneUser(o, d)} }),
		"sessions one by one":  with(sessions, func(o *realtime.Options, d *hangingCalls) { o.Sessions = oneSession(o, d) }),
		"sessions many":        with(sessions, func(o *realtime.Options, d *hangingCalls) { o.Sessions = hangingBatchSessions{oneSession(o, d)} }),
		"trips one by one":     with(trips, func(o *realtime.Options, d *hangingCalls) { o.Trips = oneTrips(o, d) }),
		"trips many at a time": with(trips, func(o *realtime.Options, d *hangingCalls) { o.Trips = hangingBatchTrips{oneTrips(o, d)} }),
	}
}

// startSwept starts a server on a repository, with the drivers d1 to d4, each in a trip.
func startSwept(t *testing.T, repo sweptRepo) (*realtimetest.Server, *hangingCalls, *realtimetest.Client) {
	t.Helper()
	d := newHangingCalls(t)
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
				d.hangFor("")
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

// A row whose calls never return, because of a lock for instance, does not prevent the reading
// of the others, and costs a few calls.
func TestSweep_ARowThatAlwaysHangs(t *testing.T) {
	t.Parallel()
	for name, repo := range sweptRepos() {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				srv, d, driver := startSwept(t, repo)
				d.hangFor(repo.id("d4"))
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

// The server calls a repository again even if none of its calls returned for hours.
func TestSweep_ARepositoryThatHangsForHours(t *testing.T) {
	t.Parallel()
	for name, repo := range sweptRepos() {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				srv, d, driver := startSwept(t, repo)
				d.hangFor("")
				time.Sleep(2 * time.Hour)
				require.LessOrEqual(t, d.hung.Load(), int32(80))
				d.returnAll()
				require.False(t, repo.noticed(t, srv, driver))
				repo.changes(srv)
				time.Sleep(3 * time.Hour)
				synctest.Wait()
				require.True(t, repo.noticed(t, srv, driver))
			})
		})
	}
}
