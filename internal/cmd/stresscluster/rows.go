//go:build unix

// Rows: the host's database, which the parent holds and the nodes read over HTTP.

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/rodando/realtime"
)

// row is what the database knows of an id: of a user, of a session, of a user's trips,
// or of a trip's people.
type row struct {
	User    *realtime.User    `json:"user,omitempty"`
	Session *realtime.Session `json:"session,omitempty"`
	Trips   []string          `json:"trips,omitempty"`
	Parties *parties          `json:"parties,omitempty"`
}

// parties are the people of a trip.
type parties struct {
	Passenger string `json:"passenger"`
	Driver    string `json:"driver"`
}

// database is the parent's end. All methods may be called concurrently.
type database struct {
	url  string
	http *http.Server
	over chan struct{}

	mu   sync.Mutex // guards rows
	rows map[string]row
}

// openDatabase starts to serve the rows, and the answers to offers.
func openDatabase(answer http.HandlerFunc) (*database, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	d := &database{url: "http://" + l.Addr().String(), over: make(chan struct{}), rows: map[string]row{}}
	mux := http.NewServeMux()
	mux.Handle("/", d)
	mux.HandleFunc("POST /answer", answer)
	d.http = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		defer close(d.over)
		_ = d.http.Serve(l) // it ends with Close
	}()
	return d, nil
}

func (d *database) close() {
	_ = d.http.Close()
	<-d.over
}

// ServeHTTP implements http.Handler: ids in, their rows out.
func (d *database) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var ids []string
	if err := json.NewDecoder(r.Body).Decode(&ids); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	found := make(map[string]row, len(ids))
	d.mu.Lock()
	for _, id := range ids {
		if x, ok := d.rows[id]; ok {
			found[id] = x
		}
	}
	b, err := json.Marshal(found)
	d.mu.Unlock()
	if err != nil {
		panic(err) // cannot happen
	}
	_, _ = w.Write(b)
}

func (d *database) set(id string, x row) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rows[id] = x
}

func (d *database) setUser(u realtime.User) { d.set("user "+u.ID, row{User: &u}) }

func (d *database) setSession(s realtime.Session) { d.set("session "+s.ID, row{Session: &s}) }

func (d *database) setTrips(user string, trips ...string) {
	d.set("trips "+user, row{Trips: trips})
}

func (d *database) setParties(trip, passenger, driver string) {
	d.set("parties "+trip, row{Parties: &parties{passenger, driver}})
}

// forgetParties forgets a trip.
func (d *database) forgetParties(trip string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.rows, "parties "+trip)
}

// rows is a node's end: its repositories.
type rows struct{ url string }

// token returns the access token of a session: nobody forges one here.
func token(user, sid string) string { return user + "|" + sid }

// VerifyToken implements realtime.TokenVerifier.
func (*rows) VerifyToken(_ context.Context, token, _ string) (realtime.Claims, error) {
	user, sid, ok := strings.Cut(token, "|")
	if !ok {
		return realtime.Claims{}, realtime.ErrTokenInvalid
	}
	return realtime.Claims{Subject: user, SessionID: sid, ExpiresAt: time.Now().Add(24 * time.Hour)}, nil
}

// read reads rows of one kind.
func (r *rows) read(ctx context.Context, kind string, ids ...string) (map[string]row, error) {
	keys := make([]string, len(ids))
	for i, id := range ids {
		keys[i] = kind + " " + id
	}
	b, err := json.Marshal(keys)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url, bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the database answers %s", resp.Status)
	}
	found := map[string]row{}
	return found, json.NewDecoder(resp.Body).Decode(&found)
}

// FindUsers implements realtime.UserBatchRepo.
func (r *rows) FindUsers(ctx context.Context, ids []string) (users []realtime.User, err error) {
	found, err := r.read(ctx, "user", ids...)
	for _, x := range found {
		users = append(users, *x.User)
	}
	return users, err
}

// FindUser implements realtime.UserRepo.
func (r *rows) FindUser(ctx context.Context, id string) (realtime.User, error) {
	users, err := r.FindUsers(ctx, []string{id})
	return one(users, err)
}

// FindSessions implements realtime.SessionBatchRepo.
func (r *rows) FindSessions(ctx context.Context, ids []string) (sessions []realtime.Session, err error) {
	found, err := r.read(ctx, "session", ids...)
	for _, x := range found {
		sessions = append(sessions, *x.Session)
	}
	return sessions, err
}

// FindSession implements realtime.SessionRepo.
func (r *rows) FindSession(ctx context.Context, id string) (realtime.Session, error) {
	sessions, err := r.FindSessions(ctx, []string{id})
	return one(sessions, err)
}

// ActiveTripsOf implements realtime.TripBatchLookup.
func (r *rows) ActiveTripsOf(ctx context.Context, users []string) (map[string][]string, error) {
	found, err := r.read(ctx, "trips", users...)
	trips := map[string][]string{}
	for id, x := range found {
		trips[strings.TrimPrefix(id, "trips ")] = x.Trips
	}
	return trips, err
}

// ActiveTrips implements realtime.TripLookup.
func (r *rows) ActiveTrips(ctx context.Context, user string) ([]string, error) {
	trips, err := r.ActiveTripsOf(ctx, []string{user})
	return trips[user], err
}

// FindParties implements realtime.PartyLookup.
func (r *rows) FindParties(ctx context.Context, trip string) (realtime.TripParties, error) {
	found, err := r.read(ctx, "parties", trip)
	if err != nil {
		return realtime.TripParties{}, err
	}
	x, ok := found["parties "+trip]
	if !ok {
		return realtime.TripParties{}, realtime.ErrNotFound
	}
	return realtime.TripParties{PassengerID: x.Parties.Passenger, DriverID: x.Parties.Driver}, nil
}

func one[T any](found []T, err error) (T, error) {
	var none T
	switch {
	case err != nil:
		return none, err
	case len(found) == 0:
		return none, realtime.ErrNotFound
	}
	return found[0], nil
}
