// Calls of the host's code: their limits, and which clients are affected by calls that hang.

package realtime_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// hang is a handler that does not return until release is closed.
func hang(inside *atomic.Int64, release chan struct{}) func(context.Context, *realtime.Socket, realtime.Raw) (realtime.Raw, error) {
	return func(context.Context, *realtime.Socket, realtime.Raw) (realtime.Raw, error) {
		inside.Add(1)
		defer inside.Add(-1)
		<-release
		return realtime.Raw{}, nil
	}
}

// Beyond the limits an event is unavailable, at once, and Trace says which limit.
func TestHandlers_Bounded(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var limited []realtime.Limit
		srv := realtimetest.NewServer(t, func(o *realtime.Options) {
			o.Limits.Handlers, o.Limits.HandlersPerEvent = 5, 3
			o.Trace = &realtime.Trace{Limited: func(_ context.Context, i realtime.LimitInfo) { limited = append(limited, i.Limit) }}
		})
		var inside atomic.Int64
		release := make(chan struct{})
		free := sync.OnceFunc(func() { close(release) })
		defer free()
		drivers := srv.Realtime.Drivers()
		drivers.HandleRaw("one", hang(&inside, release))
		drivers.HandleRaw("other", hang(&inside, release))
		drivers.HandleRaw("quick", func(context.Context, *realtime.Socket, realtime.Raw) (realtime.Raw, error) {
			return realtime.Raw{}, nil
		})
		client := func(n int) *realtimetest.Client { return srv.Driver(t, fmt.Sprint("d", n)) }
		ack := func(n int, event string) string {
			got, err := client(n).CallRaw(t.Context(), event, realtime.Raw{})
			require.NoError(t, err)
			if len(got.Args) == 0 {
				return ""
			}
			return string(got.Args[0])
		}
		const unavailable = `{"ok":false,"error":{"code":"unavailable","message":"not available, try again"}}`
		for n := range 3 {
			require.NoError(t, client(n).Emit("one"))
		}
		synctest.Wait()
		require.Equal(t, unavailable, ack(3, "one"))
		require.Empty(t, ack(3, "quick"), "others have room")
		for n := range 2 {
			require.NoError(t, client(4+n).Emit("other"))
		}
		synctest.Wait()
		require.Equal(t, unavailable, ack(6, "other"))
		require.Equal(t, unavailable, ack(6, "quick"))
		require.EqualValues(t, 5, inside.Load())
		synctest.Wait()
		require.Equal(t, []realtime.Limit{realtime.LimitHandlersPerEvent, realtime.LimitHandlers, realtime.LimitHandlers}, limited)
		free()
		synctest.Wait()
		require.Empty(t, ack(6, "quick"))
	})
}

// The event of a handler that ends its goroutine, as t.FailNow does, is acknowledged, and so is
// the next event of the connection, over TCP.
func TestHandlers_GoexitOverTCP(t *testing.T) {
	t.Parallel()
	o := realtime.Options{Users: &realtimetest.Users{}, Sessions: &realtimetest.Sessions{}, Tokens: &realtimetest.Tokens{}}
	users, sessions, tokens := o.Users.(*realtimetest.Users), o.Sessions.(*realtimetest.Sessions), o.Tokens.(*realtimetest.Tokens)
	o.Unlimited = true
	o.Logger = discarded()
	rt, err := realtime.New(o)
	require.NoError(t, err)
	ts := httptest.NewServer(rt)
	defer ts.Close()
	defer func() { require.NoError(t, rt.Shutdown(context.Background())) }()
	rt.Drivers().HandleRaw("exit", func(context.Context, *realtime.Socket, realtime.Raw) (realtime.Raw, error) {
		runtime.Goexit()
		return realtime.Raw{}, nil
	})
	rt.Drivers().HandleRaw("quick", func(context.Context, *realtime.Socket, realtime.Raw) (realtime.Raw, error) {
		return realtime.Raw{}, nil
	})
	users.Set(realtime.User{ID: "d1", Type: realtime.UserDriver, Active: true})
	sessions.Set(realtime.Session{ID: "s1", UserID: "d1"})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := realtimetest.Dial(ctx, ts.URL, realtime.NamespaceDrivers, realtimetest.Token(tokens.Mint("d1", "s1", time.Hour)))
	require.NoError(t, err)
	for range 4 * runtime.GOMAXPROCS(0) {
		ack, err := c.CallRaw(ctx, "exit", realtime.Raw{})
		require.NoError(t, err)
		require.Contains(t, string(ack.Args[0]), "internal")
		_, err = c.CallRaw(ctx, "quick", realtime.Raw{})
		require.NoError(t, err)
	}
	c.Close()
}

// The number of OnDisconnect calls that hang is limited, and Shutdown returns.
func TestOnDisconnect_Bounded(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		_, withLogs := recordLogs(t)
		srv := realtimetest.NewServer(t, withLogs)
		var inside atomic.Int64
		release := make(chan struct{})
		srv.Realtime.Drivers().OnDisconnect(func(context.Context, *realtime.Socket, realtime.DisconnectReason) { inside.Add(1); <-release })
		for n := range 700 {
			srv.Driver(t, fmt.Sprint("d", n)).Drop()
		}
		time.Sleep(5 * time.Minute)
		require.LessOrEqual(t, inside.Load(), int64(512))
		require.GreaterOrEqual(t, inside.Load(), int64(256))
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		begun := time.Now()
		require.ErrorContains(t, srv.Realtime.Shutdown(ctx), "OnDisconnect of /drivers still runs")
		require.LessOrEqual(t, time.Since(begun), 4*time.Second)
		close(release)
	})
}

// A ban from another node does not wait for a listener that hangs, or for the events in its
// queue.
func TestOnServerEmit_HoldsUpNoBan(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		nodes := realtimetest.NewCluster(t, 2)
		a, b := nodes[0], nodes[1]
		release := make(chan struct{})
		defer close(release)
		var heard atomic.Int64
		b.Realtime.Drivers().OnServerEmit("news", func(realtime.Raw) { heard.Add(1); <-release })
		b.Realtime.Drivers().OnServerEmit("other", func(realtime.Raw) { heard.Add(100) })
		c := b.Driver(t, "d1")
		for range 100 {
			require.NoError(t, a.Realtime.Drivers().ServerEmit(t.Context(), "news"))
		}
		require.NoError(t, a.Realtime.Drivers().ServerEmit(t.Context(), "other"))
		begun := time.Now()
		require.NoError(t, a.Realtime.DisconnectUser(t.Context(), "d1", "banned"))
		synctest.Wait()
		require.False(t, c.Connected())
		require.Zero(t, time.Since(begun))
		require.EqualValues(t, 1, heard.Load())
	})
}

// Listeners of a namespace are called in the order of the events. One that panics or hangs
// delays the others only for a limited time.
func TestOnServerEmit_Order(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		_, withLogs := recordLogs(t)
		nodes := realtimetest.NewCluster(t, 2, withLogs)
		release := make(chan struct{})
		defer close(release)
		var mu sync.Mutex
		var heard, want []string
		nodes[1].Realtime.Drivers().OnServerEmit("news", func(args realtime.Raw) {
			mu.Lock()
			heard = append(heard, string(args.Args[0]))
			mu.Unlock()
			switch string(args.Args[0]) {
			case "3":
				panic("at 3")
			case "5":
				runtime.Goexit()
			case "7":
				<-release
			}
		})
		for n := range 10 {
			want = append(want, fmt.Sprint(n))
			require.NoError(t, nodes[0].Realtime.Drivers().ServerEmit(t.Context(), "news", n))
		}
		time.Sleep(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		require.Equal(t, want, heard)
	})
}

// hangingVerifier never returns for the token "unknown kid".
type hangingVerifier struct {
	realtime.TokenVerifier
	asked   atomic.Int64
	release chan struct{}
}

func (k *hangingVerifier) VerifyToken(ctx context.Context, token, ns string) (realtime.Claims, error) {
	if token == "unknown kid" {
		k.asked.Add(1)
		<-k.release
	}
	return k.TokenVerifier.VerifyToken(ctx, token, ns)
}

// Tokens with an unknown key, from one address, do not prevent other clients from logging in.
func TestVerify_BoundedBySource(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		keys := &hangingVerifier{release: make(chan struct{})}
		defer close(keys.release)
		srv := realtimetest.NewServer(t, func(o *realtime.Options) {
			keys.TokenVerifier = o.Tokens
			o.Tokens = keys
			o.Limits.RepoConcurrency = 4 // 64 tokens at once
			o.Compat.RefuseUnavailable = true
			o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
			o.Logger = discarded()
		})
		dial := func(address, token string) error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			_, err := srv.Dial(ctx, realtime.NamespaceDrivers, realtimetest.Token(token), realtimetest.Header("X-Forwarded-For", address))
			return err
		}
		var attackers sync.WaitGroup
		for range 300 {
			attackers.Go(func() { require.ErrorContains(t, dial("203.0.113.9", "unknown kid"), "unavailable") })
		}
		attackers.Wait()
		require.LessOrEqual(t, keys.asked.Load(), int64(4), "of one address")
		require.NoError(t, dial("198.51.100.7", srv.Login("d1", realtime.UserDriver)))
	})
}

// Clients of one /48, or of one /24, cannot prevent others from logging in, whichever of the
// host's functions they make hang with arguments that they choose.
func TestHostCalls_BoundedBySite(t *testing.T) {
	for site, peer := range map[string]func(i int) string{
		"/48": func(i int) string { return fmt.Sprintf("2001:db8:1:%x::1", i) },
		"/24": func(i int) string { return fmt.Sprintf("203.0.113.%d", i) },
	} {
		for function, hangs := range map[string]func(o *realtime.Options, hang func(evil bool)){
			"VerifyToken": func(o *realtime.Options, hang func(evil bool)) { o.Tokens = hangingTokens{o.Tokens, hang} },
			"Authorize": func(o *realtime.Options, hang func(evil bool)) {
				o.Namespaces = map[string]realtime.NamespaceOptions{"/support": {Authorize: func(_ context.Context, r realtime.AuthorizeRequest) error {
					hang(strings.Contains(string(r.Auth), "evil"))
					return nil
				}}}
			},
			"ConnContext": func(o *realtime.Options, hang func(evil bool)) {
				o.ConnContext = func(ctx context.Context, r *http.Request) context.Context {
					hang(r.Header.Get("Authorization") == "Bearer evil")
					return ctx
				}
			},
		} {
			t.Run(function+" "+site, func(t *testing.T) {
				inBubble(t, func(t *testing.T) {
					release := make(chan struct{})
					defer close(release)
					var hung atomic.Int64
					srv := realtimetest.NewServer(t, func(o *realtime.Options) {
						hangs(o, func(evil bool) {
							if evil {
								hung.Add(1)
								<-release
							}
						})
						o.Limits.RepoConcurrency = 4 // 64 calls at once
						o.Compat.RefuseUnavailable = true
						o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
						o.Logger = discarded()
					})
					if srv.Realtime.Of("/support") == nil {
						addNamespace(t, srv, "/support", realtime.NamespaceOptions{})
					}
					dial := func(address string, auth map[string]string, more ...realtimetest.Option) error {
						ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
						defer cancel()
						auth["token"] = cmp.Or(auth["token"], srv.Login("d1", realtime.UserDriver))
						_, err := srv.Dial(ctx, "/support", append(more, realtimetest.Auth(auth), realtimetest.Header("X-Forwarded-For", address))...)
						return err
					}
					var attackers sync.WaitGroup
					for i := range 100 {
						for range 2 {
							attackers.Go(func() {
								var err error
								switch function {
								case "VerifyToken":
									err = dial(peer(i), map[string]string{"token": "evil"})
								case "Authorize":
									err = dial(peer(i), map[string]string{"as": "evil"})
								default:
									err = dial(peer(i), map[string]string{}, realtimetest.Header("Authorization", "Bearer evil"))
								}
								require.Error(t, err)
							})
						}
					}
					synctest.Wait()
					require.EqualValues(t, 8, hung.Load(), "an eighth")
					require.NoError(t, dial("198.51.100.7", map[string]string{}), "while the calls run")
					attackers.Wait()
					require.EqualValues(t, 8, hung.Load())
					require.NoError(t, dial("198.51.100.7", map[string]string{}), "while they are abandoned")
				})
			})
		}
	}
}

// A client that is logged in chooses a token too: that of auth:refresh.
func TestRefresh_BoundedBySource(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		keys := &hangingVerifier{release: make(chan struct{})}
		defer close(keys.release)
		srv := realtimetest.NewServer(t, func(o *realtime.Options) {
			keys.TokenVerifier = o.Tokens
			o.Tokens = keys
			o.Limits.RepoConcurrency = 4 // 64 tokens at once, 2 of one address
			o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}
			o.Logger = discarded()
		})
		var clients []*realtimetest.Client
		for i := range 5 {
			c, err := srv.Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Header("X-Forwarded-For", "203.0.113.9"),
				realtimetest.Token(srv.Login(fmt.Sprint("d", i), realtime.UserDriver)))
			require.NoError(t, err)
			clients = append(clients, c)
		}
		var refreshes sync.WaitGroup
		for _, c := range clients {
			refreshes.Go(func() {
				_, err := realtimetest.Call(t.Context(), c, realtime.AuthRefresh, realtime.TokenRefresh{Token: "unknown kid"})
				require.Error(t, err)
			})
		}
		refreshes.Wait()
		require.EqualValues(t, 2, keys.asked.Load())
	})
}

type hangingTokens struct {
	realtime.TokenVerifier
	hang func(evil bool)
}

func (h hangingTokens) VerifyToken(ctx context.Context, token, ns string) (realtime.Claims, error) {
	h.hang(token == "evil")
	return h.TokenVerifier.VerifyToken(ctx, token, ns)
}

// abandonedHost verifies a token until ctx ends, and counts the calls of FindUser.
type abandonedHost struct {
	realtime.TokenVerifier
	realtime.UserRepo
	begun, ended chan struct{}
	users        atomic.Int64
}

func (a *abandonedHost) VerifyToken(ctx context.Context, token, ns string) (realtime.Claims, error) {
	close(a.begun)
	<-ctx.Done()
	close(a.ended)
	return a.TokenVerifier.VerifyToken(context.WithoutCancel(ctx), token, ns)
}

func (a *abandonedHost) FindUser(ctx context.Context, id string) (realtime.User, error) {
	a.users.Add(1)
	return a.UserRepo.FindUser(ctx, id)
}

// The calls of the host for a client are canceled when its connection closes, and no more follow.
func TestHandshake_QuestionsEndWithTheConnection(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		host := &abandonedHost{begun: make(chan struct{}), ended: make(chan struct{})}
		srv := realtimetest.NewServer(t, func(o *realtime.Options) {
			host.TokenVerifier, host.UserRepo = o.Tokens, o.Users
			o.Tokens, o.Users = host, host
			o.Timeouts.Repo = time.Hour
		})
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-host.begun
			time.Sleep(time.Second)
			cancel()
		}()
		begun := time.Now()
		_, err := srv.Dial(ctx, realtime.NamespaceDrivers, realtimetest.Token(srv.Login("d1", realtime.UserDriver)))
		require.Error(t, err)
		<-host.ended
		require.Less(t, time.Since(begun), time.Minute)
		synctest.Wait()
		require.Zero(t, host.users.Load())
	})
}

// Shutdown ends with its ctx, whatever handlers do, and so does a second call.
func TestShutdown_HandlersThatHang(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Logger = discarded() })
		var inside atomic.Int64
		release := make(chan struct{})
		srv.Realtime.Drivers().HandleRaw("hang", hang(&inside, release))
		srv.Realtime.Passengers().OnConnect(func(context.Context, *realtime.Socket) error { <-release; return nil })
		require.NoError(t, srv.Driver(t, "d1").Emit("hang"))
		srv.Passenger(t, "p1")
		synctest.Wait()
		require.EqualValues(t, 1, inside.Load())
		var calls sync.WaitGroup
		for _, limit := range []time.Duration{3 * time.Second, time.Second} {
			calls.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				defer cancel()
				begun := time.Now()
				err := srv.Realtime.Shutdown(ctx)
				require.ErrorContains(t, err, "realtime: shutdown: ")
				require.LessOrEqual(t, time.Since(begun), limit+500*time.Millisecond)
			})
			synctest.Wait()
		}
		calls.Wait()
		close(release)
	})
}

func TestNamespace_AnonymousWithAuthorize(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		_, err := srv.Realtime.Namespace("/support", realtime.NamespaceOptions{
			Anonymous: true, Authorize: func(context.Context, realtime.AuthorizeRequest) error { return errors.New("never asked") },
		})
		require.ErrorContains(t, err, "leave out one of the two")
		_, err = srv.Realtime.Namespace("/support", realtime.NamespaceOptions{Anonymous: true})
		require.NoError(t, err, "it was not registered")
	})
}

// In a namespace that takes every type of user a token of the same user with another
// type does not renew a socket.
func TestRefresh_OtherUserType(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		_, err := srv.Realtime.Namespace("/support", realtime.NamespaceOptions{})
		require.NoError(t, err)
		c, err := srv.Dial(t.Context(), "/support", realtimetest.Token(srv.Login("u1", realtime.UserPassenger)))
		require.NoError(t, err)
		refresh := func(token string) error {
			_, err := realtimetest.Call(t.Context(), c, realtime.AuthRefresh, realtime.TokenRefresh{Token: token})
			return err
		}
		require.NoError(t, refresh(srv.Login("u1", realtime.UserPassenger)))
		srv.Users.Set(realtime.User{ID: "u1", Type: realtime.UserDriver, Active: true})
		require.Equal(t, realtime.Errorf(realtime.CodeForbidden, "the token belongs to another user"), refresh(srv.Login("u1", realtime.UserDriver)))
	})
}

// refreshingSessions calls during between reading a session and returning it.
type refreshingSessions struct {
	realtime.SessionRepo
	during atomic.Pointer[func()]
}

func (r *refreshingSessions) FindSession(ctx context.Context, sid string) (realtime.Session, error) {
	s, err := r.SessionRepo.FindSession(ctx, sid)
	if f := r.during.Swap(nil); f != nil {
		(*f)()
	}
	return s, err
}

// A sweep that has read a session before it was prolonged does not bring the socket's
// end forward again.
func TestSweep_DoesNotUndoARefresh(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		repo := &refreshingSessions{}
		srv := realtimetest.NewServer(t, func(o *realtime.Options) {
			repo.SessionRepo = o.Sessions
			o.Sessions = repo
			o.Timeouts.SweepInterval = time.Minute
		})
		token := srv.Login("d1", realtime.UserDriver)
		row := realtime.Session{ID: realtimetest.SessionID("d1"), UserID: "d1", AccessTokenExpiresAt: time.Now().Add(10 * time.Minute)}
		srv.Sessions.Set(row)
		c, err := srv.Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Token(token))
		require.NoError(t, err)
		shortened := row
		shortened.AccessTokenExpiresAt = time.Now().Add(5 * time.Minute)
		srv.Sessions.Set(shortened)
		refresh := func() {
			row.AccessTokenExpiresAt = time.Now().Add(30 * time.Minute)
			srv.Sessions.Set(row)
			_, err := realtimetest.Call(t.Context(), c, realtime.AuthRefresh, realtime.TokenRefresh{Token: token})
			require.NoError(t, err)
		}
		repo.during.Store(&refresh)
		time.Sleep(20 * time.Minute)
		require.True(t, c.Connected(), "it was prolonged while the sweep read")
		time.Sleep(20 * time.Minute)
		require.False(t, c.Connected())
	})
}

// New returns an error for a nil pointer in an interface; otherwise the first call would panic.
func TestOptions_TypedNil(t *testing.T) {
	t.Parallel()
	var users *realtimetest.Users
	var trips *realtimetest.Trips
	_, err := realtime.New(realtime.Options{Tokens: &realtimetest.Tokens{}, Users: users, Sessions: &realtimetest.Sessions{}, Trips: trips})
	require.ErrorContains(t, err, "Options.Users is a nil *realtimetest.Users")
	require.ErrorContains(t, err, "Options.Trips is a nil *realtimetest.Trips")
}

// Registering nil panics, and earlier registrations stay.
func TestHooks_Nil(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		drivers := srv.Realtime.Drivers()
		call := realtime.NewCall[realtime.None, string]("call")
		call.Handle(drivers, func(context.Context, *realtime.Socket, realtime.None) (string, error) { return "kept", nil })
		for _, register := range []func(){
			func() { drivers.OnConnect(nil) }, func() { drivers.OnDisconnect(nil) }, func() { drivers.OnServerEmit("news", nil) },
			func() { drivers.OnServerAsk("news", nil) },
			func() { drivers.HandleRaw("call", nil) }, func() { call.Handle(drivers, nil) },
		} {
			require.Panics(t, register)
		}
		require.Contains(t, ackOf(t, srv.Driver(t, "d1"), "call", "{}"), "kept")
	})
}

func discarded() *slog.Logger { return slog.New(slog.DiscardHandler) }

// The number of running calls of a handler that never returns is limited.
func TestNamespace_AbandonedHandlersAreBounded(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Limits.HandlersPerEvent = 256 })
		release := make(chan struct{})
		var calls atomic.Int64
		drivers := srv.Realtime.Drivers()
		drivers.HandleRaw("work", func(context.Context, *realtime.Socket, realtime.Raw) (realtime.Raw, error) {
			calls.Add(1)
			<-release
			return realtime.Raw{}, nil
		})
		var clients []*realtimetest.Client
		for i := range 256 {
			clients = append(clients, srv.Driver(t, fmt.Sprint("d", i)))
			require.NoError(t, clients[i].Emit("work"))
		}
		for _, c := range clients { // at twice the deadline
			c.Within(time.Minute).Disconnected(t)
		}
		last := srv.Driver(t, "last")
		require.Contains(t, ackOf(t, last, "work"), `"unavailable"`)
		_, err := realtimetest.Call(t.Context(), last, realtime.DriverStatusUpdate, realtime.StatusUpdate{IsOnline: new(true)})
		require.NoError(t, err, "other events are handled")
		require.EqualValues(t, 256, calls.Load())
		close(release)
		_, err = srv.Driver(t, "later").CallRaw(t.Context(), "work", realtime.Raw{})
		require.NoError(t, err)
	})
}

// An OnConnect that never returns is abandoned like a handler.
func TestNamespace_OnConnectThatNeverReturns(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		release := make(chan struct{})
		gone := make(chan string, 2)
		srv.Realtime.Drivers().OnConnect(func(context.Context, *realtime.Socket) error { <-release; return nil })
		srv.Realtime.Drivers().OnDisconnect(func(_ context.Context, _ *realtime.Socket, reason realtime.DisconnectReason) { gone <- string(reason) })
		driver := srv.Driver(t, "d1")
		require.NoError(t, driver.Emit("work"))
		require.Equal(t, realtimetest.ReasonTransportClose, driver.Within(time.Minute).Disconnected(t))
		require.Equal(t, "forced close", <-gone) // which does not wait
		close(release)
		synctest.Wait()
		require.Empty(t, gone, "once")
	})
}

// hangingWatcher is an adapter whose RoomChanged hangs until it is released.
type hangingWatcher struct {
	*realtimetest.HubNode
	released chan struct{}
}

func (d hangingWatcher) RoomChanged(namespace, room string) {
	<-d.released
	d.HubNode.RoomChanged(namespace, room)
}

// While RoomChanged hangs, it is not called for other rooms. It is called for them once it
// returns: otherwise the adapter would not receive messages for those rooms.
func TestRoomWatcher_CalledForEachRoomInTheEnd(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		watcher := hangingWatcher{realtimetest.NewHub().Node(), make(chan struct{})}
		srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Cluster.Adapter = watcher })
		var want []string
		var clients []*realtimetest.Client
		for n := range 50 {
			clients = append(clients, srv.Driver(t, fmt.Sprintf("d%02d", n)))
		}
		for n, c := range clients {
			if n%2 == 0 {
				c.Close()
				continue
			}
			want = append(want, realtime.DriverRoom(fmt.Sprintf("d%02d", n)).String())
		}
		time.Sleep(time.Minute)
		require.Empty(t, watcher.Rooms(realtime.NamespaceDrivers))
		close(watcher.released)
		time.Sleep(3 * time.Second)
		got := slices.DeleteFunc(watcher.Rooms(realtime.NamespaceDrivers), func(room string) bool { return !strings.HasPrefix(room, "driver:") })
		require.Equal(t, want, got)
	})
}
