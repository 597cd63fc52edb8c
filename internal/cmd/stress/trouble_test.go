// The judges of trouble find what is wrong, and nothing else.

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/cmd/internal/stresskit"
	"github.com/rodando/realtime/realtimetest"
)

func TestTroubles_Set(t *testing.T) {
	t.Parallel()
	on := troubles{}
	require.NoError(t, on.Set("all"))
	require.Equal(t, "hang,lose,panic,redeliver,reorder,strangers", on.String())
	require.NoError(t, on.Set("lose,hang"))
	require.Equal(t, "hang,lose", on.String())
	require.NoError(t, on.Set("none"))
	require.Empty(t, on)
	require.ErrorContains(t, on.Set("hangs"), `"hangs" is none of hang,`)
}

// verdictOf is what an oracle finds.
func verdictOf(find func(o *oracle)) string {
	o := newOracle()
	find(o)
	_, first := o.verdict()
	return strings.Join(first, "\n")
}

func TestOracle_TookTooLong(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		took, lag time.Duration
		want      string
	}{
		{900 * time.Millisecond, 0, ""},
		{1100 * time.Millisecond, 0, "the ban took 1.1s, but may take 1s"},
		{1100 * time.Millisecond, 50 * time.Millisecond, ""}, // the machine's fault
		{1400 * time.Millisecond, 50 * time.Millisecond, "the ban took 1.4s, but may take 1s"},
	} {
		require.Equal(t, c.want, verdictOf(func(o *oracle) { o.tookTooLong("the ban", c.took, time.Second, c.lag) }))
	}
}

func TestAftermath_Judge(t *testing.T) {
	t.Parallel()
	a := aftermath{trip: "x1", after: "it"}
	require.Empty(t, verdictOf(a.judge))
	a.inRoom = []string{"xd1"}
	require.Equal(t, "after it trip x1 has ended, but [xd1] are in its room", verdictOf(a.judge))
	a.inRoom, a.positions = nil, true
	require.Equal(t, "after it trip x1 has ended, but the passenger receives the driver's position", verdictOf(a.judge))
}

func TestLedger_Judge(t *testing.T) {
	t.Parallel()
	var l panicLog
	require.Empty(t, verdictOf(l.judge))
	l.fired("a handler")
	l.fired("OnConnect")
	l.named(line{message: "a line"}, "panic: "+planned+"OnConnect, and more")
	l.fired("OnConnect")
	l.named(line{message: "a line"}, "nothing")
	require.Equal(t, "a handler panicked, but no log line names it", verdictOf(l.judge))
	l.returned(errors.New(planned + "nobody, " + planned + "a handler"))
	require.Empty(t, verdictOf(l.judge))
}

// A hook is excused only when lines of the kind that would have named it were suppressed.
func TestLedger_SuppressedLines(t *testing.T) {
	t.Parallel()
	const failed = "realtime: call of the host's code failed"
	kinds := map[string]func(log *slog.Logger){
		"handshake": func(log *slog.Logger) {
			log.Error("realtime: handshake not decided", "namespace", realtime.NamespaceDrivers, "event", "connect", "code", "unavailable", "suppressed", 3)
		},
		"handshake, at the end": func(log *slog.Logger) {
			log.Error("realtime: log lines were suppressed", "line", "realtime: handshake not decided", "suppressed", 3)
		},
		"handler": func(log *slog.Logger) { log.Error("realtime: handler failed", "event", burst.Name(), "suppressed", 3) },
		"parties": func(log *slog.Logger) {
			log.Error("realtime: lookup of a trip's parties failed; the event is sent to the known ones only", "suppressed", 3)
		},
		"presence": func(log *slog.Logger) { log.Error("realtime: presence not published", "suppressed", 3) },
		"trace":    func(log *slog.Logger) { log.Error(failed, "call", "Trace", "suppressed", 3) },
		"trace, at the end": func(log *slog.Logger) {
			log.Error("realtime: log lines were suppressed", "line", failed, "call", "Trace", "suppressed", 3)
		},
		"adapter":    func(log *slog.Logger) { log.Error(failed, "call", "Adapter.Publish", "suppressed", 3) },
		"listener":   func(log *slog.Logger) { log.Error(failed, "call", "OnServerEmit", "suppressed", 3) },
		"others":     func(log *slog.Logger) { log.Warn("realtime: outdated event of a trip not sent", "suppressed", 3) },
		"not a part": func(log *slog.Logger) { log.Error("realtime: handler failed", "error", planned+"nobody, suppressed") },
	}
	for hook, excusedBy := range map[string]string{
		"VerifyToken": "handshake", "FindUser": "handshake", "FindSession": "handshake", "ActiveTrips": "handshake", "Authorize": "handshake",
		"DriverService.UpdateStatus": "handler", "OfferService.AcceptOffer": "handler", "a handler": "handler", "OnConnect": "handler", "OnDisconnect": "handler",
		"FindParties": "parties", "EventBus.Publish": "presence", "Trace.Emitted": "trace", "Adapter.Publish": "adapter", "a listener": "listener",
		"Adapter.Request": "none", // its caller gets the error
	} {
		for kind, suppress := range kinds {
			w := &world{oracle: newOracle(), count: &stresskit.Counts{}, config: config{troubles: troubles{panics: true, hang: true}}, lag: &lag{}}
			w.host = newHost(w)
			suppress(slog.New(&logHandler{Handler: slog.DiscardHandler, w: w}))
			w.host.ledger.fired(hook)
			want := hook + " panicked, but no log line names it"
			if excusedBy == strings.TrimSuffix(kind, ", at the end") {
				want = ""
			}
			require.Equal(t, want, verdictOf(w.host.ledger.judge), "%s: %s", hook, kind)
		}
	}
}

// Each hook that bombs set off is named by the line that is said to name it.
func TestWorld_SetOff(t *testing.T) {
	w, err := newWorld(config{seed: 1, troubles: troubles{panics: true}})
	require.NoError(t, err)
	defer w.lag.close()
	named := func() map[string]line {
		l := &w.host.ledger
		l.mu.Lock()
		defer l.mu.Unlock()
		return maps.Clone(l.hooks)
	}
	for turn := range 4 * len(bombHooks) { // of a hook, one call in four ends its goroutine and says nothing
		w.triggerHook(t.Context(), w.nodes[turn%2], bombHooks[turn%len(bombHooks)], turn)
	}
	silent := func() (hooks []string) {
		has := named()
		for hook, by := range has {
			if by == (line{}) {
				hooks = append(hooks, hook)
			}
		}
		for name := range hookLines {
			fired := func(hook string) bool { return strings.HasPrefix(hook, name) }
			if name != "Trace." && !slices.ContainsFunc(slices.Collect(maps.Keys(has)), fired) {
				hooks = append(hooks, name)
			}
		}
		return hooks
	}
	for began := time.Now(); len(silent()) > 0 && time.Since(began) < 20*time.Second; {
		time.Sleep(20 * time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	require.NoError(t, w.stop(ctx))
	require.Empty(t, verdictOf(w.host.ledger.judge))
	for name, want := range hookLines {
		found := false
		for hook, by := range named() {
			if strings.HasPrefix(hook, name) {
				found = true
				require.Equal(t, want, by, hook)
			}
		}
		require.True(t, found || name == "Trace.", "%s did not panic", name)
	}
	require.Equal(t, line{message: "returned"}, named()["Adapter.Request"])
}

func TestMayBeCutOff(t *testing.T) {
	t.Parallel()
	for reason, least := range map[string]time.Duration{
		realtimetest.ReasonTransportError: busyLag, realtimetest.ReasonTransportClose: leftOpen + 1, realtimetest.ReasonServer: tooBusy + 1,
	} {
		require.True(t, mayBeCutOff(reason, least), reason)
		require.False(t, mayBeCutOff(reason, least-1), reason)
	}
}

func TestMeter_Add(t *testing.T) {
	t.Parallel()
	now := time.Now()
	lines := func(n, size int, every time.Duration) string {
		var m meter
		return verdictOf(func(o *oracle) {
			for i := range n {
				m.add(o, now.Add(time.Duration(i)*every), size)
			}
		})
	}
	require.Empty(t, lines(10*logLines, 10, 2*logWindow/logLines))
	require.Contains(t, lines(logLines, 10, time.Microsecond), "the servers logged 3000 lines")
	require.Contains(t, lines(200, logRecord, time.Microsecond), "4096 KiB, within")
	require.Contains(t, lines(1, logRecord+1, time.Second), "bytes at once")
}

func TestOracle_CheckHeap(t *testing.T) {
	t.Parallel()
	require.Empty(t, verdictOf(func(o *oracle) { o.checkHeap(5<<20, 5<<20) }))
	require.Contains(t, verdictOf(func(o *oracle) { o.checkHeap(6<<20, 5<<20) }), "the heap grew by 6 MiB, but may grow by 5")
}

func TestLag_Since(t *testing.T) {
	t.Parallel()
	l := &lag{}
	began := time.Now()
	l.live.Store(began.Add(time.Hour).UnixNano()) // nothing is under way
	l.add(began.Add(-2*time.Second), time.Second)
	l.add(began.Add(time.Second), 30*time.Millisecond)
	l.add(began.Add(2*time.Second), 20*time.Millisecond)
	require.Equal(t, 30*time.Millisecond, l.since(began))
	require.Equal(t, time.Second, l.since(began.Add(-3*time.Second)))
	require.Zero(t, l.since(began.Add(3*time.Second)))
	l.live.Store(began.Add(-time.Second).UnixNano()) // held up now
	require.Greater(t, l.since(began), 900*time.Millisecond)
}

func TestLogHandler_SeesEveryLine(t *testing.T) {
	t.Parallel()
	w := &world{oracle: newOracle(), count: &stresskit.Counts{}, config: config{troubles: troubles{}}, lag: &lag{}}
	w.host = &host{w: w}
	log := slog.New(&logHandler{Handler: slog.DiscardHandler, w: w})
	log.Error("realtime: nobody expects this")
	require.True(t, w.oracle.has([]string{"nobody expects this"}))
}

func TestLogHandler_Excused(t *testing.T) {
	t.Parallel()
	quiet, busy := &lag{}, &lag{}
	quiet.live.Store(time.Now().Add(time.Hour).UnixNano())
	busy.live.Store(time.Now().Add(-busyLag - time.Second).UnixNano())
	excused := func(l *lag, text string) bool {
		on := troubles{hang: true, panics: true}
		return (&logHandler{w: &world{oracle: newOracle(), count: &stresskit.Counts{}, config: config{troubles: on}, lag: l}}).excused(text)
	}
	const noAnswer = "no answer within Options.Timeouts.Repo"
	for text, want := range map[string]struct{ quiet, busy bool }{
		"realtime: handler failed user=p1 error=" + planned + "a handler":                                                {true, true},
		"realtime: handler does not return user=hs1-2 after=7s":                                                          {true, true},
		"realtime: handler does not return user=p1 after=7s":                                                             {false, false},
		"realtime: handler failed user=p1 error=no such table":                                                           {false, false},
		"realtime: handler failed user=p1 error=context deadline exceeded":                                               {false, false},
		"realtime: handler failed user=hs1 error=runtime error: nil dereference":                                         {false, false},
		"realtime: sweep could not read all rows rows=7 error=" + noAnswer:                                               {true, true},
		"realtime: sweep could not read all rows rows=7 error=no such table":                                             {false, false},
		"realtime: handshake not decided code=unavailable user= error=verifying the token: " + noAnswer:                  {true, true},
		"realtime: call of the host's code failed call=Adapter.Publish error=no answer in time":                          {false, true},
		"realtime: handler failed event=stress:quiz error=realtime: acknowledgment timed out\ncontext deadline exceeded": {false, true},
		"realtime: adapter failed error=closed":                                                                          {false, false},
	} {
		require.Equal(t, want.quiet, excused(quiet, text), text)
		require.Equal(t, want.busy, excused(busy, text), text)
	}
}

func TestOfTrouble(t *testing.T) {
	t.Parallel()
	require.True(t, ofTrouble("x1"))
	require.True(t, ofTrouble("xh1-2"))
	require.False(t, ofTrouble("t1-2"))
}

// A run with faults planted in all that troubles go through finds each of them.
func TestRun_FindsFaultsOfTrouble(t *testing.T) {
	var out bytes.Buffer
	on := troubles{hang: true, redeliver: true, reorder: true, lose: true}
	ofScene := func(e realtime.Envelope, name string) bool { return e.Name == name && ofTrouble(e.Key) }
	wanted := []string{
		"the ban of", "has ended, but", "does not receive the driver's position within 5s of the", "did not receive trip:driver_accepted",
		"was lost, but TripLookup returns it",
	}
	n := run(config{
		seed: 1, length: 4 * time.Minute, enough: wanted, clients: 8, out: &out, troubles: on, crowd: 40, hurry: true, plant: "no rows",
		meddle: func(e realtime.Envelope) []realtime.Envelope {
			switch {
			case ofScene(e, "trip.requested"): // so that nobody knows the passenger
				return nil
			case ofScene(e, "trip.assignment.expired"), ofScene(e, "trip.assignment.cancelled"):
				over, err := realtime.NewEnvelope(realtime.TripCompleted{TripID: e.Key, FareTotal: 1, Currency: "CUP"})
				require.NoError(t, err)
				return []realtime.Envelope{over}
			case ofScene(e, "trip.completed") && strings.HasPrefix(e.Key, fmt.Sprint(sceneTrip, againStream)):
				return nil
			case e.Name == "auth.user.access_changed":
				time.Sleep(6 * time.Second) // more than the lag of a busy machine excuses
			}
			return []realtime.Envelope{e}
		},
	})
	require.NotZero(t, n)
	for _, want := range wanted {
		require.Contains(t, out.String(), want)
	}
}

// Honest clients that cannot log in, and drivers whose service hangs, are found.
func TestRun_FindsDelayedClients(t *testing.T) {
	for name, c := range map[string]struct {
		plant, want string
		on          troubles
	}{
		"strangers take all places": {"nobody gets in", "can't log in for", troubles{strangers: true}},
		"a driver's service hangs":  {"hung driver", "status update took", troubles{hang: true}},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			n := run(config{
				seed: 1, length: 2 * time.Minute, enough: []string{c.want}, clients: 4, out: &out, troubles: c.on, plant: c.plant, stranger: "addresses", addresses: 10,
				crowd: 10, hurry: true,
			})
			require.NotZero(t, n)
			require.Contains(t, out.String(), c.want)
		})
	}
}
