// Package realtime gives an existing ride-hailing backend its realtime side:
// drivers, passengers and dispatch dashboards connect with the Socket.IO clients
// they already have, and the backend publishes what happened. Clients of
// Socket.IO 3 and 4 connect by default, clients of 1.x and 2.x with
// Compat.AllowEIO3.
//
// A host creates a [Server] with its own repositories and mounts it on its own
// http.ServeMux:
//
//	tokens, err := realtime.NewJWTVerifier(secret, realtime.JWTOptions{Methods: []string{"HS256"}})
//	...
//	rt, err := realtime.New(realtime.Options{
//		Tokens:   tokens,
//		Users:    users,
//		Sessions: sessions,
//	})
//	...
//	mux.Handle(realtime.Path, rt)
//
// # Handshake
//
// A client connects to /drivers, /passengers or /admin with an access token, in
// `auth: {token}` or in the Authorization header. The server verifies the token,
// reads the user and the login session from the host's repositories, connects the
// client, puts it into its rooms and sends it `hello`, in this order.
//
// A client that fails a check gets a CONNECT_ERROR with a [Code]. When a check cannot
// be made, for instance because a database does not answer, the server closes the
// transport: the client is not connected, keeps its login, and a stock client tries
// again by itself.
//
// The server ends a socket when its token expires, when its session is revoked, and
// when its user is banned. It does so in every namespace and on every node, and sends
// the client the reason first. [DisconnectReason] lists how a socket can end and
// what its client does then.
//
// # Events
//
// An event's name and its Go type are declared once. An [Event] goes from the server to
// clients:
//
//	var Surge = realtime.NewEvent[SurgePayload]("surge:changed")
//	Surge.Emit(rt.Drivers().To(realtime.NewRoom("zone", "havana")), SurgePayload{1.4})
//
// A [Call] goes from a client to the server, which decodes, validates and
// acknowledges it:
//
//	var Tip = realtime.NewCall[TipIn, TipOut]("passenger:tip")
//	Tip.Handle(rt.Passengers(), func(ctx context.Context, s *realtime.Socket, in TipIn) (TipOut, error) { ... })
//
// A [Query] goes from the server to clients, and each of them answers. The library's
// own events are declared in the same way; they are listed as variables below.
//
// An [Interceptor] wraps the calls of one namespace, or of all. [Options.ConnContext]
// puts values from the HTTP request into the ctx of every handler of a connection. A
// [SocketKey] stores the host's own data on a socket.
//
// # Domain events
//
// The backend publishes what happened once, with [Server.Publish] or on the
// [EventBus] that the server subscribes to. The server decides which clients receive
// it:
//
//	rt.Publish(ctx, realtime.DriverAssigned{TripID: trip, PassengerID: p, DriverID: d})
//
// A host's own domain events implement [HostEvent]; [NewDomainEvent] declares each of
// them for Options.Events. [Server.Catalog] describes every event in both directions,
// and package realtimegen writes that as documentation and typed clients for app developers.
//
// # Order and delivery
//
// Events of one trip reach each socket in the order in which they were published. The
// events that one socket sends are handled one at a time, in order.
//
// An emit reaches a socket at most once; exactly once while the client is connected and reads
// fast enough, and the nodes reach each other. There is one exception: when a client's
// connection is not writable, a driver's newest position replaces the unsent older ones. Nothing
// else is dropped silently: the server disconnects a client that reads too slowly.
//
// A bus between nodes delivers a domain event at least once: after a fault another node may send
// it again. A node drops only the repeats of what it has handled itself. Every payload of the
// library's domain events has an eventId, with which a client drops the others.
//
// A client that was away gets the present state when it connects again: from
// [Options.Snapshots], from what [Namespace.OnConnect] sends, or from the host's REST API.
// With [Options.Recovery] a client that comes back in time gets the events that it missed
// instead.
//
// # Several nodes
//
// With an [Adapter], several nodes work as one: rooms, broadcasts, revocations and
// acks reach the sockets of all nodes. Package redisadapter is an adapter over Redis or
// Valkey. A node applies an operation to its own sockets without waiting for the other
// nodes. Package redisbus is an [EventBus] over Redis Streams, whose nodes share the domain
// events.
//
// # Testing
//
// Package realtimetest has a server for tests, fakes for every interface that a host
// implements, and a client that speaks the real protocol in memory, without ports.
package realtime
