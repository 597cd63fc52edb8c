// Package redisbus carries domain events between processes over Redis Streams. It is a
// realtime.EventBus for several nodes.
//
//	bus, err := redisbus.New(redisbus.Options{URL: "redis://10.0.0.7:6379"})
//	...
//	rt, err := realtime.New(realtime.Options{Bus: bus, Cluster: realtime.Cluster{Adapter: adapter}, ...})
//	...
//	err = bus.Close(ctx) // after realtime.Shutdown
//
// # How nodes share the events
//
// The nodes of a group share the work: one of them handles each event, and its server
// sends it to the sockets of all nodes through the cluster's adapter. Leave
// realtime.Cluster.BusFanOut false. What has another purpose, such as billing, gets a Bus with an
// Options.Group of its own, also in the server's process; that group receives every event
// too. A process that only publishes belongs to no group.
//
// Events are spread over partitions by their keys. A partition belongs to one node at a
// time, which handles its events one after the other, so those of one trip keep their
// order. Nodes take equal shares of the partitions, and release some when another node joins
// the group. Events about a user's access have partitions of their own, so that a ban does not
// wait for other events.
//
// # Delivery
//
// An event for which Publish returned nil is handled at least once, if Redis does not lose
// it. An event is acknowledged after all handlers of the node have returned nil
// for it. If a node ends before that, another one handles the event, with the same ID,
// before any later event of its key. A server does not send an event again that it has
// handled recently. If two nodes have sent an event, clients recognize the repeat by its
// eventId.
//
// A node that crashes, or cannot reach Redis, loses its partitions after 5 s. A node that
// cannot reach Redis detects that by its own clock and calls no further handler. The context
// of a running handler is canceled; the handler itself goes on until it returns.
//
// An event is set aside, that is, moved to the stream "{Key}:aside:Group" and not
// delivered again, if its handler fails Options.Attempts times, if its process ends as
// often while a handler runs, or if it cannot be read: see Options.OnSetAside. So is an event
// for which a handler takes longer than Options.HandlerTimeout: a handler that hangs does not
// stop the others of its node, but misses events. Give one that may be slow a Bus with an
// Options.Group of its own, whose events then wait for it alone, and a longer timeout. Handled
// events are removed from the streams within seconds. If more than Options.MaxWaiting
// events of a partition wait, the oldest are removed, and Options.OnGap is called.
//
// # Redis
//
// Redis 7 and Valkey, alone, with Sentinel or as a cluster. Redis loses what it has not
// written to disk or to a replica when it crashes: for events that must not be lost set
// appendonly yes. maxmemory-policy must be noeviction, the default: while the memory is full,
// Publish fails, and stored events are still handled. After a failover to a replica that had
// not received everything, events may be lost, and two nodes may handle events of one
// partition for about a second.
//
// The keys in Redis begin with "{" and Options.Key: "{Key:P}:events" is the stream of partition
// P, "{Key:P}:owner:Group" the lease of the node that handles it. P is the 32-bit FNV-1a hash of
// the event's key, modulo Options.Partitions; for keys that begin with "access:" it is access0 or
// access1, by the hash modulo 2. An entry has the fields id, name, key, at (RFC 3339) and data
// (JSON), and for each header one whose name begins with "header.".
//
// # Changing the number of partitions
//
// Options.Partitions decides which partition has the events of a key, so it cannot change
// while events wait: a Bus returns an error if its number is not the one with which its Key was
// first used. To change it:
//
//  1. Choose a new Key.
//  2. Start the servers with a Bus for each Key. Give the new one to the server, and subscribe
//     to the old one with a handler that calls the new one's Publish.
//  3. Let the publishers use the new Key. While a publisher is switched, the order of two of its
//     events of one trip may change.
//  4. Remove the old Bus when its streams are empty.
package redisbus
