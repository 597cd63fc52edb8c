// Bus: creating and closing the bus, publishing, and Check. Subscribe is in subscribe.go.

package redisbus

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/hostcall"
	"github.com/rodando/realtime/internal/redisclient"
)

// timing holds intervals and timeouts. Tests use shorter ones.
type timing struct {
	lease    time.Duration // how long an owner that does not renew its lease keeps a partition
	beat     time.Duration // between two heartbeats of a member, and two renewals of a lease
	block    time.Duration // how long one XREAD waits for an entry
	call     time.Duration // timeout of a call to Redis
	trim     time.Duration // between two removals of handled entries
	retry    time.Duration // before a handler is called again; doubles each time
	grace    time.Duration // from the end of a handler's ctx until its call is abandoned
	handover time.Duration // how long the functions of BeforeHandover and BeforeTakeover may take
}

var defaultTiming = timing{
	lease: 5 * time.Second, beat: time.Second, block: 2 * time.Second, call: redisclient.WriteTimeout,
	trim: 5 * time.Second, retry: 100 * time.Millisecond, grace: time.Second, handover: 5 * time.Second,
}

// Bus is a realtime.EventBus over Redis Streams. All methods may be called concurrently.
type Bus struct {
	opts        Options
	keys        keys
	log         *slog.Logger
	name        string // the consumer's name in Redis
	timing      timing
	connections connections
	notices     *hostcall.Queue // calls of OnSetAside and OnGap

	handling context.Context // of handlers; ends when Close stops waiting for them
	cancel   context.CancelFunc
	running  sync.WaitGroup // members; grows only while not closed

	mu            sync.Mutex // guards the rest, and ended of each subscription
	subscriptions []*subscription
	member        *member       // while there are subscriptions, unless Leave was called since the last Subscribe
	left          []*member     // former ones that may still call handlers
	handovers     handovers     // of BeforeHandover
	takeovers     handovers     // of BeforeTakeover
	closing       chan struct{} // closed when everything has ended; nil before Close
}

var _ realtime.EventBus = (*Bus)(nil)

// New returns a Bus. It does not connect: the first call of a method does. Its error joins all
// mistakes in o.
func New(o Options) (*Bus, error) {
	o, err := o.complete()
	if err != nil {
		return nil, err
	}
	b := &Bus{opts: o, keys: newKeys(o), log: o.Logger, timing: defaultTiming}
	b.name = strings.TrimPrefix(o.Name+"-", "-") + strings.ToLower(rand.Text()[:10])
	b.connections = connections{opts: o, keys: b.keys}
	b.notices = newNotices(o, len(b.keys.all))
	b.handling, b.cancel = context.WithCancel(context.Background())
	return b, nil
}

// Publish implements realtime.EventBus. It blocks, within ctx, until Redis has stored the event;
// nil means that it has. It does not retry: after an error the event may have been published or
// not, and the host may publish it again with the same ID. After Close it returns
// realtime.ErrClosed.
func (b *Bus) Publish(ctx context.Context, e realtime.Envelope) error {
	fields := fieldsOf(e)
	if sizeOf(fields) > b.opts.MaxEvent {
		return fmt.Errorf("redisbus: publishing %s: %w", e.Name, errTooLarge)
	}
	client, err := b.client(ctx)
	if err != nil {
		return err
	}
	add := client.B().Arbitrary("XADD").Keys(b.keys.of(e.Key).stream).
		Args("MAXLEN", "~", strconv.Itoa(b.opts.MaxWaiting), "*").Args(fields...).Build()
	if err := client.Do(noDeadline{ctx}, add).Error(); err != nil {
		return fmt.Errorf("redisbus: publishing %s: %w", e.Name, err)
	}
	return nil
}

// client returns the client, or an error of the exported API.
func (b *Bus) client(ctx context.Context) (rueidis.Client, error) {
	client, err := b.connections.get(ctx)
	if err == nil || errors.Is(err, realtime.ErrClosed) {
		return client, err
	}
	return nil, fmt.Errorf("redisbus: %w", err)
}

// Check returns nil if Redis answers and, while there are subscriptions, this node handles the
// events of its partitions. Otherwise the error says why. After Leave the node has no partitions, and only Redis counts.
// Check blocks within ctx. It is meant for a health endpoint.
func (b *Bus) Check(ctx context.Context) error {
	client, err := b.client(ctx)
	if err != nil {
		return err
	}
	b.mu.Lock()
	m := b.member
	b.mu.Unlock()
	if m != nil {
		err = m.health()
	} else {
		err = client.Do(noDeadline{ctx}, client.B().Ping().Build()).Error()
	}
	if err != nil {
		return fmt.Errorf("redisbus: %w", err)
	}
	return nil
}

// Close ends all subscriptions, waits within ctx for running handlers, but not for abandoned
// ones (Options.HandlerTimeout), releases the node's partitions and closes the client, unless it
// is Options.Client. If ctx ends first, Close cancels the handlers' contexts and returns an
// error; another call waits for the handlers again. It must not be called from a handler, which
// it would wait for.
func (b *Bus) Close(ctx context.Context) error {
	b.mu.Lock()
	if b.closing == nil {
		b.closing = make(chan struct{})
		for _, s := range b.subscriptions {
			s.ended = true
		}
		b.subscriptions = nil
		b.leaveLocked()
		go b.end(b.closing)
	}
	closing := b.closing
	b.mu.Unlock()
	select {
	case <-closing:
		return nil
	case <-ctx.Done():
		b.cancel()
		return fmt.Errorf("redisbus: handlers still run: %w", ctx.Err())
	}
}

func (b *Bus) end(done chan struct{}) {
	b.running.Wait()
	ctx, cancel := context.WithTimeout(b.handling, 2*b.opts.HandlerTimeout) // a queue of calls that never return stops
	_ = b.notices.Wait(ctx)
	cancel()
	b.cancel()
	b.connections.close()
	close(done)
}
