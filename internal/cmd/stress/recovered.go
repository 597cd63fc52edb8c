// Judging clients that come back: nothing is lost, doubled or out of order if they say that they have
// recovered, and nothing is sent again if they have not.

package main

import (
	"maps"
	"strings"
	"time"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/cmd/internal/comeback"
	"github.com/rodando/realtime/internal/cmd/internal/stresskit"
)

// former is a connection that its device has lost and claims.
type former struct {
	judged *judgement
	epoch  int
	// due: what the bus had taken before was handled everywhere before the client came back, and so
	// were numbers of the series. Zero: not known.
	due     time.Time
	numbers int
}

// comesBack judges hello: whether the connection is the former one, and if so, goes on from where that
// has ended.
func (j *judgement) comesBack() {
	hello, before, ok := comeback.Greeting(j.t.received)
	if !ok {
		return
	}
	j.recovered = comeback.Recovered(hello)
	switch f := j.t.former; {
	case (hello.Recovered != nil) != j.o.recovery:
		j.breachf("hello says nothing of recovery, or too much")
	case j.recovered && f == nil:
		j.breachf("has recovered, but had no claim")
	case j.recovered:
		j.resume(f.judged)
		if hello.Missed == nil || *hello.Missed != before {
			j.breachf("hello has the wrong number of missed events; %d came before it", before)
		}
	case before > 0 || hello.Missed != nil:
		j.breachf("%d events came before hello, but it has not recovered", before)
	}
	j.snapshots = 0
	if j.o.snapshots && !j.recovered && j.t.namespace != realtime.NamespaceAdmin {
		j.snapshots = 1
	}
	if next := before + 1; next < len(j.t.received) && j.snapshots == 1 && j.t.received[next].Event != realtime.EventTripSync.Name() {
		j.breachf("%s came behind hello, not the snapshot", j.t.received[next].Event)
	}
}

// resume goes on with the state of the former connection.
func (j *judgement) resume(f *judgement) {
	j.seen, j.last, j.positions = maps.Clone(f.seen), maps.Clone(f.last), maps.Clone(f.positions)
	j.since, j.updates, j.number = f.since, f.updates, f.number
}

// synced judges a snapshot.
func (j *judgement) synced() {
	if j.snapshots--; j.snapshots < 0 {
		j.breachf("a snapshot came, which was not due")
	}
}

// caughtUp judges, at hello, whether everything that was missed has come.
func (j *judgement) caughtUp() {
	f := j.t.former
	if !j.recovered || f == nil || f.due.IsZero() {
		return
	}
	if j.number < f.numbers {
		j.breachf("recovered %d numbers of a series of %d before hello", j.number, f.numbers)
	}
	for _, x := range j.o.heard[j.who] {
		if x.at.After(j.since) && j.settledBefore(x) && !j.seen[x.key(j.who)] && !j.offered(x) {
			j.breachf("%s %s was missed, and is not among what it recovered", x.hears[j.who], x.id)
		}
	}
}

// settledBefore reports whether an event was handled before the client came back.
func (j *judgement) settledBefore(x *fact) bool {
	return j.t.former != nil && !x.taken.IsZero() && x.taken.Before(j.t.former.due)
}

// offered reports whether an event is an offer that the driver may not have received, because they came
// back after it: offers do not take part in recovery, and come again while they run. Or it was over before it
// reached their node.
func (j *judgement) offered(x *fact) bool {
	return j.isOffer(x.hears[j.who]) && (j.recovered && x.at.Before(j.hello) || j.o.overtaken(x))
}

// overtaken reports whether the next event of an offer's trip, which ends the offer, may have been handled before
// the offer reached all nodes.
func (o *oracle) overtaken(x *fact) bool {
	if x.seq+1 >= len(x.trip.facts) {
		return false
	}
	return x.trip.facts[x.seq+1].at.Sub(x.at) <= stresskit.OnItsWay+o.lag(x.at)
}

func (j *judgement) isOffer(event string) bool {
	return event == realtime.EventAssignmentOffered.Name() && j.t.namespace == realtime.NamespaceDrivers
}

// sentAgain judges whether an event is one that a client which has not recovered had missed.
func (j *judgement) sentAgain(event string, x *fact) {
	if !j.recovered && j.settledBefore(x) && !j.isOffer(event) {
		j.breachf("%s %s was handled before it came back, and came, although it has not recovered", event, x.id)
	}
}

// numberSentAgain is sentAgain for a number of a series.
func (j *judgement) numberSentAgain(p payload) {
	f := j.t.former
	if !j.recovered && f != nil && !f.due.IsZero() && p.Connection == f.epoch && p.Number <= f.numbers {
		j.breachf("number %d of the former series came, although it has not recovered", p.Number)
	}
}

// requireSame records a breach if a recovered connection is not the claimed one.
func (o *oracle) requireSame(user string, claim comeback.Claim, id, pid string) {
	if id != claim.ID || pid != claim.PID {
		o.breachf("%s has recovered, but has another id or pid", user)
	}
}

// requireOneWinner records a breach if two devices have got one connection.
func (o *oracle) requireOneWinner(user string, one, other bool) {
	if one && other {
		o.breachf("%s: two devices have recovered one connection", user)
	}
}

// requireRefused records a breach if the answer to a claim without access is anything but a refusal with
// the right code. packets are those of Socket.IO.
func (o *oracle) requireRefused(user string, packets []string, want realtime.Code) {
	if len(packets) != 1 || !strings.HasPrefix(packets[0], "44") || !strings.Contains(packets[0], `"`+string(want)+`"`) {
		var kinds []string
		for _, p := range packets { // without the text, which may hold a position
			kinds = append(kinds, p[:2])
		}
		o.breachf("%s may not connect, but the answer to their claim is not %s alone: %s", user, want, strings.Join(kinds, " "))
	}
}
