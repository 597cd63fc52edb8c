// A list of what has happened, bounded by its size in memory.

package realtimeadmin

import "time"

// Kinds of entries.
const (
	kindDelivered    = "delivered"    // a domain event was emitted to its audiences
	kindOutdated     = "outdated"     // it was not emitted, or only to admins: something newer is known
	kindUnaddressed  = "unaddressed"  // it was not emitted to Who
	kindEmitted      = "emitted"      // an event of another node was emitted to sockets of this one
	kindCall         = "call"         // a client's event was acknowledged with Code
	kindConnected    = "connected"    // a socket has connected
	kindRefused      = "refused"      // a CONNECT was refused with Code
	kindDisconnected = "disconnected" // a socket has ended, for Reason
	kindSlow         = "slow"         // a client read too slowly and was disconnected
)

// entry is one line of a timeline.
type entry struct {
	Time       time.Time  `json:"time"`
	Node       string     `json:"node,omitempty"` // set where answers are collected
	Kind       string     `json:"kind"`
	Event      string     `json:"event,omitempty"`
	EventID    string     `json:"eventId,omitempty"`
	AgeMS      float64    `json:"ageMs,omitempty"` // from the publication
	To         []audience `json:"to,omitempty"`
	Who        string     `json:"who,omitempty"` // passenger or driver
	Namespace  string     `json:"namespace,omitempty"`
	Socket     string     `json:"socket,omitempty"`
	User       string     `json:"user,omitempty"`
	Transport  string     `json:"transport,omitempty"`
	Code       string     `json:"code,omitempty"`
	Reason     string     `json:"reason,omitempty"`
	DurationMS float64    `json:"durationMs,omitempty"`
	Messages   int        `json:"messages,omitempty"` // unsent
	Bytes      int        `json:"bytes,omitempty"`    // likewise

	key string // of the domain event
}

// audience is a part of the receivers of an event.
type audience struct {
	Event      string `json:"event"`
	Audience   string `json:"audience"`
	Receivers  int    `json:"receivers"` // sockets of the node
	OtherNodes bool   `json:"otherNodes,omitempty"`
}

// size returns about how much memory the entry takes. Texts that are constants count too.
func (e *entry) size() int {
	n := 320 + len(e.Event) + len(e.EventID) + len(e.Namespace) + len(e.Socket) + len(e.User) + len(e.key)
	for _, a := range e.To {
		n += 64 + len(a.Event) + len(a.Audience)
	}
	return n
}

// ring holds the newest entries. Its methods must not be called concurrently.
type ring struct {
	most  int // bytes
	bytes int
	list  []entry // the entries from first on, the oldest first
	first int
}

// add appends an entry, and drops the oldest ones beyond the ring's size.
func (r *ring) add(e entry) {
	r.list = append(r.list, e)
	for r.bytes += e.size(); r.bytes > r.most && r.first < len(r.list); r.first++ {
		r.bytes -= r.list[r.first].size()
		r.list[r.first] = entry{}
	}
	if r.first > 64 && r.first > len(r.list)/2 {
		r.list = append(make([]entry, 0, 2*(len(r.list)-r.first)), r.list[r.first:]...)
		r.first = 0
	}
}

// newest returns the newest entries that match, up to a number of them, the oldest first. more
// says that there are others.
func (r *ring) newest(most int, matches func(e *entry) bool) (found []entry, more bool) {
	for i := len(r.list) - 1; i >= r.first; i-- {
		if !matches(&r.list[i]) {
			continue
		}
		if len(found) == most {
			more = true
			break
		}
		found = append(found, r.list[i])
	}
	for i, j := 0, len(found)-1; i < j; i, j = i+1, j-1 {
		found[i], found[j] = found[j], found[i]
	}
	return found, more
}
