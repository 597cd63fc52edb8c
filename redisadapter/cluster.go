// Redis Cluster with the classic protocol. A message reaches all subscribers of the
// cluster, whichever server it is published on; but each server counts only its own
// subscribers.

package redisadapter

import (
	"context"
	"slices"

	"github.com/redis/rueidis"
)

// node returns the Redis server to publish on. In a cluster it is always the same one,
// until it fails, so that messages keep their order.
func (p *publisher) node() rueidis.Client {
	client := p.client()
	if client == nil || p.sharded || client.Mode() != rueidis.ClientModeCluster {
		return client
	}
	nodes := client.Nodes()
	if n, ok := nodes[p.address]; ok && !p.failing {
		return n
	}
	addresses := make([]string, 0, len(nodes))
	for address := range nodes {
		addresses = append(addresses, address)
	}
	if len(addresses) == 0 {
		return client
	}
	slices.Sort(addresses)
	i, found := slices.BinarySearch(addresses, p.address)
	if found {
		i++
	}
	p.address, p.failing = addresses[i%len(addresses)], false
	return nodes[p.address]
}

// clusterSubscribers counts the subscribers of channels on all servers of a cluster. ok
// is false if the answer of PUBLISH already counts all of them.
func (a *Adapter) clusterSubscribers(ctx context.Context, channels ...string) (counts []int, ok bool, err error) {
	client := a.current()
	if client == nil {
		return nil, false, errNotConnected
	}
	if a.opts.Sharded || client.Mode() != rueidis.ClientModeCluster {
		return nil, false, nil
	}
	nodes := client.Nodes()
	results := make(chan rueidis.RedisResult, len(nodes))
	for _, n := range nodes {
		go func() { results <- n.Do(ctx, n.B().PubsubNumsub().Channel(channels...).Build()) }()
	}
	counts = make([]int, len(channels))
	for range nodes {
		list, asking := (<-results).ToArray()
		if asking != nil {
			err = asking // the loop goes on: the other calls end with ctx too
			continue
		}
		for i := range counts {
			if 2*i+1 < len(list) {
				n, _ := list[2*i+1].AsInt64()
				counts[i] += int(n)
			}
		}
	}
	return counts, err == nil, err
}
