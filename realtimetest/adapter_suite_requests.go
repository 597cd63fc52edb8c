// The adapters' conformance suite: requests and their answers.

package realtimetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rodando/realtime"
)

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
	for _, a := range c.request(t, ask) {
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

// An adapter hands OpCount to the nodes of this library, so that an answer is a number. It may
// leave out After and Limit.
func testAdapterCounts(t *testing.T, c *cluster) {
	var asked sync.Map // realtime.ClusterMessage by node
	for i, n := range c.nodes {
		n.onAnswer(func(_ context.Context, m realtime.ClusterMessage, answer func(realtime.ClusterAnswer)) {
			asked.Store(i, m)
			if m.Op == realtime.OpCount {
				answer(realtime.ClusterAnswer{Count: 1000 * i})
				return
			}
			sent := 0
			for n := range 5 {
				id := fmt.Sprintf("%d-%d", n, i)
				if id > m.After && (m.Limit == 0 || sent < m.Limit) {
					answer(found(id))
					sent++
				}
			}
		})
	}
	count := fetch("x")
	count.Op = realtime.OpCount
	total := 0
	for _, a := range c.request(t, count) {
		if a.Socket != nil {
			t.Error("a count was answered with a socket")
		}
		total += a.Count
	}
	if total != 3000 {
		t.Errorf("counted %d sockets, want 1000 of node 1 and 2000 of node 2", total)
	}
	page := fetch("x")
	page.After, page.Limit = "1-1", 2
	got := ids(c.request(t, page))
	for _, want := range []string{"2-1", "3-1", "1-2", "2-2"} {
		if !slices.Contains(got, want) {
			t.Errorf("a page after 1-1 of two sockets has %v, without %s", got, want)
		}
	}
	for i := 1; i < len(c.nodes); i++ {
		v, _ := asked.Load(i)
		m, _ := v.(realtime.ClusterMessage)
		m.After, m.Limit = page.After, page.Limit
		if got, want := asJSON(t, m), asJSON(t, page); got != want {
			t.Errorf("node %d was asked %s, want %s", i, got, want)
		}
	}
}

// An adapter hands OpServerAsk to every other node, and returns one reply of each.
func testAdapterServerAsk(t *testing.T, c *cluster) {
	var asked sync.Map // realtime.ClusterMessage as JSON, by node
	for i, n := range c.nodes {
		n.onAnswer(func(_ context.Context, m realtime.ClusterMessage, answer func(realtime.ClusterAnswer)) {
			asked.Store(i, asJSON(t, m))
			answer(replied(fmt.Sprintf(`{"node":%d}`, i)))
		})
	}
	m := serverAsk()
	var replies []string
	for _, a := range c.request(t, m) {
		if a.Reply == nil {
			t.Errorf("got the answer %s, want a reply", asJSON(t, a))
			continue
		}
		replies = append(replies, asJSON(t, a.Reply.Args))
	}
	slices.Sort(replies)
	if want := []string{`[{"node":1}]`, `[{"node":2}]`}; !slices.Equal(replies, want) {
		t.Errorf("got the replies %v, want %v", replies, want)
	}
	for i := 1; i < len(c.nodes); i++ {
		if got, _ := asked.Load(i); got != asJSON(t, m) {
			t.Errorf("node %d was asked %v, want %s", i, got, asJSON(t, m))
		}
	}
	if _, own := asked.Load(0); own {
		t.Error("a node was asked by itself")
	}
}

// The ctx of a node that answers an OpServerAsk ends when its adapter closes. What it answers then reaches
// the node that asks, which does not wait longer for it.
func testAdapterCloseAsked(t *testing.T, c *cluster) {
	asked := make(chan struct{})
	c.nodes[1].onAnswer(func(ctx context.Context, _ realtime.ClusterMessage, answer func(realtime.ClusterAnswer)) {
		close(asked)
		<-ctx.Done()
		answer(replied(`null`))
	})
	c.nodes[2].onAnswer(func(_ context.Context, _ realtime.ClusterMessage, answer func(realtime.ClusterAnswer)) {
		answer(replied(`2`))
	})
	var closing sync.WaitGroup
	closing.Go(func() {
		<-asked
		c.close(t, 1)
	})
	var replies []string
	for _, a := range c.request(t, serverAsk()) {
		replies = append(replies, asJSON(t, a.Reply.Args))
	}
	closing.Wait()
	slices.Sort(replies)
	if want := []string{`[2]`, `[null]`}; !slices.Equal(replies, want) {
		t.Errorf("got the replies %v, want %v", replies, want)
	}
}

// serverAsk returns a request for the answers of the other nodes.
func serverAsk() realtime.ClusterMessage {
	return realtime.ClusterMessage{
		Version: realtime.ClusterVersion, Op: realtime.OpServerAsk, Namespace: suiteNamespaces[0],
		Event: broadcast(suiteNamespaces[0], 0, 0).Event,
	}
}

// replied returns a node's answer to a serverAsk.
func replied(value string) realtime.ClusterAnswer {
	return realtime.ClusterAnswer{Reply: &realtime.Raw{Args: []json.RawMessage{json.RawMessage(value)}}}
}

func testAdapterRequestOrder(t *testing.T, c *cluster) {
	c.nodes[1].onAnswer(func(_ context.Context, _ realtime.ClusterMessage, answer func(realtime.ClusterAnswer)) {
		answer(found(strconv.Itoa(c.nodes[1].count())))
	})
	for n := range 50 {
		c.publish(t, 0, broadcast("/drivers", 0, n))
		want := []string{strconv.Itoa(n + 1)}
		if got := ids(c.request(t, fetch("x"))); !slices.Equal(got, want) {
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
		answer(found("late"))
		ended <- struct{}{}
	})
	c.nodes[2].onAnswer(func(_ context.Context, _ realtime.ClusterMessage, answer func(realtime.ClusterAnswer)) {
		answer(found("2"))
	})
	for how, end := range map[string]func(time.Duration) (context.Context, context.CancelFunc){
		"a deadline": func(limit time.Duration) (context.Context, context.CancelFunc) {
			return context.WithTimeout(t.Context(), limit)
		},
		"a canceled ctx": func(limit time.Duration) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(limit, cancel)
			return ctx, cancel
		},
	} {
		if !longEnough(func(limit time.Duration) bool {
			ctx, cancel := end(limit)
			defer cancel()
			got := unanswered(ctx, t, c.adapters[0], how)
			select {
			case <-ended:
			case <-time.After(patience):
				t.Errorf("%s: the ctx of Answer on the other node does not end", how)
			}
			return slices.Contains(got, "2")
		}) {
			t.Errorf("%s: the answer of the node that answered is missing", how)
		}
	}
	time.Sleep(settling)
}

// longEnough calls f with limits that grow, until it returns true. On a machine that stops for a moment the
// answers of other nodes may come late.
func longEnough(f func(limit time.Duration) bool) bool {
	for limit := 300 * time.Millisecond; ; limit *= 4 {
		if f(limit) {
			return true
		}
		if 4*limit > patience {
			return false
		}
	}
}

// unanswered makes a request that one node does not answer, and returns the ids that the others have answered.
func unanswered(ctx context.Context, t *testing.T, a realtime.Adapter, how string) []string {
	t.Helper()
	var over atomic.Bool
	var got []realtime.ClusterAnswer
	err := a.Request(ctx, fetch("x"), func(a realtime.ClusterAnswer) {
		if over.Load() {
			t.Error("answer was called after Request had returned")
			return
		}
		got = append(got, a)
	})
	over.Store(true)
	if err == nil {
		t.Errorf("%s: no error, although a node has not answered", how)
	}
	if ctx.Err() == nil {
		t.Errorf("%s: Request returned before its ctx ended: %v", how, err)
	}
	return ids(got)
}

func testAdapterAlone(t *testing.T, c *cluster) {
	c.nodes[0].onAnswer(func(context.Context, realtime.ClusterMessage, func(realtime.ClusterAnswer)) {
		t.Error("a node was asked by itself")
	})
	c.publish(t, 0, broadcast("/drivers", 0, 0))
	if got := c.request(t, fetch("x")); len(got) != 0 {
		t.Errorf("got %d answers in a cluster of one node", len(got))
	}
	time.Sleep(settling)
	if n := c.nodes[0].count(); n > 0 {
		t.Errorf("the node got %d messages of its own back", n)
	}
}

// If the adapter is an AdapterChecker, its Check returns nil while it receives, and
// realtime.ErrClosed after Close.
func testAdapterCheck(t *testing.T, c *cluster) {
	checker, ok := c.adapters[0].(realtime.AdapterChecker)
	if !ok {
		return
	}
	if err := checker.Check(t.Context()); err != nil {
		t.Errorf("Check of a node that receives: %v", err)
	}
	c.close(t, 1)
	if err := checker.Check(t.Context()); err != nil {
		t.Errorf("Check after another node was closed: %v", err)
	}
	c.close(t, 0)
	if err := checker.Check(t.Context()); !errors.Is(err, realtime.ErrClosed) {
		t.Errorf("Check after Close: %v, want an error that wraps ErrClosed", err)
	}
}

// An adapter that reports peers reports each other node, names the sender of each state,
// and reports a node that has closed as one that has left. The test passes for an adapter
// that reports no peers.
func testAdapterPeers(t *testing.T, c *cluster) {
	reports := false
	for deadline := time.Now().Add(peerPatience); !reports && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		reports = len(c.nodes[0].peersIn(peerPresent)) > 0
	}
	if !reports {
		return
	}
	for i, n := range c.nodes {
		eventually(t, fmt.Sprintf("node %d knows the others", i), func() bool { return len(n.peersIn(peerPresent)) == len(c.nodes)-1 })
	}
	for i, a := range c.adapters {
		reporter, ok := a.(realtime.AdapterReporter)
		if !ok {
			continue
		}
		st := reporter.AdapterStats()
		present := c.nodes[i].peersIn(peerPresent)
		if len(st.Peers) != len(present) || slices.ContainsFunc(st.Peers, func(p realtime.Peer) bool { return !slices.Contains(present, p.ID) }) {
			t.Errorf("node %d: AdapterStats reports the peers %v, PeerJoined %v", i, st.Peers, present)
		}
		if other := (i + 1) % len(c.nodes); !slices.Contains(c.nodes[other].peersIn(peerPresent), st.Node.ID) {
			t.Errorf("node %d: AdapterStats reports itself as %q, which no other node knows", i, st.Node.ID)
		}
	}
	var from sync.Map
	for _, i := range []int{1, 2} {
		c.nodes[i].onDeliver(func(m realtime.ClusterMessage) { from.Store(i, m.From) })
	}
	var state realtime.NodeState
	if err := json.Unmarshal([]byte(`{"tripsOf":"d1"}`), &state); err != nil {
		t.Fatal(err)
	}
	c.publish(t, 0, realtime.ClusterMessage{Version: realtime.ClusterVersion, Op: realtime.OpState, Namespace: suiteNamespaces[0], State: &state})
	for _, i := range []int{1, 2} {
		eventually(t, "the state arrives", func() bool { _, ok := from.Load(i); return ok })
		id, _ := from.Load(i)
		if !slices.Contains(c.nodes[i].peersIn(peerPresent), id.(string)) { //nolint:errcheck,forcetypeassert // only strings are stored
			t.Errorf("a state comes from %q, which is no peer of node %d", id, i)
		}
	}
	first, _ := from.Load(1)
	c.close(t, 0)
	for _, i := range []int{1, 2} {
		eventually(t, "the node has left", func() bool { return len(c.nodes[i].peersIn(peerLeft)) == 1 })
		if left := c.nodes[i].peersIn(peerLeft); left[0] != first {
			t.Errorf("node %d: %q has left, not %q", i, left[0], first)
		}
		if len(c.nodes[i].peersIn(peerPresent)) != 1 {
			t.Errorf("node %d does not know the remaining node", i)
		}
	}
}

// peerPatience is how long an adapter may take to report its first peer.
const peerPatience = time.Second
