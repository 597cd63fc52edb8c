package realtimeprom_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimeprom"
	"github.com/rodando/realtime/realtimetest"
)

// A host serves the metrics next to the server, and adds a function of its own to its Trace.
func Example() {
	metrics := realtimeprom.New(realtimeprom.Options{})
	own := &realtime.Trace{
		Gap: func(_ context.Context, i realtime.GapInfo) { slog.Warn("messages may be lost", "since", i.Since) },
	}
	tokens, users, sessions := &realtimetest.Tokens{}, &realtimetest.Users{}, &realtimetest.Sessions{} // a host's are real
	users.Set(realtime.User{ID: "ana", Type: realtime.UserDriver, Active: true})
	sessions.Set(realtime.Session{ID: "s1", UserID: "ana"})
	rt, err := realtime.New(realtime.Options{
		Tokens: tokens, Users: users, Sessions: sessions, Trace: realtime.JoinTraces(metrics.Trace(), own),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	metrics.Watch(rt) // after the host has registered its handlers
	registry := prometheus.NewRegistry()
	registry.MustRegister(metrics)
	mux := http.NewServeMux()
	mux.Handle(realtime.Path, rt)
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	server, network := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}, realtimetest.NewListener()
	go func() { _ = server.Serve(network) }()

	ctx := context.Background()
	app, err := realtimetest.Dial(ctx, "http://host", realtime.NamespaceDrivers,
		realtimetest.Token(tokens.Mint("ana", "s1", time.Hour)), realtimetest.Over(network.DialContext))
	if err != nil {
		fmt.Println(err)
		return
	}
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "/metrics", nil))
	text, err := io.ReadAll(w.Body)
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "realtime_sockets") && strings.HasSuffix(line, " 1\n") {
			fmt.Print(line)
		}
	}
	app.Close()
	fmt.Println(err, realtime.Shutdown(ctx, server, rt))
	// Output:
	// realtime_sockets{namespace="/drivers",transport="websocket"} 1
	// <nil> <nil>
}
