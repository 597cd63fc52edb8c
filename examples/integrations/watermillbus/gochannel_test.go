// The conformance suite of event buses, on Watermill's Pub/Sub in memory.

package watermillbus_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"
	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/examples/integrations/watermillbus"
	"github.com/rodando/realtime/realtimetest"
)

// broker gives a GoChannel what a broker has, and it lacks. Publish of a GoChannel either keeps
// no order, or waits for the ack of each message, and then a handler cannot publish. Publish of
// a broker stores the message and returns.
type broker struct {
	*gochannel.GoChannel

	running sync.WaitGroup

	mu     sync.Mutex                    // guards the fields below
	topics map[string][]*message.Message // of topics with a goroutine
	fail   error                         // of the next Publish
}

func newBroker(t *testing.T) *broker {
	t.Helper()
	b := &broker{
		GoChannel: gochannel.NewGoChannel(gochannel.Config{BlockPublishUntilSubscriberAck: true}, nil),
		topics:    map[string][]*message.Message{},
	}
	t.Cleanup(func() {
		require.NoError(t, b.Close())
		b.running.Wait()
	})
	return b
}

func (b *broker) Publish(topic string, messages ...*message.Message) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.fail; err != nil {
		b.fail = nil
		return err
	}
	waiting, running := b.topics[topic]
	b.topics[topic] = append(waiting, messages...)
	if !running {
		b.running.Go(func() { b.run(topic) })
	}
	return nil
}

// run hands out the messages of a topic, each when the one before was acked.
func (b *broker) run(topic string) {
	for {
		b.mu.Lock()
		waiting := b.topics[topic]
		if len(waiting) == 0 {
			delete(b.topics, topic)
			b.mu.Unlock()
			return
		}
		b.topics[topic] = waiting[1:]
		b.mu.Unlock()
		if err := b.GoChannel.Publish(topic, waiting[0]); err != nil {
			return // the GoChannel is closed
		}
	}
}

func newBus(t *testing.T, c watermillbus.Config) *watermillbus.Bus {
	t.Helper()
	b, err := watermillbus.New(c)
	require.NoError(t, err)
	closeAfter(t, b)
	return b
}

func closeAfter(t *testing.T, b *watermillbus.Bus) {
	t.Helper()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		require.NoError(t, b.Close(ctx))
	})
}

// A GoChannel has one message of a topic in flight. So it takes several topics, if a slow key is
// not to delay all others.
func TestBus_ConformsOnGoChannel(t *testing.T) {
	t.Parallel()
	realtimetest.TestEventBus(t, func(t *testing.T) realtime.EventBus {
		p := newBroker(t)
		return newBus(t, watermillbus.Config{Publisher: p, Subscriber: p, Partitions: 16})
	})
}
