// Test helpers: a Redis in memory, buses on it, and handlers that record their events.

package redisbus_test

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/redis/rueidis"
	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/testkit"
	"github.com/rodando/realtime/redisbus"
)

// patience is how long something may take that is no matter of time.
const patience = 20 * time.Second

// The buses of tests beat so often, and have a lease that a busy machine does not let
// end, unless a test wants that: then it is a short one.
const (
	quick = 50 * time.Millisecond
	long  = 15 * time.Second
	short = time.Second
)

// fakeRedis is a Redis in memory.
type fakeRedis struct {
	*miniredis.Miniredis

	mu      sync.Mutex                                           // guards the rest
	scripts map[string]string                                    // what a script's sha1 is without its first line
	refuse  func(command string, args ...string) (answer string) // may answer a command with an error
}

func startRedis(t *testing.T) *fakeRedis {
	t.Helper()
	r := &fakeRedis{Miniredis: miniredis.NewMiniRedis(), scripts: map[string]string{}}
	r.ClockTTL(true)
	require.NoError(t, r.Start())
	r.Server().SetPreHook(r.before)
	t.Cleanup(r.Close)
	return r
}

func (r *fakeRedis) url() string { return "redis://" + r.Addr() }

// before is called before each command. miniredis does not know the first line of
// scripts, which says under what conditions Redis runs them.
func (r *fakeRedis) before(c *server.Peer, command string, args ...string) (answered bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refuse != nil {
		if e := r.refuse(strings.ToUpper(command), args...); e != "" {
			c.WriteError(e)
			return true
		}
	}
	sum := func(s string) string {
		h := sha1.Sum([]byte(s))
		return hex.EncodeToString(h[:])
	}
	switch strings.ToUpper(command) {
	case "CLUSTER": // or clients connect to the address that it says, past a path
		c.WriteError("ERR This instance has cluster support disabled")
		return true
	case "EVAL":
		if body, ok := strings.CutPrefix(args[0], "#!lua flags=allow-oom\n"); ok {
			r.scripts[sum(args[0])] = sum(body)
			args[0] = body
		}
	case "EVALSHA":
		if other, ok := r.scripts[args[0]]; ok {
			args[0] = other
		}
	}
	return false
}

var eventually = testkit.Eventually

// quiet is a logger for tests in which things go wrong on purpose.
var quiet = slog.New(slog.DiscardHandler)

// newBus returns a bus that the test closes; change may alter its options.
func newBus(t *testing.T, url string, change func(*redisbus.Options)) *redisbus.Bus {
	t.Helper()
	o := redisbus.Options{URL: url, Name: "test", Partitions: 4, Logger: quiet}
	if change != nil {
		change(&o)
	}
	b, err := redisbus.New(o)
	require.NoError(t, err)
	b.Hurry(quick, long)
	t.Cleanup(func() { closeBus(t, b) })
	return b
}

func closeBus(t *testing.T, b *redisbus.Bus) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(t, b.Close(ctx))
}

// client returns a client that is not under test.
func client(t *testing.T, addr string) rueidis.Client {
	t.Helper()
	c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{addr}, DisableCache: true, ForceSingleClient: true})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// recorder is a handler that remembers what it was called with.
type recorder struct {
	mu     sync.Mutex // guards events
	events []realtime.Envelope
}

func (r *recorder) handle(_ context.Context, e realtime.Envelope) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
	return nil
}

func (r *recorder) all() []realtime.Envelope {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events)
}

func (r *recorder) ids() (ids []string) {
	for _, e := range r.all() {
		ids = append(ids, e.ID)
	}
	return ids
}

func subscribe(t *testing.T, b *redisbus.Bus, handler func(context.Context, realtime.Envelope) error) (cancel func()) {
	t.Helper()
	cancel, err := b.Subscribe(handler)
	require.NoError(t, err)
	return cancel
}

// event returns an event whose id is its key and number.
func event(key string, n int) realtime.Envelope {
	return realtime.Envelope{
		ID: fmt.Sprintf("%s/%d", key, n), Name: "test.happened", Key: key,
		At: time.Date(2026, 5, 4, 10, 20, 30, 0, time.UTC), Data: fmt.Appendf(nil, `{"n":%d}`, n),
	}
}
