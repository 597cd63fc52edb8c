// Catching up: waiting until what other nodes have published before was delivered to this node.

package redisadapter

import (
	"context"
	"time"

	"github.com/rodando/realtime"
)

// lookAgain is how often CatchUp looks whether the node has caught up.
const lookAgain = 5 * time.Millisecond

// CatchUp implements realtime.CatchUpAdapter. It publishes a probe on each connection: Redis delivers it
// behind what other nodes have published before. On a Redis Cluster without Options.Sharded a node of the
// cluster may forward it faster than another one forwards those messages. A connection that has failed is
// waited for: it may be subscribed again, and messages under way, before its first probe comes back.
func (a *Adapter) CatchUp(ctx context.Context) error {
	if err := a.state(); err != nil {
		return err
	}
	began := time.Now()
	a.links.probeNow()
	if err := a.until(ctx, func() bool { return !a.links.receivedUntil().Before(began) }); err != nil {
		return err
	}
	delivered := map[*namespace]uint64{}
	a.namespaces.Range(func(_, value any) bool {
		ns := value.(*namespace) //nolint:errcheck,forcetypeassert // namespaces holds nothing else
		delivered[ns] = ns.queued()
		return true
	})
	return a.until(ctx, func() bool {
		for ns, upTo := range delivered {
			if !ns.delivered(upTo) {
				return false
			}
		}
		return true
	})
}

// until waits until a condition holds. It returns an error when ctx ends, or Close begins.
func (a *Adapter) until(ctx context.Context, holds func() bool) error {
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		case <-a.closing:
			return realtime.ErrClosed
		}
	}
	return nil
}
