// The dashboard's REST, as the apps of the NestJS system call it: the list of trips with
// filters, a trip, its timeline, and the actions of admins. Answers are in their envelope,
// {success, message, data, meta?}.

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/rodando/realtime"
)

// envelope is an answer as the existing apps read it.
type envelope struct {
	Success bool   `json:"success"`
	Message string `json:"message"`
	Data    any    `json:"data"`
	Meta    any    `json:"meta,omitempty"`

	Trips []tripView `json:"trips,omitempty"` // of the list: those that run, as the demo's page reads them
}

// enveloped puts the result of f into an envelope.
func enveloped(f func(r *http.Request, c caller) (any, error)) func(r *http.Request, c caller) (any, error) {
	return func(r *http.Request, c caller) (any, error) {
		data, err := f(r, c)
		return envelope{Success: true, Message: "OK", Data: data}, err
	}
}

func (a *app) dashboardRoutes(mux *http.ServeMux) {
	const admin, trip = realtime.UserAdmin, "/api/admin/trips/{id}"
	mux.HandleFunc("GET /api/admin/trips", a.by(a.listTrips, admin))
	mux.HandleFunc("GET "+trip, a.by(enveloped(func(r *http.Request, _ caller) (any, error) {
		return a.store.adminTrip(r.Context(), r.PathValue("id"))
	}), admin))
	mux.HandleFunc("GET "+trip+"/events", a.by(enveloped(func(r *http.Request, _ caller) (any, error) {
		return a.store.tripTimeline(r.Context(), r.PathValue("id"))
	}), admin))
	for _, do := range []string{"retry-matching", "mark-no-drivers", "override-status", "cancel"} {
		mux.HandleFunc("POST "+trip+"/actions/"+do, a.by(enveloped(func(r *http.Request, c caller) (any, error) {
			return a.act(r, c, do)
		}), admin))
	}
	mux.HandleFunc("POST "+trip+"/actions/send-message", a.by(enveloped(a.sendMessage), admin))
}

// tripFilter is the query of the list.
type tripFilter struct {
	text                             string
	passengerID, driverID, vehicleID string
	status                           realtime.TripStatus
	from, to                         time.Time
	paymentMode                      string
	onlyActive, onlyStuck            bool
	page, limit                      int
}

func parseFilter(q url.Values) (f tripFilter, err error) {
	number := func(name string, fallback, most int) int {
		n, e := strconv.Atoi(cmp.Or(q.Get(name), strconv.Itoa(fallback)))
		if e != nil || n < 1 || n > most {
			err = cmp.Or(err, invalid(name, "must be a number from 1 to "+strconv.Itoa(most)))
		}
		return n
	}
	day := func(name string) (at time.Time) {
		text := q.Get(name)
		if text == "" {
			return at
		}
		for _, layout := range []string{time.RFC3339, time.DateOnly} {
			if at, e := time.Parse(layout, text); e == nil {
				return at
			}
		}
		err = cmp.Or(err, invalid(name, "must be a date in ISO 8601"))
		return at
	}
	flag := func(name string) bool {
		text := q.Get(name)
		b, e := strconv.ParseBool(cmp.Or(text, "false"))
		if e != nil {
			err = cmp.Or(err, invalid(name, "must be true or false"))
		}
		return b
	}
	f = tripFilter{
		text: strings.ToLower(strings.TrimSpace(q.Get("q"))), passengerID: q.Get("passengerId"), driverID: q.Get("driverId"), vehicleID: q.Get("vehicleId"),
		status: realtime.TripStatus(q.Get("status")), from: day("requestedFrom"), to: day("requestedTo"), paymentMode: q.Get("paymentMode"),
		onlyActive: flag("onlyActive"), onlyStuck: flag("onlyStuck"), page: number("page", 1, 1_000_000), limit: number("limit", 10, 100),
	}
	if known := append(f.status.Values(), "", string(statusNoDrivers)); !slices.Contains(known, string(f.status)) {
		err = cmp.Or(err, invalid("status", "must be the status of a trip"))
	}
	return f, err
}

// stuckAfter is how long a trip may be in a status before it is stuck, since the request or the
// last step.
var stuckAfter = map[realtime.TripStatus]time.Duration{
	realtime.TripStatusPending: 2 * time.Minute, realtime.TripStatusAssigning: 3 * time.Minute, realtime.TripStatusAccepted: 10 * time.Minute,
	realtime.TripStatusArriving: 20 * time.Minute, realtime.TripStatusInProgress: 3 * time.Hour,
}

func (f tripFilter) passes(v adminTrip) bool {
	matches := func(want, is string) bool { return want == "" || want == is }
	since := v.RequestedAt
	for _, at := range []realtime.Time{v.AcceptedAt, v.StartedAt} {
		if !at.IsZero() {
			since = at
		}
	}
	limit, runs := stuckAfter[v.CurrentStatus]
	text := strings.ToLower(strings.Join([]string{
		v.ID, v.PassengerID, deref(v.PassengerName), deref(v.DriverID), deref(v.DriverName), deref(v.PickupAddress), deref(v.DestinationAddress),
	}, " "))
	return matches(f.passengerID, v.PassengerID) && matches(f.driverID, deref(v.DriverID)) && matches(f.vehicleID, deref(v.VehicleID)) &&
		matches(string(f.status), string(v.CurrentStatus)) && matches(f.paymentMode, v.PaymentMode) &&
		(f.from.IsZero() || !v.RequestedAt.Before(f.from)) && (f.to.IsZero() || !v.RequestedAt.After(f.to)) &&
		(!f.onlyActive || runs) && (!f.onlyStuck || runs && time.Since(since.Time) >= limit) && strings.Contains(text, f.text)
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// listTrips answers with a page of the trips of the last day, the newest first.
func (a *app) listTrips(r *http.Request, _ caller) (any, error) {
	f, err := parseFilter(r.URL.Query())
	if err != nil {
		return nil, err
	}
	all, err := a.store.adminTrips(r.Context())
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(v adminTrip) bool { return !f.passes(v) })
	pages := max(1, (len(all)+f.limit-1)/f.limit)
	at := func(page int) *int {
		if page < 1 || page > pages {
			return nil
		}
		return &page
	}
	from := min(len(all), (f.page-1)*f.limit)
	out := envelope{
		Success: true, Message: "OK", Data: all[from:min(len(all), from+f.limit)],
		Meta: map[string]any{
			"total": len(all), "page": f.page, "limit": f.limit, "pageCount": pages,
			"hasNext": f.page < pages, "hasPrev": f.page > 1, "nextPage": at(f.page + 1), "prevPage": at(f.page - 1),
		},
	}
	out.Trips, err = a.store.runningTrips(r.Context())
	return out, err
}

// point is a place without its address.
type point struct {
	Lat float64 `json:"lat"`
	Lng float64 `json:"lng"`
}

// adminTrip is a trip as the dashboard shows it.
type adminTrip struct {
	ID                 string              `json:"id"`
	PassengerID        string              `json:"passengerId"`
	PassengerName      *string             `json:"passengerName"`
	DriverID           *string             `json:"driverId"`
	DriverName         *string             `json:"driverName"`
	VehicleID          *string             `json:"vehicleId"`
	VehiclePlateNumber *string             `json:"vehiclePlateNumber"`
	VehicleMake        *string             `json:"vehicleMake"`
	VehicleModel       *string             `json:"vehicleModel"`
	VehicleColor       *string             `json:"vehicleColor"`
	CurrentStatus      realtime.TripStatus `json:"currentStatus"`
	PaymentMode        string              `json:"paymentMode"`
	PickupPoint        *point              `json:"pickupPoint"`
	PickupAddress      *string             `json:"pickupAddress"`
	DestinationPoint   *point              `json:"destinationPoint"`
	DestinationAddress *string             `json:"destinationAddress"`
	Stops              []any               `json:"stops"`
	FareEstimatedTotal *float64            `json:"fareEstimatedTotal"`
	FareFinalCurrency  string              `json:"fareFinalCurrency"`
	FareTotal          *float64            `json:"fareTotal"`
	RequestedAt        realtime.Time       `json:"requestedAt"`
	AcceptedAt         realtime.Time       `json:"acceptedAt"`
	ArrivedPickupAt    realtime.Time       `json:"arrivedPickupAt"`
	StartedAt          realtime.Time       `json:"startedAt"`
	CompletedAt        realtime.Time       `json:"completedAt"`
	CanceledAt         realtime.Time       `json:"canceledAt"`
	CreatedAt          realtime.Time       `json:"createdAt"`
	UpdatedAt          realtime.Time       `json:"updatedAt"`
}

func adminView(t *tx, trip *tripRow) adminTrip {
	v := adminTrip{
		ID: trip.ID, PassengerID: trip.PassengerID, PassengerName: nameOf(t, trip.PassengerID), CurrentStatus: trip.Status, PaymentMode: "cash", Stops: []any{},
		FareEstimatedTotal: trip.Fare, FareFinalCurrency: currency, RequestedAt: realtime.Time{Time: trip.RequestedAt}, CreatedAt: realtime.Time{Time: trip.RequestedAt},
		AcceptedAt: realtime.Time{Time: trip.AcceptedAt}, ArrivedPickupAt: realtime.Time{Time: trip.ArrivedAt}, StartedAt: realtime.Time{Time: trip.StartedAt},
	}
	v.UpdatedAt = realtime.Time{Time: slices.MaxFunc([]time.Time{trip.RequestedAt, trip.AcceptedAt, trip.ArrivedAt, trip.StartedAt, trip.EndedAt}, time.Time.Compare)}
	if p := trip.Pickup; p != nil {
		v.PickupPoint, v.PickupAddress = &point{p.Lat, p.Lng}, p.Address
	}
	if p := trip.Dropoff; p != nil {
		v.DestinationPoint, v.DestinationAddress = &point{p.Lat, p.Lng}, p.Address
	}
	if trip.DriverID != "" {
		car := vehicleCard(trip.DriverID)
		v.DriverID, v.DriverName, v.VehicleID = &trip.DriverID, nameOf(t, trip.DriverID), &car.ID
		v.VehiclePlateNumber, v.VehicleMake, v.VehicleModel, v.VehicleColor = car.PlateNumber, car.Make, car.Model, car.Color
	}
	switch trip.Status { //nolint:exhaustive // the others have not ended
	case realtime.TripStatusCompleted:
		v.CompletedAt, v.FareTotal = realtime.Time{Time: trip.EndedAt}, new(trip.fareTotal())
	case realtime.TripStatusCancelled:
		v.CanceledAt = realtime.Time{Time: trip.EndedAt}
	}
	return v
}

// adminTrips returns the trips of the last day, the newest first, at most a thousand.
func (s *store) adminTrips(ctx context.Context) ([]adminTrip, error) {
	members, err := s.db.lowest(ctx, newest, 1000)
	if err != nil {
		return nil, err
	}
	var found []adminTrip
	var gone []string
	err = s.db.view(ctx, func(t *tx) error {
		found, gone = []adminTrip{}, nil
		trips.load(t, ids(members))
		for _, m := range members {
			if trip := trips.get(t, m.id); trip != nil {
				found = append(found, adminView(t, trip))
			} else {
				gone = append(gone, m.id)
			}
		}
		return nil
	})
	if err == nil && len(gone) > 0 {
		err = s.db.change(ctx, func(t *tx) error {
			for _, id := range gone {
				newest.remove(t, id)
			}
			return nil
		})
	}
	return found, err
}

func (s *store) adminTrip(ctx context.Context, tripID string) (v adminTrip, err error) {
	err = s.db.view(ctx, func(t *tx) error {
		trip := trips.get(t, tripID)
		if trip == nil {
			return errNoTrip
		}
		v = adminView(t, trip)
		return nil
	})
	return v, err
}

// timelineRow is an event of a trip's timeline.
type timelineRow struct {
	ID         string          `json:"id"`
	TripID     string          `json:"tripId"`
	EventType  string          `json:"eventType"`
	OccurredAt realtime.Time   `json:"occurredAt"`
	Metadata   json.RawMessage `json:"metadata"`
}

// eventTypes are the NestJS system's names of events in a timeline. Others have their own, with
// underscores.
var eventTypes = map[string]string{
	"trip.assigning.started": "assigning_started", "trip.assignment.offered": "driver_offered", "trip.assignment.accepted": "driver_accepted",
	"trip.assignment.rejected": "driver_rejected", "trip.assignment.expired": "assignment_expired", "trip.no_drivers_found": "no_drivers_found",
	"trip.driver.assigned": "driver_assigned", "trip.driver.en_route": "driver_en_route", "trip.driver.arrived_pickup": "driver_arrived_pickup",
	"trip.cancelled": "trip_canceled",
}

// maxTimeline is how many events a timeline keeps, the newest.
const maxTimeline = 200

// record appends an event to the timeline of its trip.
func record(t *tx, e realtime.DomainEvent) {
	name := e.EventName()
	if !strings.HasPrefix(name, "trip.") && !strings.HasPrefix(name, "admin.trip.") {
		return
	}
	data, err := json.Marshal(e)
	if err != nil {
		t.fail(err)
		return
	}
	var rows []timelineRow
	if old := timelines.get(t, e.EventKey()); old != nil {
		rows = *old
	}
	kind, ok := eventTypes[name]
	if !ok {
		kind = strings.ReplaceAll(name, ".", "_")
	}
	rows = append(rows, timelineRow{uuid.NewString(), e.EventKey(), kind, realtime.Time{Time: time.Now()}, data})
	timelines.put(t, e.EventKey(), rows[max(0, len(rows)-maxTimeline):], 7*keptFor)
}

func (s *store) tripTimeline(ctx context.Context, tripID string) (rows []timelineRow, err error) {
	err = s.db.view(ctx, func(t *tx) error {
		if trips.get(t, tripID) == nil {
			return errNoTrip
		}
		rows = []timelineRow{}
		if found := timelines.get(t, tripID); found != nil {
			rows = *found
		}
		return nil
	})
	return rows, err
}

// action is the body of an admin's action.
type action struct {
	Reason       string              `json:"reason"`
	InternalNote *string             `json:"internalNote"`
	TargetStatus realtime.TripStatus `json:"targetStatus"`
	FareTotal    *float64            `json:"fareTotal"`

	SearchRadiusMeters float64 `json:"searchRadiusMeters"`
	MaxCandidates      int     `json:"maxCandidates"`
	OfferTTLSeconds    float64 `json:"offerTtlSeconds"`
}

func (a *app) act(r *http.Request, c caller, do string) (any, error) {
	var in action
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	switch {
	case utf8.RuneCountInString(in.Reason) > 200:
		return nil, invalid("reason", "must have at most 200 characters")
	case in.SearchRadiusMeters < 0 || in.SearchRadiusMeters > 100_000:
		return nil, invalid("searchRadiusMeters", "must be from 0 to 100000")
	case in.MaxCandidates < 0 || in.MaxCandidates > 100:
		return nil, invalid("maxCandidates", "must be from 0 to 100")
	case in.OfferTTLSeconds < 0 || in.OfferTTLSeconds > 600:
		return nil, invalid("offerTtlSeconds", "must be from 0 to 600")
	case in.FareTotal != nil && (*in.FareTotal < 0 || *in.FareTotal > 1e9):
		return nil, invalid("fareTotal", "must be from 0 to 1000000000")
	}
	id := r.PathValue("id")
	var err error
	switch do {
	case "retry-matching":
		err = a.store.retryMatching(r.Context(), c.user.ID, id, in)
	case "mark-no-drivers":
		in.TargetStatus = statusNoDrivers
		err = a.store.override(r.Context(), c.user, id, "mark_no_drivers", in)
	case "override-status":
		err = a.store.override(r.Context(), c.user, id, "override_status", in)
	default:
		_, err = a.store.cancel(r.Context(), c.user, id, in.Reason)
	}
	if err != nil {
		return nil, err
	}
	a.matcher.match()
	return a.store.adminTrip(r.Context(), id)
}
