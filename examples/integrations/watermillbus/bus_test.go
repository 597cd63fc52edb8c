// Tests of a Bus on a Pub/Sub whose messages the test hands out itself.

package watermillbus_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/examples/integrations/watermillbus"
)

// pubSub records what is published, and hands out what the test sends to messages.
type pubSub struct {
	messages chan *message.Message
	publish  func() error // nil: succeeds
	refuse   error        // of Subscribe

	mu        sync.Mutex // guards the fields below
	published []*message.Message
	topics    []string
}

func newPubSub() *pubSub { return &pubSub{messages: make(chan *message.Message)} }

func (p *pubSub) Publish(topic string, messages ...*message.Message) error {
	if p.publish != nil {
		if err := p.publish(); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.published = append(p.published, messages...)
	p.topics = append(p.topics, topic)
	return nil
}

func (p *pubSub) Subscribe(ctx context.Context, _ string) (<-chan *message.Message, error) {
	if p.refuse != nil {
		return nil, p.refuse
	}
	out := make(chan *message.Message)
	go func() {
		defer close(out)
		for {
			select {
			case msg := <-p.messages:
				if msg.Context() == context.Background() {
					msg.SetContext(ctx) // as the Pub/Subs of Watermill do
				}
				select {
				case out <- msg:
				case <-ctx.Done():
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, nil
}

func (p *pubSub) Close() error { return nil }

// newMessage returns the message of an event.
func newMessage(t *testing.T, e realtime.Envelope) *message.Message {
	t.Helper()
	p := newPubSub()
	b, err := watermillbus.New(watermillbus.Config{Publisher: p})
	require.NoError(t, err)
	require.NoError(t, b.Publish(t.Context(), e))
	require.NoError(t, b.Close(t.Context()))
	return p.published[0].Copy() // without the ctx of Publish
}

func event(key string, n int) realtime.Envelope {
	return realtime.Envelope{
		ID: fmt.Sprintf("00000000-0000-4000-8000-%012d", n), Name: "trip.started", Key: key,
		At: time.Date(2026, 5, 4, 10, 20, 30, 123456789, time.UTC), Data: []byte(`{"tripId":"t1"}`),
	}
}

// answer returns how a message was answered, when it is.
func answer(t *testing.T, msg *message.Message) string {
	t.Helper()
	select {
	case <-msg.Acked():
		return "ack"
	case <-msg.Nacked():
		return "nack"
	case <-time.After(30 * time.Second):
		t.Fatal("the message is not answered")
		return ""
	}
}

func TestBus_MessageOfAnEvent(t *testing.T) {
	t.Parallel()
	msg := newMessage(t, event("access:ü 1", 7))
	require.Equal(t, "00000000-0000-4000-8000-000000000007", msg.UUID)
	require.JSONEq(t, `{"tripId":"t1"}`, string(msg.Payload))
	require.Equal(t, "trip.started", msg.Metadata.Get("event_name"))
	require.Equal(t, "access:%C3%BC%201", msg.Metadata.Get("event_key"))
	require.Equal(t, "2026-05-04T10:20:30.123456789Z", msg.Metadata.Get("event_at"))
	require.Equal(t, "access:%C3%BC%201", watermillbus.Key(msg))
	require.Empty(t, msg.Metadata.Get("event_id"))
}

// An id that is no UUID is carried too, with a UUID that is the same each time.
func TestBus_MessageOfAnEventWithAnotherID(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"clé\x00/1", strings.Repeat("x", 37)} {
		e := event("t1", 1)
		e.ID = id
		one, two := newMessage(t, e), newMessage(t, e)
		require.Equal(t, one.UUID, two.UUID)
		require.Len(t, one.UUID, 36)
		p := newPubSub()
		b := newBus(t, watermillbus.Config{Publisher: p, Subscriber: p})
		got := make(chan realtime.Envelope, 1)
		cancel, err := b.Subscribe(func(_ context.Context, e realtime.Envelope) error {
			got <- e
			return nil
		})
		require.NoError(t, err)
		p.messages <- one
		require.Equal(t, "ack", answer(t, one))
		require.Equal(t, e, <-got)
		cancel()
	}
}

// The topic of a key must never change: processes of two versions would order its events by two
// topics.
func TestBus_TopicsOfKeys(t *testing.T) {
	t.Parallel()
	p := newPubSub()
	b := newBus(t, watermillbus.Config{Publisher: p, Partitions: 16})
	for _, key := range []string{"", "trip-1", "trip-2", "access:u1"} {
		require.NoError(t, b.Publish(t.Context(), event(key, 1)))
	}
	require.Equal(t, []string{"realtime-5", "realtime-12", "realtime-5", "realtime-9"}, p.topics)
}

// A Pub/Sub such as Kafka hands out messages of several keys at once.
func TestBus_KeysOfOneTopicAreHandledConcurrently(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPubSub()
		b := newBus(t, watermillbus.Config{Publisher: p, Subscriber: p, MaxHandling: 4})
		release, handled := make(chan struct{}), make(chan string, 10)
		cancel, err := b.Subscribe(func(_ context.Context, e realtime.Envelope) error {
			if e.Key == "slow" {
				<-release
			}
			handled <- e.Key + e.ID[35:]
			return nil
		})
		require.NoError(t, err)
		slow1, slow2, quick, second := newMessage(t, event("slow", 1)), newMessage(t, event("slow", 2)), newMessage(t, event("quick", 3)), newMessage(t, event("slow", 4))
		for _, msg := range []*message.Message{slow1, slow2, quick, second} {
			p.messages <- msg
		}
		require.Equal(t, "ack", answer(t, quick))
		require.Equal(t, "quick3", <-handled)
		// Three messages wait, so there is space for one.
		fourth, fifth := newMessage(t, event("slow", 5)), newMessage(t, event("quick", 6))
		p.messages <- fourth
		p.messages <- fifth // the Pub/Sub has it, and cannot hand it out
		synctest.Wait()
		require.Empty(t, handled)
		close(release)
		require.Equal(t, "ack", answer(t, fifth))
		cancel()
		close(handled)
		var order []string
		for h := range handled {
			if strings.HasPrefix(h, "slow") {
				order = append(order, h)
			}
		}
		require.Equal(t, []string{"slow1", "slow2", "slow4", "slow5"}, order)
	})
}

func TestBus_FailedEventIsNackedThenPoison(t *testing.T) {
	t.Parallel()
	for name, failing := range map[string]func() error{
		"an error": func() error { return errors.New("a planned failure") },
		"a panic":  func() error { panic("a planned panic") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPubSub()
			var poisoned []string
			refuse := errors.New("no space")
			b := newBus(t, watermillbus.Config{
				Publisher: p, Subscriber: p, Attempts: 3,
				Poison: func(msg *message.Message, reason error) error {
					poisoned = append(poisoned, msg.UUID+" "+reason.Error())
					err := refuse
					refuse = nil
					return err
				},
			})
			others := 0
			_, err := b.Subscribe(func(context.Context, realtime.Envelope) error {
				others++
				return nil
			})
			require.NoError(t, err)
			_, err = b.Subscribe(func(context.Context, realtime.Envelope) error { return failing() })
			require.NoError(t, err)
			for _, want := range []string{"nack", "nack", "nack", "ack"} { // the third time Poison fails
				msg := newMessage(t, event("t1", 1))
				p.messages <- msg
				require.Equal(t, want, answer(t, msg))
			}
			require.Len(t, poisoned, 2)
			require.Contains(t, poisoned[1], "00000000-0000-4000-8000-000000000001")
			require.Contains(t, poisoned[1], "a planned")
			require.Equal(t, 4, others)
		})
	}
}

// A Pub/Sub that could not store that a message was handled delivers it again: it is acknowledged, and
// not handled again.
func TestBus_HandledEventIsNotHandledAgain(t *testing.T) {
	t.Parallel()
	p := newPubSub()
	b := newBus(t, watermillbus.Config{Publisher: p, Subscriber: p})
	var ids []string
	_, err := b.Subscribe(func(_ context.Context, e realtime.Envelope) error {
		ids = append(ids, e.ID)
		return nil
	})
	require.NoError(t, err)
	for _, n := range []int{1, 1, 2, 1, 3} {
		msg := newMessage(t, event("t1", n))
		p.messages <- msg
		require.Equal(t, "ack", answer(t, msg))
	}
	require.Equal(t, []string{event("t1", 1).ID, event("t1", 2).ID, event("t1", 3).ID}, ids)
}

// A message of somebody else's does not stop the topic.
func TestBus_UnreadableMessageIsPoison(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(message.Metadata){
		"no name":  func(m message.Metadata) { delete(m, "event_name") },
		"bad name": func(m message.Metadata) { m["event_name"] = "%" },
		"bad key":  func(m message.Metadata) { m["event_key"] = "%zz" },
		"bad id":   func(m message.Metadata) { m["event_id"] = "%" },
		"bad time": func(m message.Metadata) { m["event_at"] = "yesterday" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPubSub()
			var reasons []error
			b := newBus(t, watermillbus.Config{Publisher: p, Subscriber: p, Poison: func(_ *message.Message, reason error) error {
				reasons = append(reasons, reason)
				return nil
			}})
			_, err := b.Subscribe(func(context.Context, realtime.Envelope) error {
				t.Error("the handler was called")
				return nil
			})
			require.NoError(t, err)
			msg := newMessage(t, event("t1", 1))
			spoil(msg.Metadata)
			p.messages <- msg
			require.Equal(t, "ack", answer(t, msg))
			require.Len(t, reasons, 1)
		})
	}
}

// The Pub/Sub delivers a message again that it has given up, so this one is not handled.
func TestBus_MessageThatWasGivenUpIsNotHandled(t *testing.T) {
	t.Parallel()
	p := newPubSub()
	b := newBus(t, watermillbus.Config{Publisher: p, Subscriber: p})
	_, err := b.Subscribe(func(context.Context, realtime.Envelope) error {
		t.Error("the handler was called")
		return nil
	})
	require.NoError(t, err)
	msg := newMessage(t, event("t1", 1))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	msg.SetContext(ctx)
	p.messages <- msg
	require.Equal(t, "nack", answer(t, msg))
}

// A message that waits while the last subscription ends is for another process.
func TestBus_CancelNacksWhatWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPubSub()
		b := newBus(t, watermillbus.Config{Publisher: p, Subscriber: p})
		release := make(chan struct{})
		var during context.Context
		cancel, err := b.Subscribe(func(ctx context.Context, _ realtime.Envelope) error {
			during = ctx
			<-release
			return nil
		})
		require.NoError(t, err)
		one, two := newMessage(t, event("t1", 1)), newMessage(t, event("t1", 2))
		p.messages <- one
		p.messages <- two
		synctest.Wait()
		canceled := make(chan struct{})
		go func() {
			cancel()
			close(canceled)
		}()
		synctest.Wait()
		require.NoError(t, during.Err(), "the ctx of a running handler")
		select {
		case <-canceled:
			t.Error("cancel returned while a handler ran")
		default:
		}
		close(release)
		<-canceled
		require.Equal(t, "ack", answer(t, one))
		require.Equal(t, "nack", answer(t, two))
	})
}

func TestBus_SubscribeFails(t *testing.T) {
	t.Parallel()
	p := newPubSub()
	p.refuse = errors.New("no broker")
	b := newBus(t, watermillbus.Config{Publisher: p, Subscriber: p})
	got := make(chan struct{}, 1)
	handler := func(context.Context, realtime.Envelope) error {
		got <- struct{}{}
		return nil
	}
	_, err := b.Subscribe(handler)
	require.ErrorIs(t, err, p.refuse)
	p.refuse = nil
	_, err = b.Subscribe(handler)
	require.NoError(t, err)
	p.messages <- newMessage(t, event("t1", 1))
	<-got

	_, err = b.Subscribe(nil)
	require.EqualError(t, err, "watermillbus: Subscribe: the handler is nil")
	_, err = newBus(t, watermillbus.Config{Publisher: p}).Subscribe(handler)
	require.EqualError(t, err, "watermillbus: Subscribe: Config.Subscriber is nil")
}

// A broker that hangs costs MaxPublishing goroutines at most, and no caller waits beyond its ctx.
func TestBus_PublishWhileTheBrokerHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, release, calls := newPubSub(), make(chan struct{}), make(chan struct{}, 10)
		p.publish = func() error {
			calls <- struct{}{}
			<-release
			return nil
		}
		b := newBus(t, watermillbus.Config{Publisher: p, MaxPublishing: 2})
		for range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			require.ErrorIs(t, b.Publish(ctx, event("t1", 1)), context.DeadlineExceeded)
			cancel()
		}
		require.Len(t, calls, 2)
		brief, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, b.Close(brief), context.DeadlineExceeded)
		close(release)
		require.NoError(t, b.Close(t.Context()))
		require.ErrorIs(t, b.Publish(t.Context(), event("t1", 1)), realtime.ErrClosed)
	})
}

func TestBus_PublishFails(t *testing.T) {
	t.Parallel()
	p, planned := newPubSub(), errors.New("a planned failure")
	p.publish = func() error { return planned }
	b := newBus(t, watermillbus.Config{Publisher: p})
	require.ErrorIs(t, b.Publish(t.Context(), event("t1", 1)), planned)
}

// When Close gives up, the ctx of a handler ends.
func TestBus_CloseGivesUp(t *testing.T) {
	t.Parallel()
	p := newPubSub()
	b := newBus(t, watermillbus.Config{Publisher: p, Subscriber: p})
	entered := make(chan struct{})
	_, err := b.Subscribe(func(ctx context.Context, _ realtime.Envelope) error {
		close(entered)
		<-ctx.Done()
		return ctx.Err()
	})
	require.NoError(t, err)
	msg := newMessage(t, event("t1", 1))
	p.messages <- msg
	<-entered
	ended, end := context.WithCancel(t.Context())
	end()
	require.ErrorIs(t, b.Close(ended), context.Canceled)
	require.Equal(t, "nack", answer(t, msg))
	_, err = b.Subscribe(func(context.Context, realtime.Envelope) error { return nil })
	require.ErrorIs(t, err, realtime.ErrClosed)
}

func TestNew_NamesEveryMistake(t *testing.T) {
	t.Parallel()
	_, err := watermillbus.New(watermillbus.Config{Partitions: -1, MaxHandling: -1, MaxPublishing: -1, Attempts: -1})
	require.EqualError(t, err, strings.Join([]string{
		"watermillbus: Config.Publisher is nil", "watermillbus: Config.Partitions is negative",
		"watermillbus: Config.MaxHandling is negative", "watermillbus: Config.MaxPublishing is negative",
		"watermillbus: Config.Attempts is negative",
	}, "\n"))
}
