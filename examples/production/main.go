// Command production is a server as it runs behind a load balancer: with TLS of its own if it has a
// certificate, health checks, trusted proxies, and an end that loses nothing.
package main

import (
	"context"
	"errors"
	"flag"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rodando/realtime"
)

// config is what the flags set.
type config struct {
	addr      string
	cert, key string        // files; empty: no TLS
	proxy     string        // the network of the load balancers; empty: none
	delay     time.Duration // how long /readyz is red before the clients are sent away
	drain     time.Duration // how long sending them away may take
}

// flags declares the flags of a config.
func (c *config) flags(f *flag.FlagSet) {
	f.StringVar(&c.addr, "addr", "127.0.0.1:3000", "address to listen on")
	f.StringVar(&c.cert, "cert", "", "PEM `file` with the certificate and its intermediates; none: no TLS")
	f.StringVar(&c.key, "key", "", "PEM `file` with its key")
	f.StringVar(&c.proxy, "proxy", "", "network of the load balancers, such as 10.0.0.0/8, whose X-Forwarded-For is believed")
	f.DurationVar(&c.delay, "delay", 5*time.Second, "after SIGTERM, how long /readyz is red before the clients are sent away")
	f.DurationVar(&c.drain, "drain", 25*time.Second, "how long sending them away may take; a client that polls and has lost its network is awaited for PingTimeout")
}

func main() {
	var c config
	c.flags(flag.CommandLine)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	if err := listen(ctx, c); err != nil {
		log.Fatal(err)
	}
}

func listen(ctx context.Context, c config) error {
	o, err := options(c)
	if err != nil {
		return err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", c.addr)
	if err != nil {
		return err
	}
	log.Print("listening on ", l.Addr())
	return serve(ctx, l, o, c)
}

// serve serves until ctx ends, and then sends the clients away.
func serve(ctx context.Context, l net.Listener, o realtime.Options, c config) error {
	rt, err := realtime.New(o)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	var draining atomic.Bool
	server := &http.Server{
		Handler:           routes(rt, &draining),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute, // longer than that of the load balancer, so that the balancer closes first
	}
	served := make(chan error, 1)
	go func() {
		if c.cert != "" {
			served <- server.ServeTLS(l, c.cert, c.key)
			return
		}
		served <- server.Serve(l)
	}()
	select {
	case err := <-served:
		return errors.Join(err, rt.Shutdown(context.WithoutCancel(ctx)))
	case <-ctx.Done():
	}

	draining.Store(true) // the load balancer sends nobody new
	time.Sleep(c.delay)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.drain)
	defer cancel()
	return realtime.Shutdown(ctx, server, rt) // then close the bus and the database
}

// routes returns the routes: the sockets, and what load balancers and orchestrators ask. Your REST
// API and your metrics come here too.
func routes(rt *realtime.Server, draining *atomic.Bool) http.Handler {
	mux := http.NewServeMux()
	mux.Handle(realtime.Path, rt)
	// The process runs: an orchestrator restarts it when this fails.
	mux.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	// New clients may come: a load balancer asks this.
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		err := rt.Check(r.Context())
		if draining.Load() {
			err = errors.New("draining")
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
	return mux
}

// options returns the options of the server: with your users, sessions and keys in the place of
// these. More than one node needs Bus and Cluster.Adapter too: docs/scaling.md.
func options(c config) (realtime.Options, error) {
	tokens, err := realtime.NewJWTVerifier([]byte(os.Getenv("JWT_SECRET")), realtime.JWTOptions{Methods: []string{"HS256"}})
	if err != nil {
		return realtime.Options{}, err
	}
	o := realtime.Options{
		Tokens: tokens, Users: users{"ana": {ID: "ana", Type: realtime.UserDriver, Active: true}},
		TokenSessions: true,
	}
	if c.proxy != "" {
		network, err := netip.ParsePrefix(c.proxy)
		if err != nil {
			return realtime.Options{}, err
		}
		o.TrustedProxies = []netip.Prefix{network}
	}
	return o, nil
}

type users map[string]realtime.User

func (u users) FindUser(_ context.Context, id string) (realtime.User, error) {
	if user, ok := u[id]; ok {
		return user, nil
	}
	return realtime.User{}, realtime.ErrNotFound
}
