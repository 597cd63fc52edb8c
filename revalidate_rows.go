// Revalidation rows: how a sweep reads rows of a repository, many or one per call. It calls the
// host's code and changes no socket.

package realtime

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rodando/realtime/internal/hostcall"
)

// repoReader reads rows of a repository for the sweep.
type repoReader[T any] struct {
	calls *sweepCall
	one   func(ctx context.Context, id string) (T, error)
	many  func(ctx context.Context, ids []string) ([]T, error) // nil: the repository reads one row per call
	idOf  func(row T) string
}

var errNoRows = errors.New("the repository returned no row for a whole batch")

// read returns the rows by id, nil for a row that does not exist. A row that could not be read
// is not in the map, and err is the last error. If a call for many rows does not return, it
// reads each row with its own call: one row that hangs, because of a lock for instance, must
// not prevent the check of the others.
func (from repoReader[T]) read(ctx context.Context, ids []string) (rows map[string]*T, err error) {
	if from.many == nil {
		return from.readOneByOne(ctx, ids)
	}
	rows, err = hostcall.Do(ctx, from.calls.batch, nil, func(ctx context.Context) (map[string]*T, error) { return from.readMany(ctx, ids) })
	if errors.Is(err, hostcall.ErrTimeout) || errors.Is(err, hostcall.ErrAbandoned) || errors.Is(err, hostcall.ErrBusy) {
		rows, _ = from.readOneByOne(ctx, ids) // err, of the batch, is the cause
	}
	return rows, err
}

// readMany reads all rows with one call.
func (from repoReader[T]) readMany(ctx context.Context, ids []string) (map[string]*T, error) {
	rows, err := from.many(ctx, ids)
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 && len(ids) > 1 {
		return nil, errNoRows // a fault of the repository is more likely than the deletion of all
	}
	byID := make(map[string]*T, len(ids))
	for _, id := range ids {
		byID[id] = nil
	}
	for i := range rows {
		id := from.idOf(rows[i])
		if _, wanted := byID[id]; !wanted {
			return nil, errAnotherRow
		}
		byID[id] = &rows[i]
	}
	return byID, nil
}

// readOneByOne reads one row per call, with sweepConcurrency calls at a time. It stops after
// many consecutive failures, because the repository is probably down.
func (from repoReader[T]) readOneByOne(ctx context.Context, ids []string) (map[string]*T, error) {
	rows := make(map[string]*T, len(ids))
	var failed error  // the last error
	failures := 0     // consecutive ones
	var mu sync.Mutex // guards rows, failed and failures
	take := func(id string, row *T, err error) (goOn bool) {
		mu.Lock()
		defer mu.Unlock()
		if err == nil {
			rows[id], failures = row, 0
		} else {
			failed = err
			failures++
		}
		return failures < 2*sweepConcurrency
	}
	var next atomic.Int64
	var reading sync.WaitGroup
	for range min(sweepConcurrency, len(ids)) {
		reading.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(ids)); i = next.Add(1) - 1 {
				row, err := from.readOne(ctx, ids[i])
				if !take(ids[i], row, err) {
					return
				}
			}
		})
	}
	reading.Wait()
	return rows, failed
}

// readOne reads one row. It returns nil if the row does not exist.
func (from repoReader[T]) readOne(ctx context.Context, id string) (*T, error) {
	row, err := hostcall.Do(ctx, from.calls.row, nil, func(ctx context.Context) (row T, err error) {
		if !from.calls.rows.begin(id, time.Now()) {
			return row, hostcall.ErrAbandoned
		}
		defer from.calls.rows.end(id)
		return from.one(ctx, id)
	})
	switch {
	case errors.Is(err, ErrNotFound):
		return nil, nil //nolint:nilnil // it does not exist
	case err != nil:
		return nil, err
	case from.idOf(row) != id:
		return nil, errAnotherRow
	}
	return &row, nil
}

// rowCalls counts the calls of each row that have not returned, so that a row that always hangs
// costs few calls.
type rowCalls struct {
	mu   sync.Mutex // guards rows
	rows map[string]rowCall
}

type rowCall struct {
	calls int       // calls that have not returned
	last  time.Time // when the last of them began
}

// begin reports whether a call of the row may begin, and counts it. After a call that has not
// returned, the next one may begin after abandonAgain. The time doubles with each further call
// that has not returned.
func (c *rowCalls) begin(id string, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	row := c.rows[id]
	if row.calls > 0 && now.Sub(row.last) < abandonAgain<<min(row.calls-1, 20) {
		return false
	}
	if c.rows == nil {
		c.rows = map[string]rowCall{}
	}
	c.rows[id] = rowCall{row.calls + 1, now}
	return true
}

// end counts the return of a call.
func (c *rowCalls) end(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	row := c.rows[id]
	if row.calls--; row.calls == 0 {
		delete(c.rows, id)
		return
	}
	c.rows[id] = row
}
