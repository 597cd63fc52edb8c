// The drivers' REST, as the drivers' app of the NestJS system calls it: their status and their
// position. What changes is published, since it did not come over a socket.

package main

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/rodando/realtime"
)

func (a *app) availabilityRoutes(mux *http.ServeMux) {
	const driver, admin, base = realtime.UserDriver, realtime.UserAdmin, "/api/driver-availability/"
	mux.HandleFunc("GET "+base+"driver-auth", a.by(enveloped(func(r *http.Request, c caller) (any, error) {
		return a.store.snapshot(r.Context(), c.user.ID)
	}), driver))
	mux.HandleFunc("GET "+base+"by-driver/{driver}", a.by(enveloped(a.ofDriver(func(r *http.Request, driverID string) (any, error) {
		return a.store.snapshot(r.Context(), driverID)
	})), driver, admin))
	mux.HandleFunc("PATCH "+base+"status-by-driver", a.by(enveloped(func(r *http.Request, c caller) (any, error) {
		return a.putStatus(r, c.user.ID)
	}), driver))
	mux.HandleFunc("PATCH "+base+"{driver}/status", a.by(enveloped(a.ofDriver(a.putStatus)), driver, admin))
	mux.HandleFunc("POST "+base+"ping-location", a.by(enveloped(a.pingLocation), driver))
}

// ofDriver is for routes that name a driver: a driver can only name themself.
func (a *app) ofDriver(f func(r *http.Request, driverID string) (any, error)) func(r *http.Request, c caller) (any, error) {
	return func(r *http.Request, c caller) (any, error) {
		id := r.PathValue("driver")
		if c.user.Type == realtime.UserDriver && c.user.ID != id {
			return nil, realtime.Errorf(realtime.CodeForbidden, "another driver")
		}
		if u, err := a.store.user(r.Context(), id); err != nil {
			return nil, err
		} else if u == nil || u.Type != realtime.UserDriver {
			return nil, realtime.Errorf(realtime.CodeNotFound, "no such driver")
		}
		return f(r, id)
	}
}

func (a *app) putStatus(r *http.Request, driverID string) (any, error) {
	var in realtime.StatusUpdate
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	return a.store.changeStatus(r.Context(), driverID, in, true)
}

// pingLocation takes a position, or a sign of life without one.
func (a *app) pingLocation(r *http.Request, c caller) (any, error) {
	body := map[string]json.RawMessage{}
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	if body["lat"] == nil && body["lng"] == nil {
		return a.store.snapshot(r.Context(), c.user.ID)
	}
	if at := body["reportedAt"]; at != nil {
		body["lastLocationTimestamp"] = at
	}
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	var in realtime.LocationPing
	if err := unmarshal(text, &in); err != nil {
		return nil, err
	}
	if _, _, err := a.store.move(r.Context(), c.user.ID, in, true); err != nil {
		return nil, err
	}
	return a.store.snapshot(r.Context(), c.user.ID)
}

// UpdateStatus implements realtime.DriverService.
func (s *store) UpdateStatus(ctx context.Context, driverID string, in realtime.StatusUpdate) (a realtime.Availability, err error) {
	return s.changeStatus(ctx, driverID, in, false)
}

// UpdateLocation implements realtime.DriverService.
func (s *store) UpdateLocation(ctx context.Context, driverID string, in realtime.LocationPing) (out realtime.LocationUpdate, fresh bool, err error) {
	return s.move(ctx, driverID, in, false)
}

// move stores a position, unless a newer one is stored, and publishes it if the server does not.
func (s *store) move(ctx context.Context, driverID string, in realtime.LocationPing, publish bool) (out realtime.LocationUpdate, fresh bool, err error) {
	if err := in.Validate(); err != nil {
		return out, false, err
	}
	err = s.db.change(ctx, func(t *tx) error {
		var d realtime.DriverState
		if old := positions.get(t, driverID); old != nil {
			d.LocatedAt = old.At
		}
		if d, fresh = d.WithPosition(in, time.Now()); !fresh {
			return nil
		}
		positions.put(t, driverID, positionRow{*d.Location, d.LocatedAt, d.Updated}, 0)
		out = realtime.LocationUpdate{
			DriverID: driverID, LastLocation: *d.Location, LastLocationTimestamp: realtime.Time{Time: d.LocatedAt}, Heading: in.Heading, Speed: in.Speed,
		}
		if publish {
			t.add(realtime.DriverLocationChanged{LocationUpdate: out})
		}
		return nil
	})
	if err != nil || !fresh {
		return realtime.LocationUpdate{}, false, err
	}
	return out, true, nil
}
