// Publishing the events of one key.

package outbox

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rodando/realtime"
)

// maxKeys is how many keys are asked for at once.
const maxKeys = 100

// cursor is a place in the index of the events that are not sent.
type cursor struct {
	key string
	seq int64
}

// lastSeq comes after every event of a key.
const lastSeq = math.MaxInt64

// keys returns the next keys with events that are not sent. It jumps from key to key in the index,
// so a key with many events costs no more than one with few.
func (r *Relay) keys(ctx context.Context, after cursor) ([]string, error) {
	rows, err := r.cfg.Pool.Query(ctx, `
		WITH RECURSIVE found (key, n) AS (
			(SELECT key, 1 FROM outbox WHERE sent_at IS NULL AND (key, seq) > ($1, $2::bigint) ORDER BY key, seq LIMIT 1)
			UNION ALL
			SELECT next.key, found.n + 1 FROM found CROSS JOIN LATERAL (
				SELECT key FROM outbox WHERE sent_at IS NULL AND (key, seq) > (found.key, $3::bigint) ORDER BY key, seq LIMIT 1
			) next WHERE found.n < $4
		)
		SELECT key FROM found`, after.key, after.seq, int64(lastSeq), maxKeys)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// relay publishes the events of a key, unless another relay or worker does, and returns how many.
func (r *Relay) relay(ctx context.Context, key string) (sent int, err error) {
	// The lease begins before Postgres grants it. What was begun is finished when ctx ends.
	leased, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.cfg.Lease)
	defer cancel()
	// With a snapshot from before the lock, events would be published again that the former
	// holder has published.
	tx, err := r.cfg.Pool.BeginTx(leased, pgx.TxOptions{IsoLevel: pgx.ReadCommitted})
	if err != nil {
		return 0, err
	}
	late, cancelLate := context.WithTimeout(context.WithoutCancel(ctx), r.cfg.Lease+closeTimeout)
	defer cancelLate()
	defer func() { _ = tx.Rollback(late) }() // does nothing after Commit
	pending, err := r.pending(leased, tx, key)
	if err != nil || len(pending) == 0 {
		return 0, err
	}
	var done []int64
	var failure error
	for _, p := range pending {
		if ctx.Err() != nil || leased.Err() != nil {
			break
		}
		if err := r.cfg.Bus.Publish(leased, p.event); err != nil {
			failure = fmt.Errorf("publishing %s %s: %w", p.event.Name, p.event.ID, err)
			break // the later events of the key wait
		}
		done = append(done, p.seq)
	}
	if len(done) == 0 {
		return 0, failure
	}
	if _, err := tx.Exec(late, `UPDATE outbox SET sent_at = clock_timestamp() WHERE seq = ANY($1)`, done); err != nil {
		return 0, errors.Join(failure, err)
	}
	if err := tx.Commit(late); err != nil {
		return 0, errors.Join(failure, err)
	}
	return len(done), failure
}

// unsent is an event that is not sent.
type unsent struct {
	seq   int64
	event realtime.Envelope
}

// pending locks a key and returns its events that are not sent, in order. It returns none if
// another relay or worker has the lock.
func (r *Relay) pending(ctx context.Context, tx pgx.Tx, key string) ([]unsent, error) {
	// Postgres ends a transaction whose relay does not answer, and with it the lock.
	idle := strconv.FormatInt((r.cfg.Lease + 5*time.Second).Milliseconds(), 10)
	var locked bool
	err := tx.QueryRow(ctx, `
		SELECT pg_try_advisory_xact_lock($1, hashtext($2))
		FROM set_config('idle_in_transaction_session_timeout', $3, true)`, relayed, key, idle).Scan(&locked)
	if err != nil || !locked {
		return nil, err
	}
	rows, err := tx.Query(ctx, `
		SELECT seq, id, name, key, at, data FROM outbox
		WHERE key = $1 AND sent_at IS NULL ORDER BY seq LIMIT $2`, key, r.cfg.Batch)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (u unsent, err error) {
		err = row.Scan(&u.seq, &u.event.ID, &u.event.Name, &u.event.Key, &u.event.At, &u.event.Data)
		return u, err
	})
}
