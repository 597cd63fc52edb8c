// Limits and Rates: what clients can cost, and the default of each field.

package realtime

// Limits bounds what clients can cost. No number may be above 1,073,741,824. The server
// reports each refusal to Trace.Limited, with the name of the field.
//
// An event that exceeds Attachments, AttachmentBytes, EventName, Depth or Values is acknowledged
// with CodeInvalidPayload and the name of the limit; an ack that does so is ignored. A message
// beyond MaxPayload closes the connection.
//
// Events wait for their handlers in a queue of the connection. The server stops reading
// the connection while the queue has more than QueuedEvents events, or uses more memory
// than twice MaxPayload. It goes on reading while it waits for an ack of the client,
// because the ack may come after these events; events that find no memory in the queue
// are then acknowledged with CodeRateLimited.
//
// The fields from Connections to UnauthenticatedPerIP count on this node only. A request beyond
// the total is answered with 503, one beyond the limit of its address with 429. Both have
// a Retry-After header, and stock clients try again later. IPv6 addresses are counted by
// their /64. A private address that is not in Options.TrustedProxies has no limit of its own.
//
// When there are too many unauthenticated connections, the server closes an older one in
// favor of the new one: one whose CONNECT was refused, or the one that has waited longest.
// If nearly all of them have a handshake in progress, it closes one of the IPv6 /48 or IPv4
// /24 that has the most, and refuses the new connection only if none has two more than its
// own. A connection whose last socket has left is unauthenticated again.
//
// When there are too many connections in all, an unauthenticated one that had a second to
// log in is closed in favor of the new one, or else one whose sockets are all anonymous, of
// the /48 or /24 that has the most of those.
type Limits struct {
	// MaxPayload is the maximum size of a WebSocket message or of a polling body, at least 1000
	// bytes. Defaults to 1,000,000 bytes.
	MaxPayload int
	// PacketsPerBody is the maximum number of packets in a polling body. A stock client puts
	// all that its app has emitted while it was offline into one, up to MaxPayload. Defaults to
	// 100,000 packets.
	PacketsPerBody int
	// Attachments is the maximum number of binary attachments of an event. Defaults to 10
	// attachments.
	Attachments int
	// AttachmentBytes is the maximum size of the attachments of an event together, at least 1000
	// bytes, or MaxPayload if that is more. MaxPayload is the maximum of each. Defaults to
	// 4,000,000 bytes.
	AttachmentBytes int
	// EventName is the maximum length of an event's name, at least 20 bytes: the longest built-in
	// name. Defaults to 128 bytes.
	EventName int
	// Depth is the maximum nesting of arrays and objects in an event, at least 4 levels. Defaults
	// to 32 levels.
	Depth int
	// Values is the maximum number of array elements and object members in an event, or in the auth
	// object of a CONNECT, at least 32 values. Defaults to 100,000 values.
	Values int
	// QueuedEvents is the maximum number of a connection's events that wait for their handlers.
	// Defaults to 256 events.
	QueuedEvents int
	// OutboxBytes is the maximum size of a connection's unsent messages, at least 16,384 bytes. A
	// client beyond it is closed as a slow consumer; an emit of an event that is larger by itself
	// returns an error. Defaults to 4,194,304 bytes.
	OutboxBytes int
	// OutboxMessages is the maximum number of a connection's unsent messages, at least 16 messages.
	// A client beyond it is closed as a slow consumer. Defaults to 10,000 messages.
	OutboxMessages int
	// RoomsPerSocket is the maximum number of rooms that a client can join with its own events.
	// Defaults to 100 rooms.
	RoomsPerSocket int
	// Namespaces is the maximum number of namespaces that a connection is in. Defaults to 8
	// namespaces.
	Namespaces int
	// PendingAcks is the maximum number of emits to one socket that wait for their ack. Defaults to
	// 1000 emits.
	PendingAcks int
	// Handlers is the maximum number of running calls of handlers and OnConnect. Events beyond it
	// are acknowledged with CodeUnavailable. Negative: no limit. Defaults to 50,000 calls.
	Handlers int
	// HandlersPerEvent is the same for one event in one namespace. An abandoned handler counts
	// until it returns, in both. It cannot go above a Handlers that is set. Negative: no limit.
	// Defaults to 25,000 calls.
	HandlersPerEvent int
	// RememberedEvents is how many event ids the server remembers in order to drop repeats from the
	// bus. Negative: none. Defaults to 8192 ids.
	RememberedEvents int
	// RememberedCalls is how many acks of one user the server remembers, each for 2 minutes: of events with an
	// idempotencyKey, which it handles once. It remembers no ack with CodeUnavailable, CodeInternal or CodeRateLimited.
	// If Cluster.Adapter is a CallKeeper the other nodes have them too, those of up to about 6 KB.
	// Negative: the key has no effect. Defaults to 64 acks.
	RememberedCalls int
	// RememberedCallBytes is the maximum size of these acks of all users, at least 1,048,576 bytes. One user has
	// at most a 64th of it: a larger ack is not remembered. Defaults to 67,108,864 bytes.
	RememberedCallBytes int
	// RepoConcurrency is the maximum number of concurrent calls of Users, and of Sessions. Further
	// calls wait, at most Timeouts.Repo. Defaults to 64 calls.
	RepoConcurrency int
	// DrainRate is how many connections Shutdown closes per second, so that not all clients
	// reconnect at once. Defaults to 2500 connections a second.
	DrainRate int

	// Connections is the maximum number of connections. Negative: no limit. Defaults to 200,000
	// connections.
	Connections int
	// ConnectionsPerIP is the maximum number of connections of one address, those that have logged
	// in included: a carrier can have thousands of phones behind one address. It cannot go above a
	// Connections that is set. Negative: no limit. Defaults to no limit.
	ConnectionsPerIP int
	// Unauthenticated is the maximum number of connections that have no socket. The maximum for one
	// IPv6 /48 or IPv4 /24 is an eighth of it, or UnauthenticatedPerIP if that is more. Negative:
	// no limit. Defaults to 10,000 connections.
	Unauthenticated int
	// UnauthenticatedPerIP is the maximum number of such connections of one address. It cannot go
	// above an Unauthenticated that is set. Above ConnectionsPerIP it only raises the maximum of a
	// /48 or /24. If only Unauthenticated is set, it is a tenth of that, from 100 to 1000.
	// Negative: no limit. Defaults to 1000 connections.
	UnauthenticatedPerIP int
	// SocketsPerUser is the maximum number of sockets of one user in one namespace, on all nodes if
	// the adapter reports its peers, otherwise on each. Negative: no limit. Defaults to 10 sockets.
	SocketsPerUser int
	// RefuseExtraSockets refuses a user's socket beyond SocketsPerUser with
	// CodeRateLimited. If the user connects to several nodes at the same moment, the connection
	// of the newest may be closed a moment later. Defaults to false: the server connects the new socket and
	// disconnects the user's oldest one in the namespace.
	RefuseExtraSockets bool
}

// Rate is a token bucket: PerSecond on average, Burst at once. The zero Rate means the
// default, a negative PerSecond means no limit.
type Rate struct {
	PerSecond float64 // what is counted, such as events, in a second on average
	Burst     int     // the same, at once
}

// Rates bounds how often a client may do something. An event beyond its rate is
// acknowledged with CodeRateLimited and has no effect. The server reports each refusal to
// Trace.Limited, with "Rates." and the name of the field.
//
// A client that was offline sends at once what it has kept. That does not count for Breach in the
// ten seconds from the first event of a socket, and on a slow line as long as such events follow each
// other within two seconds, for two minutes at most, as long as a user has not more than 20,000
// such events beyond their rates, and 10 more a second. Of the positions the newest is handled
// then, and the older ones are acknowledged with success.
type Rates struct {
	// Location is the rate of driver:location:ping, for each socket. Beyond it the newest
	// position waits until the rate allows it, and takes the place of the one that waited,
	// which is refused. Events that come after it do not wait for it. Defaults to 2 a second,
	// 10 at once.
	Location Rate
	// Event is the rate of every other event except auth:refresh, for each socket and
	// event. admin:trip:join and admin:trip:leave have it too, but Limits.RoomsPerSocket at
	// once if that is more. Defaults to 10 a second, 20 at once.
	Event Rate
	// Events overrides Location and Event for single events, by name. Defaults to
	// auth:refresh once in 10 s, 5 at once.
	Events map[string]Rate
	// User is the rate of all events of one user on this node, except admin:trip:join and
	// admin:trip:leave. Defaults to 50 a second, 200 at once.
	User Rate
	// Breach is the rate of refused events, for each socket, beyond which the server closes
	// the connection, so that the client reconnects. If that happens to the user again within
	// 5 minutes on this node, the server disconnects the socket instead, and the client stays
	// away. Clients without a user are one user if they have the same address. Defaults to 1
	// a second, 100 at once.
	Breach Rate
	// Connect is the rate at which one connection may send CONNECT, refused ones
	// included. The server refuses ten CONNECTs beyond it, then closes the connection.
	// Defaults to 1 a second, 10 at once.
	Connect Rate
	// Unauthenticated is the rate at which one address may open connections that do not log
	// in. A new connection counts until it has a socket with a user. Defaults to 50 a second,
	// 1000 at once.
	Unauthenticated Rate
	// Handshake is the rate at which one address may open connections, those that log in
	// included. Defaults to no limit.
	Handshake Rate
}
