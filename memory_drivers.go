// MemoryDrivers: the DriverService that keeps drivers' availability in memory.

package realtime

import (
	"context"
	"hash/maphash"
	"sync"
	"time"
)

// maxClockSkew is how far ahead of the server's clock a position's time may be
// and still count: a phone with a wrong clock must not freeze its driver.
const maxClockSkew = time.Minute

// MemoryDrivers is a DriverService in memory, with the rules of a driver's status. It is
// for one node, for development and for tests. A driver that it does not know is offline.
//
// Its methods may be called concurrently, never block and ignore their ctx.
// They validate what they are given, and what they return is the caller's.
// Memory grows with the number of drivers seen; Forget gives it back.
type MemoryDrivers struct {
	seed   maphash.Seed
	shards [64]driverShard // so that drivers do not wait for each other
}

var _ DriverService = (*MemoryDrivers)(nil)

// NewMemoryDrivers returns a MemoryDrivers that knows nobody.
func NewMemoryDrivers() *MemoryDrivers {
	m := &MemoryDrivers{seed: maphash.MakeSeed()}
	for i := range m.shards {
		m.shards[i].drivers = make(map[string]*driverState)
	}
	return m
}

// UpdateStatus implements DriverService.
//
// A field that is not given keeps its value, but for what the others imply:
// offline implies not available and the reason OFFLINE; available implies
// online and no reason. The reason of a driver who is online and not available
// is the one given, else ON_TRIP with a trip and UNAVAILABLE without.
//
// A body that contradicts itself is CodeInvalidPayload, since it is wrong in
// every state. One that contradicts the state it meets is CodeConflict, since
// it may be right a moment later: available while on a trip, OFFLINE for a
// driver who stays online, another reason for one who stays offline or
// available.
func (m *MemoryDrivers) UpdateStatus(_ context.Context, driverID string, in StatusUpdate) (Availability, error) {
	if err := in.Validate(); err != nil {
		return Availability{}, err
	}
	s := m.shard(driverID)
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.driver(driverID)
	online, available := d.online, d.available
	if in.IsAvailableForTrips != nil {
		available = *in.IsAvailableForTrips
		online = online || available
	}
	if in.IsOnline != nil {
		online = *in.IsOnline
		available = available && online
	}
	if available && d.tripID != "" {
		return Availability{}, Errorf(CodeConflict, "not available while on a trip")
	}
	reason := in.reason()
	switch {
	case reason == "":
		reason = impliedReason(online, available, d.tripID)
	case available || online == (reason == ReasonOffline):
		return Availability{}, Errorf(CodeConflict, "the reason does not fit the driver's status")
	}
	now := time.Now()
	if d.online || online {
		d.lastOnline = now
	}
	d.online, d.available, d.reason, d.updated = online, available, reason, now
	return d.snapshot(driverID), nil
}

// UpdateLocation implements DriverService. A ping is accepted in every status
// and changes none. Without a time of its own it was taken now; one as old as
// the stored one is fresh.
//
// A stored time that is more than a minute ahead of now came from a wrong clock and is
// ignored. Otherwise the driver's position would not change on any map until that time,
// for up to a day.
func (m *MemoryDrivers) UpdateLocation(_ context.Context, driverID string, in LocationPing) (out LocationUpdate, fresh bool, err error) {
	if err := in.Validate(); err != nil {
		return LocationUpdate{}, false, err
	}
	now := time.Now()
	at := in.LastLocationTimestamp.Time
	if at.IsZero() {
		at = now
	}
	s := m.shard(driverID)
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.driver(driverID)
	if at.Before(d.locatedAt) && d.locatedAt.Before(now.Add(maxClockSkew)) {
		return LocationUpdate{}, false, nil
	}
	d.location, d.locatedAt, d.updated = *in.Position, at, now
	return LocationUpdate{
		DriverID: driverID, LastLocation: d.location, LastLocationTimestamp: Time{at}, Heading: in.Heading, Speed: in.Speed,
	}, true, nil
}

// SetTrip implements DriverService. A driver with a trip is not available, with the reason
// ON_TRIP. When the trip is cleared, the driver is UNAVAILABLE until the next status
// update. A driver who is offline stays OFFLINE.
func (m *MemoryDrivers) SetTrip(_ context.Context, driverID, tripID string) (Availability, error) {
	s := m.shard(driverID)
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.driver(driverID)
	d.tripID = tripID
	d.available = d.available && tripID == ""
	d.reason = impliedReason(d.online, d.available, tripID)
	d.updated = time.Now()
	return d.snapshot(driverID), nil
}

// Snapshot returns what is known of a driver, and whether anything is.
func (m *MemoryDrivers) Snapshot(driverID string) (Availability, bool) {
	s := m.shard(driverID)
	s.mu.Lock()
	defer s.mu.Unlock()
	d, known := s.drivers[driverID]
	if !known {
		return Availability{}, false
	}
	return d.snapshot(driverID), true
}

// Forget removes a driver, for instance one who has left the company. It emits no event.
func (m *MemoryDrivers) Forget(driverID string) {
	s := m.shard(driverID)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.drivers, driverID)
}

type driverShard struct {
	mu      sync.Mutex
	drivers map[string]*driverState
}

// driverState is guarded by its shard's mutex. Always: offline or with a trip
// means not available.
type driverState struct {
	online, available              bool
	reason                         AvailabilityReason
	tripID                         string
	location                       Position // valid when locatedAt is set
	locatedAt, lastOnline, updated time.Time
}

func (m *MemoryDrivers) shard(driverID string) *driverShard {
	return &m.shards[maphash.String(m.seed, driverID)%uint64(len(m.shards))]
}

// driver returns a driver's state, made on the first call.
func (s *driverShard) driver(driverID string) *driverState {
	d := s.drivers[driverID]
	if d == nil {
		d = &driverState{reason: ReasonOffline}
		s.drivers[driverID] = d
	}
	return d
}

func (d *driverState) snapshot(driverID string) Availability {
	a := Availability{
		DriverID: driverID, IsOnline: d.online, IsAvailableForTrips: d.available, AvailabilityReason: d.reason,
		LastLocationTimestamp: Time{d.locatedAt}, LastOnlineTimestamp: Time{d.lastOnline}, UpdatedAt: Time{d.updated},
	}
	if d.tripID != "" {
		a.CurrentTripID = new(d.tripID)
	}
	if !d.locatedAt.IsZero() {
		a.LastLocation = new(d.location)
	}
	return a
}

func impliedReason(online, available bool, tripID string) AvailabilityReason {
	switch {
	case !online:
		return ReasonOffline
	case available:
		return ""
	case tripID != "":
		return ReasonOnTrip
	}
	return ReasonUnavailable
}
