//go:build unix

// History: what is known about events, for breaches, and what can be forgotten.

package main

import (
	"fmt"
	"strings"
	"time"
)

// historyLocked says what is known about an event, for a breach.
func (o *oracle) historyLocked(f *fact) string {
	text := fmt.Appendf(nil, "%s published at %.2fs", f.id, f.at.Sub(o.began).Seconds())
	for _, h := range f.handled {
		text = fmt.Appendf(text, ", handled at %.3fs by %s", h.at.Sub(o.began).Seconds(), h.by.name)
		if h.outdated {
			text = append(text, " as outdated"...)
		}
	}
	if !f.first.IsZero() {
		text = fmt.Appendf(text, ", first received at %.3fs", f.first.Sub(o.began).Seconds())
	}
	return string(text)
}

// andNextLocked is historyLocked of an event and of the one behind it, which may be why the first did not come.
func (o *oracle) andNextLocked(f *fact) string {
	text := o.historyLocked(f)
	if next := f.seq + 1; next < len(f.trip.facts) {
		text += "; " + o.historyLocked(f.trip.facts[next])
	}
	return text
}

// tripHistoryLocked says what is known about the events of a trip up to one of them, for a breach.
func (o *oracle) tripHistoryLocked(until *fact) string {
	if until == nil {
		return "of an unknown trip"
	}
	var all []string
	for _, f := range until.trip.facts[:until.seq+1] {
		all = append(all, o.historyLocked(f))
	}
	return strings.Join(all, "; ")
}

// lastOfLocked is tripHistoryLocked up to a trip's last event.
func (o *oracle) lastOfLocked(trip string) string {
	t := o.trips[trip]
	if t == nil {
		return "of an unknown trip"
	}
	return o.historyLocked(t.facts[len(t.facts)-1])
}

// forget drops what no connection that is judged later can have received.
func (o *oracle) forget(before time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for c := range o.open {
		if c.begins().Before(before) {
			before = c.begins()
		}
	}
	for _, c := range o.closed {
		if c.begins().Before(before) {
			before = c.begins()
		}
	}
	for id, t := range o.trips {
		if last := t.facts[len(t.facts)-1]; last.at.Before(before) {
			for _, f := range t.facts {
				delete(o.facts, f.id)
			}
			delete(o.trips, id)
			o.forgotten[id] = forgotten{t.passenger, t.driver, o.endMaybeUnknownLocked(id)}
		}
	}
	for who, facts := range o.heard {
		kept := facts[:0:0]
		for _, f := range facts {
			if o.facts[f.id] != nil {
				kept = append(kept, f)
			}
		}
		o.heard[who] = kept
	}
}

func (o *oracle) forgotLocked(trip string) bool {
	_, forgot := o.forgotten[trip]
	return forgot
}
