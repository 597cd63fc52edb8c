// Trip positions: a position from the bus also goes to the rooms of the driver's trips. If
// this node knows no trip of the driver, it asks Options.Trips, or the other nodes.

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
	// searchMemory is how long the result of a search is used.
	searchMemory = 30 * time.Second
	// searchSweepFrom is the number of searches from which old results are dropped.
	searchSweepFrom = 1024
)

// peerSearchRate limits the searches that ask the other nodes.
var peerSearchRate = ratelimit.Rate{PerSecond: 100, Burst: 200}

// driverSearches holds the searches for the trips of drivers that the trip table does not
// know. Its methods may be called concurrently.
type driverSearches struct {
	p     *publisher
	start time.Time
	quota ratelimit.Quota

	mu      sync.Mutex // guards the fields below, and every driverSearch
	bucket  ratelimit.Bucket
	drivers map[string]*driverSearch
	sweepAt int // the number of searches at which old results are dropped
}

// driverSearch is a running search for the trips of one driver, or its result.
type driverSearch struct {
	began   time.Time
	trips   []string
	latest  *LocationUpdate // the newest position that waits, for the result or for sending to end; nil: none
	eventID string          // of latest
	sending bool            // a position that has waited is being sent, and newer ones wait until that has ended
}

// wait makes a position wait, in place of an older one.
func (s *driverSearch) wait(l LocationUpdate, eventID string) { s.latest, s.eventID = &l, eventID }

func (d *driverSearches) init(p *publisher) {
	d.p = p
	d.start, d.quota = time.Now(), peerSearchRate.Quota()
	d.drivers, d.sweepAt = map[string]*driverSearch{}, searchSweepFrom
}

// tripsOf returns the known trips of the driver of a position. If it knows none it starts a
// search: the newest position is sent to the trips that the search finds. A position is never sent
// to a trip after a newer one.
func (d *driverSearches) tripsOf(l LocationUpdate, eventID string) []string {
	known := d.p.trips.TripsOf(triptable.Person{Driver: true, ID: l.DriverID}, time.Time{})
	rt := d.p.rt
	if !validID(l.DriverID) || rt.opts.Trips == nil && (!rt.clustered || rt.opts.Cluster.BusFanOut) {
		return known
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.drivers[l.DriverID]
	switch {
	case s != nil && s.sending:
		s.wait(l, eventID)
		return nil
	case len(known) > 0:
		if s != nil && s.latest != nil {
			s.latest = nil // it is older than this one
			delete(d.drivers, l.DriverID)
		}
		return known
	case s != nil && time.Since(s.began) < searchMemory:
		if s.latest != nil {
			s.wait(l, eventID)
			return nil
		}
		return d.currentTrips(l.DriverID, s)
	}
	if rt.opts.Trips == nil && !d.bucket.Allow(d.quota, time.Since(d.start)) {
		return nil
	}
	d.sweepLocked()
	s = &driverSearch{began: time.Now()}
	s.wait(l, eventID)
	d.drivers[l.DriverID] = s
	go d.search(l.DriverID, s)
	return nil
}

// sweepLocked drops old results.
func (d *driverSearches) sweepLocked() {
	if len(d.drivers) < d.sweepAt {
		return
	}
	for id, s := range d.drivers {
		if time.Since(s.began) >= searchMemory {
			delete(d.drivers, id)
		}
	}
	d.sweepAt = max(searchSweepFrom, 2*len(d.drivers))
}

// search calls Options.Trips, or asks the other nodes if that is nil.
func (d *driverSearches) search(driverID string, s *driverSearch) {
	rt := d.p.rt
	if rt.opts.Trips == nil {
		rt.shareState(NamespaceDrivers, stateContent{TripsOf: driverID})
		return // the nodes answer with the states of the trips: see tripLearned
	}
	trips, err := hostcall.Do(rt.ctx, rt.host.positions, driverID, func(ctx context.Context) ([]string, error) {
		return rt.activeTrips(ctx, driverID)
	})
	if err != nil && rt.ctx.Err() == nil {
		rt.log.Error("realtime: lookup of a driver's trips failed; the position is not sent to them", "driver", driverID, "error", err)
	}
	d.finish(driverID, s, trips)
}

// finish stores the result of a search and sends the waiting position to the trips, and then those
// that come meanwhile.
func (d *driverSearches) finish(driverID string, s *driverSearch, trips []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s.trips = trips
	if s.sending {
		return
	}
	for first := true; s.latest != nil; first = false {
		l, eventID := *s.latest, s.eventID
		trips := d.currentTrips(driverID, s)
		if known := d.p.trips.TripsOf(triptable.Person{Driver: true, ID: driverID}, time.Time{}); !first && len(known) > 0 {
			trips = known
		}
		s.latest, s.sending = nil, true
		d.mu.Unlock()
		if len(trips) > 0 {
			d.p.rt.send(tripPositions(l, eventID, trips), d.p.rt.opts.Cluster.BusFanOut)
		}
		d.mu.Lock()
		s.sending = false
	}
}

// currentTrips returns the trips of a result without those that the driver has left
// according to the trip table.
func (d *driverSearches) currentTrips(driverID string, s *driverSearch) []string {
	since := s.began.Add(-triptable.Settle) // what the table learned earlier, the lookup knew too
	if d.p.rt.opts.Trips == nil {
		since = time.Time{} // the result comes from the tables of other nodes
	}
	driver := triptable.Person{Driver: true, ID: driverID}
	return slices.DeleteFunc(slices.Clone(s.trips), func(id string) bool { return d.p.trips.HasLeft(id, driver, since) })
}

// tripLearned is called when another node has sent what it knows of a trip. That may be
// the answer to a search.
func (d *driverSearches) tripLearned(tripID string) {
	driverID := d.p.trips.Known(tripID).Driver
	d.mu.Lock()
	defer d.mu.Unlock()
	if s := d.drivers[driverID]; s != nil && s.latest != nil {
		go d.finish(driverID, s, []string{tripID}) // not here: the adapter waits for the return of Deliver
	}
}

// forget drops the result about a driver, because an event has changed their trips. A search
// that is running continues.
func (d *driverSearches) forget(driverID string) {
	if driverID == "" {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch s := d.drivers[driverID]; {
	case s == nil:
	case s.sending:
		s.trips, s.began = nil, time.Time{}
	case s.latest == nil:
		delete(d.drivers, driverID)
	}
}

// answer sends the known trips of a driver to the other nodes, for a search of one of them.
func (d *driverSearches) answer(driverID string) {
	for _, id := range d.p.trips.TripsOf(triptable.Person{Driver: true, ID: driverID}, time.Time{}) {
		d.p.exchange.share(id, false)
	}
}
