// Adapter: the life of a node in its cluster.

package redisadapter

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/redisadapter/internal/wire"
)

// Adapter is a realtime.Adapter over Redis. Each server needs an Adapter of its own,
// which it starts and closes. All methods may be called concurrently.
type Adapter struct {
	opts     Options
	log      *slog.Logger
	uid      string
	head     []byte // of every broadcast of this node's, unless Options.Sharded is set
	limits   wire.Limits
	protocol protocol
	timing   timing

	publisher publisher
	requests  requests
	answering answering
	peers     peers
	twins     twins
	gaps      gaps
	signals   signals

	node   realtime.Node   // set by Start
	ctx    context.Context // for calls of node
	cancel context.CancelFunc
	linked context.Context // for the links; ends before ctx
	unlink context.CancelFunc
	// closing is closed when Close begins. Requests, and the goroutines in linking that
	// connect later or exchange heartbeats, end then.
	closing chan struct{}
	links   linkSet
	client  atomic.Pointer[rueidis.Client] // nil: not connected

	namespaces sync.Map                              // name to *namespace
	patterns   atomic.Pointer[map[string]*namespace] // by the pattern of its broadcasts; filterNamespace replaces it
	running    group                                 // calls of node; none starts once stopped is set
	linking    group                                 // the links' goroutines

	mu      sync.Mutex // guards the rest
	started bool
	closed  bool
	stopped bool            // no further call of node may start
	health  map[*link]error // why a link does not receive; nil if it does
	late    error           // errLate, or nil
	opened  bool            // the links of Start exist
	joined  bool            // all of them have received at the same time
	badLog  time.Time       // when malformed messages were last logged
	bad     int             // malformed messages since then
}

var (
	_ realtime.DirectPublisher = (*Adapter)(nil)
	_ realtime.AdapterChecker  = (*Adapter)(nil)
	_ realtime.AdapterReporter = (*Adapter)(nil)
	_ realtime.RoomWatcher     = (*Adapter)(nil)
	_ realtime.Claimer         = (*Adapter)(nil)
	_ realtime.CallKeeper      = (*Adapter)(nil)
	_ realtime.CatchUpAdapter  = (*Adapter)(nil)
)

var (
	errStarted    = errors.New("redisadapter: the adapter was started before")
	errNotStarted = errors.New("redisadapter: the adapter was not started")
	errUsedUp     = fmt.Errorf("redisadapter: the adapter cannot start again, also after a failed realtime.New; make a new one: %w", realtime.ErrClosed)
	errConnecting = errors.New("redisadapter: not connected to Redis yet")
	errTwice      = errors.New("a request with the id of one that is being answered")
	errNotice     = errors.New("not a node's notice")
)

// nodePrefix begins the id of every Go node.
const nodePrefix = "realtime-"

// isNode reports whether a uid is that of a Go node.
func isNode(uid string) bool { return strings.HasPrefix(uid, nodePrefix) }

// New returns an Adapter for realtime.Options.Cluster. Its error reports every mistake in
// o. The adapter connects when realtime.New starts it.
func New(o Options) (*Adapter, error) {
	o, err := o.complete()
	if err != nil {
		return nil, err
	}
	a := &Adapter{
		opts: o, log: o.Logger, uid: nodePrefix + randomName(16),
		limits:  wire.Limits{Bytes: o.MaxMessage, Depth: o.MaxDepth, Attachments: o.MaxAttachments},
		timing:  defaultTiming,
		closing: make(chan struct{}),
		health:  map[*link]error{},
	}
	a.ctx, a.cancel = context.WithCancel(context.Background())
	a.linked, a.unlink = context.WithCancel(context.Background())
	a.protocol = protocolOf(o, a.limits, a.uid)
	a.head = wire.Classic{}.Head(a.uid)
	a.answering.init(maxAnswering, maxAsking, maxWaiting, o.QueuedBytes)
	a.publisher = publisher{
		client: a.current, sharded: o.Sharded, failed: a.publishFailed, healed: a.publishHealed,
		maxMessages: o.QueuedMessages, maxBytes: o.QueuedBytes,
	}
	return a, nil
}

// protocolOf returns the protocol of a node with that id.
func protocolOf(o Options, limits wire.Limits, uid string) protocol {
	if o.Sharded {
		return sharded{wire.Sharded{Limits: limits}, o.Key, uid}
	}
	return classic{wire.Classic{Limits: limits}, o.Key, uid}
}

// randomName returns n random letters and digits.
func randomName(n int) string { return strings.ToLower(rand.Text()[:n]) }

// Start implements realtime.Adapter. It returns when the node receives the messages of all
// Options.Namespaces. If it cannot connect, it closes the adapter and returns an error, or nil
// if Options.StartAlone is set. A host that calls realtime.New again makes a new Adapter for it.
func (a *Adapter) Start(ctx context.Context, node realtime.Node) error {
	a.mu.Lock()
	switch {
	case a.closed:
		a.mu.Unlock()
		return errUsedUp
	case a.started:
		a.mu.Unlock()
		return errStarted
	}
	a.started = true
	began := time.Now()
	a.node = node
	a.mu.Unlock()
	a.log.Info("redisadapter: starting", "node", realtime.Peer{ID: a.uid, Name: a.opts.Name}.String()) // other nodes log it so
	for _, name := range a.opts.Namespaces {
		a.namespace(name)
	}
	err := a.connect(ctx)
	if err != nil && !a.opts.StartAlone {
		return errors.Join(err, a.Close(context.WithoutCancel(ctx)))
	}
	a.linking.start(a.exchangeHeartbeats)
	a.linking.start(a.watchOthers)
	if err != nil {
		a.log.Error("redisadapter: starting alone", "error", err)
		a.receiving(err)
		a.linking.start(func() { a.connectLater(began) })
		return nil
	}
	a.notify(notice{Op: opHello})
	return nil
}

// state returns an error unless the adapter is running.
func (a *Adapter) state() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.closed:
		return realtime.ErrClosed
	case !a.started:
		return errNotStarted
	}
	return nil
}

// Publish implements realtime.Adapter. It encodes the message and queues it.
func (a *Adapter) Publish(_ context.Context, m realtime.ClusterMessage) error {
	if err := a.state(); err != nil {
		return err
	}
	a.namespace(m.Namespace)
	if isState(m) {
		payload, err := encodeState(a.uid, m)
		if err != nil {
			return err
		}
		return a.publisher.push(outgoing{channel: stateChannel(a.opts.Key, m.Namespace), payload: payload})
	}
	w := messages.Get().(*wire.Message) //nolint:errcheck,forcetypeassert // messages holds nothing else
	defer func() {
		*w = wire.Message{}
		messages.Put(w)
	}()
	var err error
	*w, err = toWire(m)
	switch {
	case errors.Is(err, errNoReceivers):
		return nil
	case err != nil:
		return err
	case w.Kind == wire.Fetch || w.Kind == wire.Ask:
		return errOp
	}
	w.UID = a.uid
	payload, err := a.protocol.Append(a.publisher.buffer(), w)
	if err != nil {
		return fmt.Errorf("redisadapter: encoding: %w", err)
	}
	return a.publisher.push(outgoing{channel: a.protocol.channel(w, ""), payload: payload})
}

// messages are for Publish, which would allocate one for each call.
var messages = sync.Pool{New: func() any { return new(wire.Message) }}

// PublishesDirectly implements realtime.DirectPublisher.
func (a *Adapter) PublishesDirectly() {}

// RoomChanged implements realtime.RoomWatcher. The adapter asks the
// server for rooms when a message arrives; here it only subscribes to the namespace.
func (a *Adapter) RoomChanged(namespace, _ string) {
	if _, ok := a.namespaces.Load(namespace); !ok {
		a.namespace(namespace)
	}
}

// namespace returns the namespace, and subscribes to it if it is new.
func (a *Adapter) namespace(name string) *namespace {
	if ns, ok := a.namespaces.Load(name); ok {
		return ns.(*namespace) //nolint:errcheck,forcetypeassert // namespaces holds nothing else
	}
	ns := newNamespace(a, name)
	var topics []*topic
	add := func(name string, pattern bool, from source) {
		t := newTopic(name, pattern, func(channel, msg string, since time.Time) {
			ns.push(incoming{from, channel, msg}, since)
		})
		t.asks = from == fromRequests
		topics = append(topics, t)
	}
	for _, s := range a.protocol.subscriptions(name) {
		add(s.name, s.pattern, s.source)
	}
	// Last: a node that counts this one as a subscriber here expects an answer.
	add(stateChannel(a.opts.Key, name), false, fromState)
	for _, t := range topics {
		ns.subscribed = append(ns.subscribed, t.confirmed)
	}
	if other, loaded := a.namespaces.LoadOrStore(name, ns); loaded {
		return other.(*namespace) //nolint:errcheck,forcetypeassert // as above
	}
	a.filterNamespace(ns)
	a.links.add(topics)
	return ns
}

// awaitSubscribed waits until Redis has confirmed a namespace's subscriptions.
func (a *Adapter) awaitSubscribed(ctx context.Context, namespace string) error {
	for _, confirmed := range a.namespace(namespace).subscribed {
		select {
		case <-confirmed:
		case <-ctx.Done():
			return fmt.Errorf("redisadapter: not subscribed: %w", ctx.Err())
		case <-a.closing:
			return realtime.ErrClosed
		}
	}
	return nil
}

// enter reports whether node may be called. If so, the caller must call leave afterwards.
func (a *Adapter) enter() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stopped {
		return false
	}
	a.running.begin()
	return true
}

func (a *Adapter) leave() { a.running.end() }

// isClosed reports whether no further call of node may start.
func (a *Adapter) isClosed() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.stopped
}

// drainTime is how long Close waits for messages that have arrived to be handled and for requests to
// be answered, and then how long for the answers to those that it has ended.
const drainTime = 500 * time.Millisecond

// Close implements realtime.Adapter. It unsubscribes, finishes answers, ends those that take longer,
// announces that the node leaves, sends what is queued, and waits for calls of the server, within ctx.
func (a *Adapter) Close(ctx context.Context) error {
	a.mu.Lock()
	first := !a.closed
	a.closed = true
	a.mu.Unlock()
	if first {
		close(a.closing)
	}
	a.unlink()
	if !a.linking.wait(ctx, writeTimeout) {
		a.log.Warn("redisadapter: closing the connections to Redis takes too long")
	}
	a.running.wait(ctx, drainTime)
	a.mu.Lock()
	a.stopped = true
	a.mu.Unlock()
	a.cancel()
	a.running.wait(ctx, drainTime) // a ServerAsk is answered with null
	if first {
		a.notify(notice{Op: opBye}) // behind the answers: nobody waits for later ones
	}
	err := a.publisher.flush(ctx)
	if c := a.current(); c != nil {
		a.renew(c)
	}
	if !a.running.wait(ctx, 0) || !a.linking.wait(ctx, 0) {
		return ctx.Err()
	}
	return err
}
