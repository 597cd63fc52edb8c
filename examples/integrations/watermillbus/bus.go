// Bus: its configuration, publishing and closing.

package watermillbus

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"strconv"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"

	"github.com/rodando/realtime"
)

// Config says which Pub/Sub a Bus uses, and how. Its Publisher and Subscriber stay the host's: a
// Bus does not close them.
type Config struct {
	// Publisher sends the messages. Required.
	Publisher message.Publisher
	// Subscriber receives them. Give all servers the same consumer group, so that one of them
	// handles each event. Defaults to none: Subscribe returns an error.
	Subscriber message.Subscriber

	// Topic is the name of the topic, or the beginning of their names. Defaults to "realtime".
	Topic string
	// Partitions is the number of topics, over which the events are spread by key: "realtime-0",
	// "realtime-1" and so on. It must be the same in all processes, and must not change while
	// events wait. Defaults to 1: the only topic is Topic.
	Partitions int

	// MaxHandling bounds the messages of a topic that are handled, or wait for an earlier one of
	// their key. Defaults to 256.
	MaxHandling int
	// MaxPublishing bounds the running calls of Publisher. Further calls of Publish wait, within
	// their ctx. Defaults to 256.
	MaxPublishing int
	// Attempts is how often a handler may fail for an event, counted in this process. Defaults
	// to 5.
	Attempts int
	// Poison receives a message that is not delivered again, and the reason: for instance, it
	// publishes the message to another topic. If it returns an error, the message is delivered
	// again. It is called concurrently. Defaults to none: the message is only logged.
	Poison func(msg *message.Message, reason error) error
	// Logger receives the log. Defaults to slog.Default().
	Logger *slog.Logger
}

// complete returns c with its defaults, and an error that joins every mistake.
func (c Config) complete() (Config, error) {
	var errs []error
	if c.Publisher == nil {
		errs = append(errs, errors.New("watermillbus: Config.Publisher is nil"))
	}
	if c.Topic == "" {
		c.Topic = "realtime"
	}
	for _, n := range []struct {
		name string
		v    *int
		def  int
	}{
		{"Partitions", &c.Partitions, 1},
		{"MaxHandling", &c.MaxHandling, 256},
		{"MaxPublishing", &c.MaxPublishing, 256},
		{"Attempts", &c.Attempts, 5},
	} {
		if *n.v < 0 {
			errs = append(errs, fmt.Errorf("watermillbus: Config.%s is negative", n.name))
		}
		if *n.v == 0 {
			*n.v = n.def
		}
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c, errors.Join(errs...)
}

// Bus is a realtime.EventBus over a Pub/Sub of Watermill. New returns one. All methods may be
// called concurrently.
type Bus struct {
	cfg        Config
	id         string          // in the metadata of the messages that it publishes
	publishing chan struct{}   // has an element for each running call of Config.Publisher
	ctx        context.Context // of the subscriptions to topics; ends when Close gives up
	stop       context.CancelFunc

	mu            sync.Mutex // guards the fields below, and ended of each subscription
	closed        bool
	published     uint64 // the number of the last message
	subscriptions []*subscription
	reader        *reader              // nil while nobody subscribes
	queues        map[string]*keyQueue // of the keys with an event that is handled
	failures      map[string]int       // by event id: how often a handler has failed
	handled       map[string]bool      // by event id: the last ones that were handled
	handledOrder  []string             // their ids, the oldest first
	running       sync.WaitGroup       // readers, queues and calls of Publish; grows only while not closed, or while it is not zero
}

var _ realtime.EventBus = (*Bus)(nil)

// New returns a Bus without subscribers, or an error that names every mistake in c.
func New(c Config) (*Bus, error) {
	c, err := c.complete()
	if err != nil {
		return nil, err
	}
	b := &Bus{
		cfg: c, id: uuid.NewString(), publishing: make(chan struct{}, c.MaxPublishing),
		queues: map[string]*keyQueue{}, failures: map[string]int{}, handled: map[string]bool{},
	}
	b.ctx, b.stop = context.WithCancel(context.Background())
	return b, nil
}

// Publish implements realtime.EventBus. It returns when Config.Publisher has accepted the
// message, or when ctx ends: the event may then be published nevertheless. To try again, keep
// its ID. After Close it returns realtime.ErrClosed.
func (b *Bus) Publish(ctx context.Context, e realtime.Envelope) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("watermillbus: publishing %s: %w", e.Name, err)
	}
	msg := encode(e)
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return realtime.ErrClosed
	}
	b.running.Add(1)
	b.published++
	stamp(msg, b.id, b.published)
	b.mu.Unlock()

	select {
	case b.publishing <- struct{}{}:
	case <-ctx.Done():
		b.running.Done()
		return fmt.Errorf("watermillbus: publishing %s: %w", e.Name, ctx.Err())
	}
	msg.SetContext(ctx) // the publishers of watermill-sql heed it, others do not
	result := make(chan error, 1)
	go func() {
		defer b.running.Done()
		defer func() { <-b.publishing }()
		result <- b.cfg.Publisher.Publish(b.topicOf(e.Key), msg)
	}()
	var err error
	select {
	case err = <-result:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("watermillbus: publishing %s: %w", e.Name, err)
	}
	return nil
}

// topicOf returns the topic of the events of a key. Every version of this package has to return
// the same.
func (b *Bus) topicOf(key string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(key))
	return b.topic(int(h.Sum32() % uint32(b.cfg.Partitions)))
}

func (b *Bus) topic(partition int) string {
	if b.cfg.Partitions == 1 {
		return b.cfg.Topic
	}
	return b.cfg.Topic + "-" + strconv.Itoa(partition)
}

// Close ends the subscriptions, makes Publish and Subscribe return realtime.ErrClosed, and waits
// within ctx for running calls of handlers and of Config.Publisher. If ctx ends first, the ctx of
// the handlers ends, and another call of Close waits for them again. Do not call Close from a
// handler.
func (b *Bus) Close(ctx context.Context) error {
	b.mu.Lock()
	b.closed = true
	for _, s := range b.subscriptions {
		s.ended = true
	}
	b.subscriptions = nil
	b.leaveLocked()
	b.mu.Unlock()
	done := make(chan struct{})
	go func() {
		b.running.Wait()
		close(done)
	}()
	select {
	case <-done:
		b.stop()
		return nil
	case <-ctx.Done():
		b.stop()
		return fmt.Errorf("watermillbus: calls still run: %w", ctx.Err())
	}
}
