// The matcher: finds a driver for each trip. It reads and changes trips only through the store.

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rodando/realtime"
)

// matcher offers each trip to one driver after another, each of whom has ttl to answer.
// It looks at the trips that are due in the database. All instances do so, and any of them may
// take the next step of a trip: the transactions of the store see to it that only one does.
type matcher struct {
	store  *store
	ttl    time.Duration
	radius float64       // meters from the pickup to a candidate
	maxAge time.Duration // of a candidate's position
	log    *slog.Logger
	// connected returns those of the drivers who have a socket now.
	connected func(ctx context.Context, driverIDs []string) map[string]bool

	wake   chan struct{}   // holds one element when a trip may be due
	ctx    context.Context // of the searches; ends with close
	cancel context.CancelFunc
	ended  sync.WaitGroup
}

// newMatcher starts a matcher.
func newMatcher(s *store, cfg config, log *slog.Logger, connected func(context.Context, []string) map[string]bool) *matcher {
	m := &matcher{store: s, ttl: cfg.offerTTL, radius: cfg.radius, maxAge: cfg.maxAge, log: log, connected: connected, wake: make(chan struct{}, 1)}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	s.changed = m.match
	m.ended.Go(m.run)
	return m
}

// match makes the matcher look at the trips that are due, and returns at once.
func (m *matcher) match() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// close stops the searches and waits for them. Trips without a driver stay unchanged.
func (m *matcher) close() {
	m.cancel()
	m.ended.Wait()
}

// atOnce is how many trips an instance takes a step further at a time.
const atOnce = 16

func (m *matcher) run() {
	for m.ctx.Err() == nil {
		wait := time.NewTimer(m.round())
		select {
		case <-m.wake:
		case <-wait.C:
		case <-m.ctx.Done():
		}
		wait.Stop()
	}
}

// round takes the trips that are due a step further, and returns how long to wait.
func (m *matcher) round() time.Duration {
	const pause = 250 * time.Millisecond // after a failure
	trips, err := m.store.db.lowest(m.ctx, due, atOnce)
	if err != nil {
		m.warn("trips not matched", err)
		return pause
	}
	wait := m.store.db.poll()
	var steps sync.WaitGroup
	var failed atomic.Bool
	for _, t := range trips {
		if left := time.Until(time.UnixMicro(int64(t.score))); left > 0 {
			wait = min(wait, left)
			break
		}
		steps.Go(func() {
			if err := m.step(t.id); err != nil {
				failed.Store(true)
				m.warn("trip not matched", err, "trip", t.id)
			}
		})
		wait = 0 // there may be more, and those have offers now that expire
	}
	steps.Wait()
	if failed.Load() {
		return pause
	}
	return wait
}

func (m *matcher) warn(text string, err error, args ...any) {
	if m.ctx.Err() == nil {
		m.log.Warn(text, append(args, "error", err)...)
	}
}

// step makes the trip's next offer, if it needs one.
func (m *matcher) step(tripID string) error {
	trip, err := m.store.assigning(m.ctx, tripID, time.Now())
	if trip == nil || err != nil {
		return err
	}
	drivers, err := m.candidates(trip)
	if err != nil {
		return err
	}
	o, err := m.store.offerTo(m.ctx, tripID, drivers, m.ttl)
	if o != nil {
		m.log.Info("trip offered", "trip", tripID, "driver", o.DriverID)
	}
	return err
}

// nearest is how many of the nearest drivers are candidates.
const nearest = 20

// candidates returns the available drivers in the order in which to offer them a trip: of the
// nearest ones the connected ones first, then the one whom the passenger asks for, then by distance. A driver whose position is not known,
// too old or too far from the pickup is none.
// It is computed again for each offer, since drivers connect, leave and move.
func (m *matcher) candidates(trip *tripRow) ([]string, error) {
	members, err := m.store.db.lowest(m.ctx, available, 10_000)
	if err != nil {
		return nil, err
	}
	type candidate struct {
		id     string
		meters float64
	}
	var found []candidate
	radius, most := m.radius, nearest
	if trip.Search.Radius > 0 {
		radius = trip.Search.Radius
	}
	if trip.Search.Candidates > 0 {
		most = trip.Search.Candidates
	}
	err = m.store.db.view(m.ctx, func(t *tx) error {
		positions.load(t, ids(members))
		open.load(t, ids(members))
		for _, driver := range members {
			if trip.offerTo(driver.id) != nil || open.get(t, driver.id) != nil {
				continue
			}
			c := candidate{id: driver.id}
			if trip.Pickup != nil {
				p := positions.get(t, driver.id)
				if p == nil || time.Since(p.At) > m.maxAge {
					continue
				}
				if c.meters = meters(p.Location, position(trip.Pickup)); c.meters > radius {
					continue
				}
			}
			found = append(found, c)
		}
		return nil
	})
	slices.SortStableFunc(found, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(rank(a.id == trip.Search.First), rank(b.id == trip.Search.First)), cmp.Compare(a.meters, b.meters))
	})
	drivers := make([]string, 0, min(most, len(found)))
	for _, c := range found[:min(most, len(found))] {
		drivers = append(drivers, c.id)
	}
	connected := m.connected(m.ctx, drivers)
	slices.SortStableFunc(drivers, func(a, b string) int { return cmp.Compare(rank(connected[a]), rank(connected[b])) })
	return drivers, err
}

// unreachable is Options.Unreachable: the next driver gets the trip at once, and not when the time of
// the offer is over. A client of Socket.IO 1 or 2 proves by its answer only that it has the offer, so
// with those a silent driver keeps theirs.
func (a *app) unreachable(ctx context.Context, driverID string, e realtime.MissedEvent) {
	if a.cfg.allowEIO3 && e.Reason == realtime.UndeliveredNoReceipt {
		return
	}
	var offer realtime.AssignmentOfferedPayload
	err := json.Unmarshal(e.Payload, &offer)
	if err == nil {
		err = a.store.unreachable(ctx, driverID, offer.AssignmentID)
	}
	if err != nil {
		a.log.Warn("the offer to a driver who is not reached was not ended", "driver", driverID, "error", err)
	}
}

// rank is 0 for those who come first.
func rank(first bool) int {
	if first {
		return 0
	}
	return 1
}

// connected returns those of the drivers who have a socket on any instance. An instance that
// does not answer in time has none.
func (a *app) connected(ctx context.Context, driverIDs []string) map[string]bool {
	found := map[string]bool{}
	if len(driverIDs) == 0 {
		return found
	}
	rooms := make([]realtime.Room, len(driverIDs))
	for i, id := range driverIDs {
		rooms[i] = realtime.DriverRoom(id)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	sockets, err := a.rt.Drivers().To(rooms...).Sockets(ctx)
	if err != nil {
		a.log.Info("not all instances say which drivers are connected", "error", err)
	}
	for _, s := range sockets {
		found[s.Identity.UserID] = true
	}
	return found
}
