// Others: whether every server that receives this node's messages is a Go node that is known by
// its heartbeats. If not, there may be Node servers.

package redisadapter

import (
	"context"
	"time"

	"github.com/redis/rueidis"
)

// watchOthers reports to the server, while the adapter runs, whether it knows all nodes. It counts
// the subscribers each timing.probe. A Node server that has started is noticed by the next count;
// that all are known is reported after two counts in a row, so that a node that starts
// meanwhile has sent a heartbeat.
func (a *Adapter) watchOthers() {
	tick := time.NewTicker(a.timing.probe)
	defer tick.Stop()
	report := func(only bool) {
		a.signal(func() { a.node.OnlyPeers(only) })
	}
	for before, reported := false, false; ; {
		select {
		case <-a.closing:
			return
		case <-tick.C:
		}
		now := a.onlyPeers()
		if only := now && before; only != reported {
			reported = only
			report(only)
		}
		before = now
	}
}

// onlyPeers reports whether all subscribers of each namespace's requests also subscribe to its
// state, as only Go nodes do, and are not more than the known nodes and this one.
func (a *Adapter) onlyPeers() bool {
	if a.Check(a.ctx) != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(a.ctx, missedProbes*a.timing.probe)
	defer cancel()
	var channels []string
	a.namespaces.Range(func(name, _ any) bool {
		ns := name.(string) //nolint:errcheck,forcetypeassert // namespaces has no other keys
		channels = append(channels, a.protocol.subscriptions(ns)[0].name, stateChannel(a.opts.Key, ns))
		return true
	})
	counts, err := a.countSubscribers(ctx, channels)
	if err != nil || len(counts) == 0 {
		return false
	}
	known := len(a.peers.list()) // Redis may count dead ones too: then there may be others
	for i := 0; i < len(counts); i += 2 {
		servers, nodes := counts[i], counts[i+1]
		if servers > nodes || nodes < 1 || nodes-1 > known {
			return false
		}
	}
	return true
}

// countSubscribers returns the number of subscribers of each channel, counted in that order.
func (a *Adapter) countSubscribers(ctx context.Context, channels []string) ([]int, error) {
	counts, counted, err := a.clusterSubscribers(ctx, channels...)
	if err != nil || counted {
		return counts, err
	}
	client := a.current()
	if client == nil {
		return nil, errNotConnected
	}
	cmds := make(rueidis.Commands, 0, len(channels))
	for _, c := range channels {
		cmds = append(cmds, a.publisher.numsub(client, c))
	}
	for _, r := range client.DoMulti(ctx, cmds...) {
		n, err := subscribers(r)
		if err != nil {
			return nil, err
		}
		counts = append(counts, n)
	}
	return counts, nil
}
