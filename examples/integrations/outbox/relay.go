// Relay: its configuration, its workers, and what wakes them.

package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rodando/realtime"
)

// Publisher is the half of realtime.EventBus that a Relay needs.
type Publisher interface {
	Publish(ctx context.Context, e realtime.Envelope) error
}

// Config says what a Relay publishes, and where.
type Config struct {
	// Pool has the connections. A Relay takes up to Workers+1 of them while it runs, so it needs a
	// pool of its own, or a larger one. Required.
	Pool *pgxpool.Pool
	// Bus receives the events. Required.
	Bus Publisher

	// Workers is how many keys are published at once. Defaults to 4.
	Workers int
	// Batch bounds the events of a key that are published in one transaction, and that may be
	// repeated if it fails. Defaults to 100.
	Batch int
	// Lease bounds such a transaction. When it has passed, no further event is published in it,
	// and 5 s later Postgres lets another relay take the key, even if this process is suspended
	// or cut off. Defaults to 30 s.
	Lease time.Duration
	// Poll is how often the table is looked at without a notification, and how long a worker
	// pauses after an error. Defaults to 1 s.
	Poll time.Duration
	// Keep is how long published events stay in the table. Defaults to a day.
	Keep time.Duration
	// Logger receives the log. Defaults to slog.Default().
	Logger *slog.Logger
}

// complete returns c with its defaults, and an error that joins every mistake.
func (c Config) complete() (Config, error) {
	var errs []error
	if c.Pool == nil {
		errs = append(errs, errors.New("outbox: Config.Pool is nil"))
	}
	if c.Bus == nil {
		errs = append(errs, errors.New("outbox: Config.Bus is nil"))
	}
	for _, n := range []struct {
		name string
		v    *int
		def  int
	}{
		{"Workers", &c.Workers, 4},
		{"Batch", &c.Batch, 100},
	} {
		if *n.v < 0 {
			errs = append(errs, fmt.Errorf("outbox: Config.%s is negative", n.name))
		}
		if *n.v == 0 {
			*n.v = n.def
		}
	}
	for _, d := range []struct {
		name string
		v    *time.Duration
		def  time.Duration
	}{
		{"Lease", &c.Lease, 30 * time.Second},
		{"Poll", &c.Poll, time.Second},
		{"Keep", &c.Keep, 24 * time.Hour},
	} {
		if *d.v < 0 {
			errs = append(errs, fmt.Errorf("outbox: Config.%s is negative", d.name))
		}
		if *d.v == 0 {
			*d.v = d.def
		}
	}
	if c.Pool != nil && int(c.Pool.Config().MaxConns) <= c.Workers {
		errs = append(errs, fmt.Errorf("outbox: Config.Pool has %d connections, and %d workers need one more than they are", c.Pool.Config().MaxConns, c.Workers))
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c, errors.Join(errs...)
}

// Relay publishes the events of the outbox. NewRelay returns one.
type Relay struct {
	cfg  Config
	wake chan struct{} // has an element for each worker that has to look
}

// NewRelay returns a Relay, or an error that names every mistake in c. Run starts it.
func NewRelay(c Config) (*Relay, error) {
	c, err := c.complete()
	if err != nil {
		return nil, err
	}
	return &Relay{cfg: c, wake: make(chan struct{}, c.Workers)}, nil
}

// Run publishes until ctx ends. It then returns when the events that are being published are
// marked as sent, or after Config.Lease and a few seconds. Errors are logged, and what failed is
// tried again. Call Run once.
func (r *Relay) Run(ctx context.Context) {
	var running sync.WaitGroup
	for range r.cfg.Workers {
		running.Go(func() { r.work(ctx) })
	}
	running.Go(func() { r.listen(ctx) })
	running.Go(func() { r.removeOld(ctx) })
	running.Wait()
}

// work publishes what there is, and waits for more.
func (r *Relay) work(ctx context.Context) {
	for ctx.Err() == nil {
		sent, err := r.round(ctx)
		if err != nil && ctx.Err() == nil {
			r.cfg.Logger.Error("outbox: events not published yet", "error", err)
		}
		if sent > 0 {
			continue
		}
		if err != nil {
			sleep(ctx, r.cfg.Poll)
			continue
		}
		select {
		case <-r.wake:
		case <-time.After(r.cfg.Poll):
		case <-ctx.Done():
		}
	}
}

// round publishes events of every key that has some, and returns how many. One key's error does
// not keep it from the others.
func (r *Relay) round(ctx context.Context) (sent int, err error) {
	for after, more := (cursor{}), true; more && ctx.Err() == nil; {
		keys, failure := r.keys(ctx, after)
		if failure != nil {
			return sent, errors.Join(err, failure)
		}
		if more = len(keys) == maxKeys; more {
			after = cursor{keys[len(keys)-1], lastSeq}
		}
		if len(keys) > 1 {
			r.wakeOne() // to share the keys
		}
		// Workers and relays begin with different keys.
		rand.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
		failed := false
		for _, key := range keys {
			if ctx.Err() != nil {
				break
			}
			n, failure := r.relay(ctx, key)
			sent += n
			if failure != nil && !failed { // one of them is enough for the log
				failed, err = true, errors.Join(err, failure)
			}
		}
	}
	return sent, err
}

// wakeOne makes a waiting worker look, or the next that would wait.
func (r *Relay) wakeOne() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// listen wakes a worker for each notification. While it has no connection, the workers look by
// themselves.
func (r *Relay) listen(ctx context.Context) {
	for ctx.Err() == nil {
		if err := r.listenOnce(ctx); err != nil && ctx.Err() == nil {
			r.cfg.Logger.Error("outbox: not notified of new events, looking for them instead", "error", err)
			sleep(ctx, r.cfg.Poll)
		}
	}
}

func (r *Relay) listenOnce(ctx context.Context) error {
	pooled, err := r.cfg.Pool.Acquire(ctx)
	if err != nil {
		return err
	}
	conn := pooled.Hijack() // the pool must not hand out a connection that listens
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		_ = conn.Close(closing)
	}()
	if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil {
		return err
	}
	r.wakeOne() // for what was committed before
	for {
		if _, err := conn.WaitForNotification(ctx); err != nil {
			return err
		}
		r.wakeOne()
	}
}

// removeOld removes the events that were published longer than Config.Keep ago.
func (r *Relay) removeOld(ctx context.Context) {
	for ctx.Err() == nil {
		removed, err := r.cfg.Pool.Exec(ctx, `
			DELETE FROM outbox WHERE seq IN (
				SELECT seq FROM outbox WHERE sent_at < clock_timestamp() - make_interval(secs => $1)
				ORDER BY sent_at LIMIT $2 FOR UPDATE SKIP LOCKED)`, r.cfg.Keep.Seconds(), maxRemoved)
		switch {
		case err != nil && ctx.Err() == nil:
			r.cfg.Logger.Error("outbox: published events not removed", "error", err)
			fallthrough
		case err != nil, removed.RowsAffected() < maxRemoved:
			sleep(ctx, min(time.Minute, r.cfg.Keep))
		}
	}
}

// maxRemoved is how many events one statement removes.
const maxRemoved = 1000

// closeTimeout bounds what is still to be said to Postgres when there is no more time.
const closeTimeout = 3 * time.Second

// sleep waits, within ctx.
func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
