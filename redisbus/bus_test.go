// Options, publishing, and the life of a bus.

package redisbus_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/redistest"
	"github.com/rodando/realtime/redisbus"
)

func TestNew_ReturnsEveryMistake(t *testing.T) {
	t.Parallel()
	_, err := redisbus.New(redisbus.Options{
		Key: "a{b", Group: "}", Partitions: 1025, Attempts: -1, MaxEvent: -1, MaxWaiting: -1, MaxSetAside: -1, HandlerTimeout: -1,
	})
	require.EqualError(t, err, strings.Join([]string{
		"redisbus: set Options.URL or Options.Client",
		`redisbus: Options.Key: "a{b" contains a brace`,
		`redisbus: Options.Group: "}" contains a brace`,
		"redisbus: Options.Attempts is negative",
		"redisbus: Options.MaxEvent is negative",
		"redisbus: Options.MaxWaiting is negative",
		"redisbus: Options.MaxSetAside is negative",
		"redisbus: Options.HandlerTimeout is negative",
		"redisbus: Options.Partitions: 1025 is more than 1024",
	}, "\n"))
	_, err = redisbus.New(redisbus.Options{URL: "redis://:secret@a b"})
	require.ErrorContains(t, err, "redisbus: Options.URL: not a URL")
	require.NotContains(t, err.Error(), "secret")
	_, err = redisbus.New(redisbus.Options{URL: "redis://localhost", Client: struct{ rueidis.Client }{}})
	require.EqualError(t, err, "redisbus: set Options.URL or Options.Client, not both")
	_, err = redisbus.New(redisbus.Options{URL: "redis://localhost", Partitions: -1})
	require.EqualError(t, err, "redisbus: Options.Partitions is negative")
	_, err = redisbus.New(redisbus.Options{URL: "redis://localhost", HandlerTimeout: 1 << 62})
	require.EqualError(t, err, "redisbus: Options.HandlerTimeout is more than a year")
}

func TestBus_Subscribe_FailsWithoutRedis(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	url := r.url()
	r.Close()
	b := newBus(t, url, nil)
	_, err := b.Subscribe(new(recorder).handle)
	require.ErrorContains(t, err, "redisbus: ")
	require.ErrorContains(t, b.Publish(t.Context(), event("a", 1)), "redisbus: ")
	require.ErrorContains(t, b.Check(t.Context()), "redisbus: ")
}

func TestBus_StartAlone_JoinsLater(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	url := r.url()
	r.Close()
	b := newBus(t, url, func(o *redisbus.Options) { o.StartAlone = true })
	var got recorder
	subscribe(t, b, got.handle)
	require.Error(t, b.Check(t.Context()))
	require.NoError(t, r.Restart())
	r.Server().SetPreHook(r.before)
	eventually(t, "the bus works", func() bool { return b.Publish(t.Context(), event("a", 1)) == nil && b.Check(t.Context()) == nil })
	eventually(t, "the event is handled", func() bool { return len(got.all()) > 0 })
}

// What is published after Subscribe is handled, also if Redis answered before the bus joined; what
// was published long before is not.
func TestBus_StartAlone_HandlesWhatIsPublishedBeforeItJoins(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	publisher := newBus(t, r.url(), nil)
	_, err := r.XAdd(publisher.StreamOf("a"), "1000-0", redisbus.FieldsOf(event("a", 0)))
	require.NoError(t, err)
	r.setRefuse(func(command string, _ ...string) string {
		if strings.HasPrefix(command, "EVAL") {
			return "LOADING Redis is loading the dataset in memory"
		}
		return ""
	})
	b := newBus(t, r.url(), func(o *redisbus.Options) { o.StartAlone = true })
	var got recorder
	subscribe(t, b, got.handle)
	for n := 1; n < 4; n++ {
		require.NoError(t, publisher.Publish(t.Context(), event("a", n)))
	}
	r.setRefuse(nil)
	eventually(t, "the events are handled", func() bool { return len(got.all()) >= 3 })
	require.Equal(t, []string{"a/1", "a/2", "a/3"}, got.ids())
}

func TestBus_Partitions_DoNotChangeInPlace(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	require.NoError(t, newBus(t, r.url(), nil).Publish(t.Context(), event("a", 1)))
	other := newBus(t, r.url(), func(o *redisbus.Options) { o.Partitions, o.StartAlone = 5, true })
	const mistake = `redisbus: the number of partitions cannot be changed in place: Options.Partitions is 5, but the key "realtime" is used with "4"`
	require.EqualError(t, other.Publish(t.Context(), event("a", 2)), mistake)
	_, err := other.Subscribe(new(recorder).handle)
	require.EqualError(t, err, mistake, "StartAlone does not help: time mends nothing")
	require.NoError(t, newBus(t, r.url(), func(o *redisbus.Options) { o.Partitions, o.Key = 5, "other" }).Publish(t.Context(), event("a", 2)))
}

func TestBus_Publish_TooLarge(t *testing.T) {
	t.Parallel()
	b := newBus(t, startRedis(t).url(), func(o *redisbus.Options) { o.MaxEvent = 200 })
	large := event("a", 1)
	large.Data = make([]byte, 200)
	require.EqualError(t, b.Publish(t.Context(), large), "redisbus: publishing test.happened: the event is larger than Options.MaxEvent")
	require.NoError(t, b.Publish(t.Context(), event("a", 2)))
}

// Publish returns when its ctx ends, also if the server is frozen or the client still connects.
func TestBus_Publish_ReturnsWithItsContext(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	path := redistest.StartPath(t, r.Addr())
	b := newBus(t, path.URL(), nil)
	defer path.Silence(false)
	connected, connecting := time.Hour, time.Hour
	for try := 0; try < 5 && max(connected, connecting) >= time.Second; try++ { // a busy machine takes longer
		path.Silence(false)
		publishing(t, b, event("a", 1))
		path.Silence(true)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour) // rueidis would look at the deadline alone
		time.AfterFunc(20*time.Millisecond, cancel)
		began := time.Now()
		require.ErrorIs(t, b.Publish(ctx, event("a", 2)), context.Canceled)
		connected = min(connected, time.Since(began))
		fresh := newBus(t, path.URL(), nil)
		ctx, cancel = context.WithTimeout(t.Context(), 20*time.Millisecond)
		began = time.Now()
		require.ErrorIs(t, fresh.Publish(ctx, event("a", 2)), context.DeadlineExceeded, "while it connects, too")
		connecting = min(connecting, time.Since(began))
		cancel()
	}
	require.Less(t, connected, time.Second)
	require.Less(t, connecting, time.Second)
}

func TestBus_Close_EndsEverything(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	b := newBus(t, r.url(), nil)
	require.NoError(t, b.Publish(t.Context(), event("a", 1)))
	cancel, err := b.Subscribe(new(recorder).handle)
	require.NoError(t, err)
	eventually(t, "it owns all partitions", func() bool { return slices.Equal(r.owned(false), []int{4}) && slices.Equal(r.owned(true), []int{2}) })
	closeBus(t, b)
	closeBus(t, b)
	require.ErrorIs(t, b.Publish(t.Context(), event("a", 2)), realtime.ErrClosed)
	_, err = b.Subscribe(new(recorder).handle)
	require.ErrorIs(t, err, realtime.ErrClosed)
	require.ErrorIs(t, b.Check(t.Context()), realtime.ErrClosed)
	cancel()
	for _, key := range r.Keys() {
		require.NotContains(t, key, ":owner:", "the partitions are free at once")
		require.NotContains(t, key, ":members:", "the node is not counted any more")
	}
}

func TestBus_Close_WaitsForHandlersWithinContext(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	b, other := newBus(t, r.url(), nil), newBus(t, r.url(), nil)
	entered, release := make(chan context.Context, 1), make(chan struct{})
	_, err := b.Subscribe(func(ctx context.Context, _ realtime.Envelope) error {
		entered <- ctx
		<-release
		return nil
	})
	require.NoError(t, err)
	require.NoError(t, b.Publish(t.Context(), event("a", 1)))
	handling := <-entered
	var got recorder
	subscribe(t, other, got.handle)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	require.NoError(t, handling.Err())
	require.ErrorIs(t, b.Close(ctx), context.DeadlineExceeded)
	require.ErrorIs(t, handling.Err(), context.Canceled, "the handler is asked to end")
	require.NoError(t, other.Publish(t.Context(), event("a", 2)))
	time.Sleep(8 * quick)
	require.Empty(t, got.all(), "nothing overtakes an event whose handler still runs")
	close(release)
	closeBus(t, b)
	eventually(t, "the next node handles the next event", func() bool { return len(got.all()) > 0 })
	require.Equal(t, []string{"a/2"}, got.ids())
}

func TestBus_Close_LeavesTheHostsClientOpen(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{r.Addr()}, DisableCache: true})
	require.NoError(t, err)
	defer client.Close()
	b := newBus(t, "", func(o *redisbus.Options) { o.Client = client })
	var got recorder
	subscribe(t, b, got.handle)
	require.NoError(t, b.Publish(t.Context(), event("a", 1)))
	eventually(t, "the event is handled", func() bool { return len(got.all()) == 1 })
	closeBus(t, b)
	require.NoError(t, client.Do(t.Context(), client.B().Ping().Build()).Error())
}

// A ban does not wait for the events of a trip, whose handler hangs.
func TestBus_AccessHasPartitionsOfItsOwn(t *testing.T) {
	t.Parallel()
	b := newBus(t, startRedis(t).url(), func(o *redisbus.Options) { o.Partitions = 1 })
	ban := event(realtime.AccessKey("u1"), 1)
	var got recorder
	release := make(chan struct{})
	subscribe(t, b, func(ctx context.Context, e realtime.Envelope) error {
		if e.ID != ban.ID {
			<-release
		}
		return got.handle(ctx, e)
	})
	defer close(release)
	require.NoError(t, b.Publish(t.Context(), event("trip", 1)))
	require.NoError(t, b.Publish(t.Context(), ban))
	eventually(t, "the ban is handled", func() bool { return len(got.all()) == 1 })
	require.Equal(t, []string{ban.ID}, got.ids())
}

func TestBus_Check_IsRedWhileRedisIsAway(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	b, publisher := newBus(t, r.url(), nil), newBus(t, r.url(), nil)
	var got recorder
	subscribe(t, b, got.handle)
	require.NoError(t, publisher.Publish(t.Context(), event("a", 1)))
	eventually(t, "the event is handled", func() bool { return len(got.all()) == 1 })
	require.NoError(t, b.Check(t.Context()))
	require.NoError(t, publisher.Check(t.Context()))
	r.Close()
	eventually(t, "both are red", func() bool { return b.Check(t.Context()) != nil && publisher.Check(t.Context()) != nil })
	require.NoError(t, r.Restart())
	r.Server().SetPreHook(r.before)
	eventually(t, "both are green", func() bool { return b.Check(t.Context()) == nil && publisher.Check(t.Context()) == nil })
	require.NoError(t, publisher.Publish(t.Context(), event("a", 2)))
	eventually(t, "events are handled again", func() bool { return len(got.all()) == 2 })
}

// A node that leaves handles no more events, although it has subscriptions: other nodes do, and it still publishes.
func TestBus_Leave(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	a, b := newBus(t, r.url(), nil), newBus(t, r.url(), nil)
	require.NoError(t, a.Leave(t.Context()), "it has not joined")
	var server, host, other recorder
	begun, hold := make(chan struct{}), make(chan struct{})
	cancel := subscribe(t, a, func(ctx context.Context, e realtime.Envelope) error {
		if e.Key == "first" {
			close(begun)
			<-hold
		}
		return server.handle(ctx, e)
	})
	subscribe(t, a, host.handle)
	require.NoError(t, a.Publish(t.Context(), event("first", 0)))
	<-begun
	brief, end := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer end()
	require.ErrorIs(t, a.Leave(brief), context.DeadlineExceeded, "a handler runs")
	left := make(chan error, 1)
	again := subscribe(t, a, host.handle) // it joins again
	again()
	go func() { left <- a.Leave(t.Context()) }()
	close(hold)
	require.NoError(t, <-left)
	cancel()
	before := len(host.all())
	for n := range 20 {
		require.NoError(t, a.Publish(t.Context(), event(fmt.Sprint("k", n), 0)))
	}
	require.NoError(t, a.Check(t.Context()))
	subscribe(t, b, other.handle)
	eventually(t, "the other node handles them", func() bool { return len(other.all()) >= 20 })
	require.Len(t, host.all(), before)
}

// Each call of Leave waits, not only the first one: for handlers, and for the functions of BeforeHandover.
func TestBus_Leave_Again(t *testing.T) {
	t.Parallel()
	b := newBus(t, startRedis(t).url(), nil)
	b.HandoverTimeout(time.Minute)
	begun, hold, handing, pass := make(chan struct{}), make(chan struct{}), make(chan struct{}), make(chan struct{})
	b.BeforeHandover(func(context.Context) {
		close(handing)
		<-pass
	})
	subscribe(t, b, func(context.Context, realtime.Envelope) error {
		close(begun)
		<-hold
		return nil
	})
	require.NoError(t, b.Publish(t.Context(), event("a", 0)))
	<-begun
	over, end := context.WithCancel(t.Context())
	end()
	for range 3 {
		require.ErrorIs(t, b.Leave(over), context.Canceled, "the handler runs")
	}
	close(hold)
	<-handing
	for range 3 {
		require.ErrorIs(t, b.Leave(over), context.Canceled, "another node must not get the next event yet")
	}
	close(pass)
	require.NoError(t, b.Leave(t.Context()))
	require.NoError(t, b.Leave(over), "nothing runs any more")
}

// No handler runs, so there is nothing to wait for, although Redis does not answer.
func TestBus_Leave_RedisHangs(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	path := redistest.StartPath(t, r.Addr())
	c, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{strings.TrimPrefix(path.URL(), "redis://")}, DisableCache: true, ForceSingleClient: true, ConnWriteTimeout: time.Minute,
	})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	b := newBus(t, "", func(o *redisbus.Options) { o.Client = c })
	b.CallTimeout(patience)
	var got recorder
	subscribe(t, b, got.handle)
	eventually(t, "it owns all partitions", func() bool { return r.ownedBy("test") == 4 })
	path.Silence(true)
	defer path.Silence(false)
	ctx, end := context.WithTimeout(t.Context(), patience/2)
	defer end()
	require.NoError(t, b.Leave(ctx))
}
