package outbox_test //nolint:testableexamples // the example needs a Postgres

import (
	"context"
	"errors"
	"log"
	"os/signal"
	"syscall"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/examples/integrations/outbox"
	"github.com/rodando/realtime/redisbus"
)

// tripSchema is a table of the host's.
const tripSchema = `CREATE TABLE trip (id text PRIMARY KEY, passenger text NOT NULL, driver text, status text NOT NULL)`

// SaveTrip saves a trip and publishes that it was requested: both, or neither.
func SaveTrip(ctx context.Context, db *pgxpool.Pool, id, passenger string) error {
	return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `INSERT INTO trip (id, passenger, status) VALUES ($1, $2, 'requested')`, id, passenger); err != nil {
			return err
		}
		return outbox.Add(ctx, tx, realtime.TripRequested{TripID: id, PassengerID: passenger})
	})
}

// StartTrip changes a trip. The UPDATE locks the trip's row, so that another change of it waits,
// and the events of the trip are in the order of its changes.
func StartTrip(ctx context.Context, db *pgxpool.Pool, id, driver string) error {
	return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		var passenger string
		err := tx.QueryRow(ctx, `UPDATE trip SET status = 'started', driver = $2 WHERE id = $1 AND status = 'requested' RETURNING passenger`,
			id, driver).Scan(&passenger)
		if errors.Is(err, pgx.ErrNoRows) {
			return errors.New("there is no such trip, or it was started before")
		}
		if err != nil {
			return err
		}
		return outbox.Add(ctx, tx, realtime.TripStarted{TripID: id, PassengerID: passenger, DriverID: driver})
	})
}

// A service that saves trips, and relays their events to the servers.
func Example() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	db, err := pgxpool.New(ctx, "postgres://10.0.0.8/dispatch?pool_max_conns=20")
	if err != nil {
		log.Fatal(err)
	}
	if _, err := db.Exec(ctx, outbox.Schema); err != nil {
		log.Fatal(err)
	}
	bus, err := redisbus.New(redisbus.Options{URL: "redis://10.0.0.7:6379"}) // or any other EventBus
	if err != nil {
		log.Fatal(err)
	}
	relay, err := outbox.NewRelay(outbox.Config{Pool: db, Bus: bus})
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		if err := SaveTrip(ctx, db, "trip-1", "ana"); err != nil { // in the handler of a request
			log.Print(err)
		}
	}()
	relay.Run(ctx) // in every instance of the service
	stop()
}
