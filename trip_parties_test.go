// The people of a trip whom no event names: when and how often Options.Parties is called, and
// which events do not wait for it.

package realtime_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// serialBus delivers one event after the other, of whichever key.
type serialBus struct {
	events  chan realtime.Envelope
	handled chan struct{} // has one for each event that the handler returned from
}

func newSerialBus() *serialBus {
	return &serialBus{make(chan realtime.Envelope, 1000), make(chan struct{}, 1000)}
}

func (b *serialBus) Publish(_ context.Context, e realtime.Envelope) error {
	b.events <- e
	return nil
}

func (b *serialBus) Subscribe(handler func(context.Context, realtime.Envelope) error) (func(), error) {
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case e := <-b.events:
				_ = handler(context.Background(), e)
				b.handled <- struct{}{}
			case <-end:
				return
			}
		}
	}()
	return func() { close(end); <-ended }, nil
}

// countingParties is a PartyLookup that counts the calls for each trip, and hangs while
// hang is set.
type countingParties struct {
	mu         sync.Mutex
	of         map[string]int
	answer     realtime.TripParties
	hang       chan struct{} // calls wait until it is closed; nil: they return at once
	ignoresCtx bool
}

func (a *countingParties) FindParties(ctx context.Context, id string) (realtime.TripParties, error) {
	a.mu.Lock()
	if a.of == nil {
		a.of = map[string]int{}
	}
	a.of[id]++
	hang, ignoresCtx, answer := a.hang, a.ignoresCtx, a.answer
	a.mu.Unlock()
	switch {
	case hang != nil && ignoresCtx:
		<-hang
	case hang != nil:
		select {
		case <-hang:
		case <-ctx.Done():
			return realtime.TripParties{}, ctx.Err()
		}
	}
	return answer, nil
}

func (a *countingParties) count(id string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.of[id]
}

func TestPublisher_BanDoesNotWaitForALookup(t *testing.T) {
	t.Parallel()
	for name, newBus := range map[string]func() realtime.EventBus{
		"a serial bus": func() realtime.EventBus { return newSerialBus() },
		"MemoryBus":    func() realtime.EventBus { return realtime.NewMemoryBus() },
	} {
		for _, ignoresCtx := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, ignores ctx %v", name, ignoresCtx), func(t *testing.T) {
				inBubble(t, func(t *testing.T) {
					lookup := &countingParties{hang: make(chan struct{}), ignoresCtx: ignoresCtx}
					srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Bus, o.Parties = newBus(), lookup })
					banned, out := srv.Driver(t, "d1"), srv.Passenger(t, "p1")
					begun := time.Now()
					for n := range 200 {
						require.NoError(t, srv.Realtime.Publish(t.Context(), realtime.TripStarted{TripID: fmt.Sprint("t", n%100)}))
					}
					require.NoError(t, srv.Realtime.Publish(t.Context(), realtime.UserAccessChanged{UserID: "d1"}))
					require.NoError(t, srv.Realtime.Publish(t.Context(), realtime.SessionRevoked{SessionID: realtimetest.SessionID("p1")}))
					require.Equal(t, realtimetest.ReasonServer, banned.Disconnected(t))
					require.Equal(t, realtimetest.ReasonServer, out.Disconnected(t))
					require.LessOrEqual(t, time.Since(begun), 100*time.Millisecond)
					if ignoresCtx {
						time.Sleep(time.Minute)
					}
					close(lookup.hang)
				})
			})
		}
	}
}

// 20 events of one trip do not cost 20 times Timeouts.Repo, and stay in order.
func TestPublisher_LookupThatHangsIsLeftAlone(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		lookup := &countingParties{hang: make(chan struct{})}
		srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Parties = lookup })
		admin := srv.Admin(t, "a1")
		publish := func() {
			for n := range 20 {
				require.NoError(t, srv.Realtime.Publish(t.Context(), realtime.AdminTripMessage{
					TripID: "t1", AdminID: "a1", To: realtime.MessageToBoth, Message: fmt.Sprint(n),
				}))
			}
		}
		expect := func() {
			t.Helper()
			for n := range 20 {
				require.Equal(t, fmt.Sprint(n), realtimetest.Expect(t, admin.Within(time.Minute), realtime.EventAdminTripMessage).Message)
			}
		}
		begun := time.Now()
		publish()
		expect()
		require.Equal(t, 5*time.Second, time.Since(begun), "Options.Timeouts.Repo, once")
		require.Equal(t, 1, lookup.count("t1"))
		publish()
		expect()
		require.Equal(t, 5*time.Second, time.Since(begun))
		require.Equal(t, 1, lookup.count("t1"))

		// After a while it is asked again, then after a longer one.
		time.Sleep(11 * time.Second)
		publish()
		expect()
		require.Equal(t, 2, lookup.count("t1"))
		time.Sleep(11 * time.Second)
		publish()
		expect()
		require.Equal(t, 2, lookup.count("t1"))
		time.Sleep(10 * time.Second)
		lookup.mu.Lock()
		lookup.hang, lookup.answer = nil, realtime.TripParties{PassengerID: "p1", DriverID: "d1"}
		lookup.mu.Unlock()
		publish()
		expect()
		require.Equal(t, 3, lookup.count("t1"), "and once it answers, no more")
	})
}

func TestPublisher_LookupsAnswerIsKept(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		lookup := &countingParties{answer: realtime.TripParties{PassengerID: "p1", DriverID: "d1"}}
		nodes := realtimetest.NewCluster(t, 2, withoutLookup, func(o *realtime.Options) { o.Parties = lookup })
		passenger, driver := nodes[1].Passenger(t, "p1"), nodes[0].Driver(t, "d1")
		for range 5 {
			nodes[0].Publish(t, realtime.TripStarted{TripID: "t1"})
			realtimetest.Expect(t, passenger, realtime.EventTripStarted)
			realtimetest.Expect(t, driver, realtime.EventTripStarted)
		}
		require.Equal(t, 1, lookup.count("t1"))
		nodes[1].Publish(t, realtime.TripRequested{TripID: "t1"})
		realtimetest.Expect(t, passenger, realtime.EventTripRequested)
		require.Equal(t, 1, lookup.count("t1"), "the other node knows the passenger too")
		require.Zero(t, inTripRoom(t, nodes[0].Realtime.Drivers(), "t1"), "a lookup assigns nobody")

		// Options.Parties is not called for a person whom the event does not need.
		nodes[0].Publish(t, realtime.TripAssigningStarted{TripID: "t2", PassengerID: "p1"})
		nodes[0].Publish(t, realtime.AssignmentRejected{TripID: "t2", AssignmentID: "as1", DriverID: "d1"})
		require.Zero(t, lookup.count("t2"))
		time.Sleep(time.Minute)
		nodes[0].Publish(t, realtime.TripStarted{TripID: "t1"})
		require.Equal(t, 2, lookup.count("t1"), "the driver may be another one by now")
	})
}

// The driver whom a lookup has named is not the one whom a later assignment means.
func TestPublisher_AssignmentThatNamesNoDriver(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, withoutLookup)
		first, second, passenger := srv.Driver(t, "d1"), srv.Driver(t, "d2"), srv.Passenger(t, "p1")
		srv.Parties.Set("t1", realtime.TripParties{PassengerID: "p1", DriverID: "d1"})
		srv.Publish(t, realtime.ArrivingStarted{TripID: "t1"})
		realtimetest.Expect(t, first, realtime.EventArrivingStarted)
		srv.Parties.Set("t1", realtime.TripParties{PassengerID: "p1", DriverID: "d2"})
		srv.Publish(t, realtime.DriverAssigned{TripID: "t1"})
		requireFollows(t, second, "t1", 1, all(passenger))
		requireFollows(t, first, "", 2, nil, passenger)
		time.Sleep(time.Millisecond) // of two at the same time the ids decide
		srv.Parties.Set("t1", realtime.TripParties{PassengerID: "p1", DriverID: "d1"})
		srv.Publish(t, realtime.DriverAssigned{TripID: "t1"})
		requireFollows(t, second, "", 3, nil, passenger)
		requireFollows(t, first, "t1", 4, all(passenger))
	})
}

// While too many events wait, Options.Parties is not called, and no event is dropped.
func TestPublisher_TooManyEventsWait(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		lookup := &countingParties{hang: make(chan struct{})}
		srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Parties = lookup })
		srv.Realtime.SetMaxQueued(3)
		admin := srv.Admin(t, "a1")
		begun := time.Now()
		for n := range 4 { // of one trip: the third is too many, and ends the question
			require.NoError(t, srv.Realtime.Publish(t.Context(), realtime.DriverEnRoute{TripID: "t1", ETAMinutes: new(float64(n))}))
		}
		for n := range 4 {
			require.InDelta(t, n, *realtimetest.Expect(t, admin, realtime.EventDriverEnRouteToAdmin).ETAMinutes, 0)
		}
		for n := range 6 {
			require.NoError(t, srv.Realtime.Publish(t.Context(), realtime.TripStarted{TripID: fmt.Sprint("u", n)}))
		}
		for range 3 {
			realtimetest.Expect(t, admin, realtime.EventTripStarted)
		}
		require.Less(t, time.Since(begun), time.Second)
		realtimetest.ExpectNone(t, admin, realtime.EventTripStarted)
		close(lookup.hang)
	})
}

func TestPublisher_LookupThatAnswersNonsense(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var log logBuffer
		lookup := &countingParties{answer: realtime.TripParties{PassengerID: "p1\x00", DriverID: "d1"}}
		srv := realtimetest.NewServer(t, logTo(&log), func(o *realtime.Options) { o.Parties = lookup })
		admin, driver := srv.Admin(t, "a1"), srv.Driver(t, "d1")
		srv.Publish(t, realtime.TripStarted{TripID: "t1"})
		require.Nil(t, realtimetest.Expect(t, admin, realtime.EventTripStartedToAdmin).DriverID)
		realtimetest.ExpectNone(t, driver)
		require.Contains(t, log.String(), "too long, or contains NUL")
	})
}

// An event that a healthy lookup completes has been sent when the bus takes it for
// handled; one that waits for long has not.
func TestPublisher_WhenAnEventIsHandled(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		bus := newSerialBus()
		lookup := &countingParties{hang: make(chan struct{})}
		srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Bus, o.Parties = bus, lookup })
		admin := srv.Admin(t, "a1")
		publish := func(trip string) time.Duration {
			begun := time.Now()
			require.NoError(t, srv.Realtime.Publish(t.Context(), realtime.TripStarted{TripID: trip}))
			<-bus.handled
			synctest.Wait()
			return time.Since(begun)
		}
		require.Equal(t, 50*time.Millisecond, publish("t1"))
		realtimetest.ExpectNone(t, admin)
	})
	t.Run("answered", func(t *testing.T) {
		inBubble(t, func(t *testing.T) {
			bus := newSerialBus()
			srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Bus = bus })
			admin := srv.Admin(t, "a1")
			entered, release := srv.Parties.Block()
			require.NoError(t, srv.Realtime.Publish(t.Context(), realtime.TripStarted{TripID: "t1"}))
			<-entered
			require.Empty(t, bus.handled)
			release()
			<-bus.handled
			require.Len(t, received(admin), 2)
		})
	})
}
