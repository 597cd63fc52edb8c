// Command dispatch is a small ride-hailing backend on one http.ServeMux: users,
// login sessions and trips in memory or in Redis, a REST API, a matcher that offers
// each trip to the nearest available drivers one after another, simulated drivers,
// and at / a page with the town, a passenger's and a driver's phone, and a guided tour.
//
//	go run ./examples/dispatch
//	go run ./examples/dispatch -seed users.json -offer-ttl 5s -echo
//	make cluster
//
// With REDIS_URL it runs as several instances behind a load balancer, any of which serves any
// request; see README.md.
//
// -h lists the flags. Once it listens it prints its URL and one line for each
// user, and then where to look:
//
//	listening on http://localhost:3000
//	user <id> <type> <token>
//
//	open http://localhost:3000
//
// # Environment
//
//	HOST            127.0.0.1; the address to listen on, 0.0.0.0 for all
//	PORT            3000; 0 takes any that is free
//	LOGIN_PASSWORD  the password of all users; unset: no password, and no login
//	                unless HOST is a loopback address
//	JWT_SECRET      HS256 key of the tokens, 32 bytes or more; unset: a random one
//	JWT_ISSUER      claim "iss" of the tokens; unset: not written, not checked
//	WS_CORS_ORIGIN  origins, separated by commas, that may connect, with
//	                credentials; * is any origin, without; unset: *
//	REDIS_URL       such as redis://localhost:6379; where the instances keep their data
//	                and exchange messages. It needs JWT_SECRET. Unset: one instance, in
//	                memory
//	TRUSTED_PROXIES addresses or prefixes, separated by commas, of load balancers, whose
//	                X-Forwarded-For is believed
//
// Every token signed with JWT_SECRET is valid if its sub and sid name a user and one of
// their sessions. Audiences are not checked. The origins apply to sockets; the REST API
// has no CORS.
//
// # For a load balancer
//
//	GET /healthz    200 while the process runs
//	GET /readyz     200 while the instance takes clients and receives messages from the
//	                others, otherwise 503
//
// With -metrics 127.0.0.1:9100, say, a Prometheus finds the metrics at
// http://127.0.0.1:9100/metrics; docs/grafana-dashboard.json shows them. The address is not that of the
// clients, because it has no login.
//
// SIGTERM drains the instance: /readyz turns to 503, after -shutdown-delay new connections get
// 503, all sockets are closed, so that their clients reconnect to another instance, and the
// process ends. A second one ends it at once.
//
// # REST
//
// Bodies are JSON both ways, and an absent one is {}. All routes but the login and the list of people require
// "Authorization: Bearer <token>". A failure is
// {error:{code, message, fields?}}, with the codes of the socket: 400
// invalid_payload, 401 missing_token, invalid_token, token_expired,
// missing_claims, user_not_found, invalid_session or access_expired, 403
// user_inactive or forbidden, 404 not_found, 409 conflict, 500 internal, 503
// unavailable: Redis does not answer, try again.
//
//	GET  /api/people                          {people:[{id, type, name}]}, whom the page can play. No token is needed
//	POST /api/login {userId, deviceInfo?, password?}  {token, sid, userId, type, expiresAt}; the password is LOGIN_PASSWORD, if there is one
//	POST /api/refresh                         the same, in a new session. The old one lasts 10 s more. A token that
//	                                          expired less than a day ago is accepted. With -carry-sessions the
//	                                          sockets move to the new session by themselves
//	POST /api/logout                          {sid}; the session is revoked
//
//	GET  /api/trips/current                   {trip, offer}, for driver and passenger: their running trip or null, the
//	                                          driver's open offer or null
//	POST /api/trips {pickup?, dropoff?, driverId?}  201 and the trip; places are {lat, lng, address?}. By a passenger, who
//	                                          can have one trip at a time. It is offered to that driver first
//	GET  /api/trips/{id}                      the trip, for its people and admins
//	POST /api/trips/{id}/accept               {assignmentId, tripId}, by the driver to whom it is offered; again is
//	POST /api/offers/{assignmentId}/accept    the same success
//	POST /api/trips/{id}/reject {reason?}     {assignmentId}
//	POST /api/offers/{assignmentId}/reject    the same
//	POST /api/trips/{id}/arriving             the trip. These four by its driver, in this order
//	POST /api/trips/{id}/arrived
//	POST /api/trips/{id}/start
//	POST /api/trips/{id}/complete
//	POST /api/trips/{id}/cancel {reason?}     the trip, by its passenger, its driver or an admin, while it runs
//
// and for admins
//
//	GET  /api/admin/trips                          see below; also {trips:[trip]}, those that run
//	POST /api/admin/trips/{id}/message {to, message}  {tripId}; to is driver, passenger or both
//	POST /api/admin/users/{id}/ban {reason?}       {userId, status}; disconnects the user
//	POST /api/admin/users/{id}/deactivate          {userId, status}; disconnects the user
//	POST /api/admin/users/{id}/activate            {userId, status}
//	POST /api/admin/sessions/{sid}/revoke {reason?} {sid}
//	POST /api/admin/drain                          {closed}; closes this instance's connections as a shutdown does, and goes on
//
// An admin who emits demo:watch receives demo:report, from which the page at / knows who received what.
//
// The dashboard and the drivers' app of the NestJS system call these. Every answer is
// {success, message, data, meta?}, and a failure has success and message beside error.
//
//	GET   /api/admin/trips             the trips of the last day, the newest first. Query: q, passengerId, driverId,
//	                                   vehicleId, status, paymentMode, requestedFrom, requestedTo, onlyActive,
//	                                   onlyStuck, page, limit; meta has total, page, limit, pageCount, ...
//	GET   /api/admin/trips/{id}        a trip in the dashboard's form
//	GET   /api/admin/trips/{id}/events its timeline: [{id, tripId, eventType, occurredAt, metadata}]
//	POST  /api/admin/trips/{id}/actions/retry-matching {reason, searchRadiusMeters?, maxCandidates?, offerTtlSeconds?}
//	POST  /api/admin/trips/{id}/actions/mark-no-drivers {reason}
//	POST  /api/admin/trips/{id}/actions/override-status {targetStatus, reason, fareTotal?}
//	POST  /api/admin/trips/{id}/actions/cancel {reason}
//	POST  /api/admin/trips/{id}/actions/send-message {target, message}
//	GET   /api/driver-availability/driver-auth           the driver's own snapshot
//	GET   /api/driver-availability/by-driver/{driverId}  for the driver and admins
//	PATCH /api/driver-availability/status-by-driver      the body of driver:status:update; the snapshot
//	PATCH /api/driver-availability/{driverId}/status     the same, for the driver and admins
//	POST  /api/driver-availability/ping-location         {lat?, lng?, accuracyMeters?, reportedAt?}; the snapshot.
//	                                                     Without a position it is a sign of life
//
// A trip is {tripId, status, passengerId, driverId, vehicleId, pickup, dropoff,
// fareEstimatedTotal, currency, requestedAt, arrived, driver, vehicle,
// passenger}; status is pending, assigning, accepted, arriving, in_progress,
// completed, cancelled or no_drivers_found, and the last three are card objects
// or null. An offer is {assignmentId, tripId, expiresAt, pickup, dropoff,
// priceEstimate, currency}.
//
// # Choices
//
// A client that has lost its connection, and is back within two minutes, receives what it
// has missed and then hello, which says so: Options.Recovery, which -recovery=false switches off. Behind each
// other hello a driver or passenger receives trip:sync: their running trip, the open offer, and a driver also
// driver:availability:update. So an app that was away need not ask.
//
// Drivers are available if their snapshot says so, and candidates for a trip if their position is
// not older than -position-max-age and within -match-radius of the pickup. Of the 20 nearest the
// connected ones come first, then nearer ones. No driver is offered a trip twice, or two trips at
// once. When no driver is left the trip ends as no_drivers_found; an admin can retry the matching,
// which finds drivers who have not had the trip.
//
// Waiting at the pickup is free for 3 minutes. What a driver waits longer, until the start or
// according to waitingTimeMinutes of the completion, is published as
// trip.waiting_surcharge.applied and is part of the fare.
//
// A driver who logs out, or is banned or deactivated, goes offline.
//
// A driver's snapshot has the trip from acceptance until the trip ends; then a driver who was
// available is available again, by the rules of realtime.DriverState. Both changes are
// published as driver_availability.trip_updated and, if the availability has changed,
// driver_availability.status_updated.
//
// An admin who cancels a trip also publishes admin.trip.action_issued, before
// trip.cancelled. trip.arriving.started is followed by trip.driver.en_route,
// with the driver's last position and an estimate from it.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimeprom"
)

func main() {
	cfg, err := configure(os.Args[1:], os.Getenv)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		context.AfterFunc(ctx, stop) // a second signal ends the process at once
		err = run(ctx, cfg, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "dispatch:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends, and then shuts down.
func run(ctx context.Context, cfg config, stdout io.Writer) error {
	log := slog.Default()
	if cfg.simulate != "" {
		return simulate(ctx, cfg, log)
	}
	a, err := newApp(cfg, log)
	if err != nil {
		return err
	}
	defer a.close()
	cars, err := a.createCars(ctx)
	if err != nil {
		return err
	}
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", cfg.address())
	if err != nil {
		return err
	}
	server := newServer(a.mux)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()

	at, ok := listener.Addr().(*net.TCPAddr)
	if !ok {
		return errors.Join(fmt.Errorf("%v is not a TCP address", listener.Addr()), server.Close())
	}
	if err := a.greet(ctx, stdout, at.Port); err != nil {
		return errors.Join(err, server.Close())
	}
	if at.IP.IsUnspecified() {
		at.IP = net.ParseIP(loopback)
	}
	if cfg.metrics != "" {
		stopMetrics, err := serveMetrics(ctx, cfg.metrics, a.registry, stdout)
		if err != nil {
			return errors.Join(err, server.Close())
		}
		defer stopMetrics() // last: the shutdown is counted too
	}
	stopCars := startCars(cars, "http://"+at.String(), time.Second, log)
	defer stopCars()

	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	log.Info("shutting down")
	a.draining.Store(true)
	time.Sleep(cfg.shutdownDelay)
	stopCars()
	shutdown, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	err = a.shutdown(shutdown, server)
	if errors.Is(err, context.DeadlineExceeded) { // mostly a phone that polled and is out of reach now
		log.Warn("shutdown was not finished", "error", err)
		return nil
	}
	return err
}

// newServer returns a server that closes connections on which no request arrives.
func newServer(h http.Handler) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
}

// app is the whole program except its listener.
type app struct {
	cfg      config
	log      *slog.Logger
	seed     seed
	store    *store
	tokens   *tokens
	matcher  *matcher
	watch    *watch
	cluster  *cluster // nil: this instance is alone
	rt       *realtime.Server
	mux      *http.ServeMux
	registry *prometheus.Registry // nil without -metrics
	draining atomic.Bool
	// operators is nil without -admin-view.
	operators *operators

	// end stops the background goroutines and waits for them.
	end func()
}

func newApp(cfg config, log *slog.Logger) (a *app, err error) {
	a = &app{cfg: cfg, log: log, seed: demoSeed(), watch: newWatch(), end: func() {}}
	if cfg.seedFile != "" {
		if a.seed, err = readSeed(cfg.seedFile); err != nil {
			return nil, err
		}
	}
	if cfg.secret == "" {
		log.Info("JWT_SECRET is not set: using a random one, tokens are valid until this process ends")
		cfg.secret = rand.Text() + rand.Text()
	}
	if cfg.password == "" && !cfg.isLocal() {
		log.Warn("LOGIN_PASSWORD is not set: login is off, because HOST is not a loopback address")
	}
	if a.tokens, err = newTokens([]byte(cfg.secret), cfg.issuer, cfg.tokenTTL); err != nil {
		return nil, err
	}
	var db database = newMemory(log)
	if cfg.redisURL != "" {
		if a.cluster, err = joinCluster(cfg.redisURL, log); err != nil {
			return nil, err
		}
		db = a.cluster.db
	}
	// A token can be refreshed until the window ends; after that nobody needs its session.
	a.store = newStore(db, cfg.tokenTTL+refreshWindow)
	if err := a.serve(); err != nil {
		if a.cluster != nil {
			err = errors.Join(err, a.cluster.close(context.Background()))
		}
		return nil, err
	}
	return a, nil
}

// serve creates the server and its routes, and starts what runs in the background.
func (a *app) serve() (err error) {
	cfg := a.cfg
	if err := a.store.createSeed(context.Background(), a.seed); err != nil {
		return err
	}
	o := realtime.Options{
		Tokens:      a.tokens.verifier,
		Users:       a.store,
		Sessions:    a.store,
		Drivers:     a.store,
		Offers:      a.store,
		Trips:       a.store,
		Parties:     a.store,
		Snapshots:   a.store,
		Recovery:    realtime.Recovery{Enabled: cfg.recovery},
		Unreachable: a.unreachable,
		Origins:     realtime.Origins{Allowed: cfg.origins, Credentials: len(cfg.origins) > 0 && !slices.ContainsFunc(cfg.origins, anybodys)},
		Compat:      realtime.Compat{AllowEIO3: cfg.allowEIO3, LegacyQueryToken: cfg.legacyQueryToken, RetryExpired: cfg.retryExpired},
		Timeouts: realtime.Timeouts{
			PingInterval: cfg.pingInterval, PingTimeout: cfg.pingTimeout, Connect: cfg.connectTimeout, RefreshGrace: refreshGrace,
		},
		TrustedProxies: cfg.proxies,
		Unlimited:      cfg.noRateLimit,
		Logger:         a.log,
		Trace:          a.watch.trace(),
	}
	if a.cluster != nil {
		a.cluster.options(&o)
	}
	var metrics *realtimeprom.Metrics
	if cfg.metrics != "" {
		metrics, a.registry = newMetrics()
		o.Trace = realtime.JoinTraces(o.Trace, metrics.Trace())
	}
	if cfg.admin {
		if a.operators, err = a.newOperators(&o); err != nil {
			return err
		}
	}
	if a.rt, err = realtime.New(o); err != nil {
		return err
	}
	if cfg.echo {
		a.rt.Drivers().HandleRaw("conformance:echo", func(_ context.Context, _ *realtime.Socket, args realtime.Raw) (realtime.Raw, error) {
			return args, nil
		})
	}
	a.watch.handle(a.rt)
	if metrics != nil {
		metrics.Watch(a.rt) // all handlers are registered
	}
	a.matcher = newMatcher(a.store, cfg, a.log, a.connected)

	running, stop := context.WithCancel(context.Background())
	var background sync.WaitGroup
	background.Go(func() { a.store.db.relay(running, a.rt) })
	background.Go(func() { a.watch.report(running, a.rt) })
	a.end = func() { stop(); background.Wait() }

	a.mux = http.NewServeMux()
	a.mux.Handle(realtime.Path, a.rt)
	a.routes(a.mux)
	a.health(a.mux)
	if a.operators != nil {
		a.operators.mount(a.mux, a.rt)
	}
	a.mux.Handle("/", a.page())
	return nil
}

// shutdown disconnects all clients and ends the server, which may be nil, when the requests that
// are under way have published what they have to.
func (a *app) shutdown(ctx context.Context, server *http.Server) error {
	a.draining.Store(true)
	defer a.end() // not before: it ends what publishes
	return realtime.Shutdown(ctx, server, a.rt)
}

// close ends all remaining work, including what a request has started meanwhile.
func (a *app) close() {
	a.end()
	a.matcher.close()
	_ = a.rt.Shutdown(context.Background()) // returns at once if shutdown has completed, with the same error
	if a.cluster != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := a.cluster.close(ctx); err != nil {
			a.log.Warn("cluster not left", "error", err)
		}
	}
}

// greet prints the URL and one line with a token for each user.
func (a *app) greet(ctx context.Context, w io.Writer, port int) error {
	var b strings.Builder
	fmt.Fprintf(&b, "listening on http://localhost:%d\n", port)
	if a.operators != nil {
		fmt.Fprintf(&b, "operators: http://localhost:%d/operators/ %s\n", port, a.operators.token)
	}
	for _, u := range a.seed.Users {
		sid, err := a.store.sessionFor(ctx, u.ID, a.seed)
		if err != nil {
			return err
		}
		token, err := a.tokens.mint(u, sid, a.tokens.expiry())
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "user %s %s %s\n", u.ID, u.Type, token)
	}
	fmt.Fprintf(&b, "\nopen http://localhost:%d\n", port)
	_, err := io.WriteString(w, b.String())
	return err
}
