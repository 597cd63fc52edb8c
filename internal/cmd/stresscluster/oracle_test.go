//go:build unix

// The other checks of the oracle: of reports, ends, rooms, presence and output.

package main

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

func TestOracle_CheckHandled(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		taken  time.Duration // ago
		change func(*scenario, *fact)
		want   int
	}{
		"nobody has handled it":    {time.Minute, func(*scenario, *fact) {}, 1},
		"it is new":                {time.Second, func(*scenario, *fact) {}, 0},
		"somebody has received it": {time.Minute, func(_ *scenario, f *fact) { f.first = time.Now() }, 0},
		"somebody has handled it":  {time.Minute, func(s *scenario, f *fact) { f.handled = []handling{{by: s.n1}} }, 0},
		"the bus did not take it":  {time.Minute, func(_ *scenario, f *fact) { f.taken = time.Time{} }, 0},
		"a node died with it": {time.Minute, func(s *scenario, f *fact) {
			s.n1.killed, s.n1.over = true, f.taken.Add(time.Second)
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScenario()
			f := s.facts["t2/0"]
			f.handled, f.first, f.taken = nil, time.Time{}, time.Now().Add(-c.taken)
			c.change(s, f)
			s.judge()
			s.judge()
			n, first := s.verdict()
			require.Equal(t, c.want, n, "%v", first)
		})
	}
}

func TestOracle_Reports(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		r    report
		want string
	}{
		"handled":     {report{Kind: reportHandled, ID: "t1/1"}, ""},
		"a gap":       {report{Kind: reportGap, Text: "why"}, ""},
		"deaf":        {report{Kind: reportReceiving}, ""},
		"a lost peer": {report{Kind: reportPeer}, ""},
		"an error":    {report{Kind: reportLog, Text: "not connected"}, ""},
		"its end":     {report{Kind: reportEnded}, ""},
		"unaddressed": {report{Kind: reportUnaddress, ID: "t1/1", Text: "driver"}, "does not know the driver of t1/1"},
		"dropped":     {report{Kind: reportDropped, Text: "x"}, "dropped a message"},
		"bus gap":     {report{Kind: reportBusGap, Text: "3: trimmed"}, "the bus lost events: 3: trimmed"},
		"set aside":   {report{Kind: reportSetAside, ID: "t1/1"}, "gave up on t1/1"},
		"trace":       {report{Kind: reportTrace}, "calls of Trace were dropped"},
		"failed":      {report{Kind: reportFailed, Text: "no port"}, "failed: no port"},
		"a panic":     {report{Kind: reportLog, Text: "x panicked: runtime error: nil"}, "panicked"},
		"goroutines":  {report{Kind: reportEnded, Goroutines: 2}, "left 2 goroutines"},
		"memory":      {report{Kind: reportEnded, Heap: 99 << 20}, "left 99 MiB"},
		"nonsense":    {report{Kind: "x"}, `reported "x"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScenario()
			s.reported(s.n0, c.r)
			n, first := s.verdict()
			if c.want == "" {
				require.Zero(t, n, "%v", first)
				return
			}
			require.Equal(t, 1, n)
			require.Contains(t, first[0], "node n0.1")
			require.Contains(t, first[0], c.want)
		})
	}
}

// Without a PartyLookup, which the servers have with odd seeds, who does not know a trip asks those
// who do: not those that are cut off or have died.
func TestOracle_MaybeUnknown(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*scenario)
		want   bool
	}{
		"others know it":                  {func(*scenario) {}, false},
		"it was cut off":                  {func(s *scenario) { s.n0.place.bad = []span{bad(cutPath, 1, 2)} }, true},
		"it was cut off long ago":         {func(s *scenario) { s.n0.place.bad = []span{bad(cutPath, -9, -1)} }, false},
		"who knew it was stopped":         {func(s *scenario) { s.n1.bad = []span{bad(stopNode, 1, 2)} }, true},
		"who knew it has died":            {func(s *scenario) { s.n1.killed, s.n1.over = true, at(2); s.facts["t1/2"].handled = nil }, true},
		"who knew it died after telling":  {func(s *scenario) { s.n1.killed, s.n1.over = true, at(3.5) }, false},
		"but there is a PartyLookup":      {func(s *scenario) { s.seed, s.n1.killed, s.n1.over = 3, true, at(3) }, false},
		"one who knew it died, not other": {func(s *scenario) { s.n1.over = at(3); s.facts["t1/1"].handled[0].by = &life{place: s.n1.place} }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScenario()
			s.seed = 2
			c.change(s)
			s.reported(s.n0, report{Kind: reportUnaddress, At: at(4), ID: "t1/3", Text: "passenger"})
			s.remove(6) // the passenger does not receive it
			n, first := s.judgeIt()
			require.Equal(t, c.want, n == 0, "%v", first)
		})
	}
}

func TestOracle_EndMaybeUnknown(t *testing.T) {
	t.Parallel()
	s := newScenario()
	s.seed = 2
	require.False(t, s.endMaybeUnknownLocked("t1"), "who handled its end lives")
	require.False(t, s.endMaybeUnknownLocked("t9"), "no such trip")
	s.n1.killed, s.n1.over = true, at(9)
	require.True(t, s.endMaybeUnknownLocked("t1"))
	s.n1.over = at(99)
	require.False(t, s.endMaybeUnknownLocked("t1"), "long after it")
	s.n1.killed, s.n1.over = false, at(9)
	require.False(t, s.endMaybeUnknownLocked("t1"), "it left, and all could hear it")
	s.n0.place.bad = []span{bad(cutPath, 3, 4.5)}
	require.False(t, s.endMaybeUnknownLocked("t1"), "it left long after another one was cut off")
	s.n0.place.bad = []span{bad(cutPath, 3, 8)}
	require.True(t, s.endMaybeUnknownLocked("t1"), "it left while another one was cut off")
	s.n0.place.bad, s.n1.killed = nil, true
	s.n1.over, s.seed = at(9), 3
	require.False(t, s.endMaybeUnknownLocked("t1"), "there is a TripLookup")
}

// A ban takes effect on a node that was stopped meanwhile when the user is admitted again.
func TestOracle_BanArrives(t *testing.T) {
	t.Parallel()
	s := newScenario()
	require.False(t, s.banArrives("p1", at(9)), "never banned")
	s.bans["p1"] = at(10)
	require.False(t, s.banArrives("p2", at(12)), "of another user")
	require.True(t, s.banArrives("p1", at(12)))
	require.False(t, s.banArrives("p1", at(21)), "nothing was in trouble")
	s.n1.bad = []span{bad(stopNode, 9, 22)}
	require.True(t, s.banArrives("p1", at(31)))
	require.False(t, s.banArrives("p1", at(33)))
	s.n1.bad[0].to = time.Time{}
	require.True(t, s.banArrives("p1", at(99)))
}

func TestOracle_Ends(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*life)
		err    error
		want   string
	}{
		"by itself":          {func(*life) {}, nil, "ended by itself"},
		"killed":             {func(l *life) { l.killed = true }, errors.New("killed"), ""},
		"left":               {func(l *life) { l.leaving, l.clean = true, true }, nil, ""},
		"left with an error": {func(l *life) { l.leaving, l.clean = true, true }, errors.New("exit status 1"), "exit status 1"},
		"left in the middle": {func(l *life) { l.leaving = true }, nil, "did not report its end"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScenario()
			c.change(s.n0)
			s.ends(s.n0, c.err)
			n, first := s.verdict()
			require.Equal(t, c.want != "", n == 1, "%v", first)
			require.Contains(t, fmt.Sprint(first), c.want)
		})
	}
}

func TestOracle_CheckProbes(t *testing.T) {
	t.Parallel()
	probes := map[string]string{"probe 1": "t1", "probe 2": "t2"}
	for name, c := range map[string]struct {
		got    []string
		change func(*scenario)
		want   string
	}{
		"its own":             {[]string{"probe 1"}, func(*scenario) {}, ""},
		"none":                {nil, func(*scenario) {}, "is not in the room of trip t1"},
		"one of an old trip":  {[]string{"probe 1", "probe 9"}, func(*scenario) {}, "its trip t1 has ended"},
		"it has disconnected": {nil, func(s *scenario) { s.c.end = at(99) }, ""},
		"it is new":           {nil, func(s *scenario) { s.c.hello = at(99.5) }, ""},
		"it is an admin":      {nil, func(s *scenario) { s.c.namespace = realtime.NamespaceAdmin }, ""},
		"it is on no trip":    {nil, func(s *scenario) { s.c.user = "p7" }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScenario()
			s.c.end = time.Time{}
			c.change(s)
			got := map[string]string{}
			for _, id := range c.got {
				got[id] = "t1"
			}
			s.checkProbesOf(s.c, got, probes, at(100))
			n, first := s.verdict()
			require.Equal(t, c.want != "", n == 1, "%v", first)
			require.Contains(t, fmt.Sprint(first), c.want)
		})
	}
}

func TestWorld_CheckPresence(t *testing.T) {
	t.Parallel()
	key := userKey{realtime.NamespacePassengers, "p1"}
	for name, c := range map[string]struct {
		connected bool
		ago       time.Duration // since it connected or disconnected
		said      bool
		trouble   time.Duration // how long ago one ended; 0: none
		want      bool
	}{
		"connected, and said so":        {true, time.Minute, true, 0, false},
		"connected, but not said":       {true, time.Minute, false, 0, true},
		"connected just now":            {true, time.Second, false, 0, false},
		"disconnected, and said so":     {false, time.Minute, false, 0, false},
		"disconnected, but not said":    {false, time.Minute, true, 0, true},
		"disconnected just now":         {false, 10 * time.Second, true, 0, false},
		"not said, soon after trouble":  {true, time.Minute, false, time.Second, false},
		"not said, long after trouble":  {true, time.Minute, false, 20 * time.Second, true},
		"disconnected in the last calm": {false, time.Minute, true, 20 * time.Second, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScenario()
			now := time.Now()
			s.began = now.Add(-time.Hour)
			if c.trouble > 0 {
				s.redis = []span{{now.Add(-time.Minute), now.Add(-c.trouble), killRedis}}
			}
			if c.connected {
				s.c.hello = now.Add(-c.ago)
				s.connected(s.c)
			} else {
				s.left[key] = departure{at: now.Add(-c.ago), from: s.n0, hello: now.Add(-c.ago - time.Minute)}
			}
			w := &world{oracle: s.oracle, count: s.count, lag: s.lag, online: newOnline()}
			w.online.last[key] = presence{here: c.said}
			w.checkPresence()
			n, first := s.verdict()
			require.Equal(t, c.want, n == 1, "%v", first)
		})
	}
}

// A user of whom nobody can know any more is excused, and nobody else.
func TestOracle_NobodyKnows(t *testing.T) {
	t.Parallel()
	key := userKey{realtime.NamespacePassengers, "p1"}
	for name, c := range map[string]struct {
		change func(*scenario)
		want   bool
	}{
		"the other node is well":              {func(*scenario) {}, false},
		"the node was not killed":             {func(s *scenario) { s.n0.killed = false; s.n1.place.bad = []span{bad(cutPath, -2, 20)} }, false},
		"the other node was deaf":             {func(s *scenario) { s.n1.place.bad = []span{bad(cutPath, -2, 20)} }, true},
		"the other node asks after deafness":  {func(s *scenario) { s.n1.place.bad = []span{bad(cutPath, -9, 9)} }, true},
		"it was deaf long before the death":   {func(s *scenario) { s.n1.place.bad = []span{bad(cutPath, -9, 3)} }, false},
		"it was deaf only after the connect":  {func(s *scenario) { s.n1.place.bad = []span{bad(cutPath, 4, 20)} }, false},
		"it has started too late":             {func(s *scenario) { s.n1.began = at(9) }, true},
		"it died too, before it could tell":   {func(s *scenario) { s.n1.killed, s.n1.over = true, at(13) }, true},
		"it died long after it had to tell":   {func(s *scenario) { s.n1.killed, s.n1.over = true, at(60) }, false},
		"its path was slow, which is no harm": {func(s *scenario) { s.n1.place.bad = []span{bad(delayPath, -2, 20)} }, false},
		"the node was cut off":                {func(s *scenario) { s.n0.place.bad = []span{bad(cutPath, -2, 9)} }, true},
		"it was cut off, and Redis was away": {func(s *scenario) {
			s.redis, s.n0.place.bad = []span{bad(killRedis, 4, 9)}, []span{bad(cutPath, -2, 3)}
		}, true},
		"it had the time to tell":               {func(s *scenario) { s.n0.place.bad = []span{bad(cutPath, -2, 5)} }, false},
		"it had the time before it was cut off": {func(s *scenario) { s.n0.place.bad = []span{bad(cutPath, 1, 20)} }, false},
		"it had the time between two troubles": {func(s *scenario) {
			s.redis, s.n0.place.bad = []span{bad(killRedis, 6, 9)}, []span{bad(cutPath, -2, 1)}
		}, false},
		"its own path was slow":            {func(s *scenario) { s.n0.place.bad = []span{bad(delayPath, -2, 20)} }, false},
		"it died when the user had come":   {func(s *scenario) { s.n0.over = at(0.2) }, true},
		"it died soon after they had come": {func(s *scenario) { s.n0.over = at(1) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScenario()
			s.n0.killed, s.n0.over = true, at(10)
			s.n0.began, s.n1.began = at(-60), at(-60)
			s.left[key] = departure{at: at(10), from: s.n0, hello: at(0)}
			c.change(s)
			require.Equal(t, c.want, s.nobodyKnows(key))
		})
	}
}

// A node that ends while Redis is away is missed later.
func TestOracle_LateFor(t *testing.T) {
	t.Parallel()
	key := userKey{realtime.NamespacePassengers, "p1"}
	s := newScenario()
	s.left[key] = departure{at: at(10), from: s.n0, hello: at(0)}
	require.Zero(t, s.lateFor(key), "the node lives")
	s.n0.over = at(11)
	require.Zero(t, s.lateFor(key), "Redis was there")
	s.redis = []span{bad(killRedis, 9, 15)}
	require.Equal(t, 5*time.Second, s.lateFor(key))
	s.n0.over = at(60)
	require.Zero(t, s.lateFor(key), "it ended long after the user")
}

func TestOracle_CouldNotTell(t *testing.T) {
	t.Parallel()
	failed := func(text string) report {
		return report{Kind: reportFailed, At: at(20), Text: text}
	}
	const presenceText = shuttingDown + "realtime: shutdown: presence not published: context deadline exceeded"
	for name, c := range map[string]struct {
		leaving  bool
		troubles []span
		other    []span // of the path of another node
		r        report
		want     bool
	}{
		"Redis was stopped":      {true, []span{bad(pauseRedis, 12, 19)}, nil, failed(presenceText), true},
		"another node is silent": {true, nil, []span{bad(silence, 18, 21)}, failed(presenceText), true},
		"nothing was wrong":      {true, nil, nil, failed(presenceText), false},
		"long before":            {true, []span{bad(pauseRedis, 1, 9)}, nil, failed(presenceText), false},
		"it does not shut down":  {false, []span{bad(pauseRedis, 12, 19)}, nil, failed(presenceText), false},
		"something else":         {true, []span{bad(pauseRedis, 12, 19)}, nil, failed(shuttingDown + "goroutines"), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScenario()
			s.n0.leaving, s.redis, s.n1.place.bad = c.leaving, c.troubles, c.other
			s.reported(s.n0, c.r)
			n, first := s.verdict()
			require.Equal(t, c.want, n == 0, "%v", first)
		})
	}
}

func TestOracle_Forget(t *testing.T) {
	t.Parallel()
	s := newScenario()
	s.c.end = time.Time{}
	s.connected(s.c)
	s.forget(at(100))
	require.Len(t, s.facts, 5, "a connection is open that may have received them")
	s.ended(s.c, at(60))
	s.closed = nil
	s.forget(at(3))
	require.Len(t, s.facts, 4)
	s.forget(at(100))
	require.Empty(t, s.facts)
	require.Empty(t, s.trips)
	for who, facts := range s.heard {
		require.Empty(t, facts, who)
	}
	require.True(t, s.forgotLocked("t1"))
}

func TestNodeOutput_FindsCrashes(t *testing.T) {
	t.Parallel()
	var found []string
	n := &nodeOutput{breach: func(line string) { found = append(found, line) }}
	for _, part := range []string{"level=INFO msg=a panic: is no\npan", "ic: nil\nx\nWARNING: DATA", " RACE\nfatal error: all\n", "goroutine profile: total 3\n"} {
		_, err := n.Write([]byte(part))
		require.NoError(t, err)
	}
	require.Equal(t, []string{"panic: nil", "WARNING: DATA RACE", "fatal error: all", "goroutine profile: total 3"}, found)
}

func TestArrivals(t *testing.T) {
	t.Parallel()
	raw := func(args ...string) realtimetest.Received {
		r := realtimetest.Received{Event: "x", At: noon}
		for _, a := range args {
			r.Args = append(r.Args, []byte(a))
		}
		return r
	}
	all := arrivals([]realtimetest.Received{raw(`{"eventId":"e","tripId":"t"}`), raw(), raw(`[]`), raw(`{}`, `"offset"`)}, false)
	require.Equal(t, arrival{name: "x", at: noon, payload: payload{EventID: "e", TripID: "t"}}, all[0])
	require.Contains(t, all[1].broken, "0 arguments")
	require.Contains(t, all[2].broken, "can't be read")
	require.Contains(t, all[3].broken, "2 arguments")
	require.Empty(t, arrivals([]realtimetest.Received{raw(`{}`, `"offset"`)}, true)[0].broken)
}
