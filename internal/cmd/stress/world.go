// The world: two nodes on loopback with their services, and how they shut down.

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/cmd/internal/offerbook"
	"github.com/rodando/realtime/internal/cmd/internal/rides"
	"github.com/rodando/realtime/internal/cmd/internal/stresskit"
	"github.com/rodando/realtime/realtimetest"
)

// Streams of randomness: each actor has one of its own, so that what one of them
// meets does not change what the others do.
const (
	actorStream = iota
	dispatcherStream
	racerStream
	hangStream
	crowdStream
	vainStream
	banStream
	againStream
	orderStream
	loseStream
	bombStream
	strangerStream
	offerStream
)

// settleTimeout is how long what was published may take to be handled everywhere.
const settleTimeout = 20 * time.Second

// What the nodes are configured with: so short that what is found by heartbeats,
// sweeps and deadlines is found within the run, so small that limits are reached.
const (
	pingInterval    = 4 * time.Second
	pingTimeout     = 7 * time.Second
	sweepInterval   = 2 * time.Second
	connectTimeout  = 3 * time.Second
	handlerTimeout  = 3 * time.Second
	repoTimeout     = time.Second
	queuedEvents    = 64
	unauthenticated = 400
)

var (
	// echo is answered with what was asked.
	echo = realtime.NewCall[int, int]("stress:echo")
	// bulk fills the buffers of a client that does not read.
	bulk = realtime.NewEvent[bulkPayload]("stress:bulk")
	// series is a row of numbers, from 1, for one connection of a session. The next
	// one can hear of what is under way when that is cut.
	series = realtime.NewEvent[seriesPayload]("stress:series")
)

type seriesPayload struct {
	SID        string `json:"sid"`
	Connection int    `json:"connection"`
	Number     int    `json:"number"`
}

type bulkPayload struct {
	UserID string `json:"userId"`
	Data   string `json:"data"`
}

// world is what the actors share. Its fields are set before they start, and safe for
// concurrent use.
type world struct {
	config  config
	seed    uint64
	oracle  *oracle
	count   *stresskit.Counts
	host    *host
	lag     *lag
	meter   meter
	scenes  sync.WaitGroup // what troubles run
	guests  atomic.Int64   // numbers what needs a number of its own
	looksUp bool           // there is a TripLookup

	vanishedAt atomic.Int64 // see vanished; in nanoseconds

	looksUpMany bool // which is asked for many users at once

	tokens   realtimetest.Tokens
	users    realtimetest.Users
	sessions realtimetest.Sessions
	trips    realtimetest.Trips // who is on which trip, in the host's database
	bus      *bus
	wires    [2]*wire
	book     *offerbook.Book
	drops    idSet // what is lost between the nodes: messages that name any of these
	nodes    []*node

	passengers, drivers rides.Pool // who are on no trip
	running             idSet
}

// has reports whether a trouble is switched on.
func (w *world) has(trouble string) bool { return w.config.troubles[trouble] }

// node is one server.
type node struct {
	rt   *realtime.Server
	http *http.Server
	url  string
	over chan struct{} // closed when http has ended
}

func (w *world) rng(stream, number int) *rand.Rand {
	return rand.New(rand.NewPCG(w.seed, uint64(stream)<<32|uint64(number)))
}

// newWorld starts the nodes. Two thirds of the seeds have snapshots. With an even seed the bus delivers every event to every
// node, with an odd one to one node. Half of the seeds have a TripLookup, half of these
// with batches.
func newWorld(cfg config) (*world, error) {
	w := &world{config: cfg, seed: cfg.seed, oracle: newOracle(), count: &stresskit.Counts{}, looksUp: cfg.seed%4 == 1 || cfg.seed%4 == 2}
	w.looksUpMany = w.looksUp && cfg.seed%8 < 4
	w.oracle.recovery, w.oracle.snapshots = cfg.recovery, cfg.seed%3 > 0
	w.host = newHost(w)
	lag, err := newLag()
	if err != nil {
		return nil, err
	}
	w.lag = lag
	w.oracle.lag = w.lag.since
	w.book = w.newBook()
	w.bus = newBus(w, 2, cfg.seed%2 == 0)
	w.wires = newWires(w, realtimetest.NewHub())
	drivers := realtime.NewMemoryDrivers()
	for i := range w.wires {
		n, err := w.start(i, drivers)
		if err != nil {
			return nil, errors.Join(err, w.stop(context.Background()))
		}
		w.nodes = append(w.nodes, n)
	}
	return w, nil
}

func (w *world) start(i int, drivers realtime.DriverService) (*node, error) {
	h := w.host
	o := realtime.Options{
		Tokens: tokens{&w.tokens, h}, Users: users{&w.users, h}, Sessions: sessions{&w.sessions, h},
		Parties: parties{h}, Offers: offers{h}, Drivers: driverService{drivers, h},
		Bus: nodeBus{w.bus, i}, Cluster: realtime.Cluster{BusFanOut: w.bus.fanOut, Adapter: w.wires[i]},
		Logger: slog.New(&logHandler{Handler: slog.DiscardHandler, w: w}), Trace: h.trace(),
		Timeouts: realtime.Timeouts{
			PingInterval: pingInterval, PingTimeout: pingTimeout, SweepInterval: sweepInterval, PresenceGrace: 2 * time.Second,
			Connect: connectTimeout, Handler: handlerTimeout, Repo: repoTimeout,
			UnavailableDelay: 500 * time.Millisecond, DrainDelay: time.Second,
		},
		// All clients are behind a proxy on this machine, which says where they are.
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		// Devices that vanish between two polls are counted until their heartbeat fails.
		Limits: realtime.Limits{
			OutboxBytes: 512 << 10, SocketsPerUser: 100, Namespaces: 2, QueuedEvents: queuedEvents,
			Unauthenticated: unauthenticated, UnauthenticatedPerIP: 40, RepoConcurrency: 16,
		},
		ExpireOffers: true,
		Recovery:     recoveryOptions(w.config.recovery),
		Rates:        realtime.Rates{Events: map[string]realtime.Rate{chaff.Name(): {PerSecond: -1}}},
	}
	if w.oracle.snapshots {
		o.Snapshots = snapshots{&w.trips}
	}
	switch rows := (trips{&w.trips, h}); {
	case w.looksUpMany:
		o.Trips = manyTrips{rows}
	case w.looksUp:
		o.Trips = rows
	}
	if w.config.plant == "nobody gets in" {
		o.Limits.Connections = 1 // as strangers make room for others, but not for those who are in
	}
	rt, err := realtime.New(o)
	if err != nil {
		return nil, err
	}
	own, err := rt.Namespace(lab, realtime.NamespaceOptions{Authorize: h.authorize})
	if err != nil {
		return nil, errors.Join(err, rt.Shutdown(context.Background()))
	}
	h.hooks(rt, own)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, errors.Join(err, rt.Shutdown(context.Background()))
	}
	mux := http.NewServeMux()
	mux.Handle(realtime.Path, rt)
	n := &node{rt: rt, url: "http://" + l.Addr().String(), over: make(chan struct{})}
	n.http = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
	go func() {
		defer close(n.over)
		_ = n.http.Serve(narrow{l}) // it ends with Close
	}()
	return n, nil
}

// stop shuts both nodes down at the same time.
func (w *world) stop(ctx context.Context) error {
	ended := make([]error, len(w.nodes))
	var stopping sync.WaitGroup
	for i, n := range w.nodes {
		stopping.Go(func() { ended[i] = n.rt.Shutdown(ctx) })
	}
	stopping.Wait()
	errs := slices.Clone(ended)
	for _, n := range w.nodes {
		errs = append(errs, n.http.Close())
		<-n.over
	}
	return errors.Join(append(errs, w.bus.Close(ctx))...)
}

// narrow gives connections a small send buffer, so that the server soon detects a client
// that does not read. It returns plain TCP connections.
type narrow struct{ net.Listener }

// Accept implements net.Listener.
func (l narrow) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		err = c.(*net.TCPConn).SetWriteBuffer(32 << 10) //nolint:errcheck,forcetypeassert // a TCP listener accepts no other
	}
	return c, err
}

// dialNarrow gives the client's end a small receive buffer.
func dialNarrow(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, network, addr)
	if err == nil {
		err = c.(*net.TCPConn).SetReadBuffer(32 << 10) //nolint:errcheck,forcetypeassert // only TCP is dialed
	}
	return c, err
}

// publish publishes an event on the bus.
func (w *world) publish(id string, e realtime.DomainEvent) bool {
	env, err := realtime.NewEnvelope(e)
	if err == nil {
		if id != "" {
			env.ID = id
		}
		err = w.bus.Publish(context.Background(), env)
	}
	if err != nil {
		w.oracle.breachf("%s can't be published: %v", e.EventName(), err)
	}
	return err == nil
}

// settle waits until all events that were published before have been handled on every
// node, and reports whether they were.
func (w *world) settle() bool {
	ctx, cancel := w.allowed(settleTimeout)
	defer context.AfterFunc(w.oracle.serving, cancel)()
	defer cancel()
	err := w.bus.settle(ctx)
	for _, wire := range w.wires {
		if err == nil {
			err = wire.settle(ctx)
		}
	}
	if err != nil && !w.oracle.isDraining() {
		w.oracle.breachf("published events are not handled after %v", settleTimeout)
	}
	return err == nil
}

// idSet is a set of ids, such as those of the running trips with a driver. All methods
// may be called concurrently.
type idSet struct {
	mu  sync.Mutex
	ids map[string]bool
}

func (s *idSet) add(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ids == nil {
		s.ids = map[string]bool{}
	}
	s.ids[id] = true
}

// within reports whether f is true for any of them.
func (s *idSet) within(f func(id string) bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.ids {
		if f(id) {
			return true
		}
	}
	return false
}

func (s *idSet) has(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ids[id]
}

func (s *idSet) remove(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.ids, id)
}

// pick returns a random one, or "" if there is none.
func (s *idSet) pick(rng *rand.Rand) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := make([]string, 0, len(s.ids))
	for id := range s.ids {
		ids = append(ids, id)
	}
	if len(ids) == 0 {
		return ""
	}
	slices.Sort(ids) // a map's order is not the seed's
	return ids[rng.IntN(len(ids))]
}

// login opens a login session for a user, and returns its id and a token.
func (w *world) login(user string, n int) (sid, token string) {
	sid = fmt.Sprintf("s-%s-%d", user, n)
	w.sessions.Set(realtime.Session{ID: sid, UserID: user})
	w.oracle.opened(sid, user)
	return sid, w.tokens.Mint(user, sid, time.Hour)
}
