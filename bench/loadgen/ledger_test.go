package main

import (
	"strings"
	"testing"
	"time"
)

// figures are what a ledger reports.
func figures(l *ledger) (map[string]float64, *result) {
	r := &result{ok: true}
	l.report(r)
	v := map[string]float64{}
	for _, m := range r.metrics {
		v[m.key] = m.val
	}
	return v, r
}

// accept publishes n events for a client and returns their numbers.
func accept(l *ledger, user, n int) (numbers []int) {
	for range n {
		i := l.add(user)
		l.published(i, accepted)
		numbers = append(numbers, i)
	}
	return numbers
}

func TestLedger_FindsWhatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		arrive []int // numbers of the events 0 to 4 that client 0 receives, in this order
		want   map[string]float64
		notes  string
	}{
		"nothing":      {[]int{0, 1, 2, 3, 4}, map[string]float64{"delivered_pct": 100}, ""},
		"lost":         {[]int{0, 1, 3, 4}, map[string]float64{"delivered_pct": 80, "lost": 1, "lost_unbroken": 1}, ""},
		"lost, last":   {[]int{0, 1, 2, 3}, map[string]float64{"delivered_pct": 80, "lost": 1, "lost_unbroken": 1}, ""},
		"doubled":      {[]int{0, 1, 1, 2, 3, 4}, map[string]float64{"delivered_pct": 100, "doubled": 1}, ""},
		"doubled late": {[]int{0, 1, 2, 3, 4, 0}, map[string]float64{"delivered_pct": 100, "doubled": 1}, ""},
		"swapped":      {[]int{0, 2, 1, 3, 4}, map[string]float64{"delivered_pct": 100, "out_of_order": 1}, ""},
		"another's":    {[]int{0, 1, 2, 3, 4, 5}, map[string]float64{"delivered_pct": 100}, "1 events reached a client"},
		"unknown":      {[]int{0, 1, 2, 3, 4, 99, -1}, map[string]float64{"delivered_pct": 100}, "2 events reached a client"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLedger(2, 5)
			accept(l, 0, 5)
			l.add(1) // not published
			for _, n := range c.arrive {
				l.received(0, n, 1)
			}
			got, r := figures(l)
			for _, key := range []string{"delivered_pct", "lost", "lost_unbroken", "lost_cut_seen", "doubled", "out_of_order"} {
				if got[key] != c.want[key] {
					t.Errorf("%s: %v, want %v", key, got[key], c.want[key])
				}
			}
			if notes := strings.Join(r.notes, ";"); !strings.Contains(notes, c.notes) || r.ok != (c.notes == "") {
				t.Errorf("ok %v, notes %q, want %q", r.ok, notes, c.notes)
			}
		})
	}
}

func TestLedger_AnEventThatMayBePublishedIsNotMissed(t *testing.T) {
	l := newLedger(1, 3)
	first, second, third := l.add(0), l.add(0), l.add(0)
	l.received(0, first, 1) // before the publisher has its answer
	l.published(first, accepted)
	l.published(second, unanswered)
	l.published(third, unanswered)
	l.received(0, third, 2)
	got, _ := figures(l)
	if got["delivered_pct"] != 100 || got["unanswered"] != 2 || got["published"] != 1 || !l.complete() {
		t.Errorf("got %v, complete %v", got, l.complete())
	}
	if l.received(0, third, 3); l.doubled != 1 {
		t.Error("its second copy is not doubled")
	}
	if _, r := figures(newLedger(1, 1)); r.ok {
		t.Error("a run in which nothing was published is well")
	}
}

func TestLedger_CaughtUpIsWhenTheLastMissedEventIsThere(t *testing.T) {
	const ms = int64(time.Millisecond)
	l := newLedger(2, 9)
	before := accept(l, 0, 1) // on its way when the connection is cut
	l.left(0, cutSeen, 100*ms)
	during := accept(l, 0, 2)
	l.left(0, ended, 150*ms)   // an attempt that failed
	l.left(0, cutSeen, 200*ms) // the network is away longer
	l.returned(0, true, 300*ms)
	after := accept(l, 0, 1) // not missed: it was connected
	for i, n := range append(append(before, during...), after...) {
		if len(l.caughtUp) != 0 && i < 3 {
			t.Fatalf("caught up before event %d", n)
		}
		l.received(0, n, int64(310+10*i)*ms)
	}
	l.left(1, cutUnseen, 0) // misses nothing
	l.returned(1, false, 7*ms)
	got, _ := figures(l)
	if got["caught_up_pct"] != 100 || got["caught_up_max_ms"] != 130 || got["caught_up_p50_ms"] != 130 || len(l.caughtUp) != 2 || l.caughtUp[0] != 7*ms {
		t.Errorf("caught up %v: %v", l.caughtUp, got)
	}
	if got["absences_cut_seen"] != 1 || got["absences_cut_unseen"] != 1 || got["absences_ended"] != 0 {
		t.Errorf("absences: %v", got)
	}
}

func TestLedger_WhatIsNeverThereIsLostByItsCause(t *testing.T) {
	l := newLedger(2, 9)
	for _, why := range []cause{cutSeen, cutUnseen, ended} {
		l.left(0, why, 1)
		accept(l, 0, int(why))
		l.returned(0, why == cutUnseen, 2)
	}
	l.left(0, ended, 3) // caught up: nothing was published, and what is lost is lost before
	l.returned(0, true, 4)
	accept(l, 0, 4) // while it is connected
	got, _ := figures(l)
	for key, want := range map[string]float64{
		"lost": 10, "lost_cut_seen": 1, "lost_cut_unseen": 2, "lost_ended": 3, "lost_unbroken": 4, "lost_though_recovered": 2, "caught_up_pct": 25, "delivered_pct": 0,
	} {
		if got[key] != want {
			t.Errorf("%s: %v, want %v", key, got[key], want)
		}
	}
	if l.complete() {
		t.Error("all is there")
	}
}
