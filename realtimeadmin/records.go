// Records: what Trace has reported to this node.

package realtimeadmin

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rodando/realtime"
)

// records is what the view remembers of a node. Its methods may be called concurrently.
type records struct {
	hostRooms bool

	mu       sync.Mutex // guards the fields below
	domain   ring       // domain events
	activity ring       // what users did, and what was emitted to their rooms
	slow     ring       // slow consumers
	refused  map[refusal]*count
	dropped  uint64 // calls of Trace that are missing here
}

// refusal is a reason to refuse something.
type refusal struct{ kind, reason, namespace string }

// Kinds of refusals.
const (
	refusedRequest = "request" // an HTTP request or a connection
	refusedConnect = "connect" // a CONNECT
	refusedLimit   = "limit"
)

// recentMinutes is how many minutes count as recent.
const recentMinutes = 10

// count counts refusals, in total and by minute.
type count struct {
	total  uint64
	last   time.Time
	minute [recentMinutes]struct {
		of int64 // since 1970
		n  uint64
	}
}

func (c *count) add(now time.Time) {
	c.total++
	c.last = now
	of := now.Unix() / 60
	m := &c.minute[of%recentMinutes]
	if m.of != of {
		m.of, m.n = of, 0
	}
	m.n++
}

func (c *count) recent(now time.Time) (n uint64) {
	for _, m := range c.minute {
		if now.Unix()/60-m.of < recentMinutes {
			n += m.n
		}
	}
	return n
}

// maxSlow is the number of bytes for slow consumers, and maxRefusals the number of reasons to refuse;
// those of the library, by namespace, are fewer.
const (
	maxSlow     = 64 << 10
	maxRefusals = 4096
)

func newRecords(o Options) *records {
	return &records{
		hostRooms: o.HostRooms, refused: map[refusal]*count{},
		domain: ring{most: o.Memory / 2}, activity: ring{most: o.Memory / 2}, slow: ring{most: maxSlow},
	}
}

// Trace returns the functions that record what happens, for Options.Trace of the server that is passed to
// Watch.
func (v *View) Trace() *realtime.Trace {
	r := v.records
	return &realtime.Trace{
		RequestFailed: func(_ context.Context, i realtime.RequestFailedInfo) {
			r.refuse(refusal{refusedRequest, string(i.Reason), ""})
		},
		Connected: func(_ context.Context, i realtime.ConnectedInfo) {
			r.act(about(kindConnected, i.SocketInfo, entry{DurationMS: ms(i.Duration)}))
		},
		Refused: func(_ context.Context, i realtime.RefusedInfo) {
			r.refuse(refusal{refusedConnect, resultOf(i.Code), i.Namespace})
			r.act(about(kindRefused, i.SocketInfo, entry{Code: resultOf(i.Code), DurationMS: ms(i.Duration)}))
		},
		Disconnected: func(_ context.Context, i realtime.DisconnectedInfo) {
			r.act(about(kindDisconnected, i.SocketInfo, entry{Reason: string(i.Reason)}))
		},
		Handled: func(_ context.Context, i realtime.HandledInfo) {
			if i.Event != "" && !locations[i.Event] {
				r.act(about(kindCall, i.SocketInfo, entry{Event: i.Event, Code: resultOf(i.Code), DurationMS: ms(i.Duration)}))
			}
		},
		Emitted: func(_ context.Context, i realtime.EmittedInfo) {
			if to := i.Audience.String(); concernsTrip(i.Namespace, to) && !locations[i.Event] {
				r.act(about(kindEmitted, i.SocketInfo, entry{
					Event: clip(i.Event, maxName), To: []audience{{clip(i.Event, maxName), r.shownAudience(to), i.Receivers, false}},
				}))
			}
		},
		Limited: func(_ context.Context, i realtime.LimitInfo) {
			r.refuse(refusal{refusedLimit, string(i.Limit), i.Namespace})
			if i.Limit == realtime.LimitOutbox {
				r.slowConsumer(about(kindSlow, i.SocketInfo, entry{Messages: i.OutboxMessages, Bytes: i.OutboxBytes}))
			}
		},
		Delivered: func(_ context.Context, i realtime.DeliveredInfo) { r.delivered(i) },
		Outdated: func(_ context.Context, i realtime.OutdatedInfo) {
			r.happened(domainEntry(kindOutdated, i.DomainInfo, i.TripID))
		},
		Unaddressed: func(_ context.Context, i realtime.UnaddressedInfo) {
			e := domainEntry(kindUnaddressed, i.DomainInfo, i.TripID)
			e.Who = i.Who
			r.happened(e)
		},
		TraceDropped: func(_ context.Context, i realtime.TraceDroppedInfo) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.dropped += uint64(max(0, i.Calls))
		},
	}
}

// locations are events that come every second: those of a minute would fill the memory.
var locations = map[string]bool{
	(realtime.DriverLocationChanged{}).EventName(): true, realtime.DriverLocationPing.Name(): true,
	realtime.EventDriverLocation.Name(): true, realtime.EventAdminDriverLocation.Name(): true, realtime.EventTripDriverLocation.Name(): true,
}

// concernsTrip reports whether an emission may be part of the delivery of a trip's event.
func concernsTrip(namespace, audience string) bool {
	rooms := strings.TrimPrefix(audience, namespace+" ")
	return strings.HasPrefix(rooms, "driver:") || strings.HasPrefix(rooms, "passenger:") || strings.Contains(rooms, "trip:")
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// about returns e with the kind, the time, and the socket that it is about.
func about(kind string, s realtime.SocketInfo, e entry) entry {
	e.Kind, e.Time = kind, time.Now()
	e.Namespace, e.Socket, e.User, e.Transport = s.Namespace, clip(s.SocketID, maxName), clip(s.UserID, maxName), string(s.Transport)
	return e
}

func domainEntry(kind string, i realtime.DomainInfo, tripID string) entry {
	return entry{
		Time: time.Now(), Kind: kind, Event: clip(i.Event, maxName), EventID: clip(i.ID, maxName), key: clip(cmp.Or(tripID, i.Key), maxName),
	}
}

// maxAudiences is how many audiences of an event are remembered. Those of the library have fewer.
const maxAudiences = 16

func (r *records) delivered(i realtime.DeliveredInfo) {
	if locations[i.Event] {
		return
	}
	e := domainEntry(kindDelivered, i.DomainInfo, "")
	e.AgeMS = max(0, ms(i.Age))
	for _, a := range i.Audiences[:min(len(i.Audiences), maxAudiences)] {
		e.To = append(e.To, audience{clip(a.Event, maxName), r.shownAudience(a.Audience), a.Receivers, a.OtherNodes})
	}
	r.happened(e)
}

func (r *records) happened(e entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.domain.add(e)
}

// act records what a user did. What nobody knows the user of is in no timeline.
func (r *records) act(e entry) {
	if e.User == "" && e.Kind != kindEmitted {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.activity.add(e)
}

func (r *records) slowConsumer(e entry) {
	r.act(e)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.slow.add(e)
}

func (r *records) refuse(why refusal) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.refused[why]
	if c == nil {
		if len(r.refused) >= maxRefusals {
			return
		}
		c = &count{}
		r.refused[why] = c
	}
	c.add(now)
}

// refusalReport is how often something was refused for a reason.
type refusalReport struct {
	Kind      string    `json:"kind"`
	Reason    string    `json:"reason"`
	Namespace string    `json:"namespace,omitempty"`
	Total     uint64    `json:"total"`
	Recent    uint64    `json:"recent"` // in the last ten minutes
	Last      time.Time `json:"last"`
}

// The maximum number of entries in the answer of a node.
const (
	maxEntries    = 500
	shownSlow     = 50
	shownRefusals = 200
)

// summary returns the slow consumers and the refusals, the most frequent first.
func (r *records) summary() (slow []entry, refusals []refusalReport, dropped uint64) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	slow, _ = r.slow.newest(shownSlow, func(*entry) bool { return true })
	slices.Reverse(slow)
	for why, c := range r.refused {
		refusals = append(refusals, refusalReport{why.kind, why.reason, why.namespace, c.total, c.recent(now), c.last})
	}
	slices.SortFunc(refusals, func(a, b refusalReport) int {
		return cmp.Or(cmp.Compare(b.Recent, a.Recent), cmp.Compare(b.Total, a.Total), strings.Compare(a.Kind, b.Kind),
			strings.Compare(a.Reason, b.Reason), strings.Compare(a.Namespace, b.Namespace))
	})
	return slow, refusals[:min(len(refusals), shownRefusals)], r.dropped
}

// ofKey returns the domain events of a key: of a trip, a driver or a user.
func (r *records) ofKey(key string) (found []entry, more bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.domain.newest(maxEntries, func(e *entry) bool { return e.key == key })
}

// meanwhile returns what users did in a period, and what was emitted to audiences.
func (r *records) meanwhile(users, audiences []string, since, until time.Time) (found []entry, more bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.activity.newest(maxEntries, func(e *entry) bool {
		if e.Time.Before(since) || e.Time.After(until) {
			return false
		}
		if e.Kind == kindEmitted {
			return slices.Contains(audiences, e.To[0].Audience)
		}
		return slices.Contains(users, e.User)
	})
}
