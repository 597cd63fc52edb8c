// Several instances: what connects this one to the others over Redis, and what a load balancer
// asks it.

package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"

	"github.com/redis/rueidis"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/redisadapter"
	"github.com/rodando/realtime/redisbus"
)

// cluster is this instance's part in a cluster.
type cluster struct {
	client  rueidis.Client
	bus     *redisbus.Bus
	adapter *redisadapter.Adapter // the server closes it
	db      *redisDatabase
}

func joinCluster(url string, log *slog.Logger) (*cluster, error) {
	client, err := dialRedis(url)
	if err != nil {
		return nil, err
	}
	c := &cluster{client: client}
	host, _ := os.Hostname()                        // it may be empty: the name is for the log only
	name := fmt.Sprintf("%s/%d", host, os.Getpid()) // several instances may run on one machine
	if c.bus, err = redisbus.New(redisbus.Options{URL: url, Name: name, Logger: log}); err != nil {
		client.Close()
		return nil, err
	}
	if c.adapter, err = redisadapter.New(redisadapter.Options{URL: url, Name: name, Logger: log}); err != nil {
		client.Close()
		return nil, err
	}
	c.db = newRedisDatabase(client, c.bus.Publish, log)
	return c, nil
}

// options adds the cluster to the options of a server.
func (c *cluster) options(o *realtime.Options) {
	o.Bus, o.Cluster.Adapter = c.bus, c.adapter
}

// close is called after the server has shut down.
func (c *cluster) close(ctx context.Context) error {
	err := c.bus.Close(ctx)
	c.client.Close()
	if err != nil {
		return fmt.Errorf("closing the bus: %w", err)
	}
	return nil
}

// health adds the two routes for a load balancer or an orchestrator. /healthz says that the
// process runs: one that does not answer is to be started again. /readyz says whether to send
// it new clients.
func (a *app) health(mux *http.ServeMux) {
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		err := a.rt.Check(r.Context())
		switch {
		case a.draining.Load():
			http.Error(w, "draining", http.StatusServiceUnavailable)
		case err != nil:
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		default:
			fmt.Fprintln(w, "ready")
		}
	})
}
