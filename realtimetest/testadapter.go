// The conformance suite for adapters: each sentence of Adapter's and Node's
// documentation is a test, first with recorders in the place of nodes, then
// with servers and clients.

package realtimetest

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rodando/realtime"
)

// TestAdapter checks that an adapter does what realtime.Adapter promises.
// NewCluster makes the adapters of n nodes that have each other for a cluster
// and share nothing with other clusters. They are not started; the suite starts
// and closes them.
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
		"a request follows what was published before it": {2, testAdapterRequestOrder},
		"requests at once keep their answers apart":      {3, testAdapterRequests},
		"a request ends with its ctx":                    {3, testAdapterRequestTimeout},
		"one node is a cluster":                          {1, testAdapterAlone},
		"Close ends a node's part":                       {3, testAdapterClose},
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

// The namespaces and rooms that the suite's messages are about. All nodes have
// all of them.
var (
	suiteNamespaces = []string{"/drivers", "/own"}
	suiteRooms      = []string{"driver:1", "trip:ñ 1", "session:s1"}
)

// cluster is adapters with recorders for nodes.
type cluster struct {
	adapters []realtime.Adapter
	nodes    []*recorder
}

// recorder is a node that remembers what it is told.
//
// recorder.mu guards the fields below it.
type recorder struct {
	deliver func(m realtime.ClusterMessage) // called too, when set before the start
	answer  func(ctx context.Context, m realtime.ClusterMessage, answer func(realtime.ClusterAnswer))

	mu     sync.Mutex
	got    []realtime.ClusterMessage
	rooms  map[string]bool // nil: it has every room
	warmed map[string]bool
}

// warmUp is the name of an event that is sent until it arrives.
const warmUp = "realtimetest:warm"

func (r *recorder) Deliver(m realtime.ClusterMessage) {
	if name := eventName(m); strings.HasPrefix(name, warmUp) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.warmed[name] = true
		return
	}
	if f := r.behaviour(); f != nil {
		f(m)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, m)
}

func (r *recorder) behaviour() func(realtime.ClusterMessage) {
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

// eventName is the name of a message's event, empty when it has none.
func eventName(m realtime.ClusterMessage) (name string) {
	if m.Event != nil && len(m.Event.Args) > 0 {
		_ = json.Unmarshal(m.Event.Args[0], &name) // no name, then
	}
	return name
}

// broadcast makes a message that carries who sent it, and a number.
func broadcast(namespace string, from, n int) realtime.ClusterMessage {
	return realtime.ClusterMessage{
		Op: realtime.OpBroadcast, Namespace: namespace, Rooms: suiteRooms[:1],
		Event: &realtime.Raw{Args: []json.RawMessage{json.RawMessage(`"test"`), fmt.Appendf(nil, "[%d,%d]", from, n)}},
	}
}

// numbers are what broadcast put in.
func numbers(t *testing.T, m realtime.ClusterMessage) (from, n int) {
	t.Helper()
	var v [2]int
	if m.Event == nil || len(m.Event.Args) != 2 || json.Unmarshal(m.Event.Args[1], &v) != nil {
		t.Fatalf("got a message that nobody sent: %s", asJSON(t, m))
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

// startCluster starts nodes and waits until all of them hear each other, in
// each room of each namespace.
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
	m := realtime.ClusterMessage{Op: realtime.OpBroadcast, Namespace: namespace, Rooms: []string{room}}
	m.Event = &realtime.Raw{Args: []json.RawMessage{json.RawMessage(asJSON(t, name))}}
	sent := time.Time{}
	eventually(t, fmt.Sprintf("all nodes hear node %d in room %s of %s", from, room, namespace), func() bool {
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

// request returns the answers, in no order.
func (c *cluster) request(t *testing.T, from int, m realtime.ClusterMessage) []realtime.ClusterAnswer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var answers []realtime.ClusterAnswer
	if err := c.adapters[from].Request(ctx, m, func(a realtime.ClusterAnswer) { answers = append(answers, a) }); err != nil {
		t.Fatalf("Request of node %d: %v", from, err)
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

// fetch is a request that names itself.
func fetch(name string) realtime.ClusterMessage {
	return realtime.ClusterMessage{Op: realtime.OpFetchSockets, Namespace: suiteNamespaces[0], Rooms: suiteRooms[:1], Except: []string{name}}
}

// found is an answer that names a socket.
func found(id string) realtime.ClusterAnswer {
	return realtime.ClusterAnswer{Socket: &realtime.RemoteSocket{
		ID: id, Namespace: suiteNamespaces[0], Rooms: suiteRooms,
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

func testAdapterDelivers(t *testing.T, c *cluster) {
	raw := func(args ...string) *realtime.Raw {
		r := &realtime.Raw{}
		for _, a := range args {
			r.Args = append(r.Args, json.RawMessage(a))
		}
		return r
	}
	binary := raw(`"photo"`, `{"_placeholder":true,"num":0}`, `[{"_placeholder":true,"num":1}]`)
	binary.Attachments = [][]byte{{0, 1, 0x1e, 0xff, '\n'}, {}}
	const ns = "/drivers"
	a, b, s := suiteRooms[0], suiteRooms[1], suiteRooms[2]
	sent := []realtime.ClusterMessage{
		{Op: realtime.OpBroadcast, Namespace: ns, Event: raw(`"to:all"`)},
		{Op: realtime.OpBroadcast, Namespace: ns, Rooms: []string{a}, Event: raw(`"one"`, `{"text":"ñ 🚕 \u0000 \" \\"}`)},
		{Op: realtime.OpBroadcast, Namespace: ns, Rooms: []string{a, b}, Event: raw(`"two"`, `1`, `null`, `[1,[2]]`)},
		{Op: realtime.OpBroadcast, Namespace: ns, Except: []string{b}, Event: raw(`"all:but"`, `1e3`)},
		{Op: realtime.OpBroadcast, Namespace: ns, Rooms: []string{a, b, s}, Except: []string{"Qm9vbSwgYSBzb2NrZXQ_", "other"}, Event: raw(`"but"`)},
		{Op: realtime.OpBroadcast, Namespace: ns, Rooms: []string{b}, Volatile: true, Key: "driver:location:update1", Event: raw(`"volatile"`, `{"lat":23.13333333333333}`)},
		{Op: realtime.OpBroadcast, Namespace: ns, Rooms: []string{b}, Event: binary},
		{Op: realtime.OpBroadcast, Namespace: ns, Rooms: []string{a}, Event: raw(`"large"`, `"`+strings.Repeat("x", 512<<10)+`"`)},
		{Op: realtime.OpJoin, Namespace: ns, Rooms: []string{a}, Targets: []string{b, "trip:2"}},
		{Op: realtime.OpLeave, Namespace: ns, Rooms: []string{a}, Except: []string{b}, Targets: []string{b}},
		{Op: realtime.OpDisconnect, Namespace: ns, Rooms: []string{s}},
		{Op: realtime.OpDisconnect, Namespace: ns, Rooms: []string{s}, Close: true},
		{Op: realtime.OpServerEmit, Namespace: ns, Event: raw(`"server:event"`, `{"a":1}`, `"b"`)},
	}
	c.publish(t, 0, sent...)
	for i, node := range c.nodes[1:] {
		eventually(t, fmt.Sprintf("node %d gets %d messages", i+1, len(sent)), func() bool { return node.count() >= len(sent) })
	}
	// What node 1 says now comes to node 0 behind what node 0 would hear of itself.
	c.publish(t, 1, broadcast(ns, 1, 0))
	eventually(t, "node 0 hears node 1", func() bool { return c.nodes[0].count() > 0 })
	eventually(t, "node 2 hears node 1", func() bool { return c.nodes[2].count() > len(sent) })
	time.Sleep(settling)
	if n := c.nodes[0].count(); n != 1 {
		t.Errorf("node 0 got %d messages of its own back", n-1)
	}
	for i, node := range c.nodes[1:] {
		got := node.all()
		if len(got) != len(sent)+i {
			t.Errorf("node %d got %d messages, want %d", i+1, len(got), len(sent)+i)
		}
		for j, want := range sent {
			if g, w := asJSON(t, got[j]), asJSON(t, want); g != w {
				t.Errorf("node %d, message %d:\ngot  %.500s\nwant %.500s", i+1, j, g, w)
			}
		}
	}
}

func testAdapterOrder(t *testing.T, c *cluster) {
	const each = 200
	var publishing sync.WaitGroup
	for from, a := range c.adapters {
		for _, ns := range suiteNamespaces {
			publishing.Go(func() {
				for n := range each {
					m := broadcast(ns, from, n)
					m.Rooms = suiteRooms[n%2 : n%2+1+n%2] // one room, another, or two
					if err := a.Publish(t.Context(), m); err != nil {
						t.Errorf("Publish of node %d: %v", from, err)
					}
				}
			})
		}
	}
	publishing.Wait()
	for i, node := range c.nodes {
		want := (len(c.nodes) - 1) * len(suiteNamespaces) * each
		eventually(t, fmt.Sprintf("node %d gets %d messages", i, want), func() bool { return node.count() >= want })
		next := map[string]int{}
		for _, m := range node.all() {
			from, n := numbers(t, m)
			if from == i {
				t.Fatalf("node %d got its own message back", i)
			}
			if key := fmt.Sprint(from, m.Namespace); n != next[key] {
				t.Fatalf("node %d got message %d of node %d in %s where %d is due", i, n, from, m.Namespace, next[key])
			} else {
				next[key]++
			}
		}
	}
}

func testAdapterSlowNode(t *testing.T, c *cluster) {
	const sent = 500
	release := make(chan struct{})
	free := sync.OnceFunc(func() { close(release) })
	defer free()
	c.nodes[1].onDeliver(func(realtime.ClusterMessage) { <-release })
	published := make(chan struct{})
	go func() {
		defer close(published)
		for n := range sent {
			if err := c.adapters[0].Publish(t.Context(), broadcast("/drivers", 0, n)); err != nil {
				t.Errorf("Publish: %v", err)
			}
		}
	}()
	select {
	case <-published:
	case <-time.After(patience):
		t.Fatal("Publish waits for a node that does not take its messages")
	}
	eventually(t, "the other node gets everything meanwhile", func() bool { return c.nodes[2].count() == sent })
	free()
	eventually(t, "the slow node gets everything in the end", func() bool { return c.nodes[1].count() == sent })
}

func testAdapterMemory(t *testing.T, c *cluster) {
	spoil := func(m realtime.ClusterMessage) {
		m.Rooms[0], m.Except[0] = "spoilt", "spoilt"
		m.Event.Args[1][1] = 'X'
		m.Event.Attachments[0][0] = 'X'
	}
	sent := func() realtime.ClusterMessage {
		m := broadcast("/drivers", 0, 7)
		m.Rooms, m.Except = []string{suiteRooms[0]}, []string{"but"}
		m.Event.Attachments = [][]byte{[]byte("abc")}
		return m
	}
	mine := sent()
	var seen [2]atomic.Value
	for i, n := range c.nodes[1:] {
		n.onDeliver(func(m realtime.ClusterMessage) {
			seen[i].Store(asJSON(t, m))
			spoil(m)
		})
	}
	c.publish(t, 0, mine)
	for i, n := range c.nodes[1:] {
		eventually(t, "the message arrives", func() bool { return n.count() == 1 })
		if got, want := seen[i].Load(), asJSON(t, sent()); got != want {
			t.Errorf("node %d got %s, want %s", i+1, got, want)
		}
	}
	if got, want := asJSON(t, mine), asJSON(t, sent()); got != want {
		t.Errorf("a receiver has changed the sender's message to %s, from %s", got, want)
	}
}

func testAdapterPanic(t *testing.T, c *cluster) {
	c.nodes[1].onDeliver(func(m realtime.ClusterMessage) {
		if _, n := numbers(t, m); n == 0 {
			panic("a node that panics, as it was meant to")
		}
	})
	c.nodes[1].onAnswer(func(context.Context, realtime.ClusterMessage, func(realtime.ClusterAnswer)) {
		panic("a node that panics, as it was meant to")
	})
	c.nodes[2].onAnswer(func(_ context.Context, _ realtime.ClusterMessage, answer func(realtime.ClusterAnswer)) {
		answer(found("2"))
	})
	c.publish(t, 0, broadcast("/drivers", 0, 0))
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	var answers []realtime.ClusterAnswer
	// Whether the request fails at once, with ctx or not at all is open.
	_ = c.adapters[0].Request(ctx, fetch("x"), func(a realtime.ClusterAnswer) { answers = append(answers, a) })
	if got := ids(answers); !slices.Equal(got, []string{"2"}) {
		t.Errorf("got answers %v, want that of node 2", got)
	}
	c.publish(t, 0, broadcast("/drivers", 0, 1))
	eventually(t, "the node that panicked hears what follows", func() bool { return c.nodes[1].count() == 1 })
	eventually(t, "the other node hears everything", func() bool { return c.nodes[2].count() == 2 })
}

func testAdapterRequest(t *testing.T, c *cluster) {
	ack := &realtime.Raw{
		Args:        []json.RawMessage{json.RawMessage(`{"ok":true,"photo":{"_placeholder":true,"num":0}}`), json.RawMessage(`"ñ"`)},
		Attachments: [][]byte{{0, 0xff}},
	}
	var asked atomic.Value
	c.nodes[0].onAnswer(func(context.Context, realtime.ClusterMessage, func(realtime.ClusterAnswer)) {
		t.Error("a node was asked by itself")
	})
	c.nodes[1].onAnswer(func(_ context.Context, m realtime.ClusterMessage, answer func(realtime.ClusterAnswer)) {
		asked.Store(asJSON(t, m))
		if m.Op == realtime.OpAsk {
			answer(realtime.ClusterAnswer{Asked: 2})
			answer(realtime.ClusterAnswer{Ack: ack})
			answer(realtime.ClusterAnswer{Ack: &realtime.Raw{}})
			return
		}
		for n := range 50 {
			answer(found(fmt.Sprintf("1-%02d", n)))
		}
	})
	c.nodes[2].onAnswer(func(_ context.Context, m realtime.ClusterMessage, answer func(realtime.ClusterAnswer)) {
		if m.Op == realtime.OpFetchSockets {
			answer(found("2"))
		}
	})

	m := fetch("x")
	var busy atomic.Bool
	var answers []realtime.ClusterAnswer
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := c.adapters[0].Request(ctx, m, func(a realtime.ClusterAnswer) {
		if !busy.CompareAndSwap(false, true) {
			t.Error("two answers at once")
		}
		answers = append(answers, a)
		busy.Store(false)
	})
	if err != nil {
		t.Fatalf("Request: %v", err)
	}
	if got := ids(answers); len(got) != 51 || got[0] != "1-00" || got[50] != "2" {
		t.Errorf("got the answers %v, want 50 of node 1 and one of node 2", got)
	}
	if got, want := asked.Load(), asJSON(t, m); got != want {
		t.Errorf("node 1 was asked %s, want %s", got, want)
	}
	for _, a := range answers {
		if want := found(a.Socket.ID); asJSON(t, a) != asJSON(t, want) {
			t.Errorf("got the answer %s, want %s", asJSON(t, a), asJSON(t, want))
		}
	}

	ask := broadcast("/drivers", 0, 0)
	ask.Op = realtime.OpAsk
	count, acks := 0, []string{}
	for _, a := range c.request(t, 0, ask) {
		count += a.Asked
		if a.Ack != nil {
			acks = append(acks, asJSON(t, a.Ack))
		}
	}
	slices.Sort(acks)
	want := []string{asJSON(t, ack), asJSON(t, &realtime.Raw{})}
	slices.Sort(want)
	if count != 2 || !slices.Equal(acks, want) {
		t.Errorf("got %d sockets asked and the acks %v, want 2 and %v", count, acks, want)
	}
}

func testAdapterRequestOrder(t *testing.T, c *cluster) {
	c.nodes[1].onAnswer(func(_ context.Context, _ realtime.ClusterMessage, answer func(realtime.ClusterAnswer)) {
		answer(found(fmt.Sprint(c.nodes[1].count())))
	})
	for n := range 50 {
		c.publish(t, 0, broadcast("/drivers", 0, n))
		want := []string{fmt.Sprint(n + 1)}
		if got := ids(c.request(t, 0, fetch("x"))); !slices.Equal(got, want) {
			t.Fatalf("when asked, the node had got %v messages, want %v", got, want)
		}
	}
}

func testAdapterRequests(t *testing.T, c *cluster) {
	for i, n := range c.nodes {
		n.onAnswer(func(_ context.Context, m realtime.ClusterMessage, answer func(realtime.ClusterAnswer)) {
			for range 3 {
				answer(found(fmt.Sprintf("%s by %d", m.Except[0], i)))
			}
		})
	}
	var asking sync.WaitGroup
	for from, a := range c.adapters {
		for n := range 10 {
			asking.Go(func() {
				name := fmt.Sprintf("%d of %d", n, from)
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				var got []realtime.ClusterAnswer
				if err := a.Request(ctx, fetch(name), func(a realtime.ClusterAnswer) { got = append(got, a) }); err != nil {
					t.Errorf("Request: %v", err)
				}
				var want []string
				for other := range c.nodes {
					if id := fmt.Sprintf("%s by %d", name, other); other != from {
						want = append(want, id, id, id)
					}
				}
				if !slices.Equal(ids(got), want) {
					t.Errorf("got %v, want %v", ids(got), want)
				}
			})
		}
	}
	asking.Wait()
}

func testAdapterRequestTimeout(t *testing.T, c *cluster) {
	ended := make(chan struct{}, 2)
	c.nodes[1].onAnswer(func(ctx context.Context, _ realtime.ClusterMessage, answer func(realtime.ClusterAnswer)) {
		<-ctx.Done()
		answer(found("too late"))
		ended <- struct{}{}
	})
	c.nodes[2].onAnswer(func(_ context.Context, _ realtime.ClusterMessage, answer func(realtime.ClusterAnswer)) {
		answer(found("2"))
	})
	for how, limit := range map[string]func() (context.Context, context.CancelFunc){
		"a deadline": func() (context.Context, context.CancelFunc) {
			return context.WithTimeout(t.Context(), 300*time.Millisecond)
		},
		"a cancelled ctx": func() (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(300*time.Millisecond, cancel)
			return ctx, cancel
		},
	} {
		ctx, cancel := limit()
		var over atomic.Bool
		var got []realtime.ClusterAnswer
		err := c.adapters[0].Request(ctx, fetch("x"), func(a realtime.ClusterAnswer) {
			if over.Load() {
				t.Error("an answer after Request has returned")
				return
			}
			got = append(got, a)
		})
		over.Store(true)
		if err == nil {
			t.Errorf("%s: no error, though a node has not answered", how)
		}
		if ctx.Err() == nil {
			t.Errorf("%s: Request returned before its ctx ended: %v", how, err)
		}
		if !slices.Contains(ids(got), "2") {
			t.Errorf("%s: the answers are %v, without that of the node that gave one", how, ids(got))
		}
		select {
		case <-ended:
		case <-time.After(patience):
			t.Errorf("%s: the ctx of the node that is asked does not end", how)
		}
		cancel()
	}
	time.Sleep(settling)
}

func testAdapterAlone(t *testing.T, c *cluster) {
	c.nodes[0].onAnswer(func(context.Context, realtime.ClusterMessage, func(realtime.ClusterAnswer)) {
		t.Error("a node was asked by itself")
	})
	c.publish(t, 0, broadcast("/drivers", 0, 0))
	if got := c.request(t, 0, fetch("x")); len(got) != 0 {
		t.Errorf("got %d answers from nobody", len(got))
	}
	time.Sleep(settling)
	if n := c.nodes[0].count(); n > 0 {
		t.Errorf("the node got %d messages of its own back", n)
	}
}

func testAdapterClose(t *testing.T, c *cluster) {
	for i, n := range c.nodes {
		n.onAnswer(func(_ context.Context, _ realtime.ClusterMessage, answer func(realtime.ClusterAnswer)) {
			answer(found(fmt.Sprint(i)))
		})
	}
	c.close(t, 1)
	c.close(t, 1)
	before := c.nodes[1].count()
	c.publish(t, 0, broadcast("/drivers", 0, 0))
	eventually(t, "the others go on", func() bool { return c.nodes[2].count() == 1 })
	if got := ids(c.request(t, 0, fetch("x"))); !slices.Equal(got, []string{"2"}) {
		t.Errorf("got the answers of %v, want that of node 2", got)
	}
	// What a closed adapter does with these is its own affair, if it returns.
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_ = c.adapters[1].Publish(ctx, broadcast("/drivers", 1, 0))
	_ = c.adapters[1].Request(ctx, fetch("x"), func(realtime.ClusterAnswer) {})
	time.Sleep(settling)
	if c.nodes[1].count() != before {
		t.Error("a node was called after Close of its adapter")
	}
}

func testAdapterCloseBusy(t *testing.T, c *cluster) {
	var closed atomic.Bool
	c.nodes[1].onDeliver(func(realtime.ClusterMessage) {
		if closed.Load() {
			t.Error("a node was called after Close of its adapter")
		}
	})
	for _, n := range c.nodes {
		n.onAnswer(func(_ context.Context, _ realtime.ClusterMessage, answer func(realtime.ClusterAnswer)) {
			answer(found("x"))
		})
	}
	stop := make(chan struct{})
	var busy sync.WaitGroup
	for from, a := range c.adapters {
		busy.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				case <-time.After(100 * time.Microsecond):
				}
				_ = a.Publish(t.Context(), broadcast("/drivers", from, n)) // that of node 1 may fail
				ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
				_ = a.Request(ctx, fetch("x"), func(realtime.ClusterAnswer) {}) // may miss a node
				cancel()
			}
		})
	}
	time.Sleep(settling)
	var closing sync.WaitGroup
	for range 2 {
		closing.Go(func() { c.close(t, 1) })
	}
	closing.Wait()
	closed.Store(true)
	time.Sleep(settling)
	close(stop)
	busy.Wait()
}

func testAdapterRooms(t *testing.T, c *cluster) {
	w, ok := c.adapters[1].(realtime.RoomWatcher)
	if !ok {
		t.Skip("the adapter does not watch rooms")
	}
	node := c.nodes[1]
	node.mu.Lock()
	node.rooms = map[string]bool{}
	for _, room := range suiteRooms {
		node.rooms[room] = true
	}
	node.mu.Unlock()
	var changing sync.WaitGroup
	for i := range 4 {
		changing.Go(func() {
			for n := range 100 {
				room := fmt.Sprintf("trip:%d", (i+n)%5)
				node.mu.Lock()
				node.rooms[room] = !node.rooms[room]
				node.mu.Unlock()
				w.RoomChanged("/drivers", room)
			}
		})
	}
	for n := range 100 {
		m := broadcast("/drivers", 0, n)
		m.Rooms = []string{fmt.Sprintf("trip:%d", n%5), suiteRooms[0]}
		c.publish(t, 0, m)
	}
	changing.Wait()
	eventually(t, "what is for a room that stays arrives", func() bool { return node.count() == 100 })
	// A room that came last is heard, whatever it was before.
	node.mu.Lock()
	node.rooms["trip:1"] = true
	node.mu.Unlock()
	w.RoomChanged("/drivers", "trip:1")
	c.warm(t, 0, "/drivers", "trip:1")
}
