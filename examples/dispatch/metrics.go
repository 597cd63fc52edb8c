// Metrics: what a Prometheus scrapes, on an address of its own.

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/rodando/realtime/realtimeprom"
)

// newMetrics returns the metrics of a server, and a registry with them and those of the process.
func newMetrics() (*realtimeprom.Metrics, *prometheus.Registry) {
	m, registry := realtimeprom.New(realtimeprom.Options{}), prometheus.NewRegistry()
	registry.MustRegister(m, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m, registry
}

// serveMetrics serves GET /metrics at an address until stop is called, and prints its URL. That is
// not the address of the clients: a load balancer in front of it would show the metrics to everybody.
func serveMetrics(ctx context.Context, address string, registry *prometheus.Registry, stdout io.Writer) (stop func(), err error) {
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("-metrics: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	server, ended := newServer(mux), make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(listener) // returns after Close
	}()
	stop = func() {
		_ = server.Close()
		<-ended
	}
	if _, err = fmt.Fprintf(stdout, "metrics at http://%s/metrics\n", listener.Addr()); err != nil {
		stop()
	}
	return stop, err
}
