// MemoryDrivers: a DriverService that stores the drivers' availability in memory.

package realtime

import (
	"context"
	"hash/maphash"
	"sync"
	"time"
)

// maxClockSkew is how far ahead of the server's clock the time of a stored position may be and
// still outdate a new ping. A later time comes from a phone with a wrong clock.
const maxClockSkew = time.Minute

// MemoryDrivers is a DriverService in memory, with the rules of a driver's status. It is
// for one node, for development and for tests. A driver that it does not know is offline.
// NewMemoryDrivers returns one; the zero value is not usable.
//
// Its methods may be called concurrently, do not block and ignore their ctx. UpdateStatus and
// UpdateLocation validate their input. The caller may change what the methods return. The
// memory grows with the number of drivers; Forget frees that of one driver.
type MemoryDrivers struct {
	seed   maphash.Seed
	shards [64]driverShard // reduces contention on the locks
}

var _ DriverService = (*MemoryDrivers)(nil)

// NewMemoryDrivers returns a MemoryDrivers without drivers.
func NewMemoryDrivers() *MemoryDrivers {
	m := &MemoryDrivers{seed: maphash.MakeSeed()}
	for i := range m.shards {
		m.shards[i].drivers = make(map[string]*driverState)
	}
	return m
}

// UpdateStatus implements DriverService.
//
// IsOnline and IsAvailableForTrips keep their values if they are not given, except that
// offline implies not available, and available implies online. The reason does not keep its
// value. If it is not given it is OFFLINE for a driver who is offline, none for a driver who
// is available, and otherwise ON_TRIP with a trip and UNAVAILABLE without.
//
// CodeInvalidPayload means that the fields contradict each other in every state.
// CodeConflict means that they contradict the present state: available while on a trip,
// OFFLINE for a driver who stays online, or another reason for one who stays offline or
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

// UpdateLocation implements DriverService. A ping is accepted in every status and does not
// change the status. A ping without a time gets the present time. fresh is true if the
// ping's time is not before the stored one; otherwise the ping is not stored and out is zero.
//
// A stored time that is more than a minute ahead of now came from a wrong clock, and any ping
// replaces it. Otherwise the driver's position would not change on any map until that time,
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
// ON_TRIP. An empty tripID clears the trip: the driver is then UNAVAILABLE until the next
// status update. A driver who is offline stays OFFLINE.
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

// Snapshot returns the state of a driver. ok is false for an unknown driver.
func (m *MemoryDrivers) Snapshot(driverID string) (a Availability, ok bool) {
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

// driverShard holds a part of the drivers.
type driverShard struct {
	mu      sync.Mutex // guards drivers and every driverState in it
	drivers map[string]*driverState
}

// driverState is the state of one driver.
type driverState struct {
	online, available              bool // never available if offline or on a trip
	reason                         AvailabilityReason
	tripID                         string
	location                       Position // valid if locatedAt is not zero
	locatedAt, lastOnline, updated time.Time
}

func (m *MemoryDrivers) shard(driverID string) *driverShard {
	return &m.shards[maphash.String(m.seed, driverID)%uint64(len(m.shards))]
}

// driver returns a driver's state. It creates the state of an unknown driver.
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

// impliedReason returns the default reason of a status.
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
