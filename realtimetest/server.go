// A server in one call.

package realtimetest

import (
	"context"
	"log"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/rodando/realtime"
)

// Server is a realtime.Server behind an http.Server on a network in memory,
// with fakes for what a host plugs in. All methods may be called concurrently.
type Server struct {
	Realtime *realtime.Server

	// The fakes. Where the configuration has put something else in the place of
	// one, it is not in use.
	Tokens   *Tokens
	Users    *Users
	Sessions *Sessions
	Trips    *Trips
	Parties  *Parties
	Bus      *Bus

	listener *Listener
	http     *http.Server
	hub      *HubNode // nil when there is none
	log      *testLog
	close    func()

	mu      sync.Mutex
	clients []*Client
}

// NewServer starts a server, closed when the test ends. Configure functions
// change the options, in which the fakes are filled in already, Logger writes to
// the test's log, Unlimited is set, so that a test may send as fast as it can,
// RepoCache is off, so that a change of a fake is seen at once, and so is presence,
// so that the bus records what the test publishes.
func NewServer(t testing.TB, configure ...func(o *realtime.Options)) *Server {
	t.Helper()
	s := &Server{
		Tokens: &Tokens{}, Users: &Users{}, Sessions: &Sessions{}, Trips: &Trips{}, Parties: &Parties{}, Bus: NewBus(),
		listener: NewListener(), log: &testLog{t: t},
	}
	o := realtime.Options{
		Tokens: s.Tokens, Users: s.Users, Sessions: s.Sessions, Trips: s.Trips, Parties: s.Parties, Bus: s.Bus,
		Logger:    slog.New(slog.NewTextHandler(s.log, nil)),
		Unlimited: true,
		Timeouts:  realtime.Timeouts{RepoCache: -1, PresenceGrace: -1},
	}
	for _, f := range configure {
		f(&o)
	}
	// Fakes of another server, as nodes of one cluster share them.
	s.Tokens = shared(o.Tokens, s.Tokens)
	s.Users = shared(o.Users, s.Users)
	s.Sessions = shared(o.Sessions, s.Sessions)
	s.Trips = shared(o.Trips, s.Trips)
	s.Parties = shared(o.Parties, s.Parties)
	s.Bus = shared(o.Bus, s.Bus)
	s.hub, _ = o.Cluster.Adapter.(*HubNode)

	rt, err := realtime.New(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Realtime = rt
	mux := http.NewServeMux()
	mux.Handle(realtime.Path, rt)
	s.http = &http.Server{Handler: mux, ErrorLog: log.New(s.log, "", 0), ReadHeaderTimeout: time.Minute}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = s.http.Serve(s.listener) // it ends with Close
	}()
	s.close = sync.OnceFunc(func() {
		s.shutdown(t)
		<-served
		s.log.end()
	})
	t.Cleanup(s.Close)
	return s
}

// shared returns what is in the options if it is a fake, else the fallback.
func shared[T any](used any, fallback *T) *T {
	if fake, ok := used.(*T); ok {
		return fake
	}
	return fallback
}

// NewCluster starts n servers that are nodes of one cluster, with one Hub and
// the same users, sessions, tokens and trips. Each has a bus of its own, so that
// one node handles an event and the others hear of it through the Hub.
func NewCluster(t testing.TB, n int, configure ...func(o *realtime.Options)) []*Server {
	t.Helper()
	hub := NewHub()
	adapters := make([]realtime.Adapter, n)
	for i := range adapters {
		adapters[i] = hub.Node()
	}
	return startServers(t, adapters, configure)
}

// startServers starts a server for each adapter.
func startServers(t testing.TB, adapters []realtime.Adapter, configure []func(o *realtime.Options)) []*Server {
	t.Helper()
	var servers []*Server
	for _, a := range adapters {
		join := func(o *realtime.Options) {
			o.Cluster.Adapter = a
			if len(servers) > 0 {
				first := servers[0]
				o.Tokens, o.Users, o.Sessions = first.Tokens, first.Users, first.Sessions
				o.Trips, o.Parties = first.Trips, first.Parties
			}
		}
		servers = append(servers, NewServer(t, append([]func(*realtime.Options){join}, configure...)...))
	}
	return servers
}

// Close closes the clients, then the server. It is idempotent, and called when
// the test ends. What a shutdown of the server is to its clients can be seen by
// Realtime.Shutdown.
func (s *Server) Close() { s.close() }

func (s *Server) shutdown(t testing.TB) {
	s.mu.Lock()
	clients := s.clients
	s.clients = nil
	s.mu.Unlock()
	var closing sync.WaitGroup
	for _, c := range clients {
		closing.Go(c.Close)
	}
	closing.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := s.Realtime.Shutdown(ctx); err != nil {
		t.Errorf("closing the realtime server: %v", err)
	}
	if s.hub != nil {
		if err := s.hub.hub.Err(); err != nil {
			t.Errorf("the hub: %v", err)
		}
	}
	if err := s.http.Close(); err != nil {
		t.Errorf("closing the http server: %v", err)
	}
}

// Driver connects a driver to /drivers and waits for hello. The user, his
// session and a token are made where they are missing. Each call is another
// device of his, in the same login session unless Session says otherwise.
func (s *Server) Driver(t testing.TB, userID string, opts ...Option) *Client {
	t.Helper()
	return s.enter(t, realtime.NamespaceDrivers, userID, realtime.UserDriver, opts)
}

// Passenger connects a passenger to /passengers, as Driver does a driver.
func (s *Server) Passenger(t testing.TB, userID string, opts ...Option) *Client {
	t.Helper()
	return s.enter(t, realtime.NamespacePassengers, userID, realtime.UserPassenger, opts)
}

// Admin connects an admin to /admin, as Driver does a driver.
func (s *Server) Admin(t testing.TB, userID string, opts ...Option) *Client {
	t.Helper()
	return s.enter(t, realtime.NamespaceAdmin, userID, realtime.UserAdmin, opts)
}

func (s *Server) enter(t testing.TB, namespace, userID string, typ realtime.UserType, opts []Option) *Client {
	t.Helper()
	d := s.dialer(t, opts)
	if d.sid == "" {
		d.sid = SessionID(userID)
	}
	token := s.login(userID, d.sid, typ)
	if d.token == "" {
		d.token = token
	}
	ctx, cancel := context.WithTimeout(t.Context(), Timeout)
	defer cancel()
	c, err := s.connect(ctx, namespace, d, userID)
	if err != nil {
		t.Fatalf("%s to %s: %v", userID, namespace, err)
	}
	Expect(t, c, realtime.EventHello)
	return c
}

// SessionID is the id of the login session that a user gets by default.
func SessionID(userID string) string { return "session-of-" + userID }

// Login makes a user and his session where they are missing, and returns a new
// token, good for an hour.
func (s *Server) Login(userID string, typ realtime.UserType) (token string) {
	return s.login(userID, SessionID(userID), typ)
}

func (s *Server) login(userID, sid string, typ realtime.UserType) (token string) {
	s.Users.users.setIfAbsent(userID, realtime.User{ID: userID, Type: typ, Active: true})
	s.Sessions.sessions.setIfAbsent(sid, realtime.Session{ID: sid, UserID: userID})
	return s.Tokens.Mint(userID, sid, time.Hour)
}

// Dial connects to a namespace as the options say and returns when CONNECT was
// answered. A refusal is a *ConnectError or a *HandshakeError; see the function
// Dial. The client is closed with the server.
func (s *Server) Dial(ctx context.Context, namespace string, opts ...Option) (*Client, error) {
	d, err := newDial(s.URL(), opts)
	if err != nil {
		return nil, err
	}
	return s.connect(ctx, namespace, d, "")
}

func (s *Server) dialer(t testing.TB, opts []Option) *dial {
	d, err := newDial(s.URL(), opts)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (s *Server) connect(ctx context.Context, namespace string, d *dial, name string) (*Client, error) {
	if d.over == nil {
		d.over = s.listener.DialContext
	}
	c, err := d.dial(ctx, namespace)
	if err != nil {
		return nil, err
	}
	c.settled = s.Settle
	if name != "" {
		c.setName(name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clients = append(s.clients, c)
	return c, nil
}

// Publish publishes a domain event and waits until the server has handled it,
// so that what it tells clients is on its way.
func (s *Server) Publish(t testing.TB, e realtime.DomainEvent) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Timeout)
	defer cancel()
	err := s.Realtime.Publish(ctx, e)
	if err == nil {
		err = s.Settle(ctx)
	}
	if err != nil {
		t.Fatalf("publishing %T: %v", e, err)
	}
}

// Settle returns when the events on the Bus have been handled, and the messages
// between the nodes of the Hub, or with ctx's error.
func (s *Server) Settle(ctx context.Context) error {
	if err := s.Bus.Wait(ctx); err != nil {
		return err
	}
	if s.hub != nil {
		return s.hub.hub.Wait(ctx)
	}
	return nil
}

// URL is where the server is, for requests by Client.
func (s *Server) URL() string { return "http://" + listenAddr.IP.String() }

// HTTPClient returns a client that reaches the server, and nothing else, for
// requests below those of Socket.IO. Its connections are not kept.
func (s *Server) HTTPClient() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: s.listener.DialContext, DisableKeepAlives: true}}
}

// testLog is a writer to a test's log, while there is one.
type testLog struct {
	mu    sync.Mutex
	t     testing.TB
	ended bool
}

func (l *testLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return len(b), nil
	}
	return l.t.Output().Write(b)
}

func (l *testLog) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
}
