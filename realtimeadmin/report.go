// Reports: what a node says about itself.

package realtimeadmin

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/rodando/realtime"
)

// nodeReport describes a node at one time.
type nodeReport struct {
	Time            time.Time         `json:"time"`
	Ready           bool              `json:"ready"` // Server.Check returns nil
	Namespaces      []namespaceReport `json:"namespaces"`
	Connections     int               `json:"connections"`
	Unauthenticated int               `json:"unauthenticated"`
	Handshakes      int               `json:"handshakes"`
	OutboxMessages  int               `json:"outboxMessages"`
	OutboxBytes     int               `json:"outboxBytes"`
	LargestOutbox   int               `json:"largestOutbox"`
	Dropped         uint64            `json:"dropped"`
	Replaced        uint64            `json:"replaced"`
	Abandoned       map[string]int    `json:"abandoned"` // without zeros
	Adapter         *adapterReport    `json:"adapter,omitempty"`
	Slow            []entry           `json:"slow"`
	Refusals        []refusalReport   `json:"refusals"`
	TraceDropped    uint64            `json:"traceDropped"`

	node  nodeName
	peers []nodeName
}

type namespaceReport struct {
	Name      string `json:"name"`
	Polling   int    `json:"polling"`
	WebSocket int    `json:"websocket"`
	Rooms     int    `json:"rooms"`
}

type adapterReport struct {
	ProbeAgeMS float64 `json:"probeAgeMs"`
	WaitMS     float64 `json:"waitMs"`
	Incoming   int     `json:"incoming"`
	Outgoing   int     `json:"outgoing"`
	Lost       uint64  `json:"lost"`
}

// socketReport describes a socket.
type socketReport struct {
	ID         string    `json:"id"`
	Node       string    `json:"node,omitempty"` // empty: a node without a View
	Namespace  string    `json:"namespace"`
	Session    string    `json:"session"`
	Rooms      []string  `json:"rooms"`
	OtherRooms int       `json:"otherRooms"` // those that are not shown
	Connecting bool      `json:"connecting,omitempty"`
	Since      time.Time `json:"since,omitzero"`
}

// The maximum number of sockets of a user, of rooms of a socket and of people of a trip that are shown.
const (
	maxSockets = 100
	maxRooms   = 100
	maxPeople  = 32
)

// sampleAge is for how long a sample of the server is used: it visits every connection.
const sampleAge = time.Second

// sampleOf returns numbers about the server that are at most a second old.
func (v *View) sampleOf(rt *realtime.Server) nodeReport {
	v.sampling.Lock()
	defer v.sampling.Unlock()
	now := time.Now()
	if !v.sampled.IsZero() && now.Sub(v.sampled) < sampleAge {
		return v.sample
	}
	st := rt.Stats()
	n := nodeReport{
		Time: now, Unauthenticated: st.Unauthenticated, Handshakes: st.Handshakes,
		OutboxMessages: st.Outbox.Messages, OutboxBytes: st.Outbox.Bytes, LargestOutbox: st.Outbox.Largest,
		Dropped: st.Outbox.Dropped, Replaced: st.Outbox.Replaced, Abandoned: map[string]int{}, node: nodeName{Name: "this node"},
	}
	for _, ns := range st.Namespaces {
		n.Namespaces = append(n.Namespaces, namespaceReport{
			ns.Name, ns.Sockets[realtime.TransportPolling], ns.Sockets[realtime.TransportWebSocket], ns.Rooms,
		})
	}
	for _, connections := range st.Connections {
		n.Connections += connections
	}
	for call, abandoned := range st.Abandoned {
		if abandoned > 0 {
			n.Abandoned[string(call)] = abandoned
		}
	}
	if a := st.Adapter; a == nil && v.sample.node.ID != "" { // it does not answer now: the nodes are those that it knew
		n.node, n.peers = v.sample.node, v.sample.peers
	} else if a != nil {
		n.Adapter = &adapterReport{ms(a.ProbeAge), ms(a.Wait), a.Incoming, a.Outgoing, a.Lost}
		if a.Node.ID != "" {
			n.node = nameOf(a.Node)
		}
		for _, p := range a.Peers {
			n.peers = append(n.peers, nameOf(p))
		}
	}
	v.sample, v.sampled = n, now
	return n
}

func nameOf(p realtime.Peer) nodeName {
	return nodeName{clip(p.ID, maxName), clip(p.Name, maxName)}
}

// nodeOf returns this node as the others know it.
func (v *View) nodeOf(rt *realtime.Server) nodeName { return v.sampleOf(rt).node }

// peersOf returns the other nodes.
func (v *View) peersOf(rt *realtime.Server) []nodeName { return slices.Clone(v.sampleOf(rt).peers) }

// answer returns what this node knows.
func (v *View) answer(ctx context.Context, rt *realtime.Server, q question) (a answer) {
	switch q.Kind {
	case askOverview:
		report := v.sampleOf(rt)
		check, cancel := context.WithTimeout(ctx, v.opts.Timeout/2)
		defer cancel()
		report.Ready = rt.Check(check) == nil
		report.Slow, report.Refusals, report.TraceDropped = v.records.summary()
		a.Report = &report
	case askUser:
		if validID(q.ID) {
			a.Sockets, a.More, a.Failed = v.socketsOf(ctx, rt, q.ID, true)
			a.Entries, _ = v.records.meanwhile([]string{q.ID}, nil, time.Time{}, time.Now())
		}
	case askTimeline:
		if validID(q.ID) {
			a.Entries, a.More = v.records.ofKey(q.ID)
		}
	case askMeanwhile:
		a.Entries, a.More = v.records.meanwhile(q.Users, q.Audiences, q.Since, q.Until)
	}
	return a
}

// socketsOf returns the sockets of a user, of this node or of all. failed says that some may be missing.
func (v *View) socketsOf(ctx context.Context, rt *realtime.Server, userID string, local bool) (found []socketReport, more, failed bool) {
	for _, name := range v.sampleOf(rt).Namespaces {
		ns := rt.Of(name.Name)
		if ns == nil {
			continue
		}
		selected := ns.To(ownRoom(name.Name, userID))
		if local {
			selected = selected.Local()
		}
		sockets, err := selected.SocketsPage(ctx, "", maxSockets+1)
		failed = failed || err != nil
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			v.log.Warn("realtimeadmin: sockets not found", "namespace", name.Name, "error", err)
		}
		for _, s := range sockets {
			if len(found) == maxSockets {
				return found, true, failed
			}
			found = append(found, v.socketOf(s))
		}
	}
	return found, false, failed
}

// ownRoom is the room of a user's sockets in a namespace.
func ownRoom(namespace, userID string) realtime.Room {
	switch namespace {
	case realtime.NamespaceDrivers:
		return realtime.DriverRoom(userID)
	case realtime.NamespacePassengers:
		return realtime.PassengerRoom(userID)
	case realtime.NamespaceAdmin:
		return realtime.AdminUserRoom(userID)
	}
	return realtime.UserRoom(userID)
}

func (v *View) socketOf(s realtime.RemoteSocket) socketReport {
	r := socketReport{
		ID: clip(s.ID, maxName), Namespace: clip(s.Namespace, maxName), Session: clip(s.Identity.SessionID, maxName), Connecting: s.Connecting,
		Rooms: []string{},
	}
	if s.ConnectedAt > 0 {
		r.Since = time.UnixMicro(s.ConnectedAt).UTC()
	}
	for _, room := range s.Rooms {
		switch name := room.String(); {
		case len(r.Rooms) == maxRooms || !v.opts.HostRooms && !isOwn(name):
			r.OtherRooms++
		default:
			r.Rooms = append(r.Rooms, clip(name, maxName))
		}
	}
	slices.SortFunc(r.Rooms, strings.Compare)
	return r
}
