// Disconnect reasons: why a socket ended, and what its client does then.

package realtime

import (
	"github.com/rodando/realtime/internal/socketio"
)

// DisconnectReason says why a socket ended, as OnDisconnect, Trace and presence
// report it. Its text is Node's Socket.IO server's, where that has the reason.
//
// What a stock client does next depends on how it was disconnected. After a closed
// connection it reconnects by itself, and sends what its auth function returns then;
// after a DISCONNECT it stays away until the app connects again. What the client was
// told before arrives first.
type DisconnectReason string

// The reasons, by what the client does next.
const (
	// DisconnectByServer, "server namespace disconnect": Socket.Disconnect,
	// Broadcast.Disconnect, an OnConnect that failed, or one of these:
	//   - the session was revoked, the user banned, deactivated or given another type,
	//     of which the client was told by auth:session_revoked;
	//   - Rates.Breach: the client went on sending what was acknowledged as
	//     rate_limited;
	//   - Limits.SocketsPerUser: the user has opened newer sockets.
	//
	// The client stays away.
	DisconnectByServer = DisconnectReason(socketio.ReasonServer)
	// DisconnectByClient, "client namespace disconnect": the app disconnected. The
	// client stays away until the app connects again.
	DisconnectByClient = DisconnectReason(socketio.ReasonClient)
	// DisconnectForcedClose, "forced close": the server closed the connection. That is
	// Socket.Close, Broadcast.Close, a handler that does not return, or a token or login
	// session that has expired, of which the client was told by auth:expired. The client
	// comes back by itself; after auth:expired it needs a fresh token.
	DisconnectForcedClose = DisconnectReason(socketio.ReasonForcedClose)
	// DisconnectShutdown, "server shutting down": Server.Shutdown, of which the client
	// was told by server:drain. It comes back by itself, to another node.
	DisconnectShutdown = DisconnectReason(socketio.ReasonShuttingDown)
	// DisconnectTransportClose, "transport close": the client closed the connection, or
	// its network did. The client, if it still runs, comes back by itself.
	DisconnectTransportClose = DisconnectReason(socketio.ReasonTransportClose)
	// DisconnectTransportError, "transport error": the connection broke. The client
	// comes back by itself.
	DisconnectTransportError = DisconnectReason(socketio.ReasonTransportError)
	// DisconnectPingTimeout, "ping timeout": the client did not answer a ping within
	// Timeouts.PingTimeout. It comes back by itself once it has a network.
	DisconnectPingTimeout = DisconnectReason(socketio.ReasonPingTimeout)
	// DisconnectParseError, "parse error": the client broke the protocol, or sent a
	// message above a limit. It comes back by itself.
	DisconnectParseError = DisconnectReason(socketio.ReasonParseError)
	// DisconnectSlowConsumer, "slow consumer": the client read more slowly than it was
	// sent to, up to Limits.OutboxBytes or Limits.OutboxMessages. It comes back by
	// itself, and is to load the present state again.
	DisconnectSlowConsumer = DisconnectReason(socketio.ReasonSlowConsumer)
)
