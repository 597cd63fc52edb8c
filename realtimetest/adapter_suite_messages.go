// The adapters' conformance suite: messages and Close.

package realtimetest

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rodando/realtime"
)

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
	state := &realtime.NodeState{}
	if err := json.Unmarshal([]byte(`{"trip":{"kind":2,"tripId":"t1","at":"2026-05-04T10:20:30.123456Z","driverId":"ñ"}}`), state); err != nil {
		t.Fatal(err)
	}
	const ns = "/drivers"
	a, b, s := suiteRooms[0], suiteRooms[1], suiteRooms[2]
	sent := []realtime.ClusterMessage{
		{Op: realtime.OpBroadcast, Namespace: ns, All: true, Event: raw(`"to:all"`)},
		{Op: realtime.OpBroadcast, Namespace: ns, Rooms: []string{a}, Event: raw(`"one"`, `{"text":"ñ 🚕 \u0000 \" \\"}`)},
		{Op: realtime.OpBroadcast, Namespace: ns, Rooms: []string{a, b}, Event: raw(`"two"`, `1`, `null`, `[1,[2]]`)},
		{Op: realtime.OpBroadcast, Namespace: ns, All: true, Except: []string{b}, Event: raw(`"all:but"`, `1e3`)},
		{Op: realtime.OpBroadcast, Namespace: ns, Rooms: []string{a, b, s}, Except: []string{"Qm9vbSwgYSBzb2NrZXQ_", "other"}, Event: raw(`"but"`)},
		{Op: realtime.OpBroadcast, Namespace: ns, Rooms: []string{b}, Mark: "ABCDEF-0123abc", Event: raw(`"marked"`, `1`)},
		{Op: realtime.OpBroadcast, Namespace: ns, Rooms: []string{b}, Volatile: true, Key: "driver:location:update1", Event: raw(`"volatile"`, `{"lat":23.13333333333333}`)},
		{Op: realtime.OpBroadcast, Namespace: ns, Rooms: []string{b}, Event: binary},
		{Op: realtime.OpBroadcast, Namespace: ns, Rooms: []string{a}, Event: raw(`"large"`, `"`+strings.Repeat("x", 512<<10)+`"`)},
		{Op: realtime.OpJoin, Namespace: ns, Rooms: []string{a}, Targets: []string{b, "trip:2"}},
		{Op: realtime.OpLeave, Namespace: ns, Rooms: []string{a}, Except: []string{b}, Targets: []string{b}},
		{Op: realtime.OpDisconnect, Namespace: ns, Rooms: []string{s}},
		{Op: realtime.OpDisconnect, Namespace: ns, Rooms: []string{s}, Close: true},
		{Op: realtime.OpDisconnect, Namespace: ns, All: true},
		{Op: realtime.OpRevoke, Namespace: ns, Rooms: []string{s}, Revoke: &realtime.Revocation{SessionID: "s1"}},
		{Op: realtime.OpRevoke, Namespace: ns, Rooms: []string{"driver:of-no-node"}, Revoke: &realtime.Revocation{UserID: "of-no-node"}},
		{Op: realtime.OpState, Namespace: ns, State: state},
		{Op: realtime.OpServerEmit, Namespace: ns, Event: raw(`"server:event"`, `{"a":1}`, `"b"`)},
	}
	for i := range sent {
		sent[i].Version = realtime.ClusterVersion
	}
	c.publish(t, 0, sent...)
	for i, node := range c.nodes[1:] {
		eventually(t, fmt.Sprintf("node %d gets %d messages", i+1, len(sent)), func() bool { return node.count() >= len(sent) })
	}
	// A message of node 1 reaches node 0 after node 0's own messages would have, if the
	// adapter wrongly delivered those to their sender.
	c.publish(t, 1, broadcast(ns, 1, 0))
	eventually(t, "node 0 receives from node 1", func() bool { return c.nodes[0].count() > 0 })
	eventually(t, "node 2 receives from node 1", func() bool { return c.nodes[2].count() > len(sent) })
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
			if g, w := canonical(t, got[j]), canonical(t, want); g != w {
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
		t.Fatal("Publish waits for a node that does not return from Deliver")
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
		m.Event.Args = append(m.Event.Args, json.RawMessage(`{"_placeholder":true,"num":0}`))
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
			panic("a planned panic")
		}
	})
	c.nodes[1].onAnswer(func(context.Context, realtime.ClusterMessage, func(realtime.ClusterAnswer)) {
		panic("a planned panic")
	})
	c.nodes[2].onAnswer(func(_ context.Context, _ realtime.ClusterMessage, answer func(realtime.ClusterAnswer)) {
		answer(found("2"))
	})
	c.publish(t, 0, broadcast("/drivers", 0, 0))
	var answers []realtime.ClusterAnswer
	if !longEnough(func(limit time.Duration) bool {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		answers = nil
		// The request may fail at once, fail when ctx ends, or succeed.
		_ = c.adapters[0].Request(ctx, fetch("x"), func(a realtime.ClusterAnswer) { answers = append(answers, a) })
		return slices.Equal(ids(answers), []string{"2"})
	}) {
		t.Errorf("got answers %v, want that of node 2", ids(answers))
	}
	c.publish(t, 0, broadcast("/drivers", 0, 1))
	eventually(t, "the node that panicked receives the next message", func() bool { return c.nodes[1].count() == 1 })
	eventually(t, "the other node receives everything", func() bool { return c.nodes[2].count() == 2 })
}

func testAdapterStart(t *testing.T, c *cluster) {
	second := &recorder{warmed: map[string]bool{}}
	if err := c.adapters[0].Start(t.Context(), second); err == nil {
		t.Fatal("an adapter was started twice")
	}
	c.nodes[1].onAnswer(func(_ context.Context, _ realtime.ClusterMessage, answer func(realtime.ClusterAnswer)) {
		answer(found("1"))
	})
	if got := ids(c.request(t, fetch("x"))); !slices.Equal(got, []string{"1"}) {
		t.Errorf("the first server got the answers of %v, want that of node 1", got)
	}
	c.publish(t, 1, broadcast("/drivers", 1, 0))
	eventually(t, "the first server still receives", func() bool { return c.nodes[0].count() == 1 })
	time.Sleep(settling)
	if n := second.count(); n > 0 {
		t.Errorf("a server whose Start was refused received %d messages", n)
	}
}

func testAdapterClose(t *testing.T, c *cluster) {
	for i, n := range c.nodes {
		n.onAnswer(func(_ context.Context, _ realtime.ClusterMessage, answer func(realtime.ClusterAnswer)) {
			answer(found(strconv.Itoa(i)))
		})
	}
	c.close(t, 1)
	c.close(t, 1)
	before := c.nodes[1].count()
	c.publish(t, 0, broadcast("/drivers", 0, 0))
	eventually(t, "the others continue", func() bool { return c.nodes[2].count() == 1 })
	if got := ids(c.request(t, fetch("x"))); !slices.Equal(got, []string{"2"}) {
		t.Errorf("got the answers of %v, want that of node 2", got)
	}
	if err := c.adapters[1].Start(t.Context(), c.nodes[1]); err == nil {
		t.Error("a closed adapter was started")
	}
	// A closed adapter may return anything for these, but must return.
	ctx, cancel := context.WithTimeout(t.Context(), patience)
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
				_ = a.Publish(t.Context(), broadcast("/drivers", from, n)) // node 1's may fail
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
	eventually(t, "messages to a room that stays arrive", func() bool { return node.count() == 100 })
	// Messages to a room arrive if it exists after the last change.
	node.mu.Lock()
	node.rooms["trip:1"] = true
	node.mu.Unlock()
	w.RoomChanged("/drivers", "trip:1")
	c.warm(t, 0, "/drivers", "trip:1")
}
