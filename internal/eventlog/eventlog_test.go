package eventlog_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rodando/realtime/internal/eventlog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// site is a log with a clock.
type site struct {
	*eventlog.Log[string]
	t   *testing.T
	now time.Time
	ids byte
	// last is the step of the newest event.
	last eventlog.Step
}

func newSite(t *testing.T, change ...func(c *eventlog.Config[string])) *site {
	t.Helper()
	s := &site{t: t, now: time.Unix(1e9, 0)}
	c := eventlog.Config[string]{Everything: true, Emitter: eventlog.Emitter([]byte("MYSELF")), Window: time.Minute, Unnoticed: time.Minute, Budget: eventlog.NewBudget[string](100, 100_000), Sockets: 10, Catch: eventlog.Load{Messages: 50, Bytes: 500}, Now: func() time.Time { return s.now }}
	for _, f := range change {
		f(&c)
	}
	s.Log = eventlog.New[string](c)
	return s
}

// load is what an event takes in an outbox.
func load(event string) eventlog.Load { return eventlog.Load{Messages: 1, Bytes: len(event)} }

// emit keeps an event.
func (s *site) emit(event string, rooms ...string) uint64 {
	at := s.Begin()
	defer s.End()
	s.last = s.Step(at)
	s.Keep(eventlog.Entry[string]{Event: event, To: eventlog.Target{Rooms: rooms}, Load: load(event)})
	return at
}

// hear keeps an event of another node, and returns its label here.
func (s *site) hear(step eventlog.Step, event string, rooms ...string) string {
	at := s.Begin()
	defer s.End()
	s.Hear(step)
	s.Keep(eventlog.Entry[string]{Event: event, To: eventlog.Target{Rooms: rooms}, Load: load(event), Origin: eventlog.Origin{Mark: step.Mark}})
	return string(s.AppendLabel(nil, at))
}

// unmarked keeps an event of a node that has no log.
func (s *site) unmarked(event string, rooms ...string) {
	s.Begin()
	defer s.End()
	s.Keep(eventlog.Entry[string]{Event: event, To: eventlog.Target{Rooms: rooms}, Load: load(event), Origin: eventlog.Origin{Unknown: true}})
}

// mark returns a position of no event.
func (s *site) mark() uint64 { at, _ := s.Reserve(); return at }

// leave has a socket leave that began at a position, and on which events were queued.
func (s *site) leave(rooms []string, start uint64, recent ...uint64) *eventlog.Away {
	return s.leaveAgain(0, rooms, start, recent...)
}

// leaveAgain is leave for a client that has returned that often.
func (s *site) leaveAgain(turn int, rooms []string, start uint64, recent ...uint64) *eventlog.Away {
	s.ids++
	a := &eventlog.Away{ID: eventlog.ID{s.ids}, Socket: fmt.Sprint("s", s.ids), Since: eventlog.Seen{At: start}, Base: start, Turn: turn}
	a.Trail.Begin(start)
	for _, name := range rooms {
		a.Rooms = append(a.Rooms, eventlog.Room{Name: name})
	}
	s.Pause()
	for _, at := range recent {
		s.Queued(&a.Trail, at)
	}
	s.Leave(a)
	s.End()
	s.Settle(a, "owner")
	return a
}

// back has a socket return, and returns what it has missed.
func (s *site) back(a *eventlog.Away, offset string, rooms ...string) (missed []string, ok bool) {
	s.t.Helper()
	if a.Here() && s.Find(s.t.Context(), a.ID) != a {
		return nil, false
	}
	from := &offset
	if offset == "" {
		from = nil
	}
	if ok, taken := s.Take(a, from); !ok {
		require.False(s.t, taken)
		return nil, false
	}
	if a.Here() {
		ok, taken := s.Take(a, from)
		require.False(s.t, ok)
		require.True(s.t, taken)
	}
	s.Pause()
	defer s.End()
	c, ok := s.Catch(a, rooms, nil)
	return c.Missed, ok
}

// The last label that a client has received says what it has missed: what was queued on its socket after
// it, and what was emitted after its end.
func TestLog_Missed(t *testing.T) {
	t.Parallel()
	for last, want := range []string{"[a b c d]", "[b c d]", "[c d]", "[d]"} {
		t.Run(fmt.Sprint(last, " received"), func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			start := s.mark()
			positions := []uint64{start}
			for _, event := range []string{"a", "b", "c"} {
				positions = append(positions, s.emit(event, "room"))
				s.emit("x", "another room")
			}
			a := s.leave([]string{"room"}, start, positions[1:]...)
			s.emit("d", "room")
			s.emit("x", "another room")
			missed, ok := s.back(a, s.Label(positions[last]), "room")
			require.True(t, ok)
			require.Equal(t, want, fmt.Sprint(missed))
		})
	}
}

// A client to which nothing was sent for a long time has nothing to miss, although its label is old.
func TestLog_Quiet(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	start := s.mark()
	for range 1000 {
		s.emit("x", "another room")
	}
	a := s.leave([]string{"room"}, start)
	s.emit("a", "room")
	missed, ok := s.back(a, s.Label(start), "room")
	require.True(t, ok)
	require.Equal(t, []string{"a"}, missed)
}

// The same, and then events come that do not arrive, before the node notices that the connection is dead.
func TestLog_QuietAndThenDead(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	start := s.mark()
	for range 1000 {
		s.emit("x", "another room")
	}
	var queued []uint64
	for i := range 20 {
		queued = append(queued, s.emit(fmt.Sprint(i), "room"))
	}
	for n, offset := range append([]uint64{start}, queued[:19]...) {
		a := s.leave([]string{"room"}, start, queued...)
		missed, ok := s.back(a, s.Label(offset), "room")
		require.True(t, ok)
		require.Len(t, missed, 20-n)
		require.Equal(t, fmt.Sprint(n), missed[0])
	}
	a := s.leave([]string{"room"}, start, queued...)
	missed, ok := s.back(a, s.Label(queued[19]), "room")
	require.True(t, ok)
	require.Empty(t, missed)
}

// Without the required event there is no recovery.
func TestLog_Least(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	start := s.mark()
	for offset, want := range map[string]bool{"": false, s.Label(start): false, s.Label(start + 1): true} {
		a := s.leave([]string{"room"}, start)
		a.Least = s.Mark(start + 1)
		_, ok := s.back(a, offset, "room")
		require.Equal(t, want, ok, offset)
	}
}

// A room that the socket has joined later has no older events for it.
func TestLog_JoinedLater(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	start := s.mark()
	s.emit("a", "room")
	s.emit("b", "other")
	joined := s.emit("c", "x")
	s.emit("d", "room")
	a := s.leave([]string{"room", "other"}, start)
	s.Pause()
	s.Queued(&a.Trail, joined+1)
	s.End()
	a.Rooms[0].Since.At = joined
	missed, ok := s.back(a, s.Label(start), "room", "other")
	require.True(t, ok)
	require.Equal(t, []string{"b", "d"}, missed)
}

// cluster is three logs that get the events of each other.
type cluster []*site

func newCluster(t *testing.T) cluster {
	t.Helper()
	var c cluster
	for i := range 3 {
		c = append(c, newSite(t, func(cfg *eventlog.Config[string]) { copy(cfg.Emitter[:], fmt.Sprintf("NODE-%d", i)) }))
	}
	return c
}

// hear makes the nodes know each other.
func (c cluster) hear() {
	for i := range c {
		c[i].HearAll(c[(i+1)%3].Mark(0))
		c[i].HearAll(c[(i+2)%3].Mark(0))
	}
}

// emit emits an event on a node; others get it.
func (c cluster) emit(node int, event string, others ...int) (label string) {
	s := c[node]
	at := s.emit(event, "room")
	for _, o := range others {
		c[o].hear(s.last, event, "room")
	}
	return s.Label(at)
}

func TestLog_Nodes(t *testing.T) {
	t.Parallel()
	for name, dead := range map[string]bool{"asked": false, "dead": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			c.hear()
			start, since := c[0].Reserve()
			c.emit(0, "a", 1, 2)
			label := c.emit(1, "b", 0, 2)
			require.NotEmpty(t, label)
			last := c[0].Label(c[0].Head()) // what the client has received: a and b
			a := c[0].leave([]string{"room"}, start)
			a.Label = since
			c.emit(2, "c", 1) // it is still on its way to node 0
			c.emit(0, "d", 1)
			c.emit(1, "e", 0)
			record := c[0].Record(a)
			if !dead {
				var ok bool
				record, ok = c[0].Received(a, &last, time.Time{})
				require.True(t, ok)
			}
			for range 2 { // the first attempt ends early
				f, ok := c[1].Foreign(record, time.Time{}, nil)
				require.True(t, ok)
				require.False(t, f.Here())
				require.Equal(t, a.ID, f.ID)
				ok, _ = c[1].Take(f, &last)
				require.True(t, ok)
			}
			f, _ := c[1].Foreign(record, time.Time{}, nil)
			missed, ok := c[1].back(f, last, "room")
			require.True(t, ok)
			require.Equal(t, []string{"c", "d", "e"}, missed)
			_, ok = c[1].Foreign(record, time.Time{}, nil)
			require.True(t, ok)
			c[0].Forget(a.ID, 1)
			require.Nil(t, c[0].Find(t.Context(), a.ID))
		})
	}
}

// An event that the client has received, and that comes to its new node later, is known there.
func TestLog_Ahead(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.hear()
	start, since := c[0].Reserve()
	c.emit(2, "a", 0, 1)
	c.emit(2, "b", 0)
	last := c[0].Label(c[0].Head())
	a := c[0].leave([]string{"room"}, start)
	a.Label = since
	f, ok := c[1].Foreign(c[0].Record(a), time.Time{}, nil)
	require.True(t, ok)
	ok, _ = c[1].Take(f, &last)
	require.True(t, ok)
	c[1].Pause()
	defer c[1].End()
	caught, ok := c[1].Catch(f, []string{"room"}, nil)
	require.True(t, ok)
	require.Empty(t, caught.Missed)
	require.Contains(t, caught.Ahead, c[2].Mark(2))
}

// A node that does not have all events says so.
func TestLog_NodesIncomplete(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]struct {
		during func(c cluster)
		ok     bool
	}{
		"nothing":                 {func(cluster) {}, true},
		"a gap":                   {func(c cluster) { c[1].Gap(eventlog.Emitter{}, c[1].now) }, false},
		"a gap and a later event": {func(c cluster) { c[1].Gap(eventlog.Emitter{}, c[1].now); c.emit(2, "x", 1) }, false},
		"a gap in which nothing was lost": {func(c cluster) {
			c[1].Gap(eventlog.Emitter{}, c[1].now)
			c[1].HearAll(c[2].Mark(1))
			c[1].HearAll(c[0].Mark(0))
		}, true},
		"a gap in which an event was lost": {func(c cluster) {
			c[1].Gap(eventlog.Emitter{}, c[1].now)
			c.emit(2, "x")
			c[1].HearAll(c[2].Mark(2))
			c[1].HearAll(c[0].Mark(0))
		}, false},
		"too many events": {func(c cluster) {
			for range 101 {
				c.emit(2, "x", 1)
			}
		}, false},
		"a while ago": {func(c cluster) { c[1].now = c[1].now.Add(time.Hour); c.emit(2, "y", 1) }, true},
		"an event without mark": {func(c cluster) {
			s := c[1]
			s.Begin()
			s.Keep(eventlog.Entry[string]{Event: "?", To: eventlog.Target{Rooms: []string{"room"}}, Load: load("?"), Origin: eventlog.Origin{Unknown: true}})
			s.End()
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			c.hear()
			start, since := c[0].Reserve()
			c.emit(2, "a", 0, 1)
			last := c[0].Label(c[0].Head())
			a := c[0].leave([]string{"room"}, start)
			a.Label = since
			prepare.during(c)
			f, ok := c[1].Foreign(c[0].Record(a), c[1].now, nil)
			require.True(t, ok)
			_, ok = c[1].back(f, last, "room")
			require.Equal(t, prepare.ok, ok)
		})
	}
}

// A node that lacks events gets those of another one. Wherever the connection breaks then, nothing is missing or
// comes twice.
func TestLog_Part(t *testing.T) {
	t.Parallel()
	room := []string{"room"}
	c := newCluster(t)
	c.hear()
	start, since := c[0].Reserve()
	c.emit(2, "a", 0, 1)
	last := c[0].Label(c[0].Head())
	a := c[0].leave(room, start)
	a.Label = since
	c[1].Gap(eventlog.Emitter{}, c[1].now)
	labels := []string{last, c.emit(2, "b", 0), c.emit(1, "c", 0, 2)}
	labels[1], labels[2] = c[2].Label(c[2].Head()-1), c[2].Label(c[2].Head()) // as the node that helps has sent them
	c[1].HearAll(c[2].Mark(2))
	c[1].HearAll(c[0].Mark(0))

	f, ok := c[1].Foreign(c[0].Record(a), c[1].now, nil)
	require.True(t, ok)
	ok, _ = c[1].Take(f, &last)
	require.True(t, ok)
	r, lacks, ok := c[1].Lacks(f, time.Time{})
	require.True(t, lacks && ok)
	asked, ok := c[2].OfRecord(r, c[2].now, nil)
	require.True(t, ok)
	part, ok := c[2].PartOf(asked, room, eventlog.Emitter([]byte("NODE-1")))
	require.True(t, ok)
	require.Equal(t, []string{"b", "c"}, part.Events)
	part.Rooms, part.Load = room, eventlog.Load{Messages: 2, Bytes: 2}
	labels = append(labels, c.emit(2, "d", 0, 1)) // meanwhile
	labels[3] = c[1].Label(c[1].Head())

	caught := func(change func(p *eventlog.Part[string])) (eventlog.Caught[string], bool) {
		f, _ := c[1].Foreign(c[0].Record(a), c[1].now, nil)
		ok, _ := c[1].Take(f, &last)
		require.True(t, ok)
		p := part
		change(&p)
		c[1].Pause()
		defer c[1].End()
		return c[1].Catch(f, room, &p)
	}
	for name, change := range map[string]func(p *eventlog.Part[string]){
		"of other rooms":      func(p *eventlog.Part[string]) { p.Rooms = nil },
		"too large":           func(p *eventlog.Part[string]) { p.Load.Bytes = 500 },
		"up to nothing":       func(p *eventlog.Part[string]) { p.Upto = "" },
		"up to too many":      func(p *eventlog.Part[string]) { p.Upto += eventlog.Incomplete },
		"of an earlier state": func(p *eventlog.Part[string]) { p.Upto = last },
	} {
		_, ok := caught(change)
		require.False(t, ok, name)
	}
	got, ok := caught(func(*eventlog.Part[string]) {})
	require.True(t, ok)
	require.Equal(t, []string{"b", "c", "d"}, got.Missed)

	for received, want := range []string{"[b c d]", "[c d]", "[d]", "[]"} {
		for _, other := range []int{0, 2} {
			again := c[1].leaveAgain(1, room, got.Head)
			again.Since, again.Label, again.Beyond, again.After = got.Seen, got.Label, got.Beyond, got.After
			g, ok := c[other].Foreign(c[1].Record(again), c[other].now, nil)
			require.True(t, ok)
			missed, ok := c[other].back(g, labels[received], "room")
			require.True(t, ok)
			require.Equal(t, want, fmt.Sprint(missed), "node %d", other)
		}
	}
}

// Another node lacks events of the one that asks. That one has them, but nobody knows their order among those of the part.
func TestLog_PartWithoutOwnEvents(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		other, ok bool
		missed    string
	}{
		"only own events":  {false, true, "[own 1 own 2]"},
		"events of others": {other: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			missed, ok := partWithoutOwnEvents(t, test.other)
			require.Equal(t, test.ok, ok)
			if ok {
				require.Equal(t, test.missed, fmt.Sprint(missed))
			}
		})
	}
}

func partWithoutOwnEvents(t *testing.T, other bool) (missed []string, ok bool) {
	t.Helper()
	c := newCluster(t)
	c[0].HearAll(c[2].Mark(0))
	c[2].HearAll(c[0].Mark(0))
	start, since := c[0].Reserve()
	c.emit(2, "a", 0)
	last := c[0].Label(c[0].Head())
	a := c[0].leave([]string{"room"}, start)
	a.Label = since
	c.emit(1, "own 1")
	c.emit(1, "own 2", 2) // node 2 knows that it lacks some
	var want []string
	if other {
		c.emit(2, "b")
		want = []string{"b"}
	}
	c[1].HearAll(c[2].Mark(c[2].Head()))
	f, ok := c[1].Foreign(c[0].Record(a), c[1].now, nil)
	require.True(t, ok)
	ok, _ = c[1].Take(f, &last)
	require.True(t, ok)
	r, _, _ := c[1].Lacks(f, time.Time{})
	asked, ok := c[2].OfRecord(r, c[2].now, nil)
	require.True(t, ok)
	_, ok = c[2].PartOf(asked, []string{"room"}, eventlog.Emitter([]byte("NODE-0")))
	require.False(t, ok, "for another node")
	part, ok := c[2].PartOf(asked, []string{"room"}, eventlog.Emitter([]byte("NODE-1")))
	require.True(t, ok)
	require.ElementsMatch(t, want, part.Events)
	part.Rooms = []string{"room"}
	c[1].Pause()
	defer c[1].End()
	got, ok := c[1].Catch(f, []string{"room"}, &part)
	return got.Missed, ok
}

// A log that has inherited has the events of the other log before its own, and knows what that one knows. Events
// that came meanwhile get labels that include the inherited ones.
func TestLog_Inherit(t *testing.T) {
	t.Parallel()
	room := []string{"room"}
	c := newCluster(t)
	c.hear()
	start, since := c[0].Reserve()
	c.emit(2, "a", 0, 1)
	last := c[0].Label(c[0].Head())
	a := c[0].leave(room, start)
	a.Label = since
	c.emit(0, "b", 1, 2)
	c.emit(2, "c", 0, 1)
	old := c[1]
	fresh := newSite(t, func(cfg *eventlog.Config[string]) {
		cfg.Emitter, cfg.First = eventlog.Emitter([]byte("NODE-9")), 1000
	})
	fresh.HearAll(c[2].Mark(3))
	fresh.HearAll(old.Mark(0))
	c[2].emit("d", "room")
	fresh.hear(c[2].last, "d", "room")
	old.hear(c[2].last, "d", "room")

	var events []eventlog.Inherited[string]
	var end *eventlog.State
	for after := uint64(0); end == nil; {
		var page []eventlog.Inherited[string]
		page, after, end = old.Page(after, 2, 1<<20)
		require.LessOrEqual(t, len(page), 2)
		events = append(events, page...)
	}
	require.Len(t, events, 4)
	relabeled := map[string]string{}
	require.True(t, fresh.Inherit(events, *end, func(e, label string) string { relabeled[e] = label; return e }))
	require.Len(t, relabeled, 1)
	require.Equal(t, fresh.Label(1001), relabeled["d"])
	require.Contains(t, relabeled["d"], c[0].Mark(4).String(), "node 0 has ended, and this one has never heard it")
	require.False(t, old.Inherits(), "without Config.First")

	f, ok := fresh.Foreign(c[0].Record(a), fresh.now, nil)
	require.True(t, ok)
	missed, ok := fresh.back(f, last, "room")
	require.True(t, ok)
	require.Equal(t, []string{"b", "c", "d"}, missed)
	own, _, _ := fresh.Page(1000, 10, 1<<20)
	require.Len(t, own, 1)

	other := newSite(t, func(cfg *eventlog.Config[string]) { cfg.First = 3 })
	require.False(t, other.Inherit(events, *end, nil), "they do not fit")
	other = newSite(t, func(cfg *eventlog.Config[string]) { cfg.First = 1000 })
	require.True(t, other.Inherits())
	other.Gap(eventlog.Emitter{}, other.now)
	require.False(t, other.Inherits())
	require.False(t, other.Inherit(events, *end, nil), "after a gap")
	other = newSite(t, func(cfg *eventlog.Config[string]) { cfg.First, cfg.Budget = 1000, eventlog.NewBudget[string](1, 1000) })
	other.emit("e", "room")
	require.True(t, other.Inherits())
	other.emit("f", "room")
	require.False(t, other.Inherits())
	require.False(t, other.Inherit(events, *end, nil), "when it has dropped events")
}

// While a log inherits more than there is space for, another one drops none of its own events, which are newer.
func TestLog_InheritsBesideAnother(t *testing.T) {
	t.Parallel()
	const space = 50_000
	for range 5 {
		budget := eventlog.NewBudget[string](space, 1<<30)
		site := func() *site {
			return newSite(t, func(c *eventlog.Config[string]) { c.First, c.Budget, c.Now = 1<<20, budget, time.Now })
		}
		fresh, other := site(), site()
		from := eventlog.Emitter([]byte("NODE-0"))
		events := make([]eventlog.Inherited[string], 2*space)
		for i := range events {
			events[i].To, events[i].Ago = eventlog.Target{Rooms: []string{"room"}}, time.Duration(len(events)-i)*time.Microsecond+time.Second
			events[i].Origin.Mark = eventlog.Mark{Emitter: from, At: uint64(i + 1)}
		}
		state := eventlog.State{Known: []eventlog.Known{{Mark: eventlog.Mark{Emitter: from, At: 2 * space}}}}
		other.emit("x", "room")
		own, done := 2, make(chan struct{})
		var keeping sync.WaitGroup
		keeping.Go(func() {
			for ; ; own++ {
				select {
				case <-done:
					return
				case <-time.After(50 * time.Microsecond):
					other.emit("x", "room")
				}
			}
		})
		require.True(t, fresh.Inherit(events, state, func(e, _ string) string { return e }))
		close(done)
		keeping.Wait()
		other.emit("x", "room")
		kept, _, _ := other.Len()
		require.Equal(t, own, kept)
		inherited, _, _ := fresh.Len()
		require.Equal(t, space, kept+inherited)
	}
}

// A log may have very many events of its own when it inherits, and is locked meanwhile.
func TestLog_InheritsBeforeMany(t *testing.T) {
	t.Parallel()
	fastest, heard := time.Hour, time.Duration(0)
	for try := 0; try < 5 && fastest >= max(2*time.Second, heard); try++ { // a busy machine takes longer
		hears, inherits := inheritsBeforeMany(t)
		fastest, heard = min(fastest, inherits), max(heard, hears)
	}
	require.Less(t, fastest, max(2*time.Second, heard))
}

// inheritsBeforeMany returns how long it took a log to hear its own events, and then to inherit.
func inheritsBeforeMany(t *testing.T) (hears, inherits time.Duration) {
	t.Helper()
	const own = 30_000
	began := time.Now()
	s := newSite(t, func(c *eventlog.Config[string]) { c.First, c.Budget = 1<<20, eventlog.NewBudget[string](1<<20, 1<<30) })
	labels := map[string]string{}
	from := []eventlog.Mark{{Emitter: eventlog.Emitter([]byte("NODE-0"))}, {Emitter: eventlog.Emitter([]byte("NODE-1"))}}
	for i := range own {
		m := &from[i%2]
		m.At++
		event := fmt.Sprint(i)
		labels[event] = s.hear(eventlog.Step{Mark: *m, Before: m.At - 1}, event, "room")
	}
	hears = time.Since(began)
	began = time.Now()
	require.True(t, s.Inherit(nil, eventlog.State{}, func(e, label string) string {
		if labels[e] == label {
			delete(labels, e)
		}
		return e
	}))
	inherits = time.Since(began)
	require.Len(t, labels, 1, "the first one did not know of the other node")
	return hears, inherits
}

// An event is in a page with the names of its rooms.
func TestLog_PageCountsRooms(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	rooms := []string{strings.Repeat("a", 40), strings.Repeat("b", 40)}
	for range 3 {
		s.emit("x", rooms...)
	}
	events, next, end := s.Page(0, 100, 100)
	require.Len(t, events, 2)
	require.Nil(t, end)
	events, _, end = s.Page(next, 100, 100)
	require.Len(t, events, 1)
	require.NotNil(t, end)
	require.Greater(t, eventlog.Target{Rooms: rooms, Except: rooms}.Size(), 160)
}

func TestLog_Limits(t *testing.T) {
	t.Parallel()
	many := func(n int) func(s *site) {
		return func(s *site) {
			for range n {
				s.emit("x", "another room")
			}
		}
	}
	for name, c := range map[string]struct {
		change func(c *eventlog.Config[string])
		during func(s *site)
		ok     bool
	}{
		"within them":     {during: many(100), ok: true},
		"events":          {during: many(101)},
		"bytes":           {during: func(s *site) { s.emit(string(make([]byte, 60_000)), "x"); s.emit(string(make([]byte, 60_000)), "x") }},
		"events at once":  {change: func(c *eventlog.Config[string]) { c.Catch.Messages = 1 }, during: func(s *site) { s.emit("a", "room"); s.emit("b", "room") }},
		"bytes at once":   {during: func(s *site) { s.emit(string(make([]byte, 501)), "room") }},
		"time":            {during: func(s *site) { s.now = s.now.Add(time.Minute + 1) }},
		"almost the time": {during: func(s *site) { s.now = s.now.Add(time.Minute) }, ok: true},
		"sockets": {during: func(s *site) {
			for range 10 {
				s.leave(nil, 1)
			}
		}},
		"a gap in which no node has emitted": {during: func(s *site) { s.Gap(eventlog.Emitter{}, s.now) }, ok: true},
		"a gap of a log that does not get everything": {
			change: func(c *eventlog.Config[string]) { c.Everything = false },
			during: func(s *site) { s.Gap(eventlog.Emitter{}, s.now) },
		},
		"a gap, and there are events without marks": {during: func(s *site) {
			s.unmarked("x", "another room")
			s.Gap(eventlog.Emitter{}, s.now)
		}},
		"a gap of one node, and there are events without marks": {during: func(s *site) {
			s.unmarked("x", "another room")
			s.Gap(eventlog.Emitter([]byte("NODE-1")), s.now)
		}, ok: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, func(cfg *eventlog.Config[string]) {
				if c.change != nil {
					c.change(cfg)
				}
			})
			a := s.leave([]string{"room"}, s.mark())
			c.during(s)
			_, ok := s.back(a, s.Label(1), "room")
			require.Equal(t, c.ok, ok)
			_, again := s.back(a, s.Label(1), "room")
			require.False(t, again)
			events, bytes, sockets := s.Len()
			require.LessOrEqual(t, events, 100)
			require.LessOrEqual(t, bytes, 100_000)
			require.LessOrEqual(t, sockets, 10)
		})
	}
}

// What was lost in a gap was not queued on a socket that was connected then. So its client has all that was not
// queued only if it has received something since.
func TestLog_GapWhileConnected(t *testing.T) {
	t.Parallel()
	other := func(at uint64) eventlog.Mark {
		return eventlog.Mark{Emitter: eventlog.Emitter([]byte("NODE-1")), At: at}
	}
	for name, c := range map[string]struct {
		last   int    // of the events that were queued before and after the gap, the newest that the client has received
		queued string // before the gap, "|", and after it
		ok     bool
	}{
		"nothing came since":               {1, "a|", false},
		"nothing came at all":              {0, "|", false},
		"what came since was not received": {1, "a|b", false},
		"something came since":             {2, "a|b", true},
		"the rest is in the log":           {2, "a|bc", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.HearAll(other(1))
			start, since := s.Reserve()
			positions, labels := []uint64{start}, []string{since}
			for _, event := range c.queued {
				if event == '|' {
					s.emit("x", "another room")
					s.Gap(eventlog.Emitter{}, s.now)
					s.HearAll(other(5))
					continue
				}
				positions = append(positions, s.emit(string(event), "room"))
				labels = append(labels, s.Label(s.Head()))
			}
			offset := labels[c.last]
			for again := range 2 {
				a := s.leave([]string{"room"}, start, positions[1:]...)
				a.Label = since
				s.Gap(eventlog.Emitter{}, s.now)
				s.HearAll(other(5))
				r, ok := s.Received(a, &offset, time.Time{}) // another node may have what was lost
				require.True(t, ok)
				require.Equal(t, c.ok, strings.Contains(r.Since, other(5).String()))
				require.Equal(t, !c.ok, strings.Contains(r.Since, other(1).String()))
				last := r.Doubts[len(r.Doubts)-1].Until
				require.Equal(t, c.ok && again == 0, r.Since[:len(last)] >= last, "the texts of marks have the order of the positions")
				missed, ok := s.back(a, offset, "room")
				require.Equal(t, c.ok, ok)
				if ok {
					require.Len(t, missed, len(positions)-1-c.last)
				}
			}
		})
	}
}

// The memory of what nobody waits for is given back.
func TestLog_ForgetsOldEvents(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for range 1000 {
		s.now = s.now.Add(time.Second)
		s.emit("x", "room", "room", "another room")
		a := s.leave([]string{"room"}, s.mark())
		require.True(t, s.Awaited(eventlog.Target{Rooms: []string{"room"}}))
		require.False(t, s.Awaited(eventlog.Target{Rooms: []string{"another room"}}))
		_, ok := s.back(a, s.Label(s.Head()), "room")
		require.True(t, ok)
	}
	events, _, sockets := s.Len()
	require.Equal(t, 100, events)
	require.Zero(t, sockets)
	require.False(t, s.Awaited(eventlog.Target{Rooms: []string{"room"}}))
	s.now = s.now.Add(time.Hour)
	s.emit("x", "room")
	events, bytes, _ := s.Len()
	require.Equal(t, 1, events)
	require.Less(t, bytes, 1000)
}

// A node that has just begun does not know what came from a node of which it has never heard, unless another one
// has told.
func TestLog_NeverHeard(t *testing.T) {
	t.Parallel()
	for name, told := range map[string]struct {
		mark  uint64
		later time.Duration
		gap   bool // of that node, of which the one that tells has not heard
		gone  bool
		ok    bool
	}{
		"not told":                   {},
		"told":                       {mark: 1, ok: true},
		"told of a later event":      {mark: 2},
		"it has begun long ago":      {later: time.Hour, ok: true},
		"told of it by an older one": {mark: 1, later: time.Hour, ok: true},
		"told again after a gap":     {mark: 1, gap: true},
		"told of its end":            {mark: 1, gap: true, gone: true, ok: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			c[1].HearAll(c[0].Mark(0))
			start, since := c[0].Reserve()
			c.emit(2, "a", 0)
			last := c[0].Label(c[0].Head())
			a := c[0].leave([]string{"room"}, start)
			a.Label = since
			if told.mark > 0 {
				c[1].HearOf(eventlog.Heard{Mark: c[2].Mark(told.mark)})
				if told.gap {
					c[1].Gap(c[2].Emitter(), c[1].now)
				}
				c[1].HearOf(eventlog.Heard{Mark: c[2].Mark(1), Gone: told.gone}) // another one is behind
			}
			f, ok := c[1].Foreign(c[0].Record(a), c[1].now.Add(told.later), nil)
			require.True(t, ok)
			_, ok = c[1].back(f, last, "room")
			require.Equal(t, told.ok, ok)
		})
	}
}

// A node that has ended before a gap has emitted nothing in it. If it was known only later that it has ended, what
// it emitted last may be missing.
func TestLog_GapAfterANodeHasEnded(t *testing.T) {
	t.Parallel()
	none, two := eventlog.Emitter{}, eventlog.Emitter([]byte("NODE-2"))
	for name, test := range map[string]struct {
		during func(s *site)
		later  time.Duration // when the client was lost
		ok     bool
	}{
		"it has ended before":                   {during: func(s *site) { s.Lost(two); s.Gap(none, s.now.Add(1)) }, ok: true},
		"it has ended in it":                    {during: func(s *site) { s.Lost(two); s.Gap(none, s.now) }},
		"it has ended meanwhile":                {during: func(s *site) { s.Gap(none, s.now); s.Lost(two) }},
		"and the client was connected after it": {during: func(s *site) { s.Gap(none, s.now); s.Lost(two) }, later: time.Hour, ok: true},
		"it has not ended":                      {during: func(s *site) { s.Lost(two); s.Returned(two); s.Gap(none, s.now) }},
		"it has not ended, which was not known": {during: func(s *site) { s.Lost(two); s.Gap(none, s.now); s.Returned(two) }},
		"it still runs":                         {during: func(s *site) { s.Returned(two); s.Gap(none, s.now) }},
		"its last event arrives after its end": {during: func(s *site) {
			s.Lost(two)
			s.hear(eventlog.Step{Mark: eventlog.Mark{Emitter: two, At: 2}, Before: 1}, "b", "room")
			s.Gap(none, s.now.Add(1))
		}, ok: true},
		"it does not run any more": {during: func(s *site) { s.Gap(none, s.now); s.Running(nil, s.now.Add(1)) }},
		"nor when the client was connected": {
			during: func(s *site) { s.Gap(none, s.now); s.Running(nil, s.now.Add(1)) }, later: time.Hour, ok: true,
		},
		"it runs":            {during: func(s *site) { s.Gap(none, s.now); s.Running([]eventlog.Emitter{two}, s.now.Add(1)) }, later: time.Hour},
		"it was heard since": {during: func(s *site) { s.Gap(none, s.now); s.Running(nil, s.now) }, later: time.Hour},
		"it runs after all": {
			during: func(s *site) {
				s.Running(nil, s.now.Add(1))
				s.HearAll(eventlog.Mark{Emitter: two, At: 1})
				s.Gap(none, s.now.Add(1))
			},
			later: time.Hour,
		},
		"a gap of this node alone": {during: func(s *site) { s.Gap(two, s.now) }},
		"a gap of another one": {during: func(s *site) {
			s.Gap(eventlog.Emitter([]byte("NODE-0")), s.now)
			s.HearAll(eventlog.Mark{Emitter: eventlog.Emitter([]byte("NODE-0"))})
		}, ok: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			c.hear()
			start, since := c[0].Reserve()
			c.emit(2, "a", 0, 1)
			last := c[0].Label(c[0].Head())
			a := c[0].leave([]string{"room"}, start)
			a.Label = since
			test.during(c[1])
			c[1].HearAll(c[0].Mark(0))
			f, ok := c[1].Foreign(c[0].Record(a), c[1].now.Add(test.later), nil)
			require.True(t, ok)
			_, ok = c[1].back(f, last, "room")
			require.Equal(t, test.ok, ok)
			if !test.ok {
				c[1].HearAll(c[2].Mark(1)) // it tells that it has emitted nothing
				f, _ = c[1].Foreign(c[0].Record(a), c[1].now, nil)
				_, ok = c[1].back(f, last, "room")
				require.True(t, ok)
			}
		})
	}
}

// A node that has ended is forgotten, however many nodes tell each other of it.
func TestLog_HeardOfThirdNodes(t *testing.T) {
	t.Parallel()
	dead := eventlog.Mark{Emitter: eventlog.Emitter([]byte("NODE-X")), At: 7}
	c := newCluster(t)
	c[0].HearOf(eventlog.Heard{Mark: dead, Ago: time.Minute, Gone: true, GoneAgo: time.Second})
	tell := func(from, to *site) (n int) {
		heard := from.Heard()
		for _, h := range heard {
			to.HearOf(h)
		}
		return len(heard)
	}
	require.Equal(t, 1, tell(c[0], c[1]))
	require.Equal(t, []eventlog.Heard{{Mark: dead, Ago: time.Minute, Gone: true, GoneAgo: time.Second}}, c[1].Heard())
	for range 3 {
		for _, s := range c {
			s.now = s.now.Add(50 * time.Second)
		}
		tell(c[0], c[1])
		tell(c[1], c[0])
	}
	require.Zero(t, tell(c[1], c[2]))
	start, _ := c[1].Reserve()
	require.Equal(t, c[1].Mark(start).String(), c[1].Label(start))
}

// A client was connected in a gap of its node, and has received nothing since. What came before the gap it has received.
func TestLog_LossBeforeTheGap(t *testing.T) {
	t.Parallel()
	none := eventlog.Emitter{}
	for name, test := range map[string]struct {
		gap time.Duration // when that of node 0 began, after the loss of node 1
		ok  bool
	}{
		"long before": {4 * time.Minute, true},
		"in it":       {-time.Second, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			c.hear()
			start, since := c[0].Reserve()
			c.emit(2, "a", 0)
			c[1].HearAll(c[2].Mark(1)) // "a" is lost
			loss := c[0].now
			for _, s := range c {
				s.now = s.now.Add(5 * time.Minute)
			}
			c[0].Gap(none, loss.Add(test.gap))
			record := func() eventlog.Record {
				c[0].Pause()
				defer c[0].End()
				return c[0].Record(&eventlog.Away{Socket: "s", Base: start, Label: since, Rooms: []eventlog.Room{{Name: "room"}}})
			}
			r := record()
			for _, s := range c {
				s.now = s.now.Add(time.Minute)
			}
			r.Ages(time.Minute)
			f, ok := c[1].Foreign(r, c[1].now, nil)
			require.True(t, ok)
			require.Len(t, f.Doubts, 1)
			require.Equal(t, loss.Add(test.gap), f.Doubts[0].Since)
			_, ok = c[1].back(f, since, "room")
			require.Equal(t, test.ok, ok)
		})
	}
}

// What a client has missed does not come behind what it has received since, also if the node that it was on did not know
// that it lacked something.
func TestLog_MissedBeforeWhatWasReceived(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		happens func(c cluster, emitA func()) // "a" is missed, and "b" received
		ok      bool
	}{
		"its node never heard of who emitted it": {happens: func(c cluster, emitA func()) { emitA(); c.emit(0, "b", 1) }},
		"it came later":                          {happens: func(c cluster, emitA func()) { c.emit(0, "b", 1); emitA() }, ok: true},
		"this node has lost what was received": {happens: func(c cluster, emitA func()) {
			c[1].HearAll(c[0].Mark(0))
			emitA()
			c.emit(0, "b")
			c[1].now = c[1].now.Add(time.Second)
			c[1].HearAll(c[0].Mark(c[0].Head()))
		}},
		"that was lost before": {happens: func(c cluster, emitA func()) {
			c[1].HearAll(c[0].Mark(0))
			c.emit(0, "b")
			c[1].HearAll(c[0].Mark(c[0].Head()))
			emitA()
		}, ok: true},
		"what was received is on its way": {happens: func(c cluster, emitA func()) {
			c[1].HearAll(c[0].Mark(0))
			emitA()
			c.emit(0, "b")
		}, ok: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			start, since := c[0].Reserve()
			test.happens(c, func() { c.emit(2, "a", 1) })
			offset := c[0].Label(c[0].Head())
			a := c[0].leave([]string{"room"}, start, c[0].Head())
			a.Label = since
			f, ok := c[1].Foreign(c[0].Record(a), c[1].now, nil)
			require.True(t, ok)
			missed, ok := c[1].back(f, offset, "room")
			require.Equal(t, test.ok, ok)
			if ok {
				require.Equal(t, []string{"a"}, missed)
			}
		})
	}
}

// A log remembers when the first of many gaps began, and a record has a few of them.
func TestLog_ManyGaps(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	start, since := s.Reserve()
	first := s.now
	for range 100 {
		s.Gap(eventlog.Emitter{}, s.now)
		s.now = s.now.Add(time.Second)
	}
	a := s.leave(nil, start)
	a.Label = since
	doubts := s.foreign(a).Doubts
	require.Len(t, doubts, 4)
	require.Equal(t, first, doubts[0].Since)
	require.Equal(t, s.Mark(s.Head()), doubts[3].Until)
	s.Pause()
	defer s.End()
	r := s.Record(a)
	r.Doubts = append(r.Doubts, r.Doubts[0])
	_, ok := s.OfRecord(r, s.now, nil)
	require.False(t, ok, "too many")
	r.Doubts = []eventlog.RecordedDoubt{{Until: r.Doubts[0].Until, AgoMS: -1}}
	_, ok = s.OfRecord(r, s.now, nil)
	require.False(t, ok, "negative")
}

// What was lost in a gap stays lost when older events leave the log.
func TestLog_TrimmedAfterAGap(t *testing.T) {
	t.Parallel()
	for name, trim := range map[string]func(c cluster){
		"too old": func(c cluster) { c[1].now = c[1].now.Add(55 * time.Second); c.emit(0, "x", 1) },
		"too many": func(c cluster) {
			for range 99 {
				c.emit(0, "x", 1)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			c.hear()
			start, since := c[0].Reserve()
			c.emit(2, "a", 0, 1)
			c[1].now = c[1].now.Add(70 * time.Second)
			c.emit(2, "b", 0, 1)
			last := c[0].Label(c[0].Head())
			a := c[0].leave([]string{"room"}, start)
			a.Label = since
			c[1].Gap(eventlog.Emitter{}, c[1].now)
			lost := c[1].now
			c.emit(2, "c", 0)
			c[1].HearAll(c[2].Mark(3))
			c[1].HearAll(c[0].Mark(0))
			trim(c)
			f, ok := c[1].Foreign(c[0].Record(a), lost, nil)
			require.True(t, ok)
			_, ok = c[1].back(f, last, "room")
			require.False(t, ok)
		})
	}
}

// A node that had emitted nothing for a long time may emit something in a gap.
func TestLog_GapAfterSilence(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.hear()
	for i := range c {
		c[i].now = c[i].now.Add(time.Hour)
	}
	start, since := c[0].Reserve()
	a := c[0].leave([]string{"room"}, start)
	a.Label = since
	c[1].Gap(eventlog.Emitter{}, c[1].now)
	c.emit(2, "a", 0)
	f, ok := c[1].Foreign(c[0].Record(a), c[1].now, nil)
	require.True(t, ok)
	_, ok = c[1].back(f, since, "room")
	require.False(t, ok)
}

// A node that begins hears of one that has ended from those that do not know its last events, too.
func TestLog_BeginsAfterAGap(t *testing.T) {
	t.Parallel()
	none := eventlog.Emitter{}
	heardOf := func(s, of *site) {
		for _, m := range of.Heard() {
			s.HearOf(m)
		}
	}
	inherits := func(t *testing.T, s, of *site) {
		t.Helper()
		events, _, state := of.Page(0, 100, 1<<20)
		require.True(t, s.Inherit(events, *state, func(e, _ string) string { return e }))
	}
	for name, test := range map[string]struct {
		begin func(t *testing.T, s *site, c cluster)
		ok    bool
	}{
		"it hears of it from one that lacks something": {begin: func(_ *testing.T, s *site, c cluster) { heardOf(s, c[1]) }},
		"and from one that does not":                   {begin: func(_ *testing.T, s *site, c cluster) { heardOf(s, c[1]); heardOf(s, c[0]) }},
		"and inherits the log of the first one": {begin: func(t *testing.T, s *site, c cluster) {
			t.Helper()
			heardOf(s, c[1])
			heardOf(s, c[0])
			inherits(t, s, c[1])
		}},
		"it inherits the log of one that lacks something": {begin: func(t *testing.T, s *site, c cluster) { t.Helper(); inherits(t, s, c[1]) }},
		"it inherits the log of one that does not":        {begin: func(t *testing.T, s *site, c cluster) { t.Helper(); inherits(t, s, c[0]) }, ok: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			c.hear()
			start, since := c[0].Reserve()
			c.emit(2, "a", 0, 1)
			last := c[0].Label(c[0].Head())
			a := c[0].leave([]string{"room"}, start)
			a.Label = since
			c[1].Gap(none, c[1].now)
			c.emit(2, "b", 0)
			c[1].Lost(eventlog.Emitter([]byte("NODE-2")))
			c[1].HearAll(c[0].Mark(0))
			s := newSite(t, func(cfg *eventlog.Config[string]) { cfg.Emitter, cfg.First = eventlog.Emitter([]byte("NODE-9")), 1000 })
			s.HearAll(c[0].Mark(0))
			s.HearAll(c[1].Mark(0))
			test.begin(t, s, c)
			f, ok := s.Foreign(c[0].Record(a), s.now, nil)
			require.True(t, ok)
			missed, ok := s.back(f, last, "room")
			require.Equal(t, test.ok, ok)
			if ok {
				require.Equal(t, []string{"b"}, missed)
			}
		})
	}
}

// Nobody knows how many events without marks were lost in a gap, also not who inherits the log.
func TestLog_InheritAfterAGapWithoutMarks(t *testing.T) {
	t.Parallel()
	for _, gap := range []bool{false, true} {
		c := newCluster(t)
		c.hear()
		start, since := c[0].Reserve()
		a := c[0].leave([]string{"room"}, start)
		a.Label = since
		c[1].unmarked("x", "another room")
		if gap {
			c[1].Gap(eventlog.Emitter{}, c[1].now)
			c[1].HearAll(c[0].Mark(0))
			c[1].HearAll(c[2].Mark(0))
		}
		s := newSite(t, func(cfg *eventlog.Config[string]) { cfg.First = 1000 })
		events, _, state := c[1].Page(0, 100, 1<<20)
		require.True(t, s.Inherit(events, *state, func(e, _ string) string { return e }))
		f, ok := s.Foreign(c[0].Record(a), s.now, nil)
		require.True(t, ok)
		_, ok = s.back(f, since, "room")
		require.Equal(t, !gap, ok)
	}
}

// What a node has emitted between its end, which was none, and its return may be missing.
func TestLog_Returned(t *testing.T) {
	t.Parallel()
	two := eventlog.Emitter([]byte("NODE-2"))
	c := newCluster(t)
	c.hear()
	start, since := c[0].Reserve()
	c.emit(2, "a", 0, 1)
	last := c[0].Label(c[0].Head())
	a := c[0].leave([]string{"room"}, start)
	a.Label = since
	c[1].Lost(two)
	c.emit(2, "b", 0)
	c.emit(2, "c", 0, 1)
	c[1].Returned(two)
	c[1].HearAll(c[2].Mark(3))
	f, ok := c[1].Foreign(c[0].Record(a), c[1].now, nil)
	require.True(t, ok)
	_, ok = c[1].back(f, last, "room")
	require.False(t, ok)
}

// A client that has come back may not have received what it had missed, although that is old.
func TestLog_BreaksAfterReturn(t *testing.T) {
	t.Parallel()
	for name, hello := range map[string]bool{"nothing received": false, "hello received": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			room := []string{"room"}
			c := newCluster(t)
			c.hear()
			start, since := c[0].Reserve()
			a := c[0].leave(room, start)
			a.Label = since
			c.emit(0, "a", 1)
			c[2].Gap(eventlog.Emitter{}, c[2].now)
			c[2].HearAll(c[0].Mark(c[0].Head()))
			c[2].HearAll(c[1].Mark(0))
			lost := c[1].now
			for i := range c {
				c[i].now = c[i].now.Add(70 * time.Second)
			}
			f, ok := c[1].Foreign(c[0].Record(a), lost, nil)
			require.True(t, ok)
			ok, _ = c[1].Take(f, &since)
			require.True(t, ok)
			c[1].Pause()
			got, ok := c[1].Catch(f, room, nil)
			c[1].End()
			require.True(t, ok)
			require.Equal(t, []string{"a"}, got.Missed)
			offset := since
			if hello {
				offset = c[1].Label(got.Head)
			}
			again := c[1].leaveAgain(1, room, got.Head)
			again.Since, again.Label = got.Seen, got.Label
			g, ok := c[2].Foreign(c[1].Record(again), c[2].now, nil)
			require.True(t, ok)
			missed, ok := c[2].back(g, offset, "room")
			require.Equal(t, hello, ok)
			require.Empty(t, missed)
		})
	}
}

// What another node has for a client does not say what the client had received before: it has come back, and not
// received that yet.
func TestLog_PartIsNotReceived(t *testing.T) {
	t.Parallel()
	for name, hello := range map[string]bool{"nothing received": false, "hello received": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			room := []string{"room"}
			c := newCluster(t)
			c.hear()
			start, since := c[0].Reserve()
			a := c[0].leave(room, start)
			a.Label = since
			c.emit(2, "a", 0, 1)
			f, ok := c[1].Foreign(c[0].Record(a), c[1].now, nil)
			require.True(t, ok)
			ok, _ = c[1].Take(f, &since)
			require.True(t, ok)
			c[1].Pause()
			got, ok := c[1].Catch(f, room, nil)
			c[1].End()
			require.True(t, ok)
			require.Equal(t, []string{"a"}, got.Missed)
			for i := range c {
				c[i].now = c[i].now.Add(125 * time.Second) // nobody has "a" any more
			}
			c.emit(1, "b", 0)
			c[2].HearAll(c[1].Newest())
			offset := since
			if hello {
				offset = c[1].Label(got.Head)
			}
			again := c[1].leaveAgain(1, room, got.Head)
			again.Since, again.Label = got.Seen, got.Label
			g, ok := c[2].Foreign(c[1].Record(again), c[2].now, nil)
			require.True(t, ok)
			ok, _ = c[2].Take(g, &offset)
			require.True(t, ok)
			r, lacks, ok := c[2].Lacks(g, time.Time{})
			require.True(t, ok)
			require.True(t, lacks)
			o, ok := c[0].OfRecord(r, c[0].now, nil)
			require.True(t, ok)
			p, ok := c[0].PartOf(o, room, c[2].Emitter())
			require.True(t, ok)
			require.Equal(t, []string{"b"}, p.Events)
			p.Rooms = room
			c[2].Pause()
			_, ok = c[2].Catch(g, room, &p)
			c[2].End()
			require.Equal(t, hello, ok)
		})
	}
}

// A gap may be known only when a client has left that was connected in it.
func TestLog_GapKnownLater(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		gap   time.Duration // when it began, after the client had left
		count int
	}{"it was connected": {-time.Minute, 1}, "it was not": {0, 0}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			start, since := s.Reserve()
			s.now = s.now.Add(time.Hour)
			a := s.leave(nil, start)
			a.Label = since
			left := s.now
			s.now = s.now.Add(time.Second)
			s.Gap(eventlog.Emitter{}, left.Add(test.gap))
			f := s.foreign(a)
			require.Len(t, f.Doubts, test.count)
			for _, d := range f.Doubts {
				require.Equal(t, eventlog.Doubt{Until: s.Mark(s.Head()), Since: left.Add(test.gap)}, d)
			}
		})
	}
}

// foreign returns a socket that is away, as another node knows it.
func (s *site) foreign(a *eventlog.Away) *eventlog.Away {
	s.t.Helper()
	o := newSite(s.t, func(cfg *eventlog.Config[string]) { cfg.Emitter = eventlog.Emitter([]byte("NODE-9")) })
	o.now = s.now
	s.Pause()
	r := s.Record(a)
	s.End()
	f, ok := o.Foreign(r, s.now, nil)
	require.True(s.t, ok)
	return f
}

// A gap may have begun before whoever reports it knows: a node had failed to send even earlier.
func TestLog_GapBeganEarlier(t *testing.T) {
	t.Parallel()
	other := func(at uint64) eventlog.Mark {
		return eventlog.Mark{Emitter: eventlog.Emitter([]byte("NODE-1")), At: at}
	}
	for name, test := range map[string]struct {
		newest uint64
		early  bool
	}{"something was lost": {5, true}, "nothing was lost": {1, false}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			start, since := s.Reserve()
			s.HearAll(other(1))
			heard := s.now
			s.now = s.now.Add(time.Minute)
			gap := s.now
			s.Gap(eventlog.Emitter{}, gap)
			s.HearAll(other(test.newest))
			s.HearAll(eventlog.Mark{Emitter: eventlog.Emitter([]byte("NODE-2")), At: 3}) // it was not known
			s.now = s.now.Add(time.Second)
			a := s.leave(nil, start)
			a.Label = since
			f := s.foreign(a)
			require.Len(t, f.Doubts, 1)
			require.Equal(t, test.early, f.Doubts[0].Since.Equal(heard))
			require.Equal(t, !test.early, f.Doubts[0].Since.Equal(gap))
		})
	}
}

// A client leaves, while nothing arrives at its node, or has arrived again.
func TestLog_Silence(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		silent, after bool
		received      bool // what came when it had ended
		ok            bool
	}{
		"nothing was lost":          {ok: true},
		"while it is silent":        {silent: true},
		"after that":                {silent: true, after: true},
		"and it has received since": {silent: true, after: true, received: true, ok: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			c.hear()
			start, since := c[0].Reserve()
			if test.silent {
				c[0].Silence(c[0].now)
			}
			c.emit(2, "a", 1)
			for i := range c {
				c[i].now = c[i].now.Add(125 * time.Second) // nobody has "a" any more
			}
			if test.after {
				c[0].Silence(time.Time{})
			}
			last := c.emit(0, "b", 1)
			a := c[0].leave([]string{"room"}, start, c[0].Head())
			a.Label = since
			offset := since
			if test.received {
				offset = last
			}
			c[0].Pause()
			r := c[0].Record(a)
			c[0].End()
			f, ok := c[1].Foreign(r, c[1].now, nil)
			require.True(t, ok)
			_, ok = c[1].back(f, offset, "room")
			require.Equal(t, test.ok, ok)
		})
	}
}

// What a node has heard by itself, after another one has told of later events, it does not inherit again.
func TestLog_InheritsWhatItHasHeard(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	s := newSite(t, func(cfg *eventlog.Config[string]) { cfg.Emitter, cfg.First = eventlog.Emitter([]byte("NODE-9")), 1000 })
	c.emit(2, "a", 0)
	c.emit(2, "b", 0)
	step := c[2].last
	c.emit(2, "c", 0)
	s.HearOf(eventlog.Heard{Mark: c[2].last.Mark})
	s.hear(step, "b", "room")
	s.HearOf(eventlog.Heard{Mark: step.Mark})
	events, _, state := c[0].Page(0, 100, 1<<20)
	require.True(t, s.Inherit(events, *state, func(e, _ string) string { return e }))
	s.hear(c[2].last, "c", "room")
	events, _, _ = s.Page(0, 100, 1<<20)
	var all []string
	for _, e := range events {
		all = append(all, e.Event)
	}
	require.Equal(t, []string{"a", "b", "c"}, all)
}

// A log that has forgotten a node does not know what it lost of it in a gap.
func TestLog_ForgetsNodes(t *testing.T) {
	t.Parallel()
	mark := func(i int) (m eventlog.Mark) {
		copy(m.Emitter[:], fmt.Sprintf("NODE%02d", i))
		return m
	}
	for name, test := range map[string]struct {
		idle time.Duration
		gap  func(s *site)
		more int // nodes than are known, when it has told of itself
		ok   bool
	}{
		"no gap":                   {0, func(*site) {}, 1, true},
		"it is known":              {0, func(s *site) { s.Gap(eventlog.Emitter{}, s.now) }, 0, false},
		"it was forgotten":         {0, func(s *site) { s.Gap(eventlog.Emitter{}, s.now) }, 1, false},
		"a gap of it alone":        {0, func(s *site) { s.Gap(mark(0).Emitter, s.now) }, 0, false},
		"a gap of a forgotten one": {0, func(s *site) { s.HearAll(mark(64)); s.Gap(mark(0).Emitter, s.now) }, 0, false},
		"others have ended":        {0, func(s *site) { s.Lost(mark(5).Emitter); s.HearAll(mark(64)); s.Gap(mark(0).Emitter, s.now.Add(1)) }, 0, false},
		"it was silent for long":   {time.Hour, func(s *site) { s.Gap(eventlog.Emitter{}, s.now) }, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			for i := range 64 {
				s.HearAll(mark(i))
				s.now = s.now.Add(time.Second)
			}
			s.now = s.now.Add(test.idle)
			start, _ := s.Reserve()
			a := s.leave([]string{"room"}, start)
			test.gap(s)
			for i := range 63 + test.more {
				s.HearAll(mark(i + 1))
				s.now = s.now.Add(time.Millisecond)
			}
			_, ok := s.back(a, s.Label(start), "room")
			require.Equal(t, test.ok, ok)
		})
	}
}

// Of many nodes a log forgets those first that have ended.
func TestLog_ForgetsEndedNodes(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	var all []eventlog.Mark
	for i := range 65 {
		var m eventlog.Mark
		copy(m.Emitter[:], fmt.Sprintf("NODE%02d", i))
		all = append(all, m)
	}
	for _, m := range all[:64] {
		s.HearAll(m)
		s.now = s.now.Add(time.Millisecond)
	}
	s.Lost(all[5].Emitter)
	s.HearAll(all[64])
	var heard []eventlog.Mark
	for _, h := range s.Heard() {
		heard = append(heard, h.Mark)
	}
	require.Equal(t, slices.Delete(all, 5, 6), heard)
}

// The marks of a record may be equal.
func TestLog_RecordOfEqualMarks(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	start, since := c[0].Reserve()
	a := c[0].leaveAgain(1, nil, start)
	a.Label, a.Beyond, a.After = since, since, c[0].Mark(start)
	f, ok := c[1].Foreign(c[0].Record(a), c[1].now, nil)
	require.True(t, ok)
	require.Equal(t, a.After, f.After)
	require.Equal(t, []eventlog.Doubt{{Until: a.After}}, f.Doubts)
}

// A client that was connected in a gap of its node has received what came later. It does not get what was lost
// before that, on a node that has it: the order would be wrong.
func TestLog_GapBeforeWhatWasReceived(t *testing.T) {
	t.Parallel()
	none := eventlog.Emitter{}
	for name, test := range map[string]struct {
		lost  bool            // node 2 emits in the gap of node 0
		heard func(c cluster) // before the client leaves
		to    int
		want  []string // nil: it is new
	}{
		"nothing was lost":                    {to: 1, want: []string{"later"}},
		"the emitter is not heard again":      {lost: true, to: 1},
		"on its own node":                     {lost: true, to: 0, want: []string{"later"}},
		"on its own node, it emits once more": {lost: true, to: 0, heard: func(c cluster) { c.emit(1, "more", 0, 2) }, want: []string{"later"}},
		"the emitter is heard again":          {lost: true, to: 1, heard: func(c cluster) { c[0].HearAll(c[2].Newest()); c.emit(1, "more", 0, 2) }, want: []string{"later"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			room := []string{"room"}
			c := newCluster(t)
			c.hear()
			start, since := c[0].Reserve()
			c.emit(2, "a", 0, 1)
			c[0].Gap(none, c[0].now)
			if test.lost {
				c.emit(2, "lost", 1)
			}
			queued := c[0].Head() + 1
			c.emit(1, "received", 0, 2)
			if test.heard != nil {
				test.heard(c)
				queued = c[0].Head()
			}
			last := c[0].Label(queued)
			a := c[0].leave(room, start, queued)
			a.Label = since
			c.emit(1, "later", 0, 2)
			if test.to == 0 {
				c[0].HearAll(c[2].Newest())
			} else {
				r, ok := c[0].Received(a, &last, time.Time{})
				require.True(t, ok)
				a, ok = c[1].Foreign(r, c[1].now, nil)
				require.True(t, ok)
			}
			missed, ok := c[test.to].back(a, last, "room")
			require.Equal(t, test.want != nil, ok)
			if ok {
				require.Equal(t, test.want, missed)
			}
		})
	}
}

// The client of a node whose events did not reach the others comes to one of them only if it has received these.
func TestLog_Unshared(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	start, since := s.Reserve()
	before := s.emit("a", "room")
	s.now = s.now.Add(time.Second)
	unshared := s.emit("b", "room")
	lost := s.now
	s.now = s.now.Add(time.Second)
	after := s.emit("c", "another room")
	for _, test := range []struct {
		received uint64
		at       time.Time
		ok       bool
	}{{start, time.Time{}, true}, {start, lost, false}, {before, lost, false}, {unshared, lost, true}, {after, lost, true}, {before, lost.Add(-1), true}} {
		offset := s.Label(test.received)
		a := s.leave([]string{"room"}, start, before, unshared)
		a.Label = since
		_, ok := s.Received(a, &offset, test.at)
		require.Equal(t, test.ok, ok, test)
	}
}

// A label of too many nodes says that it lacks some, and no record is made of it.
func TestLog_TooManyNodes(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	start, since := s.Reserve()
	require.False(t, strings.HasSuffix(since, eventlog.Incomplete))
	for i := range 40 {
		var e eventlog.Emitter
		copy(e[:], fmt.Sprintf("NODE%02d", i))
		s.HearAll(eventlog.Mark{Emitter: e, At: 1})
	}
	require.True(t, strings.HasSuffix(s.Label(s.Head()), eventlog.Incomplete))
	a := s.leave([]string{"room"}, start)
	_, ok := s.Received(a, nil, time.Time{})
	require.False(t, ok)
	missed, ok := s.back(a, s.Label(start), "room")
	require.True(t, ok, "on its own node it recovers")
	require.Empty(t, missed)
}

// Of the events with a key only the newest ones count, so that the others do not drop what clients have missed.
func TestLog_ReplacedEventsCostNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	keyed := func(event, key string, rooms ...string) {
		s.Begin()
		defer s.End()
		s.Keep(eventlog.Entry[string]{Event: event, To: eventlog.Target{Rooms: rooms}, Key: key, Load: load(event)})
	}
	start := s.mark()
	all, few := s.leave([]string{"room", "another room"}, start), s.leave([]string{"another room"}, start)
	s.emit("first", "room", "another room")
	for n := range 1000 {
		keyed(fmt.Sprint("a", n), "a", "room")
		keyed(fmt.Sprint("b", n), "b", "room", "another room")
		keyed(fmt.Sprint("c", n), "c", []string{"room", "another room", "third room"}[n%3])
	}
	events, bytes, _ := s.Len()
	require.Equal(t, 4, events)
	require.Less(t, bytes, 4*1000)
	missed, ok := s.back(all, s.Label(start), "room", "another room")
	require.True(t, ok)
	require.Equal(t, []string{"first", "a999", "b999", "c999"}, missed)
	missed, ok = s.back(few, s.Label(start), "another room")
	require.True(t, ok)
	require.Equal(t, []string{"first", "b999"}, missed, "the newest c was for the room alone")

	away := s.leave([]string{"room"}, s.mark())
	for n := range 97 { // the budget is for 100
		s.emit("x", fmt.Sprint("own room ", n))
	}
	_, ok = s.back(away, s.Label(s.Head()), "room")
	require.True(t, ok)
	events, _, _ = s.Len()
	require.Equal(t, 100, events)
	s.now = s.now.Add(2*time.Minute + 1)
	s.emit("x", "room")
	events, bytes, _ = s.Len()
	require.Equal(t, 1, events)
	require.Less(t, bytes, 1000)
}

// Whoever has missed an event with a key which is not kept any more, does not recover.
func TestLog_EventWithKeyIsDropped(t *testing.T) {
	t.Parallel()
	for more, want := range map[int]bool{99: true, 100: false} {
		s := newSite(t)
		a := s.leave([]string{"room"}, s.mark())
		offset := s.Label(s.Head())
		s.Begin()
		s.Keep(eventlog.Entry[string]{Event: "x", To: eventlog.Target{Rooms: []string{"room"}}, Key: "x", Load: load("x")})
		s.End()
		for range more {
			s.emit("y", "another room")
		}
		missed, ok := s.back(a, offset, "room")
		require.Equal(t, want, ok)
		if ok {
			require.Equal(t, []string{"x"}, missed)
		}
	}
}

// What a client has missed counts with all its messages.
func TestLog_CatchCountsMessages(t *testing.T) {
	t.Parallel()
	for attachments, want := range map[int]bool{24: true, 25: false} {
		s := newSite(t)
		a := s.leave([]string{"room"}, s.mark())
		offset := s.Label(s.Head())
		for range 2 { // 50 messages fit
			s.Begin()
			s.Keep(eventlog.Entry[string]{Event: "x", To: eventlog.Target{Rooms: []string{"room"}}, Load: eventlog.Load{Messages: 1 + attachments}})
			s.End()
		}
		_, ok := s.back(a, offset, "room")
		require.Equal(t, want, ok)
	}
}

// A log that is larger than that of the node which inherits it, as it counts, is inherited from its newest events.
func TestHeritage_LargerThanTheLog(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.hear()
	start, since := c[1].Reserve()
	lost := c[1].now
	var queued []uint64
	offsets := []string{c[1].Label(start)}
	for n := range 6 {
		c[0].now, c[1].now = c[0].now.Add(time.Second), c[1].now.Add(time.Second)
		offsets = append(offsets, c.emit(1, fmt.Sprint(n), 0))
		queued = append(queued, c[1].Head())
	}
	events, _, end := c[0].Page(0, 100, 1<<20)
	require.Len(t, events, 6)
	inherit := func(end eventlog.State) (fresh *site, ok bool) {
		fresh = newSite(t, func(cfg *eventlog.Config[string]) {
			copy(cfg.Emitter[:], "NODE-F")
			cfg.First, cfg.Budget, cfg.Unnoticed = 1<<20, eventlog.NewBudget[string](100, 1200), time.Nanosecond
		})
		fresh.now = c[0].now
		h := fresh.Heritage()
		for _, e := range events {
			h.Add(e)
		}
		return fresh, h.Inherit(end, func(e, _ string) string { return e })
	}
	for received, want := range map[int][]string{0: nil, 3: nil, 4: {"4", "5"}, 5: {"5"}} {
		fresh, ok := inherit(*end)
		require.True(t, ok)
		kept, bytes, _ := fresh.Len()
		require.Equal(t, 2, kept)
		require.Less(t, bytes, 1200)
		left := c[1].leave([]string{"room"}, start, queued...)
		left.Label = since
		r, ok := c[1].Received(left, &offsets[received], time.Time{})
		require.True(t, ok)
		a, ok := fresh.Foreign(r, lost, nil)
		require.True(t, ok)
		missed, ok := fresh.back(a, offsets[received], "room")
		require.Equal(t, want != nil, ok, received)
		require.Equal(t, want, missed)
	}
	forgets := eventlog.State{Known: slices.DeleteFunc(end.Known, func(k eventlog.Known) bool { return k.Mark.Emitter == c[1].Emitter() })}
	_, ok := inherit(forgets)
	require.False(t, ok, "nobody knows of which node the events were that are not kept")
}

// The record of a socket, which comes from another node, has a limited number of rooms.
func TestLog_RecordOfManyRooms(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	mark := eventlog.Mark{Emitter: eventlog.Emitter([]byte("NODE-1")), At: 1}.String()
	for _, n := range []struct {
		rooms, former int
		ok            bool
	}{{eventlog.MaxRooms, eventlog.MaxFormer, true}, {eventlog.MaxRooms + 1, 0, false}, {0, eventlog.MaxFormer + 1, false}} {
		r := eventlog.Record{ID: eventlog.ID{}.String(), Socket: "s", Since: mark, Node: "NODE-1", Rooms: make([]eventlog.RecordedRoom, n.rooms), Former: make([]string, n.former)}
		_, ok := s.Foreign(r, s.now, nil)
		require.Equal(t, n.ok, ok, n)
	}
}

// The logs of a node share a budget: the oldest event goes, whichever log has it.
func TestBudget(t *testing.T) {
	t.Parallel()
	b := eventlog.NewBudget[string](4, 10_000)
	now := time.Unix(1e9, 0)
	var logs []*site
	for range 2 {
		s := newSite(t, func(cfg *eventlog.Config[string]) { cfg.Budget, cfg.Now = b, func() time.Time { return now } })
		logs = append(logs, s)
	}
	lens := func() string {
		first, _, _ := logs[0].Len()
		second, _, _ := logs[1].Len()
		return fmt.Sprint(first, second)
	}
	for i, want := range []string{"1 0", "2 0", "3 0", "4 0", "3 1", "2 2", "1 3", "0 4", "0 4"} {
		now = now.Add(time.Second)
		logs[min(i/4, 1)].emit("x", "room")
		require.Equal(t, want, lens())
	}
	logs[0].emit(string(make([]byte, 8800)), "room")
	require.Equal(t, "1 1", lens())
	logs[0].emit(string(make([]byte, 20_000)), "room")
	require.Equal(t, "0 1", lens(), "more than the budget by itself")
}

func FuzzLabel(f *testing.F) {
	f.Add("NODE-0-------", "NODE-0", uint64(1)<<41)
	f.Add("NODE-0-------NODE-1------5*", "______", uint64(0))
	f.Add("NODE-0-----20-----1-", "NODE-0", uint64(0))
	f.Fuzz(func(t *testing.T, text, node string, at uint64) {
		s := newSite(t, func(cfg *eventlog.Config[string]) { copy(cfg.Emitter[:], "NODE-0") })
		_, _ = s.Seen(text)
		m, ok := eventlog.ParseMark(text)
		if ok {
			require.Equal(t, text, m.String())
		}
		if step, ok := eventlog.ParseStep(text); ok {
			require.Equal(t, text, step.String())
		}
		if e, ok := eventlog.ParseEmitter(node); ok {
			m = eventlog.Mark{Emitter: e, At: at % (1 << 42)}
			got, ok := eventlog.ParseMark(m.String())
			if ok { // the node's name may have other letters
				require.Equal(t, m, got)
			}
		}
		r := eventlog.Record{ID: node, Socket: text, Since: text, Least: text, Node: node, Rooms: []eventlog.RecordedRoom{{Name: node, Since: text}}}
		_, _ = s.Foreign(r, time.Time{}, nil)
	})
}
