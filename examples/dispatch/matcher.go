// The matcher: finds a driver for each trip. It reads and changes trips only through the store.

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

// matcher offers each trip to one driver after another, each of whom has ttl to answer.
// It runs one goroutine for each trip without a driver.
type matcher struct {
	store *store
	ttl   time.Duration
	log   *slog.Logger
	// connected reports whether a driver has a socket now.
	connected func(ctx context.Context, driverID string) bool

	ctx    context.Context // of the searches; ends with close
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

// close stops the searches and waits for them. Trips without a driver stay unchanged.
func (m *matcher) close() {
	m.cancel()
	m.trips.Wait()
}

func (m *matcher) search(tripID string) {
	pickup, ok := m.store.assigning(tripID)
	for ok && m.ctx.Err() == nil {
		// Computed again for each offer, since drivers connect, leave and move.
		o := m.store.offerTo(tripID, m.candidates(pickup), m.ttl)
		if o == nil {
			return
		}
		m.log.Info("trip offered", "trip", tripID, "driver", o.driverID)
		m.wait(o)
	}
}

// wait waits until the offer is answered, or expires it in time.
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

// candidates returns the available drivers in the order in which to offer them a trip:
// connected drivers first, then by distance, and unknown positions last.
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
