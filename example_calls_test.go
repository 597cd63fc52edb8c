package realtime_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// backend is a server on a network in memory, for the examples.
type backend struct {
	rt      *realtime.Server
	tokens  *realtimetest.Tokens
	network *realtimetest.Listener
	http    *http.Server
}

// start starts a server that knows the driver ana.
func start(o realtime.Options) *backend {
	users, sessions := &realtimetest.Users{}, &realtimetest.Sessions{}
	users.Set(realtime.User{ID: "ana", Type: realtime.UserDriver, Active: true})
	sessions.Set(realtime.Session{ID: "s1", UserID: "ana"})
	b := &backend{tokens: &realtimetest.Tokens{}, network: realtimetest.NewListener()}
	o.Tokens, o.Users, o.Sessions = b.tokens, users, sessions
	var err error
	if b.rt, err = realtime.New(o); err != nil {
		panic(err)
	}
	mux := http.NewServeMux()
	mux.Handle(realtime.Path, b.rt)
	b.http = &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	go func() { _ = b.http.Serve(b.network) }()
	return b
}

// connect connects ana.
func (b *backend) connect(opts ...realtimetest.Option) *realtimetest.Client {
	opts = append(opts, realtimetest.Token(b.tokens.Mint("ana", "s1", time.Hour)), realtimetest.Over(b.network.DialContext))
	c, err := realtimetest.Dial(context.Background(), "http://host", realtime.NamespaceDrivers, opts...)
	if err != nil {
		panic(err)
	}
	return c
}

// stop ends the server.
func (b *backend) stop() {
	if err := realtime.Shutdown(context.Background(), b.http, b.rt); err != nil {
		fmt.Println(err)
	}
}

// Tip is what a driver asks about; TipShare is what the driver gets.
type (
	Tip      struct{ Amount float64 }
	TipShare struct{ Share float64 }
)

// Validate refuses what no passenger gives.
func (t Tip) Validate() error {
	if t.Amount <= 0 {
		return &realtime.Error{Code: realtime.CodeInvalidPayload, Message: "a tip is more than nothing", Fields: []string{"Amount"}}
	}
	return nil
}

var TipCall = realtime.NewCall[Tip, TipShare]("tip")

func shareOf(_ context.Context, _ *realtime.Socket, in Tip) (TipShare, error) {
	return TipShare{in.Amount * 0.9}, nil
}

// A handler answers a call. What it gets is decoded and valid; what it returns is the
// client's ack, an *Error included.
func ExampleCall_Handle() {
	b := start(realtime.Options{})
	defer b.stop()
	rt := b.rt
	TipCall.Handle(rt.Drivers(), shareOf)

	ana := b.connect()
	fmt.Println(realtimetest.Call(context.Background(), ana, TipCall, Tip{Amount: 10}))
	fmt.Println(realtimetest.Call(context.Background(), ana, TipCall, Tip{}))
	// Output:
	// {9} <nil>
	// {0} invalid_payload: a tip is more than nothing
}

// An interceptor runs around every call: here one that logs them all, and one that lets
// no large tip pass.
func ExampleInterceptor() {
	logged := func(next realtime.CallFunc) realtime.CallFunc {
		return func(ctx context.Context, r *realtime.CallRequest) (realtime.Raw, error) {
			ack, err := next(ctx, r)
			fmt.Printf("%s %s by %s: %q\n", r.Namespace().Name(), r.Event(), r.Socket().Identity().UserID, realtime.CodeOf(err))
			return ack, err
		}
	}
	careful := func(next realtime.CallFunc) realtime.CallFunc {
		return func(ctx context.Context, r *realtime.CallRequest) (realtime.Raw, error) {
			if r.Event() == TipCall.Name() {
				if in, err := TipCall.Input(r); err == nil && in.Amount > 100 {
					return realtime.Raw{}, realtime.Errorf(realtime.CodeForbidden, "that is a typing error")
				}
			}
			return next(ctx, r)
		}
	}
	b := start(realtime.Options{Interceptors: []realtime.Interceptor{logged}})
	defer b.stop()
	b.rt.Drivers().Use(careful)
	TipCall.Handle(b.rt.Drivers(), shareOf)

	ana := b.connect()
	fmt.Println(realtimetest.Call(context.Background(), ana, TipCall, Tip{Amount: 10}))
	fmt.Println(realtimetest.Call(context.Background(), ana, TipCall, Tip{Amount: 1000}))
	// Output:
	// /drivers tip by ana: ""
	// {9} <nil>
	// /drivers tip by ana: "forbidden"
	// {0} forbidden: that is a typing error
}

type requestID struct{}

// ConnContext keeps what is to be known of the request: every handler of the connection
// finds it in its ctx.
func ExampleOptions_connContext() {
	b := start(realtime.Options{
		ConnContext: func(ctx context.Context, r *http.Request) context.Context {
			return context.WithValue(ctx, requestID{}, r.Header.Get("X-Request-ID"))
		},
	})
	defer b.stop()
	where := realtime.NewCall[realtime.None, string]("where")
	where.Handle(b.rt.Drivers(), func(ctx context.Context, s *realtime.Socket, _ realtime.None) (string, error) {
		return fmt.Sprint("request ", ctx.Value(requestID{}), " over ", s.Transport()), nil
	})

	ana := b.connect(realtimetest.Header("X-Request-Id", "r-17"))
	fmt.Println(realtimetest.Call(context.Background(), ana, where, realtime.None{}))
	// Output:
	// request r-17 over websocket <nil>
}

var deviceKey = realtime.NewSocketKey[string]()

// A host keeps its own data on a socket, here what an app says of its device when it
// connects.
func ExampleSocketKey() {
	b := start(realtime.Options{
		Namespaces: map[string]realtime.NamespaceOptions{
			"/support": {Authorize: func(_ context.Context, r realtime.AuthorizeRequest) error {
				var auth struct{ Device string }
				if json.Unmarshal(r.Auth, &auth) != nil || auth.Device == "" {
					return realtime.Errorf(realtime.CodeForbidden, "which device?")
				}
				deviceKey.Set(r.Socket, auth.Device)
				return nil
			}},
		},
	})
	defer b.stop()
	b.rt.Of("/support").OnConnect(func(_ context.Context, s *realtime.Socket) error {
		device, _ := deviceKey.Get(s)
		return realtime.NewEvent[string]("welcome").Emit(s, device)
	})

	ana := b.connect()
	support, err := ana.Join(context.Background(), "/support", realtimetest.Auth(map[string]any{
		"token": b.tokens.Mint("ana", "s1", time.Hour), "device": "a phone",
	}))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(realtimetest.Next(context.Background(), support, realtime.NewEvent[string]("welcome")))
	// Output:
	// a phone <nil>
}

// A query of the host's in the documentation of its events.
func ExampleDescribeQuery() {
	type Question struct {
		Text string `json:"text" doc:"for people"`
	}
	type Answer struct {
		Yes bool `json:"yes"`
	}
	confirm := realtime.NewQuery[Question, Answer]("confirm")
	doc := realtime.DescribeQuery(confirm, realtime.NamespaceDrivers, "the driver", "Asks whether the driver is still there.",
		Question{"Still there?"}, Answer{true})
	// In the program for go:generate: catalog.Events = append(catalog.Events, doc)
	fmt.Println(doc.Event, string(doc.Example), string(doc.AckExample))
	// Output: confirm {"text":"Still there?"} {"yes":true}
}
