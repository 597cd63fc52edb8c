//go:build unix

// Excuses: when an event may be missing, come twice or come late.

package main

import (
	"slices"
	"strings"
	"time"

	"github.com/rodando/realtime/internal/cmd/internal/rides"
)

const (
	// settling is how long an event may be under way, from the node that emits it to the
	// client.
	settling = 1500 * time.Millisecond
	// slack is how inexact the times of reports and of gaps are.
	slack = 300 * time.Millisecond
	// unsent is how long before its death a node may have emitted an event that it did not
	// publish, and reported nothing.
	unsent = 2500 * time.Millisecond
)

// handoverWait is how long the next owner of a trip waits for what the former one has emitted: decision 19.
const handoverWait = 5 * time.Second

// hard are the troubles that may take messages with them. A node that leaves does not.
func (s span) hard() bool { return s.what != leaveNode && s.what != delayPath }

// spansOfLocked returns the troubles of a node: its own, those of its path, and those of Redis.
func (o *oracle) spansOfLocked(l *life) []span {
	all := append([]span(nil), o.redis...)
	if l != nil {
		all = append(append(all, l.bad...), l.place.bad...)
	}
	return all
}

// troubledLocked returns the trouble of a node that overlaps a period, or an empty span.
func (o *oracle) troubledLocked(l *life, from, to time.Time) (s span, ok bool) {
	for _, s := range o.spansOfLocked(l) {
		if s.hard() && s.meets(from, to) {
			return s, true
		}
	}
	return s, false
}

// relearning is how long after a trouble a node may not know what others know: it connects again,
// and asks them.
const relearning = 4 * time.Second

// maybeUnknownLocked reports whether a node may not have known the people of a trip, whom the event
// does not name. Without a PartyLookup it knows them from the nodes that have handled earlier events
// of the trip: not if these have died, or could not be asked shortly before.
func (o *oracle) maybeUnknownLocked(l *life, f *fact, at time.Time) bool {
	if o.seed%2 == 1 { // there is a PartyLookup
		return false
	}
	if _, bad := o.troubledLocked(l, at.Add(-relearning), at); bad {
		return true
	}
	for _, earlier := range f.trip.facts[:f.seq] {
		if !earlier.namesPassenger() {
			continue
		}
		for _, h := range earlier.handled {
			if h.by == l {
				return false
			}
			_, badThere := o.troubledLocked(h.by, h.at.Add(-relearning), h.at.Add(settling))
			_, badHere := o.troubledLocked(l, h.at.Add(-relearning), h.at.Add(settling))
			if !badThere && !badHere && l.began.Before(h.at) && (h.by.over.IsZero() || h.by.over.After(h.at.Add(settling))) {
				return false // it was told at once
			}
			if _, bad := o.troubledLocked(h.by, at.Add(-relearning), at); !bad && h.by.over.IsZero() {
				return false
			}
		}
	}
	return f.seq > 0
}

// namesPassenger reports whether the event itself says who the passenger is.
func (f *fact) namesPassenger() bool {
	for _, name := range f.hears {
		if name == "trip:requested" || name == "trip:driver_accepted" || name == "trip:driver_assigned" {
			return true
		}
	}
	return false
}

// endMaybeUnknownLocked reports whether other nodes may not know that a trip has ended: without a
// TripLookup they know it from those that have handled the event, which have died before all
// others could hear of it, or have left while some could not: until shortly before its end a node that
// leaves hands over what others have missed.
func (o *oracle) endMaybeUnknownLocked(trip string) bool {
	t := o.trips[trip]
	if t == nil || o.seed%2 == 1 {
		return false
	}
	handled := t.facts[len(t.facts)-1].handled
	for _, h := range handled {
		if h.by == nil || h.by.over.IsZero() || h.by.over.After(h.at.Add(2*healing)) {
			return false
		}
		if !h.by.killed && !slices.ContainsFunc(o.spansLocked(), func(s span) bool {
			return s.hard() && s.meets(h.by.over.Add(-relearning), h.by.over)
		}) {
			return false
		}
	}
	return len(handled) > 0
}

// handlingsLocked returns when an event was emitted. If nobody reported it although it arrived,
// it was a node that died.
func (o *oracle) handlingsLocked(f *fact) []handling {
	if len(f.handled) == 0 && !f.first.IsZero() {
		return []handling{{at: f.first}}
	}
	var emitted []handling
	for _, h := range f.handled {
		if !h.outdated {
			emitted = append(emitted, h)
		}
	}
	return emitted
}

// covers reports whether an event that was emitted at a time may have been lost in a gap.
func (g *report) covers(at time.Time) bool {
	return !at.Before(g.Since.Add(-slack)) && !at.After(g.Until.Add(slack))
}

// lateLocked returns by how much a node, which may be nil, was late within a period.
func (l *life) lateLocked(from, to time.Time) time.Duration {
	if l == nil {
		return 0
	}
	return longestOf(l.late, from, to)
}

// inGap is an excuse.
const inGap = "in a gap of the node"

// whyMissingLocked returns why a connection may miss an event that was emitted, or an empty text.
// stays are the connections that it continues. due is false if it ended before the event had to arrive.
func (o *oracle) whyMissingLocked(f *fact, h handling, c *connection, stays []earlier) (why string, due bool) {
	arrives := h.at.Add(settling + o.lag.since(h.at))
	if arrives.After(c.end) {
		return "", false
	}
	// Something held the event back until the connection ended.
	for _, l := range []*life{h.by, c.life} {
		for _, s := range o.spansOfLocked(l) {
			if s.meets(h.at.Add(-settling), c.end) && (s.to.IsZero() || s.to.Add(settling).After(c.end)) {
				return "", false
			}
		}
	}
	for _, g := range c.life.gaps {
		// Nobody recovers without what was lost in a gap that the node knows.
		if g.covers(h.at) && (!h.at.Before(c.hello) || g.At.After(c.hello.Add(-slack))) {
			return inGap, true
		}
	}
	if slices.ContainsFunc(stays, func(s earlier) bool { return s.lostIn(h) }) {
		return "in a gap of the node that the client was on", true
	}
	if slices.Contains(f.unaddressed, c.namespace) {
		return "its people were not known", true
	}
	if why := o.whyUnsentLocked(h); why != "" {
		return why, true
	}
	// A node that ended while it was in trouble has reported no gap.
	if s, bad := o.troubledLocked(c.life, h.at.Add(-slack), h.at.Add(slack)); bad && !c.life.over.IsZero() && c.life.over.Before(s.to.Add(healing)) {
		return "the client's node ended before it could report a gap", true
	}
	if c.isOffer(f.hears[rides.AudienceOf(c.namespace, c.user)]) && o.overtakenLocked(f, h, c.life) {
		return "it may have been over before it could arrive", true
	}
	if late := c.life.lateLocked(h.at, c.end) + h.by.lateLocked(h.at, c.end); arrives.Add(late).After(c.end) {
		o.count.Add("events under way for longer, as a node was late, when the client left", 1)
		return "", false
	}
	return "", true
}

// whyUnsentLocked returns why an emit may not have left its node.
func (o *oracle) whyUnsentLocked(h handling) string {
	if h.by == nil {
		if o.diedLocked(h.at.Add(-slack), h.at.Add(unsent)) != nil {
			return "the node that emitted it died"
		}
		return ""
	}
	if !h.by.killed {
		return ""
	}
	if h.by.over.Before(h.at.Add(unsent)) {
		return "the node that emitted it died"
	}
	if s, bad := o.troubledLocked(h.by, h.at.Add(-slack), h.at.Add(slack)); bad && h.by.over.Before(s.to.Add(healing)) {
		return "the node that emitted it died while it could not publish"
	}
	return ""
}

// whyTwiceLocked returns why an event may have come again: another node has handled it too,
// because the first one could not acknowledge it, or because the bus has it twice. A node
// recognizes what it has handled itself.
func (o *oracle) whyTwiceLocked(f *fact, first, again time.Time) string {
	for i, h := range f.handled {
		for _, later := range f.handled[i+1:] {
			if later.by == h.by {
				continue
			}
			if f.again {
				return "because it was published again"
			}
			if s, bad := o.troubledLocked(h.by, h.at.Add(-settling), later.at); bad {
				return "because of " + s.what
			}
			if s, bad := o.troubledLocked(later.by, h.at.Add(-settling), later.at); bad {
				return "because of " + s.what
			}
		}
	}
	if o.diedLocked(first.Add(-settling), again) != nil {
		return "because of " + killNode
	}
	return ""
}

// whyLateLocked returns why an event may have arrived after a later one of its trip. Receivers send
// an event of another node as it comes: they do not look into it. It is no excuse that a receiver was
// in trouble, or that one node emitted both once: it keeps the order.
func (o *oracle) whyLateLocked(f, later *fact) string {
	for i, h := range f.handled {
		overtaken := func(l handling) bool { return l.at.After(h.at) }
		byAnother := func(l handling) bool { return l.by != h.by }
		switch {
		case h.outdated || h.by == nil:
			continue
		// A silent path held what the publisher then published again elsewhere. It reaches the bus once
		// the path works, and then a node that does not know it.
		case f.again && slices.ContainsFunc(later.handled, overtaken) && slices.ContainsFunc(f.handled[i+1:], byAnother):
			return "because it was published again"
		}
		// Its path was so slow that the next owner of the trip has waited in vain.
		tooLate := func(l handling) bool { return byAnother(l) && !l.at.Before(h.at.Add(handoverWait)) }
		for _, s := range h.by.place.bad {
			if s.what == delayPath && s.meets(h.at.Add(-slack), h.at.Add(handoverWait)) && slices.ContainsFunc(later.handled, tooLate) {
				return "because of a path that was slow for long"
			}
		}
		// The node that emitted it was stopped, or its path broken or silent, and another one, which took
		// over the trip, emitted the later event. The first arrives once the path works.
		for _, s := range slices.Concat(h.by.bad, h.by.place.bad) {
			if s.hard() && s.meets(h.at.Add(-slack), h.at.Add(settling)) && slices.ContainsFunc(later.handled, byAnother) {
				return "because of " + s.what + " of the node that emitted it"
			}
		}
	}
	return ""
}

// whyOldLocked returns why a position may have arrived after a newer one: some path, or the process
// that sent it, held it. Receivers do not look into what other nodes send.
func (o *oracle) whyOldLocked(at, arrived time.Time) string {
	for _, s := range o.spansLocked() {
		if s.hard() && s.meets(at.Add(-slack), at.Add(settling)) && (s.to.IsZero() || arrived.Before(s.to.Add(settling))) {
			return "because of " + s.what
		}
	}
	return ""
}

// couldNotTellLocked reports whether a failure is that of a node that was shut down while it could
// not publish, or while another node could not say that it takes over the users: it says so, and the other nodes publish its users.
func (o *oracle) couldNotTellLocked(l *life, r report) bool {
	bad := slices.ContainsFunc(o.spansLocked(), func(s span) bool { return s.hard() && s.meets(r.At.Add(-nodeShutdown), r.At) })
	return l.leaving && bad && strings.HasPrefix(r.Text, shuttingDown) && strings.Contains(r.Text, "presence not published")
}

// lateFor returns how much later than the user's end the other nodes may have found that the node
// which they were connected to has ended: while Redis was away it could say nothing, and they could
// hear nothing.
func (o *oracle) lateFor(key userKey) time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	d := o.left[key]
	if d.from == nil || d.from.over.IsZero() || d.from.over.After(d.at.Add(2*healing)) {
		return 0
	}
	late := time.Duration(0)
	for _, s := range o.redis {
		if s.meets(d.at.Add(-slack), d.from.over.Add(slack)) && !s.to.IsZero() {
			late = max(late, s.to.Sub(d.at))
		}
	}
	return late
}

// nobodyKnows reports whether a user, who is away, was connected last to a node that was killed while
// it, or each other one, was in trouble, or had been shortly before, for as long as the user was there: then
// nobody is left who knows that they were, and must not be any more.
func (o *oracle) nobodyKnows(key userKey) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	d := o.left[key]
	if d.from == nil || !d.from.killed {
		return false
	}
	if o.toldNobodyLocked(d) {
		return true
	}
	died := d.from.over
	known := died.Add(presenceGrace + healing) // until then whoever knows must live
	for _, l := range o.lives {
		gone := !l.over.IsZero() && l.over.Before(known)
		if l == d.from || gone || l.began.After(died.Add(-relearning)) {
			continue
		}
		_, atFirst := o.troubledLocked(l, d.hello.Add(-relearning), d.hello.Add(settling))
		_, atLast := o.troubledLocked(l, died.Add(-relearning), died)
		if !atFirst && died.After(d.hello.Add(settling)) && l.began.Before(d.hello) || !atLast {
			return false
		}
	}
	return true
}

// toldNobodyLocked reports whether a node was killed before it could tell the others of a user: when they came,
// or while it was in trouble from then on, or shortly after that.
func (o *oracle) toldNobodyLocked(d departure) bool {
	bad := slices.DeleteFunc(o.spansOfLocked(d.from), func(s span) bool { return !s.hard() || s.what == killNode })
	told := heldUntil(d.hello.Add(slack), relearning, bad)
	return !d.from.over.After(told)
}
