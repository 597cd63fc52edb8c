// The authorization of a connected socket: how it expires, is revoked and is refreshed, and
// revocations during a handshake.

package realtime_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// publish puts an event on the bus of a node and waits until all have handled it.
func publish(t *testing.T, srv *realtimetest.Server, e realtime.DomainEvent) {
	t.Helper()
	require.NoError(t, srv.Realtime.Publish(t.Context(), e))
	require.NoError(t, srv.Settle(t.Context()))
	synctest.Wait()
}

// TestRevocation_DuringTheHandshake publishes a revocation while a check hangs,
// on the same node or another. The repositories still say the old state
// afterwards, as one that lags does. The client is refused at once, or as soon
// as the token has said who the user is, whatever the check says in the end.
func TestRevocation_DuringTheHandshake(t *testing.T) {
	revocations := map[string]realtime.DomainEvent{
		"session":            realtime.SessionRevoked{SessionID: realtimetest.SessionID("d1"), UserID: "d1"},
		"session, no user":   realtime.SessionRevoked{SessionID: realtimetest.SessionID("d1")},
		"banned":             realtime.UserAccessChanged{UserID: "d1", Change: realtime.AccessBanned},
		"role changed":       realtime.UserAccessChanged{UserID: "d1", Change: realtime.AccessRoleChanged},
		"another's session":  realtime.SessionRevoked{SessionID: "s2", UserID: "d1"},
		"another user":       realtime.UserAccessChanged{UserID: "d2", Change: realtime.AccessBanned},
		"of another meaning": realtime.SessionRefreshed{UserID: "d1", OldSessionID: "s2", NewSessionID: realtimetest.SessionID("d1")},
	}
	harmless := map[string]bool{"another's session": true, "another user": true, "of another meaning": true}
	for _, stage := range []string{"tokens", "users", "sessions", "trips"} {
		for name, event := range revocations {
			for _, node := range []int{0, 1} {
				t.Run(fmt.Sprintf("%s, %s, node %d", stage, name, node), func(t *testing.T) {
					inBubble(t, func(t *testing.T) {
						logs, withLogs := recordLogs(t)
						nodes := realtimetest.NewCluster(t, 2, withLogs, func(o *realtime.Options) { o.Timeouts.Repo = time.Minute })
						srv := nodes[0]
						connect := connectPacket(realtime.NamespaceDrivers, logs.secret(srv.Login("d1", realtime.UserDriver)))
						conn := openRaw(t, srv)
						entered, release := block(srv, stage)
						require.Empty(t, conn.send(t, connect))
						<-entered
						publish(t, nodes[node], event)
						got := conn.received()
						switch {
						case harmless[name]:
							require.Empty(t, got)
							release()
							got := conn.received()
							require.GreaterOrEqual(t, len(got), 2)
							requireEntered(t, got[:2], realtime.NamespaceDrivers, "d1", realtimetest.SessionID("d1"))
							require.Empty(t, logs.refusals())
							return
						case stage == "tokens":
							require.Empty(t, got)
							release()
							got = conn.received()
						}
						require.Equal(t, []string{invalidSession(realtime.NamespaceDrivers)}, got)
						release()
						require.Empty(t, conn.received())
						found, err := srv.Realtime.Drivers().To(realtime.DriverRoom("d1")).Sockets(t.Context())
						require.NoError(t, err)
						require.Empty(t, found)
						require.Equal(t, []string{"/drivers invalid_session"}, logs.refusals())
						lines := logs.lines(t, logRefused)
						require.Len(t, lines, 1, "once")
						require.Equal(t, "invalid_session", lines[0]["code"])
						require.Equal(t, "d1", lines[0]["user"])

						// The revocation ends with the handshake: for the next one the repositories decide.
						requireEntered(t, conn.send(t, connect), realtime.NamespaceDrivers, "d1", realtimetest.SessionID("d1"))
					})
				})
			}
		}
	}
}

// TestRevocation_InAuthorize: the same in a namespace of the host's, whose own
// check hangs.
func TestRevocation_InAuthorize(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		logs, withLogs := recordLogs(t)
		srv := realtimetest.NewServer(t, withLogs)
		hang := make(chan struct{})
		addNamespace(t, srv, "/support", realtime.NamespaceOptions{
			Authorize: func(context.Context, realtime.AuthorizeRequest) error { <-hang; return nil },
		})
		connect := connectPacket("/support", logs.secret(srv.Login("u1", "agent")))
		conn := openRaw(t, srv)
		require.Empty(t, conn.send(t, connect))
		require.NoError(t, srv.Realtime.DisconnectUser(t.Context(), "u1", "fired"))
		require.Equal(t, []string{invalidSession("/support")}, conn.received())
		require.Empty(t, conn.send(t, connect))
		require.NoError(t, srv.Realtime.DisconnectSession(t.Context(), realtimetest.SessionID("u1"), ""))
		require.Equal(t, []string{invalidSession("/support")}, conn.received())
		close(hang)
		require.Empty(t, conn.received())
		require.Equal(t, []string{"/support invalid_session", "/support invalid_session"}, logs.refusals())
	})
}

// TestRevocation_OfSeveralHandshakes: each pending CONNECT of the session is
// refused, and none of another, while verifications overlap.
func TestRevocation_OfSeveralHandshakes(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Timeouts.Repo = time.Minute })
		one, two := srv.Login("d1", realtime.UserDriver), srv.Login("d2", realtime.UserDriver)
		entered, release := srv.Tokens.Block()
		early := openRaw(t, srv)
		require.Empty(t, early.send(t, connectPacket(realtime.NamespaceDrivers, one)))
		<-entered
		other := openRaw(t, srv)
		require.Empty(t, other.send(t, connectPacket(realtime.NamespaceDrivers, two)))
		publish(t, srv, realtime.UserAccessChanged{UserID: "d1", Change: realtime.AccessRoleChanged})
		// A handshake that begins after the revocation reads it from the repositories, and
		// may be let in again meanwhile.
		late := openRaw(t, srv)
		require.Empty(t, late.send(t, connectPacket(realtime.NamespaceDrivers, one)))
		release()
		require.Equal(t, []string{invalidSession(realtime.NamespaceDrivers)}, early.received())
		requireEntered(t, other.received(), realtime.NamespaceDrivers, "d2", realtimetest.SessionID("d2"))
		requireEntered(t, late.received(), realtime.NamespaceDrivers, "d1", realtimetest.SessionID("d1"))
	})
}

// TestRevocation_RefusesTheOriginalsWay: with RefuseAfterConnect a revoked handshake is not
// admitted either.
func TestRevocation_RefusesTheOriginalsWay(t *testing.T) {
	for _, stage := range []string{"tokens", "users", "sessions", "trips"} {
		t.Run(stage, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Compat.RefuseAfterConnect = true })
				srv.Realtime.Drivers().OnConnect(func(context.Context, *realtime.Socket) error { t.Error("connected"); return nil })
				connect := connectPacket(realtime.NamespaceDrivers, srv.Login("d1", realtime.UserDriver))
				conn := openRaw(t, srv)
				entered, release := block(srv, stage)
				require.Empty(t, conn.send(t, connect))
				<-entered
				publish(t, srv, realtime.SessionRevoked{SessionID: realtimetest.SessionID("d1"), UserID: "d1"})
				release()
				got := conn.received()
				require.NotEmpty(t, got)
				require.NotContains(t, strings.Join(got, ""), "hello")
				if stage != "trips" { // there it had been admitted already
					require.Len(t, got, 2)
					require.Equal(t, "41/drivers,", got[1])
				}
			})
		})
	}
}

// TestSessionRevoked: all of the session's sockets get auth:session_revoked and are then
// disconnected, in every namespace on every node. The user's other sockets get it and stay;
// other users on the same connection stay.
func TestSessionRevoked(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		nodes := realtimetest.NewCluster(t, 2)
		for _, srv := range nodes {
			addNamespace(t, srv, "/support", realtime.NamespaceOptions{})
		}
		phone := nodes[0].Driver(t, "d1")
		tablet := nodes[1].Driver(t, "d1", realtimetest.Polling())
		watch := nodes[1].Driver(t, "d1", realtimetest.Session("another"))
		token := realtimetest.Token(nodes[0].Login("d1", realtime.UserDriver))
		support, err := phone.Join(t.Context(), "/support", token)
		require.NoError(t, err)
		shared, err := nodes[0].Dial(t.Context(), realtime.NamespacePassengers, realtimetest.Token(nodes[0].Login("p1", realtime.UserPassenger)))
		require.NoError(t, err)
		guest, err := shared.Join(t.Context(), realtime.NamespaceDrivers, token)
		require.NoError(t, err)
		unrelated := nodes[0].Driver(t, "d2")

		at := time.Now()
		publish(t, nodes[1], realtime.SessionRevoked{SessionID: realtimetest.SessionID("d1"), UserID: "d1", Reason: "stolen", At: at})
		var ids []string
		for _, c := range []*realtimetest.Client{phone, tablet, support, guest, watch} {
			received, err := c.NextRaw(t.Context(), realtime.EventSessionRevoked.Name())
			require.NoError(t, err)
			var payload map[string]any
			require.NoError(t, json.Unmarshal(received.Args[0], &payload))
			ids = append(ids, payload["eventId"].(string))
			delete(payload, "eventId")
			require.Equal(t, map[string]any{"sid": realtimetest.SessionID("d1"), "reason": "stolen", "at": iso(at)}, payload)
		}
		for _, id := range ids {
			require.Equal(t, ids[0], id)
		}
		for _, c := range []*realtimetest.Client{phone, tablet, support, guest} {
			require.Equal(t, realtimetest.ReasonServer, c.Disconnected(t), "%s gets a DISCONNECT", c)
		}
		time.Sleep(2 * time.Minute)
		require.True(t, watch.Connected())
		require.True(t, shared.Connected(), "another user's socket on the same connection")
		require.True(t, unrelated.Connected())
		realtimetest.ExpectNone(t, watch)
		realtimetest.ExpectNone(t, shared)
		realtimetest.ExpectNone(t, unrelated)
	})
}

// TestUserAccessChanged: every socket of the user, whatever the session.
func TestUserAccessChanged(t *testing.T) {
	changes := map[string]struct {
		do     func(ctx context.Context, srv *realtimetest.Server) error
		reason string
	}{
		"banned": {func(ctx context.Context, srv *realtimetest.Server) error {
			return srv.Realtime.Publish(ctx, realtime.UserAccessChanged{UserID: "d1", Change: realtime.AccessBanned})
		}, "banned"},
		"with a reason": {func(ctx context.Context, srv *realtimetest.Server) error {
			return srv.Realtime.Publish(ctx, realtime.UserAccessChanged{UserID: "d1", Change: realtime.AccessDeactivated, Reason: "left us"})
		}, "left us"},
		"DisconnectUser": {func(ctx context.Context, srv *realtimetest.Server) error {
			return srv.Realtime.DisconnectUser(ctx, "d1", "role changed")
		}, "role changed"},
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				nodes := realtimetest.NewCluster(t, 2)
				clients := []*realtimetest.Client{
					nodes[0].Driver(t, "d1"),
					nodes[0].Driver(t, "d1", realtimetest.Session("s2"), realtimetest.Polling()),
					nodes[1].Driver(t, "d1", realtimetest.Session("s3"), realtimetest.Upgrade()),
				}
				other := nodes[1].Driver(t, "d2")
				require.NoError(t, change.do(t.Context(), nodes[0]))
				for _, c := range clients {
					received := realtimetest.Expect(t, c, realtime.EventSessionRevoked)
					require.Nil(t, received.SessionID)
					require.Equal(t, change.reason, *received.Reason)
					require.Equal(t, realtimetest.ReasonServer, c.Disconnected(t))
				}
				realtimetest.ExpectNone(t, other)
				require.True(t, other.Connected())
			})
		})
	}
}

// endOfTransport are the reasons of a client whose transport was closed: over polling it finds
// its session unknown, which is an error to it.
var endOfTransport = []string{realtimetest.ReasonTransportClose, realtimetest.ReasonTransportError}

// requireExpired checks that a client got auth:expired with a time, at that time, and that its transport was closed within a second.
func requireExpired(t *testing.T, c *realtimetest.Client, at time.Time) {
	t.Helper()
	c = c.Within(time.Until(at) + 2*time.Second)
	require.Contains(t, endOfTransport, c.Disconnected(t))
	require.LessOrEqual(t, time.Since(at), time.Second)
	received, err := c.NextRaw(t.Context(), realtime.EventAuthExpired.Name())
	require.NoError(t, err)
	require.Len(t, received.Args, 1)
	require.Equal(t, `{"at":"`+iso(at)+`"}`, string(received.Args[0]))
	require.False(t, received.At.Before(at), "too early")
	require.LessOrEqual(t, received.At.Sub(at), time.Second, "too late")
	require.Equal(t, realtime.EventAuthExpired.Name(), c.Received()[len(c.Received())-1].Event)
}

func TestSocket_Expiry(t *testing.T) {
	start := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // of each bubble
	tests := map[string]struct {
		token, session time.Duration // session 0: not set
		want           time.Duration
	}{
		"token":                {token: 90 * time.Second, want: 90 * time.Second},
		"token, a fraction":    {token: 61*time.Second + 7*time.Millisecond, want: 61*time.Second + 7*time.Millisecond},
		"token, soon":          {token: time.Second, want: time.Second},
		"session before token": {token: time.Hour, session: 2 * time.Minute, want: 2 * time.Minute},
		"token before session": {token: 2 * time.Minute, session: time.Hour, want: 2 * time.Minute},
	}
	over := map[string][]realtimetest.Option{
		"websocket": nil, "polling": {realtimetest.Polling()}, "upgrade": {realtimetest.Upgrade()},
	}
	for name, test := range tests {
		for transport, opts := range over {
			t.Run(name+", "+transport, func(t *testing.T) {
				inBubble(t, func(t *testing.T) {
					srv := realtimetest.NewServer(t)
					session := realtime.Session{ID: "s1", UserID: "d1"}
					if test.session > 0 {
						session.AccessTokenExpiresAt = start.Add(test.session)
					}
					srv.Sessions.Set(session)
					token := srv.Tokens.Mint("d1", "s1", test.token)
					c := srv.Driver(t, "d1", append(opts, realtimetest.Session("s1"), realtimetest.Token(token))...)
					stays := srv.Driver(t, "d2")
					requireExpired(t, c, start.Add(test.want))
					require.True(t, stays.Connected())
				})
			})
		}
	}
}

// TestExpiry_TakesTheConnection: the sockets in other namespaces close with the connection. Only
// a socket that is still connected expires.
func TestExpiry_TakesTheConnection(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		exp := time.Now().Add(time.Minute)
		join := func() (*realtimetest.Client, *realtimetest.Client) {
			p := srv.Passenger(t, "p1")
			srv.Login("d1", realtime.UserDriver)
			d, err := p.Join(t.Context(), realtime.NamespaceDrivers,
				realtimetest.Token(srv.Tokens.Mint("d1", realtimetest.SessionID("d1"), time.Until(exp))))
			require.NoError(t, err)
			return p, d
		}
		passenger, driver := join()
		bystander, left := join()
		left.Close()
		requireExpired(t, driver, exp)
		require.Equal(t, realtimetest.ReasonTransportClose, passenger.Disconnected(t))
		realtimetest.ExpectNone(t, passenger)
		time.Sleep(time.Minute)
		require.True(t, bystander.Connected())
	})
}

// TestExpiry_FarAway: an expiry beyond what a timer can wait for does not fire.
func TestExpiry_FarAway(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		srv.Tokens.Set("forever", realtime.Claims{
			Subject: "d1", SessionID: realtimetest.SessionID("d1"), ExpiresAt: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		})
		c := srv.Driver(t, "d1", realtimetest.Token("forever"))
		time.Sleep(time.Hour)
		require.True(t, c.Connected())
		realtimetest.ExpectNone(t, c)
	})
}

// TestExpiry_IgnoresTheLeeway: nor does it let an expired token in.
func TestExpiry_IgnoresTheLeeway(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		logs, withLogs := recordLogs(t)
		secret := []byte("a secret of thirty-two bytes, ok")
		srv := realtimetest.NewServer(t, withLogs, func(o *realtime.Options) {
			o.Tokens = newVerifier(t, secret, realtime.JWTOptions{Methods: []string{"HS256"}, Leeway: time.Minute})
		})
		exp := time.Now().Add(30 * time.Second)
		token := logs.secret(realtimetest.MintJWT(secret, map[string]any{
			"sub": "d1", "sid": realtimetest.SessionID("d1"), "exp": exp,
			"nbf": time.Now().Add(50 * time.Second),
		}))
		c := srv.Driver(t, "d1", realtimetest.Token(token))
		requireExpired(t, c, exp)
		_, err := srv.Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Token(token))
		requireRefused(t, err, realtime.CodeTokenExpired, "Access token expired")
	})
}

// TestExpiry_DuringTheHandshake: if the token expires while a check hangs, the socket expires at
// once.
func TestExpiry_DuringTheHandshake(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		srv.Login("d1", realtime.UserDriver)
		token := srv.Tokens.Mint("d1", realtimetest.SessionID("d1"), time.Second)
		conn := openRaw(t, srv)
		entered, release := srv.Sessions.Block()
		require.Empty(t, conn.send(t, connectPacket(realtime.NamespaceDrivers, token)))
		<-entered
		time.Sleep(2 * time.Second)
		release()
		require.LessOrEqual(t, conn.closedAfter(t, 2*time.Second), settleTime+2*tick)
		got := conn.received()
		require.Contains(t, got[len(got)-1], "auth:expired")
	})
}

// refresh sends auth:refresh with any body and returns the ack.
func refresh(t *testing.T, c *realtimetest.Client, body string) string {
	t.Helper()
	var args realtime.Raw
	if body != "" {
		args.Args = []json.RawMessage{json.RawMessage(body)}
	}
	ack, err := c.CallRaw(t.Context(), "auth:refresh", args)
	require.NoError(t, err)
	require.Len(t, ack.Args, 1)
	return string(ack.Args[0])
}

func refreshWith(token string) string { return `{"token":` + quote(token) + `}` }

func refreshed(at time.Time) string {
	return fmt.Sprintf(`{"ok":true,"data":{"expiresAt":%q}}`, iso(at))
}

func refreshRefused(code realtime.Code, message string) string {
	return fmt.Sprintf(`{"ok":false,"error":{"code":%q,"message":%q}}`, code, message)
}

func TestRefresh_KeepsTheSocketAlive(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		logs, withLogs := recordLogs(t)
		srv := realtimetest.NewServer(t, withLogs)
		sid := realtimetest.SessionID("d1")
		mint := func(ttl time.Duration) string { return logs.secret(srv.Tokens.Mint("d1", sid, ttl)) }
		first := time.Now().Add(time.Minute)
		c := srv.Driver(t, "d1", realtimetest.Token(mint(time.Minute)))
		id := c.ID()

		// Later, in the same session, whatever the case of the scheme.
		time.Sleep(30 * time.Second)
		second := time.Now().Add(time.Hour)
		require.Equal(t, refreshed(second), refresh(t, c, refreshWith("bearer "+mint(time.Hour))))
		time.Sleep(time.Until(first) + time.Minute)
		require.True(t, c.Connected(), "the first token's end has no meaning any more")

		// Earlier than it was.
		third := time.Now().Add(2 * time.Minute)
		require.Equal(t, refreshed(third), refresh(t, c, refreshWith(mint(2*time.Minute))))
		require.Equal(t, id, c.ID())
		realtimetest.ExpectNone(t, c)

		// The session's own end counts, as it is now.
		fourth := time.Now().Add(time.Minute)
		srv.Sessions.Set(realtime.Session{ID: sid, UserID: "d1", AccessTokenExpiresAt: fourth})
		require.Equal(t, refreshed(fourth), refresh(t, c, refreshWith(mint(time.Hour))))
		requireExpired(t, c, fourth)
	})
}

// TestRefresh_MovesTheSession: to the new session's room, and out of the old.
func TestRefresh_MovesTheSession(t *testing.T) {
	for _, revoke := range []string{"old", "new"} {
		t.Run(revoke, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				srv := realtimetest.NewServer(t)
				c := srv.Driver(t, "d1", realtimetest.Session("old"))
				srv.Sessions.Set(realtime.Session{ID: "new", UserID: "d1"})
				end := time.Now().Add(time.Hour)
				require.Equal(t, refreshed(end), refresh(t, c, refreshWith(srv.Tokens.Mint("d1", "new", time.Hour))))
				found, err := srv.Realtime.Drivers().To(realtime.DriverRoom("d1")).Sockets(t.Context())
				require.NoError(t, err)
				require.Len(t, found, 1)
				require.Equal(t, "new", found[0].Identity.SessionID)
				require.ElementsMatch(t, []realtime.Room{realtime.DriverRoom("d1"), realtime.SessionRoom("new")}, found[0].Rooms)

				publish(t, srv, realtime.SessionRevoked{SessionID: revoke, UserID: "d1"})
				require.Equal(t, revoke, *realtimetest.Expect(t, c, realtime.EventSessionRevoked).SessionID)
				if revoke == "new" {
					require.Equal(t, realtimetest.ReasonServer, c.Disconnected(t))
					return
				}
				synctest.Wait()
				require.True(t, c.Connected())
				requireExpired(t, c, end)
			})
		})
	}
}

// TestRefresh_Refused: the checks are those of the handshake. The socket keeps
// what it had, no more and no less.
func TestRefresh_Refused(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		logs, withLogs := recordLogs(t)
		srv := realtimetest.NewServer(t, withLogs)
		end := time.Now().Add(time.Hour)
		c := srv.Driver(t, "d1")
		sid := realtimetest.SessionID("d1")
		driver := realtime.User{ID: "d1", Type: realtime.UserDriver, Active: true}
		session := realtime.Session{ID: sid, UserID: "d1"}
		good := func() string { return refreshWith(logs.secret(srv.Tokens.Mint("d1", sid, 2*time.Hour))) }
		claims := func(claims realtime.Claims) string {
			srv.Tokens.Set(logs.secret("claimed"), claims)
			return refreshWith("claimed")
		}
		later := time.Now().Add(2 * time.Hour)

		for name, body := range map[string]string{
			"none": "", "empty": `{}`, "null": `null`, "no object": `"x"`, "null token": `{"token":null}`,
			"empty token": `{"token":""}`, "number": `{"token":1}`, "another case": `{"Token":"x"}`,
		} {
			require.Contains(t, refresh(t, c, body), `{"ok":false,"error":{"code":"invalid_payload",`, name)
		}
		const unauthorized = realtime.CodeUnauthorized
		tests := []struct{ name, body, want string }{
			{"only a scheme", refreshWith("Bearer "), refreshRefused(unauthorized, "Missing token")},
			{"bad", refreshWith(logs.secret("nobody's")), refreshRefused(unauthorized, "Invalid token")},
			{"too long", refreshWith(strings.Repeat("L", 8193)), refreshRefused(unauthorized, "Invalid token")},
			{"no exp", claims(realtime.Claims{Subject: "d1", SessionID: sid}), refreshRefused(unauthorized, "Invalid token")},
		}
		for _, test := range tests {
			require.Equal(t, test.want, refresh(t, c, test.body), test.name)
		}
		require.Equal(t, refreshRefused(unauthorized, "Access token expired"),
			refresh(t, c, claims(realtime.Claims{Subject: "d1", SessionID: sid, ExpiresAt: time.Now()})))
		require.Equal(t, refreshRefused(unauthorized, "Missing sub/sid"), refresh(t, c, claims(realtime.Claims{Subject: "d1", ExpiresAt: later})))

		srv.Users.Delete("d1")
		require.Equal(t, refreshRefused(unauthorized, "User not found"), refresh(t, c, good()))
		srv.Users.Set(realtime.User{ID: "d1", Type: realtime.UserPassenger, Active: true})
		require.Equal(t, refreshRefused(unauthorized, "Wrong userType"), refresh(t, c, good()))
		srv.Users.Set(realtime.User{ID: "d1", Type: realtime.UserDriver})
		require.Equal(t, refreshRefused(unauthorized, "User inactive"), refresh(t, c, good()))
		srv.Users.Set(driver)

		srv.Sessions.Delete(sid)
		require.Equal(t, refreshRefused(unauthorized, "Invalid session"), refresh(t, c, good()))
		srv.Sessions.Set(realtime.Session{ID: sid, UserID: "d2"})
		require.Equal(t, refreshRefused(unauthorized, "Invalid session"), refresh(t, c, good()))
		srv.Sessions.Set(realtime.Session{ID: sid, UserID: "d1", Revoked: true})
		require.Equal(t, refreshRefused(unauthorized, "Invalid session"), refresh(t, c, good()))
		srv.Sessions.Set(realtime.Session{ID: sid, UserID: "d1", AccessTokenExpiresAt: time.Now()})
		require.Equal(t, refreshRefused(unauthorized, "Access expired"), refresh(t, c, good()))
		srv.Sessions.Set(session)

		require.Equal(t, refreshRefused(realtime.CodeForbidden, "the token belongs to another user"),
			refresh(t, c, refreshWith(logs.secret(srv.Login("d2", realtime.UserDriver)))))
		require.Empty(t, logs.lines(t, logFailed), "a refusal is the client's affair")

		for _, stage := range []string{"tokens", "users", "sessions"} {
			fail(srv, stage, realtime.Errorf("detail", "of the database"))
			require.Equal(t, refreshRefused(realtime.CodeUnavailable, "not available, try again"), refresh(t, c, good()), stage)
			fail(srv, stage, nil)
		}
		require.Len(t, logs.lines(t, logFailed), 3)

		found, err := srv.Realtime.Drivers().To(realtime.DriverRoom("d1")).Sockets(t.Context())
		require.NoError(t, err)
		require.ElementsMatch(t, []realtime.Room{realtime.DriverRoom("d1"), realtime.SessionRoom(sid)}, found[0].Rooms)
		realtimetest.ExpectNone(t, c)
		requireExpired(t, c, end)
	})
}

// TestRefresh_Undecided: a panic and a host that does not answer decide nothing and leave the
// socket unchanged.
func TestRefresh_Undecided(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		logs, withLogs := recordLogs(t)
		trouble := func(context.Context) error { return nil }
		srv := newFaultyHost(t, func(ctx context.Context, stage string) error {
			if stage == "tokens" {
				return trouble(ctx)
			}
			return nil
		}, withLogs)
		c := srv.Driver(t, "d1").Within(time.Minute)
		token := logs.secret(srv.Tokens.Mint("d1", realtimetest.SessionID("d1"), 2*time.Hour))
		unavailable := refreshRefused(realtime.CodeUnavailable, "not available, try again")

		trouble = func(context.Context) error { panic("no verdict on " + token) }
		require.Equal(t, unavailable, refresh(t, c, refreshWith(token)))
		trouble = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		start := time.Now()
		require.Equal(t, unavailable, refresh(t, c, refreshWith(token)))
		require.Equal(t, 5*time.Second, time.Since(start))

		lines := logs.lines(t, logFailed)
		require.Len(t, lines, 2)
		for _, line := range lines {
			require.Equal(t, realtime.NamespaceDrivers, line["namespace"])
			require.Equal(t, "auth:refresh", line["event"])
			require.Equal(t, c.ID(), line["socket"])
			require.Equal(t, "d1", line["user"])
		}
		require.Contains(t, lines[0]["error"], "no verdict on [token]")
		require.Contains(t, lines[0]["stack"], "TestRefresh_Undecided")

		trouble = func(context.Context) error { return nil }
		require.Equal(t, refreshed(time.Now().Add(2*time.Hour-5*time.Second)), refresh(t, c, refreshWith(token)))
	})
}

// TestRevocation_DuringRefresh: a revocation of the socket's user or old session disconnects the
// socket. One of the new session makes the refresh fail, and the socket stays in the old one.
func TestRevocation_DuringRefresh(t *testing.T) {
	tests := map[string]struct {
		sid   string // of the new token
		event realtime.DomainEvent
		stays bool
	}{
		"the new session":  {"new", realtime.SessionRevoked{SessionID: "new", UserID: "d1"}, true},
		"the old session":  {"new", realtime.SessionRevoked{SessionID: "old", UserID: "d1"}, false},
		"the same session": {"old", realtime.SessionRevoked{SessionID: "old", UserID: "d1"}, false},
		"the user":         {"new", realtime.UserAccessChanged{UserID: "d1"}, false},
	}
	for _, stage := range []string{"tokens", "users", "sessions"} {
		for name, test := range tests {
			t.Run(stage+", "+name, func(t *testing.T) {
				inBubble(t, func(t *testing.T) {
					srv := realtimetest.NewServer(t)
					c := srv.Driver(t, "d1", realtimetest.Session("old"))
					srv.Sessions.Set(realtime.Session{ID: "new", UserID: "d1"})
					token := srv.Tokens.Mint("d1", test.sid, time.Hour)
					entered, release := block(srv, stage)
					var ack realtime.Raw
					var err error
					var asking sync.WaitGroup
					asking.Go(func() {
						ack, err = c.CallRaw(t.Context(), "auth:refresh", realtime.Raw{Args: []json.RawMessage{json.RawMessage(refreshWith(token))}})
					})
					<-entered
					publish(t, srv, test.event)
					release()
					asking.Wait()
					synctest.Wait()
					realtimetest.Expect(t, c, realtime.EventSessionRevoked)
					if !test.stays {
						require.Error(t, err)
						require.Equal(t, realtimetest.ReasonServer, c.Disconnected(t))
						found, err := srv.Realtime.Drivers().To(realtime.DriverRoom("d1")).Sockets(t.Context())
						require.NoError(t, err)
						require.Empty(t, found)
						return
					}
					require.NoError(t, err)
					require.Equal(t, refreshRefused(realtime.CodeUnauthorized, "Invalid session"), string(ack.Args[0]))
					found, err := srv.Realtime.Drivers().To(realtime.DriverRoom("d1")).Sockets(t.Context())
					require.NoError(t, err)
					require.Len(t, found, 1)
					require.Equal(t, "old", found[0].Identity.SessionID)
					require.ElementsMatch(t, []realtime.Room{realtime.DriverRoom("d1"), realtime.SessionRoom("old")}, found[0].Rooms)
				})
			})
		}
	}
}

// TestRevocation_FindsASocketThatIsRenewed: a revocation first refuses handshakes, then
// disconnects the sockets in the room. It also finds a socket whose refresh ends in between.
func TestRevocation_FindsASocketThatIsRenewed(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		logs, withLogs := recordLogs(t)
		srv := realtimetest.NewServer(t, withLogs, func(o *realtime.Options) { o.Timeouts.Repo = time.Minute })
		c := srv.Driver(t, "d1").Within(time.Minute)
		sid := realtimetest.SessionID("d1")
		entered, release := srv.Sessions.Block()
		var ack realtime.Raw
		var asking sync.WaitGroup
		asking.Go(func() {
			body := json.RawMessage(refreshWith(srv.Tokens.Mint("d1", sid, time.Hour)))
			ack, _ = c.CallRaw(t.Context(), "auth:refresh", realtime.Raw{Args: []json.RawMessage{body}})
		})
		<-entered
		// A second handshake of the session, whose refusal is the moment between.
		pending := openRaw(t, srv)
		require.Empty(t, pending.send(t, connectPacket(realtime.NamespaceDrivers, srv.Login("d1", realtime.UserDriver))))
		logs.hook = func(message string) {
			if message == logRefused {
				release()
				asking.Wait()
			}
		}
		publish(t, srv, realtime.SessionRevoked{SessionID: sid, UserID: "d1"})
		require.Len(t, ack.Args, 1, "it was answered in between")
		require.Equal(t, refreshRefused(realtime.CodeUnauthorized, "Invalid session"), string(ack.Args[0]))
		require.Equal(t, realtimetest.ReasonServer, c.Disconnected(t))
		require.Equal(t, []string{invalidSession(realtime.NamespaceDrivers)}, pending.received())
	})
}

// TestSessionRefreshed: sockets of the old session have the grace time to renew
// themselves. Those that have not get auth:expired and are closed; the others stay.
func TestSessionRefreshed(t *testing.T) {
	for _, grace := range []time.Duration{0, 3 * time.Second} {
		t.Run(grace.String(), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				nodes := realtimetest.NewCluster(t, 2, func(o *realtime.Options) { o.Timeouts.RefreshGrace = grace })
				for _, srv := range nodes {
					addNamespace(t, srv, "/support", realtime.NamespaceOptions{})
				}
				old := realtimetest.Session("old")
				renews := nodes[0].Driver(t, "d1", old)
				sleeps := nodes[0].Driver(t, "d1", old, realtimetest.Polling())
				far := nodes[1].Driver(t, "d1", old)
				supported := nodes[1].Driver(t, "d2")
				support, err := supported.Join(t.Context(), "/support", realtimetest.Token(nodes[0].Tokens.Mint("d1", "old", time.Hour)))
				require.NoError(t, err)
				elsewhere := nodes[1].Driver(t, "d1", realtimetest.Session("third"))
				nodes[0].Sessions.Set(realtime.Session{ID: "new", UserID: "d1"})

				at := time.Now()
				publish(t, nodes[0], realtime.SessionRefreshed{UserID: "d1", OldSessionID: "old", NewSessionID: "new", At: at})
				for _, c := range []*realtimetest.Client{renews, sleeps, far, support, elsewhere} {
					received := realtimetest.Expect(t, c, realtime.EventSessionRefreshed)
					require.Equal(t, "old", received.OldSessionID)
					require.Equal(t, "new", received.NewSessionID)
					require.Equal(t, iso(at), iso(received.At.Time))
				}
				require.Equal(t, refreshed(time.Now().Add(time.Hour)),
					refresh(t, renews, refreshWith(nodes[0].Tokens.Mint("d1", "new", time.Hour))))
				if grace == 0 {
					grace = 10 * time.Second
				}
				time.Sleep(time.Until(at.Add(grace - tick)))
				for _, c := range []*realtimetest.Client{sleeps, far, support} {
					require.True(t, c.Connected())
					realtimetest.ExpectNone(t, c)
				}
				for _, c := range []*realtimetest.Client{sleeps, far, support} {
					received := realtimetest.Expect(t, c, realtime.EventAuthExpired)
					require.WithinDuration(t, at.Add(grace), received.At.Time, tick)
					require.Contains(t, endOfTransport, c.Disconnected(t))
					require.LessOrEqual(t, time.Since(at), grace+time.Second)
				}
				require.Equal(t, realtimetest.ReasonTransportClose, supported.Disconnected(t), "it falls with the connection")
				time.Sleep(time.Minute)
				for _, c := range []*realtimetest.Client{renews, elsewhere} {
					require.True(t, c.Connected())
					realtimetest.ExpectNone(t, c)
				}
			})
		})
	}
}

// TestServer_PanicsAndErrorsOfTheHost: the client learns only that it was the server's
// fault. The log has the error once, with what is needed to find it, and nothing that the
// client sent.
func TestServer_PanicsAndErrorsOfTheHost(t *testing.T) {
	const payload = "what the client sent"
	internal := `{"ok":false,"error":{"code":"internal","message":"internal error"}}`
	tests := map[string]struct {
		handle func(args realtime.Raw) (realtime.Raw, error)
		want   string
		log    string // the error; empty: not logged
		stack  bool
	}{
		"panic":       {func(realtime.Raw) (realtime.Raw, error) { panic("out of range") }, internal, "panic: out of range", true},
		"panic error": {func(realtime.Raw) (realtime.Raw, error) { panic(errors.New("broken")) }, internal, "panic: broken", true},
		"nil pointer": {func(realtime.Raw) (realtime.Raw, error) {
			var s *realtime.Socket
			return realtime.Raw{}, errors.New(s.ID())
		},
			internal, "panic: runtime error: invalid memory address", true},
		"panic *Error": {func(realtime.Raw) (realtime.Raw, error) { panic(realtime.Errorf(realtime.CodeForbidden, "hidden")) },
			internal, "panic: forbidden: hidden", true},
		"panic nil": {func(realtime.Raw) (realtime.Raw, error) { panic(nil) }, internal, "panic called with nil argument", true},
		"error":     {func(realtime.Raw) (realtime.Raw, error) { return realtime.Raw{}, errors.New("disk full") }, internal, "disk full", false},
		"nil *Error": {func(realtime.Raw) (realtime.Raw, error) { var e *realtime.Error; return realtime.Raw{}, e },
			internal, "", false},
		"*Error": {func(realtime.Raw) (realtime.Raw, error) {
			return realtime.Raw{}, realtime.Errorf(realtime.CodeConflict, "taken")
		},
			`{"ok":false,"error":{"code":"conflict","message":"taken"}}`, "", false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				logs, withLogs := recordLogs(t)
				srv := realtimetest.NewServer(t, withLogs)
				srv.Realtime.Drivers().HandleRaw("break", func(_ context.Context, _ *realtime.Socket, args realtime.Raw) (realtime.Raw, error) {
					return test.handle(args)
				})
				logs.secret(payload)
				c := srv.Driver(t, "d1")
				other := srv.Driver(t, "d2")
				args := realtime.Raw{Args: []json.RawMessage{json.RawMessage(quote(payload))}}
				ack, err := c.CallRaw(t.Context(), "break", args)
				require.NoError(t, err)
				require.Len(t, ack.Args, 1)
				require.Equal(t, test.want, string(ack.Args[0]))
				lines := logs.lines(t, logFailed)
				if test.log == "" && name == "*Error" {
					require.Empty(t, lines)
				} else {
					require.Len(t, lines, 1, "once")
					require.Equal(t, "ERROR", lines[0]["level"])
					require.Equal(t, realtime.NamespaceDrivers, lines[0]["namespace"])
					require.Equal(t, "break", lines[0]["event"])
					require.Equal(t, c.ID(), lines[0]["socket"])
					require.Equal(t, "d1", lines[0]["user"])
					if test.log != "" {
						require.Contains(t, lines[0]["error"], test.log)
					}
					require.Equal(t, test.stack, lines[0]["stack"] != nil)
					if test.stack {
						require.Contains(t, lines[0]["stack"], "TestServer_PanicsAndErrorsOfTheHost")
					}
				}
				// Without an ack the error is logged too, and the socket stays connected.
				require.NoError(t, c.EmitRaw("break", args))
				_, err = realtimetest.Call(t.Context(), c, realtime.DriverStatusUpdate, realtime.StatusUpdate{IsOnline: new(true)})
				require.NoError(t, err)
				require.Len(t, logs.lines(t, logFailed), 2*len(lines))
				realtimetest.ExpectNone(t, other)
				require.True(t, other.Connected())
			})
		})
	}
}

// TestNamespace_PanicsOfHooks: an OnConnect that fails disconnects the socket after hello. An
// OnDisconnect that fails is only logged.
func TestNamespace_PanicsOfHooks(t *testing.T) {
	for _, how := range []string{"panic", "error"} {
		t.Run(how, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				logs, withLogs := recordLogs(t)
				srv := realtimetest.NewServer(t, withLogs)
				drivers := srv.Realtime.Drivers()
				drivers.OnConnect(func(context.Context, *realtime.Socket) error {
					if how == "panic" {
						panic("in OnConnect")
					}
					return errors.New("in OnConnect")
				})
				drivers.OnDisconnect(func(context.Context, *realtime.Socket, realtime.DisconnectReason) { panic("in OnDisconnect") })
				token := logs.secret(srv.Login("d1", realtime.UserDriver))
				conn := openRaw(t, srv)
				got := conn.send(t, connectPacket(realtime.NamespaceDrivers, token))
				require.Len(t, got, 3)
				requireEntered(t, got[:2], realtime.NamespaceDrivers, "d1", realtimetest.SessionID("d1"))
				require.Equal(t, "41/drivers,", got[2])
				lines := logs.lines(t, logFailed)
				require.Len(t, lines, 2)
				for i, event := range []string{"connect", "disconnect"} {
					require.Equal(t, event, lines[i]["event"])
					require.Equal(t, "d1", lines[i]["user"])
					require.NotEmpty(t, lines[i]["socket"])
					require.Equal(t, event == "disconnect" || how == "panic", lines[i]["stack"] != nil)
				}
			})
		})
	}
}

// TestDriverService_Panic: a panic or an error of the host's service fails the library's own
// calls.
func TestDriverService_Panic(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		logs, withLogs := recordLogs(t)
		srv := realtimetest.NewServer(t, withLogs, func(o *realtime.Options) { o.Drivers = brokenDrivers{} })
		c := srv.Driver(t, "d1")
		watcher := srv.Admin(t, "a1")
		_, err := realtimetest.Call(t.Context(), c, realtime.DriverStatusUpdate, realtime.StatusUpdate{IsOnline: new(true)})
		require.Equal(t, realtime.Errorf(realtime.CodeInternal, "internal error"), err)
		_, err = realtimetest.Call(t.Context(), c, realtime.DriverTripSet, realtime.SetTrip{})
		require.Equal(t, realtime.Errorf(realtime.CodeUnavailable, "not available, try again"), err)
		require.Len(t, logs.lines(t, logFailed), 2)
		realtimetest.ExpectNone(t, watcher)
	})
}

// brokenDrivers is a DriverService whose UpdateStatus panics and whose SetTrip fails.
type brokenDrivers struct{ realtime.DriverService }

func (brokenDrivers) UpdateStatus(context.Context, string, realtime.StatusUpdate) (realtime.Availability, error) {
	panic("no such table")
}

func (brokenDrivers) SetTrip(_ context.Context, _, _ string) (realtime.Availability, error) {
	return realtime.Availability{}, fmt.Errorf("asking the other service: %w", context.DeadlineExceeded)
}

// A user whose type has changed does not renew what they connected as, where the
// namespace admits both types too.
func TestNamespace_RefreshComparesTheType(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		addNamespace(t, srv, "/support", realtime.NamespaceOptions{})
		support, err := srv.Driver(t, "d1").Join(t.Context(), "/support", realtimetest.Token(srv.Login("d1", realtime.UserDriver)))
		require.NoError(t, err)
		token := srv.Tokens.Mint("d1", realtimetest.SessionID("d1"), 2*time.Hour)
		srv.Users.Set(realtime.User{ID: "d1", Type: realtime.UserPassenger, Active: true})
		require.Contains(t, refresh(t, support, refreshWith(token)), `{"ok":false,"error":{"code":"forbidden",`)
		srv.Users.Set(realtime.User{ID: "d1", Type: realtime.UserDriver, Active: true})
		require.Equal(t, refreshed(time.Now().Add(2*time.Hour)), refresh(t, support, refreshWith(token)))
	})
}

// The sockets of a session that is replaced by itself stay connected.
func TestSessionRefreshed_SameSession(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		driver := srv.Driver(t, "d1")
		sid := realtimetest.SessionID("d1")
		publish(t, srv, realtime.SessionRefreshed{UserID: "d1", OldSessionID: sid, NewSessionID: sid})
		require.Equal(t, sid, realtimetest.Expect(t, driver, realtime.EventSessionRefreshed).NewSessionID)
		time.Sleep(time.Minute) // several grace times
		require.True(t, driver.Connected())
		realtimetest.ExpectNone(t, driver)
	})
}

// The expiry timer may fire while a refresh arms it anew: then it ends nothing.
func TestSocket_ExpiryOvertakenByRefresh(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		sockets := make(chan *realtime.Socket, 1)
		srv.Realtime.Drivers().OnConnect(func(_ context.Context, s *realtime.Socket) error { sockets <- s; return nil })
		driver := srv.Driver(t, "d1")
		socket := <-sockets
		refresh(t, driver, refreshWith(srv.Tokens.Mint("d1", realtimetest.SessionID("d1"), 2*time.Hour)))
		socket.FireExpiry()
		synctest.Wait()
		realtimetest.ExpectNone(t, driver)
		require.True(t, driver.Connected())
		time.Sleep(2*time.Hour - time.Second)
		require.True(t, driver.Connected())
		realtimetest.Expect(t, driver, realtime.EventAuthExpired)
	})
}
