// The conformance suite for adapters. Each sentence of the documentation of Adapter and
// Node is a test: first with recorders in place of nodes, then with servers and clients.

package realtimetest

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rodando/realtime"
)

// TestAdapter checks that an adapter does what realtime.Adapter promises.
// newCluster returns the adapters of n nodes of a new cluster, which must not receive
// messages of other clusters. They must not be started yet; the suite starts and closes
// them.
func TestAdapter(t *testing.T, newCluster func(t *testing.T, n int) []realtime.Adapter) {
	t.Helper()
	for name, test := range map[string]struct {
		nodes int
		run   func(t *testing.T, c *cluster)
	}{
		"messages reach every other node once and whole": {3, testAdapterDelivers},
		"order is kept per pair and namespace":           {3, testAdapterOrder},
		"Publish does not wait for a slow node":          {3, testAdapterSlowNode},
		"nodes share no memory":                          {3, testAdapterMemory},
		"a node that panics harms no other":              {3, testAdapterPanic},
		"a request collects the answers of all":          {3, testAdapterRequest},
		"a count is a number, a page has a limit":        {3, testAdapterCounts},
		"every other node replies to a server's ask":     {3, testAdapterServerAsk},
		"a request follows what was published before it": {2, testAdapterRequestOrder},
		"requests at once keep their answers apart":      {3, testAdapterRequests},
		"a request ends with its ctx":                    {3, testAdapterRequestTimeout},
		"one node is a cluster":                          {1, testAdapterAlone},
		"Check is green until Close":                     {2, testAdapterCheck},
		"nodes know their peers":                         {3, testAdapterPeers},
		"one node is first with a claim":                 {3, testAdapterClaim},
		"all nodes see the value of a call":              {3, testAdapterCalls},
		"Start is refused to a second server":            {2, testAdapterStart},
		"Close ends a node's part":                       {3, testAdapterClose},
		"a node that closes answers a server's ask":      {3, testAdapterCloseAsked},
		"Close may come at any moment":                   {3, testAdapterCloseBusy},
		"rooms may come and go at any moment":            {2, testAdapterRooms},
	} {
		t.Run(name, func(t *testing.T) { test.run(t, startCluster(t, newCluster(t, test.nodes))) })
	}
	for name, test := range map[string]func(t *testing.T, a, b *Server){
		"servers/broadcasts":            testServersBroadcast,
		"servers/rooms and sockets":     testServersRooms,
		"servers/disconnects":           testServersDisconnect,
		"servers/queries":               testServersAsk,
		"servers/a trip":                testServersTrip,
		"servers/a revocation":          testServersRevocation,
		"servers/listeners to a server": testServersEmit,
	} {
		t.Run(name, func(t *testing.T) {
			servers := startServers(t, newCluster(t, 2), nil)
			test(t, servers[0], servers[1])
		})
	}
}

// The namespaces and rooms of the suite's messages. Every node has all of them.
var (
	suiteNamespaces = []string{"/drivers", "/own"}
	suiteRooms      = []string{"driver:1", "trip:ñ 1", "session:s1"}
)

// cluster is a cluster whose nodes are recorders.
type cluster struct {
	adapters []realtime.Adapter
	nodes    []*recorder
}

// recorder is a node that records the messages delivered to it.
type recorder struct {
	mu      sync.Mutex                      // guards the fields below
	deliver func(m realtime.ClusterMessage) // called with each message before it is recorded; may be nil
	answer  func(ctx context.Context, m realtime.ClusterMessage, answer func(realtime.ClusterAnswer))
	got     []realtime.ClusterMessage
	rooms   map[string]bool // nil: it has every room
	warmed  map[string]bool
	peers   map[string]peerState
}

// warmUp is an event that is sent until it arrives.
const warmUp = "realtimetest:warm"

func (r *recorder) Deliver(m realtime.ClusterMessage) {
	if name := eventName(m); strings.HasPrefix(name, warmUp) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.warmed[name] = true
		return
	}
	if f := r.onDeliverFunc(); f != nil {
		f(m)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, m)
}

// Receiving, Gap and OnlyPeers implement realtime.Node: an adapter may call them at any time.
func (r *recorder) Receiving(error) {}

// Gap implements realtime.Node.
func (r *recorder) Gap(realtime.Gap) {}

// PeerJoined implements realtime.Node.
func (r *recorder) PeerJoined(p realtime.Peer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.peers == nil {
		r.peers = map[string]peerState{}
	}
	r.peers[p.ID] = peerPresent
}

// PeerLost implements realtime.Node.
func (r *recorder) PeerLost(p realtime.Peer, died bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.peers[p.ID] != peerPresent {
		r.peers[p.ID] = peerUnknown
		return
	}
	r.peers[p.ID] = map[bool]peerState{true: peerDied, false: peerLeft}[died]
}

// OnlyPeers implements realtime.Node.
func (r *recorder) OnlyPeers(bool) {}

// peerState is what a node knows about another one.
type peerState string

const (
	peerPresent peerState = "present"
	peerLeft    peerState = "left"
	peerDied    peerState = "died"
	peerUnknown peerState = "lost without having joined"
)

// peersIn returns the ids of the nodes in that state.
func (r *recorder) peersIn(state peerState) (ids []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, s := range r.peers {
		if s == state {
			ids = append(ids, id)
		}
	}
	return ids
}

func (r *recorder) onDeliverFunc() func(realtime.ClusterMessage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.deliver
}

func (r *recorder) onDeliver(f func(realtime.ClusterMessage)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.deliver = f
}

func (r *recorder) onAnswer(f func(context.Context, realtime.ClusterMessage, func(realtime.ClusterAnswer))) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = f
}

func (r *recorder) Answer(ctx context.Context, m realtime.ClusterMessage, answer func(realtime.ClusterAnswer)) {
	r.mu.Lock()
	f := r.answer
	r.mu.Unlock()
	if f != nil {
		f(ctx, m, answer)
	}
}

func (r *recorder) HasRoom(_, room string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rooms == nil || r.rooms[room]
}

func (r *recorder) all() []realtime.ClusterMessage {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

func (r *recorder) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.got)
}

func (r *recorder) isWarm(event string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.warmed[event]
}

// eventName returns the name of a message's event, or "" if it has none.
func eventName(m realtime.ClusterMessage) (name string) {
	if m.Event != nil && len(m.Event.Args) > 0 {
		_ = json.Unmarshal(m.Event.Args[0], &name) // without a name it is empty
	}
	return name
}

// broadcast returns a message with the number of its sender and a sequence number.
func broadcast(namespace string, from, n int) realtime.ClusterMessage {
	return realtime.ClusterMessage{
		Version: realtime.ClusterVersion, Op: realtime.OpBroadcast, Namespace: namespace, Rooms: suiteRooms[:1],
		Event: &realtime.Raw{Args: []json.RawMessage{json.RawMessage(`"test"`), fmt.Appendf(nil, "[%d,%d]", from, n)}},
	}
}

// numbers returns the two numbers of a message made by broadcast.
func numbers(t *testing.T, m realtime.ClusterMessage) (from, n int) {
	t.Helper()
	var v [2]int
	if m.Event == nil || len(m.Event.Args) != 2 || json.Unmarshal(m.Event.Args[1], &v) != nil {
		t.Fatalf("got a message that no node sent: %s", asJSON(t, m))
	}
	return v[0], v[1]
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// canonical returns v as JSON with one form per number, since an adapter must keep
// a number's value but not its spelling: 1e3 may arrive as 1000.
func canonical(t *testing.T, v any) string {
	t.Helper()
	var value any
	if err := json.Unmarshal([]byte(asJSON(t, v)), &value); err != nil {
		t.Fatal(err)
	}
	return asJSON(t, value)
}

// startCluster starts nodes and waits until each receives the messages of every other,
// in each room of each namespace.
func startCluster(t *testing.T, adapters []realtime.Adapter) *cluster {
	t.Helper()
	c := &cluster{adapters: adapters}
	for i, a := range adapters {
		node := &recorder{warmed: map[string]bool{}}
		c.nodes = append(c.nodes, node)
		if err := a.Start(t.Context(), node); err != nil {
			t.Fatalf("Start of node %d: %v", i, err)
		}
		t.Cleanup(func() { c.close(t, i) })
		if w, ok := a.(realtime.RoomWatcher); ok {
			for _, ns := range suiteNamespaces {
				for _, room := range suiteRooms {
					w.RoomChanged(ns, room)
				}
			}
		}
	}
	for from := range adapters {
		for _, ns := range suiteNamespaces {
			for _, room := range suiteRooms {
				c.warm(t, from, ns, room)
			}
		}
	}
	return c
}

func (c *cluster) warm(t *testing.T, from int, namespace, room string) {
	t.Helper()
	name := fmt.Sprintf("%s %d %s %s", warmUp, from, namespace, room)
	m := realtime.ClusterMessage{Version: realtime.ClusterVersion, Op: realtime.OpBroadcast, Namespace: namespace, Rooms: []string{room}}
	m.Event = &realtime.Raw{Args: []json.RawMessage{json.RawMessage(asJSON(t, name))}}
	sent := time.Time{}
	eventually(t, fmt.Sprintf("all nodes receive from node %d in room %s of %s", from, room, namespace), func() bool {
		warm := true
		for i, n := range c.nodes {
			warm = warm && (i == from || n.isWarm(name))
		}
		if !warm && time.Since(sent) > 20*time.Millisecond {
			sent = time.Now()
			c.publish(t, from, m)
		}
		return warm
	})
}

func (c *cluster) publish(t *testing.T, from int, ms ...realtime.ClusterMessage) {
	t.Helper()
	for _, m := range ms {
		if err := c.adapters[from].Publish(t.Context(), m); err != nil {
			t.Fatalf("Publish of node %d: %v", from, err)
		}
	}
}

// request makes a request of node 0 and returns its answers, in any order.
func (c *cluster) request(t *testing.T, m realtime.ClusterMessage) []realtime.ClusterAnswer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var answers []realtime.ClusterAnswer
	if err := c.adapters[0].Request(ctx, m, func(a realtime.ClusterAnswer) { answers = append(answers, a) }); err != nil {
		t.Fatalf("Request of node 0: %v", err)
	}
	return answers
}

func (c *cluster) close(t *testing.T, i int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := c.adapters[i].Close(ctx); err != nil {
		t.Errorf("Close of node %d: %v", i, err)
	}
}

// fetch returns a request with a name in Except.
func fetch(name string) realtime.ClusterMessage {
	return realtime.ClusterMessage{Version: realtime.ClusterVersion, Op: realtime.OpFetchSockets, Namespace: suiteNamespaces[0], Rooms: suiteRooms[:1], Except: []string{name}}
}

// found returns an answer with a socket of that id.
func found(id string) realtime.ClusterAnswer {
	return realtime.ClusterAnswer{Socket: &realtime.RemoteSocket{
		ID: id, Namespace: suiteNamespaces[0], Rooms: []realtime.Room{realtime.DriverRoom("1"), realtime.TripRoom("ñ 1"), realtime.SessionRoom("s1")},
		Identity: realtime.Identity{UserID: "u" + id, UserType: realtime.UserDriver, SessionID: "s" + id},
	}}
}

func ids(answers []realtime.ClusterAnswer) []string {
	var ids []string
	for _, a := range answers {
		if a.Socket != nil {
			ids = append(ids, a.Socket.ID)
		}
	}
	slices.Sort(ids)
	return ids
}
