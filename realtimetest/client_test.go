// The client over each transport: calls, events, and disconnection.

package realtimetest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/testkit"
	"github.com/rodando/realtime/realtimetest"
)

// quiet keeps the log lines of planned refusals out of the test's log.
func quiet(o *realtime.Options) { o.Logger = slog.New(slog.DiscardHandler) }

// transports has the options of each transport.
var transports = map[string][]realtimetest.Option{
	"websocket": nil,
	"polling":   {realtimetest.Polling()},
	"upgrade":   {realtimetest.Upgrade()},
}

// overEach runs a test over each transport, in a bubble and in real time.
func overEach(t *testing.T, test func(t *testing.T, srv *realtimetest.Server, opts ...realtimetest.Option)) {
	t.Helper()
	t.Parallel()
	for name, opts := range transports {
		t.Run(name, func(t *testing.T) {
			testkit.Bubble(t, func(t *testing.T) { test(t, realtimetest.NewServer(t, quiet), opts...) })
		})
		t.Run(name+" in real time", func(t *testing.T) {
			t.Parallel()
			test(t, realtimetest.NewServer(t, quiet), opts...)
		})
	}
}

func raw(args ...string) realtime.Raw {
	var r realtime.Raw
	for _, a := range args {
		r.Args = append(r.Args, json.RawMessage(a))
	}
	return r
}

func TestClient_CallsAndEvents(t *testing.T) {
	overEach(t, func(t *testing.T, srv *realtimetest.Server, opts ...realtimetest.Option) {
		srv.Realtime.Drivers().HandleRaw("echo", func(_ context.Context, _ *realtime.Socket, args realtime.Raw) (realtime.Raw, error) {
			return args, nil
		})
		got := make(chan realtime.Raw, 1)
		srv.Realtime.Drivers().HandleRaw("record", func(_ context.Context, _ *realtime.Socket, args realtime.Raw) (realtime.Raw, error) {
			got <- args
			return realtime.Raw{}, nil
		})
		d, a := srv.Driver(t, "d1", opts...), srv.Admin(t, "a1", opts...)
		require.Equal(t, realtime.NamespaceDrivers, d.Namespace())
		want := "websocket"
		if strings.Contains(t.Name(), "polling") {
			want = "polling"
		}
		require.Equal(t, want, d.Transport())

		// Typed calls, with their result and with their refusal.
		snapshot, err := realtimetest.Call(t.Context(), d, realtime.DriverStatusUpdate, realtime.StatusUpdate{IsOnline: new(true)})
		require.NoError(t, err)
		require.Equal(t, "d1", snapshot.DriverID)
		require.True(t, snapshot.IsOnline)
		_, err = realtimetest.Call(t.Context(), d, realtime.DriverStatusUpdate, realtime.StatusUpdate{})
		var refused *realtime.Error
		require.ErrorAs(t, err, &refused)
		require.Equal(t, realtime.CodeInvalidPayload, refused.Code)
		require.NotEmpty(t, refused.Fields)
		_, err = realtimetest.Call(t.Context(), a, realtime.AdminDriversLeave, realtime.None{})
		require.NoError(t, err)

		// Events, in order of arrival and by name.
		require.Equal(t, "d1", realtimetest.Expect(t, a, realtime.EventAdminDriverAvailability).DriverID)
		realtimetest.Expect(t, d, realtime.EventDriverAvailability)
		realtimetest.ExpectNone(t, a)
		realtimetest.ExpectNone(t, d)

		// Raw, binary and large, both ways.
		args := raw(`{"photo":{"_placeholder":true,"num":0}}`, `"ñ 🚕 \u0000"`, `[{"_placeholder":true,"num":1}]`, `"`+strings.Repeat("x", 300_000)+`"`)
		args.Attachments = [][]byte{{0, 1, 0x1e, 0xff}, {}}
		ack, err := d.CallRaw(t.Context(), "echo", args)
		require.NoError(t, err)
		require.Equal(t, asJSON(t, args), asJSON(t, ack))
		require.NoError(t, d.EmitRaw("record", args))
		require.Equal(t, asJSON(t, args), asJSON(t, <-got))
		require.NoError(t, d.Emit("record", 1, "two", nil))
		require.Equal(t, asJSON(t, raw("1", `"two"`, "null")), asJSON(t, <-got))
		require.NoError(t, srv.Realtime.Drivers().To(realtime.DriverRoom("d1")).EmitRaw("photo", args))
		r, err := d.NextRaw(t.Context(), "photo")
		require.NoError(t, err)
		require.Equal(t, asJSON(t, args), asJSON(t, r.Raw))
	})
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return string(b)
}

func TestClient_ReceivesInOrder(t *testing.T) {
	overEach(t, func(t *testing.T, srv *realtimetest.Server, opts ...realtimetest.Option) {
		count := realtime.NewEvent[int]("count")
		d := srv.Driver(t, "d1", opts...)
		for n := range 500 {
			require.NoError(t, count.Emit(srv.Realtime.Drivers().To(realtime.DriverRoom("d1")), n))
		}
		for n := range 500 {
			require.Equal(t, n, realtimetest.Expect(t, d, count))
		}
		realtimetest.ExpectNone(t, d, count)
		require.Len(t, d.Received(), 501)
		require.Equal(t, "hello", d.Received()[0].Event)
	})
}

func TestAnswer(t *testing.T) {
	question := realtime.NewQuery[string, int]("how many")
	overEach(t, func(t *testing.T, srv *realtimetest.Server, opts ...realtimetest.Option) {
		sockets := make(chan *realtime.Socket, 1)
		srv.Realtime.Drivers().OnConnect(func(_ context.Context, s *realtime.Socket) error {
			sockets <- s
			return nil
		})
		d := srv.Driver(t, "d1", opts...)
		s := <-sockets
		require.Equal(t, s.ID(), d.ID())
		realtimetest.Answer(d, question, func(in string) int { return len(in) })
		n, err := question.Ask(t.Context(), s, "abc")
		require.NoError(t, err)
		require.Equal(t, 3, n)
		_, err = d.NextRaw(t.Context(), "how many")
		require.NoError(t, err)
		// A query that the client does not answer is recorded.
		d.AnswerRaw("how many", nil)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		asked := make(chan error, 1)
		go func() {
			_, err := question.Ask(ctx, s, "abc")
			asked <- err
		}()
		_, err = d.NextRaw(t.Context(), "how many")
		require.NoError(t, err)
		cancel()
		require.ErrorIs(t, <-asked, realtime.ErrAckTimeout)
		require.Equal(t, "how many", d.Received()[len(d.Received())-1].Event)
	})
}

func TestClient_DisconnectReasons(t *testing.T) {
	overEach(t, func(t *testing.T, srv *realtimetest.Server, opts ...realtimetest.Option) {
		reasons := make(chan string, 1)
		drivers := srv.Realtime.Drivers()
		drivers.OnDisconnect(func(_ context.Context, _ *realtime.Socket, reason realtime.DisconnectReason) {
			reasons <- string(reason)
		})
		d1 := realtime.DriverRoom("d1")

		d := srv.Driver(t, "d1", opts...)
		require.True(t, d.Connected())
		drivers.To(d1).Disconnect()
		require.Equal(t, realtimetest.ReasonServer, d.Disconnected(t))
		require.Equal(t, "server namespace disconnect", <-reasons)
		require.False(t, d.Connected())
		require.ErrorIs(t, d.Emit("x"), realtime.ErrClosed)
		_, err := d.CallRaw(t.Context(), "x", realtime.Raw{})
		require.ErrorIs(t, err, realtime.ErrClosed)
		_, err = realtimetest.Next(t.Context(), d, realtime.EventTripStarted)
		require.ErrorIs(t, err, realtime.ErrClosed)
		realtimetest.ExpectNone(t, d)

		d = srv.Driver(t, "d1", opts...)
		drivers.To(d1).Close()
		closed := realtimetest.ReasonTransportClose
		if strings.Contains(t.Name(), "polling") {
			closed = realtimetest.ReasonTransportError
		}
		require.Equal(t, closed, d.Disconnected(t))
		<-reasons

		d = srv.Driver(t, "d1", opts...)
		d.Close()
		d.Close()
		require.Equal(t, realtimetest.ReasonClient, d.Disconnected(t))
		require.Equal(t, "client namespace disconnect", <-reasons)

		// Between two polls the server could not notice it.
		if !strings.Contains(t.Name(), "polling_in_real_time") {
			d = srv.Driver(t, "d1", opts...)
			realtimetest.ExpectNone(t, d)
			d.Drop()
			require.Equal(t, realtimetest.ReasonTransportError, d.Disconnected(t))
			require.Contains(t, []string{"transport close", "transport error"}, <-reasons)
		}

		d = srv.Driver(t, "d1", opts...)
		require.NoError(t, srv.Realtime.Shutdown(t.Context()))
		require.Equal(t, closed, d.Disconnected(t))
		realtimetest.Expect(t, d, realtime.EventServerDrain)
		_, err = srv.Dial(t.Context(), realtime.NamespaceDrivers, opts...)
		require.ErrorContains(t, err, "503")
	})
}

func TestClient_Heartbeats(t *testing.T) {
	t.Parallel()
	for name, opts := range transports {
		t.Run(name, func(t *testing.T) {
			testkit.Bubble(t, func(t *testing.T) {
				reasons := make(chan string, 1)
				srv := realtimetest.NewServer(t, quiet)
				srv.Realtime.Drivers().OnDisconnect(func(_ context.Context, _ *realtime.Socket, reason realtime.DisconnectReason) {
					reasons <- string(reason)
				})
				d := srv.Driver(t, "d1", opts...)
				time.Sleep(10 * time.Minute)
				require.True(t, d.Connected(), "heartbeats are answered")
				d.Stall()
				time.Sleep(time.Minute)
				require.Equal(t, "ping timeout", <-reasons)
				d.Resume()
				require.NotEmpty(t, d.Disconnected(t))
			})
		})
	}
}

func TestClient_StallAndResume(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		news := realtime.NewEvent[string]("news")
		reasons := make(chan string, 1)
		srv := realtimetest.NewServer(t, quiet, func(o *realtime.Options) { o.Limits.OutboxBytes = 1 << 20 })
		srv.Realtime.Drivers().OnDisconnect(func(_ context.Context, _ *realtime.Socket, reason realtime.DisconnectReason) {
			reasons <- string(reason)
		})
		to := srv.Realtime.Drivers().To(realtime.DriverRoom("d1"))
		d := srv.Driver(t, "d1")
		d.Stall()
		require.NoError(t, news.Emit(to, "while it stalls"))
		synctest.Wait()
		require.Len(t, d.Received(), 1, "hello")
		d.Resume()
		require.Equal(t, "while it stalls", realtimetest.Expect(t, d, news))
		d.Stall()
		for range 20 {
			require.NoError(t, news.Emit(to, strings.Repeat("x", 100_000)))
			synctest.Wait()
		}
		require.Equal(t, "slow consumer", <-reasons)
	})
}

func TestClient_ServerSendsNoPing(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		// A server that answers the handshake and CONNECT, and then sends nothing.
		ln := realtimetest.NewListener()
		mux := http.NewServeMux()
		var polls atomic.Int32
		asked := make(chan struct{})
		mux.HandleFunc("/socket.io/", func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				fmt.Fprint(w, "ok")
				close(asked)
				return
			}
			switch polls.Add(1) {
			case 1:
				fmt.Fprint(w, `0{"sid":"s","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}`)
			case 2:
				<-asked
				fmt.Fprint(w, `40/drivers,{"sid":"x"}`)
			default:
				<-r.Context().Done()
			}
		})
		hs := &http.Server{Handler: mux}
		go func() { _ = hs.Serve(ln) }()
		defer func() { require.NoError(t, hs.Close()) }()
		c, err := realtimetest.Dial(t.Context(), "http://app", "/drivers", realtimetest.Polling(), realtimetest.Over(ln.DialContext))
		require.NoError(t, err)
		start := time.Now()
		require.Equal(t, realtimetest.ReasonPingTimeout, c.Within(time.Minute).Disconnected(t))
		require.Equal(t, 45*time.Second, time.Since(start))
		c.Close()
	})
}

func TestDial_Refused(t *testing.T) {
	overEach(t, func(t *testing.T, srv *realtimetest.Server, opts ...realtimetest.Option) {
		dial := func(ns string, more ...realtimetest.Option) error {
			c, err := srv.Dial(t.Context(), ns, append(more, opts...)...)
			require.Nil(t, c)
			return err
		}
		code := func(err error) realtime.Code {
			var refused *realtimetest.ConnectError
			require.ErrorAs(t, err, &refused)
			require.NotEmpty(t, refused.Message)
			return refused.Code
		}
		token := srv.Login("p1", realtime.UserPassenger)
		require.Equal(t, realtime.CodeMissingToken, code(dial(realtime.NamespaceDrivers)))
		require.Equal(t, realtime.CodeInvalidToken, code(dial(realtime.NamespaceDrivers, realtimetest.Token("x"))))
		require.Equal(t, realtime.CodeInvalidToken, code(dial(realtime.NamespaceDrivers, realtimetest.Auth(map[string]int{"token": 1}))))
		require.Equal(t, realtime.CodeWrongUserType, code(dial(realtime.NamespaceDrivers, realtimetest.Token(token))))
		err := dial("/nowhere", realtimetest.Token(token))
		require.Empty(t, code(err))
		require.ErrorContains(t, err, "Invalid namespace")

		var refused *realtimetest.HandshakeError
		require.ErrorAs(t, dial(realtime.NamespaceDrivers, realtimetest.Header("Origin", "https://evil.example")), &refused)
		require.Equal(t, &realtimetest.HandshakeError{Status: 403, Code: 4, Message: "Forbidden"}, refused)
		require.ErrorContains(t, refused, "403 Forbidden")

		c, err := srv.Dial(t.Context(), realtime.NamespacePassengers, append(opts, realtimetest.Header("Authorization", "Bearer "+token))...)
		require.NoError(t, err)
		require.Equal(t, "p1", realtimetest.Expect(t, c, realtime.EventHello).UserID)
	})
}

func TestDial_Undecided(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, quiet)
		srv.Users.Fail(errors.New("down"))
		_, err := srv.Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Token(srv.Login("d1", realtime.UserDriver)))
		require.ErrorIs(t, err, realtime.ErrClosed)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, release := srv.Users.Block()
		defer release()
		_, err = srv.Dial(ctx, realtime.NamespaceDrivers, realtimetest.Token(srv.Login("d1", realtime.UserDriver)))
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

func TestClient_JoinsSecondNamespace(t *testing.T) {
	overEach(t, func(t *testing.T, srv *realtimetest.Server, opts ...realtimetest.Option) {
		d := srv.Driver(t, "d1", opts...)
		_, err := d.Join(t.Context(), realtime.NamespaceAdmin, realtimetest.Token(srv.Login("p1", realtime.UserPassenger)))
		require.ErrorContains(t, err, "wrong_user_type")
		require.True(t, d.Connected())
		a, err := d.Join(t.Context(), realtime.NamespaceAdmin, realtimetest.Token(srv.Login("a1", realtime.UserAdmin)))
		require.NoError(t, err)
		require.Equal(t, "a1", realtimetest.Expect(t, a, realtime.EventHello).UserID)
		_, err = d.Join(t.Context(), realtime.NamespaceAdmin)
		require.Error(t, err)
		realtimetest.ExpectNone(t, d)
		a.Close()
		require.Equal(t, realtimetest.ReasonClient, a.Disconnected(t))
		_, err = realtimetest.Call(t.Context(), d, realtime.DriverStatusUpdate, realtime.StatusUpdate{IsOnline: new(true)})
		require.NoError(t, err, "the other namespace stays connected")
		a, err = d.Join(t.Context(), realtime.NamespaceAdmin, realtimetest.Token(srv.Login("a1", realtime.UserAdmin)))
		require.NoError(t, err, "it may join again")
		d.Drop()
		require.Equal(t, realtimetest.ReasonTransportError, a.Disconnected(t))
	})
}

func TestServer_Devices(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		one, two, three := srv.Driver(t, "d1"), srv.Driver(t, "d1"), srv.Driver(t, "d1", realtimetest.Session("s2"))
		require.NotEqual(t, one.ID(), two.ID())
		srv.Sessions.Revoke("s2")
		srv.Publish(t, realtime.SessionRevoked{SessionID: "s2", UserID: "d1"})
		require.Equal(t, realtimetest.ReasonServer, three.Disconnected(t))
		for _, c := range []*realtimetest.Client{one, two, three} {
			realtimetest.Expect(t, c, realtime.EventSessionRevoked)
		}
		require.True(t, one.Connected())
		require.True(t, two.Connected())
	})
}

// Dial reaches a server on a real network too.
func TestDial_OverTCP(t *testing.T) {
	t.Parallel()
	srv := realtimetest.NewServer(t)
	hs := httptest.NewServer(srv.Realtime)
	defer hs.Close()
	for name, opts := range transports {
		t.Run(name, func(t *testing.T) {
			token := srv.Login("d1", realtime.UserDriver)
			c, err := realtimetest.Dial(t.Context(), hs.URL, realtime.NamespaceDrivers, append(opts, realtimetest.Token(token))...)
			require.NoError(t, err)
			realtimetest.Expect(t, c, realtime.EventHello)
			snapshot, err := realtimetest.Call(t.Context(), c, realtime.DriverStatusUpdate, realtime.StatusUpdate{IsOnline: new(true)})
			require.NoError(t, err)
			require.True(t, snapshot.IsOnline)
			c.Close()
		})
	}
	_, err := realtimetest.Dial(t.Context(), "http://127.0.0.1:1", realtime.NamespaceDrivers)
	require.Error(t, err)
	_, err = realtimetest.Dial(t.Context(), "://", realtime.NamespaceDrivers)
	require.Error(t, err)
}

// A client that upgrades to a websocket while it receives events misses none.
func TestClient_UpgradeWhileReceiving(t *testing.T) {
	t.Parallel()
	srv := realtimetest.NewServer(t, quiet)
	c := srv.Driver(t, "d1", realtimetest.Polling())
	require.Equal(t, "polling", c.Transport())
	const n = 200
	emitted := make(chan error, 1)
	go func() {
		for i := range n {
			if err := count.Emit(srv.Realtime.Drivers().To(realtime.DriverRoom("d1")), i); err != nil {
				emitted <- err
				return
			}
		}
		emitted <- nil
	}()
	require.NoError(t, c.Upgrade(t.Context()))
	require.Equal(t, "websocket", c.Transport())
	require.NoError(t, <-emitted)
	for i := range n {
		require.Equal(t, i, realtimetest.Expect(t, c, count))
	}
	require.Error(t, c.Upgrade(t.Context()), "it is over a websocket already")
	realtimetest.ExpectNone(t, c, count)
	require.Zero(t, c.Strays())
	require.Empty(t, c.Reason())
	c.Close()
	require.Equal(t, realtimetest.ReasonClient, c.Reason())
}
