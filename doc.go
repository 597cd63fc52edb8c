// Package realtime gives an existing ride-hailing backend its realtime side:
// drivers, passengers and dispatch dashboards connect with the Socket.IO clients
// they already have (v3 and v4; 1.x and 2.x with Compat.AllowEIO3), and the backend
// publishes what happened.
//
// A host makes a [Server] with its own repositories and mounts it on its own
// http.ServeMux:
//
//	tokens, err := realtime.NewJWTVerifier(secret, realtime.JWTOptions{Methods: []string{"HS256"}})
//	...
//	rt, err := realtime.New(realtime.Options{
//		Tokens:   tokens,
//		Users:    users,
//		Sessions: sessions,
//	})
//	mux.Handle(realtime.Path, rt)
//
// # Handshake
//
// A client connects to /drivers, /passengers or /admin with an access token, in
// `auth: {token}` or the Authorization header. The token is verified, the user
// and the login session are looked up, and only then is the client connected,
// put into its rooms and sent `hello`. Who fails a check gets a CONNECT_ERROR with
// a [Code]; a check that could not be made (a database that does not answer)
// admits nobody and logs nobody out: the transport is closed, and stock clients
// try again.
//
// A live socket stays authorised or ends: a token that expires, a session that is
// revoked, a user who is banned each end the sockets concerned, in every
// namespace and on every node, and the client is told why first.
//
// # Events
//
// An event's name meets its type in one place. Server to client is an [Event]:
//
//	var Surge = realtime.NewEvent[SurgePayload]("surge:changed")
//	Surge.Emit(rt.Drivers().To(realtime.NewRoom("zone", "havana")), SurgePayload{1.4})
//
// Client to server is a [Call], which decodes, validates and acknowledges:
//
//	var Tip = realtime.NewCall[TipIn, TipOut]("passenger:tip")
//	Tip.Handle(rt.Passengers(), func(ctx context.Context, s *realtime.Socket, in TipIn) (TipOut, error) { ... })
//
// Server to client with an answer is a [Query]. The contract's own events are such
// variables too; see the Event and Call variables below.
//
// An [Interceptor] runs around the calls of a namespace, or of all. [Options.ConnContext]
// puts what the HTTP request has brought into the ctx of every handler of a connection;
// a [SocketKey] keeps the host's own data on a socket.
//
// # Domain events
//
// What happened in the backend is published once, with [Server.Publish] or on the
// [EventBus] that the server subscribes to; the server knows who receives it:
//
//	rt.Publish(ctx, realtime.DriverAssigned{TripID: trip, PassengerID: p, DriverID: d})
//
// A host's own domain events are a [HostEvent] each, declared with [NewDomainEvent]
// in Options.Events. [Server.Catalog] describes every event in both directions;
// package realtimegen writes it down for the people who write the apps.
//
// # Order and delivery
//
// Events of one trip reach each socket in the order in which they were published.
// One socket's own events are handled one at a time, in order. A socket gets each
// event at most once, and while it is connected and keeps up, exactly once. A
// driver's position is worth a second: where a client's connection is not
// writable the newest replaces the older ones. Nothing else is dropped silently: a
// client that can't keep up is disconnected, and catches up when it reconnects, by
// the host's REST API or by what [Namespace.OnConnect] sends. Every payload of a
// domain event has an eventId, by which a client can drop repeats.
//
// # Several nodes
//
// With an [Adapter] several nodes act as one: rooms, broadcasts, revocations and
// acks span them. What a node does to its own sockets never waits for the others.
//
// # Testing
//
// Package realtimetest is to this package what net/http/httptest is to net/http:
// fakes for every interface, and a client that speaks the real protocol in memory.
package realtime
