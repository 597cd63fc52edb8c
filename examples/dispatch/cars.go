// Simulated drivers: each logs in over REST, connects as any client does, accepts the
// trips that are offered to it and drives them. They use the server only over the network.

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/rodando/realtime"
)

// startCars starts a car for each of the users, each of which acts once a tick. stop
// stops them and waits until they have ended; it may be called more than once.
func startCars(users []string, server string, tick time.Duration, log *slog.Logger) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var cars sync.WaitGroup
	client := &http.Client{Transport: &http.Transport{}, Timeout: 10 * time.Second}
	for _, id := range users {
		c := &car{
			id: id, server: server, tick: tick, http: client,
			at: puertoClaro.someCorner(),
		}
		cars.Go(func() { c.drive(ctx, log) })
	}
	return func() {
		cancel()
		cars.Wait()
		client.CloseIdleConnections()
	}
}

// createCars returns the ids of the cars' users: new users, or with a seed file some of its
// drivers.
func (a *app) createCars(ctx context.Context) (ids []string, err error) {
	if a.cfg.seedFile == "" {
		return a.store.createCars(ctx, a.cfg.cars)
	}
	for _, u := range a.seed.Users {
		if u.Type == realtime.UserDriver && u.Status == active && len(ids) < a.cfg.cars {
			ids = append(ids, u.ID)
		}
	}
	return ids, nil
}

// createCars creates the users car-1 to car-n.
func (s *store) createCars(ctx context.Context, n int) (ids []string, err error) {
	var cars seed
	for i := range n {
		u := userRow{ID: fmt.Sprintf("car-%d", i+1), Type: realtime.UserDriver, Status: active, Name: fmt.Sprintf("Car %d", i+1)}
		cars.Users = append(cars.Users, u)
		ids = append(ids, u.ID)
	}
	return ids, s.createSeed(ctx, cars)
}

// simulate drives cars at a server, until ctx ends.
func simulate(ctx context.Context, cfg config, log *slog.Logger) error {
	client, err := dialRedis(cfg.redisURL)
	if err != nil {
		return err
	}
	defer client.Close()
	cars, err := newStore(newRedisDatabase(client, nil, log), 0).createCars(ctx, cfg.cars)
	if err != nil {
		return err
	}
	log.Info("driving", "cars", len(cars), "at", cfg.simulate)
	stop := startCars(cars, strings.TrimSuffix(cfg.simulate, "/"), time.Second, log)
	defer stop()
	<-ctx.Done()
	return nil
}

// car is one simulated driver. It belongs to one goroutine.
type car struct {
	id, server string
	tick       time.Duration
	http       *http.Client
	token      string

	at      point2
	way     []point2 // what is left of the way along the streets
	heading float64
	speed   float64   // meters a second, in the last tick
	trip    *tripView // the running trip, or nil
}

// drive connects again and again until ctx ends or the server disconnects the car.
func (c *car) drive(ctx context.Context, log *slog.Logger) {
	for ctx.Err() == nil {
		err := c.shift(ctx)
		if ctx.Err() != nil {
			return
		}
		log.Info("car disconnected", "driver", c.id, "error", err)
		if errors.Is(err, errDisconnected) {
			return
		}
		select {
		case <-time.After(c.tick + rand.N(c.tick)):
		case <-ctx.Done():
		}
	}
}

// shift is one connection, from login to its end.
func (c *car) shift(ctx context.Context) error {
	var in credentials
	if err := c.request(ctx, "POST", "/api/login", map[string]any{"userId": c.id}, &in); err != nil {
		return err
	}
	c.token = in.Token
	socket, err := dial(ctx, c.server, realtime.NamespaceDrivers, c.token)
	if err != nil {
		return err
	}

	events := make(chan event, 16)
	var reading sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		_ = socket.close() // ends readEvents
		reading.Wait()
	}()
	reading.Go(func() { readEvents(ctx, socket, events) })

	// After each connect the car requests its current trip.
	if err := c.catchUp(ctx, socket); err != nil {
		return err
	}
	ticker := time.NewTicker(c.tick)
	defer ticker.Stop()
	for {
		select {
		case e := <-events:
			err = c.onEvent(ctx, socket, e)
		case <-ticker.C:
			err = errors.Join(c.act(ctx, socket), c.ping(socket))
		case <-ctx.Done():
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
	}
}

// event is an event of the server, or the error that ended reading.
type event struct {
	name string
	arg  json.RawMessage
	err  error
}

func readEvents(ctx context.Context, socket *client, events chan<- event) {
	for {
		var e event
		e.name, e.arg, e.err = socket.next()
		select {
		case events <- e:
		case <-ctx.Done():
			return
		}
		if e.err != nil {
			return
		}
	}
}

func (c *car) onEvent(ctx context.Context, socket *client, e event) error {
	switch e.name {
	case realtime.EventAssignmentOffered.Name():
		var offer struct {
			AssignmentID string `json:"assignmentId"`
		}
		if err := json.Unmarshal(e.arg, &offer); err != nil {
			return err
		}
		return socket.emit(realtime.DriverOfferAccept.Name(), realtime.OfferAccept{AssignmentID: offer.AssignmentID})
	case realtime.EventDriverAssigned.Name(), realtime.EventTripCancelled.Name():
		return c.catchUp(ctx, socket)
	}
	return e.err
}

// catchUp requests the car's current trip, and makes the driver available if there is
// none.
func (c *car) catchUp(ctx context.Context, socket *client) error {
	var current struct {
		Trip *tripView `json:"trip"`
	}
	if err := c.request(ctx, "GET", "/api/trips/current", nil, &current); err != nil {
		return err
	}
	c.trip, c.way = current.Trip, nil
	if c.trip != nil {
		return nil
	}
	return errors.Join(c.ping(socket), socket.emit(realtime.DriverStatusUpdate.Name(),
		realtime.StatusUpdate{IsOnline: new(true), IsAvailableForTrips: new(true)}))
}

// act takes the next step: it cruises, or advances the trip.
func (c *car) act(ctx context.Context, socket *client) error {
	if c.trip == nil {
		c.move(cruising, puertoClaro.someCorner)
		return nil
	}
	var do step
	switch {
	case c.trip.Status == realtime.TripStatusAccepted:
		do = stepArriving
	case c.trip.Status == realtime.TripStatusArriving && c.trip.Arrived:
		do = stepStart
	case c.trip.Status == realtime.TripStatusArriving && c.driveTo(c.trip.Pickup):
		do = stepArrived
	case c.trip.Status == realtime.TripStatusInProgress && c.driveTo(c.trip.Dropoff):
		do = stepComplete
	default:
		return nil
	}
	err := c.request(ctx, "POST", "/api/trips/"+c.trip.TripID+"/"+string(do), nil, c.trip)
	if err != nil || do == stepComplete {
		return c.catchUp(ctx, socket) // refused: the trip has changed meanwhile
	}
	return nil
}

func (c *car) ping(socket *client) error {
	at := puertoClaro.position(c.at)
	return socket.emit(realtime.DriverLocationPing.Name(), realtime.LocationPing{Position: &at, Heading: &c.heading, Speed: &c.speed})
}

// Meters per tick, which is a second.
const (
	cruising = 12.0
	hurrying = 25.0 // to a passenger, and with one
)

// driveTo moves the car for a tick and reports whether it has arrived.
func (c *car) driveTo(to *realtime.Place) bool {
	if to == nil {
		return true
	}
	target := puertoClaro.point(position(to))
	if c.at.distance(target) < 1 {
		c.way, c.speed = nil, 0
		return true
	}
	c.move(hurrying, func() point2 { return target })
	return false
}

// move drives some meters along the way, or along a new one to a destination if there is none. On
// a long leg, which leads out of the town, it drives further.
func (c *car) move(distance float64, destination func() point2) {
	if len(c.way) == 0 {
		c.way = puertoClaro.route(c.at, destination())
	}
	from := c.at
	for len(c.way) > 0 && distance > 0 {
		leg := c.at.distance(c.way[0])
		if leg > 1 {
			c.heading = c.at.heading(c.way[0])
		}
		if leg > 400 {
			distance = max(distance, leg/5)
		}
		if leg > distance {
			c.at = c.at.toward(c.way[0], distance/leg)
			break
		}
		c.at, c.way, distance = c.way[0], c.way[1:], distance-leg
	}
	c.speed = from.distance(c.at) / c.tick.Seconds()
}

// request calls the REST API.
func (c *car) request(ctx context.Context, method, path string, body, answer any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, c.server+path, bytes.NewReader(data))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 400 {
		return fmt.Errorf("%s %s: %s", method, path, resp.Status)
	}
	return json.NewDecoder(resp.Body).Decode(answer)
}
