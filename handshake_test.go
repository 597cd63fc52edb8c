// The handshake: a socket receives nothing before the checks have succeeded, and handshakes that
// cannot be decided.

package realtime_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// memo is an event of the host's.
var memo = realtime.NewEvent[string]("memo")

// TestHandshake_NothingBeforeTheChecks blocks a check, and emits to every room that the
// socket would be in: none of it arrives, neither then nor later. After the checks, while the
// trips are looked up, events wait until hello was sent.
func TestHandshake_NothingBeforeTheChecks(t *testing.T) {
	for _, stage := range []string{"tokens", "users", "sessions", "trips"} {
		t.Run(stage, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Timeouts.Repo = time.Minute })
				watcher := srv.Admin(t, "a1")
				connects := 0
				srv.Realtime.Drivers().OnConnect(func(context.Context, *realtime.Socket) error { connects++; return nil })
				token := srv.Login("d1", realtime.UserDriver)
				conn := openRaw(t, srv)
				entered, release := block(srv, stage)
				require.Empty(t, conn.send(t, connectPacket(realtime.NamespaceDrivers, token)))
				<-entered

				rooms := []realtime.Room{realtime.DriverRoom("d1"), realtime.SessionRoom(realtimetest.SessionID("d1"))}
				to := srv.Realtime.Drivers().To(rooms...)
				require.NoError(t, memo.Emit(to, "too early"))
				srv.Publish(t, realtime.DriverStatusChanged{Availability: realtime.Availability{DriverID: "d1"}})
				realtimetest.Expect(t, watcher, realtime.EventAdminDriverAvailability)
				found, err := to.Sockets(t.Context())
				require.NoError(t, err)
				if stage == "trips" {
					require.Len(t, found, 1)
					require.True(t, found[0].Connecting)
				} else {
					require.Empty(t, found)
				}
				time.Sleep(10 * time.Second)
				require.Empty(t, conn.received())
				require.Zero(t, connects)
				realtimetest.ExpectNone(t, watcher)

				release()
				got := conn.received()
				require.GreaterOrEqual(t, len(got), 2)
				requireEntered(t, got[:2], realtime.NamespaceDrivers, "d1", realtimetest.SessionID("d1"))
				if stage == "trips" {
					require.Len(t, got, 4)
					require.Equal(t, `42/drivers,["memo","too early"]`, got[2])
					require.Contains(t, got[3], "driver:availability:update")
				} else {
					require.Len(t, got, 2)
				}
				require.Equal(t, 1, connects)
				found, err = to.Sockets(t.Context())
				require.NoError(t, err)
				require.Len(t, found, 1)
				require.False(t, found[0].Connecting)
				require.NoError(t, memo.Emit(to, "now"))
				require.Equal(t, []string{`42/drivers,["memo","now"]`}, conn.received())
			})
		})
	}
}

// block makes the host's fake of one step of the handshake hang.
func block(srv *realtimetest.Server, stage string) (entered <-chan struct{}, release func()) {
	switch stage {
	case "tokens":
		return srv.Tokens.Block()
	case "users":
		return srv.Users.Block()
	case "sessions":
		return srv.Sessions.Block()
	}
	return srv.Trips.Block()
}

// TestHandshake_RefusedReceivesNothing: a client that fails a check, even the last one, was in no
// room before.
func TestHandshake_RefusedReceivesNothing(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Compat.RefuseUnavailable = true })
		token := srv.Login("d1", realtime.UserDriver)
		conn := openRaw(t, srv)
		for _, stage := range []string{"users", "sessions", "trips"} {
			entered, release := block(srv, stage)
			require.Empty(t, conn.send(t, connectPacket(realtime.NamespaceDrivers, token)))
			<-entered
			require.NoError(t, memo.Emit(srv.Realtime.Drivers().To(realtime.DriverRoom("d1")), "for nobody"))
			fail(srv, stage, errors.New("gone"))
			release()
			require.Equal(t, []string{refusalPacket(realtime.NamespaceDrivers, realtime.CodeUnavailable, "Service unavailable")}, conn.received(), stage)
			fail(srv, stage, nil)
			require.NoError(t, memo.Emit(srv.Realtime.Drivers().To(realtime.DriverRoom("d1")), "for nobody"))
		}
		requireEntered(t, conn.send(t, connectPacket(realtime.NamespaceDrivers, token)), realtime.NamespaceDrivers, "d1", realtimetest.SessionID("d1"))
	})
}

// fail makes the host's fake of one step of the handshake fail; with nil it works again.
func fail(srv *realtimetest.Server, stage string, err error) {
	switch stage {
	case "tokens":
		srv.Tokens.Fail(err)
	case "users":
		srv.Users.Fail(err)
	case "sessions":
		srv.Sessions.Fail(err)
	case "trips":
		srv.Trips.Fail(err)
	}
}

// faultyHost calls trouble before each call of the host, and returns its error.
type faultyHost struct {
	*realtimetest.Server
	trouble func(ctx context.Context, stage string) error
}

func (h faultyHost) VerifyToken(ctx context.Context, token, namespace string) (realtime.Claims, error) {
	if err := h.trouble(ctx, "tokens"); err != nil {
		return realtime.Claims{}, fmt.Errorf("token %s: %w", token, err)
	}
	return h.Tokens.VerifyToken(ctx, token, namespace)
}

func (h faultyHost) FindUser(ctx context.Context, id string) (realtime.User, error) {
	if err := h.trouble(ctx, "users"); err != nil {
		return realtime.User{}, err
	}
	return h.Users.FindUser(ctx, id)
}

func (h faultyHost) FindSession(ctx context.Context, sid string) (realtime.Session, error) {
	if err := h.trouble(ctx, "sessions"); err != nil {
		return realtime.Session{}, err
	}
	return h.Sessions.FindSession(ctx, sid)
}

func (h faultyHost) ActiveTrips(ctx context.Context, userID string) ([]string, error) {
	if err := h.trouble(ctx, "trips"); err != nil {
		return nil, err
	}
	return h.Trips.ActiveTrips(ctx, userID)
}

// newFaultyHost starts a server on a faultyHost.
func newFaultyHost(t *testing.T, trouble func(ctx context.Context, stage string) error, configure ...func(o *realtime.Options)) *realtimetest.Server {
	t.Helper()
	h := &faultyHost{Server: &realtimetest.Server{
		Tokens: &realtimetest.Tokens{}, Users: &realtimetest.Users{}, Sessions: &realtimetest.Sessions{}, Trips: &realtimetest.Trips{},
	}, trouble: trouble}
	srv := realtimetest.NewServer(t, append([]func(o *realtime.Options){func(o *realtime.Options) {
		o.Tokens, o.Users, o.Sessions, o.Trips = h, h, h, h
	}}, configure...)...)
	h.Server = srv
	return srv
}

// TestHandshake_Undecided: if a call of the host fails in any way, the client is neither admitted
// nor refused: the transport is closed after 1 to 5 s, and the log says why.
func TestHandshake_Undecided(t *testing.T) {
	repoTimeout := 3 * time.Second
	troubles := map[string]struct {
		trouble func(ctx context.Context, release <-chan struct{}) error
		after   time.Duration // until the server gives up waiting
		log     string
	}{
		"error":        {func(context.Context, <-chan struct{}) error { return errors.New("connection refused") }, 0, "connection refused"},
		"panic":        {func(context.Context, <-chan struct{}) error { panic("out of range") }, 0, "panic: out of range"},
		"an *Error":    {func(context.Context, <-chan struct{}) error { return realtime.Errorf("secret", "detail") }, 0, "secret: detail"},
		"ErrClosed":    {func(context.Context, <-chan struct{}) error { return realtime.ErrClosed }, 0, "closed"},
		"unavailable":  {func(context.Context, <-chan struct{}) error { return realtime.ErrUnavailable }, 0, "unavailable"},
		"heeds ctx":    {func(ctx context.Context, _ <-chan struct{}) error { <-ctx.Done(); return ctx.Err() }, repoTimeout, ""},
		"ignores ctx":  {func(_ context.Context, release <-chan struct{}) error { <-release; return nil }, repoTimeout, "no answer within Options.Timeouts.Repo"},
		"error, later": {func(context.Context, <-chan struct{}) error { time.Sleep(time.Second); return errors.New("reset") }, time.Second, "reset"},
	}
	questions := map[string]string{
		"tokens": "verifying the token", "users": "finding the user", "sessions": "finding the session", "trips": "finding the trips",
	}
	for stage, question := range questions {
		for name, test := range troubles {
			t.Run(stage+", "+name, func(t *testing.T) {
				inBubble(t, func(t *testing.T) {
					logs, withLogs := recordLogs(t)
					release := make(chan struct{})
					troubled := false
					srv := newFaultyHost(t, func(ctx context.Context, at string) error {
						if troubled && at == stage {
							return test.trouble(ctx, release)
						}
						return nil
					}, withLogs, func(o *realtime.Options) { o.Timeouts.Repo = repoTimeout })
					other, err := srv.Dial(t.Context(), realtime.NamespacePassengers, realtimetest.Token(srv.Login("p0", realtime.UserPassenger)))
					require.NoError(t, err)
					conn := openRaw(t, srv)
					requireEntered(t, conn.send(t, connectPacket(realtime.NamespacePassengers, logs.secret(srv.Login("p1", realtime.UserPassenger)))),
						realtime.NamespacePassengers, "p1", realtimetest.SessionID("p1"))
					troubled = true
					require.Empty(t, conn.send(t, connectPacket(realtime.NamespaceDrivers, logs.secret(srv.Login("d1", realtime.UserDriver)))))
					start := time.Now()
					time.Sleep(test.after + time.Second/2)
					close(release)
					synctest.Wait()
					found, err := srv.Realtime.Drivers().To(realtime.DriverRoom("d1")).Sockets(t.Context())
					require.NoError(t, err)
					require.Empty(t, found)
					require.False(t, conn.closed())
					conn.closedAfter(t, time.Minute)
					took := conn.ended.Sub(start)
					require.GreaterOrEqual(t, took, test.after+time.Second-2*tick)
					require.LessOrEqual(t, took, test.after+5*time.Second+settleTime+tick)
					require.Empty(t, conn.received(), "no CONNECT_ERROR, and no connect")
					require.True(t, other.Connected(), "another's connection")

					require.Equal(t, []string{"/drivers unavailable"}, logs.refusals())
					require.Empty(t, logs.lines(t, logRefused))
					lines := logs.lines(t, logUndecided)
					require.Len(t, lines, 1, "once")
					require.Equal(t, "ERROR", lines[0]["level"])
					require.Equal(t, realtime.NamespaceDrivers, lines[0]["namespace"])
					require.Equal(t, "connect", lines[0]["event"])
					require.NotEmpty(t, lines[0]["socket"])
					require.Equal(t, stage != "tokens", lines[0]["user"] == "d1", "%v", lines[0]["user"])
					require.Contains(t, lines[0]["error"], question+": ")
					require.Contains(t, lines[0]["error"], test.log)
					require.Equal(t, name == "panic", lines[0]["stack"] != nil)
				})
			})
		}
	}
}

// TestUndecided_Delay: it is random, and UnavailableDelay bounds it.
func TestUndecided_Delay(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Timeouts.UnavailableDelay = 10 * time.Second })
		srv.Users.Fail(errors.New("gone"))
		token := srv.Login("d1", realtime.UserDriver)
		var conns []*rawConn
		for range 40 {
			conns = append(conns, openRaw(t, srv))
			require.Empty(t, conns[len(conns)-1].send(t, connectPacket(realtime.NamespaceDrivers, token)))
		}
		start := time.Now()
		time.Sleep(time.Minute)
		early, late := 0, 0
		for _, c := range conns {
			require.True(t, c.closedSoon())
			require.Empty(t, c.received())
			took := c.ended.Sub(start)
			require.GreaterOrEqual(t, took, 2*time.Second-tick)
			require.LessOrEqual(t, took, 10*time.Second+settleTime)
			if took < 6*time.Second {
				early++
			} else {
				late++
			}
		}
		require.NotZero(t, early)
		require.NotZero(t, late)
	})
}

// TestUndecided_IsTriedAgain: a client that reconnects as stock clients do is admitted once the
// host answers, over polling too.
func TestUndecided_IsTriedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		token := realtimetest.Token(srv.Login("d1", realtime.UserDriver))
		srv.Sessions.Fail(errors.New("a bad minute"))
		for _, over := range [][]realtimetest.Option{{token}, {token, realtimetest.Polling()}, {token, realtimetest.Upgrade()}} {
			_, err := srv.Dial(t.Context(), realtime.NamespaceDrivers, over...)
			require.ErrorIs(t, err, realtime.ErrClosed)
			require.Regexp(t, strings.Join(endOfTransport, "|"), err.Error())
		}
		srv.Sessions.Fail(nil)
		srv.Driver(t, "d1")
	})
}

// TestCompat_RetryExpired: with the option an expired token or session closes the transport within
// UnavailableDelay, and everything else is refused as without it.
func TestCompat_RetryExpired(t *testing.T) {
	sid := realtimetest.SessionID("d1")
	expired := func(srv *realtimetest.Server) {
		srv.Sessions.Set(realtime.Session{ID: sid, UserID: "d1", AccessTokenExpiresAt: time.Now()})
	}
	for name, test := range map[string]struct {
		ttl    time.Duration
		change func(srv *realtimetest.Server)
		code   realtime.Code
		closed bool
	}{
		"token expired":   {0, func(*realtimetest.Server) {}, realtime.CodeTokenExpired, true},
		"session expired": {time.Hour, expired, realtime.CodeAccessExpired, true},
		"session revoked": {time.Hour, func(srv *realtimetest.Server) { srv.Sessions.Revoke(sid) }, realtime.CodeInvalidSession, false},
		"session missing": {time.Hour, func(srv *realtimetest.Server) { srv.Sessions.Delete(sid) }, realtime.CodeInvalidSession, false},
		"user deleted":    {time.Hour, func(srv *realtimetest.Server) { srv.Users.Delete("d1") }, realtime.CodeUserNotFound, false},
	} {
		for _, original := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, the original's way %t", name, original), func(t *testing.T) {
				inBubble(t, func(t *testing.T) {
					logs, withLogs := recordLogs(t)
					srv := realtimetest.NewServer(t, withLogs, func(o *realtime.Options) {
						o.Compat.RetryExpired, o.Compat.RefuseAfterConnect, o.Compat.RefuseUnavailable = true, original, true
						o.Timeouts.UnavailableDelay = 10 * time.Second
					})
					srv.Login("d1", realtime.UserDriver)
					token := srv.Tokens.Mint("d1", sid, test.ttl)
					test.change(srv)
					conn := openRaw(t, srv)
					got := conn.send(t, connectPacket(realtime.NamespaceDrivers, token))
					require.Equal(t, []string{"/drivers " + string(test.code)}, logs.refusals())
					if !test.closed {
						require.NotEmpty(t, got)
						return
					}
					require.Empty(t, got)
					after := conn.closedAfter(t, 11*time.Second)
					require.GreaterOrEqual(t, after, 2*time.Second-tick)
					require.LessOrEqual(t, after, 10*time.Second+time.Second)
					require.Empty(t, conn.received())
				})
			})
		}
	}
}

// TestCompat_RefuseUnavailable: the option that sends the CONNECT_ERROR.
func TestCompat_RefuseUnavailable(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		logs, withLogs := recordLogs(t)
		release := make(chan struct{})
		answer := func(context.Context) error { return errors.New("gone") }
		srv := newFaultyHost(t, func(ctx context.Context, stage string) error {
			if stage == "users" {
				return answer(ctx)
			}
			return nil
		}, withLogs, func(o *realtime.Options) { o.Compat.RefuseUnavailable = true })
		connect := connectPacket(realtime.NamespaceDrivers, logs.secret(srv.Login("d1", realtime.UserDriver)))
		refusal := []string{refusalPacket(realtime.NamespaceDrivers, realtime.CodeUnavailable, "Service unavailable")}
		conn := openRaw(t, srv)
		require.Equal(t, refusal, conn.send(t, connect))
		// An answer after the end of its handshake does not affect the next handshake.
		answer = func(context.Context) error { <-release; return nil }
		require.Empty(t, conn.send(t, connect))
		time.Sleep(5 * time.Second)
		require.Equal(t, refusal, conn.received())
		answer = func(context.Context) error { return nil }
		requireEntered(t, conn.send(t, connect), realtime.NamespaceDrivers, "d1", realtimetest.SessionID("d1"))
		close(release)
		require.Empty(t, conn.received())
		time.Sleep(time.Minute)
		require.False(t, conn.closed())
		require.Len(t, logs.lines(t, logUndecided), 2)
	})
}

// TestCompat_RefuseAfterConnect: the client is connected and disconnected at once, as the NestJS
// module does it. It is in no room, and no handler or hook is called.
func TestCompat_RefuseAfterConnect(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		logs, withLogs := recordLogs(t)
		srv := realtimetest.NewServer(t, withLogs, func(o *realtime.Options) { o.Compat.RefuseAfterConnect = true })
		drivers := srv.Realtime.Drivers()
		drivers.OnConnect(func(context.Context, *realtime.Socket) error { t.Error("connected"); return nil })
		drivers.OnDisconnect(func(context.Context, *realtime.Socket, realtime.DisconnectReason) { t.Error("disconnected") })
		srv.Login("d1", realtime.UserDriver)
		srv.Users.Set(realtime.User{ID: "d1", Type: realtime.UserDriver})
		token := logs.secret(srv.Login("d1", realtime.UserDriver))
		for _, packet := range []string{"40/drivers,", connectPacket(realtime.NamespaceDrivers, token)} {
			conn := openRaw(t, srv)
			got := conn.send(t, packet)
			require.Len(t, got, 2)
			require.Regexp(t, `^40/drivers,\{"sid":"[A-Za-z0-9_-]{20}"\}$`, got[0])
			require.Equal(t, "41/drivers,", got[1])
			time.Sleep(2 * time.Second)
			require.True(t, conn.closedSoon(), "no other socket was on it")
		}
		require.Equal(t, []string{"/drivers missing_token", "/drivers user_inactive"}, logs.refusals())
		require.Len(t, logs.lines(t, logRefused), 2)
		require.Empty(t, logs.entered)

		c := srv.Passenger(t, "p1")
		_, err := c.Join(t.Context(), realtime.NamespaceDrivers)
		require.NoError(t, err)
		synctest.Wait()
		require.True(t, c.Connected(), "another socket is on it")
	})
}

// TestCompat_DisconnectRefused: the option for 3.x clients.
func TestCompat_DisconnectRefused(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Compat.DisconnectRefused, o.Compat.RefuseUnavailable = true, true })
		conn := openRaw(t, srv)
		require.Equal(t, []string{refusalPacket(realtime.NamespaceDrivers, realtime.CodeMissingToken, "Missing token"), "41/drivers,"},
			conn.send(t, "40/drivers,"))
		srv.Users.Fail(errors.New("gone"))
		token := srv.Login("d1", realtime.UserDriver)
		require.Equal(t, []string{refusalPacket(realtime.NamespaceDrivers, realtime.CodeUnavailable, "Service unavailable"), "41/drivers,"},
			conn.send(t, connectPacket(realtime.NamespaceDrivers, token)))
		srv.Users.Fail(nil)
		time.Sleep(14 * time.Second)
		requireEntered(t, conn.send(t, connectPacket(realtime.NamespaceDrivers, token)), realtime.NamespaceDrivers, "d1", realtimetest.SessionID("d1"))
	})
}

// TestTimeouts_Connect: a connection that enters no namespace is closed after 15 s,
// whatever it tries, and one that has been in one no sooner than 15 s after the last
// refusal or DISCONNECT. One that sends no CONNECT makes the next one of its address wait longer.
func TestTimeouts_Connect(t *testing.T) {
	for _, timeout := range []time.Duration{0, 3 * time.Second} {
		t.Run(timeout.String(), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				srv := realtimetest.NewServer(t, func(o *realtime.Options) {
					o.Timeouts.Connect = timeout
					o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
				})
				limit := timeout
				if limit == 0 {
					limit = 15 * time.Second
				}
				limit += settleTime
				token := srv.Login("d1", realtime.UserDriver)
				idle := func(conn *rawConn) {
					t.Helper()
					took := conn.closedAfter(t, time.Minute)
					require.InDelta(t, limit.Seconds(), took.Seconds(), 2*tick.Seconds())
				}
				refused := []string{"40/drivers,", "40/nowhere,", connectPacket(realtime.NamespaceDrivers, "bad"), "40"}
				conn := openRaw(t, srv)
				start := time.Now()
				for _, packet := range refused {
					time.Sleep(limit / 5)
					require.Len(t, conn.send(t, packet), 1)
				}
				conn.closedAfter(t, time.Minute)
				require.InDelta(t, limit.Seconds(), time.Since(start).Seconds(), 2*tick.Seconds())

				conn = openRaw(t, srv)
				require.Len(t, conn.send(t, connectPacket(realtime.NamespaceDrivers, token)), 2)
				require.Empty(t, conn.send(t, "41/drivers,"))
				for _, packet := range refused {
					time.Sleep(limit * 2 / 3)
					require.Len(t, conn.send(t, packet), 1)
				}
				idle(conn)

				conn = openRaw(t, srv)
				time.Sleep(limit * 2 / 3)
				require.Len(t, conn.send(t, connectPacket(realtime.NamespaceDrivers, token)), 2)
				time.Sleep(2 * time.Minute)
				require.False(t, conn.closed(), "it has a namespace")
				require.Empty(t, conn.send(t, "41/drivers,"))
				time.Sleep(limit * 2 / 3)
				require.Len(t, conn.send(t, connectPacket(realtime.NamespaceDrivers, token)), 2, "it may come again")
				require.Empty(t, conn.send(t, "41/drivers,"))
				idle(conn)

				// A connection with a handshake in progress is not without a namespace.
				conn = openRaw(t, srv)
				entered, release := srv.Users.Block()
				require.Empty(t, conn.send(t, connectPacket(realtime.NamespaceDrivers, token)))
				<-entered
				time.Sleep(4 * time.Second)
				release()
				require.Len(t, conn.received(), 2)

				// Without a word. The next one has more time, but not at another address.
				for _, n := range []float64{1, 2, 4} {
					took := openRaw(t, srv).closedAfter(t, 10*time.Minute)
					require.InDelta(t, n*(limit-settleTime).Seconds()+settleTime.Seconds(), took.Seconds(), 2*tick.Seconds())
				}
				other := openRaw(t, srv, "X-Forwarded-For", "203.0.113.9")
				idle(other)
				require.Len(t, openRaw(t, srv).send(t, connectPacket(realtime.NamespaceDrivers, token)), 2)
				idle(openRaw(t, srv))
			})
		})
	}
}

// TestHandshake_ClientLeaves: a client that leaves is not admitted, and one
// that stayed on the connection may come again.
func TestHandshake_ClientLeaves(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		logs, withLogs := recordLogs(t)
		srv := realtimetest.NewServer(t, withLogs)
		connects := 0
		srv.Realtime.Drivers().OnConnect(func(context.Context, *realtime.Socket) error { connects++; return nil })
		connect := connectPacket(realtime.NamespaceDrivers, logs.secret(srv.Login("d1", realtime.UserDriver)))
		for _, stage := range []string{"tokens", "users", "sessions", "trips"} {
			conn := openRaw(t, srv)
			entered, release := block(srv, stage)
			require.Empty(t, conn.send(t, connect))
			<-entered
			require.Empty(t, conn.send(t, "41/drivers,"))
			release()
			require.Empty(t, conn.received())

			entered, release = block(srv, stage)
			require.Empty(t, conn.send(t, connect))
			<-entered
			require.NoError(t, conn.body.Close())
			synctest.Wait()
			release()
			synctest.Wait()
			found, err := srv.Realtime.Drivers().To(realtime.DriverRoom("d1")).Sockets(t.Context())
			require.NoError(t, err)
			require.Empty(t, found)
			require.Zero(t, connects)
		}
		require.Empty(t, logs.entered)
		requireEntered(t, openRaw(t, srv).send(t, connect), realtime.NamespaceDrivers, "d1", realtimetest.SessionID("d1"))
	})
}

// TestServer_ShutdownDuringTheHandshake: the shutdown cancels the calls of the host, which is not
// logged as their failure.
func TestServer_ShutdownDuringTheHandshake(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		logs, withLogs := recordLogs(t)
		srv := realtimetest.NewServer(t, withLogs)
		conn := openRaw(t, srv)
		entered, _ := srv.Users.Block()
		require.Empty(t, conn.send(t, connectPacket(realtime.NamespaceDrivers, logs.secret(srv.Login("d1", realtime.UserDriver)))))
		<-entered
		require.NoError(t, srv.Realtime.Shutdown(t.Context()))
		require.True(t, conn.closedSoon())
		require.Empty(t, conn.received())
		require.Empty(t, logs.lines(t, logUndecided))
	})
}
