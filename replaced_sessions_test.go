// Sockets that the server carries over to the session that replaced theirs.

package realtime_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// sessionsOf returns the login sessions of the sockets in a room, by the sockets' ids.
func sessionsOf(t *testing.T, b realtime.Broadcast) map[string]string {
	t.Helper()
	found, err := b.Sockets(t.Context())
	require.NoError(t, err)
	sids := map[string]string{}
	for _, s := range found {
		require.Contains(t, s.Rooms, realtime.SessionRoom(s.Identity.SessionID))
		sids[s.ID] = s.Identity.SessionID
	}
	return sids
}

// The sockets of the old session are moved, in every namespace and on every node, and expire when
// the new one does. Those of other sessions, and of other users, stay as they are.
func TestSessionRefreshed_CarriesOver(t *testing.T) {
	for name, fanOut := range map[string]bool{"adapter": false, "bus": true} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				nodes := realtimetest.NewCluster(t, 2, func(o *realtime.Options) { o.Cluster.BusFanOut = fanOut })
				for _, srv := range nodes {
					addNamespace(t, srv, "/support", realtime.NamespaceOptions{})
				}
				old := realtimetest.Session("old")
				near, far := nodes[0].Driver(t, "d1", old), nodes[1].Driver(t, "d1", old, realtimetest.Polling())
				support, err := nodes[1].Driver(t, "d2").Join(t.Context(), "/support", realtimetest.Token(nodes[0].Tokens.Mint("d1", "old", time.Hour)))
				require.NoError(t, err)
				elsewhere := nodes[1].Driver(t, "d1", realtimetest.Session("third"))
				carried := []*realtimetest.Client{near, far, support}

				// The host overwrites the row's id.
				nodes[0].Sessions.Delete("old")
				nodes[0].Sessions.Set(realtime.Session{ID: "new", UserID: "d1"})
				end := time.Now().Add(90*time.Minute + 7*time.Second) // no multiple of the heartbeat
				event := realtime.SessionRefreshed{UserID: "d1", OldSessionID: "old", NewSessionID: "new", ExpiresAt: end}
				publish(t, nodes[0], event)
				if fanOut { // the bus of each node has the event
					publish(t, nodes[1], event)
				}
				for _, c := range append(carried, elsewhere) {
					received := realtimetest.Expect(t, c, realtime.EventSessionRefreshed)
					require.Equal(t, []string{"old", "new"}, []string{received.OldSessionID, received.NewSessionID})
				}
				drivers := nodes[0].Realtime.Drivers().To(realtime.DriverRoom("d1"))
				require.Equal(t, map[string]string{near.ID(): "new", far.ID(): "new", elsewhere.ID(): "third"}, sessionsOf(t, drivers))
				require.Empty(t, sessionsOf(t, nodes[0].Realtime.Drivers().To(realtime.SessionRoom("old"))))
				require.Equal(t, map[string]string{support.ID(): "new"}, sessionsOf(t, nodes[0].Realtime.Of("/support").To(realtime.SessionRoom("new"))))

				// No sweep and no grace time ends them; the first tokens end after an hour.
				time.Sleep(time.Until(end) - time.Second)
				for _, c := range []*realtimetest.Client{near, far} {
					require.True(t, c.Connected())
					realtimetest.ExpectNone(t, c)
				}
				for _, c := range []*realtimetest.Client{near, far} {
					requireExpired(t, c, end)
				}
			})
		})
	}
}

// A revocation finds the sockets in the new session, and not by the old one.
func TestSessionRefreshed_CarriedOverIsRevoked(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		nodes := realtimetest.NewCluster(t, 2)
		phone := nodes[1].Driver(t, "d1", realtimetest.Session("old"))
		nodes[0].Sessions.Set(realtime.Session{ID: "new", UserID: "d1"})
		publish(t, nodes[0], realtime.SessionRefreshed{UserID: "d1", OldSessionID: "old", NewSessionID: "new", ExpiresAt: time.Now().Add(time.Hour)})
		publish(t, nodes[0], realtime.SessionRevoked{SessionID: "old"})
		require.True(t, phone.Connected())
		publish(t, nodes[0], realtime.SessionRevoked{SessionID: "new"})
		realtimetest.Expect(t, phone, realtime.EventSessionRefreshed)
		realtimetest.Expect(t, phone, realtime.EventSessionRevoked)
		require.Equal(t, realtimetest.ReasonServer, phone.Disconnected(t))
	})
}

// A socket whose handshake read the old row before, or that has refreshed by itself, is in the
// new session too in the end.
func TestSessionRefreshed_CarriesOverLateSockets(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		hang := make(chan struct{})
		addNamespace(t, srv, "/support", realtime.NamespaceOptions{
			Authorize: func(context.Context, realtime.AuthorizeRequest) error { <-hang; return nil },
		})
		renewed := srv.Driver(t, "d1", realtimetest.Session("old"))
		srv.Sessions.Set(realtime.Session{ID: "new", UserID: "d1"})
		refresh(t, renewed, refreshWith(srv.Tokens.Mint("d1", "new", 3*time.Hour)))
		conn := openRaw(t, srv)
		require.Empty(t, conn.send(t, connectPacket("/support", srv.Tokens.Mint("d1", "old", time.Hour))))
		srv.Sessions.Delete("old")
		publish(t, srv, realtime.SessionRefreshed{UserID: "d1", OldSessionID: "old", NewSessionID: "new", ExpiresAt: time.Now().Add(2 * time.Hour)})
		close(hang)
		require.NotEmpty(t, conn.received())
		time.Sleep(11 * time.Second)
		support := srv.Realtime.Of("/support")
		require.Len(t, sessionsOf(t, support.To(realtime.SessionRoom("new"))), 1)
		require.Empty(t, sessionsOf(t, support.To(realtime.SessionRoom("old"))))
		require.Equal(t, map[string]string{renewed.ID(): "new"}, sessionsOf(t, srv.Realtime.Drivers().To(realtime.DriverRoom("d1"))))
		time.Sleep(150 * time.Minute)
		require.True(t, renewed.Connected(), "its own token decides")
	})
}

// A token that is replaced within its session extends the session's sockets, and shortens none.
func TestSessionRefreshed_ExtendsTheSameSession(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		sid := realtimetest.SessionID("d1")
		phone := srv.Driver(t, "d1")
		same := func(d time.Duration) realtime.SessionRefreshed {
			return realtime.SessionRefreshed{UserID: "d1", OldSessionID: sid, NewSessionID: sid, ExpiresAt: time.Now().Add(d)}
		}
		end := time.Now().Add(2 * time.Hour)
		publish(t, srv, same(2*time.Hour))
		publish(t, srv, same(time.Minute))
		time.Sleep(time.Until(end) - time.Minute)
		require.True(t, phone.Connected())
		requireExpired(t, phone, end)
	})
}

// The event of one user moves no socket of another, whatever session it names.
func TestSessionRefreshed_CarriesOverOneUser(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		other := srv.Driver(t, "d2", realtimetest.Session("s2"))
		publish(t, srv, realtime.SessionRefreshed{UserID: "d1", OldSessionID: "s2", NewSessionID: "new", ExpiresAt: time.Now().Add(5 * time.Hour)})
		require.Equal(t, map[string]string{other.ID(): "s2"}, sessionsOf(t, srv.Realtime.Drivers().To(realtime.DriverRoom("d2"))))
		require.Empty(t, sessionsOf(t, srv.Realtime.Drivers().To(realtime.SessionRoom("new"))))
	})
}
