// Tests and a benchmark of what a connection's reader does with a message.

package redisadapter

import (
	"encoding/json"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/redisadapter/internal/wire"
)

// roomsNode is a server with rooms, in which a join takes until the test says.
type roomsNode struct {
	realtime.Node
	joining   chan struct{} // closed: a join may proceed
	delivered chan realtime.ClusterMessage

	mu    sync.Mutex // guards rooms
	rooms map[string]bool
}

func (n *roomsNode) HasRoom(_, room string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.rooms[room]
}

func (n *roomsNode) Deliver(m realtime.ClusterMessage) {
	if m.Op == realtime.OpJoin {
		<-n.joining
		n.mu.Lock()
		n.rooms[m.Targets[0]] = true
		n.mu.Unlock()
	}
	n.delivered <- m
}

func newRoomsNode(tb testing.TB, sharded bool) (*namespace, *roomsNode) {
	tb.Helper()
	a, err := New(Options{Sharded: sharded, URL: "redis://127.0.0.1:1", Logger: slog.New(slog.DiscardHandler)})
	require.NoError(tb, err)
	n := &roomsNode{joining: make(chan struct{}), delivered: make(chan realtime.ClusterMessage, 8), rooms: map[string]bool{}}
	a.node = n
	return a.namespace("/drivers"), n
}

// broadcastFrom is a broadcast to trip:1 as it arrives.
func broadcastFrom(tb testing.TB, ns *namespace, uid string) incoming {
	tb.Helper()
	m := wire.Message{Kind: wire.Broadcast, UID: uid, Namespace: ns.name, Rooms: []string{"trip:1"}, Args: wire.Args{Values: []json.RawMessage{json.RawMessage(`"trip:started"`), json.RawMessage(`{"id":1}`)}}}
	payload, err := ns.a.protocol.Append(nil, &m)
	require.NoError(tb, err)
	return incoming{fromBroadcasts, ns.a.protocol.channel(&m, ""), string(payload)}
}

// A message without a receiver here takes no goroutine and no place in the queue: in a cluster
// most messages are such.
func TestNamespace_DropsAtOnceWhatHasNoReceiver(t *testing.T) { // not parallel: it counts allocations
	ns, n := newRoomsNode(t, false)
	elsewhere, own := broadcastFrom(t, ns, "realtime-other"), broadcastFrom(t, ns, ns.a.uid)
	for name, in := range map[string]incoming{"another node's, without the room": elsewhere, "its own": own} {
		ns.push(in, time.Time{})
		require.False(t, ns.running, name)
		require.Zero(t, testing.AllocsPerRun(100, func() { ns.push(in, time.Time{}) }), name)
	}
	n.rooms["trip:1"] = true
	ns.push(own, time.Time{})
	require.False(t, ns.running, "its own, with the room")
	ns.push(elsewhere, time.Time{})
	require.Equal(t, []string{"trip:1"}, (<-n.delivered).Rooms)
	ns.a.running.wait(t.Context(), time.Minute)
}

// A sharded node's own messages return to it on the channel of all messages.
func TestNamespace_DropsItsOwnAtOnceWhenSharded(t *testing.T) {
	t.Parallel()
	ns, n := newRoomsNode(t, true)
	n.rooms["trip:1"] = true
	own, longer := broadcastFrom(t, ns, ns.a.uid), broadcastFrom(t, ns, ns.a.uid+"x")
	own.from, longer.from = fromRequests, fromRequests
	ns.push(own, time.Time{})
	require.False(t, ns.running)
	ns.push(longer, time.Time{})
	require.Equal(t, []string{"trip:1"}, (<-n.delivered).Rooms)
	ns.a.running.wait(t.Context(), time.Minute)
}

// A broadcast may only be dropped at once when no join that came before it is still waiting.
func TestNamespace_DropsNothingAfterAQueuedJoin(t *testing.T) {
	t.Parallel()
	ns, n := newRoomsNode(t, false)
	join := wire.Message{Kind: wire.Join, UID: "realtime-other", Namespace: ns.name, Rooms: []string{"driver:1"}, Targets: []string{"trip:1"}}
	payload, err := ns.a.protocol.Append(nil, &join)
	require.NoError(t, err)
	ns.push(incoming{fromRequests, ns.a.protocol.channel(&join, ""), string(payload)}, time.Time{})
	ns.push(broadcastFrom(t, ns, "realtime-other"), time.Time{})
	close(n.joining)
	require.Equal(t, realtime.OpJoin, (<-n.delivered).Op)
	select {
	case m := <-n.delivered:
		require.Equal(t, realtime.OpBroadcast, m.Op)
	case <-time.After(30 * time.Second):
		require.Fail(t, "the broadcast to the new room was dropped")
	}
	ns.a.running.wait(t.Context(), time.Minute)
}

func BenchmarkNamespace_push(b *testing.B) {
	ns, _ := newRoomsNode(b, false)
	in := broadcastFrom(b, ns, "realtime-other")
	b.ReportAllocs()
	for b.Loop() {
		ns.push(in, time.Time{})
	}
}

func TestNamespace_Delay(t *testing.T) {
	t.Parallel()
	var ns namespace
	now := time.Now()
	at := func(d time.Duration) time.Duration { return ns.delay(now.Add(d)) }
	push := func(n uint64) {
		ns.pushed += n
		ns.queue = append(ns.queue, make([]incoming, n)...)
	}
	handle := func(n uint64) {
		ns.handled += n
		ns.queue = ns.queue[n:]
	}
	push(10)
	require.Zero(t, at(time.Hour), "the first call")
	require.Equal(t, time.Second, at(time.Hour+time.Second))
	handle(9)
	require.Equal(t, 5*time.Second, at(time.Hour+5*time.Second))
	push(100)
	handle(1)
	require.Equal(t, 6*time.Second, at(time.Hour+6*time.Second), "the tenth has waited so long")
	require.Equal(t, 6*time.Second, at(time.Hour+7*time.Second), "and the next is no better as far as is known")
	handle(100)
	require.Zero(t, at(time.Hour+8*time.Second))
	push(1)
	handle(1)
	require.Zero(t, at(2*time.Hour), "an idle time is no delay")
}
