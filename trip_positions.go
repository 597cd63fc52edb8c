// Positions of drivers that come over the bus to a node that knows of no trip of
// theirs: it asks Options.Trips, or the other nodes, once in a while.

package realtime

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/rodando/realtime/internal/hostcall"
	"github.com/rodando/realtime/internal/ratelimit"
	"github.com/rodando/realtime/internal/triptable"
)

const (
	// searchMemory is how long the answer about a driver counts.
	searchMemory = 30 * time.Second
	// searchesFrom is at how many drivers old answers are dropped.
	searchesFrom = 1024
)

// peerAsks is for how many drivers other nodes are asked.
var peerAsks = ratelimit.Rate{PerSecond: 100, Burst: 200}

// driverSearches are the drivers of whom the node knows no trip.
type driverSearches struct {
	p     *publisher
	start time.Time
	quota ratelimit.Quota

	mu      sync.Mutex // guards everything below, and every driverSearch
	asks    ratelimit.Bucket
	drivers map[string]*driverSearch
	sweepAt int
}

// driverSearch is a question about one driver, or its answer.
type driverSearch struct {
	began  time.Time
	trips  []string
	latest *LocationUpdate // waits for the answer; nil when nothing does
	id     string          // the event's
}

func (d *driverSearches) init(p *publisher) {
	d.p = p
	d.start, d.quota = time.Now(), peerAsks.Quota()
	d.drivers, d.sweepAt = map[string]*driverSearch{}, searchesFrom
}

// tripsOf returns the trips of a driver, as far as known, and finds out about the
// others: the position is sent to them when that is done, unless a newer one is.
func (d *driverSearches) tripsOf(l LocationUpdate, eventID string) []string {
	if trips := d.p.trips.Of(triptable.Person{Driver: true, ID: l.DriverID}, time.Time{}); len(trips) > 0 {
		return trips
	}
	rt := d.p.rt
	if rt.opts.Trips == nil && (!rt.clustered || rt.opts.Cluster.BusFanOut) {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.drivers[l.DriverID]
	if s != nil && time.Since(s.began) < searchMemory {
		if s.latest != nil {
			*s.latest, s.id = l, eventID
			return nil
		}
		return d.still(l.DriverID, s)
	}
	if rt.opts.Trips == nil && !d.asks.Allow(d.quota, time.Since(d.start)) {
		return nil
	}
	d.sweepLocked()
	latest := l // so that l stays where it is
	s = &driverSearch{began: time.Now(), latest: &latest, id: eventID}
	d.drivers[l.DriverID] = s
	go d.search(l.DriverID, s)
	return nil
}

func (d *driverSearches) sweepLocked() {
	if len(d.drivers) < d.sweepAt {
		return
	}
	for id, s := range d.drivers {
		if time.Since(s.began) >= searchMemory {
			delete(d.drivers, id)
		}
	}
	d.sweepAt = max(searchesFrom, 2*len(d.drivers))
}

func (d *driverSearches) search(driverID string, s *driverSearch) {
	rt := d.p.rt
	if rt.opts.Trips == nil {
		rt.shareState(NamespaceDrivers, NodeState{tripsOf: driverID})
		return // the answers are what nodes tell each other of trips
	}
	trips, err := hostcall.Do(rt.ctx, rt.host.positions, nil, func(ctx context.Context) ([]string, error) {
		return rt.activeTrips(ctx, driverID)
	})
	if err != nil && rt.ctx.Err() == nil {
		rt.log.Error("realtime: trips of a driver not found; the position is not sent to them", "driver", driverID, "error", err)
	}
	d.found(driverID, s, trips)
}

// found sends the position that waits to the trips.
func (d *driverSearches) found(driverID string, s *driverSearch, trips []string) {
	d.mu.Lock()
	l, id := s.latest, s.id
	s.trips, s.latest = trips, nil // nobody writes to *l from now on
	trips = d.still(driverID, s)
	d.mu.Unlock()
	if l != nil && len(trips) > 0 {
		d.p.rt.send(tripPositions(*l, id, trips), d.p.rt.opts.Cluster.BusFanOut)
	}
}

// still returns the trips of an answer that are the driver's by what the bus has said
// since shortly before the question too.
func (d *driverSearches) still(driverID string, s *driverSearch) []string {
	since := s.began.Add(-triptable.Settle)
	if d.p.rt.opts.Trips == nil { // other nodes answered: nobody knows better than they
		since = time.Time{}
	}
	who := triptable.Person{Driver: true, ID: driverID}
	return slices.DeleteFunc(slices.Clone(s.trips), func(id string) bool { return d.p.trips.Left(id, who, since) })
}

// learnt is called with a trip of which another node has told, which may be an answer.
func (d *driverSearches) learnt(tripID string) {
	driverID := d.p.trips.Known(tripID).Driver
	d.mu.Lock()
	s := d.drivers[driverID]
	d.mu.Unlock()
	if s != nil {
		d.found(driverID, s, []string{tripID})
	}
}

// forget drops the answer about a driver: the bus has said something about them.
func (d *driverSearches) forget(driverID string) {
	if driverID == "" {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if s := d.drivers[driverID]; s != nil && s.latest == nil {
		delete(d.drivers, driverID)
	}
}

// answer tells the other nodes of the trips of a driver.
func (d *driverSearches) answer(driverID string) {
	for _, id := range d.p.trips.Of(triptable.Person{Driver: true, ID: driverID}, time.Time{}) {
		go d.p.tell(id, false) // the adapter is delivering
	}
}
