// Package redisbus carries domain events between processes over Redis Streams. It is a
// realtime.EventBus for several nodes.
//
//	bus, err := redisbus.New(redisbus.Options{URL: "redis://10.0.0.7:6379"})
//	...
//	rt, err := realtime.New(realtime.Options{Bus: bus, Cluster: realtime.Cluster{Adapter: adapter}, ...})
//	...
//	err = bus.Close(ctx) // after rt.Shutdown
//
// # Who handles an event
//
// The nodes of a group share the work: one of them handles each event, and its server
// sends it to the sockets of all nodes through the cluster's adapter. Leave
// realtime.Cluster.BusFanOut false. Processes for another purpose, such as billing, have
// an Options.Group of their own, which gets every event, too. A process that only
// publishes belongs to no group.
//
// Events are spread over partitions by their keys. A partition belongs to one node at a
// time, which handles its events one after the other, so those of one trip keep their
// order. Nodes take equal shares of the partitions, and give some back when another
// comes. Events about a user's access have partitions of their own: a ban waits for no
// other event.
//
// # What is promised
//
// An event that Publish returned nil for is handled at least once, if Redis keeps what it
// has accepted. An event is acknowledged after all handlers of the node have returned nil
// for it. When a node ends before that, another one handles the event, with the same ID,
// before any later event of its key. The server sends no event twice that it has handled
// lately; clients that were sent an event by two nodes know it by its eventId.
//
// A node that crashes, or cannot reach Redis, loses its partitions after 5 s. It notices
// that by its own clock and begins no further event. A handler that has begun before
// goes on; its context ends.
//
// An event whose handler keeps failing, or whose processes keep ending, and what cannot be
// read, is set aside in the stream "{Key}:aside:Group": see Options.Attempts and
// Options.OnSetAside. Handled events are removed from the streams within seconds, all
// others when more than Options.MaxWaiting wait: then Options.OnGap is called.
//
// # Redis
//
// Redis 7 and Valkey, alone, with Sentinel or as a cluster. Redis loses what it has not
// written to disk or to a replica when it crashes: for events that must not be lost set
// appendonly yes. The policy for a full memory must be noeviction, the default: Publish
// fails then, and events are still handled. After a failover to a replica that was
// behind, events may be lost, and two nodes may handle events of one partition for about
// a second.
//
// The keys in Redis begin with Options.Key: "{Key:P}:events" is the stream of partition P,
// "{Key:P}:owner:Group" the lease of the node that handles it. An entry has the fields
// id, name, key, at (RFC 3339) and data (JSON).
//
// # Changing the number of partitions
//
// Partitions decides where the events of a key are, so it cannot change while some wait:
// a Bus refuses a number other than the one that its Key was first used with. To change
// it, choose a new Key. Start the servers with a Bus of each Key: give the new one to the
// server, and let the handler of the old one pass events on with the new one's Publish.
// Then let the publishers use the new Key, and take the old one out when its streams are
// empty. While a publisher changes over, two of its events of one trip may change places.
package redisbus
