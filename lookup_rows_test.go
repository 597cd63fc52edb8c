// Lookups of rows whose calls never return.

package realtime_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// hungRows is a UserRepo whose calls for some users never return.
type hungRows struct {
	realtime.UserRepo
	hung map[string]bool
	stop chan struct{}
}

func (h hungRows) FindUser(ctx context.Context, id string) (realtime.User, error) {
	if h.hung[id] {
		<-h.stop
	}
	return h.UserRepo.FindUser(ctx, id)
}

// Users whose rows cannot be read, as calls for them never return, keep nobody else from
// logging in, however often their phones try again.
func TestLookup_RowsThatHangKeepNobodyOut(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const concurrency, hung = 4, 3
		repo := hungRows{hung: map[string]bool{}, stop: make(chan struct{})}
		defer close(repo.stop)
		srv := realtimetest.NewServer(t, func(o *realtime.Options) {
			o.Limits.RepoConcurrency, o.Compat.RefuseUnavailable = concurrency, true
			repo.UserRepo = o.Users
			o.Users = repo
		})
		for i := range hung {
			repo.hung[fmt.Sprint("x", i)] = true
		}
		for range 40 {
			for id := range repo.hung {
				_, err := srv.Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Token(srv.Login(id, realtime.UserDriver)))
				var refusal *realtimetest.ConnectError
				require.ErrorAs(t, err, &refusal)
				require.Equal(t, realtime.CodeUnavailable, refusal.Code)
			}
			time.Sleep(time.Second)
		}
		require.True(t, srv.Driver(t, "d1").Connected())
	})
}

// hungLookup is a UserRepo, a TripLookup, a PartyLookup and a SnapshotLookup whose calls for ids that
// begin with x never return.
type hungLookup struct {
	realtime.UserRepo
	trips   realtimetest.Trips
	parties realtimetest.Parties
	stop    chan struct{}

	mu   sync.Mutex     // guards hung
	hung map[string]int // calls that have not returned, by id
}

func (l *hungLookup) hang(id string) {
	if id[0] == 'x' {
		l.mu.Lock()
		l.hung[id]++
		l.mu.Unlock()
		<-l.stop
	}
}

func (l *hungLookup) FindUser(ctx context.Context, id string) (realtime.User, error) {
	l.hang(id)
	return l.UserRepo.FindUser(ctx, id)
}

func (l *hungLookup) ActiveTrips(ctx context.Context, userID string) ([]string, error) {
	l.hang(userID)
	return l.trips.ActiveTrips(ctx, userID)
}

func (l *hungLookup) FindSnapshot(_ context.Context, _ string, id realtime.Identity) (realtime.Snapshot, error) {
	l.hang(id.UserID)
	return realtime.Snapshot{}, nil
}

func (l *hungLookup) FindParties(ctx context.Context, tripID string) (realtime.TripParties, error) {
	l.hang(tripID)
	return l.parties.FindParties(ctx, tripID)
}

// Users, trips and drivers whose lookup never returns do not prevent those of the others: a few do
// not, however often they are looked up, and many do for a while only.
func TestLookup_IDsThatHang(t *testing.T) {
	t.Parallel()
	refused := func(t *testing.T, srv *realtimetest.Server, id string) {
		_, err := srv.Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Token(srv.Login(id, realtime.UserDriver)))
		require.Error(t, err)
	}
	connects := func(t *testing.T, srv *realtimetest.Server) { require.True(t, srv.Driver(t, "d1").Connected()) }
	for kind, c := range map[string]struct {
		again time.Duration // after this time one that hangs is looked up again
		hang  func(t *testing.T, srv *realtimetest.Server, id string)
		work  func(t *testing.T, srv *realtimetest.Server) // a lookup that does not hang has its effect
	}{
		"row of a user":      {time.Second, refused, connects},
		"trips of a user":    {time.Second, refused, connects},
		"snapshot of a user": {time.Second, refused, connects},
		"parties of a trip": {
			6 * time.Minute,
			func(t *testing.T, srv *realtimetest.Server, id string) {
				srv.Publish(t, realtime.TripStarted{TripID: id})
			},
			func(t *testing.T, srv *realtimetest.Server) {
				passenger := srv.Passenger(t, "p1")
				srv.Publish(t, realtime.TripStarted{TripID: "t1"})
				realtimetest.Expect(t, passenger, realtime.EventTripStarted)
			},
		},
		"trips of a position": {
			31 * time.Second,
			func(t *testing.T, srv *realtimetest.Server, id string) { srv.Publish(t, position(id, 1)) },
			func(t *testing.T, srv *realtimetest.Server) {
				passenger := srv.Passenger(t, "p1")
				srv.Publish(t, position("d1", 1))
				realtimetest.Expect(t, passenger, realtime.EventTripDriverLocation)
			},
		},
	} {
		for name, phase := range map[string]struct{ ids, times int }{"a few again and again": {3, 40}, "many": {140, 1}} {
			t.Run(kind+", "+name, func(t *testing.T) {
				inBubble(t, func(t *testing.T) {
					lookup := &hungLookup{stop: make(chan struct{}), hung: map[string]int{}}
					defer close(lookup.stop)
					srv := realtimetest.NewServer(t, func(o *realtime.Options) {
						o.Limits.RepoConcurrency, o.Compat.RefuseUnavailable = 4, true
						o.Logger = discarded()
						switch kind {
						case "row of a user":
							lookup.UserRepo, o.Users = o.Users, lookup
						case "snapshot of a user":
							o.Snapshots = lookup
						default:
							o.Trips, o.Parties = lookup, lookup
						}
					})
					lookup.trips.Set("d1", "t1")
					lookup.trips.Set("p1", "t1")
					lookup.parties.Set("t1", realtime.TripParties{PassengerID: "p1", DriverID: "d1"})
					for range phase.times {
						for n := range phase.ids {
							c.hang(t, srv, fmt.Sprint("x", n))
							time.Sleep(6 * time.Second) // until the call is abandoned
						}
						time.Sleep(c.again)
					}
					if phase.times == 1 {
						time.Sleep(10 * time.Minute)
					}
					c.work(t, srv)
					lookup.mu.Lock()
					defer lookup.mu.Unlock()
					require.NotEmpty(t, lookup.hung)
					for id, calls := range lookup.hung {
						require.LessOrEqual(t, calls, 8, id)
					}
				})
			})
		}
	}
}
