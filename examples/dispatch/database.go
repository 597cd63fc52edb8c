// The database: rows and transactions. There are two, in memory (database_memory.go) and in
// Redis (database_redis.go); the rules of store.go, trips.go and drivers.go are the same on both.

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/rodando/realtime"
)

// database holds rows, indexes over them, and the outbox.
type database interface {
	// change runs f as a transaction. What f has written, and the events that it has
	// added, are stored together, or not at all if f returns an error. f may run more than
	// once: its result counts only if nobody has changed meanwhile what it has read.
	change(ctx context.Context, f func(t *tx) error) error
	// view runs f, which only reads. Two reads may see different states.
	view(ctx context.Context, f func(t *tx) error) error
	// lowest returns the members of an index with the lowest scores, in their order.
	lowest(ctx context.Context, in index, limit int) ([]member, error)
	// relay publishes the events of the outbox in order, each at least once, until ctx
	// ends. In memory the outbox is empty when it returns.
	relay(ctx context.Context, rt *realtime.Server)
	// poll is the maximum time between two looks at an index that others change.
	poll() time.Duration
}

// table is the rows of one kind, by id. They are stored as JSON.
type table[T any] string

const (
	users     table[userRow]              = "user"
	sessions  table[sessionRow]           = "session"
	trips     table[tripRow]              = "trip"
	offers    table[string]               = "offer"    // the trip's id, by assignment
	running   table[string]               = "running"  // the running trip's id, by its passenger and its driver
	open      table[string]               = "open"     // the trip's id, by the driver who has an open offer for it
	states    table[realtime.DriverState] = "driver"   // by driver
	positions table[positionRow]          = "position" // by driver
	timelines table[[]timelineRow]        = "timeline" // by trip
)

// index is a set of ids, each with a score.
type index string

const (
	available index = "available" // drivers
	unended   index = "unended"   // trips, by the time of the request
	newest    index = "newest"    // trips of which some may have expired, the newest request first
	due       index = "due"       // trips without a driver, by the time when the matcher must look at them again
)

// member is an id in an index.
type member struct {
	id    string
	score float64
}

func ids(members []member) []string {
	list := make([]string, len(members))
	for i, m := range members {
		list[i] = m.id
	}
	return list
}

// tx is a transaction. It belongs to one goroutine.
type tx struct {
	// fetch reads rows; nil is one that does not exist.
	fetch  func(keys []string) ([][]byte, error)
	rows   map[string][]byte // what was read or written; nil: does not exist
	writes []write
	events []realtime.DomainEvent
	err    error // of the first failure: rows that could not be read seem not to exist
}

func newTx(fetch func(keys []string) ([][]byte, error)) *tx {
	return &tx{fetch: fetch, rows: map[string][]byte{}}
}

// write is a change of a row or of an index.
type write struct {
	key  string // of a row; empty for an index
	row  []byte // nil: deleted
	ttl  time.Duration
	in   index
	id   string
	set  bool // false: removed from the index
	rank float64
}

// read returns a row, or nil.
func (t *tx) read(key string) []byte {
	if _, known := t.rows[key]; !known {
		t.load([]string{key})
	}
	return t.rows[key]
}

func (t *tx) load(keys []string) {
	if t.err != nil || len(keys) == 0 {
		return
	}
	rows, err := t.fetch(keys)
	if err != nil {
		t.err = err
		return
	}
	for i, key := range keys {
		t.rows[key] = rows[i]
	}
}

func (t *tx) fail(err error) {
	if t.err == nil {
		t.err = err
	}
}

// add appends events to the outbox, and those of a trip to its timeline.
func (t *tx) add(events ...realtime.DomainEvent) {
	t.events = append(t.events, events...)
	for _, e := range events {
		record(t, e)
	}
}

// end returns the error of a transaction whose function has returned err.
func (t *tx) end(err error) error {
	if t.err != nil {
		return t.err
	}
	return err
}

func (tb table[T]) key(id string) string { return string(tb) + ":" + id }

// load reads many rows at once.
func (tb table[T]) load(t *tx, ids []string) {
	keys := make([]string, len(ids))
	for i, id := range ids {
		keys[i] = tb.key(id)
	}
	t.load(keys)
}

// get returns a copy of a row, or nil if it does not exist.
func (tb table[T]) get(t *tx, id string) *T {
	data := t.read(tb.key(id))
	if data == nil {
		return nil
	}
	row := new(T)
	if err := json.Unmarshal(data, row); err != nil {
		t.fail(fmt.Errorf("row %s: %w", tb, err))
		return nil
	}
	return row
}

// sameTTL keeps the time after which a row ceases to exist.
const sameTTL time.Duration = -1

// put stores a row. It ceases to exist after ttl; 0 means never.
func (tb table[T]) put(t *tx, id string, row T, ttl time.Duration) {
	data, err := json.Marshal(row)
	if err != nil {
		t.fail(fmt.Errorf("row %s: %w", tb, err))
		return
	}
	t.rows[tb.key(id)] = data
	t.writes = append(t.writes, write{key: tb.key(id), row: data, ttl: ttl})
}

func (tb table[T]) remove(t *tx, id string) {
	t.rows[tb.key(id)] = nil
	t.writes = append(t.writes, write{key: tb.key(id)})
}

// set adds an id, or changes its score.
func (in index) set(t *tx, id string, score float64) {
	t.writes = append(t.writes, write{in: in, id: id, set: true, rank: score})
}

func (in index) remove(t *tx, id string) { t.writes = append(t.writes, write{in: in, id: id}) }

// score is a time as the score of an index, in microseconds, rounded up.
func score(at time.Time) float64 { return float64(at.Add(time.Microsecond - 1).UnixMicro()) }
