// Queries: what the page asks for, collected from all nodes.

package realtimeadmin

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/rodando/realtime"
)

// from says which nodes an answer to the page is from.
type from struct {
	Nodes  []nodeName `json:"nodes"`  // those that have answered; this node is the first
	Silent []nodeName `json:"silent"` // those that have not
	Failed []nodeName `json:"failed"` // those whose answer lacks something
	More   bool       `json:"more"`   // there is more than what is shown
}

func fromNodes(answers []answer, silent []nodeName) from {
	f := from{Nodes: []nodeName{}, Silent: append([]nodeName{}, silent...), Failed: []nodeName{}}
	for _, a := range answers {
		f.Nodes = append(f.Nodes, a.Node)
		if a.Failed {
			f.Failed = append(f.Failed, a.Node)
		}
		f.More = f.More || a.More
	}
	return f
}

// overview is what the page shows without being asked for more.
type overview struct {
	from
	Reports []*nodeReport `json:"reports"` // of Nodes; null for one that has failed
}

func (v *View) overview(ctx context.Context, rt *realtime.Server) any {
	answers, silent := v.ask(ctx, rt, question{Kind: askOverview})
	o := overview{from: fromNodes(answers, silent), Reports: []*nodeReport{}}
	for _, a := range answers {
		o.Reports = append(o.Reports, a.Report)
	}
	return o
}

// userView is what a user has open, and has done.
type userView struct {
	from
	ID      string         `json:"id"`
	Partial bool           `json:"partial"` // sockets may be missing
	Sockets []socketReport `json:"sockets"`
	Entries []entry        `json:"entries"`
}

// user asks the nodes twice: the views, which know what the user did, and the servers, among which may
// be some without a view.
func (v *View) user(ctx context.Context, rt *realtime.Server, id string) any {
	all := make(chan userView, 1)
	go func() {
		var u userView
		defer func() { all <- u }()
		defer v.recovered(&u.Partial)
		u.Sockets, u.More, u.Partial = v.socketsOf(ctx, rt, id, false)
	}()
	answers, silent := v.ask(ctx, rt, question{Kind: askUser, ID: id})
	rest := <-all
	u := userView{from: fromNodes(answers, silent), ID: id, Partial: rest.Partial, Sockets: []socketReport{}}
	known := map[string]bool{}
	for _, a := range answers {
		for _, s := range a.Sockets {
			if !known[s.ID] {
				known[s.ID] = true
				s.Node = a.Node.shown()
				u.Sockets = append(u.Sockets, s)
			}
		}
	}
	for _, s := range rest.Sockets {
		if !known[s.ID] {
			u.Sockets = append(u.Sockets, s)
		}
	}
	u.More = u.More || rest.More || len(u.Sockets) > maxSockets
	u.Sockets = u.Sockets[:min(len(u.Sockets), maxSockets)]
	u.Entries, _ = merged(answers, maxEntries/5)
	return u
}

// recovered turns a panic into a log line and true.
func (v *View) recovered(failed *bool) {
	if p := recover(); p != nil {
		v.log.Error("realtimeadmin: panic", "error", p)
		*failed = true
	}
}

func (n nodeName) shown() string { return cmp.Or(n.Name, n.ID) }

// merged returns the entries of answers by time, the newest ones up to a number of them.
func merged(answers []answer, most int) (all []entry, more bool) {
	all = []entry{}
	for _, a := range answers {
		for _, e := range a.Entries {
			e.Node = a.Node.shown()
			all = append(all, e)
		}
	}
	slices.SortStableFunc(all, func(a, b entry) int { return a.Time.Compare(b.Time) })
	cut := max(0, len(all)-most)
	return all[cut:], cut > 0
}

// timelineView is what was delivered of a trip, and what its people did meanwhile.
type timelineView struct {
	from
	ID      string  `json:"id"`
	Entries []entry `json:"entries"`
}

// before and after are how much earlier and later than its events the people of a trip are looked at.
const (
	before = time.Minute
	after  = 2 * time.Minute
)

func (v *View) timeline(ctx context.Context, rt *realtime.Server, id string) any {
	half, cancel := context.WithTimeout(ctx, v.opts.Timeout/2)
	defer cancel()
	answers, silent := v.ask(half, rt, question{Kind: askTimeline, ID: id})
	t := timelineView{from: fromNodes(answers, silent), ID: id}
	entries, more := merged(answers, maxEntries)
	if len(entries) > 0 {
		users, audiences := peopleOf(entries)
		q := question{Kind: askMeanwhile, Users: users, Audiences: audiences, Since: entries[0].Time.Add(-before), Until: entries[len(entries)-1].Time.Add(after)}
		others, _ := v.ask(ctx, rt, q)
		meanwhile, moreOfThem := merged(others, maxEntries)
		entries, more = append(entries, withoutDelivered(meanwhile, entries)...), more || moreOfThem
		slices.SortStableFunc(entries, func(a, b entry) int { return a.Time.Compare(b.Time) })
	}
	t.Entries, t.More = entries, t.More || more
	return t
}

// peopleOf returns the driver and the passenger of a trip, as its events were addressed, and the audiences
// of these events.
func peopleOf(entries []entry) (users, audiences []string) {
	addTo := func(list *[]string, text string) {
		if len(*list) < maxPeople && !slices.Contains(*list, text) {
			*list = append(*list, text)
		}
	}
	for _, e := range entries {
		for _, a := range e.To {
			addTo(&audiences, a.Audience)
			for _, prefix := range [...]string{realtime.NamespaceDrivers + " driver:", realtime.NamespacePassengers + " passenger:"} {
				if id, ok := strings.CutPrefix(a.Audience, prefix); ok {
					addTo(&users, id)
				}
			}
		}
	}
	return users, audiences
}

// withoutDelivered returns entries without the emissions that are part of a delivery: its node has
// reported both.
func withoutDelivered(entries, delivered []entry) []entry {
	type emission struct{ node, event, audience string }
	known := map[emission]bool{}
	events := map[string]bool{}
	for _, e := range delivered {
		for _, a := range e.To {
			events[a.Event] = true
			if a.Receivers > 0 {
				known[emission{e.Node, a.Event, a.Audience}] = true
			}
		}
	}
	return slices.DeleteFunc(entries, func(e entry) bool {
		if e.Kind != kindEmitted {
			return false
		}
		to := e.To[0]
		return !events[to.Event] || known[emission{e.Node, to.Event, to.Audience}]
	})
}
