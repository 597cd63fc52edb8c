// Package redisadapter connects several servers over Redis, so that they act as one: an
// emit, a join or a revocation on one node reaches the sockets of all nodes.
//
//	adapter, err := redisadapter.New(redisadapter.Options{URL: "redis://10.0.0.7:6379"})
//	...
//	rt, err := realtime.New(realtime.Options{Cluster: realtime.Cluster{Adapter: adapter}, ...})
//
// # With Node
//
// The adapter speaks the protocol of @socket.io/redis-adapter (createAdapter, or
// createShardedAdapter in static mode with Options.Sharded) and receives messages from
// @socket.io/redis-emitter. Go and Node servers form one cluster, and any process that can
// PUBLISH can emit to the clients of both. Go nodes exchange the running trips and
// presence on channels of their own. They describe a socket to other nodes by its id,
// rooms, user id, user type and session id, when it was admitted, and whether it is still
// connecting. They send no token, header or phone number, and drop those that Node sends.
//
// Node servers take part in events and revocations if they use the same rooms, such as
// driver:{userId}, session:{sid} and trip:{tripId}. They must also set socket.data.userId: Go
// nodes publish a user as disconnected when the last socket on a Go node ends, unless a Node
// server has a socket with that id. A Node server receives a revocation as disconnectSockets
// of the user's or the session's room. Namespace.ServerAsk of a Go node and
// serverSideEmitWithAck of a Node server ask each other.
//
// A driver's position and a volatile broadcast are published only if another node may have a
// receiver: Go nodes announce their rooms to each other. While a Node server is in the cluster,
// all of them are published. The adapter detects one each second, by counting the subscribers
// of the namespaces' requests. A process that only subscribes to broadcasts is not detected.
//
// Numbers keep their value between nodes, but not their form: 1e3 arrives as 1000.
//
// # Delivery
//
// A node serves its own sockets first, and an emit never waits for Redis. A message reaches each
// other node at most once. The messages of one node in one namespace keep their order. A
// node that is not connected to Redis misses what others publish meanwhile. When it
// receives again, the server compares its trips, presence and its users' access with the
// other nodes and the host's repositories; realtime.Trace.Gap is called.
//
// Each second a node publishes a probe to itself. When three probes in a row have not
// arrived, Check returns an error and the node connects again. Check also returns an error while
// messages that have arrived wait for more than ten seconds, because others publish more than the
// server can handle.
//
// An event of a client with an idempotencyKey is handled once on all nodes. Redis keeps its ack for two
// minutes, and a hash of what the client has sent. Such an event waits for Redis, for at most 300 ms;
// without an answer it is handled as on one node.
//
// # Redis
//
// The adapter needs Redis 7, or Valkey 7 or 8. Pub/sub ignores database numbers: give
// each environment that shares a Redis server a Key of its own. Any process that can
// publish on the Redis server can act as a node, so only your servers may have access; the
// adapter still checks and bounds every message. With an ACL, allow the channels Key* and
// realtime:{Key*, the keys Key#claim#* and Key#call#*, and, because Redis compares patterns literally, the pattern of each
// namespace, such as Key#/drivers#*; docs/redis.md has a complete line. Node's streams
// adapter must not use the same prefix: its messages would crash other Node processes.
//
// Redis disconnects a node that reads too slowly: by default one for which 32 MB wait, or 8 MB
// for a minute (client-output-buffer-limit pubsub). The node then connects again, as after
// any failure. Raise the limit if your messages are large.
package redisadapter
