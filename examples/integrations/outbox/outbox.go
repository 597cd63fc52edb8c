// Package outbox publishes a domain event if, and only if, the Postgres transaction that caused
// it is committed. Add writes the event into a table, in that transaction. A Relay publishes from
// the table to any realtime.EventBus.
//
// # Delivery
//
// Every committed event is published at least once, and once unless a relay, its database or its
// bus fails meanwhile. Each repeat has the same Envelope.ID. An event for which the bus returns an
// error stays in the table, and so do the later ones of its key.
//
// # Order
//
// The events of a key are published in the order in which their transactions called Add. Add
// locks the key until the end of the transaction, and takes the number and the time of the event
// under the lock. So among the events of a key the order of the numbers is the order of the
// commits.
//
// It is not so among all events. A sequence hands out a number at once, and a transaction with a
// lower number may commit later, or never. A relay that remembered the highest number that it has
// published would miss the one that commits later. This Relay remembers nothing: it asks for rows
// that are not sent.
//
// # Several relays
//
// Any number of relays may run, in any processes. One of them works on a key, while it holds a
// lock of Postgres for it. If it dies, or does not finish within Config.Lease, another takes over.
package outbox

import (
	"context"
	_ "embed" // for Schema
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/rodando/realtime"
)

// Schema has the statements that create the table. They may be executed again.
//
//go:embed schema.sql
var Schema string

// The classes of advisory locks. The other half of a lock is the hash of a key. Keys with the same
// hash wait for each other, which does no harm.
const (
	writing = 0x6f757401 // held from Add until the end of its transaction
	relayed = 0x6f757402 // held by a relay
)

// channel is notified when a transaction with events is committed.
const channel = "outbox"

// Add writes an event into the outbox, as a part of tx. Call it after the statements that lock
// what the event is about, such as the UPDATE of the trip, and leave the event's own At zero: the
// event has the time of Add then. Other transactions that add an event with the same key wait until
// tx has ended, so two that add events of several keys need the same order of keys.
//
// If Add fails, tx cannot be committed.
func Add(ctx context.Context, tx pgx.Tx, event realtime.DomainEvent) error {
	e, err := realtime.NewEnvelope(event)
	if err != nil {
		return err
	}
	// Each statement begins when the one before has ended: the lock comes before the number, and
	// before the time. Notifications are sent at the commit, and equal ones once.
	var batch pgx.Batch
	batch.Queue(`SELECT pg_advisory_xact_lock($1, hashtext($2))`, writing, e.Key)
	batch.Queue(`INSERT INTO outbox (id, name, key, at, data) VALUES ($1, $2, $3, clock_timestamp(), $4)`, e.ID, e.Name, e.Key, e.Data)
	batch.Queue(`SELECT pg_notify($1, '')`, channel)
	results := tx.SendBatch(ctx, &batch)
	for range batch.Len() {
		_, failure := results.Exec()
		err = errors.Join(err, failure)
	}
	if err = errors.Join(err, results.Close()); err != nil {
		return fmt.Errorf("outbox: %s: %w", e.Name, err)
	}
	return nil
}
