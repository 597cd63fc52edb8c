// The sweep finds changes whose events were lost.

package realtime_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// waitForSweep waits until one sweep has run.
func waitForSweep() {
	time.Sleep(2 * time.Minute)
	synctest.Wait()
}

func TestSweep_EndsWhatIsRevoked(t *testing.T) {
	sid := realtimetest.SessionID("d1")
	for name, c := range map[string]struct {
		change func(srv *realtimetest.Server)
		sid    *string
		reason string
	}{
		"user deleted": {func(srv *realtimetest.Server) { srv.Users.Delete("d1") }, nil, "user_not_found"},
		"user banned":  {func(srv *realtimetest.Server) { srv.Users.Set(realtime.User{ID: "d1", Type: realtime.UserDriver}) }, nil, "user_inactive"},
		"another type": {func(srv *realtimetest.Server) {
			srv.Users.Set(realtime.User{ID: "d1", Type: realtime.UserAdmin, Active: true})
		}, nil, "wrong_user_type"},
		"session revoked":   {func(srv *realtimetest.Server) { srv.Sessions.Revoke(sid) }, &sid, "invalid_session"},
		"session another's": {func(srv *realtimetest.Server) { srv.Sessions.Set(realtime.Session{ID: sid, UserID: "d2"}) }, &sid, "invalid_session"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				srv := realtimetest.NewServer(t)
				phone, second := srv.Driver(t, "d1"), srv.Driver(t, "d1", realtimetest.Polling())
				addNamespace(t, srv, "/support", realtime.NamespaceOptions{})
				support, err := phone.Join(t.Context(), "/support", realtimetest.Token(srv.Login("d1", realtime.UserDriver)))
				require.NoError(t, err)
				others := []*realtimetest.Client{srv.Driver(t, "d2"), srv.Passenger(t, "p1"), srv.Admin(t, "a1")}
				waitForSweep()
				require.True(t, phone.Connected())
				c.change(srv)
				waitForSweep()
				for _, client := range []*realtimetest.Client{phone, second, support} {
					received := realtimetest.Expect(t, client, realtime.EventSessionRevoked)
					require.Equal(t, c.sid, received.SessionID)
					require.Equal(t, c.reason, *received.Reason)
					require.NotEmpty(t, received.EventID)
					require.Equal(t, realtimetest.ReasonServer, client.Disconnected(t))
				}
				for _, client := range others {
					require.True(t, client.Connected())
					realtimetest.ExpectNone(t, client, realtime.EventSessionRevoked)
				}
			})
		})
	}
}

// A session whose row is missing may have been replaced: the clients come back, and the handshake
// decides.
func TestSweep_ClosesWhatIsMissing(t *testing.T) {
	for name, over := range map[string][]realtimetest.Option{"websocket": nil, "polling": {realtimetest.Polling()}} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				srv := realtimetest.NewServer(t)
				phone, other := srv.Driver(t, "d1", over...), srv.Driver(t, "d2")
				srv.Sessions.Delete(realtimetest.SessionID("d1"))
				waitForSweep()
				require.Contains(t, endOfTransport, phone.Disconnected(t), "a stock client comes back")
				realtimetest.Expect(t, phone, realtime.EventAuthExpired)
				realtimetest.ExpectNone(t, phone)
				require.True(t, other.Connected())
				realtimetest.ExpectNone(t, other)
				_, err := srv.Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Token(srv.Tokens.Mint("d1", realtimetest.SessionID("d1"), time.Hour)))
				requireRefused(t, err, realtime.CodeInvalidSession, "Invalid session")
			})
		})
	}
}

// A sweep leaves the sockets of a replaced session alone until their grace time ends, on every
// node and whatever the host has done to the row.
func TestSweep_MindsTheGraceTime(t *testing.T) {
	sid := realtimetest.SessionID("d1")
	for name, replace := range map[string]func(rows *realtimetest.Sessions){
		"deleted": func(rows *realtimetest.Sessions) { rows.Delete(sid) },
		"revoked": func(rows *realtimetest.Sessions) { rows.Revoke(sid) },
		"expired": func(rows *realtimetest.Sessions) {
			rows.Set(realtime.Session{ID: sid, UserID: "d1", AccessTokenExpiresAt: time.Now()})
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				const grace = 10*time.Minute + 7*time.Second // no multiple of the heartbeat
				nodes := realtimetest.NewCluster(t, 2, func(o *realtime.Options) { o.Timeouts.RefreshGrace = grace })
				idle := []*realtimetest.Client{nodes[0].Driver(t, "d1"), nodes[1].Driver(t, "d1", realtimetest.Polling())}
				renews := nodes[1].Driver(t, "d1")
				replace(nodes[0].Sessions)
				nodes[0].Sessions.Set(realtime.Session{ID: "new", UserID: "d1"})
				publish(t, nodes[0], realtime.SessionRefreshed{UserID: "d1", OldSessionID: sid, NewSessionID: "new"})
				start := time.Now()
				refresh(t, renews, refreshWith(nodes[0].Tokens.Mint("d1", "new", time.Hour)))
				time.Sleep(grace - time.Second) // several sweeps
				for _, c := range idle {
					require.True(t, c.Connected())
				}
				for _, c := range idle {
					require.Contains(t, endOfTransport, c.Within(time.Minute).Disconnected(t))
					realtimetest.Expect(t, c, realtime.EventSessionRefreshed)
					realtimetest.Expect(t, c, realtime.EventAuthExpired)
					realtimetest.ExpectNone(t, c)
				}
				require.GreaterOrEqual(t, time.Since(start), grace-time.Second)
				time.Sleep(5 * time.Minute)
				require.True(t, renews.Connected())
				nodes[0].Sessions.Revoke("new")
				waitForSweep()
				require.Equal(t, realtimetest.ReasonServer, renews.Disconnected(t))
			})
		})
	}
}

// A session that ends sooner than it did ends its sockets then.
func TestSweep_BringsExpiryForward(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		driver := srv.Driver(t, "d1")
		srv.Sessions.Set(realtime.Session{ID: realtimetest.SessionID("d1"), UserID: "d1", AccessTokenExpiresAt: time.Now().Add(5 * time.Minute)})
		waitForSweep()
		require.True(t, driver.Connected())
		time.Sleep(3 * time.Minute)
		realtimetest.Expect(t, driver, realtime.EventAuthExpired)
		require.NotEqual(t, realtimetest.ReasonServer, driver.Disconnected(t), "the transport was closed: it comes back")
	})
}

// A socket whose user or session cannot be read stays connected.
func TestSweep_EndsNobodyInDoubt(t *testing.T) {
	for name, fault := range map[string]func(srv *realtimetest.Server) (release func()){
		"failing": func(srv *realtimetest.Server) func() {
			srv.Users.Fail(errors.New("down"))
			srv.Sessions.Fail(errors.New("down"))
			return func() {}
		},
		"blocking": func(srv *realtimetest.Server) func() { _, release := srv.Users.Block(); return release },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				logs, withLogs := recordLogs(t)
				srv := realtimetest.NewServer(t, withLogs)
				driver := srv.Driver(t, "d1")
				release := fault(srv)
				defer release()
				waitForSweep()
				require.True(t, driver.Connected())
				require.NotEmpty(t, logs.lines(t, "realtime: sweep could not read all rows"))
			})
		})
	}
}

// batchUsers is a UserBatchRepo whose answer the test sets.
type batchUsers struct {
	*realtimetest.Users
	mu     sync.Mutex // guards asked and answer
	asked  []int      // how many at a time
	hung   atomic.Bool
	answer func(ids []string) ([]realtime.User, error)
}

func (m *batchUsers) FindUsers(_ context.Context, ids []string) ([]realtime.User, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked = append(m.asked, len(ids))
	return m.answer(ids)
}

func TestSweep_AsksForManyAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		repo := &batchUsers{Users: &realtimetest.Users{}}
		gone := map[string]bool{}
		repo.answer = func(ids []string) (users []realtime.User, err error) {
			for _, id := range ids {
				if !gone[id] {
					users = append(users, realtime.User{ID: id, Type: realtime.UserDriver, Active: true})
				}
			}
			return users, nil
		}
		srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Users = repo })
		var clients []*realtimetest.Client
		for i := range 250 {
			id := fmt.Sprint("d", i)
			repo.Set(realtime.User{ID: id, Type: realtime.UserDriver, Active: true})
			c, err := srv.Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Token(srv.Login(id, realtime.UserDriver)))
			require.NoError(t, err)
			clients = append(clients, c)
		}
		waitForSweep()
		repo.mu.Lock()
		require.Equal(t, []int{200, 50}, repo.asked[:2])
		gone["d7"] = true
		repo.mu.Unlock()
		waitForSweep()
		for i, c := range clients {
			require.Equal(t, i != 7, c.Connected(), i)
		}
		// A result that would disconnect all users is treated as an error.
		repo.mu.Lock()
		repo.answer = func([]string) ([]realtime.User, error) { return nil, nil }
		repo.mu.Unlock()
		waitForSweep()
		require.True(t, clients[0].Connected())
		repo.mu.Lock()
		repo.answer = func([]string) ([]realtime.User, error) { panic("repository") }
		repo.mu.Unlock()
		waitForSweep()
		require.True(t, clients[0].Connected())
	})
}

// blockedSessions is a SessionBatchRepo that hands each call to the test and returns the
// test's answer.
type blockedSessions struct {
	*realtimetest.Sessions
	asked  chan []string
	answer chan []realtime.Session
}

func (h *blockedSessions) FindSessions(ctx context.Context, sids []string) ([]realtime.Session, error) {
	select {
	case h.asked <- sids:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return <-h.answer, nil
}

// A repository call that hangs and ignores its ctx does not stop the sweep of the others.
func TestSweep_OneThatHangsStopsNoOther(t *testing.T) {
	t.Parallel()
	for name, wrap := range map[string]func(repo *batchUsers, o *realtime.Options){
		"asked for many at once": func(repo *batchUsers, o *realtime.Options) { o.Users = repo },
		"asked one by one":       func(repo *batchUsers, o *realtime.Options) { o.Users = singleUsers{repo} },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				release := make(chan struct{})
				defer close(release)
				repo := &batchUsers{Users: &realtimetest.Users{}, answer: func([]string) ([]realtime.User, error) {
					<-release
					return nil, errors.New("late")
				}}
				trips := &manyTrips{}
				srv := realtimetest.NewServer(t, func(o *realtime.Options) { wrap(repo, o); o.Trips = trips })
				repo.Set(realtime.User{ID: "d1", Type: realtime.UserDriver, Active: true})
				repo.Set(realtime.User{ID: "d2", Type: realtime.UserDriver, Active: true})
				token := func(id string) realtimetest.Option { return realtimetest.Token(srv.Login(id, realtime.UserDriver)) }
				driver, err := srv.Dial(t.Context(), realtime.NamespaceDrivers, token("d1"))
				require.NoError(t, err)
				_, err = srv.Dial(t.Context(), realtime.NamespaceDrivers, token("d2"))
				require.NoError(t, err)
				srv.Sessions.Revoke(realtimetest.SessionID("d1"))
				trips.Set("d2", "t1")
				repo.hung.Store(true)
				waitForSweep()
				require.Equal(t, realtimetest.ReasonServer, driver.Disconnected(t))
				require.Equal(t, 1, inTripRoom(t, srv.Realtime.Drivers(), "t1"))
			})
		})
	}
}

// singleUsers is batchUsers without the batch method. FindUser hangs while hung is set.
type singleUsers struct{ *batchUsers }

func (o singleUsers) FindUsers() {} // hides that of many

func (o singleUsers) FindUser(ctx context.Context, id string) (realtime.User, error) {
	if o.hung.Load() {
		_, err := o.answer(nil)
		return realtime.User{}, err
	}
	return o.batchUsers.FindUser(ctx, id)
}

// A socket that has moved to another session, by itself or by the server, is not ended with the
// old one, whatever the sweep has read of that.
func TestSweep_MindsARefresh(t *testing.T) {
	const old = "old"
	moves := map[string]func(t *testing.T, srv *realtimetest.Server, c *realtimetest.Client){
		"auth:refresh": func(t *testing.T, srv *realtimetest.Server, c *realtimetest.Client) {
			refresh(t, c, refreshWith(srv.Tokens.Mint("d1", "new", time.Hour)))
		},
		"carried over": func(t *testing.T, srv *realtimetest.Server, c *realtimetest.Client) {
			publish(t, srv, realtime.SessionRefreshed{UserID: "d1", OldSessionID: old, NewSessionID: "new", ExpiresAt: time.Now().Add(time.Hour)})
			realtimetest.Expect(t, c, realtime.EventSessionRefreshed)
		},
	}
	for how, move := range moves {
		for what, rows := range map[string][]realtime.Session{
			"revoked":        {{ID: old, UserID: "d1", Revoked: true}},
			"expired":        {{ID: old, UserID: "d1", AccessTokenExpiresAt: time.Now().Add(-time.Hour)}},
			"another user's": {{ID: old, UserID: "d2"}},
			"missing":        nil,
		} {
			t.Run(how+", "+what, func(t *testing.T) {
				inBubble(t, func(t *testing.T) {
					repo := &blockedSessions{Sessions: &realtimetest.Sessions{}, asked: make(chan []string), answer: make(chan []realtime.Session)}
					srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Sessions = repo })
					repo.Set(realtime.Session{ID: old, UserID: "d1"})
					repo.Set(realtime.Session{ID: "new", UserID: "d1"})
					srv.Login("d1", realtime.UserDriver)
					driver, err := srv.Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Token(srv.Tokens.Mint("d1", old, time.Hour)))
					require.NoError(t, err)
					require.Equal(t, []string{old}, <-repo.asked)
					move(t, srv, driver)
					repo.answer <- rows
					time.Sleep(time.Second)
					require.True(t, driver.Connected())
					require.Equal(t, []string{"new"}, <-repo.asked)
					realtimetest.ExpectNone(t, driver, realtime.EventAuthExpired)
					repo.answer <- []realtime.Session{{ID: "new", UserID: "d1", Revoked: true}}
					realtimetest.Expect(t, driver, realtime.EventSessionRevoked)
					require.Equal(t, realtimetest.ReasonServer, driver.Disconnected(t))
				})
			})
		}
	}
}

// Shutdown does not wait for a sweep, whatever its repository does.
func TestServer_ShutdownDuringASweep(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Timeouts.Repo = time.Hour })
		srv.Driver(t, "d1")
		entered, release := srv.Users.Block()
		<-entered
		start := time.Now()
		require.NoError(t, srv.Realtime.Shutdown(t.Context()))
		require.Less(t, time.Since(start), time.Second)
		release()
	})
}

func TestSweep_Off(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Timeouts.SweepInterval = -1 })
		driver := srv.Driver(t, "d1")
		srv.Users.Delete("d1")
		time.Sleep(30 * time.Minute) // half of what the token has
		require.True(t, driver.Connected())
	})
}
