// The database in memory, for one instance.

package main

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/rodando/realtime"
)

// memory keeps everything until the process ends.
type memory struct {
	events *outbox

	mu      sync.Mutex // guards the rest; nothing that blocks is called while it is held
	rows    map[string][]byte
	indexes map[index]map[string]float64
}

func newMemory(log *slog.Logger) *memory {
	return &memory{events: newOutbox(log), rows: map[string][]byte{}, indexes: map[index]map[string]float64{}}
}

func (m *memory) fetch(keys []string) ([][]byte, error) {
	rows := make([][]byte, len(keys))
	for i, key := range keys {
		rows[i] = m.rows[key]
	}
	return rows, nil
}

func (m *memory) change(_ context.Context, f func(t *tx) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := newTx(m.fetch)
	if err := t.end(f(t)); err != nil {
		return err
	}
	for _, w := range t.writes {
		m.apply(w)
	}
	m.events.add(t.events...)
	return nil
}

// apply is called with m.mu held.
func (m *memory) apply(w write) {
	switch {
	case w.key != "" && w.row != nil:
		m.rows[w.key] = w.row
	case w.key != "":
		delete(m.rows, w.key)
	case !w.set:
		delete(m.indexes[w.in], w.id)
	default:
		if m.indexes[w.in] == nil {
			m.indexes[w.in] = map[string]float64{}
		}
		m.indexes[w.in][w.id] = w.rank
	}
}

func (m *memory) view(_ context.Context, f func(t *tx) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := newTx(m.fetch)
	return t.end(f(t))
}

func (m *memory) lowest(_ context.Context, in index, limit int) ([]member, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	found := make([]member, 0, len(m.indexes[in]))
	for id, score := range maps.All(m.indexes[in]) {
		found = append(found, member{id, score})
	}
	slices.SortFunc(found, func(a, b member) int { return cmp.Or(cmp.Compare(a.score, b.score), cmp.Compare(a.id, b.id)) })
	return found[:min(limit, len(found))], nil
}

func (m *memory) relay(ctx context.Context, rt *realtime.Server) { m.events.run(ctx, rt.Publish) }

// poll is long: nobody else changes an index.
func (*memory) poll() time.Duration { return time.Hour }
