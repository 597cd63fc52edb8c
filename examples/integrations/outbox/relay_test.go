//go:build e2e

// Tests of the relay on a real Postgres.

package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/examples/integrations/outbox"
	"github.com/rodando/realtime/realtimetest"
)

// The events reach the clients of a server whose bus the relay publishes to.
func TestRelay_ReachesClients(t *testing.T) {
	t.Parallel()
	url, db := newDB(t)
	srv := realtimetest.NewServer(t)
	passenger, driver := srv.Passenger(t, "ana"), srv.Driver(t, "ben")
	startRelay(t, url, outbox.Config{Bus: srv.Bus})
	require.NoError(t, SaveTrip(t.Context(), db, "t1", "ana"))
	require.NoError(t, StartTrip(t.Context(), db, "t1", "ben"))
	require.Equal(t, "t1", realtimetest.Expect(t, passenger, realtime.EventTripRequested).TripID)
	require.Equal(t, "t1", realtimetest.Expect(t, passenger, realtime.EventTripStarted).TripID)
	require.Equal(t, "t1", realtimetest.Expect(t, driver, realtime.EventTripStarted).TripID)
}

// The transaction with the lower number commits later. A relay that goes by the highest number
// would miss it.
func TestRelay_TransactionThatCommitsLateIsNotMissed(t *testing.T) {
	t.Parallel()
	url, db := newDB(t)
	bus := &recorder{}
	startRelay(t, url, outbox.Config{Bus: bus})
	late := begin(t, db)
	require.NoError(t, outbox.Add(t.Context(), late, step{"late", 1}))
	add(t, db, "early", 1)
	require.Equal(t, "early", bus.await(t, 1)[0].Key)
	requireUnsent(t, db, 0)
	require.NoError(t, late.Commit(t.Context()))
	require.Equal(t, "late", bus.await(t, 2)[1].Key)
}

// A relay that waits is woken by the commit of each event.
func TestRelay_IsNotified(t *testing.T) {
	t.Parallel()
	url, db := newDB(t)
	bus := &recorder{}
	startRelay(t, url, outbox.Config{Bus: bus, Poll: never})
	requireListening(t, db)
	for n := 1; n <= 5; n++ {
		add(t, db, "t1", n)
		bus.await(t, n)
		requireUnsent(t, db, 0)
		time.Sleep(20 * time.Millisecond) // so that the workers wait; on a slow machine the test shows less
	}
	require.Equal(t, []int{1, 2, 3, 4, 5}, steps(t, bus.all(), "t1"))
}

// requireListening waits until a relay listens.
func requireListening(t *testing.T, db *pgxpool.Pool) {
	t.Helper()
	require.Eventually(t, func() bool {
		var listening int
		require.NoError(t, db.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query = 'LISTEN outbox'`).Scan(&listening))
		return listening == 1
	}, patience, 5*time.Millisecond, "the relay listens")
}

// Many writers of a few trips, and two relays: every trip's events come in the order of the
// changes, and once.
func TestRelay_TwoRelaysKeepTheOrder(t *testing.T) {
	t.Parallel()
	url, db := newDB(t)
	const trips, writers, each = 5, 8, 25
	_, err := db.Exec(t.Context(), `CREATE TABLE counter (trip text PRIMARY KEY, n int NOT NULL)`)
	require.NoError(t, err)
	for i := range trips {
		_, err := db.Exec(t.Context(), `INSERT INTO counter VALUES ($1, 0)`, fmt.Sprint(i))
		require.NoError(t, err)
	}
	bus := &recorder{}
	var busy sync.Map
	bus.before = func(_ context.Context, e realtime.Envelope) error {
		if _, twice := busy.LoadOrStore(e.Key, true); twice {
			t.Errorf("two events of the trip %s at once", e.Key)
		}
		defer busy.Delete(e.Key)
		time.Sleep(time.Millisecond)
		return nil
	}
	for range 2 {
		startRelay(t, url, outbox.Config{Bus: bus, Batch: 7})
	}
	var writing sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for i := range each {
				trip := fmt.Sprint((w + i) % trips)
				err := pgx.BeginFunc(t.Context(), db, func(tx pgx.Tx) error {
					var n int
					if err := tx.QueryRow(t.Context(), `UPDATE counter SET n = n + 1 WHERE trip = $1 RETURNING n`, trip).Scan(&n); err != nil {
						return err
					}
					return outbox.Add(t.Context(), tx, step{trip, n})
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	writing.Wait()
	bus.await(t, writers*each)
	requireUnsent(t, db, 0)
	events := bus.all()
	require.Equal(t, writers*each, len(events), "each event once") //nolint:testifylint // Len prints them all
	for i := range trips {
		for j, n := range steps(t, events, fmt.Sprint(i)) {
			require.Equal(t, j+1, n, "the trip %d", i)
		}
	}
}

// A relay is killed when it has published events and not marked them as sent. Another one repeats
// them, with the same ids, before the others of the trip.
func TestRelay_KilledBeforeItMarks(t *testing.T) {
	t.Parallel()
	url, db := newDB(t)
	add(t, db, "t1", 1, 2, 3, 4)
	killed, first := make(chan struct{}), &recorder{}
	var r *running
	ready := make(chan struct{})
	first.before = func(_ context.Context, e realtime.Envelope) error {
		<-ready
		if steps(t, []realtime.Envelope{e}, "t1")[0] == 3 {
			r.cut()
			close(killed)
			return errors.New("the process has ended")
		}
		return nil
	}
	r = startRelay(t, url, outbox.Config{Bus: first, Poll: never})
	close(ready)
	select {
	case <-killed:
	case <-time.After(patience):
		t.Fatal("the relay publishes nothing")
	}
	r.stop()
	require.Equal(t, []int{1, 2}, steps(t, first.all(), "t1"))
	requireUnsent(t, db, 4)
	second := &recorder{}
	startRelay(t, url, outbox.Config{Bus: second})
	events := second.await(t, 4)
	requireUnsent(t, db, 0)
	require.Equal(t, []int{1, 2, 3, 4}, steps(t, second.all(), "t1"))
	for i, before := range first.all() {
		require.Equal(t, before, events[i], "the repeat is the same event")
	}
}

// While one relay hangs in a call of the bus, it keeps its key and no other. When its lease has
// passed, another relay takes the key over, and the former publishes nothing more of it.
func TestRelay_HangsInTheBus(t *testing.T) {
	t.Parallel()
	url, db := newDB(t)
	hung, release := make(chan struct{}), make(chan struct{})
	hang := sync.OnceFunc(func() {
		close(hung)
		<-release // it ignores its ctx
	})
	first := &recorder{before: func(context.Context, realtime.Envelope) error {
		hang()
		return nil
	}}
	add(t, db, "t1", 1, 2)
	startRelay(t, url, outbox.Config{Bus: first, Workers: 1, Lease: 100 * time.Millisecond})
	goOn := sync.OnceFunc(func() { close(release) })
	defer goOn()
	select {
	case <-hung:
	case <-time.After(patience):
		t.Fatal("the relay publishes nothing")
	}
	second := &recorder{}
	r := startRelay(t, url, outbox.Config{Bus: second})
	add(t, db, "t2", 1)
	require.Equal(t, "t2", second.await(t, 1)[0].Key)
	require.Equal(t, []int{1, 2}, steps(t, second.await(t, 3), "t1")) // 5 s later
	requireUnsent(t, db, 0)
	r.stop()
	goOn()
	add(t, db, "t3", 1)
	require.Equal(t, "t3", first.await(t, 2)[1].Key, "only the event of the call that hung comes before")
	require.Equal(t, []int{1}, steps(t, first.all(), "t1"))
}

// What a bus does not take stays in the table, in its place, and delays no other trip.
func TestRelay_BusFails(t *testing.T) {
	t.Parallel()
	url, db := newDB(t)
	bus := &recorder{}
	var mu sync.Mutex
	fails := true
	bus.before = func(_ context.Context, e realtime.Envelope) error {
		mu.Lock()
		defer mu.Unlock()
		if fails && e.Key == "t1" && steps(t, []realtime.Envelope{e}, "t1")[0] == 2 {
			return errors.New("a planned failure")
		}
		return nil
	}
	add(t, db, "t1", 1, 2, 3)
	startRelay(t, url, outbox.Config{Bus: bus, Poll: 10 * time.Millisecond})
	requireUnsent(t, db, 2)
	add(t, db, "t2", 1)
	bus.await(t, 2)
	requireUnsent(t, db, 2)
	mu.Lock()
	fails = false
	mu.Unlock()
	requireUnsent(t, db, 0)
	require.Equal(t, []int{1, 2, 3}, steps(t, bus.all(), "t1"))
	require.Equal(t, []int{1}, steps(t, bus.all(), "t2"))
}

// Rows without a notification, as another program may write them, are found by looking.
func TestRelay_LooksForRows(t *testing.T) {
	t.Parallel()
	url, db := newDB(t)
	bus := &recorder{}
	startRelay(t, url, outbox.Config{Bus: bus, Poll: 10 * time.Millisecond})
	add(t, db, "t1", 1)
	bus.await(t, 1)
	for _, key := range []string{"", "t1"} {
		_, err := db.Exec(t.Context(), `INSERT INTO outbox (id, name, key, at, data) VALUES ($1, 'trip.step', $2, now(), '{}')`, "id "+key, key)
		require.NoError(t, err)
	}
	bus.await(t, 3)
	requireUnsent(t, db, 0)
}

// docs/events-in.md says what a service in another language writes.
func TestRelay_RowsOfAnotherLanguage(t *testing.T) {
	t.Parallel()
	docs, err := os.ReadFile("../../../docs/events-in.md")
	require.NoError(t, err)
	_, rest, ok := strings.Cut(string(docs), "A service in another language")
	require.True(t, ok)
	_, rest, _ = strings.Cut(rest, "```sql\n")
	statements, _, ok := strings.Cut(rest, "```")
	require.True(t, ok)
	url, db := newDB(t)
	srv := realtimetest.NewServer(t)
	passenger := srv.Passenger(t, "ana")
	startRelay(t, url, outbox.Config{Bus: srv.Bus, Poll: never})
	older := begin(t, db)
	require.NoError(t, outbox.Add(t.Context(), older, step{"trip-1", 1}))
	_, err = db.Exec(t.Context(), "SET lock_timeout = 10; "+statements)
	require.ErrorContains(t, err, "lock timeout", "it waits for a transaction that has added an event of the trip")
	require.NoError(t, older.Commit(t.Context()))
	_, err = db.Exec(t.Context(), "SET lock_timeout = 0; "+statements) // one transaction
	require.NoError(t, err)
	require.Equal(t, "trip-1", realtimetest.Expect(t, passenger, realtime.EventTripRequested).TripID)
}

// A relay outlives the loss of its connections, and is notified again.
func TestRelay_ConnectionsAreLost(t *testing.T) {
	t.Parallel()
	url, db := newDB(t)
	bus := &recorder{}
	startRelay(t, url, outbox.Config{Bus: bus, Poll: 20 * time.Millisecond})
	add(t, db, "t1", 1)
	bus.await(t, 1)
	for n := 2; n < 5; n++ {
		_, err := db.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'`)
		require.NoError(t, err)
		require.Eventually(t, func() bool { // the pool of the test may hand out dead connections
			return pgx.BeginFunc(t.Context(), db, func(tx pgx.Tx) error { return outbox.Add(t.Context(), tx, step{"t1", n}) }) == nil
		}, patience, time.Millisecond)
		// Some may be repeated.
		require.Eventually(t, func() bool { return len(dedupe(steps(t, bus.all(), "t1"))) == n }, patience, 5*time.Millisecond, "%d events are published", n)
	}
	require.Equal(t, []int{1, 2, 3, 4}, dedupe(steps(t, bus.all(), "t1")))
	requireListening(t, db)
}

// dedupe leaves the first of equal numbers.
func dedupe(numbers []int) (first []int) {
	seen := map[int]bool{}
	for _, n := range numbers {
		if !seen[n] {
			seen[n] = true
			first = append(first, n)
		}
	}
	return first
}

// A backlog of more keys than are asked for at once.
func TestRelay_ManyKeys(t *testing.T) {
	t.Parallel()
	url, db := newDB(t)
	const keys = 350
	_, err := db.Exec(t.Context(), `INSERT INTO outbox (id, name, key, at, data)
		SELECT 'id' || n, 'trip.step', 'key' || n % $1, now(), '{}' FROM generate_series(1, $1::int * 2) n`, keys)
	require.NoError(t, err)
	bus := &recorder{}
	r := startRelay(t, url, outbox.Config{Bus: bus, Workers: 2, Poll: never})
	bus.await(t, 2*keys)
	r.stop()
	requireUnsent(t, db, 0)
	require.Len(t, bus.all(), 2*keys)
}

func TestRelay_RemovesWhatIsOld(t *testing.T) {
	t.Parallel()
	url, db := newDB(t)
	_, err := db.Exec(t.Context(), `INSERT INTO outbox (id, name, key, at, data, sent_at)
		SELECT 'id' || n, 'trip.step', 't1', now(), '{}', CASE WHEN n > 2500 THEN now() ELSE now() - interval '2 hours' END
		FROM generate_series(1, 2510) n`)
	require.NoError(t, err)
	add(t, db, "t1", 1)
	bus := &recorder{before: func(context.Context, realtime.Envelope) error { return errors.New("a planned failure") }}
	startRelay(t, url, outbox.Config{Bus: bus, Keep: time.Hour})
	require.Eventually(t, func() bool {
		var rows int
		require.NoError(t, db.QueryRow(t.Context(), `SELECT count(*) FROM outbox`).Scan(&rows))
		return rows == 11
	}, patience, 5*time.Millisecond, "ten that are recent, and the one that is not sent, stay")
	requireUnsent(t, db, 1)
}

// Run returns when the event that is being published is marked, so that it is not repeated.
func TestRelay_StopsBetweenEvents(t *testing.T) {
	t.Parallel()
	url, db := newDB(t)
	add(t, db, "t1", 1, 2)
	entered, release := make(chan struct{}), make(chan struct{})
	bus := &recorder{before: func(ctx context.Context, _ realtime.Envelope) error {
		close(entered)
		<-release
		return ctx.Err()
	}}
	r := startRelay(t, url, outbox.Config{Bus: bus, Workers: 1})
	select {
	case <-entered:
	case <-time.After(patience):
		t.Fatal("the relay publishes nothing")
	}
	r.cancel()
	close(release)
	r.stop()
	require.Equal(t, []int{1}, steps(t, bus.all(), "t1"))
	requireUnsent(t, db, 1)
}
