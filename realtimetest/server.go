// A server in one call.

package realtimetest

import (
	"context"
	"errors"
	"log"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/rodando/realtime"
)

// Server is a realtime.Server behind an http.Server on an in-memory network, with fakes
// for the host's services. All methods may be called concurrently.
type Server struct {
	Realtime *realtime.Server

	// The fakes. One that the configure functions replaced is not used by the server.
	Tokens   *Tokens
	Users    *Users
	Sessions *Sessions
	Trips    *Trips
	Parties  *Parties
	Bus      *Bus

	listener *Listener
	http     *http.Server
	hub      *HubNode // nil without a Hub
	log      *testLog
	close    func()

	mu      sync.Mutex // guards clients
	clients []*Client
}

// NewServer starts a server that is closed when the test ends. The configure functions
// change the options, which by default have the fakes, a Logger that writes to the
// test's log, Unlimited (a test may send as fast as it can), no RepoCache (a change of a
// fake applies at once) and no presence (the bus records only what the test publishes, and
// the reports about offers).
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
		_ = s.http.Serve(s.listener) // returns after Close
	}()
	s.close = sync.OnceFunc(func() {
		s.shutdown(t)
		<-served
		s.log.end()
	})
	t.Cleanup(s.Close)
	return s
}

// shared returns the service in the options if it is a fake, and the fallback otherwise.
func shared[T any](used any, fallback *T) *T {
	if fake, ok := used.(*T); ok {
		return fake
	}
	return fallback
}

// NewCluster starts n servers that are nodes of one cluster. They share a Hub, users,
// sessions, tokens and trips. Each has a bus of its own, so an event is handled by one
// node, and its emits reach the others through the Hub. They are closed when the test
// ends.
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

// Close closes the clients and then the server. It is called when the test ends, and
// may be called more than once. To test how clients see a shutdown, call
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
	// Longer than Timeouts.PingTimeout: for so long a polling client that a test has left is awaited.
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	checked, stop := context.WithCancel(ctx)
	stop() // so that Check asks no adapter
	ended := errors.Is(s.Realtime.Check(checked), realtime.ErrClosed)
	if err := s.Realtime.Shutdown(ctx); err != nil && !ended { // otherwise the test has got this error
		t.Errorf("closing the realtime server: %v", err)
	}
	if s.hub != nil {
		if err := s.hub.hub.Err(); err != nil {
			t.Errorf("the hub: %v", err)
		}
	}
	answered, stopWaiting := context.WithTimeout(ctx, time.Second)
	defer stopWaiting()
	_ = s.http.Shutdown(answered) // a client may have left before the answer to its last request
	if err := s.http.Close(); err != nil {
		t.Errorf("closing the http server: %v", err)
	}
}

// Driver connects a driver to /drivers and takes its hello, which Expect then does not
// return. It adds the user, their session and a token to the fakes if they are missing. A
// second call connects another device of the same user, in the same login session unless
// the option Session names another. The client is closed with the server.
func (s *Server) Driver(t testing.TB, userID string, opts ...Option) *Client {
	t.Helper()
	return s.enter(t, realtime.NamespaceDrivers, userID, realtime.UserDriver, opts)
}

// Passenger connects a passenger to /passengers; see Driver.
func (s *Server) Passenger(t testing.TB, userID string, opts ...Option) *Client {
	t.Helper()
	return s.enter(t, realtime.NamespacePassengers, userID, realtime.UserPassenger, opts)
}

// Admin connects an admin to /admin; see Driver.
func (s *Server) Admin(t testing.TB, userID string, opts ...Option) *Client {
	t.Helper()
	return s.enter(t, realtime.NamespaceAdmin, userID, realtime.UserAdmin, opts)
}

func (s *Server) enter(t testing.TB, namespace, userID string, typ realtime.UserType, opts []Option) *Client {
	t.Helper()
	d := s.dialer(t, opts)
	if d.sessionID == "" {
		d.sessionID = SessionID(userID)
	}
	token := s.login(userID, d.sessionID, typ)
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

// SessionID returns the id of a user's default login session.
func SessionID(userID string) string { return "session-of-" + userID }

// Login adds a user and their default session to the fakes if they are missing, and
// returns a new token that expires in an hour.
func (s *Server) Login(userID string, typ realtime.UserType) (token string) {
	return s.login(userID, SessionID(userID), typ)
}

func (s *Server) login(userID, sessionID string, typ realtime.UserType) (token string) {
	s.Users.users.setIfAbsent(userID, realtime.User{ID: userID, Type: typ, Active: true})
	s.Sessions.sessions.setIfAbsent(sessionID, realtime.Session{ID: sessionID, UserID: userID})
	return s.Tokens.Mint(userID, sessionID, time.Hour)
}

// Dial connects to a namespace with the given options only. It is the function Dial for
// this server. The client is closed with the server.
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

// Publish publishes a domain event and waits with Settle until it has been handled, so
// that its emits are on their way to the clients. An error fails the test.
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

// Settle waits until the events on the Bus and the messages on the Hub have been
// handled. It returns an error if ctx ends first.
func (s *Server) Settle(ctx context.Context) error {
	if err := s.Bus.Wait(ctx); err != nil {
		return err
	}
	if s.hub != nil {
		return s.hub.hub.Wait(ctx)
	}
	return nil
}

// URL returns the server's URL, for requests with HTTPClient.
func (s *Server) URL() string { return "http://" + listenAddr.IP.String() }

// HTTPClient returns an HTTP client whose every request goes to this server. It does not
// keep connections alive.
func (s *Server) HTTPClient() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: s.listener.DialContext, DisableKeepAlives: true}}
}

// testLog writes to the test's log until the test ends, after which that would panic.
type testLog struct {
	mu    sync.Mutex // guards ended, and is held while writing
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
