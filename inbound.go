// The built-in inbound events: what a driver, an admin may ask for, and who is
// told of it.

package realtime

import (
	"context"
	"errors"
	"fmt"
)

// handleBuiltins registers the contract's inbound events.
func (rt *Server) handleBuiltins() {
	drivers, admin := rt.Drivers(), rt.Admin()
	DriverStatusUpdate.Handle(drivers, rt.updateStatus)
	DriverLocationPing.Handle(drivers, rt.updateLocation)
	DriverTripSet.Handle(drivers, rt.setTrip)
	DriverOfferAccept.Handle(drivers, rt.acceptOffer)
	DriverOfferReject.Handle(drivers, rt.rejectOffer)
	AdminTripJoin.Handle(admin, rt.joinTrip)
	AdminTripLeave.Handle(admin, rt.leaveTrip)
	AdminDriversJoin.Handle(admin, rt.joinDrivers)
	AdminDriversLeave.Handle(admin, rt.leaveDrivers)
}

func (rt *Server) updateStatus(ctx context.Context, s *Socket, in StatusUpdate) (Availability, error) {
	driver := s.Identity().UserID
	a, err := rt.opts.Drivers.UpdateStatus(ctx, driver, in)
	if err = ofDriver(driver, a.DriverID, err); err != nil {
		return a, err
	}
	rt.emitFrom(s, statusDeliveries(a, newEventID()))
	return a, nil
}

func (rt *Server) updateLocation(ctx context.Context, s *Socket, in LocationPing) (None, error) {
	driver := s.Identity().UserID
	u, fresh, err := rt.opts.Drivers.UpdateLocation(ctx, driver, in)
	if err != nil || !fresh {
		return None{}, err
	}
	if err := ofDriver(driver, u.DriverID, nil); err != nil {
		return None{}, err
	}
	trips := s.trips() // those that the domain events put it in
	s.cork()
	rt.publisher.emitLocation(u, newEventID(), trips, rt.to)
	return None{}, nil
}

func (rt *Server) setTrip(ctx context.Context, s *Socket, in SetTrip) (Availability, error) {
	trip := ""
	if in.CurrentTripID != nil {
		trip = *in.CurrentTripID
	}
	driver := s.Identity().UserID
	a, err := rt.opts.Drivers.SetTrip(ctx, driver, trip)
	if err = ofDriver(driver, a.DriverID, err); err != nil {
		return a, err
	}
	rt.emitFrom(s, tripUpdateDeliveries(DriverTrip{
		DriverID: a.DriverID, CurrentTripID: a.CurrentTripID,
		AvailabilityReason: a.AvailabilityReason, IsAvailableForTrips: a.IsAvailableForTrips,
	}, newEventID()))
	return a, nil
}

// ofDriver refuses what a DriverService returned of another driver: it would be
// shown to him.
func ofDriver(asked, got string, err error) error {
	if err == nil && got != asked {
		return fmt.Errorf("driver service: %w", errAnotherRow)
	}
	return err
}

// emitFrom emits what follows from a socket's event, before its ack and in one
// write with it.
func (rt *Server) emitFrom(s *Socket, ds []delivery) {
	s.cork()
	for _, d := range ds {
		rt.publisher.deliver(d, rt.to(d.namespace, d.rooms...))
	}
}

var errNoOffer = Errorf(CodeNotFound, "no such offer")

func (rt *Server) acceptOffer(ctx context.Context, s *Socket, in OfferAccept) (OfferAccepted, error) {
	if rt.opts.Offers == nil {
		return OfferAccepted{}, errNoOffer
	}
	trip, err := rt.opts.Offers.AcceptOffer(ctx, s.Identity().UserID, in.AssignmentID)
	return OfferAccepted{AssignmentID: in.AssignmentID, TripID: trip}, offerError(err)
}

func (rt *Server) rejectOffer(ctx context.Context, s *Socket, in OfferReject) (OfferRejected, error) {
	if rt.opts.Offers == nil {
		return OfferRejected{}, errNoOffer
	}
	err := rt.opts.Offers.RejectOffer(ctx, s.Identity().UserID, in.AssignmentID, in.Reason)
	return OfferRejected{AssignmentID: in.AssignmentID}, offerError(err)
}

// offerError lets a service return ErrNotFound, as a repository does.
func offerError(err error) error {
	if errors.Is(err, ErrNotFound) {
		return errNoOffer
	}
	return err
}

func (rt *Server) joinTrip(_ context.Context, s *Socket, in TripRef) (TripRef, error) {
	if len(s.trips()) >= rt.opts.Limits.RoomsPerSocket && !s.inner.In(TripRoom(in.TripID).name) {
		rt.limited("RoomsPerSocket")
		return TripRef{}, Errorf(CodeRateLimited, "too many trips at once; leave some")
	}
	s.Join(TripRoom(in.TripID))
	rt.audit(s, AdminTripJoin.name, "trip", in.TripID)
	return in, nil
}

func (rt *Server) leaveTrip(_ context.Context, s *Socket, in TripRef) (TripRef, error) {
	s.Leave(TripRoom(in.TripID))
	rt.audit(s, AdminTripLeave.name, "trip", in.TripID)
	return in, nil
}

// audit logs who of the admins has asked for what.
func (rt *Server) audit(s *Socket, event string, about ...any) {
	attrs := append([]any{"event", event, "user", s.Identity().UserID, "socket", s.ID()}, about...)
	rt.auditLog.Info("realtime: admin", attrs...)
}

func (rt *Server) joinDrivers(_ context.Context, s *Socket, _ None) (None, error) {
	s.Join(AdminDriversRoom)
	rt.audit(s, AdminDriversJoin.name)
	return None{}, nil
}

func (rt *Server) leaveDrivers(_ context.Context, s *Socket, _ None) (None, error) {
	s.Leave(AdminDriversRoom)
	rt.audit(s, AdminDriversLeave.name)
	return None{}, nil
}

// trips are those whose rooms the socket is in.
func (s *Socket) trips() (ids []string) {
	s.inner.EachRoom(func(name string) bool {
		if id, ok := tripOf(name); ok {
			ids = append(ids, id)
		}
		return true
	})
	return ids
}

// cork gathers what is sent to the socket from here to the end of its event's
// handling into one write. Nothing that blocks may follow.
func (s *Socket) cork() {
	s.corked = true
	s.inner.Conn().Session().Cork()
}

func (s *Socket) uncork() {
	if s.corked {
		s.corked = false
		s.inner.Conn().Session().Uncork()
	}
}
