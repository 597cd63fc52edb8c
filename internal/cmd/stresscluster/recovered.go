//go:build unix

// Judging clients that come back: nothing is lost, doubled or out of order if they say that they have
// recovered, and nothing is sent again if they have not.

package main

import (
	"maps"
	"slices"
	"time"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/cmd/internal/comeback"
)

// lost records that a device has lost a connection: it has received nothing since.
func (o *oracle) lost(c *connection, claim comeback.Claim) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.endedLocked(c, time.Now())
	c.cut = claim.Received
}

// claimed records which connection another one claims; nil: none that may be its own.
func (o *oracle) claimed(c, former *connection) {
	o.mu.Lock()
	defer o.mu.Unlock()
	c.former = former
	if former != nil && c.recovered {
		maps.Copy(c.joined, former.joined)
	}
}

// cameBack returns where a connection was lost, and where it came back.
func (o *oracle) cameBack(former, c *connection) comeback.Kind {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch l := former.life; {
	case l.killed:
		return comeback.AfterKill
	case l.leaving:
		return comeback.AfterLeave
	case l != c.life:
		return comeback.AnotherNode
	case former.Connected(): // by all that its client knows
		return comeback.Unnoticed
	}
	return comeback.SameNode
}

// requireOneWinner records a breach if two devices, which began at a time, have got one connection. A node that
// gives no sign of life is taken for dead: not one whose path is slow.
func (o *oracle) requireOneWinner(one, other *connection, began time.Time) {
	if !one.recovered || other == nil || !other.recovered {
		return
	}
	o.mu.Lock()
	_, bad := o.troubledLocked(one.life, began, time.Now())
	_, otherBad := o.troubledLocked(other.life, began, time.Now())
	o.mu.Unlock()
	if bad || otherBad {
		o.count.Add("excused: two devices with one connection, as a node gave no sign of life", 1)
	} else {
		o.breachf("%s in %s: two devices have recovered one connection, on %s and %s", one.user, one.namespace, one.life.name, other.life.name)
	}
}

// begins returns since when a connection, or the one that it continues, may have missed events.
func (c *connection) begins() time.Time {
	if c.recovered && c.former != nil {
		return c.former.hello
	}
	return c.hello
}

// earlier is a connection that the judged one continues.
type earlier struct {
	on            *life
	hello, newest time.Time // newest is when the newest event with an offset came
}

// lostIn reports whether an event may have been lost in a gap while the client was there. Its offset then says
// that it has what came before: not if nothing with an offset came since.
func (s earlier) lostIn(h handling) bool {
	return !h.at.Before(s.hello) && s.newest.After(h.at) && slices.ContainsFunc(s.on.gaps, func(g report) bool { return g.covers(h.at) })
}

// comesBack judges hello: whether the connection is the former one, and if so, goes on from where that
// has ended.
func (j *judgement) comesBack(received []arrival) {
	j.since = j.c.hello
	for before, a := range received {
		if a.name == realtime.EventHello.Name() {
			j.greeted(before, a)
			return
		}
	}
}

// greeted judges what hello says, before which some events have come.
func (j *judgement) greeted(before int, hello arrival) {
	j.recovered = hello.Recovered != nil && *hello.Recovered
	switch f := j.c.former; {
	case (hello.Recovered != nil) != j.o.recovery:
		j.breachf("hello says nothing of recovery, or too much")
	case j.recovered && f == nil:
		j.breachf("has recovered, but had no claim")
	case j.recovered:
		if hello.Missed == nil || *hello.Missed != before {
			j.breachf("hello has the wrong number of missed events; %d came before it", before)
		}
		if s := f.state; s != nil {
			j.since, j.seen, j.last, j.positions = s.since, maps.Clone(s.seen), maps.Clone(s.last), maps.Clone(s.positions)
			j.probes, j.settled = maps.Clone(s.probes), maps.Clone(s.settled)
			j.stays = append(slices.Clip(s.stays), earlier{f.life, f.hello, s.newest})
		}
	case before > 0 || hello.Missed != nil:
		j.breachf("%d events came before hello, but it has not recovered", before)
	}
}

// afterHello judges an event that came behind hello for the first time: not one that everybody had
// handled long before. A client that has recovered gets those before hello, and another one does not
// get them.
func (j *judgement) afterHello(a arrival, f *fact) {
	if !j.hello || j.c.isOffer(a.name) {
		return
	}
	handled := j.o.handlingsLocked(f)
	if len(handled) == 0 {
		return
	}
	for _, h := range handled {
		if h.at.Add(settling + j.o.lag.since(h.at)).After(j.c.hello) {
			return
		}
	}
	for _, s := range j.o.spansLocked() {
		if s.meets(handled[0].at.Add(-settling), j.c.hello.Add(settling)) {
			return
		}
	}
	ago := j.c.hello.Sub(handled[len(handled)-1].at)
	if j.recovered {
		j.breachf("%s %s was emitted %v before hello, and came behind it; %s", a.name, f.id, ago, j.o.historyLocked(f))
	} else {
		j.breachf("%s %s was emitted %v before hello, and came, although it has not recovered; %s", a.name, f.id, ago, j.o.historyLocked(f))
	}
}
