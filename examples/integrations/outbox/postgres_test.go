//go:build e2e

// Tests of Add on a real Postgres, and what all tests use. e2e/run sets the build tag; Postgres has to be there then.

package outbox_test

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/examples/integrations/internal/pgtest"
	"github.com/rodando/realtime/examples/integrations/outbox"
)

const (
	// patience is how long a test waits for what must happen.
	patience = 30 * time.Second
	// never is a time that no test takes.
	never = time.Hour
)

// newDB returns a database with the tables, and a pool for the test's own statements.
func newDB(t *testing.T) (url string, db *pgxpool.Pool) {
	t.Helper()
	url = pgtest.NewDatabase(t)
	db, _ = pgtest.NewPool(t, url, 20)
	for _, schema := range []string{tripSchema, outbox.Schema, outbox.Schema} { // the latter may be repeated
		_, err := db.Exec(t.Context(), schema)
		require.NoError(t, err)
	}
	return url, db
}

// running is a relay that runs.
type running struct {
	t      *testing.T
	cut    func() // cuts its connections for good
	cancel func() // ends the ctx of Run
	ended  chan struct{}
}

// startRelay runs a relay, with connections of its own, until the test ends.
func startRelay(t *testing.T, url string, c outbox.Config) *running {
	t.Helper()
	r := &running{t: t, ended: make(chan struct{})}
	c.Pool, r.cut = pgtest.NewPool(t, url, 10)
	relay, err := outbox.NewRelay(c)
	require.NoError(t, err)
	var ctx context.Context
	ctx, r.cancel = context.WithCancel(t.Context())
	go func() {
		defer close(r.ended)
		relay.Run(ctx)
	}()
	t.Cleanup(r.stop)
	return r
}

// stop ends the relay, and waits for that.
func (r *running) stop() {
	r.cancel()
	select {
	case <-r.ended:
	case <-time.After(patience):
		r.t.Error("Run does not end")
	}
}

// recorder is a bus that records what is published.
type recorder struct {
	before func(ctx context.Context, e realtime.Envelope) error // nil: nothing

	mu     sync.Mutex // guards the fields below
	events []realtime.Envelope
}

func (r *recorder) Publish(ctx context.Context, e realtime.Envelope) error {
	if r.before != nil {
		if err := r.before(ctx, e); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
	return nil
}

func (r *recorder) all() []realtime.Envelope {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]realtime.Envelope(nil), r.events...)
}

// await waits for a number of events.
func (r *recorder) await(t *testing.T, n int) []realtime.Envelope {
	t.Helper()
	require.Eventually(t, func() bool { return len(r.all()) >= n }, patience, 5*time.Millisecond, "%d events are published", n)
	return r.all()
}

// step is an event of the tests.
type step struct {
	Trip string `json:"trip"`
	N    int    `json:"n"`
}

func (step) EventName() string  { return "trip.step" }
func (s step) EventKey() string { return s.Trip }

// add adds steps of a trip in a transaction.
func add(t *testing.T, db *pgxpool.Pool, trip string, numbers ...int) {
	t.Helper()
	require.NoError(t, pgx.BeginFunc(t.Context(), db, func(tx pgx.Tx) error {
		for _, n := range numbers {
			if err := outbox.Add(t.Context(), tx, step{trip, n}); err != nil {
				return err
			}
		}
		return nil
	}))
}

// begin begins a transaction, which has a number at once.
func begin(t *testing.T, db *pgxpool.Pool) pgx.Tx {
	t.Helper()
	tx, err := db.Begin(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = tx.Rollback(context.Background()) }) // the pool waits for it
	_, err = tx.Exec(t.Context(), `SELECT pg_current_xact_id()`)
	require.NoError(t, err)
	return tx
}

// steps returns the numbers of a trip's events, in order.
func steps(t *testing.T, events []realtime.Envelope, trip string) (numbers []int) {
	t.Helper()
	for _, e := range events {
		if e.Key == trip {
			var s step
			require.NoError(t, json.Unmarshal(e.Data, &s))
			numbers = append(numbers, s.N)
		}
	}
	return numbers
}

// requireUnsent waits until a number of events are not sent.
func requireUnsent(t *testing.T, db *pgxpool.Pool, want int) {
	t.Helper()
	var got int
	require.Eventually(t, func() bool {
		require.NoError(t, db.QueryRow(t.Context(), `SELECT count(*) FROM outbox WHERE sent_at IS NULL`).Scan(&got))
		return got == want
	}, patience, 5*time.Millisecond, "%d events are not sent", want)
}

func TestAdd_TripIsSavedAndPublished(t *testing.T) {
	t.Parallel()
	url, db := newDB(t)
	bus := &recorder{}
	startRelay(t, url, outbox.Config{Bus: bus, Poll: never}) // so it is woken by notifications
	require.NoError(t, SaveTrip(t.Context(), db, "t1", "ana"))
	require.NoError(t, StartTrip(t.Context(), db, "t1", "ben"))
	require.Error(t, StartTrip(t.Context(), db, "t1", "cem"))
	events := bus.await(t, 2)
	requireUnsent(t, db, 0)
	require.Len(t, bus.all(), 2)
	for i, want := range []realtime.DomainEvent{
		realtime.TripRequested{TripID: "t1", PassengerID: "ana"},
		realtime.TripStarted{TripID: "t1", PassengerID: "ana", DriverID: "ben"},
	} {
		data, err := json.Marshal(want)
		require.NoError(t, err)
		require.Equal(t, want.EventName(), events[i].Name)
		require.Equal(t, "t1", events[i].Key)
		require.Equal(t, string(data), string(events[i].Data))
		require.Len(t, events[i].ID, 36)
		require.WithinDuration(t, time.Now(), events[i].At, time.Hour)
	}
	require.True(t, events[1].At.After(events[0].At))
}

func TestAdd_RollbackPublishesNothing(t *testing.T) {
	t.Parallel()
	url, db := newDB(t)
	bus := &recorder{}
	startRelay(t, url, outbox.Config{Bus: bus})
	planned := errors.New("a planned failure")
	err := pgx.BeginFunc(t.Context(), db, func(tx pgx.Tx) error {
		require.NoError(t, outbox.Add(t.Context(), tx, step{"t1", 1}))
		return planned
	})
	require.ErrorIs(t, err, planned)
	require.NoError(t, SaveTrip(t.Context(), db, "t1", "ana"))
	require.Error(t, SaveTrip(t.Context(), db, "t1", "ana")) // the trip exists
	add(t, db, "t1", 2)
	require.Equal(t, "trip.requested", bus.await(t, 2)[0].Name)
	require.Equal(t, "trip.step", bus.all()[1].Name)
	requireUnsent(t, db, 0)
	require.Len(t, bus.all(), 2)
}

// An event that Postgres refuses fails the transaction, and the trip is not saved either.
func TestAdd_FailureFailsTheTransaction(t *testing.T) {
	t.Parallel()
	_, db := newDB(t)
	require.Error(t, SaveTrip(t.Context(), db, "t\x001", "ana"))
	var saved error
	err := pgx.BeginFunc(t.Context(), db, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), `INSERT INTO trip (id, passenger, status) VALUES ('t1', 'ana', 'requested')`)
		require.NoError(t, err)
		saved = outbox.Add(t.Context(), tx, step{"t\x001", 1})
		return nil // a host that ignores the error
	})
	require.Error(t, saved)
	require.Error(t, err)
	var trips int
	require.NoError(t, db.QueryRow(t.Context(), `SELECT count(*) FROM trip`).Scan(&trips))
	require.Zero(t, trips)
}

// Two transactions change one trip. The one that began later, and has the higher transaction id,
// changes the trip first.
func TestAdd_ConcurrentTransactionsOfOneTripKeepTheirOrder(t *testing.T) {
	t.Parallel()
	url, db := newDB(t)
	older, newer := begin(t, db), begin(t, db)
	require.NoError(t, outbox.Add(t.Context(), newer, step{"t1", 1}))
	added := make(chan error, 1)
	go func() { added <- outbox.Add(t.Context(), older, step{"t1", 2}) }()
	require.Eventually(t, func() bool {
		var waiting int
		require.NoError(t, db.QueryRow(t.Context(), `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`).Scan(&waiting))
		return waiting == 1
	}, patience, 5*time.Millisecond, "Add waits for the other transaction")
	require.NoError(t, outbox.Add(t.Context(), newer, step{"t1", 3}))
	require.NoError(t, newer.Commit(t.Context()))
	require.NoError(t, <-added)
	require.NoError(t, older.Commit(t.Context()))
	bus := &recorder{}
	startRelay(t, url, outbox.Config{Bus: bus})
	events := bus.await(t, 3)
	require.Equal(t, []int{1, 3, 2}, steps(t, events, "t1"))
	for i := 1; i < len(events); i++ { // the server goes by it
		require.True(t, events[i].At.After(events[i-1].At), "the times have the same order")
	}
}
