// Disconnect reasons: why a socket ended, and what its client does then.

package realtime

import (
	"github.com/rodando/realtime/internal/socketio"
)

// DisconnectReason says why a socket ended, as OnDisconnect, Trace and presence
// report it. Its text is that of the Node.js Socket.IO server, if that server has the reason.
//
// What a stock client does next depends on how it was disconnected. After a closed
// connection it reconnects by itself, with what its auth function returns then. After a
// DISCONNECT it does not reconnect until the app connects again. Events that the server
// sent before arrive first.
type DisconnectReason string

// The reasons, by what the client does next.
const (
	// DisconnectByServer, "server namespace disconnect": Socket.Disconnect,
	// Broadcast.Disconnect, an OnConnect that failed, or one of these:
	//   - the session was revoked, the user banned, deactivated or given another type,
	//     and the client got auth:session_revoked;
	//   - Rates.Breach, repeated: the user's client went on sending events that were
	//     acknowledged as rate_limited, and had done so some minutes before;
	//   - Limits.SocketsPerUser: the user has opened newer sockets.
	//
	// The client does not reconnect by itself.
	DisconnectByServer = DisconnectReason(socketio.ReasonServer)
	// DisconnectByClient, "client namespace disconnect": the app disconnected. The
	// client does not reconnect until the app connects again.
	DisconnectByClient = DisconnectReason(socketio.ReasonClient)
	// DisconnectForcedClose, "forced close": the server closed the connection. That is
	// Socket.Close, Broadcast.Close, a handler that was abandoned, Rates.Breach,
	// Limits.RefuseExtraSockets after connects to several nodes at the same moment, or a token
	// or login session that has expired, and the client got auth:expired. The client
	// reconnects by itself; after auth:expired it needs a new token.
	DisconnectForcedClose = DisconnectReason(socketio.ReasonForcedClose)
	// DisconnectShutdown, "server shutting down": Server.Shutdown; the client got
	// server:drain. It reconnects by itself, to another node.
	DisconnectShutdown = DisconnectReason(socketio.ReasonShuttingDown)
	// DisconnectTransportClose, "transport close": the connection was closed by the client or
	// by the network between. The client, if it still runs, reconnects by itself.
	DisconnectTransportClose = DisconnectReason(socketio.ReasonTransportClose)
	// DisconnectTransportError, "transport error": reading from or writing to the connection
	// failed. The client reconnects by itself.
	DisconnectTransportError = DisconnectReason(socketio.ReasonTransportError)
	// DisconnectPingTimeout, "ping timeout": the client did not answer a ping within
	// Timeouts.PingTimeout. It reconnects by itself once it has a network.
	DisconnectPingTimeout = DisconnectReason(socketio.ReasonPingTimeout)
	// DisconnectParseError, "parse error": the client broke the protocol, or sent a
	// message above a limit. It reconnects by itself.
	DisconnectParseError = DisconnectReason(socketio.ReasonParseError)
	// DisconnectSlowConsumer, "slow consumer": the client read so slowly that its unsent
	// messages reached Limits.OutboxBytes or Limits.OutboxMessages. It reconnects by
	// itself, and must load the present state again.
	DisconnectSlowConsumer = DisconnectReason(socketio.ReasonSlowConsumer)
	// DisconnectNodeLost, "node lost": another node has died, and with it the connection.
	// Only PresenceDisconnected has this reason. The client reconnects by itself, to another
	// node.
	DisconnectNodeLost DisconnectReason = "node lost"
)
