// Helpers of the tests: nodes that record what they receive.

package redisadapter_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/redistest"
	"github.com/rodando/realtime/internal/testkit"
	"github.com/rodando/realtime/redisadapter"
	"github.com/rodando/realtime/redisadapter/internal/wire"
)

const (
	ns   = realtime.NamespaceDrivers
	room = "driver:1"
)

// patience is how long a test waits for something that must happen.
const patience = 20 * time.Second

// recorder is a node with one room.
type recorder struct {
	deliver func(m realtime.ClusterMessage)
	sockets []realtime.RemoteSocket
	onGap   func(g realtime.Gap)
	changed func(what string)                                        // called with each change of the other nodes
	answer  func(m realtime.ClusterMessage) []realtime.ClusterAnswer // nil: with sockets
	await   func(ctx context.Context)                                // called before it answers; may be nil
	prepare func(a *redisadapter.Adapter)                            // called before Start; may be nil

	mu        sync.Mutex // guards the fields below
	got       []realtime.ClusterMessage
	gaps      []realtime.Gap
	receiving []bool
	peers     []string
	only      []bool
}

func (r *recorder) Deliver(m realtime.ClusterMessage) {
	if r.deliver != nil {
		r.deliver(m)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, m)
}

func (r *recorder) Answer(ctx context.Context, m realtime.ClusterMessage, answer func(realtime.ClusterAnswer)) {
	if r.await != nil {
		r.await(ctx)
	}
	if r.answer != nil {
		for _, a := range r.answer(m) {
			answer(a)
		}
		return
	}
	if len(r.sockets) == 0 {
		return
	}
	if m.Op == realtime.OpAsk {
		answer(realtime.ClusterAnswer{Asked: len(r.sockets)})
		for range r.sockets {
			answer(realtime.ClusterAnswer{Ack: &realtime.Raw{Args: []json.RawMessage{json.RawMessage(`"ack"`)}}})
		}
		return
	}
	for _, s := range r.sockets {
		answer(realtime.ClusterAnswer{Socket: &s})
	}
}

func (r *recorder) HasRoom(_, name string) bool { return name == room }

func (r *recorder) all() []realtime.ClusterMessage {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]realtime.ClusterMessage(nil), r.got...)
}

func (r *recorder) count() int { return len(r.all()) }

// Receiving, Gap, PeerJoined and PeerLost record what the adapter reports.
func (r *recorder) Receiving(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.receiving = append(r.receiving, err == nil)
}

func (r *recorder) Gap(g realtime.Gap) {
	if r.onGap != nil {
		r.onGap(g)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gaps = append(r.gaps, g)
}

func (r *recorder) PeerJoined(p realtime.Peer) { r.peerChanged("joined " + p.ID) }

func (r *recorder) PeerLost(p realtime.Peer, died bool) {
	r.peerChanged(map[bool]string{true: "died ", false: "left "}[died] + p.ID)
}

// OnlyPeers records what the adapter reports.
func (r *recorder) OnlyPeers(only bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.only = append(r.only, only)
}

// onlyPeers returns what the adapter has reported last.
func (r *recorder) onlyPeers() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.only) > 0 && r.only[len(r.only)-1]
}

func (r *recorder) peerChanged(what string) {
	if r.changed != nil {
		r.changed(what)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.peers = append(r.peers, what)
}

// peerChanges returns what the adapter has reported of other nodes.
func (r *recorder) peerChanges() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.peers...)
}

// health returns what the adapter has reported of receiving.
func (r *recorder) health() []bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]bool(nil), r.receiving...)
}

// peer is a started adapter with its node.
type peer struct {
	*redisadapter.Adapter
	node *recorder
	log  *testkit.Log
}

func (p *peer) gaps() []realtime.Gap {
	p.node.mu.Lock()
	defer p.node.mu.Unlock()
	return append([]realtime.Gap(nil), p.node.gaps...)
}

func (p *peer) gapCount() int { return len(p.gaps()) }

// Intervals of probes and heartbeats. A test uses steady if a busy machine must not look
// like a silent connection.
const (
	steady = time.Second
	quick  = 100 * time.Millisecond
)

// start starts a node. change, if not nil, changes its options.
func start(t *testing.T, s *redistest.Server, change func(*redisadapter.Options, *recorder)) *peer {
	t.Helper()
	return startAt(t, s, steady, change)
}

// startAt is start with that interval of probes.
func startAt(t *testing.T, s *redistest.Server, every time.Duration, change func(*redisadapter.Options, *recorder)) *peer {
	t.Helper()
	p := &peer{node: &recorder{}, log: &testkit.Log{}}
	o := redisadapter.Options{URL: s.URL(), Name: "test", Namespaces: []string{ns}, Logger: slog.New(slog.NewTextHandler(p.log, nil))}
	if change != nil {
		change(&o, p.node)
	}
	p.Adapter = newAdapter(t, o)
	p.Hurry(every)
	if p.node.prepare != nil {
		p.node.prepare(p.Adapter)
	}
	require.NoError(t, p.Start(t.Context(), p.node))
	t.Cleanup(func() { p.close(t) })
	return p
}

func (p *peer) close(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(t, p.Close(ctx))
}

// waitForPeers waits until the nodes know each other.
func waitForPeers(t *testing.T, peers ...*peer) {
	t.Helper()
	for _, p := range peers {
		testkit.Eventually(t, "the nodes know each other", func() bool { return len(p.Peers()) == len(peers)-1 })
	}
}

// event returns a broadcast that carries a number.
func event(n int) realtime.ClusterMessage {
	return realtime.ClusterMessage{
		Op: realtime.OpBroadcast, Namespace: ns, Rooms: []string{room},
		Event: &realtime.Raw{Args: []json.RawMessage{json.RawMessage(`"test"`), fmt.Appendf(nil, "%d", n)}},
	}
}

// number returns the number that event has put into a message.
func number(t *testing.T, m realtime.ClusterMessage) (n int) {
	t.Helper()
	require.NotNil(t, m.Event)
	require.NoError(t, json.Unmarshal(m.Event.Args[1], &n))
	return n
}

// requireReaches waits until a message of from arrives at to.
func requireReaches(t *testing.T, from, to *peer) {
	t.Helper()
	before := to.node.count()
	testkit.Eventually(t, "the message arrives", func() bool {
		_ = from.Publish(t.Context(), event(-1)) // it may not be connected yet
		time.Sleep(5 * time.Millisecond)
		return to.node.count() > before
	})
}

var (
	limits       = wire.Limits{Bytes: 1 << 20, Depth: 64, Attachments: 16}
	classicNode  = wire.Classic{Limits: limits}
	someSocket   = realtime.RemoteSocket{ID: "sid1", Namespace: ns, Rooms: []realtime.Room{realtime.DriverRoom("1")}, Identity: realtime.Identity{UserID: "u1", UserType: realtime.UserDriver, SessionID: "s1"}}
	withASocket  = func(_ *redisadapter.Options, r *recorder) { r.sockets = []realtime.RemoteSocket{someSocket} }
	inSharded    = func(o *redisadapter.Options, _ *recorder) { o.Sharded = true }
	bothProtocol = map[string]func(*redisadapter.Options, *recorder){"classic": nil, "sharded": inSharded}
)

// publishAsNode publishes a message as a Node server does.
func publishAsNode(t *testing.T, s *redistest.Server, channel string, m wire.Message) {
	t.Helper()
	b, err := classicNode.Append(nil, &m)
	require.NoError(t, err)
	s.Publish(channel, string(b))
}

func text(values ...string) wire.Args {
	var a wire.Args
	for _, v := range values {
		a.Values = append(a.Values, json.RawMessage(v))
	}
	return a
}

// published waits for a published message and returns it.
func published(t *testing.T, s *redistest.Server, what string, is func(redistest.Message) bool) (found redistest.Message) {
	t.Helper()
	testkit.Eventually(t, what, func() bool {
		for _, m := range s.Published() {
			if is(m) {
				found = m
				return true
			}
		}
		return false
	})
	return found
}

func raw(values ...string) realtime.Raw {
	var r realtime.Raw
	for _, v := range values {
		r.Args = append(r.Args, json.RawMessage(v))
	}
	return r
}

// subscriber subscribes to a channel and ignores its messages, until then sets a function
// for them.
func subscriber(t *testing.T, s *redistest.Server, channel string) (then func(func(msg string))) {
	t.Helper()
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{s.Addr()}, DisableCache: true, ForceSingleClient: true})
	require.NoError(t, err)
	t.Cleanup(client.Close)
	var mu sync.Mutex
	receive := func(string) {}
	before := s.Subscribers(channel)
	go func() {
		_ = client.Receive(context.WithoutCancel(t.Context()), client.B().Subscribe().Channel(channel).Build(), func(m rueidis.PubSubMessage) {
			mu.Lock()
			defer mu.Unlock()
			receive(m.Message)
		})
	}()
	testkit.Eventually(t, "it is subscribed", func() bool { return s.Subscribers(channel) == before+1 })
	return func(f func(msg string)) {
		mu.Lock()
		defer mu.Unlock()
		receive = f
	}
}
