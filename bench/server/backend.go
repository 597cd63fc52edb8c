// Offers under the generator: a backend that keeps them in a folder. A server that is killed leaves
// it behind, and the nodes of a cluster share it, as they would a database.

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log"
	"net/http"
	"os"
	"path"
	"strconv"
	"time"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/redisbus"
)

// The folders of the store, and the file with what the backend has been told, a line of JSON each.
const (
	offersDir   = "offers"   // by offer: the offer
	driversDir  = "drivers"  // by driver: the ids of the offers to them
	acceptedDir = "accepted" // by offer: there when it was accepted
	reportsFile = "reports"
)

// A backend makes offers, and knows which of them were accepted.
type backend struct {
	bus     closableBus
	hears   closableBus // of told: the same, or one with a group of its own
	store   *os.Root
	reports *os.File
}

type closableBus interface {
	realtime.EventBus
	Close(ctx context.Context) error
}

// A report is a line of the reports.
type report struct {
	What  string              `json:"what"` // offered, delivered, undelivered or accepted
	Offer string              `json:"offer"`
	Clock int64               `json:"clock"` // ns of CLOCK_MONOTONIC
	By    realtime.ReceivedBy `json:"by,omitempty"`
}

// newBuses returns the bus of a server, and the one of the backend. Nodes that have a Redis share them: an event
// of a node that is killed is handled by another one.
func newBuses(redis string) (server, backend closableBus, err error) {
	if redis == "" {
		bus := realtime.NewMemoryBus()
		return bus, bus, nil
	}
	if server, err = redisbus.New(redisbus.Options{URL: redis}); err != nil {
		return nil, nil, err
	}
	backend, err = redisbus.New(redisbus.Options{URL: redis, Group: "backend"})
	return server, backend, err
}

// newBackend opens the store, and sets the options of a server with offers.
func newBackend(dir, redis string, o *realtime.Options) (*backend, error) {
	store, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	for _, d := range []string{offersDir, driversDir, acceptedDir} {
		if err := store.MkdirAll(d, 0o755); err != nil {
			return nil, err
		}
	}
	bus, hears, err := newBuses(redis)
	if err != nil {
		return nil, err
	}
	b := &backend{bus: bus, hears: hears, store: store}
	if b.reports, err = store.OpenFile(reportsFile, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644); err != nil {
		return nil, err
	}
	if _, err := b.hears.Subscribe(b.told); err != nil {
		return nil, err
	}
	o.Bus, o.Offers, o.Snapshots = b.bus, b, b
	return b, nil
}

// close closes the buses.
func (b *backend) close(ctx context.Context) error {
	return errors.Join(b.hears.Close(ctx), b.bus.Close(ctx))
}

// report appends a line, by a single write, so that processes do not mix theirs.
func (b *backend) report(r report) {
	r.Clock = monotonic()
	line, _ := json.Marshal(r) // strings and a number
	if _, err := b.reports.Write(append(line, '\n')); err != nil {
		log.Print(err)
	}
}

// told notes what the server has learned of an offer.
func (b *backend) told(_ context.Context, e realtime.Envelope) error {
	switch e.Name {
	case realtime.AssignmentDelivered{}.EventName():
		var d realtime.AssignmentDelivered
		if err := json.Unmarshal(e.Data, &d); err != nil {
			return err
		}
		b.report(report{What: "delivered", Offer: d.AssignmentID, By: d.By})
	case realtime.AssignmentUndelivered{}.EventName():
		var u realtime.AssignmentUndelivered
		if err := json.Unmarshal(e.Data, &u); err != nil {
			return err
		}
		b.report(report{What: "undelivered", Offer: u.AssignmentID})
	}
	return nil
}

// offer makes an offer: it is stored before it is published.
func (b *backend) offer(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	id, driver := q.Get("offer"), q.Get("driver")
	ttl, _ := strconv.Atoi(q.Get("ttl"))
	e := realtime.AssignmentOffered{TripID: "trip-" + id, AssignmentID: id, DriverID: driver, TTLSec: ttl, At: time.Now()}
	e.ExpiresAt = e.At.Add(time.Duration(ttl) * time.Second)
	err := b.keep(e)
	if err == nil {
		b.report(report{What: "offered", Offer: id})
		err = b.publish(r.Context(), e)
	}
	if err != nil {
		log.Print(err)
		http.Error(w, "not offered", http.StatusServiceUnavailable)
	}
}

func (b *backend) publish(ctx context.Context, e realtime.DomainEvent) error {
	env, err := realtime.NewEnvelope(e)
	if err != nil {
		return err
	}
	return b.bus.Publish(ctx, env)
}

func (b *backend) keep(e realtime.AssignmentOffered) error {
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if err := b.store.WriteFile(path.Join(offersDir, e.AssignmentID), data, 0o644); err != nil {
		return err
	}
	f, err := b.store.OpenFile(path.Join(driversDir, e.DriverID), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(e.AssignmentID + "\n")
	return errors.Join(err, f.Close())
}

func (b *backend) find(id string) (e realtime.AssignmentOffered, err error) {
	data, err := b.store.ReadFile(path.Join(offersDir, id))
	if err != nil {
		return e, err
	}
	return e, json.Unmarshal(data, &e)
}

// AcceptOffer implements realtime.OfferService: of all calls for an offer, on all nodes, one makes the
// file, and publishes.
func (b *backend) AcceptOffer(ctx context.Context, driver, id string) (string, error) {
	e, err := b.find(id)
	if errors.Is(err, fs.ErrNotExist) || err == nil && e.DriverID != driver {
		return "", realtime.ErrNotFound
	}
	if err != nil {
		return "", err
	}
	if b.accepted(id) { // by the same driver
		return e.TripID, nil
	}
	if time.Now().After(e.ExpiresAt) {
		return "", realtime.Errorf(realtime.CodeConflict, "the offer has expired")
	}
	f, err := b.store.OpenFile(path.Join(acceptedDir, id), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return e.TripID, nil
	}
	if err != nil {
		return "", err
	}
	b.report(report{What: "accepted", Offer: id})
	return e.TripID, errors.Join(f.Close(), b.publish(ctx, realtime.AssignmentAccepted{TripID: e.TripID, AssignmentID: id, DriverID: driver}))
}

func (b *backend) accepted(id string) bool {
	_, err := b.store.Stat(path.Join(acceptedDir, id))
	return err == nil
}

// RejectOffer implements realtime.OfferService; the generator's drivers do not reject.
func (*backend) RejectOffer(context.Context, string, string, string) error {
	return realtime.ErrNotFound
}

// FindSnapshot implements realtime.SnapshotLookup: the offers that the driver has not accepted.
func (b *backend) FindSnapshot(_ context.Context, ns string, id realtime.Identity) (s realtime.Snapshot, err error) {
	if ns != realtime.NamespaceDrivers {
		return s, nil
	}
	list, err := b.store.ReadFile(path.Join(driversDir, id.UserID))
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	for lines := bufio.NewScanner(bytes.NewReader(list)); lines.Scan(); {
		e, err := b.find(lines.Text())
		if err != nil {
			return s, err
		}
		if time.Now().Before(e.ExpiresAt) && !b.accepted(e.AssignmentID) {
			s.Offers = append(s.Offers, e)
		}
	}
	return s, nil
}
