// Interceptors: their order, what they see, and what they may do.

package realtime_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

type fare struct {
	Trip string `json:"trip"`
}

var (
	fareCall = realtime.NewCall[fare, int]("fare")
	rawCall  = "raw"
)

// around returns an interceptor that notes when it is entered and left, and with which
// code.
func (s *callRecorder) around(name string) realtime.Interceptor {
	return func(next realtime.CallFunc) realtime.CallFunc {
		s.add("wrap " + name)
		return func(ctx context.Context, r *realtime.CallRequest) (realtime.Raw, error) {
			s.add(name)
			ack, err := next(ctx, r)
			s.add(fmt.Sprint("/", name, realtime.CodeOf(err)))
			return ack, err
		}
	}
}

func rawAck(t *testing.T, c *realtimetest.Client, event, arg string) string {
	t.Helper()
	ack, err := c.CallRaw(t.Context(), event, realtime.Raw{Args: []json.RawMessage{json.RawMessage(arg)}})
	require.NoError(t, err)
	require.Len(t, ack.Args, 1)
	return string(ack.Args[0])
}

func TestInterceptor_Order(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var did callRecorder
		srv := realtimetest.NewServer(t, func(o *realtime.Options) {
			o.Interceptors = []realtime.Interceptor{did.around("s1"), did.around("s2")}
			o.Namespaces = map[string]realtime.NamespaceOptions{
				"/support": {Anonymous: true, Interceptors: []realtime.Interceptor{did.around("n1"), did.around("n2")}},
			}
		})
		require.ElementsMatch(t, []string{ // a namespace each
			"wrap s1", "wrap s2", "wrap s1", "wrap s2", "wrap s1", "wrap s2", "wrap s1", "wrap s2", "wrap n1", "wrap n2",
		}, did.take())
		ns := srv.Realtime.Of("/support")
		ns.Use(did.around("u1"), did.around("u2"))
		require.Equal(t, []string{"wrap u1", "wrap u2"}, did.take(), "once each, by Use")
		fareCall.Handle(ns, func(context.Context, *realtime.Socket, fare) (int, error) { did.add("handler"); return 7, nil })
		ns.HandleRaw(rawCall, func(context.Context, *realtime.Socket, realtime.Raw) (realtime.Raw, error) {
			did.add("handler")
			return realtime.Raw{Args: []json.RawMessage{json.RawMessage("7")}}, nil
		})
		c, err := srv.Dial(t.Context(), "/support")
		require.NoError(t, err)
		want := []string{"s1", "s2", "n1", "n2", "u1", "u2", "handler", "/u2", "/u1", "/n2", "/n1", "/s2", "/s1"}
		for range 2 {
			require.JSONEq(t, `{"ok":true,"data":7}`, rawAck(t, c, "fare", `{"trip":"t1"}`))
			require.Equal(t, want, did.take())
			require.JSONEq(t, `7`, rawAck(t, c, rawCall, `1`))
			require.Equal(t, want, did.take())
		}
		ns.Use(did.around("late"))
		did.take()
		rawAck(t, c, rawCall, `1`)
		require.Equal(t, []string{"s1", "s2", "n1", "n2", "u1", "u2", "late", "handler"}, did.take()[:8])
		require.PanicsWithValue(t, "realtime: an interceptor is nil", func() { ns.Use(did.around("beside a nil"), nil) })
		did.take()
		require.Contains(t, rawAck(t, c, "nobody's", `1`), "not_found")
		require.Empty(t, did.take(), "of what nobody handles they hear nothing")
		require.NoError(t, c.Emit("fare", fare{"t1"}))
		synctest.Wait()
		require.Len(t, did.take(), 15, "without an ack too, and without the interceptor beside the nil one")
	})
}

// The library's own events pass the interceptors, and what they lead to is emitted
// before the ack.
func TestInterceptor_BuiltinCalls(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var did callRecorder
		srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Interceptors = []realtime.Interceptor{did.around("s")} })
		d := srv.Driver(t, "d1")
		did.take()
		_, err := realtimetest.Call(t.Context(), d, realtime.DriverStatusUpdate, realtime.StatusUpdate{IsOnline: new(true)})
		require.NoError(t, err)
		require.Equal(t, []string{"s", "/s"}, did.take())
		realtimetest.Expect(t, d, realtime.EventDriverAvailability)
		_, err = realtimetest.Call(t.Context(), d, realtime.AuthRefresh, realtime.TokenRefresh{Token: "forged"})
		require.Error(t, err)
		require.Equal(t, []string{"s", "/sunauthorized"}, did.take())
	})
}

// If an interceptor does not call the handler, the client gets the interceptor's ack or error.
func TestInterceptor_ShortCircuit(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		do     func() (realtime.Raw, error)
		ack    string
		logged string
	}{
		"refuses": {func() (realtime.Raw, error) {
			return realtime.Raw{}, realtime.Errorf(realtime.CodeForbidden, "not yours")
		}, `{"ok":false,"error":{"code":"forbidden","message":"not yours"}}`, ""},
		"fails":   {func() (realtime.Raw, error) { return realtime.Raw{}, errors.New("disk full") }, `{"ok":false,"error":{"code":"internal","message":"internal error"}}`, "disk full"},
		"panics":  {func() (realtime.Raw, error) { panic("nil map") }, `{"ok":false,"error":{"code":"internal","message":"internal error"}}`, "panic: nil map"},
		"exits":   {func() (realtime.Raw, error) { runtime.Goexit(); return realtime.Raw{}, nil }, `{"ok":false,"error":{"code":"internal","message":"internal error"}}`, "runtime.Goexit"},
		"answers": {func() (realtime.Raw, error) { return fareCall.Result(9) }, `{"ok":true,"data":9}`, ""},
		"answers with no JSON": {func() (realtime.Raw, error) { return realtime.Raw{Args: []json.RawMessage{[]byte(`{"a":`)}}, nil },
			`{"ok":false,"error":{"code":"internal","message":"internal error"}}`, "argument 0: json: invalid syntax"},
		"deadline": {func() (realtime.Raw, error) { return realtime.Raw{}, context.DeadlineExceeded }, `{"ok":false,"error":{"code":"unavailable","message":"not available, try again"}}`, "deadline"},
	} {
		for _, event := range []string{"fare", rawCall} {
			t.Run(name+" "+event, func(t *testing.T) {
				inBubble(t, func(t *testing.T) {
					var log logBuffer
					var did callRecorder
					srv := realtimetest.NewServer(t, logTo(&log))
					ns := srv.Realtime.Drivers()
					ns.Use(did.around("outer"), func(realtime.CallFunc) realtime.CallFunc {
						return func(context.Context, *realtime.CallRequest) (realtime.Raw, error) { return c.do() }
					})
					fareCall.Handle(ns, func(context.Context, *realtime.Socket, fare) (int, error) { did.add("handler"); return 7, nil })
					ns.HandleRaw(rawCall, func(context.Context, *realtime.Socket, realtime.Raw) (realtime.Raw, error) {
						did.add("handler")
						return realtime.Raw{}, nil
					})
					d := srv.Driver(t, "d1")
					require.JSONEq(t, c.ack, rawAck(t, d, event, `{"trip":"t1"}`))
					require.NotContains(t, did.take(), "handler")
					if c.logged != "" {
						require.Contains(t, log.String(), c.logged)
					}
					require.True(t, d.Connected())
				})
			})
		}
	}
}

// The error that a handler returns is seen as it is, with the code that the client
// gets; a panic too.
func TestInterceptor_SeesTheError(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var log logBuffer
		broken := errors.New("disk full")
		var saw error
		var code realtime.Code
		srv := realtimetest.NewServer(t, logTo(&log), func(o *realtime.Options) {
			o.Interceptors = []realtime.Interceptor{func(next realtime.CallFunc) realtime.CallFunc {
				return func(ctx context.Context, r *realtime.CallRequest) (realtime.Raw, error) {
					ack, err := next(ctx, r)
					saw, code = err, realtime.CodeOf(err)
					return ack, err
				}
			}}
		})
		ns := srv.Realtime.Drivers()
		handle := func(event string, f func() error) {
			ns.HandleRaw(event, func(context.Context, *realtime.Socket, realtime.Raw) (realtime.Raw, error) {
				return realtime.Raw{}, f()
			})
		}
		handle("fails", func() error { return fmt.Errorf("saving: %w", broken) })
		handle("refuses", func() error { return fmt.Errorf("as ever: %w", realtime.Errorf(realtime.CodeConflict, "taken")) })
		handle("panics", func() error { panic("nil map") })
		handle("unavailable", func() error { return realtime.ErrUnavailable })
		handle("passes", func() error { return nil })
		fareCall.Handle(ns, func(context.Context, *realtime.Socket, fare) (int, error) { return 0, nil })
		d := srv.Driver(t, "d1")
		for event, want := range map[string]realtime.Code{
			"fails": realtime.CodeInternal, "refuses": realtime.CodeConflict, "panics": realtime.CodeInternal, "unavailable": realtime.CodeUnavailable, "fare": realtime.CodeInvalidPayload,
		} {
			require.Contains(t, rawAck(t, d, event, `7`), want)
			require.Equal(t, want, code, event)
			switch event {
			case "fails":
				require.ErrorIs(t, saw, broken)
			case "panics":
				require.ErrorContains(t, saw, "nil map")
			}
		}
		_, err := d.CallRaw(t.Context(), "passes", realtime.Raw{})
		require.NoError(t, err)
		require.NoError(t, saw)
		require.Empty(t, code)
	})
}

// A request has the socket, the event and its arguments; a ctx that the interceptor derives
// reaches the handler.
func TestCallRequest(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		type key struct{}
		srv := realtimetest.NewServer(t)
		ns := srv.Realtime.Drivers()
		requests := 0
		ns.Use(func(next realtime.CallFunc) realtime.CallFunc {
			return func(ctx context.Context, r *realtime.CallRequest) (realtime.Raw, error) {
				requests++
				require.Equal(t, "d1", r.Socket().Identity().UserID)
				require.Same(t, ns, r.Namespace())
				require.Equal(t, "fare", r.Event())
				require.JSONEq(t, `{"trip":"t1"}`, string(r.Args().Args[0]))
				in, err := fareCall.Input(r)
				require.NoError(t, err)
				require.Equal(t, fare{"t1"}, in)
				_, err = realtime.NewCall[int, int]("fare").Input(r)
				require.Equal(t, realtime.CodeInvalidPayload, realtime.CodeOf(err))
				require.Equal(t, requests == 1, r.WantsAck())
				return next(context.WithValue(ctx, key{}, "seen"), r)
			}
		})
		fareCall.Handle(ns, func(ctx context.Context, _ *realtime.Socket, _ fare) (int, error) {
			require.Equal(t, "seen", ctx.Value(key{}))
			deadline, _ := ctx.Deadline()
			require.Equal(t, 10*time.Second, time.Until(deadline))
			return 1, nil
		})
		d := srv.Driver(t, "d1")
		require.JSONEq(t, `{"ok":true,"data":1}`, rawAck(t, d, "fare", `{"trip":"t1"}`))
		require.NoError(t, d.Emit("fare", fare{"t1"}))
		synctest.Wait()
		require.Equal(t, 2, requests)
	})
}

// An interceptor that hangs is abandoned like a handler.
func TestInterceptor_Abandoned(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var log logBuffer
		release := make(chan struct{})
		srv := realtimetest.NewServer(t, logTo(&log))
		ns := srv.Realtime.Drivers()
		ns.Use(func(next realtime.CallFunc) realtime.CallFunc {
			return func(ctx context.Context, r *realtime.CallRequest) (realtime.Raw, error) {
				<-release
				return next(ctx, r)
			}
		})
		fareCall.Handle(ns, func(context.Context, *realtime.Socket, fare) (int, error) { return 1, nil })
		d := srv.Driver(t, "d1").Within(time.Minute)
		require.Contains(t, rawAck(t, d, "fare", `{}`), realtime.CodeUnavailable)
		require.Equal(t, realtimetest.ReasonTransportClose, d.Disconnected(t))
		require.Contains(t, log.String(), "handler does not return")
		close(release)
	})
}

func TestInterceptor_Mistakes(t *testing.T) {
	t.Parallel()
	var none realtime.Interceptor
	returnsNil := func(realtime.CallFunc) realtime.CallFunc { return nil }
	panics := func(realtime.CallFunc) realtime.CallFunc { panic("no database") }
	base := realtime.Options{Tokens: &realtimetest.Tokens{}, Users: &realtimetest.Users{}, Sessions: &realtimetest.Sessions{}}
	for _, c := range []struct {
		i    realtime.Interceptor
		want string
	}{{none, "nil"}, {returnsNil, "returned nil"}, {panics, "no database"}} {
		o := base
		o.Interceptors = []realtime.Interceptor{c.i}
		_, err := realtime.New(o)
		require.ErrorContains(t, err, c.want)
		require.ErrorContains(t, err, "Interceptors")
		o = base
		o.Namespaces = map[string]realtime.NamespaceOptions{"/support": {Interceptors: []realtime.Interceptor{c.i}}}
		_, err = realtime.New(o)
		require.ErrorContains(t, err, c.want)
		rt, err := realtime.New(base)
		require.NoError(t, err)
		_, err = rt.Namespace("/support", o.Namespaces["/support"])
		require.ErrorContains(t, err, c.want)
		require.Nil(t, rt.Of("/support"))
		require.Panics(t, func() { rt.Drivers().Use(c.i) })
		require.NoError(t, rt.Shutdown(t.Context()))
	}
}
