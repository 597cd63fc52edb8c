// Namespaces and handlers: a host's own events, typed and raw, on the three
// namespaces and on its own; the order in which things run; which errors
// and panics reach the client, and which the log.

package realtime_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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

// rating is the body of a host's own event.
type rating struct {
	Trip    string    `json:"trip"`
	Stars   int       `json:"stars"`
	Details *struct { // nested, to see how a field of it is named
		Clean bool `json:"clean"`
	} `json:"details"`
}

func (r rating) Validate() error {
	switch {
	case r.Stars < 1 || r.Stars > 5:
		return &realtime.Error{Code: realtime.CodeInvalidPayload, Message: "stars: 1 to 5", Fields: []string{"stars"}}
	case r.Trip == "secret-trip":
		return errors.New("secret-trip is not to be named")
	case r.Trip == "":
		return realtime.Errorf(realtime.CodeConflict, "which trip?")
	}
	return nil
}

type thanks struct {
	Text string `json:"text"`
}

var rate = realtime.NewCall[rating, thanks]("trip:rate")

func handleRate(ns *realtime.Namespace) {
	rate.Handle(ns, func(_ context.Context, s *realtime.Socket, in rating) (thanks, error) {
		return thanks{fmt.Sprintf("%s gave %s %d", s.Identity().UserID, in.Trip, in.Stars)}, nil
	})
}

// connect connects a user to any namespace and waits for hello.
func connect(t *testing.T, srv *realtimetest.Server, namespace, user string, typ realtime.UserType) *realtimetest.Client {
	t.Helper()
	c, err := srv.Dial(t.Context(), namespace, realtimetest.Token(srv.Login(user, typ)))
	require.NoError(t, err)
	realtimetest.Expect(t, c, realtime.EventHello)
	return c
}

func TestNewEvent_OfTheHost(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		support, err := srv.Realtime.Namespace("/support", realtime.NamespaceOptions{})
		require.NoError(t, err)
		for _, ns := range []*realtime.Namespace{srv.Realtime.Drivers(), srv.Realtime.Passengers(), srv.Realtime.Admin(), support} {
			handleRate(ns)
		}
		for _, c := range all(srv.Driver(t, "d1"), srv.Passenger(t, "p1"), srv.Admin(t, "a1"), connect(t, srv, "/support", "u1", "agent")) {
			got, err := realtimetest.Call(t.Context(), c, rate, rating{Trip: "t1", Stars: 5})
			require.NoError(t, err)
			require.Contains(t, got.Text, " gave t1 5")
			for body, want := range map[string]struct {
				code   realtime.Code
				fields string
			}{
				`{"trip":"t1","stars":6}`:                           {realtime.CodeInvalidPayload, "stars"},
				`{"trip":"t1"}`:                                     {realtime.CodeInvalidPayload, "stars"},
				`{"trip":"t1","stars":"5"}`:                         {realtime.CodeInvalidPayload, "stars"},
				`{"trip":"t1","stars":4.5}`:                         {realtime.CodeInvalidPayload, "stars"},
				`{"trip":"t1","stars":5,"details":{"clean":"yes"}}`: {realtime.CodeInvalidPayload, "details.clean"},
				`[1]`:                              {realtime.CodeInvalidPayload, ""},
				`{"stars":3}`:                      {realtime.CodeConflict, ""},
				`{"trip":"secret-trip","stars":3}`: {realtime.CodeInvalidPayload, ""},
				`{"trip":{"_placeholder":true,"num":0},"stars":3}`:       {realtime.CodeInvalidPayload, "trip"},
				`{"trip":"t1","stars":123456789012345678901234567890}`:   {realtime.CodeInvalidPayload, "stars"},
				`{"trip":"t1","stars":5,"details":[{"clean":"secret"}]}`: {realtime.CodeInvalidPayload, "details"},
			} {
				ack := ackOf(t, c, "trip:rate", body)
				r := refusalOf(t, ack)
				require.Equal(t, want.code, r.Error.Code, body)
				require.Equal(t, want.fields, strings.Join(r.Error.Fields, " "), body)
				require.NotContains(t, ack, "secret")
			}
			require.JSONEq(t, `{"ok":true,"data":{"text":"`+strings.Split(got.Text, " ")[0]+` gave t1 1"}}`,
				ackOf(t, c, "trip:rate", `{"trip":"t1","stars":1,"unknown":[1,2]}`, `"a second argument"`))
		}
	})
}

// A call without body and answer, one with several types, and one that replaces
// the library's own.
func TestNewCall_Shapes(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		ns := srv.Realtime.Drivers()
		realtime.NewCall[realtime.None, realtime.None]("nothing").Handle(ns, func(context.Context, *realtime.Socket, realtime.None) (realtime.None, error) {
			return realtime.None{}, nil
		})
		realtime.NewCall[string, []int]("list").Handle(ns, func(_ context.Context, _ *realtime.Socket, in string) ([]int, error) {
			return []int{len(in)}, nil
		})
		realtime.NewCall[*rating, *thanks]("pointers").Handle(ns, func(_ context.Context, _ *realtime.Socket, in *rating) (*thanks, error) {
			if in == nil {
				return nil, nil
			}
			return &thanks{in.Trip}, nil
		})
		realtime.NewCall[realtime.None, func()]("unspeakable").Handle(ns, func(context.Context, *realtime.Socket, realtime.None) (func(), error) {
			return func() {}, nil
		})
		driver := srv.Driver(t, "d1")
		require.JSONEq(t, `{"ok":true}`, ackOf(t, driver, "nothing"))
		require.JSONEq(t, `{"ok":true}`, ackOf(t, driver, "nothing", `"whatever"`))
		require.JSONEq(t, `{"ok":true,"data":[5]}`, ackOf(t, driver, "list", `"fünf"`))
		require.Equal(t, realtime.CodeInvalidPayload, refusalOf(t, ackOf(t, driver, "list")).Error.Code, "{} is no string")
		require.JSONEq(t, `{"ok":true,"data":null}`, ackOf(t, driver, "pointers", `null`))
		require.JSONEq(t, `{"ok":true,"data":{"text":"t1"}}`, ackOf(t, driver, "pointers", `{"trip":"t1","stars":1}`))
		require.Equal(t, realtime.CodeInternal, refusalOf(t, ackOf(t, driver, "unspeakable")).Error.Code)

		realtime.DriverOfferAccept.Handle(ns, func(_ context.Context, _ *realtime.Socket, in realtime.OfferAccept) (realtime.OfferAccepted, error) {
			return realtime.OfferAccepted{AssignmentID: in.AssignmentID, TripID: "of the host's"}, nil
		})
		require.Contains(t, ackOf(t, driver, "driver:offer:accept", `{"assignmentId":"as1"}`), "of the host's")
	})
}

func TestNamespace_HandleRaw(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		ns := srv.Realtime.Drivers()
		ns.HandleRaw("echo", func(_ context.Context, _ *realtime.Socket, args realtime.Raw) (realtime.Raw, error) { return args, nil })
		ns.HandleRaw("fail", func(context.Context, *realtime.Socket, realtime.Raw) (realtime.Raw, error) {
			return realtime.Raw{}, realtime.Errorf(realtime.CodeConflict, "not now")
		})
		for name, over := range map[string][]realtimetest.Option{"websocket": nil, "polling": {realtimetest.Polling()}} {
			driver := srv.Driver(t, "d1", over...)
			for _, want := range []realtime.Raw{
				{},
				{Args: []json.RawMessage{[]byte(`null`)}},
				{Args: []json.RawMessage{[]byte(`1`), []byte(`"ñ 🚕 \u2028"`), []byte(`{"a":[true,{}]}`)}},
				{
					Args:        []json.RawMessage{[]byte(`{"_placeholder":true,"num":1}`), []byte(`[{"_placeholder":true,"num":0}]`)},
					Attachments: [][]byte{{0, 1, 2, 0xff}, []byte("text")},
				},
			} {
				got, err := driver.CallRaw(t.Context(), "echo", want)
				require.NoError(t, err, name)
				require.Len(t, got.Args, len(want.Args), name)
				for i := range want.Args {
					require.JSONEq(t, string(want.Args[i]), string(got.Args[i]), name)
				}
				require.Equal(t, want.Attachments, got.Attachments, name)
			}
			r := refusalOf(t, ackOf(t, driver, "fail"))
			require.Equal(t, realtime.CodeConflict, r.Error.Code)
		}
	})
}

func TestNamespace_ErrorsOfHandlers(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var log logBuffer
		srv := realtimetest.NewServer(t, logTo(&log))
		ns := srv.Realtime.Drivers()
		var next func() error
		realtime.NewCall[map[string]string, realtime.None]("act").Handle(ns, func(context.Context, *realtime.Socket, map[string]string) (realtime.None, error) {
			return realtime.None{}, next()
		})
		driver := srv.Driver(t, "d1")
		for name, c := range map[string]struct {
			err    func() error
			code   realtime.Code
			shown  string // the message, where the client may see it
			logged string
		}{
			"a refusal":          {func() error { return realtime.Errorf(realtime.CodeForbidden, "not %s", "yours") }, realtime.CodeForbidden, "not yours", ""},
			"a wrapped refusal":  {func() error { return fmt.Errorf("x: %w", realtime.Errorf(realtime.CodeNotFound, "gone")) }, realtime.CodeNotFound, "gone", ""},
			"any other":          {func() error { return errors.New("SELECT failed") }, realtime.CodeInternal, "internal error", "SELECT failed"},
			"out of time":        {func() error { return fmt.Errorf("x: %w", context.DeadlineExceeded) }, realtime.CodeUnavailable, "not available, try again", "deadline exceeded"},
			"a panic":            {func() error { panic("index out of range") }, realtime.CodeInternal, "internal error", "panic: index out of range"},
			"a panic with error": {func() error { panic(errors.New("broken")) }, realtime.CodeInternal, "internal error", "panic: broken"},
			"no error at all":    {func() error { var e *realtime.Error; return e }, realtime.CodeInternal, "internal error", "handler failed"},
		} {
			before := log.String()
			next = c.err
			r := refusalOf(t, ackOf(t, driver, "act", `{"card":"4111111111111111"}`))
			require.Equal(t, c.code, r.Error.Code, name)
			require.Equal(t, c.shown, r.Error.Message, name)
			logged := strings.TrimPrefix(log.String(), before)
			if c.logged == "" {
				require.Empty(t, logged, name)
				continue
			}
			require.Equal(t, 1, strings.Count(logged, "\n"), "once: %s", logged)
			for _, part := range []string{c.logged, "namespace=/drivers", "event=act", "socket=" + driver.ID(), "user=d1"} {
				require.Contains(t, logged, part, name)
			}
			require.Equal(t, strings.Contains(name, "panic"), strings.Contains(logged, "namespaces_test.go"), "the stack")
			require.NotContains(t, logged, "41111111")
			require.NotContains(t, logged, "token-")
		}
		require.True(t, driver.Connected())
	})
}

func TestNamespace_UnknownEvents(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Compat.EmitExceptions = true })
		driver := srv.Driver(t, "d1")
		r := refusalOf(t, ackOf(t, driver, "no:such:event", `{}`))
		require.Equal(t, realtime.CodeNotFound, r.Error.Code)
		require.NotContains(t, r.Error.Message, "such:event")
		require.NoError(t, driver.Emit("no:such:event", 1))
		require.NoError(t, driver.EmitRaw("no:such:event", realtime.Raw{
			Args: []json.RawMessage{[]byte(`{"_placeholder":true,"num":0}`)}, Attachments: [][]byte{{1}},
		}))
		realtimetest.ExpectNone(t, driver)
		require.True(t, driver.Connected())
	})
}

func TestCompat_EmitExceptions(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		exception := realtime.NewEvent[map[string]string]("exception")
		on := realtimetest.NewServer(t, func(o *realtime.Options) { o.Compat.EmitExceptions = true })
		off := realtimetest.NewServer(t)
		realtime.NewCall[realtime.None, realtime.None]("fail").Handle(on.Realtime.Drivers(),
			func(context.Context, *realtime.Socket, realtime.None) (realtime.None, error) {
				return realtime.None{}, errors.New("SELECT failed")
			})
		driver, plain := on.Driver(t, "d1"), off.Driver(t, "d1")
		r := refusalOf(t, ackOf(t, driver, "driver:location:ping", `{}`))
		require.Equal(t, map[string]string{"status": "error", "message": r.Error.Message}, realtimetest.Expect(t, driver, exception))
		require.NoError(t, driver.Emit("fail"))
		require.Equal(t, map[string]string{"status": "error", "message": "internal error"}, realtimetest.Expect(t, driver, exception))
		move(t, driver, 1)
		realtimetest.ExpectNone(t, driver, exception)
		refusalOf(t, ackOf(t, plain, "driver:location:ping", `{}`))
		realtimetest.ExpectNone(t, plain)
	})
}

func TestSocket_HandlersRunOneAtATime(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		var mu sync.Mutex
		handled := map[string][]int{}
		var running, most atomic.Int32
		own := map[string]*atomic.Int32{"d1": {}, "d2": {}, "d3": {}}
		realtime.NewCall[int, realtime.None]("work").Handle(srv.Realtime.Drivers(), func(_ context.Context, s *realtime.Socket, n int) (realtime.None, error) {
			user := s.Identity().UserID
			if own[user].Add(1) != 1 {
				t.Errorf("two events of %s at a time", user)
			}
			if now := running.Add(1); now > most.Load() {
				most.Store(now)
			}
			time.Sleep(time.Second)
			mu.Lock()
			handled[user] = append(handled[user], n)
			mu.Unlock()
			running.Add(-1)
			own[user].Add(-1)
			return realtime.None{}, nil
		})
		const events = 5
		clients := all(srv.Driver(t, "d1"), srv.Driver(t, "d2"), srv.Driver(t, "d3", realtimetest.Polling()))
		for n := range events {
			for _, c := range clients {
				require.NoError(t, c.Emit("work", n))
			}
		}
		time.Sleep(events * time.Second)
		synctest.Wait()
		require.Equal(t, int32(len(clients)), most.Load(), "sockets do not wait for each other")
		for user := range own {
			require.Equal(t, []int{0, 1, 2, 3, 4}, handled[user], user)
		}
	})
}

// A handler's deadline, and the end of the server, reach it by its ctx.
func TestHandlerContext_Ends(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Timeouts.Handler = 3 * time.Second })
		var ended []error
		var kept context.Context
		ns := srv.Realtime.Drivers()
		realtime.NewCall[realtime.None, realtime.None]("wait").Handle(ns, func(ctx context.Context, _ *realtime.Socket, _ realtime.None) (realtime.None, error) {
			<-ctx.Done()
			ended = append(ended, ctx.Err())
			return realtime.None{}, ctx.Err()
		})
		realtime.NewCall[realtime.None, time.Duration]("keep").Handle(ns, func(ctx context.Context, _ *realtime.Socket, _ realtime.None) (time.Duration, error) {
			kept = ctx
			deadline, _ := ctx.Deadline()
			return time.Until(deadline), ctx.Err()
		})
		driver := srv.Driver(t, "d1")
		begun := time.Now()
		require.Equal(t, realtime.CodeUnavailable, refusalOf(t, ackOf(t, driver, "wait")).Error.Code)
		require.Equal(t, 3*time.Second, time.Since(begun))
		require.Contains(t, ackOf(t, driver, "keep"), fmt.Sprint(int64(3*time.Second)))
		require.ErrorIs(t, kept.Err(), context.Canceled, "it ends with the handler")

		require.NoError(t, driver.Emit("wait"))
		synctest.Wait()
		begun = time.Now()
		require.NoError(t, srv.Realtime.Shutdown(t.Context()), "which waits for the handler")
		require.Less(t, time.Since(begun), 3*time.Second)
		require.Equal(t, []error{context.DeadlineExceeded, context.Canceled}, ended)
	})
}

// Emits of OnConnect arrive after hello, and no event is handled before OnConnect has
// returned. OnDisconnect runs last.
func TestSocket_OrderOfHooksAndEvents(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		var mu sync.Mutex
		var life []string
		say := func(what string) {
			mu.Lock()
			defer mu.Unlock()
			life = append(life, what)
		}
		ns := srv.Realtime.Passengers()
		ns.OnConnect(func(ctx context.Context, s *realtime.Socket) error {
			say("connected")
			deadline, ok := ctx.Deadline()
			require.True(t, ok)
			require.Equal(t, 10*time.Second, time.Until(deadline))
			require.True(t, s.Join(zone))
			if err := wireNote.Emit(s, "what you missed"); err != nil {
				return err
			}
			time.Sleep(time.Second)
			say("caught up")
			return nil
		})
		ns.OnDisconnect(func(_ context.Context, s *realtime.Socket, reason realtime.DisconnectReason) {
			require.False(t, s.Connected())
			say("disconnected: " + string(reason))
		})
		realtime.NewCall[string, realtime.None]("say").Handle(ns, func(_ context.Context, _ *realtime.Socket, in string) (realtime.None, error) {
			time.Sleep(time.Second)
			say("said " + in)
			return realtime.None{}, nil
		})
		client := srv.Passenger(t, "p1")
		synctest.Wait() // OnConnect has emitted, and sleeps
		require.NoError(t, client.Emit("say", "a"))
		require.NoError(t, client.Emit("say", "b"))
		srv.Publish(t, realtime.TripRequested{TripID: "t1", PassengerID: "p1"})
		time.Sleep(1500 * time.Millisecond)
		require.Equal(t, "what you missed", realtimetest.Expect(t, client, wireNote))
		var events []string
		for _, r := range client.Received() {
			events = append(events, r.Event)
		}
		require.Equal(t, []string{"hello", "test:note", "trip:requested"}, events)
		client.Close()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		require.Equal(t, []string{"connected", "caught up", "said a", "said b", "disconnected: client namespace disconnect"}, life)
	})
}

func TestNamespace_OnConnectFails(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		hook   func(ctx context.Context, s *realtime.Socket) error
		logged string
	}{
		"refusal": {func(context.Context, *realtime.Socket) error { return realtime.Errorf(realtime.CodeForbidden, "no") }, ""},
		"error":   {func(context.Context, *realtime.Socket) error { return errors.New("database down") }, "database down"},
		"panic":   {func(context.Context, *realtime.Socket) error { panic("nil map") }, "panic: nil map"},
		"itself":  {func(_ context.Context, s *realtime.Socket) error { s.Disconnect(); return nil }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				var log logBuffer
				var handled, gone atomic.Int32
				srv := realtimetest.NewServer(t, logTo(&log))
				ns := srv.Realtime.Passengers()
				ns.OnConnect(c.hook)
				ns.OnDisconnect(func(_ context.Context, _ *realtime.Socket, reason realtime.DisconnectReason) {
					if reason == realtime.DisconnectByServer {
						gone.Add(1)
					}
				})
				ns.HandleRaw("act", func(context.Context, *realtime.Socket, realtime.Raw) (realtime.Raw, error) {
					handled.Add(1)
					return realtime.Raw{}, nil
				})
				client, err := srv.Dial(t.Context(), realtime.NamespacePassengers, realtimetest.Token(srv.Login("p1", realtime.UserPassenger)))
				require.NoError(t, err)
				_ = client.Emit("act") // the client may have disconnected already
				require.Equal(t, realtimetest.ReasonServer, client.Disconnected(t))
				synctest.Wait()
				require.Zero(t, handled.Load())
				require.Equal(t, int32(1), gone.Load())
				if c.logged == "" {
					require.NotContains(t, log.String(), "handler failed")
				} else {
					require.Contains(t, log.String(), c.logged)
					require.Contains(t, log.String(), "event=connect")
				}
			})
		})
	}
}

func TestNamespace_OnDisconnectReasons(t *testing.T) {
	t.Parallel()
	for want, end := range map[string]func(t *testing.T, srv *realtimetest.Server, c *realtimetest.Client){
		"client namespace disconnect": func(_ *testing.T, _ *realtimetest.Server, c *realtimetest.Client) { c.Close() },
		"server namespace disconnect": func(_ *testing.T, srv *realtimetest.Server, _ *realtimetest.Client) {
			srv.Realtime.Drivers().To(realtime.DriverRoom("d1")).Disconnect()
		},
		"forced close": func(_ *testing.T, srv *realtimetest.Server, _ *realtimetest.Client) {
			srv.Realtime.Drivers().To(realtime.DriverRoom("d1")).Close()
		},
		"transport close": func(_ *testing.T, _ *realtimetest.Server, c *realtimetest.Client) { c.Drop() },
		"ping timeout":    func(_ *testing.T, _ *realtimetest.Server, c *realtimetest.Client) { c.Stall(); time.Sleep(time.Minute) },
		"server shutting down": func(t *testing.T, srv *realtimetest.Server, _ *realtimetest.Client) {
			require.NoError(t, srv.Realtime.Shutdown(t.Context()))
		},
	} {
		t.Run(want, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				var traced, hooked []string
				srv := realtimetest.NewServer(t, func(o *realtime.Options) {
					o.Trace = &realtime.Trace{Disconnected: func(_ context.Context, i realtime.DisconnectedInfo) {
						traced = append(traced, i.Namespace+" "+i.UserID+" "+string(i.Reason))
					}}
				})
				srv.Realtime.Drivers().OnDisconnect(func(_ context.Context, s *realtime.Socket, reason realtime.DisconnectReason) {
					hooked = append(hooked, s.Identity().UserID+" "+string(reason))
				})
				end(t, srv, srv.Driver(t, "d1"))
				synctest.Wait()
				require.Equal(t, []string{"d1 " + want}, hooked)
				require.Equal(t, []string{"/drivers d1 " + want}, traced)
			})
		})
	}
}

func TestNamespace_OnDisconnectPanics(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var log logBuffer
		srv := realtimetest.NewServer(t, logTo(&log))
		srv.Realtime.Drivers().OnDisconnect(func(context.Context, *realtime.Socket, realtime.DisconnectReason) { panic("nil map") })
		srv.Driver(t, "d1").Close()
		synctest.Wait()
		require.Contains(t, log.String(), "panic: nil map")
		require.Contains(t, log.String(), "event=disconnect")
		srv.Driver(t, "d1")
	})
}

func TestServer_Namespace(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		agents, err := srv.Realtime.Namespace("/agents", realtime.NamespaceOptions{
			UserTypes: []realtime.UserType{"agent"},
			Authorize: func(_ context.Context, r realtime.AuthorizeRequest) error {
				id := r.Identity
				if id.UserID == "u2" {
					return &realtime.Error{Code: "not_on_duty", Message: "Not on duty"}
				}
				return nil
			},
		})
		require.NoError(t, err)
		_, err = srv.Realtime.Namespace("/agents", realtime.NamespaceOptions{})
		require.ErrorContains(t, err, "exists")

		agent := connect(t, srv, "/agents", "u1", "agent")
		require.NoError(t, wireNote.Emit(agents.To(realtime.UserRoom("u1")), "their own room"))
		require.NoError(t, wireNote.Emit(agents.To(realtime.SessionRoom(realtimetest.SessionID("u1"))), "the session's"))
		require.Equal(t, "their own room", realtimetest.Expect(t, agent, wireNote))
		require.Equal(t, "the session's", realtimetest.Expect(t, agent, wireNote))
		token := srv.Tokens.Mint("u1", realtimetest.SessionID("u1"), 2*time.Hour)
		_, err = realtimetest.Call(t.Context(), agent, realtime.AuthRefresh, realtime.TokenRefresh{Token: token})
		require.NoError(t, err, "it has auth:refresh as the others have")

		var refusal *realtimetest.ConnectError
		_, err = srv.Dial(t.Context(), "/agents", realtimetest.Token(srv.Login("d1", realtime.UserDriver)))
		require.ErrorAs(t, err, &refusal)
		require.Equal(t, realtime.CodeWrongUserType, refusal.Code)
		_, err = srv.Dial(t.Context(), "/agents", realtimetest.Token(srv.Login("u2", "agent")))
		require.ErrorAs(t, err, &refusal)
		require.Equal(t, realtimetest.ConnectError{Code: "not_on_duty", Message: "Not on duty"}, *refusal)
		_, err = srv.Dial(t.Context(), "/nobody")
		require.ErrorAs(t, err, &refusal)
		require.Equal(t, realtimetest.ConnectError{Message: "Invalid namespace"}, *refusal)
	})
}

func TestServer_NamespaceAnonymous(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		status, err := srv.Realtime.Namespace("/status", realtime.NamespaceOptions{Anonymous: true})
		require.NoError(t, err)
		public := realtime.NewRoom("status", "public")
		status.OnConnect(func(_ context.Context, s *realtime.Socket) error {
			require.Equal(t, realtime.Identity{}, s.Identity())
			require.Empty(t, s.Rooms())
			require.True(t, s.ExpiresAt().IsZero())
			s.Join(public)
			return nil
		})
		for _, opts := range [][]realtimetest.Option{nil, {realtimetest.Token("no token at all")}} {
			c, err := srv.Dial(t.Context(), "/status", opts...)
			require.NoError(t, err)
			require.Equal(t, "/status", realtimetest.Expect(t, c, realtime.EventHello).Namespace)
			synctest.Wait()
			require.NoError(t, wireNote.Emit(status.To(public), "all is well"))
			require.Equal(t, "all is well", realtimetest.Expect(t, c, wireNote))
			require.Equal(t, realtime.CodeNotFound, refusalOf(t, ackOf(t, c, "auth:refresh", `{"token":"x"}`)).Error.Code)
		}
		srv.Publish(t, realtime.UserAccessChanged{UserID: "u1"})
		srv.Publish(t, realtime.SessionRevoked{SessionID: "s1"})
	})
}

func TestTrace_Handled(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var traced []string
		srv := realtimetest.NewServer(t, func(o *realtime.Options) {
			o.Trace = &realtime.Trace{Handled: func(_ context.Context, i realtime.HandledInfo) {
				traced = append(traced, fmt.Sprint(i.Namespace, " ", i.UserID, " ", i.Event, " ", i.Duration, " ", i.Code, " ", i.Bytes, " ", i.AckBytes))
			}}
		})
		realtime.NewCall[realtime.None, realtime.None]("slow").Handle(srv.Realtime.Drivers(), func(context.Context, *realtime.Socket, realtime.None) (realtime.None, error) {
			time.Sleep(time.Second)
			return realtime.None{}, nil
		})
		driver := srv.Driver(t, "d1")
		ackOf(t, driver, "slow")
		ackOf(t, driver, "driver:location:ping", `{}`)
		ackOf(t, driver, "a client's invention")
		synctest.Wait()
		require.Equal(t, []string{"/drivers d1 slow 1s  0 11", "/drivers d1 driver:location:ping 0s invalid_payload 2 159", "/drivers d1  0s not_found 0 67"}, traced)
	})
}

// Ids and rooms of one connection's namespaces are their own, and so are events
// that wait.
func TestNamespace_SharesAConnection(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		release := make(chan struct{})
		realtime.NewCall[realtime.None, realtime.None]("wait").Handle(srv.Realtime.Drivers(), func(context.Context, *realtime.Socket, realtime.None) (realtime.None, error) {
			<-release
			return realtime.None{}, nil
		})
		driver := srv.Driver(t, "d1")
		admin, err := driver.Join(t.Context(), realtime.NamespaceAdmin, realtimetest.Token(srv.Login("a1", realtime.UserAdmin)))
		require.NoError(t, err)
		require.NotEqual(t, driver.ID(), admin.ID())
		require.NoError(t, driver.Emit("wait"))
		synctest.Wait()
		_, err = realtimetest.Call(t.Context(), admin, realtime.AdminTripJoin, realtime.TripRef{TripID: "t1"})
		require.NoError(t, err, "another socket does not wait")
		admin.Close()
		require.True(t, driver.Connected())
		close(release)
		move(t, driver, 1)
	})
}

// Namespaces made at the same time, under one name: one of them is.
func TestServer_NamespaceMadeTwiceAtOnce(t *testing.T) {
	t.Parallel()
	srv := realtimetest.NewServer(t)
	var made sync.WaitGroup
	errs := make([]error, 8)
	for n := range errs {
		made.Go(func() { _, errs[n] = srv.Realtime.Namespace("/support", realtime.NamespaceOptions{}) })
	}
	made.Wait()
	require.Len(t, slices.DeleteFunc(errs, func(err error) bool { return err != nil }), 1)
}

// A user type that other nodes would not accept is an error of the repository: the nodes exchange
// users in batches, and one such user would cost a whole batch.
func TestUserType_Invalid(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const lab = "/lab"
		srv := realtimetest.NewServer(t, func(o *realtime.Options) {
			o.Compat.RefuseUnavailable = true
			o.Namespaces = map[string]realtime.NamespaceOptions{lab: {}}
		})
		long := realtime.UserType(strings.Repeat("x", 65))
		for i, typ := range []realtime.UserType{long, "a\x00b", "\xff"} {
			_, err := srv.Dial(t.Context(), lab, realtimetest.Token(srv.Login(fmt.Sprint("u", i), typ)))
			requireRefused(t, err, realtime.CodeUnavailable, "Service unavailable")
		}
		_, err := srv.Dial(t.Context(), lab, realtimetest.Token(srv.Login("u9", long[:64])))
		require.NoError(t, err)
	})
}
