package eventlog

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A client that comes to another node does not cost its former one a walk over the log, during which nothing can be emitted:
// only the events that matter are looked at. The test spoils the others.
func TestLog_ClaimWalksOverNothing(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e9, 0)
	l := New(Config[string]{
		Everything: true, Emitter: Emitter([]byte("MYSELF")), Window: time.Minute, Unnoticed: time.Minute, Budget: NewBudget[string](1000, 1<<20),
		Sockets: 10, Catch: Load{50, 500}, Now: func() time.Time { return now },
	})
	other := Mark{Emitter: Emitter([]byte("NODE-1"))}
	keep := func(o Origin) {
		l.Begin()
		defer l.End()
		if o.At > 0 {
			l.Hear(Step{o.Mark, o.At - 1})
		}
		l.Keep(Entry[string]{Event: "x", To: Target{Rooms: []string{"room"}}, Origin: o})
	}
	heard := func() {
		other.At++
		keep(Origin{Mark: other})
	}
	start, since := l.Reserve()
	heard()
	keep(Origin{})
	a := &Away{ID: ID{1}, Since: Seen{At: start}, Label: since, Base: start, Rooms: []Room{{Name: "another room"}}}
	a.Trail.Begin(start)
	l.Pause()
	l.Leave(a)
	l.End()
	l.Settle(a, nil)
	offset := l.Label(l.Head())
	keep(Origin{})
	for range 100 {
		heard()
	}
	unshared := now.Add(-time.Second) // no event is as old
	r, ok := l.Received(a, &offset, unshared)
	require.True(t, ok)
	for i := range l.entries {
		switch e := &l.entries[i]; {
		case e.emitter == l.self:
			e.emitter, e.Origin.At = l.others[0], 0
		case e.Origin.At != 2: // the first one after the client had left
			e.emitter, e.at = l.self, time.Time{}
		}
	}
	spoiled, ok := l.Received(a, &offset, unshared)
	require.True(t, ok)
	require.Equal(t, r, spoiled)
}
