// Shutdown and the calls of the host's code that neither a client nor the bus causes.

package realtime_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// pushes are the calls of Options.Unreachable that have ended.
type pushes struct {
	mu   sync.Mutex // guards done
	done []string   // the node, the user, and why it was too early
}

// takes makes a node's calls last.
func (p *pushes) takes(d time.Duration, node string) func(o *realtime.Options) {
	return func(o *realtime.Options) {
		o.Unreachable = func(ctx context.Context, user string, _ realtime.MissedEvent) {
			end := node + " " + user
			select {
			case <-time.After(d):
			case <-ctx.Done():
				end += " " + ctx.Err().Error()
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			p.done = append(p.done, end)
		}
	}
}

func (p *pushes) list() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.done
}

// A push that is under way ends before Shutdown returns. One that would begin meanwhile is left to another node, also
// if a new node asks for the offers in between.
func TestShutdown_WaitsForUnreachable(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var p pushes
		c := newOfferCluster(t, 0)
		ending := c.add(t, p.takes(4*time.Second, "ending"))
		other := c.add(t, p.takes(0, "other"))
		time.Sleep(time.Second)
		log := readOffers(t, ending, other)
		ending.Publish(t, offerTo("d1", "o1", 60))
		time.Sleep(time.Second)
		ending.Publish(t, offerTo("d2", "o2", 60))
		time.Sleep(2100 * time.Millisecond)
		began := time.Now()
		go func() {
			time.Sleep(time.Second)
			c.add(t, p.takes(0, "new"))
		}()
		require.NoError(t, ending.Realtime.Shutdown(t.Context()))
		require.InDelta(t, 3.9, time.Since(began).Seconds(), 0.1)
		require.Contains(t, p.list(), "ending d1")
		time.Sleep(time.Minute)
		require.ElementsMatch(t, []string{"ending d1", "other d2"}, p.list())
		require.Equal(t, []string{"undelivered o1 d1 no_device", "undelivered o2 d2 no_device"}, log.take())
	})
}

// An answer to another node is given before Shutdown goes on, and later asks and events reach no code of the host.
func TestShutdown_WaitsForServerAsks(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newOfferCluster(t, 2)
		asker, ending := c.nodes[0], c.nodes[1]
		calls, heard := make(chan struct{}, 8), make(chan struct{}, 8)
		ending.Realtime.Drivers().OnServerAsk("cars", func(ctx context.Context, _ realtime.Raw) (any, error) {
			calls <- struct{}{}
			select {
			case <-time.After(2 * time.Second):
			case <-ctx.Done():
			}
			return 1, ctx.Err()
		})
		ending.Realtime.Drivers().OnServerEmit("cars", func(realtime.Raw) { heard <- struct{}{} })
		first := make(chan []realtime.Raw, 1)
		go func() {
			answers, _ := asker.Realtime.Drivers().ServerAsk(t.Context(), "cars")
			first <- answers
		}()
		synctest.Wait()
		began, ended := time.Now(), make(chan error, 1)
		go func() { ended <- ending.Realtime.Shutdown(t.Context()) }()
		time.Sleep(time.Second)
		require.Equal(t, []string{"null"}, serverAsk(t, asker, "cars"))
		require.NoError(t, asker.Realtime.Drivers().ServerEmit(t.Context(), "cars"))
		require.NoError(t, <-ended)
		require.InDelta(t, 2, time.Since(began).Seconds(), 0.1)
		require.Equal(t, []string{"1"}, argsOf(<-first))
		require.Len(t, calls, 1)
		require.Len(t, heard, 1)
	})
}

// Calls that ignore their ctx are named when time is up.
func TestShutdown_NamesTheCallsThatRun(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		release := make(chan struct{})
		c := newOfferCluster(t, 2, func(o *realtime.Options) {
			o.Unreachable = func(context.Context, string, realtime.MissedEvent) { <-release }
		})
		ending := c.nodes[1]
		ending.Realtime.Drivers().OnServerAsk("cars", func(context.Context, realtime.Raw) (any, error) { <-release; return 1, nil })
		ending.Publish(t, offerTo("d1", "o1", 60))
		time.Sleep(3100 * time.Millisecond)
		var asking sync.WaitGroup
		asking.Go(func() { _, _ = c.nodes[0].Realtime.Drivers().ServerAsk(t.Context(), "cars") })
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		require.EqualError(t, ending.Realtime.Shutdown(ctx), "realtime: shutdown: Options.Unreachable still runs: context deadline exceeded\n"+
			"realtime: shutdown: OnServerAsk of /drivers still runs: context deadline exceeded")
		close(release)
		asking.Wait()
	})
}

// Where nothing runs nothing is awaited.
func TestShutdown_IdleTakesNoTime(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var p pushes
		srv := realtimetest.NewServer(t, withAnswers, p.takes(time.Second, "one"))
		srv.Publish(t, offerTo("d1", "o1", 60))
		time.Sleep(10 * time.Second)
		began := time.Now()
		require.NoError(t, srv.Realtime.Shutdown(t.Context()))
		require.Zero(t, time.Since(began))
		require.Equal(t, []string{"one d1"}, p.list())
	})
}
