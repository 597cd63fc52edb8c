package realtimeotel_test

import (
	"context"
	"fmt"
	"net/http"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimeotel"
	"github.com/rodando/realtime/realtimetest"
)

// A call of a driver, what its handler publishes, and its delivery are one trace.
func Example() {
	spans := tracetest.NewInMemoryExporter() // a host's are otlptracegrpc or the like, with WithBatcher
	tracers := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	meters := sdkmetric.NewMeterProvider()
	telemetry, err := realtimeotel.New(realtimeotel.Options{TracerProvider: tracers, MeterProvider: meters})
	if err != nil {
		fmt.Println(err)
		return
	}
	tokens, users, sessions := &realtimetest.Tokens{}, &realtimetest.Users{}, &realtimetest.Sessions{} // a host's are real
	users.Set(realtime.User{ID: "ana", Type: realtime.UserDriver, Active: true})
	sessions.Set(realtime.Session{ID: "s1", UserID: "ana"})
	rt, err := realtime.New(realtime.Options{
		Tokens: tokens, Users: users, Sessions: sessions,
		ConnContext:  realtimeotel.ConnContext,
		Interceptors: []realtime.Interceptor{telemetry.Interceptor()},
		Bus:          telemetry.Bus(realtime.NewMemoryBus()),
		Trace:        telemetry.Trace(),
		Timeouts:     realtime.Timeouts{PresenceGrace: -1},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	telemetry.Watch(rt)
	start := realtime.NewCall[string, realtime.None]("trip:start")
	start.Handle(rt.Drivers(), func(ctx context.Context, s *realtime.Socket, trip string) (realtime.None, error) {
		return realtime.None{}, rt.Publish(ctx, realtime.TripStarted{TripID: trip, PassengerID: "bob", DriverID: s.Identity().UserID})
	})
	server, network := &http.Server{Handler: rt, ReadHeaderTimeout: time.Minute}, realtimetest.NewListener()
	go func() { _ = server.Serve(network) }()

	ctx := context.Background()
	app, err := realtimetest.Dial(ctx, "http://host", realtime.NamespaceDrivers,
		realtimetest.Token(tokens.Mint("ana", "s1", time.Hour)), realtimetest.Over(network.DialContext))
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := realtimetest.Call(ctx, app, start, "t1"); err != nil {
		fmt.Println(err)
	}
	app.Close()
	fmt.Println(realtime.Shutdown(ctx, server, rt))
	names := map[string]string{}
	for _, s := range spans.GetSpans() {
		names[s.SpanContext.SpanID().String()] = s.Name
	}
	for _, s := range spans.GetSpans() {
		if parent := names[s.Parent.SpanID().String()]; parent != "" {
			fmt.Println(s.Name, "<", parent)
		}
	}
	// Unordered output:
	// <nil>
	// publish trip.started < /drivers trip:start
	// deliver trip.started < publish trip.started
}
