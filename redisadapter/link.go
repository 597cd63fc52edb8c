// A link: a connection with subscriptions, and the probes that show that it receives.

package redisadapter

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
)

// timing holds intervals and timeouts. Tests use shorter ones.
type timing struct {
	probe     time.Duration // interval of probes
	subscribe time.Duration // timeout of a subscription's confirmation
	beat      time.Duration // interval of a node's heartbeats
	forget    time.Duration // time without a heartbeat after which a node counts as dead
	late      time.Duration // time that a received message may wait
}

var defaultTiming = timing{probe: time.Second, subscribe: 3 * time.Second, beat: 2 * time.Second, forget: 7 * time.Second, late: 10 * time.Second}

// missedProbes is how many probes in a row may be missing until a link fails.
const missedProbes = 3

var (
	errSilent = errors.New("probes through pub/sub do not arrive")
	errMoved  = errors.New("a subscription ended: Redis moved its slot")
)

// topic is a channel or pattern that a link subscribes to. receive must not block.
type topic struct {
	name    string
	pattern bool
	asks    bool // requests come here: whoever sends one counts its subscribers, and waits for them
	// receive is called with each message. It reached Redis at since or later, however late it
	// is read.
	receive func(channel, msg string, since time.Time)
	// confirmed is closed when Redis has first confirmed the subscription.
	confirmed     chan struct{}
	confirmedOnce sync.Once
}

func newTopic(name string, pattern bool, receive func(channel, msg string, since time.Time)) *topic {
	return &topic{name: name, pattern: pattern, receive: receive, confirmed: make(chan struct{})}
}

// link keeps a connection with its subscriptions, and reconnects it, while it runs.
type link struct {
	client  func() (rueidis.Client, error)
	renew   func(rueidis.Client) // closes a client whose connections do not work
	sharded bool
	timing  timing
	up      func()          // called when the first probe has arrived
	down    func(err error) // called when the connection failed
	probes  string          // the probes' channel

	changed chan struct{} // topics were added
	asked   chan struct{} // a probe is to be sent at once
	arrived chan struct{} // a probe came back

	mu       sync.Mutex                        // guards topics and complete
	topics   []*topic                          // to subscribe to, in this order
	complete time.Time                         // all messages that reached Redis before then were received
	routes   atomic.Pointer[map[string]*topic] // topics by name; add replaces the map
}

func newLink() *link {
	l := &link{changed: make(chan struct{}, 1), asked: make(chan struct{}, 1), arrived: make(chan struct{}, 1), complete: time.Now()}
	l.routes.Store(&map[string]*topic{})
	return l
}

// add makes the link subscribe to further topics. It does not wait for that.
func (l *link) add(topics ...*topic) {
	l.mu.Lock()
	l.topics = append(l.topics, topics...)
	routes := make(map[string]*topic, len(l.topics))
	for _, t := range l.topics {
		routes[t.name] = t
	}
	l.routes.Store(&routes)
	l.mu.Unlock()
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// probeNow makes the link send a probe soon, if it is connected.
func (l *link) probeNow() {
	select {
	case l.asked <- struct{}{}:
	default:
	}
}

// receivedUntil returns the time before which messages had to reach Redis to be certain to be
// received, and not dropped with a connection: when the last probe that came back was published.
// When it came back does not count: a process that was stopped reads it late.
func (l *link) receivedUntil() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.complete
}

// run keeps the link connected until ctx ends.
func (l *link) run(ctx context.Context) {
	wait := time.Duration(0)
	for ctx.Err() == nil {
		started := time.Now()
		err := l.serve(ctx)
		if ctx.Err() != nil {
			return
		}
		l.down(err)
		if time.Since(started) > time.Second {
			wait = 0
		}
		wait = min(max(2*wait, 50*time.Millisecond), time.Second)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// session is one connection of a link.
type session struct {
	*link
	conn       rueidis.DedicatedClient
	client     rueidis.Client
	subscribed map[string]bool
	moved      chan struct{}

	receiving sync.Mutex           // guards the rest, and is held while a topic receives
	closing   bool                 // drop later messages: they are older than those of the next connection
	since     time.Time            // what arrives reached Redis at that time or later
	sent      map[string]time.Time // when each probe that is under way was published
}

// serve connects, subscribes, and sends probes until the connection fails or ctx ends.
func (l *link) serve(ctx context.Context) error {
	client, err := l.client()
	if err != nil {
		return err
	}
	conn, cancel := client.Dedicate()
	defer cancel()
	s := &session{
		link: l, conn: conn, client: client, subscribed: map[string]bool{}, moved: make(chan struct{}, 1),
		since: time.Now(), sent: map[string]time.Time{},
	}
	broken := conn.SetPubSubHooks(rueidis.PubSubHooks{OnMessage: s.message, OnSubscription: s.subscription})
	defer conn.Close()
	err = s.receive(ctx, broken)
	s.close()
	if errors.Is(err, errSilent) {
		l.renew(client)
	}
	return err
}

// receive subscribes, and sends probes until the connection fails or ctx ends.
func (s *session) receive(ctx context.Context, broken <-chan error) error {
	if err := s.subscribe(ctx, s.probes, false); err != nil {
		return err
	}
	select { // subscribeAll covers changes before this
	case <-s.changed:
	default:
	}
	if err := s.subscribeAll(ctx); err != nil {
		return err
	}
	err := s.watch(ctx, broken)
	if ctx.Err() != nil {
		s.unsubscribe()
	}
	return err
}

// watch sends probes until the connection fails or ctx ends.
func (s *session) watch(ctx context.Context, broken <-chan error) error {
	tick := time.NewTicker(s.timing.probe)
	defer tick.Stop()
	select {
	case <-s.arrived: // a probe of the previous connection
	default:
	}
	probing, stop := context.WithCancel(ctx)
	defer stop()
	up, missing, missed := false, true, 0
	go s.probe(probing)
	for {
		select {
		case err := <-broken:
			if err == nil {
				err = errors.New("the connection was closed")
			}
			return err
		case <-s.moved:
			return errMoved
		case <-ctx.Done():
			return ctx.Err()
		case <-s.changed:
			if err := s.subscribeAll(ctx); err != nil {
				return err
			}
		case <-s.asked:
			go s.probe(probing)
		case <-s.arrived:
			missing, missed = false, 0
			if !up {
				up = true
				s.up()
			}
		case <-tick.C:
			if missing {
				missed++
			}
			if missed == missedProbes {
				return errSilent
			}
			missing = true
			go s.probe(probing)
		}
	}
}

// probe publishes a probe. Its result is ignored: only the arrival of the probe counts.
func (s *session) probe(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, missedProbes*s.timing.probe)
	defer cancel()
	b, mark := s.client.B(), rand.Text() // not a number: a copy of this process would count alike
	s.receiving.Lock()
	s.sent[mark] = time.Now()
	s.receiving.Unlock()
	if s.sharded {
		s.client.Do(ctx, b.Spublish().Channel(s.probes).Message(mark).Build())
		return
	}
	s.client.Do(ctx, b.Publish().Channel(s.probes).Message(mark).Build())
}

// returned is called when a probe has come back. One of an earlier connection shows nothing.
func (s *session) returned(mark string) {
	s.receiving.Lock()
	defer s.receiving.Unlock()
	published, known := s.sent[mark]
	if !known || s.closing {
		return
	}
	maps.DeleteFunc(s.sent, func(_ string, at time.Time) bool { return !at.After(published) })
	s.since = published
	s.mu.Lock()
	s.complete = published
	s.mu.Unlock()
	select {
	case s.arrived <- struct{}{}:
	default:
	}
}

// message is called by the connection's reader.
func (s *session) message(m rueidis.PubSubMessage) {
	name := m.Channel
	if m.Pattern != "" {
		name = m.Pattern
	}
	if name == s.probes {
		s.returned(m.Message)
		return
	}
	s.receiving.Lock()
	defer s.receiving.Unlock()
	if t := (*s.routes.Load())[name]; t != nil && !s.closing {
		t.receive(m.Channel, m.Message, s.since)
	}
}

// close makes the session drop all later messages.
func (s *session) close() {
	s.receiving.Lock()
	defer s.receiving.Unlock()
	s.closing = true
}

// subscription is called by the connection's reader. A Redis server that moves a slot to
// another server ends the subscriptions in it.
func (s *session) subscription(e rueidis.PubSubSubscription) {
	if e.Kind == "sunsubscribe" {
		select {
		case s.moved <- struct{}{}:
		default:
		}
	}
}

// subscribeAll subscribes to the topics without a subscription, in their order.
func (s *session) subscribeAll(ctx context.Context) error {
	s.mu.Lock()
	topics := s.topics
	s.mu.Unlock()
	topics = slices.DeleteFunc(slices.Clone(topics), func(t *topic) bool { return s.subscribed[t.name] })
	if len(topics) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.timing.subscribe)
	defer cancel()
	cmds := make(rueidis.Commands, len(topics))
	for i, t := range topics {
		cmds[i] = s.subscribing(t.name, t.pattern)
	}
	for i, r := range s.conn.DoMulti(ctx, cmds...) { // one after the other would take seconds over a slow path
		if err := r.Error(); err != nil {
			return fmt.Errorf("subscribing: %w", err)
		}
		t := topics[i]
		s.subscribed[t.name] = true
		t.confirmedOnce.Do(func() { close(t.confirmed) })
	}
	return nil
}

// subscribing returns the command that subscribes. It is not recycled: DoMulti may send commands again.
func (s *session) subscribing(name string, pattern bool) rueidis.Completed {
	b := s.conn.B()
	switch {
	case s.sharded:
		return b.Ssubscribe().Channel(name).Build().Pin()
	case pattern:
		return b.Psubscribe().Pattern(name).Build().Pin()
	}
	return b.Subscribe().Channel(name).Build().Pin()
}

func (s *session) subscribe(ctx context.Context, name string, pattern bool) error {
	ctx, cancel := context.WithTimeout(ctx, s.timing.subscribe)
	defer cancel()
	if err := s.conn.Do(ctx, s.subscribing(name, pattern)).Error(); err != nil {
		return fmt.Errorf("subscribing: %w", err)
	}
	return nil
}

// unsubscribe ends the subscriptions before the connection closes, so that no other node counts
// this node as a subscriber. Those of requests are the first to end: what is sent later waits for
// no answer of this node.
func (s *session) unsubscribe() {
	ctx, cancel := context.WithTimeout(context.Background(), s.timing.subscribe)
	defer cancel()
	b := s.conn.B()
	if !s.sharded {
		s.conn.Do(ctx, b.Unsubscribe().Build()) // all channels at once
		s.conn.Do(ctx, b.Punsubscribe().Build())
		return
	}
	var cmds rueidis.Commands
	for _, t := range s.leaving() {
		cmds = append(cmds, b.Sunsubscribe().Channel(t.name).Build().Pin())
	}
	if len(cmds) > 0 {
		s.conn.DoMulti(ctx, cmds...) // one after the other would take seconds over a slow path
	}
}

// leaving returns the topics with a subscription in the order in which these end: first the topics
// of requests, then the rest, both in the order in which the link has subscribed to them.
func (s *session) leaving() (topics []*topic) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, asks := range []bool{true, false} {
		for _, t := range s.topics {
			if t.asks == asks && s.subscribed[t.name] {
				topics = append(topics, t)
			}
		}
	}
	return topics
}
