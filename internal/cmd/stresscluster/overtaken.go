//go:build unix

// Offers that are over before they arrive: a node that learns of the end first need not show them.

package main

import (
	"slices"
	"time"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/cmd/internal/rides"
	"github.com/rodando/realtime/internal/cmd/internal/stresskit"
)

// isOffer reports whether an event is an offer to a driver: offers do not take part in recovery, and come
// again while they run.
func (c *connection) isOffer(event string) bool {
	return event == realtime.EventAssignmentOffered.Name() && c.namespace == realtime.NamespaceDrivers
}

// overtakenLocked reports whether an offer may have been over before it could reach the driver's node from the
// one that has handled it.
func (o *oracle) overtakenLocked(offer *fact, h handling, node *life) bool {
	if h.by == node { // it has sent the offer before it reported that
		return false
	}
	for _, f := range offer.trip.facts[offer.seq+1:] {
		over := o.handledSinceLocked(f)
		if f.ends(offer) && f.mayComeFirst(h, over) && !over.After(o.arrivesLocked(h, node, over)) {
			return true
		}
	}
	return false
}

// ends reports whether an event ends an offer that its trip had before. Each offer is answered before anything else
// happens to the trip.
func (f *fact) ends(offer *fact) bool {
	switch f.hears[rides.Audience{Namespace: realtime.NamespaceAdmin}] {
	case "trip:assignment:rejected", "trip:assignment:expired", "trip:assignment:cancelled":
		return f.seq == offer.seq+1
	case "trip:assignment:accepted", "trip:driver_assigned", "trip:cancelled", "trip:completed":
		return true
	}
	return false
}

// mayComeFirst reports whether an end that was handled at a time may reach a node before the offer. If the node that
// handled the offer has handled it too, only the end of the trip may: nodes learn of that in all namespaces.
func (f *fact) mayComeFirst(offer handling, at time.Time) bool {
	switch f.hears[rides.Audience{Namespace: realtime.NamespaceAdmin}] {
	case "trip:cancelled", "trip:completed":
		return true
	}
	another := func(l handling) bool { return l.by != offer.by }
	return len(f.handled) == 0 || at.Before(f.handled[0].at) || slices.ContainsFunc(f.handled, another)
}

// handledSinceLocked returns since when an event was handled, or may have been: a node that was killed or stopped
// may have done so before it could report it.
func (o *oracle) handledSinceLocked(f *fact) time.Time {
	if len(f.handled) == 0 {
		return f.at
	}
	first := f.handled[0].at
	for _, l := range o.lives {
		if slices.ContainsFunc(l.bad, func(s span) bool {
			return (s.what == killNode || s.what == stopNode) && s.from.After(f.at) && s.from.Before(first)
		}) {
			return f.at
		}
	}
	return first
}

// arrivesLocked returns when an event that was handled must have reached another node. Only what the machine
// lagged up to a time counts.
func (o *oracle) arrivesLocked(h handling, at *life, lagged time.Time) time.Time {
	held := append(o.spansOfLocked(h.by), o.spansOfLocked(at)...)
	held = slices.DeleteFunc(held, func(s span) bool { return s.what == leaveNode || s.what == killNode })
	late := o.lag.between(h.at, lagged)
	return heldUntil(h.at.Add(stresskit.OnItsWay+late), settling+late, held)
}

// heldUntil returns until when troubles, which are over now, held back what was under way at a time. Each held it
// for some time more than it lasted.
func heldUntil(at time.Time, longer time.Duration, troubles []span) time.Time {
	for again := true; again; {
		again = false
		for _, s := range troubles {
			if end := s.to.Add(longer); !s.from.After(at) && end.After(at) {
				at, again = end, true
			}
		}
	}
	return at
}
