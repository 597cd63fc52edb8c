// What drops counts: each event, whether its client has it, and how long a client that was
// away took to have everything that was published meanwhile.

package main

import "slices"

// A cause is why a connection ended.
type cause uint8

const (
	unbroken  cause = iota // it did not
	cutSeen                // cut, and the server saw it end
	cutUnseen              // cut, and the server saw nothing: the network has gone
	ended                  // by the server, or with it
	causes
)

func (c cause) String() string { return [...]string{"unbroken", "cut_seen", "cut_unseen", "ended"}[c] }

// An outcome is what the publisher was answered.
type outcome uint8

const (
	unpublished outcome = iota
	accepted
	unanswered // nobody knows whether it was published
)

// An entry is one event.
type entry struct {
	user    int
	outcome outcome
	copies  int
	missed  cause // why its client did not receive it at once
	owed    bool  // the server said, when the client was back, that it has recovered
}

// An absence is one time that a client was away.
type absence struct {
	cause  cause
	since  int64 // when the client could connect again
	back   bool  // it is connected again
	missed []int // what was published before that and it does not have
}

// A ledger counts for all clients. It is for one thread.
type ledger struct {
	events  []entry
	unread  [][]int // by client: what was accepted and is not received, in order
	top     []int   // by client: the greatest number that it has received
	away    []*absence
	touched int64 // when something was received or a client came back

	doubled, disordered, misrouted int

	absences [causes]int
	caughtUp []int64 // ns from absence.since until the client had everything
	never    int     // absences after which it never had everything
}

func newLedger(clients, events int) *ledger {
	l := &ledger{events: make([]entry, 0, events), unread: make([][]int, clients), top: make([]int, clients), away: make([]*absence, clients)}
	for i := range l.top {
		l.top[i] = -1
	}
	return l
}

// add returns the number of a new event for a client.
func (l *ledger) add(user int) int {
	l.events = append(l.events, entry{user: user})
	return len(l.events) - 1
}

// published notes what the publisher was answered; the client may have the event already.
func (l *ledger) published(n int, o outcome) {
	e := &l.events[n]
	e.outcome = o
	if o == accepted && e.copies == 0 {
		l.unread[e.user] = append(l.unread[e.user], n)
	}
}

func (l *ledger) received(user, n int, now int64) {
	if n < 0 || n >= len(l.events) || l.events[n].user != user {
		l.misrouted++
		return
	}
	l.touched = now
	e := &l.events[n]
	e.copies++
	if e.copies > 1 {
		l.doubled++
		return
	}
	if n < l.top[user] {
		l.disordered++
	}
	l.top[user] = max(l.top[user], n)
	l.unread[user] = without(l.unread[user], n)
	if a := l.away[user]; a != nil {
		a.missed = without(a.missed, n)
		l.check(user, now)
	}
}

func without(list []int, n int) []int {
	if i := slices.Index(list, n); i >= 0 {
		return slices.Delete(list, i, i+1)
	}
	return list
}

// left notes that a client's connection ended; it can connect again at since. A client that is
// still away stays away for the first cause: a failed attempt changes nothing, and another cut
// that it can connect only later.
func (l *ledger) left(user int, why cause, since int64) {
	switch a := l.away[user]; {
	case a == nil:
	case a.back:
		l.never++
	case why == ended:
		return
	default:
		a.since = max(a.since, since)
		return
	}
	l.absences[why]++
	l.away[user] = &absence{cause: why, since: since}
}

// returned notes that a client is connected again, and whether the server says that it has recovered.
// What it missed in an earlier absence and did not get then counts no more against this one.
func (l *ledger) returned(user int, recovered bool, now int64) {
	a := l.away[user]
	if a == nil {
		return
	}
	l.touched = now
	a.back = true
	for _, n := range l.unread[user] {
		if e := &l.events[n]; e.missed == unbroken {
			e.missed, e.owed = a.cause, recovered
			a.missed = append(a.missed, n)
		}
	}
	l.check(user, now)
}

// check ends an absence after which the client has everything.
func (l *ledger) check(user int, now int64) {
	if a := l.away[user]; a.back && len(a.missed) == 0 {
		l.caughtUp = append(l.caughtUp, now-a.since)
		l.away[user] = nil
	}
}

// complete says whether each client has everything.
func (l *ledger) complete() bool {
	return !slices.ContainsFunc(l.unread, func(list []int) bool { return len(list) > 0 })
}

// report adds what the ledger has at the end to the figures of a run.
func (l *ledger) report(r *result) {
	var outcomes [3]int
	var lost [causes]int
	owed := 0
	for i := range l.events {
		e := &l.events[i]
		outcomes[e.outcome]++
		if e.outcome == accepted && e.copies == 0 {
			lost[e.missed]++
			if e.owed {
				owed++
			}
		}
	}
	published, missing := outcomes[accepted], 0
	for _, n := range lost {
		missing += n
	}
	never := l.never
	for _, a := range l.away {
		if a != nil {
			never++
		}
	}
	away := len(l.caughtUp) + never
	r.add("published", float64(published), "")
	r.add("unanswered", float64(outcomes[unanswered]), "")
	r.add("delivered_pct", 100*per(float64(published-missing), int64(published)), "%")
	r.add("lost", float64(missing), "")
	for c := range causes {
		r.add("lost_"+c.String(), float64(lost[c]), "")
		if c != unbroken {
			r.add("absences_"+c.String(), float64(l.absences[c]), "")
		}
	}
	r.add("lost_though_recovered", float64(owed), "")
	r.add("doubled", float64(l.doubled), "")
	r.add("out_of_order", float64(l.disordered), "")
	r.add("caught_up_pct", 100*per(float64(len(l.caughtUp)), int64(away)), "%")
	if len(l.caughtUp) > 0 {
		r.latencies("caught_up_", l.caughtUp)
	}
	if l.misrouted > 0 {
		r.bad("%d events reached a client that they were not for", l.misrouted)
	}
	if published == 0 {
		r.bad("nothing was published")
	}
}
