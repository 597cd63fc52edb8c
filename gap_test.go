// After a gap in the messages of other nodes: nobody whose access ended keeps a socket, and
// no handshake is decided on what was read before.

package realtime_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// gapSite is a cluster of two nodes, the second of which can be cut off.
type gapSite struct {
	a, b *realtimetest.Server
	cut  *realtimetest.HubNode // b's
}

func newGapSite(t *testing.T, configure ...func(o *realtime.Options)) gapSite {
	t.Helper()
	hub := realtimetest.NewHub()
	s := gapSite{cut: hub.Node()}
	quiet := func(o *realtime.Options) { o.Timeouts.SweepInterval = -1 } // so that only the gap starts a sweep
	s.a = realtimetest.NewServer(t, append([]func(*realtime.Options){quiet, func(o *realtime.Options) { o.Cluster.Adapter = hub.Node() }}, configure...)...)
	s.b = realtimetest.NewServer(t, append([]func(*realtime.Options){quiet, func(o *realtime.Options) {
		o.Cluster.Adapter = s.cut
		o.Tokens, o.Users, o.Sessions, o.Trips, o.Parties = s.a.Tokens, s.a.Users, s.a.Sessions, s.a.Trips, s.a.Parties
	}}, configure...)...)
	return s
}

// soon waits as long as the server may take to repair something.
func soon() {
	time.Sleep(2 * time.Second)
	synctest.Wait()
}

// A node that shuts down still has clients, who may have lost events: it says so.
func TestGap_WhileTheServerShutsDown(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		hub := realtimetest.NewHub()
		realtimetest.NewServer(t, func(o *realtime.Options) { o.Cluster.Adapter = hub.Node() })
		leaves := hub.Node()
		gaps := make(chan realtime.GapInfo, 10)
		s := realtimetest.NewServer(t, func(o *realtime.Options) {
			o.Cluster.Adapter = leaves
			o.Trace = &realtime.Trace{Gap: func(_ context.Context, i realtime.GapInfo) { gaps <- i }}
		})
		hold := make(chan struct{})
		s.Realtime.Drivers().OnDisconnect(func(context.Context, *realtime.Socket, realtime.DisconnectReason) { <-hold })
		s.Driver(t, "d1")
		leaves.Cut()
		ended := make(chan error, 1)
		go func() { ended <- s.Realtime.Shutdown(context.Background()) }()
		time.Sleep(time.Second)
		require.Empty(t, gaps)
		leaves.Heal()
		soon()
		require.Len(t, gaps, 1)
		close(hold)
		require.NoError(t, <-ended)
	})
}

func TestGap_RevocationsThatWereLost(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newGapSite(t)
		revoked, banned, other := s.b.Driver(t, "d1"), s.b.Passenger(t, "p1"), s.b.Driver(t, "d2")
		s.cut.Cut()
		s.a.Sessions.Revoke(realtimetest.SessionID("d1"))
		s.a.Publish(t, realtime.SessionRevoked{SessionID: realtimetest.SessionID("d1"), UserID: "d1"})
		s.a.Users.Set(realtime.User{ID: "p1", Type: realtime.UserPassenger})
		s.a.Publish(t, realtime.UserAccessChanged{UserID: "p1", Change: realtime.AccessBanned})
		time.Sleep(10 * time.Minute)
		require.True(t, revoked.Connected(), "the messages are lost")
		s.cut.Heal()
		soon()
		for _, c := range all(revoked, banned) {
			realtimetest.Expect(t, c, realtime.EventSessionRevoked)
			require.Equal(t, realtimetest.ReasonServer, c.Disconnected(t))
		}
		require.True(t, other.Connected())
	})
}

// A database that fails when the gap ends is asked again until it answers.
func TestGap_RowsThatCannotBeRead(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newGapSite(t)
		revoked, other := s.b.Driver(t, "d1"), s.b.Driver(t, "d2")
		s.cut.Cut()
		s.a.Sessions.Revoke(realtimetest.SessionID("d1"))
		s.a.Sessions.Fail(errors.New("down"))
		s.cut.Heal()
		time.Sleep(10 * time.Minute)
		require.True(t, revoked.Connected())
		s.a.Sessions.Fail(nil)
		time.Sleep(31 * time.Second)
		realtimetest.Expect(t, revoked, realtime.EventSessionRevoked)
		require.True(t, other.Connected())
	})
}

// A gap that is reported while a sweep runs, which has read some rows already, has a sweep
// of its own.
func TestGap_DuringASweep(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newGapSite(t)
		driver := s.b.Driver(t, "d1")
		entered, release := s.a.Sessions.Block()
		s.cut.Cut()
		s.cut.Heal()
		<-entered // the users have been read
		s.a.Users.Set(realtime.User{ID: "d1", Type: realtime.UserDriver})
		s.cut.Cut()
		s.cut.Heal()
		synctest.Wait()
		release()
		soon()
		require.Equal(t, realtimetest.ReasonServer, driver.Disconnected(t))
	})
}

// A handshake that has read its rows before the gap ended reads them again.
func TestGap_PendingHandshakes(t *testing.T) {
	for name, c := range map[string]struct {
		change func(s gapSite)
		code   realtime.Code // empty: it connects
	}{
		"session revoked": {func(s gapSite) { s.a.Sessions.Revoke(realtimetest.SessionID("d1")) }, realtime.CodeInvalidSession},
		"user banned":     {func(s gapSite) { s.a.Users.Set(realtime.User{ID: "d1", Type: realtime.UserDriver}) }, realtime.CodeUserInactive},
		"user deleted":    {func(s gapSite) { s.a.Users.Delete("d1") }, realtime.CodeUserNotFound},
		"another type": {func(s gapSite) {
			s.a.Users.Set(realtime.User{ID: "d1", Type: realtime.UserAdmin, Active: true})
		}, realtime.CodeWrongUserType},
		"session expires": {func(s gapSite) {
			s.a.Sessions.Set(realtime.Session{ID: realtimetest.SessionID("d1"), UserID: "d1", AccessTokenExpiresAt: time.Now()})
		}, realtime.CodeAccessExpired},
		"nothing changed": {func(gapSite) {}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				s := newGapSite(t, func(o *realtime.Options) { o.Timeouts.RepoCache = time.Hour })
				token := realtimetest.Token(s.b.Login("d1", realtime.UserDriver))
				dial := func() error {
					_, err := s.b.Dial(t.Context(), realtime.NamespaceDrivers, token)
					return err
				}
				entered, release := s.a.Trips.Block() // the rows have been read
				result := make(chan error)
				go func() { result <- dial() }()
				<-entered
				s.cut.Cut()
				c.change(s)
				s.cut.Heal()
				synctest.Wait()
				release()
				for _, err := range []error{<-result, dial()} { // the second would find the rows in the cache
					var refusal *realtimetest.ConnectError
					if c.code == "" {
						require.NoError(t, err)
						continue
					}
					require.ErrorAs(t, err, &refusal)
					require.Equal(t, c.code, refusal.Code)
				}
			})
		})
	}
}

// gappy reports a gap whenever the trips are looked up or Authorize is called.
type gappy struct {
	realtime.Adapter
	mu   sync.Mutex // guards the fields below
	node realtime.Node
}

func (g *gappy) Start(ctx context.Context, n realtime.Node) error {
	g.mu.Lock()
	g.node = n
	g.mu.Unlock()
	return g.Adapter.Start(ctx, n)
}

func (g *gappy) gap() {
	g.mu.Lock()
	n := g.node
	g.mu.Unlock()
	n.Gap(realtime.Gap{Reason: "planned"})
}

// A handshake is not decided on rows that may be old, however often they have to be read
// again: after some tries the client has to come back.
func TestGap_OneAfterTheOther(t *testing.T) {
	for _, gaps := range []int{1, 2, 100} {
		t.Run(fmt.Sprint(gaps), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				adapter := &gappy{Adapter: realtimetest.NewHub().Node()}
				srv := realtimetest.NewServer(t, func(o *realtime.Options) {
					o.Cluster.Adapter, o.Compat.RefuseUnavailable = adapter, true
				})
				left := gaps
				addNamespace(t, srv, "/support", realtime.NamespaceOptions{Authorize: func(context.Context, realtime.AuthorizeRequest) error {
					if left > 0 {
						left--
						adapter.gap()
					}
					return nil
				}})
				_, err := srv.Dial(t.Context(), "/support", realtimetest.Token(srv.Login("d1", realtime.UserDriver)))
				if gaps < 100 {
					require.NoError(t, err)
					return
				}
				requireRefused(t, err, realtime.CodeUnavailable, "Service unavailable")
				require.Equal(t, 100-4, left)
			})
		})
	}
}

// A renewal is not decided on rows that may be old either.
func TestGap_PendingRefresh(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		adapter := &gappy{Adapter: realtimetest.NewHub().Node()}
		srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Cluster.Adapter = adapter })
		asked, sid := 0, "next"
		addNamespace(t, srv, "/support", realtime.NamespaceOptions{Authorize: func(context.Context, realtime.AuthorizeRequest) error {
			if asked++; asked == 2 {
				srv.Sessions.Revoke(sid)
				adapter.gap()
			}
			return nil
		}})
		client, err := srv.Dial(t.Context(), "/support", realtimetest.Token(srv.Login("d1", realtime.UserDriver)))
		require.NoError(t, err)
		srv.Sessions.Set(realtime.Session{ID: sid, UserID: "d1"})
		_, err = realtimetest.Call(t.Context(), client, realtime.AuthRefresh, realtime.TokenRefresh{Token: srv.Tokens.Mint("d1", sid, time.Hour)})
		require.Equal(t, realtime.CodeUnauthorized, realtime.CodeOf(err))
		require.Equal(t, 2, asked)
	})
}

// A sweep refuses a socket whose handshake is in progress, instead of disconnecting what
// the client does not know yet.
func TestSweep_OfAPendingHandshake(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Timeouts.Repo = time.Hour })
		entered, release := srv.Trips.Block()
		conn := openRaw(t, srv)
		require.Empty(t, conn.send(t, connectPacket(realtime.NamespaceDrivers, srv.Login("d1", realtime.UserDriver))))
		<-entered
		srv.Sessions.Revoke(realtimetest.SessionID("d1"))
		waitForSweep()
		require.Equal(t, []string{invalidSession(realtime.NamespaceDrivers)}, conn.received())
		release()
		require.Empty(t, conn.received())
	})
}

// traced records the calls of Trace about the cluster.
type traced struct {
	mu  sync.Mutex // guards the fields below
	all []string
}

func (r *traced) addf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, fmt.Sprintf(format, args...))
}

func (r *traced) take() []string {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.all
	r.all = nil
	return all
}

func (r *traced) options(o *realtime.Options) {
	o.Trace = &realtime.Trace{
		AdapterChanged: func(_ context.Context, i realtime.AdapterChangedInfo) {
			r.addf("adapter: %v after %v", i.Err, i.Duration)
		},
		Gap:        func(_ context.Context, i realtime.GapInfo) { r.addf("gap of %q: %v", i.Peer, i.Until.Sub(i.Since)) },
		PeerJoined: func(_ context.Context, i realtime.PeerInfo) { r.addf("joined %v", i.Peer) },
		PeerLost:   func(_ context.Context, i realtime.PeerLostInfo) { r.addf("lost %v, died: %v", i.Peer, i.Died) },
	}
}

func TestTrace_Cluster(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		hub := realtimetest.NewHub()
		one, two, three := hub.Node(), hub.Node(), hub.Node()
		var calls, others traced
		node := func(a realtime.Adapter, r *traced) *realtimetest.Server {
			return realtimetest.NewServer(t, r.options, func(o *realtime.Options) { o.Cluster.Adapter = a })
		}
		a, b := node(one, &calls), node(two, &others)
		require.Equal(t, []string{"joined node-2"}, calls.take())
		require.Equal(t, []string{"joined node-1"}, others.take())
		one.Cut()
		require.Equal(t, []string{"adapter: the node is cut off after 0s"}, calls.take())
		time.Sleep(time.Minute)
		require.NoError(t, a.Realtime.Drivers().ServerEmit(t.Context(), "lost"))
		synctest.Wait()
		one.Heal()
		require.Equal(t, []string{"adapter: <nil> after 1m0s", `gap of "": 1m0s`}, calls.take())
		require.Equal(t, []string{`gap of "node-1": 1m0s`}, others.take(), "a message of the other node was lost")

		c := node(three, &others)
		require.ElementsMatch(t, []string{"joined node-3"}, calls.take())
		require.NoError(t, b.Realtime.Shutdown(t.Context()))
		synctest.Wait()
		three.Kill()
		require.Equal(t, []string{"lost node-2, died: false", "lost node-3, died: true"}, calls.take())
		require.NoError(t, c.Realtime.Shutdown(t.Context()))
		require.Empty(t, calls.take())
	})
}

// The sockets of a session that was replaced are closed after the grace time on every node,
// also when the node that handled the event is killed meanwhile.
func TestSessionRefreshed_OutlivesTheNode(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		hub := realtimetest.NewHub()
		handling := hub.Node()
		var nodes []*realtimetest.Server
		for _, link := range []*realtimetest.HubNode{handling, hub.Node(), hub.Node()} {
			nodes = append(nodes, realtimetest.NewServer(t, func(o *realtime.Options) {
				o.Cluster.Adapter, o.Timeouts.SweepInterval = link, -1
				if len(nodes) > 0 {
					o.Tokens, o.Users, o.Sessions = nodes[0].Tokens, nodes[0].Users, nodes[0].Sessions
				}
			}))
		}
		stale, other := nodes[1].Driver(t, "d1"), nodes[2].Driver(t, "d2")
		renewed, next := nodes[2].Driver(t, "d1"), "next"
		nodes[0].Publish(t, realtime.SessionRefreshed{UserID: "d1", OldSessionID: realtimetest.SessionID("d1"), NewSessionID: next})
		realtimetest.Expect(t, stale, realtime.EventSessionRefreshed)
		handling.Kill()
		nodes[0].Sessions.Set(realtime.Session{ID: next, UserID: "d1"})
		_, err := realtimetest.Call(t.Context(), renewed, realtime.AuthRefresh, realtime.TokenRefresh{Token: nodes[0].Tokens.Mint("d1", next, time.Hour)})
		require.NoError(t, err)
		time.Sleep(9 * time.Second)
		require.True(t, stale.Connected())
		time.Sleep(2 * time.Second)
		realtimetest.Expect(t, stale, realtime.EventAuthExpired)
		require.NotEqual(t, realtimetest.ReasonServer, stale.Disconnected(t), "it comes back with a new token")
		require.True(t, renewed.Connected())
		require.True(t, other.Connected())
	})
}
