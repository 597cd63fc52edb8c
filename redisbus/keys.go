// The keys in Redis, and the partition of an event. No call to Redis is made here.

package redisbus

import (
	"hash/fnv"
	"strconv"
	"strings"

	"github.com/rodando/realtime"
)

// accessPartitions is the number of partitions for the events of realtime.AccessKey. They have
// their own, so that a ban does not wait for other events.
const accessPartitions = 2

// partition is a stream and its lease. On Redis Cluster the keys of a partition share a slot.
type partition struct {
	index  int    // in keys.all
	name   string // in keys and logs
	stream string // the key of the events
	owner  string // the key of the lease of the node that handles them
	access bool   // the events are those of realtime.AccessKey
}

// keys holds the names of all keys in Redis. It does not change.
type keys struct {
	all, ordinary, access []partition // all are both

	count   string // the number of partitions
	members string // the nodes of the group, sorted by the time at which they are removed unless they renew it
	aside   string // the events that were set aside
}

func newKeys(o Options) keys {
	var all []partition
	add := func(name string, access bool) {
		tag := "{" + o.Key + ":" + name + "}"
		all = append(all, partition{index: len(all), name: name, stream: tag + ":events", owner: tag + ":owner:" + o.Group, access: access})
	}
	for i := range o.Partitions {
		add(strconv.Itoa(i), false)
	}
	for i := range accessPartitions {
		add("access"+strconv.Itoa(i), true)
	}
	tag := "{" + o.Key + "}"
	return keys{
		all: all, ordinary: all[:o.Partitions], access: all[o.Partitions:],
		count: tag + ":partitions", members: tag + ":members:" + o.Group, aside: tag + ":aside:" + o.Group,
	}
}

// of returns the partition of an event's key. Every process must agree on it.
func (k *keys) of(key string) *partition {
	from := k.ordinary
	if strings.HasPrefix(key, realtime.AccessKey("")) {
		from = k.access
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(key))
	return &from[h.Sum32()%uint32(len(from))]
}
