package eventlog_test

import (
	"context"
	"fmt"
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
}

func newSite(t *testing.T, change ...func(c *eventlog.Config)) *site {
	t.Helper()
	s := &site{t: t, now: time.Unix(1e9, 0)}
	c := eventlog.Config{Window: time.Minute, Events: 100, Bytes: 1000, Sockets: 10, CatchEvents: 50, CatchBytes: 500, Now: func() time.Time { return s.now }}
	for _, f := range change {
		f(&c)
	}
	s.Log = eventlog.New[string](c)
	return s
}

// emit appends an event that every receiver has got.
func (s *site) emit(event string, rooms ...string) uint64 {
	at := s.Append(eventlog.Target{Namespace: "/n", Rooms: rooms}, "", len(event), event, nil)
	s.Selected(at)
	s.Done(at)
	return at
}

// leave has a socket leave that had received events at those positions.
func (s *site) leave(rooms []string, recent ...uint64) *eventlog.Away {
	s.ids++
	a := &eventlog.Away{ID: eventlog.ID{s.ids}, Namespace: "/n", Socket: fmt.Sprint("s", s.ids), Rooms: rooms}
	s.Leave(a)
	s.Settle(a, eventlog.Trail{Start: recent[0], Recent: recent}, "owner")
	return a
}

// back has a socket return, and returns what it has missed.
func (s *site) back(a *eventlog.Away, offset uint64, rooms ...string) (missed []string, ok bool) {
	s.t.Helper()
	if s.Find(s.t.Context(), a.ID) != a {
		return nil, false
	}
	if ok, taken := s.Take(a, offset); !ok {
		require.False(s.t, taken)
		return nil, false
	}
	ok, taken := s.Take(a, offset)
	require.False(s.t, ok)
	require.True(s.t, taken)
	c, ok := s.Catch(a, offset, rooms)
	for _, e := range c.Missed {
		missed = append(missed, e.Event)
	}
	return missed, ok
}

func TestLog_Trail(t *testing.T) {
	t.Parallel()
	// Events 2 to 7 went to the room, and were queued as 2 4 3 5 7 6.
	for offset, want := range map[uint64]string{1: "[2 4 3 5 7 6 8]", 2: "[4 3 5 7 6 8]", 4: "[3 5 7 6 8]", 3: "[5 7 6 8]", 5: "[7 6 8]", 7: "[6 8]", 6: "[8]", 0: "[2 4 3 5 7 6 8]"} {
		t.Run(fmt.Sprint("offset ", offset), func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			start := s.Mark()
			for n := 2; n < 8; n++ {
				s.emit(fmt.Sprint(n), "room")
			}
			a := s.leave([]string{"room"}, start, 2, 4, 3, 5, 7, 6)
			s.emit("8", "room")
			s.emit("9", "another room")
			missed, ok := s.back(a, offset, "room")
			require.True(t, ok)
			require.Equal(t, want, fmt.Sprint(missed))
		})
	}
}

// An offset that is older than the trail says by the late events what was received.
func TestLog_OlderThanTheTrail(t *testing.T) {
	t.Parallel()
	for offset, want := range map[uint64]string{2: "[3 4 5 6]", 4: "[3 5 6]", 3: "[5 6]", 5: "[6]"} {
		s := newSite(t)
		start := s.Mark()
		for n := 2; n < 7; n++ {
			s.emit(fmt.Sprint(n), "room")
		}
		a := &eventlog.Away{Namespace: "/n", Rooms: []string{"room"}}
		s.Leave(a)
		s.Settle(a, eventlog.Trail{Start: start, Recent: []uint64{6}, Lates: []eventlog.Late{{At: 3, After: 4}}}, nil)
		missed, ok := s.back(a, offset, "room")
		require.True(t, ok, offset)
		require.Equal(t, want, fmt.Sprint(missed), "offset %d", offset)
	}
}

// What was being emitted when the socket left its rooms is missed, unless it was queued.
func TestLog_EmittedMeanwhile(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	start := s.Mark()
	to := eventlog.Target{Namespace: "/n", Rooms: []string{"room"}}
	queued, failed, unselected := s.Append(to, "", 1, "queued", nil), s.Append(to, "", 1, "failed", nil), s.Append(to, "", 1, "unselected", nil)
	s.Selected(queued)
	s.Selected(failed)
	a := s.leave([]string{"room"}, start, queued)
	soon, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	require.Nil(t, s.Find(soon, a.ID), "an emitter may still say what it could not queue")
	s.Missed(a, failed)
	s.Selected(unselected)
	for _, at := range []uint64{queued, failed, unselected} {
		s.Done(at)
	}
	missed, ok := s.back(a, queued, "room")
	require.True(t, ok)
	require.Equal(t, []string{"failed", "unselected"}, missed)
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
		change func(c *eventlog.Config)
		during func(s *site)
		ok     bool
	}{
		"within them":     {during: many(100), ok: true},
		"events":          {during: many(101)},
		"bytes":           {during: func(s *site) { s.emit(string(make([]byte, 600)), "x"); s.emit(string(make([]byte, 600)), "x") }},
		"events at once":  {change: func(c *eventlog.Config) { c.CatchEvents = 1 }, during: func(s *site) { s.emit("a", "room"); s.emit("b", "room") }},
		"bytes at once":   {during: func(s *site) { s.emit(string(make([]byte, 501)), "room") }},
		"time":            {during: func(s *site) { s.now = s.now.Add(time.Minute + 1) }},
		"almost the time": {during: func(s *site) { s.now = s.now.Add(time.Minute) }, ok: true},
		"sockets": {during: func(s *site) {
			for range 10 {
				s.leave(nil, 1)
			}
		}},
		"a gap": {during: func(s *site) { s.Gap() }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, func(cfg *eventlog.Config) {
				if c.change != nil {
					c.change(cfg)
				}
			})
			a := s.leave([]string{"room"}, s.Mark())
			c.during(s)
			_, ok := s.back(a, 1, "room")
			require.Equal(t, c.ok, ok)
			_, again := s.back(a, 1, "room")
			require.False(t, again)
			events, bytes, sockets := s.Len()
			require.LessOrEqual(t, events, 100)
			require.LessOrEqual(t, bytes, 1000)
			require.LessOrEqual(t, sockets, 10)
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
		a := s.leave([]string{"room"}, s.Mark())
		require.True(t, s.Awaited(eventlog.Target{Namespace: "/n", Rooms: []string{"room"}}))
		require.False(t, s.Awaited(eventlog.Target{Namespace: "/m", Rooms: []string{"room"}}))
		_, ok := s.back(a, s.Head(), "room")
		require.True(t, ok)
	}
	events, _, sockets := s.Len()
	require.Equal(t, 100, events)
	require.Zero(t, sockets)
	require.False(t, s.Awaited(eventlog.Target{Namespace: "/n", Rooms: []string{"room"}}))
	s.now = s.now.Add(time.Hour)
	s.emit("x", "room")
	events, bytes, _ := s.Len()
	require.Equal(t, 1, events)
	require.Equal(t, 1, bytes)
}

func FuzzPosition(f *testing.F) {
	f.Add("00000000000", uint64(1)<<63)
	f.Fuzz(func(t *testing.T, text string, at uint64) {
		b := make([]byte, eventlog.Digits)
		eventlog.PutPosition(b, at)
		got, ok := eventlog.Position(string(b))
		require.True(t, ok)
		require.Equal(t, at, got)
		if p, ok := eventlog.Position(text); ok {
			eventlog.PutPosition(b, p)
			require.Equal(t, text, string(b))
		}
	})
}
