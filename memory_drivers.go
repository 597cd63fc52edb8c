// MemoryDrivers: a DriverService that stores the drivers' availability in memory.

package realtime

import (
	"context"
	"fmt"
	"hash/maphash"
	"iter"
	"maps"
	"sync"
	"time"
)

// MemoryDrivers is a DriverService in memory, with the rules of DriverState. It is for one
// node, for development and for tests. A driver that it does not know is offline. A driver's
// current trip is the one that the app has sent with driver:trip:set, or the host has passed to
// SetTrip: DriverAssigned does not set it. When a domain event ends that trip, the server clears
// it and sends the change, as for driver:trip:set. NewMemoryDrivers returns one; the zero value is
// not usable.
//
// Its methods may be called concurrently and do not block. UpdateStatus and UpdateLocation
// validate their input. The caller may change what the methods return. The memory grows with the
// number of drivers; Forget frees that of one driver.
type MemoryDrivers struct {
	seed   maphash.Seed
	shards [64]driverShard // reduces contention on the locks
}

var _ DriverService = (*MemoryDrivers)(nil)

// NewMemoryDrivers returns a MemoryDrivers without drivers.
func NewMemoryDrivers() *MemoryDrivers {
	m := &MemoryDrivers{seed: maphash.MakeSeed()}
	for i := range m.shards {
		m.shards[i].drivers = make(map[string]DriverState)
	}
	return m
}

// UpdateStatus implements DriverService with DriverState.WithStatus.
func (m *MemoryDrivers) UpdateStatus(_ context.Context, driverID string, in StatusUpdate) (Availability, error) {
	if err := in.Validate(); err != nil { // before the driver is created
		return Availability{}, err
	}
	s := m.shard(driverID)
	s.mu.Lock()
	defer s.mu.Unlock()
	next, err := s.drivers[driverID].WithStatus(in, time.Now())
	if err != nil {
		return Availability{}, err
	}
	s.drivers[driverID] = next
	return next.Availability(driverID), nil
}

// UpdateLocation implements DriverService with DriverState.WithPosition.
func (m *MemoryDrivers) UpdateLocation(_ context.Context, driverID string, in LocationPing) (out LocationUpdate, fresh bool, err error) {
	if err := in.Validate(); err != nil {
		return LocationUpdate{}, false, err
	}
	s := m.shard(driverID)
	s.mu.Lock()
	defer s.mu.Unlock()
	next, fresh := s.drivers[driverID].WithPosition(in, time.Now())
	if !fresh {
		return LocationUpdate{}, false, nil
	}
	s.drivers[driverID] = next
	return LocationUpdate{
		DriverID: driverID, LastLocation: *next.Location, LastLocationTimestamp: Time{next.LocatedAt}, Heading: in.Heading, Speed: in.Speed,
	}, true, nil
}

// SetTrip implements DriverService with DriverState.WithTrip.
func (m *MemoryDrivers) SetTrip(ctx context.Context, driverID, tripID string) (Availability, error) {
	s := m.shard(driverID)
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.drivers[driverID]
	next := before.WithTrip(tripID, time.Now())
	s.drivers[driverID] = next
	if !next.AvailabilityChanged(before) {
		sameAvailability(ctx)
	}
	return next.Availability(driverID), nil
}

// endTrip implements tripEnder.
func (m *MemoryDrivers) endTrip(driverID, tripID string) (next DriverState, availability, ok bool) {
	s := m.shard(driverID)
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.drivers[driverID]
	if before.TripID != tripID || tripID == "" {
		return DriverState{}, false, false
	}
	next = before.WithTrip("", time.Now())
	s.drivers[driverID] = next
	return next, next.AvailabilityChanged(before), true
}

// Put sets the state of a driver, for instance to what a database has, and emits no event. It
// returns an error if the id or the state is not valid; see DriverState.Validate.
func (m *MemoryDrivers) Put(driverID string, state DriverState) error {
	if !validID(driverID) {
		return fmt.Errorf("realtime: a driver's id is empty or longer than %d bytes, or contains NUL or invalid UTF-8", maxID)
	}
	if err := state.Validate(); err != nil {
		return err
	}
	if state.Location != nil {
		state.Location = new(*state.Location)
	}
	s := m.shard(driverID)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drivers[driverID] = state
	return nil
}

// All returns the ids and states of the drivers, in no order. What changes while the caller
// iterates may or may not be seen. The caller may call other methods meanwhile.
func (m *MemoryDrivers) All() iter.Seq2[string, DriverState] {
	return func(yield func(string, DriverState) bool) {
		for i := range m.shards {
			for id, state := range m.shards[i].clone() {
				if state.Location != nil {
					state.Location = new(*state.Location)
				}
				if !yield(id, state) {
					return
				}
			}
		}
	}
}

// Snapshot returns the state of a driver. ok is false for an unknown driver.
func (m *MemoryDrivers) Snapshot(driverID string) (a Availability, ok bool) {
	s := m.shard(driverID)
	s.mu.Lock()
	defer s.mu.Unlock()
	state, known := s.drivers[driverID]
	if !known {
		return Availability{}, false
	}
	return state.Availability(driverID), true
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
	mu      sync.Mutex // guards drivers
	drivers map[string]DriverState
}

func (m *MemoryDrivers) shard(driverID string) *driverShard {
	return &m.shards[maphash.String(m.seed, driverID)%uint64(len(m.shards))]
}

func (s *driverShard) clone() map[string]DriverState {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.drivers)
}
