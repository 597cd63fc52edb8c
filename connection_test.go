// The data of a connection: what the server keeps of its HTTP request, and the host's data on a
// socket.

package realtime_test

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

type traceID struct{}

// tracing keeps a header of the request.
func tracing(ctx context.Context, r *http.Request) context.Context {
	return context.WithValue(ctx, traceID{}, r.Header.Get("X-Trace"))
}

type seenTokens struct {
	realtime.TokenVerifier
	see func(where string, ctx context.Context)
}

func (s seenTokens) VerifyToken(ctx context.Context, token, namespace string) (realtime.Claims, error) {
	s.see("VerifyToken", ctx)
	return s.TokenVerifier.VerifyToken(ctx, token, namespace)
}

// The values of a connection are in every ctx of that connection, and in no other.
func TestOptions_ConnContext(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var did callRecorder
		see := func(where string, ctx context.Context) {
			did.add(fmt.Sprint(where, " ", ctx.Value(traceID{})))
			require.Nil(t, ctx.Value("another"))
			_, ok := ctx.Deadline()
			require.True(t, ok)
			require.NoError(t, ctx.Err())
		}
		srv := realtimetest.NewServer(t, func(o *realtime.Options) {
			o.ConnContext = tracing
			o.Tokens = seenTokens{o.Tokens, see}
			o.Interceptors = []realtime.Interceptor{func(next realtime.CallFunc) realtime.CallFunc {
				return func(ctx context.Context, r *realtime.CallRequest) (realtime.Raw, error) {
					see("interceptor", ctx)
					return next(ctx, r)
				}
			}}
		})
		ns, err := srv.Realtime.Namespace("/support", realtime.NamespaceOptions{
			Authorize: func(ctx context.Context, _ realtime.AuthorizeRequest) error { see("Authorize", ctx); return nil },
		})
		require.NoError(t, err)
		ns.OnConnect(func(ctx context.Context, _ *realtime.Socket) error { see("OnConnect", ctx); return nil })
		ns.OnDisconnect(func(ctx context.Context, _ *realtime.Socket, _ realtime.DisconnectReason) { see("OnDisconnect", ctx) })
		fareCall.Handle(ns, func(ctx context.Context, _ *realtime.Socket, _ fare) (int, error) { see("handler", ctx); return 1, nil })
		for _, id := range []string{"one", "two"} {
			token := srv.Login("u1", "agent")
			c, err := srv.Dial(t.Context(), "/support", realtimetest.Token(token), realtimetest.Header("X-Trace", id))
			require.NoError(t, err)
			_, err = realtimetest.Call(t.Context(), c, fareCall, fare{"t1"})
			require.NoError(t, err)
			_, err = realtimetest.Call(t.Context(), c, realtime.AuthRefresh, realtime.TokenRefresh{Token: token})
			require.NoError(t, err)
			c.Close()
			synctest.Wait()
			require.Equal(t, []string{
				"VerifyToken " + id, "Authorize " + id, "OnConnect " + id, "interceptor " + id, "handler " + id,
				"interceptor " + id, "VerifyToken " + id, "Authorize " + id, "OnDisconnect " + id,
			}, did.take())
		}
	})
}

// Only the values of the returned context count, not its deadline or cancellation.
func TestOptions_ConnContextOfTheRequest(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, func(o *realtime.Options) {
			o.ConnContext = func(_ context.Context, r *http.Request) context.Context {
				ctx, cancel := context.WithCancel(context.WithValue(r.Context(), traceID{}, "x"))
				cancel()
				return ctx
			}
		})
		fareCall.Handle(srv.Realtime.Drivers(), func(ctx context.Context, _ *realtime.Socket, _ fare) (int, error) {
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			require.Equal(t, "x", ctx.Value(traceID{}))
			<-ctx.Done()
			require.ErrorIs(t, ctx.Err(), context.DeadlineExceeded)
			return 1, nil
		})
		got, err := realtimetest.Call(t.Context(), srv.Driver(t, "d1"), fareCall, fare{"t1"})
		require.NoError(t, err)
		require.Equal(t, 1, got)
	})
}

type nilContext struct{ context.Context }

// If ConnContext fails, the connection is refused with 500 and does not stay in the counts.
func TestOptions_ConnContextFails(t *testing.T) {
	t.Parallel()
	var typed *nilContext
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	for name, c := range map[string]struct {
		f      func() context.Context
		logged string
	}{
		"nil":       {func() context.Context { return nil }, "nil context"},
		"typed nil": {func() context.Context { return typed }, "nil context"},
		"panics":    {func() context.Context { panic("no database") }, "no database"},
		"exits":     {func() context.Context { runtime.Goexit(); return nil }, "Goexit"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				var log logBuffer
				fails := true
				srv := realtimetest.NewServer(t, logTo(&log), func(o *realtime.Options) {
					o.Unlimited, o.Limits.Connections = false, 1
					o.ConnContext = func(ctx context.Context, _ *http.Request) context.Context {
						if fails {
							return c.f()
						}
						return ctx
					}
				})
				for range 3 {
					r, err := srv.HTTPClient().Get(srv.URL() + realtime.Path + "?EIO=4&transport=polling")
					require.NoError(t, err)
					require.NoError(t, r.Body.Close())
					require.Equal(t, http.StatusInternalServerError, r.StatusCode)
				}
				require.Contains(t, log.String(), c.logged)
				require.Contains(t, log.String(), "Options.ConnContext")
				fails = false
				srv.Driver(t, "d1")
			})
		})
	}
}

// RemoteAddr is the address of the client, which trusted proxies forward; Transport is the one in
// use.
func TestSocket_RemoteAddrAndTransport(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		trusted, forwarded, want string
	}{
		"direct":           {"", "", "192.0.2.2"},
		"not trusted":      {"", "203.0.113.7", "192.0.2.2"},
		"behind a proxy":   {"192.0.2.0/24", "198.51.100.1, 203.0.113.7", "203.0.113.7"},
		"IPv6, a proxy":    {"192.0.2.0/24", "2001:db8::1:2:3:4", "2001:db8::1:2:3:4"},
		"a private client": {"192.0.2.0/24", "10.1.2.3", "10.1.2.3"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				srv := realtimetest.NewServer(t, func(o *realtime.Options) {
					if c.trusted != "" {
						o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix(c.trusted)}
					}
				})
				sockets := make(chan *realtime.Socket, 1)
				srv.Realtime.Drivers().OnConnect(func(_ context.Context, s *realtime.Socket) error { sockets <- s; return nil })
				d := srv.Driver(t, "d1", realtimetest.Polling(), realtimetest.Header("X-Forwarded-For", c.forwarded))
				s := <-sockets
				want := netip.MustParseAddr(c.want)
				if name == "direct" || name == "not trusted" {
					require.True(t, s.RemoteAddr().IsValid())
					want = s.RemoteAddr()
					require.NotEqual(t, "203.0.113.7", want.String())
				}
				require.Equal(t, want, s.RemoteAddr())
				require.Equal(t, realtime.TransportPolling, s.Transport())
				require.NoError(t, d.Upgrade(t.Context()))
				synctest.Wait()
				require.Equal(t, realtime.TransportWebSocket, s.Transport())
				d.Close()
				synctest.Wait()
				require.Equal(t, want, s.RemoteAddr(), "of a socket that has closed too")
			})
		})
	}
}

// Authorize reads what the client has sent with its token, and no token.
func TestAuthorizeRequest_Auth(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		auth    func(token string) any
		want    string
		refused realtime.Code
	}{
		"token alone": {auth: func(token string) any { return map[string]any{"token": token} }},
		"a device": {auth: func(token string) any {
			return map[string]any{"token": token, "deviceId": "x1", "app": map[string]any{"version": 3}}
		}, want: `{"deviceId":"x1","app":{"version":3}}`},
		"the most":  {auth: func(token string) any { return map[string]any{"token": token, "a": strings.Repeat("x", 16<<10-8)} }, want: `{"a":"` + strings.Repeat("x", 16<<10-8) + `"}`},
		"too large": {auth: func(token string) any { return map[string]any{"token": token, "a": strings.Repeat("x", 16<<10-7)} }, refused: realtime.CodeInvalidPayload},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				srv := realtimetest.NewServer(t)
				device := realtime.NewSocketKey[string]()
				var asked []realtime.AuthorizeRequest
				ns, err := srv.Realtime.Namespace("/support", realtime.NamespaceOptions{
					Authorize: func(_ context.Context, r realtime.AuthorizeRequest) error {
						asked = append(asked, r)
						if len(asked) == 1 {
							device.Set(r.Socket, string(r.Auth))
						}
						return nil
					},
				})
				require.NoError(t, err)
				fareCall.Handle(ns, func(_ context.Context, s *realtime.Socket, _ fare) (int, error) {
					got, ok := device.Get(s)
					require.True(t, ok)
					return len(got), nil
				})
				token := srv.Login("u1", "agent")
				client, err := srv.Dial(t.Context(), "/support", realtimetest.Auth(c.auth(token)))
				if c.refused != "" {
					require.ErrorContains(t, err, string(c.refused))
					require.Empty(t, asked)
					return
				}
				require.NoError(t, err)
				require.Len(t, asked, 1)
				require.Equal(t, "u1", asked[0].Identity.UserID)
				if c.want == "" {
					require.Nil(t, asked[0].Auth)
				} else {
					require.JSONEq(t, c.want, string(asked[0].Auth))
				}
				n, err := realtimetest.Call(t.Context(), client, fareCall, fare{})
				require.NoError(t, err)
				require.Equal(t, len(asked[0].Auth), n)
				_, err = realtimetest.Call(t.Context(), client, realtime.AuthRefresh, realtime.TokenRefresh{Token: token})
				require.NoError(t, err)
				require.Len(t, asked, 2)
				require.Same(t, asked[0].Socket, asked[1].Socket)
				require.Nil(t, asked[1].Auth)
			})
		})
	}
}

func TestSocketKey(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		one, other := realtime.NewSocketKey[int](), realtime.NewSocketKey[int]()
		failure := realtime.NewSocketKey[error]()
		sockets := make(chan *realtime.Socket, 2)
		left := make(chan int, 2)
		ns := srv.Realtime.Drivers()
		ns.OnConnect(func(_ context.Context, s *realtime.Socket) error {
			_, ok := one.Get(s)
			require.False(t, ok)
			one.Delete(s)
			sockets <- s
			return nil
		})
		ns.OnDisconnect(func(_ context.Context, s *realtime.Socket, _ realtime.DisconnectReason) {
			n, _ := one.Get(s)
			left <- n
		})
		d := srv.Driver(t, "d1")
		a := <-sockets
		srv.Driver(t, "d2")
		b := <-sockets
		one.Set(a, 7)
		failure.Set(a, nil)
		n, ok := one.Get(a)
		require.True(t, ok)
		require.Equal(t, 7, n)
		for _, s := range []*realtime.Socket{a, b} {
			_, ok = other.Get(s)
			require.False(t, ok, "of another key")
		}
		_, ok = one.Get(b)
		require.False(t, ok, "of another socket")
		_, ok = failure.Get(a)
		require.True(t, ok, "a nil that was set is one")
		other.Set(a, 1)
		other.Delete(a)
		_, ok = other.Get(a)
		require.False(t, ok)
		var racing sync.WaitGroup
		for range 4 {
			racing.Go(func() { other.Set(a, 1); other.Get(a); one.Get(a); other.Delete(a) })
		}
		racing.Wait()
		d.Close()
		require.Equal(t, 7, <-left)
	})
}

// The line of a refusal has the cause and the address, and nothing of the token.
func TestRefusal_Logged(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		logs, withLogs := recordLogs(t)
		srv := realtimetest.NewServer(t, withLogs, func(o *realtime.Options) {
			o.Tokens = verboseVerifier{}
			o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
		})
		for _, c := range []struct {
			auth  any
			code  realtime.Code
			cause any
		}{
			{map[string]any{"token": "wrong-issuer-0123456789"}, realtime.CodeInvalidToken, "wrong issuer"},
			{map[string]any{"token": "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1MSJ9.c2ln"}, realtime.CodeInvalidToken, `illegal base64 in "[token]" ([token]), see [token]`},
			{map[string]any{"token": "long" + strings.Repeat(" word", 100)}, realtime.CodeInvalidToken, strings.Repeat("word ", 30) + "..."},
			{map[string]any{"token": "no-exp"}, realtime.CodeInvalidToken, "no exp"},
			{map[string]any{"token": strings.Repeat("x", 9<<10)}, realtime.CodeInvalidToken, "the token is too long"},
			{map[string]any{"token": 7}, realtime.CodeInvalidToken, "auth.token is not a string"},
			{map[string]any{"token": "no-sub"}, realtime.CodeMissingClaims, "sub is missing or not a string"},
			{map[string]any{}, realtime.CodeMissingToken, "auth has no token, and there is no Authorization header"},
		} {
			_, err := srv.Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Auth(c.auth), realtimetest.Header("X-Forwarded-For", "203.0.113.7"))
			require.ErrorContains(t, err, string(c.code))
			lines := logs.lines(t, logRefused)
			line := lines[len(lines)-1]
			require.Equal(t, string(c.code), line["code"])
			require.Equal(t, c.cause, line["cause"])
			require.Equal(t, "203.0.113.7", line["address"])
		}
	})
}

// verboseVerifier refuses tokens with long errors, which quote the token.
type verboseVerifier struct{}

func (verboseVerifier) VerifyToken(_ context.Context, token, _ string) (realtime.Claims, error) {
	switch {
	case token == "no-exp":
		return realtime.Claims{Subject: "u1", SessionID: "s1"}, nil
	case token == "no-sub":
		return realtime.Claims{ExpiresAt: time.Now().Add(time.Hour)}, nil
	case strings.HasPrefix(token, "wrong-issuer"):
		return realtime.Claims{}, fmt.Errorf("%w: wrong issuer", realtime.ErrTokenInvalid)
	case strings.HasPrefix(token, "long"):
		return realtime.Claims{}, fmt.Errorf("%w: %s", realtime.ErrTokenInvalid, strings.Repeat("word ", 100))
	}
	part := strings.Split(token, ".")[1]
	return realtime.Claims{}, fmt.Errorf("%w: illegal base64 in %q (%s), see %s", realtime.ErrTokenInvalid, part, part[2:11], token)
}
