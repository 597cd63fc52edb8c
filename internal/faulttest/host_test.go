// Hosts that misbehave: repositories, services, buses and handlers that block for
// ever without heeding their ctx, fail, panic or return nonsense. Over real sockets;
// somebody who was connected before is served throughout, and in the end nothing is
// left of it.

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

// evil is everything that a host plugs in, and does to users whose id begins with
// "bad" what it is told.
type evil struct {
	*site // what follows is read by the server, before there is a site
	realtime.DriverService
	tokens   *realtimetest.Tokens
	users    *realtimetest.Users
	sessions *realtimetest.Sessions
	stage    string
	mode     string
	release  chan struct{}
}

var errDatabase = errors.New("database is down")

// does is called by each question; nonsense reports that the answer is to be such.
func (e *evil) does(stage, about string) (nonsense bool, err error) {
	if e.stage != stage || !strings.Contains(about, "bad") {
		return false, nil
	}
	switch e.mode {
	case "blocks":
		<-e.release // whatever becomes of ctx
		return false, errDatabase
	case "fails":
		return false, errDatabase
	case "panics":
		panic("a bug of the host's")
	}
	return true, nil
}

func (e *evil) VerifyToken(ctx context.Context, token, namespace string) (realtime.Claims, error) {
	nonsense, err := e.does("token", token)
	if nonsense || err != nil {
		return realtime.Claims{ExpiresAt: time.Now().Add(time.Hour), Subject: "healthy-driver", SessionID: "another's"}, err
	}
	return e.tokens.VerifyToken(ctx, token, namespace)
}

func (e *evil) FindUser(ctx context.Context, id string) (realtime.User, error) {
	nonsense, err := e.does("user", id)
	if nonsense || err != nil {
		return realtime.User{ID: "healthy-driver", Type: realtime.UserDriver, Active: true}, err
	}
	return e.users.FindUser(ctx, id)
}

func (e *evil) FindSession(ctx context.Context, sid string) (realtime.Session, error) {
	nonsense, err := e.does("session", sid)
	if nonsense || err != nil {
		return realtime.Session{}, err
	}
	return e.sessions.FindSession(ctx, sid)
}

func (e *evil) ActiveTrips(_ context.Context, user string) ([]string, error) {
	nonsense, err := e.does("trips", user)
	if nonsense {
		return make([]string, 1<<20), nil
	}
	return nil, err
}

func (e *evil) FindParties(_ context.Context, trip string) (realtime.TripParties, error) {
	nonsense, err := e.does("parties", trip)
	if nonsense {
		return realtime.TripParties{PassengerID: strings.Repeat("x", 1<<20), DriverID: "\x00\xff"}, nil
	}
	return realtime.TripParties{}, err
}

func (e *evil) UpdateStatus(ctx context.Context, driver string, in realtime.StatusUpdate) (realtime.Availability, error) {
	nonsense, err := e.does("drivers", driver)
	if nonsense || err != nil {
		return realtime.Availability{DriverID: "healthy-driver"}, err
	}
	return e.DriverService.UpdateStatus(ctx, driver, in)
}

func (e *evil) UpdateLocation(ctx context.Context, driver string, in realtime.LocationPing) (realtime.LocationUpdate, bool, error) {
	nonsense, err := e.does("drivers", driver)
	if nonsense || err != nil {
		return realtime.LocationUpdate{DriverID: driver, LastLocation: realtime.Position{Lat: math.NaN()}}, true, err
	}
	return e.DriverService.UpdateLocation(ctx, driver, in)
}

func (e *evil) SetTrip(ctx context.Context, driver, trip string) (realtime.Availability, error) {
	nonsense, err := e.does("drivers", driver)
	if nonsense || err != nil {
		return realtime.Availability{}, err
	}
	return e.DriverService.SetTrip(ctx, driver, trip)
}

func (e *evil) AcceptOffer(_ context.Context, driver, _ string) (string, error) {
	_, err := e.does("offers", driver)
	return "", err
}

func (e *evil) RejectOffer(_ context.Context, driver, _, _ string) error {
	_, err := e.does("offers", driver)
	return err
}

// newEvilSite is a site whose host does something bad at one stage.
func newEvilSite(t *testing.T, stage, mode string, configure ...func(o *realtime.Options)) *evil {
	t.Helper()
	e := &evil{DriverService: realtime.NewMemoryDrivers(), stage: stage, mode: mode, release: make(chan struct{})}
	s := newSite(t, nil, append([]func(o *realtime.Options){func(o *realtime.Options) {
		e.tokens, e.users, e.sessions = o.Tokens.(*realtimetest.Tokens), o.Users.(*realtimetest.Users), o.Sessions.(*realtimetest.Sessions)
		o.Tokens, o.Users, o.Sessions, o.Trips, o.Parties, o.Drivers, o.Offers = e, e, e, e, e, e, e
		o.Timeouts.Repo, o.Timeouts.Handler, o.Timeouts.UnavailableDelay = 500*time.Millisecond, time.Second, 50*time.Millisecond
		o.Limits.RepoConcurrency = 4
		o.Timeouts.SweepInterval = 100 * time.Millisecond
		o.Timeouts.Close = 200 * time.Millisecond
	}}, configure...)...)
	e.site = s
	return e
}

func TestFaultsOfRepositories(t *testing.T) {
	for _, stage := range []string{"token", "user", "session", "trips"} {
		for _, mode := range []string{"blocks", "fails", "panics", "nonsense"} {
			t.Run(stage+" "+mode, func(t *testing.T) {
				e := newEvilSite(t, stage, mode)
				var all sync.WaitGroup
				for i := range 20 {
					all.Go(func() {
						user := fmt.Sprintf("bad-%d", i)
						l := e.websocket(t).say(text(connectPacket(realtime.NamespaceDrivers, e.login(user, realtime.UserDriver))))
						if stage == "token" && mode == "nonsense" {
							require.Contains(t, l.until("44/drivers,"), `"invalid_session"`)
							l.reset()
							return
						}
						l.hungUp() // neither admitted nor refused
					})
				}
				all.Wait()
				e.healthy(t)
				code := realtime.CodeUnavailable
				if stage == "token" && mode == "nonsense" {
					code = realtime.CodeInvalidSession
				}
				e.mu.Lock()
				require.Equal(t, map[realtime.Code]int{code: 20}, e.refused)
				e.mu.Unlock()
				close(e.release)
				e.settled(t)
			})
		}
	}
}

func TestFaultsOfServices(t *testing.T) {
	calls := map[string][]string{
		"drivers": {`"driver:status:update",{"isOnline":true}`, `"driver:location:ping",{"lat":1,"lng":1}`, `"driver:trip:set",{"currentTripId":"t"}`},
		"offers":  {`"driver:offer:accept",{"assignmentId":"a"}`, `"driver:offer:reject",{"assignmentId":"a"}`},
	}
	for stage, events := range calls {
		for _, mode := range []string{"blocks", "fails", "panics", "nonsense"} {
			t.Run(stage+" "+mode, func(t *testing.T) {
				e := newEvilSite(t, stage, mode)
				var all sync.WaitGroup
				for i := range 12 {
					all.Go(func() {
						l := e.enter(t, fmt.Sprintf("bad-%d", i)).say(text(`42/drivers,1[` + events[i%len(events)] + `]`))
						ack := l.until("43/drivers,1[")
						switch mode {
						case "blocks":
							require.Contains(t, ack, `"unavailable"`)
							l.hungUp()
							return
						case "fails", "panics":
							require.Contains(t, ack, `"internal"`)
							require.NotContains(t, ack, "database")
						}
						l.reset()
					})
				}
				all.Wait()
				e.healthy(t) // whom nobody told anything of the others
				close(e.release)
				e.settled(t)
			})
		}
	}
}

// A trip's people that nobody finds hold up no event behind.
func TestFaultsOfParties(t *testing.T) {
	for _, mode := range []string{"blocks", "fails", "panics", "nonsense"} {
		t.Run(mode, func(t *testing.T) {
			e := newEvilSite(t, "parties", mode)
			for i := range 200 { // three for each queue of the bus
				require.NoError(t, e.rt.Publish(t.Context(), realtime.TripStarted{TripID: fmt.Sprintf("bad-%d", i)}))
			}
			e.healthy(t)
			for range 200 {
				realtimetest.Expect(t, e.admin, realtime.EventTripStarted) // admins hear of it all the same
			}
			close(e.release)
			e.settled(t)
		})
	}
}

// brokenBus takes events of nobody but itself.
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

func TestFaultsOfTheBus(t *testing.T) {
	bus := &brokenBus{EventBus: realtimetest.NewBus()}
	s := newSite(t, nil, func(o *realtime.Options) { o.Bus, o.Timeouts.PresenceGrace = bus, 10*time.Millisecond })
	bus.broken.Store(true)
	require.ErrorIs(t, s.rt.Publish(t.Context(), realtime.TripStarted{TripID: "t1"}), errDatabase)
	require.ErrorIs(t, s.rt.DisconnectUser(t.Context(), "healthy-driver", "ban"), errDatabase)
	for i := range 5 {
		s.enter(t, fmt.Sprintf("comes-and-goes-%d", i)).reset() // of which presence can tell nobody
	}
	require.Eventually(t, func() bool { return strings.Count(s.logged(), "presence not published") >= 5 }, patience, 5*time.Millisecond)
	bus.broken.Store(false)
	s.healthy(t)
	s.settled(t)

	_, err := realtime.New(realtime.Options{
		Tokens: s.tokens, Users: s.users, Sessions: s.sessions, Bus: &brokenBus{subscribe: errDatabase},
	})
	require.ErrorIs(t, err, errDatabase) // and goleak sees that nothing is left of it
}

// Handlers that panic, and such that never return: the client that floods one of
// those gets an answer, costs no more than Limits.QueuedEvents, and is closed.
func TestFaultsOfHandlers(t *testing.T) {
	for name, never := range map[string]bool{"panic": false, "never return": true} {
		t.Run(name, func(t *testing.T) {
			release := make(chan struct{})
			var calls atomic.Int64
			s := newSite(t, nil, func(o *realtime.Options) {
				o.Timeouts.Handler = time.Second
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
							require.Contains(t, l.say(text(fmt.Sprintf("42/drivers,%d%s", k, big))).until(fmt.Sprintf("43/drivers,%d[", k)), `"internal"`)
						}
						l.reset()
						return
					}
					sent := make(chan struct{})
					go func() { // far more than what is to wait, as long as it is taken
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
			s.healthy(t)
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
			s.settled(t)
		})
	}
}
