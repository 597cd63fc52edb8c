// The store as realtime.OfferService and realtime.DriverService: the library calls these methods
// for the events that drivers' sockets send.

package main

import (
	"context"

	"github.com/rodando/realtime"
)

// AcceptOffer implements realtime.OfferService.
func (s *store) AcceptOffer(_ context.Context, driverID, assignmentID string) (string, error) {
	accepted, err := s.accept(driverID, assignmentID, "")
	return accepted.TripID, err
}

// RejectOffer implements realtime.OfferService.
func (s *store) RejectOffer(_ context.Context, driverID, assignmentID, reason string) error {
	_, err := s.reject(driverID, assignmentID, "", reason)
	return err
}

// UpdateStatus implements realtime.DriverService with the rules of MemoryDrivers, except
// that the store, not the snapshot, decides whether the driver is on a trip.
func (s *store) UpdateStatus(ctx context.Context, driverID string, in realtime.StatusUpdate) (realtime.Availability, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running[driverID] != nil && in.IsAvailableForTrips != nil && *in.IsAvailableForTrips && in.Validate() == nil {
		return realtime.Availability{}, realtime.Errorf(realtime.CodeConflict, "not available while on a trip")
	}
	return s.drivers.UpdateStatus(ctx, driverID, in)
}

// UpdateLocation implements realtime.DriverService. It does not take the store's lock,
// because positions are frequent.
func (s *store) UpdateLocation(ctx context.Context, driverID string, in realtime.LocationPing) (realtime.LocationUpdate, bool, error) {
	return s.drivers.UpdateLocation(ctx, driverID, in)
}

// SetTrip implements realtime.DriverService. A driver can only set their own trip.
func (s *store) SetTrip(ctx context.Context, driverID, tripID string) (realtime.Availability, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.running[driverID]; tripID != "" && (t == nil || t.id != tripID) {
		return realtime.Availability{}, realtime.Errorf(realtime.CodeForbidden, "the trip is not yours")
	}
	return s.drivers.SetTrip(ctx, driverID, tripID)
}
