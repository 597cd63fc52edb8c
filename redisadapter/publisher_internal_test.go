// What the publisher says of messages that it has lost.

package redisadapter

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/rueidis"
	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/redistest"
)

// The gap that is reported to the other nodes begins with the first lost message, also if it was
// lost because the queue was full, and also after an earlier failure.
func TestPublisher_LossesBeginWithTheFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var began time.Time
		p := &publisher{
			client: func() rueidis.Client { return struct{ rueidis.Client }{} },
			failed: func(int, error) {},
			healed: func(_ int, since time.Time) { began = since },
		}
		for range 2 {
			first := time.Now()
			require.ErrorIs(t, p.push(outgoing{}), errQueueFull) // maxMessages is 0
			time.Sleep(time.Minute)
			p.account(3, time.Now(), false, errors.New("down"))
			time.Sleep(time.Minute)
			p.account(0, time.Now(), true, nil)
			require.Equal(t, first, began)
			time.Sleep(time.Hour)
		}
	})
}

// slowClient is a client whose publishes fail after a while.
type slowClient struct {
	rueidis.Client
	after time.Duration
}

func (c slowClient) DoMulti(_ context.Context, cmds ...rueidis.Completed) []rueidis.RedisResult {
	time.Sleep(c.after)
	return make([]rueidis.RedisResult, len(cmds)) // none is an answer of Redis
}

// newClient returns a client of a Redis of its own.
func newClient(t *testing.T) rueidis.Client {
	t.Helper()
	r, err := redistest.Start()
	require.NoError(t, err)
	t.Cleanup(r.Stop)
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{r.Addr()}, DisableCache: true, ForceSingleClient: true})
	require.NoError(t, err)
	t.Cleanup(client.Close)
	return client
}

// The gap begins when the message was pushed: the nodes compare it with what happened then, and
// it may take seconds until its publish fails.
func TestPublisher_LossesBeginWithThePush(t *testing.T) {
	t.Parallel()
	client := newClient(t)
	p := &publisher{
		client:      func() rueidis.Client { return slowClient{client, 200 * time.Millisecond} },
		failed:      func(int, error) {},
		maxMessages: 10, maxBytes: 1000,
	}
	require.NoError(t, p.push(outgoing{channel: "c"})) // it holds the next one back
	require.NoError(t, p.push(outgoing{channel: "c"}))
	pushed := time.Now()
	require.NoError(t, p.flush(t.Context()))
	require.Equal(t, 2, p.lost)
	require.False(t, p.since.After(pushed), "the gap begins %v after the message", p.since.Sub(pushed))
}

// Messages are also lost while there is no client: it is closed when its connections do not work.
func TestPublisher_LosesWithoutAClient(t *testing.T) {
	t.Parallel()
	var healed int
	p := &publisher{client: func() rueidis.Client { return nil }, healed: func(lost int, _ time.Time) { healed = lost }, maxMessages: 10, maxBytes: 1000}
	require.ErrorIs(t, p.push(outgoing{}), errNotConnected)
	require.ErrorIs(t, p.push(outgoing{}), errNotConnected)
	p.account(0, time.Now(), true, nil)
	require.Equal(t, 2, healed)
}

// A buffer is used again when Redis has taken its payload. After a failure the client's writer may
// still read it.
func TestPublisher_ReusesBuffers(t *testing.T) {
	t.Parallel()
	client := newClient(t)
	fails := false
	p := &publisher{
		client: func() rueidis.Client {
			if fails {
				return slowClient{client, 0}
			}
			return client
		},
		failed:      func(int, error) {},
		maxMessages: 1000, maxBytes: 1e6,
	}
	push := func(size int) {
		require.NoError(t, p.push(outgoing{channel: "c", payload: append(p.buffer(), make([]byte, size)...)}))
		require.NoError(t, p.flush(t.Context()))
	}
	require.Nil(t, p.buffer())
	push(100)
	b := p.buffer()
	require.Empty(t, b)
	require.GreaterOrEqual(t, cap(b), 100)
	require.Nil(t, p.buffer())
	push(maxBufferBytes + 1)
	require.Nil(t, p.buffer(), "a large one")
	fails = true
	push(100)
	require.Nil(t, p.buffer(), "one that was not taken")
	p.reuse(make([]outgoing, maxBuffers+1))
	require.Len(t, p.buffers, maxBuffers)
}
