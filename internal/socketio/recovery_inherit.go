// Inheritance: a node that begins gets the log of another one.

package socketio

import (
	"encoding/json"
	"time"

	"github.com/rodando/realtime/internal/eventlog"
)

// KeptEvent is an event in the log of another node.
type KeptEvent struct {
	Replayed
	To            Target
	Mark          string
	Here, Unknown bool // see eventlog.Origin
	Ago           time.Duration
}

// Sent returns about how many bytes the event has when it is sent to another node, with its rooms.
func (e KeptEvent) Sent() int { return e.Size() + targetOf(e.To).Size() }

// LogState is what the log of a node knows, apart from its events. Periods are in milliseconds.
type LogState struct {
	AgeMS    int64      `json:"ageMs"`
	Known    []LogKnown `json:"known"`
	Unmarked bool       `json:"unmarked,omitempty"` // see eventlog.State
	DeafMS   int64      `json:"deafMs,omitempty"`   // likewise
}

// LogKnown is an eventlog.Known.
type LogKnown struct {
	Mark       string `json:"mark"`
	Floor      uint64 `json:"floor,omitempty"`
	FloorAgoMS int64  `json:"floorAgoMs,omitempty"`
	Lost       uint64 `json:"lost,omitempty"`
	LostAgoMS  int64  `json:"lostAgoMs,omitempty"`
	AgoMS      int64  `json:"agoMs,omitempty"`
	Lacks      bool   `json:"lacks,omitempty"`
	Gone       bool   `json:"gone,omitempty"`
	GoneAgoMS  int64  `json:"goneAgoMs,omitempty"`
}

// LogPage returns at most limit events of the log after a position, of about bytes together, and where the next page
// goes on. end is not nil at the end of the log.
func (n *Namespace) LogPage(after uint64, limit, bytes int) (events []KeptEvent, next uint64, end *LogState) {
	page, next, state := n.log.Page(after, limit, bytes)
	for _, e := range page {
		events = append(events, KeptEvent{
			Replayed: replayed(e.Event), Mark: e.Origin.String(), Here: e.Origin.Here, Unknown: e.Origin.Unknown, Ago: e.Ago,
			To: Target{All: e.To.Rooms == nil, Rooms: e.To.Rooms, Except: e.To.Except},
		})
	}
	if state == nil {
		return events, next, nil
	}
	end = &LogState{AgeMS: state.Age.Milliseconds(), Unmarked: state.Unmarked, DeafMS: state.Deaf.Milliseconds()}
	for _, k := range state.Known {
		end.Known = append(end.Known, LogKnown{k.Mark.String(), k.Floor, k.FloorAgo.Milliseconds(), k.Lost, k.LostAgo.Milliseconds(), k.Ago.Milliseconds(), k.Lacks, k.Gone, k.GoneAgo.Milliseconds()})
	}
	return events, next, end
}

// Inherits reports whether Inherit may still succeed.
func (n *Namespace) Inherits() bool { return n.log.Inherits() }

// Heritage is what has come so far of the log of another node. Of its events it keeps the newest, as many as this node may keep.
type Heritage struct {
	n  *Namespace
	of *eventlog.Heritage[[]*Message]
}

// Heritage returns an empty heritage for the log of the namespace.
func (n *Namespace) Heritage() *Heritage { return &Heritage{n, n.log.Heritage()} }

// Add adds the next events, if they are valid.
func (h *Heritage) Add(events []KeptEvent) (ok bool) {
	for _, e := range events {
		m, ok := eventlog.ParseMark(e.Mark)
		if !ok || !h.n.hasLabel(e.Replayed) || !e.To.All && len(e.To.Rooms) == 0 {
			return false
		}
		ms := EventMessages(h.n.name, NoID, e.Name, e.Args, e.Attachments)
		in := eventlog.Inherited[[]*Message]{Ago: e.Ago}
		in.Event, in.To, in.Load = ms, targetOf(e.To), loadOf(ms)
		in.Origin = eventlog.Origin{Mark: m, Here: e.Here, Unknown: e.Unknown}
		h.of.Add(in)
	}
	return true
}

// Inherit adds what has come to the log of the namespace, with what the other log knows. It reports whether that is valid,
// and fits.
func (h *Heritage) Inherit(s LogState) bool {
	state := eventlog.State{Age: ago(s.AgeMS), Unmarked: s.Unmarked, Deaf: ago(s.DeafMS)}
	for _, k := range s.Known {
		m, ok := eventlog.ParseMark(k.Mark)
		if !ok {
			return false
		}
		state.Known = append(state.Known, eventlog.Known{
			Mark: m, Floor: k.Floor, FloorAgo: ago(k.FloorAgoMS), Lost: k.Lost, LostAgo: ago(k.LostAgoMS), Ago: ago(k.AgoMS), Lacks: k.Lacks, Gone: k.Gone, GoneAgo: ago(k.GoneAgoMS),
		})
	}
	return h.of.Inherit(state, h.n.relabeled)
}

// relabeled returns an event of the log with another label.
func (n *Namespace) relabeled(ms []*Message, label string) []*Message {
	e := replayed(ms)
	if len(e.Args) == 0 || !n.hasLabel(e) {
		return ms // cannot happen: it has a label
	}
	e.Args[len(e.Args)-1] = json.RawMessage(JSONString(label))
	return EventMessages(n.name, NoID, e.Name, e.Args, e.Attachments)
}

// ago returns a period that another node has sent.
func ago(ms int64) time.Duration {
	return time.Duration(min(max(0, ms), time.Hour.Milliseconds())) * time.Millisecond
}
