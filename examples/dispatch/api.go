// The REST API: routes, who may call them, and the bodies of requests. The store (trips.go,
// store.go) and auth.go execute them.

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/rodando/realtime"
)

func (a *app) routes(mux *http.ServeMux) {
	const driver, passenger, admin = realtime.UserDriver, realtime.UserPassenger, realtime.UserAdmin

	mux.HandleFunc("GET /api/people", a.answer(a.people))
	mux.HandleFunc("POST /api/login", a.answer(a.login))
	mux.HandleFunc("POST /api/refresh", a.answer(a.refresh))
	mux.HandleFunc("POST /api/logout", a.by(a.logout, driver, passenger, admin))

	mux.HandleFunc("GET /api/trips/current", a.by(a.currentTrip, driver, passenger))
	mux.HandleFunc("POST /api/trips", a.by(a.requestTrip, passenger))
	mux.HandleFunc("GET /api/trips/{id}", a.by(a.showTrip, driver, passenger, admin))
	for _, path := range []string{"/api/trips/{id}/", "/api/offers/{assignment}/"} {
		mux.HandleFunc("POST "+path+"accept", a.by(a.acceptOffer, driver))
		mux.HandleFunc("POST "+path+"reject", a.by(a.rejectOffer, driver))
	}
	for _, do := range []step{stepArriving, stepArrived, stepStart, stepComplete} {
		mux.HandleFunc("POST /api/trips/{id}/"+string(do), a.by(func(r *http.Request, c caller) (any, error) {
			var in struct {
				Waited float64 `json:"waitingTimeMinutes"`
			}
			if err := decode(r, &in); err != nil {
				return nil, err
			}
			if in.Waited < 0 || in.Waited > 24*60 {
				return nil, invalid("waitingTimeMinutes", "must be from 0 to 1440")
			}
			return a.store.advance(r.Context(), c.user.ID, r.PathValue("id"), do, in.Waited)
		}, driver))
	}
	mux.HandleFunc("POST /api/trips/{id}/cancel", a.by(a.cancelTrip, driver, passenger, admin))

	a.dashboardRoutes(mux)
	a.availabilityRoutes(mux)
	mux.HandleFunc("POST /api/admin/trips/{id}/message", a.by(a.sendMessage, admin))
	mux.HandleFunc("POST /api/admin/users/{id}/ban", a.by(a.setStatus(banned), admin))
	mux.HandleFunc("POST /api/admin/users/{id}/deactivate", a.by(a.setStatus(inactive), admin))
	mux.HandleFunc("POST /api/admin/users/{id}/activate", a.by(a.setStatus(active), admin))
	mux.HandleFunc("POST /api/admin/sessions/{sid}/revoke", a.by(a.revokeSession, admin))
	mux.HandleFunc("POST /api/admin/drain", a.by(a.drain, admin))

	mux.HandleFunc("/api/", a.answer(func(*http.Request) (any, error) {
		return nil, realtime.Errorf(realtime.CodeNotFound, "no such route")
	}))
}

// created is an answer with status 201.
type created struct{ body any }

// requestTime is how long a request may take. The client of Redis repeats what reads for as long
// as its ctx lasts.
const requestTime = 5 * time.Second

// answer turns a function of a request into a handler that writes its result or error as
// JSON.
func (a *app) answer(f func(r *http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
		ctx, cancel := context.WithTimeout(r.Context(), requestTime)
		defer cancel()
		status := http.StatusOK
		body, err := f(r.WithContext(ctx))
		if c, ok := body.(created); ok {
			status, body = http.StatusCreated, c.body
		}
		if err != nil {
			var e *realtime.Error
			if !errors.As(err, &e) {
				a.log.Error("request failed", "method", r.Method, "route", r.Pattern, "error", err)
				e = realtime.Errorf(realtime.CodeInternal, "internal error")
				if errors.Is(err, realtime.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) {
					e = realtime.Errorf(realtime.CodeUnavailable, "try again later")
				}
			}
			status, body = httpStatus(e.Code), map[string]any{"success": false, "message": e.Message, "error": e}
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(body) // fails only if the client has disconnected
	}
}

// by is answer for callers whose user has one of the types. Others get CodeForbidden.
func (a *app) by(f func(r *http.Request, c caller) (any, error), types ...realtime.UserType) http.HandlerFunc {
	return a.answer(func(r *http.Request) (any, error) {
		c, err := a.caller(r, false)
		if err != nil {
			return nil, err
		}
		if slices.Contains(types, c.user.Type) {
			return f(r, c)
		}
		return nil, realtime.Errorf(realtime.CodeForbidden, "not for a user of type %s", c.user.Type)
	})
}

func httpStatus(code realtime.Code) int {
	switch code { //nolint:exhaustive // all others are about the token or the session
	case realtime.CodeInvalidPayload:
		return http.StatusBadRequest
	case realtime.CodeForbidden, realtime.CodeUserInactive:
		return http.StatusForbidden
	case realtime.CodeNotFound:
		return http.StatusNotFound
	case realtime.CodeConflict:
		return http.StatusConflict
	case realtime.CodeUnavailable:
		return http.StatusServiceUnavailable
	case realtime.CodeInternal:
		return http.StatusInternalServerError
	}
	return http.StatusUnauthorized
}

// decode reads a body; an absent one is {}.
func decode(r *http.Request, into any) error {
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return realtime.Errorf(realtime.CodeInvalidPayload, "the body can't be read or is too long")
	}
	if len(data) == 0 {
		return nil
	}
	return unmarshal(data, into)
}

// unmarshal decodes a JSON object of a client.
func unmarshal(data []byte, into any) error {
	if err := json.Unmarshal(data, into); err != nil {
		var t *json.UnmarshalTypeError
		if errors.As(err, &t) && t.Field != "" {
			return invalid(t.Field, "has the wrong type")
		}
		return realtime.Errorf(realtime.CodeInvalidPayload, "the body is not a JSON object")
	}
	return nil
}

func invalid(field, text string) error {
	return &realtime.Error{Code: realtime.CodeInvalidPayload, Message: field + " " + text, Fields: []string{field}}
}

// decodeReason reads a body of {reason?}.
func decodeReason(r *http.Request) (string, error) {
	var in struct {
		Reason string `json:"reason"`
	}
	if err := decode(r, &in); err != nil {
		return "", err
	}
	if utf8.RuneCountInString(in.Reason) > 200 {
		return "", invalid("reason", "must have at most 200 characters")
	}
	return in.Reason, nil
}

// place is a point in a body.
type place struct {
	Lat     *float64 `json:"lat"`
	Lng     *float64 `json:"lng"`
	Address *string  `json:"address"`
}

func (p *place) check(field string) (*realtime.Place, error) {
	switch {
	case p == nil:
		return nil, nil
	case p.Lat == nil || *p.Lat < -90 || *p.Lat > 90:
		return nil, invalid(field+".lat", "must be a number from -90 to 90")
	case p.Lng == nil || *p.Lng < -180 || *p.Lng > 180:
		return nil, invalid(field+".lng", "must be a number from -180 to 180")
	}
	return &realtime.Place{Lat: *p.Lat, Lng: *p.Lng, Address: p.Address}, nil
}

func (a *app) requestTrip(r *http.Request, c caller) (any, error) {
	var in struct {
		Pickup  *place `json:"pickup"`
		Dropoff *place `json:"dropoff"`
		Driver  string `json:"driverId"`
	}
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	pickup, err := in.Pickup.check("pickup")
	if err != nil {
		return nil, err
	}
	dropoff, err := in.Dropoff.check("dropoff")
	if err != nil {
		return nil, err
	}
	t, err := a.store.request(r.Context(), c.user.ID, pickup, dropoff, in.Driver)
	if err != nil {
		return nil, err
	}
	a.matcher.match()
	return created{t}, nil
}

func (a *app) currentTrip(r *http.Request, c caller) (any, error) {
	var out struct {
		Trip  *tripView  `json:"trip"`
		Offer *offerView `json:"offer"`
	}
	var err error
	out.Trip, out.Offer, err = a.store.current(r.Context(), c.user.ID)
	return out, err
}

func (a *app) showTrip(r *http.Request, c caller) (any, error) {
	return a.store.trip(r.Context(), c.user, r.PathValue("id"))
}

func (a *app) acceptOffer(r *http.Request, c caller) (any, error) {
	return a.store.accept(r.Context(), c.user.ID, r.PathValue("assignment"), r.PathValue("id"))
}

func (a *app) rejectOffer(r *http.Request, c caller) (any, error) {
	reason, err := decodeReason(r)
	if err != nil {
		return nil, err
	}
	return a.store.reject(r.Context(), c.user.ID, r.PathValue("assignment"), r.PathValue("id"), reason)
}

func (a *app) cancelTrip(r *http.Request, c caller) (any, error) {
	reason, err := decodeReason(r)
	if err != nil {
		return nil, err
	}
	return a.store.cancel(r.Context(), c.user, r.PathValue("id"), reason)
}

func (a *app) sendMessage(r *http.Request, c caller) (any, error) {
	var in struct {
		To      realtime.MessageTo `json:"to"`
		Target  realtime.MessageTo `json:"target"` // the dashboard's name of it
		Message string             `json:"message"`
	}
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	in.To = cmp.Or(in.To, in.Target)
	switch in.To {
	case realtime.MessageToDriver, realtime.MessageToPassenger, realtime.MessageToBoth:
	default:
		return nil, invalid("to", "must be driver, passenger or both")
	}
	if in.Message == "" {
		return nil, invalid("message", "is required")
	}
	id := r.PathValue("id")
	return map[string]string{"tripId": id}, a.store.message(r.Context(), c.user.ID, id, in.To, in.Message)
}

func (a *app) setStatus(status userStatus) func(r *http.Request, c caller) (any, error) {
	return func(r *http.Request, _ caller) (any, error) {
		reason, err := decodeReason(r)
		if err != nil {
			return nil, err
		}
		id := r.PathValue("id")
		return map[string]any{"userId": id, "status": status}, a.store.setStatus(r.Context(), id, status, reason)
	}
}

func (a *app) revokeSession(r *http.Request, _ caller) (any, error) {
	reason, err := decodeReason(r)
	if err != nil {
		return nil, err
	}
	sid := r.PathValue("sid")
	return map[string]string{"sid": sid}, a.store.revoke(r.Context(), sid, reason)
}
