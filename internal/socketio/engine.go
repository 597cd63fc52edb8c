// The parts of package engineio that the layer above uses.

package socketio

import (
	"net/http"

	"github.com/rodando/realtime/internal/engineio"
)

type (
	// Message is one outgoing packet, encoded once for any number of receivers.
	Message = engineio.Message
	// Busy refuses a client that cannot be admitted now.
	Busy = engineio.Busy
	// EngineConfig configures the engine.
	EngineConfig = engineio.Config
	// Reason says why a connection ended.
	Reason = engineio.Reason
	// Limit is a limit that a connection or a socket exceeded.
	Limit = engineio.Limit
	// Exceeded is a limit that was exceeded.
	Exceeded = engineio.Exceeded
	// Stats describes the connections at one time.
	Stats = engineio.Stats
	// Failure describes a request that failed.
	Failure = engineio.Failure
	// FailureReason says why a request failed.
	FailureReason = engineio.FailureReason
)

// Reasons why a connection ends. Only the first two are passed to Conn.Close.
const (
	ReasonForcedClose    = engineio.ReasonForcedClose
	ReasonShuttingDown   = engineio.ReasonShuttingDown
	ReasonTransportClose = engineio.ReasonTransportClose
	ReasonTransportError = engineio.ReasonTransportError
	ReasonPingTimeout    = engineio.ReasonPingTimeout
	ReasonParseError     = engineio.ReasonParseError
	ReasonSlowConsumer   = engineio.ReasonSlowConsumer
)

// Limits of the engine.
const (
	LimitPayload       = engineio.LimitPayload
	LimitPackets       = engineio.LimitPackets
	LimitIncomingBytes = engineio.LimitIncomingBytes
	LimitOutbox        = engineio.LimitOutbox
)

// Limits of this layer.
const (
	LimitNamespaces   Limit = engineio.NextLimit + iota // Config.Namespaces
	LimitPendingAcks                                    // Config.PendingAcks
	LimitQueuedEvents                                   // Config.QueuedBytes; an event was refused
	LimitAttachments                                    // this and the following are fields of Limits
	LimitDepth
	LimitValues
	LimitEventName
	LimitNamespaceName
	LimitAttachmentBytes // Config.AttachmentBytes
)

// Why requests fail.
const (
	FailedTransport     = engineio.FailedTransport
	FailedSession       = engineio.FailedSession
	FailedMethod        = engineio.FailedMethod
	FailedUpgradeHeader = engineio.FailedUpgradeHeader
	FailedRequest       = engineio.FailedRequest
	FailedProtocol      = engineio.FailedProtocol
	FailedBusy          = engineio.FailedBusy
	FailedShutdown      = engineio.FailedShutdown
	FailedBody          = engineio.FailedBody
	FailedHijack        = engineio.FailedHijack
	FailedHandshake     = engineio.FailedHandshake
	FailedUpgrade       = engineio.FailedUpgrade
)

// Forbidden answers a request that the host does not admit, such as one from a
// foreign origin.
func Forbidden(w http.ResponseWriter, r *http.Request) { engineio.Forbidden(w, r) }
