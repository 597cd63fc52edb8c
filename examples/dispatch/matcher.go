// The matcher: finds a driver for each trip.

package main

import (
	"cmp"
	"context"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/rodando/realtime"
)

// matcher offers each trip to one driver after another, each of whom has ttl to
// answer. It runs one goroutine for each trip that looks for a driver.
type matcher struct {
	store *store
	ttl   time.Duration
	log   *slog.Logger
	// connected reports whether a driver has a socket now.
	connected func(ctx context.Context, driverID string) bool

	ctx    context.Context // ends with close
	cancel context.CancelFunc
	trips  sync.WaitGroup
}

func newMatcher(s *store, ttl time.Duration, log *slog.Logger, connected func(context.Context, string) bool) *matcher {
	m := &matcher{store: s, ttl: ttl, log: log, connected: connected}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	return m
}

// match begins the search for a driver and returns at once.
func (m *matcher) match(tripID string) {
	m.trips.Go(func() { m.search(tripID) })
}

// close leaves the trips that have no driver as they are.
func (m *matcher) close() {
	m.cancel()
	m.trips.Wait()
}

func (m *matcher) search(tripID string) {
	pickup, ok := m.store.assigning(tripID)
	for ok && m.ctx.Err() == nil {
		// Asked anew for each offer: drivers come, go and move meanwhile.
		o := m.store.offerTo(tripID, m.candidates(pickup), m.ttl)
		if o == nil {
			return
		}
		m.log.Info("trip offered", "trip", tripID, "driver", o.driverID)
		m.wait(o)
	}
}

// wait returns when the offer has been answered or its time is up.
func (m *matcher) wait(o *offer) {
	timeout := time.NewTimer(time.Until(o.expiresAt))
	defer timeout.Stop()
	select {
	case <-o.answered:
	case <-timeout.C:
		m.store.expire(o)
	case <-m.ctx.Done():
	}
}

// candidates returns the available drivers in the order in which they are to be
// asked: those who would hear of an offer now before those who would not, the
// nearer ones before the farther, and those whose position is not known last.
func (m *matcher) candidates(pickup *realtime.Place) []string {
	type candidate struct {
		id        string
		connected bool
		meters    float64
	}
	var found []candidate
	for _, u := range m.store.usersOf(realtime.UserDriver) {
		a, known := m.store.drivers.Snapshot(u.ID)
		if !known || !a.IsAvailableForTrips {
			continue
		}
		c := candidate{id: u.ID, connected: m.connected(m.ctx, u.ID), meters: math.Inf(1)}
		if pickup != nil && a.LastLocation != nil {
			c.meters = meters(*a.LastLocation, position(pickup))
		}
		found = append(found, c)
	}
	slices.SortStableFunc(found, func(a, b candidate) int {
		if a.connected != b.connected {
			if a.connected {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.meters, b.meters)
	})
	ids := make([]string, len(found))
	for i, c := range found {
		ids[i] = c.id
	}
	return ids
}
