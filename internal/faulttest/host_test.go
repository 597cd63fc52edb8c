// Hosts with faults, over real sockets: repositories, services, buses and handlers that
// block forever and ignore ctx, fail, panic or return nonsense. The clients that were
// connected before are served throughout, and in the end nothing is left.

package faulttest_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// faultyHost implements all that a host implements. In one stage it has a fault, for
// users, tokens and trips whose id contains "bad".
type faultyHost struct {
	*testServer // set last: the server calls the host before newTestServer returns
	realtime.DriverService
	tokens   *realtimetest.Tokens
	users    *realtimetest.Users
	sessions *realtimetest.Sessions
	stage    string
	mode     string
	release  chan struct{}
}

var errDatabase = errors.New("database is down")

// fault is called first by each method. nonsense says that the method must return a
// wrong answer.
func (e *faultyHost) fault(stage, about string) (nonsense bool, err error) {
	if e.stage != stage || !strings.Contains(about, "bad") {
		return false, nil
	}
	switch e.mode {
	case "blocks":
		<-e.release // ignores ctx
		return false, errDatabase
	case "fails":
		return false, errDatabase
	case "panics":
		panic("a bug of the host's")
	}
	return true, nil
}

func (e *faultyHost) VerifyToken(ctx context.Context, token, namespace string) (realtime.Claims, error) {
	nonsense, err := e.fault("token", token)
	if nonsense || err != nil {
		return realtime.Claims{ExpiresAt: time.Now().Add(time.Hour), Subject: "healthy-driver", SessionID: "another's"}, err
	}
	return e.tokens.VerifyToken(ctx, token, namespace)
}

func (e *faultyHost) FindUser(ctx context.Context, id string) (realtime.User, error) {
	nonsense, err := e.fault("user", id)
	if nonsense || err != nil {
		return realtime.User{ID: "healthy-driver", Type: realtime.UserDriver, Active: true}, err
	}
	return e.users.FindUser(ctx, id)
}

func (e *faultyHost) FindSession(ctx context.Context, sid string) (realtime.Session, error) {
	nonsense, err := e.fault("session", sid)
	if nonsense || err != nil {
		return realtime.Session{}, err
	}
	return e.sessions.FindSession(ctx, sid)
}

func (e *faultyHost) ActiveTrips(_ context.Context, user string) ([]string, error) {
	nonsense, err := e.fault("trips", user)
	if nonsense {
		return make([]string, 1<<20), nil
	}
	return nil, err
}

func (e *faultyHost) FindParties(_ context.Context, trip string) (realtime.TripParties, error) {
	nonsense, err := e.fault("parties", trip)
	if nonsense {
		return realtime.TripParties{PassengerID: strings.Repeat("x", 1<<20), DriverID: "\x00\xff"}, nil
	}
	return realtime.TripParties{}, err
}

func (e *faultyHost) UpdateStatus(ctx context.Context, driver string, in realtime.StatusUpdate) (realtime.Availability, error) {
	nonsense, err := e.fault("drivers", driver)
	if nonsense || err != nil {
		return realtime.Availability{DriverID: "healthy-driver"}, err
	}
	return e.DriverService.UpdateStatus(ctx, driver, in)
}

func (e *faultyHost) UpdateLocation(ctx context.Context, driver string, in realtime.LocationPing) (realtime.LocationUpdate, bool, error) {
	nonsense, err := e.fault("drivers", driver)
	if nonsense || err != nil {
		return realtime.LocationUpdate{DriverID: driver, LastLocation: realtime.Position{Lat: math.NaN()}}, true, err
	}
	return e.DriverService.UpdateLocation(ctx, driver, in)
}

func (e *faultyHost) SetTrip(ctx context.Context, driver, trip string) (realtime.Availability, error) {
	nonsense, err := e.fault("drivers", driver)
	if nonsense || err != nil {
		return realtime.Availability{}, err
	}
	return e.DriverService.SetTrip(ctx, driver, trip)
}

func (e *faultyHost) AcceptOffer(_ context.Context, driver, _ string) (string, error) {
	_, err := e.fault("offers", driver)
	return "", err
}

func (e *faultyHost) RejectOffer(_ context.Context, driver, _, _ string) error {
	_, err := e.fault("offers", driver)
	return err
}

// newFaultyHost starts a server whose host has that fault in that stage.
func newFaultyHost(t *testing.T, stage, mode string, configure ...func(o *realtime.Options)) *faultyHost {
	t.Helper()
	e := &faultyHost{DriverService: realtime.NewMemoryDrivers(), stage: stage, mode: mode, release: make(chan struct{})}
	s := newTestServer(t, nil, append([]func(o *realtime.Options){func(o *realtime.Options) {
		e.tokens, e.users, e.sessions = o.Tokens.(*realtimetest.Tokens), o.Users.(*realtimetest.Users), o.Sessions.(*realtimetest.Sessions)
		o.Tokens, o.Users, o.Sessions, o.Trips, o.Parties, o.Drivers, o.Offers = e, e, e, e, e, e, e
		o.Timeouts.Repo, o.Timeouts.Handler, o.Timeouts.UnavailableDelay = patience, patience, 50*time.Millisecond
		if mode == "blocks" {
			o.Timeouts.Repo, o.Timeouts.Handler = 500*time.Millisecond, time.Second
		}
		o.Limits.RepoConcurrency = 4
		o.Timeouts.SweepInterval = 100 * time.Millisecond
		o.Timeouts.Close = 200 * time.Millisecond
	}}, configure...)...)
	e.testServer = s
	return e
}

func TestServer_FaultsOfRepositories(t *testing.T) {
	for _, stage := range []string{"token", "user", "session", "trips"} {
		for _, mode := range []string{"blocks", "fails", "panics", "nonsense"} {
			t.Run(stage+" "+mode, func(t *testing.T) {
				e := newFaultyHost(t, stage, mode)
				var all sync.WaitGroup
				for i := range 20 {
					all.Go(func() {
						user := fmt.Sprintf("bad-%d", i)
						l := e.websocket(t).send(text(connectPacket(realtime.NamespaceDrivers, e.login(user, realtime.UserDriver))))
						if stage == "token" && mode == "nonsense" {
							require.Contains(t, l.until("44/drivers,"), `"invalid_session"`)
							l.reset()
							return
						}
						l.waitForClose() // neither admitted nor refused
					})
				}
				all.Wait()
				e.requireHealthy(t)
				code := realtime.CodeUnavailable
				if stage == "token" && mode == "nonsense" {
					code = realtime.CodeInvalidSession
				}
				e.mu.Lock()
				require.Equal(t, map[realtime.Code]int{code: 20}, e.refused)
				e.mu.Unlock()
				close(e.release)
				e.requireNothingLeft(t)
			})
		}
	}
}

func TestServer_FaultsOfServices(t *testing.T) {
	calls := map[string][]string{
		"drivers": {`"driver:status:update",{"isOnline":true}`, `"driver:location:ping",{"lat":1,"lng":1}`, `"driver:trip:set",{"currentTripId":"t"}`},
		"offers":  {`"driver:offer:accept",{"assignmentId":"a"}`, `"driver:offer:reject",{"assignmentId":"a"}`},
	}
	for stage, events := range calls {
		for _, mode := range []string{"blocks", "fails", "panics", "nonsense"} {
			t.Run(stage+" "+mode, func(t *testing.T) {
				e := newFaultyHost(t, stage, mode)
				var all sync.WaitGroup
				for i := range 12 {
					all.Go(func() {
						l := e.enter(t, fmt.Sprintf("bad-%d", i)).send(text(`42/drivers,1[` + events[i%len(events)] + `]`))
						ack := l.until("43/drivers,1[")
						switch mode {
						case "blocks":
							require.Contains(t, ack, `"unavailable"`)
							l.waitForClose()
							return
						case "fails", "panics":
							require.Contains(t, ack, `"internal"`)
							require.NotContains(t, ack, "database")
						}
						l.reset()
					})
				}
				all.Wait()
				e.requireHealthy(t)
				close(e.release)
				e.requireNothingLeft(t)
			})
		}
	}
}

// A PartyLookup with a fault delays no later event.
func TestServer_FaultsOfParties(t *testing.T) {
	for _, mode := range []string{"blocks", "fails", "panics", "nonsense"} {
		t.Run(mode, func(t *testing.T) {
			e := newFaultyHost(t, "parties", mode)
			for i := range 200 { // three for each queue of the bus
				require.NoError(t, e.rt.Publish(t.Context(), realtime.TripStarted{TripID: fmt.Sprintf("bad-%d", i)}))
			}
			e.requireHealthy(t)
			for range 200 {
				realtimetest.Expect(t, e.admin, realtime.EventTripStarted) // admins need no lookup
			}
			close(e.release)
			e.requireNothingLeft(t)
		})
	}
}

// brokenBus is a bus whose Publish fails while broken is set, and whose Subscribe may
// fail.
type brokenBus struct {
	realtime.EventBus
	broken    atomic.Bool
	subscribe error
}

func (b *brokenBus) Publish(ctx context.Context, e realtime.Envelope) error {
	if b.broken.Load() {
		return errDatabase
	}
	return b.EventBus.Publish(ctx, e)
}

func (b *brokenBus) Subscribe(handler func(ctx context.Context, e realtime.Envelope) error) (func(), error) {
	if b.subscribe != nil {
		return nil, b.subscribe
	}
	return b.EventBus.Subscribe(handler)
}

func TestServer_FaultsOfTheBus(t *testing.T) {
	bus := &brokenBus{EventBus: realtimetest.NewBus()}
	s := newTestServer(t, nil, func(o *realtime.Options) { o.Bus, o.Timeouts.PresenceGrace = bus, 10*time.Millisecond })
	bus.broken.Store(true)
	require.ErrorIs(t, s.rt.Publish(t.Context(), realtime.TripStarted{TripID: "t1"}), errDatabase)
	require.ErrorIs(t, s.rt.DisconnectUser(t.Context(), "healthy-driver", "ban"), errDatabase)
	for i := range 5 {
		s.enter(t, fmt.Sprintf("comes-and-goes-%d", i)).reset() // presence cannot publish it
	}
	require.Eventually(t, func() bool { return strings.Count(s.logged(), "presence not published") >= 5 }, patience, 5*time.Millisecond)
	bus.broken.Store(false)
	s.requireHealthy(t)
	s.requireNothingLeft(t)

	_, err := realtime.New(realtime.Options{
		Tokens: s.tokens, Users: s.users, Sessions: s.sessions, Bus: &brokenBus{subscribe: errDatabase},
	})
	require.ErrorIs(t, err, errDatabase) // goleak checks that nothing is left
}

// Handlers that panic, and handlers that never return. A client that floods a handler
// which never returns gets an ack, holds at most Limits.QueuedEvents events, and is closed.
func TestServer_FaultsOfHandlers(t *testing.T) {
	for name, never := range map[string]bool{"panic": false, "never return": true} {
		t.Run(name, func(t *testing.T) {
			release := make(chan struct{})
			var calls atomic.Int64
			s := newTestServer(t, nil, func(o *realtime.Options) {
				o.Timeouts.Handler = patience
				if never {
					o.Timeouts.Handler = time.Second
				}
				o.Timeouts.Close = 200 * time.Millisecond
				o.Limits.QueuedEvents = 50
				free := realtime.Rate{PerSecond: -1}
				o.Rates.Event, o.Rates.User = free, free
			})
			s.rt.Drivers().HandleRaw("work", func(context.Context, *realtime.Socket, realtime.Raw) (realtime.Raw, error) {
				calls.Add(1)
				if never {
					<-release
				}
				panic("a bug of the host's")
			})
			big := `["work",` + quote(strings.Repeat("x", 10_000)) + `]`
			var all sync.WaitGroup
			for i := range 8 {
				all.Go(func() {
					l := s.enter(t, fmt.Sprintf("d-%d", i))
					if !never {
						for k := range 20 {
							require.Contains(t, l.send(text(fmt.Sprintf("42/drivers,%d%s", k, big))).until(fmt.Sprintf("43/drivers,%d[", k)), `"internal"`)
						}
						l.reset()
						return
					}
					sent := make(chan struct{})
					go func() { // far more than Limits.QueuedEvents, until a write fails
						defer close(sent)
						for k := range 2000 {
							if _, err := l.Write(text(fmt.Sprintf("42/drivers,%d%s", k, big))); err != nil {
								return
							}
						}
					}()
					require.Contains(t, l.until("43/drivers,"), `"unavailable"`)
					l.reset()
					<-sent
				})
			}
			all.Wait()
			s.requireHealthy(t)
			if never {
				require.EqualValues(t, 8, calls.Load(), "one at a time, and the first has not returned")
				require.Equal(t, 8, strings.Count(s.logged(), "handler does not return"), "once for each")
				require.Less(t, heapInUse(), s.heap+16<<20) // of 160 MB that were sent
				var rooms []realtime.Room
				for i := range 8 {
					rooms = append(rooms, realtime.DriverRoom(fmt.Sprintf("d-%d", i)))
				}
				require.Eventually(t, func() bool {
					left, err := s.rt.Drivers().To(rooms...).Sockets(t.Context())
					return err == nil && len(left) == 0
				}, patience, 5*time.Millisecond, "their sockets are gone, though their handlers are not")
			}
			close(release)
			s.requireNothingLeft(t)
		})
	}
}
