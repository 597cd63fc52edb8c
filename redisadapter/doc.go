// Package redisadapter makes several servers one, over Redis: an emit, a join
// or a revocation on one node reaches the sockets of all.
//
//	adapter, err := redisadapter.New(redisadapter.Options{URL: "redis://10.0.0.7:6379"})
//	...
//	rt, err := realtime.New(realtime.Options{Cluster: realtime.Cluster{Adapter: adapter}, ...})
//
// # With Node
//
// It speaks the protocol of @socket.io/redis-adapter (createAdapter, or
// createShardedAdapter in static mode with Options.Sharded) and receives
// from @socket.io/redis-emitter. Go and Node servers form one cluster, and any
// process that can PUBLISH can emit to the clients of both. What only
// Go nodes use, the running trips and presence, goes over channels of its own. A socket is described to other nodes by its id, rooms, user id,
// user type and session id; no token, header or phone number is sent, and what
// Node sends of those is dropped.
//
// Numbers keep their value between nodes, not their spelling: 1e3 arrives as
// 1000.
//
// # What is promised
//
// A node serves its own sockets first and never waits for Redis. A message
// reaches each other node at most once; messages of one node about one
// namespace keep their order. A node misses what is published while it is
// disconnected; Options.OnGap is called once it receives again.
//
// A connection that is silent is not trusted: each second a probe goes through
// pub/sub and back, and after three that did not arrive Check fails and the
// node connects anew.
//
// # Redis
//
// Redis 7 and Valkey 7 and 8. Pub/sub does not know database numbers: give each
// environment that shares a server a Key of its own. Whoever can publish on the
// server can act as a node, so keep it to the servers; what arrives is checked
// and bounded all the same. The streams adapter of Node must not use the same
// prefix: it publishes what would end other Node processes.
package redisadapter
