// Zeros: counters of what happens rarely are 0 from the beginning, so that a query sees the first
// time too: the rate of a series that appears with 1 is 0.

package realtimeprom

import (
	"github.com/rodando/realtime"
)

// The constants of package realtime that are labels of such counters.
var (
	failures = []realtime.RequestFailure{
		realtime.FailureTransport, realtime.FailureSession, realtime.FailureMethod, realtime.FailureUpgradeHeader, realtime.FailureRequest,
		realtime.FailureProtocol, realtime.FailureOrigin, realtime.FailureLimit, realtime.FailureConnContext, realtime.FailureShutdown,
		realtime.FailureBody, realtime.FailureHijack, realtime.FailureHandshake, realtime.FailureUpgrade, realtime.FailureConnect,
		realtime.FailurePacket,
	}
	limits = []realtime.Limit{
		realtime.LimitMaxPayload, realtime.LimitPacketsPerBody, realtime.LimitAttachments, realtime.LimitAttachmentBytes, realtime.LimitEventName,
		realtime.LimitDepth, realtime.LimitValues, realtime.LimitQueuedEvents, realtime.LimitRoomsPerSocket, realtime.LimitNamespaces,
		realtime.LimitPendingAcks, realtime.LimitHandlers, realtime.LimitHandlersPerEvent, realtime.LimitConnections,
		realtime.LimitConnectionsPerIP, realtime.LimitUnauthenticated, realtime.LimitUnauthenticatedPerIP, realtime.LimitSocketsPerUser,
		realtime.LimitRateLocation, realtime.LimitRateEvent, realtime.LimitRateEvents, realtime.LimitRateUser, realtime.LimitRateBreach,
		realtime.LimitRateConnect, realtime.LimitRateHandshake, realtime.LimitRateUnauthenticated, realtime.LimitOutbox,
		realtime.LimitNamespaceName, realtime.LimitIncomingBytes,
	}
	drops = []realtime.DropReason{
		realtime.DropVersion, realtime.DropUnknownOp, realtime.DropUnknownNamespace, realtime.DropMalformed, realtime.DropLimit,
	}
)

// Who an event may not find, and how another node may end.
const (
	passenger, driver = "passenger", "driver"
	left, died        = "left", "died"
)

// zero creates the series that are known without a server.
func (m *Metrics) zero() {
	for _, r := range failures {
		m.requestFailures.WithLabelValues(string(r))
	}
	for _, l := range limits {
		m.limited.WithLabelValues(string(l))
	}
	for _, r := range drops {
		m.clusterDropped.WithLabelValues(string(r))
	}
	m.nodesLost.WithLabelValues(left)
	m.nodesLost.WithLabelValues(died)
}

// zeroNames creates the series of the names that are registered now.
func (m *Metrics) zeroNames(c realtime.Catalog) {
	for _, d := range c.Events {
		if d.FromClient {
			m.abandoned.WithLabelValues(d.Namespace, d.Event)
		}
	}
	for _, ns := range c.Namespaces {
		for _, hook := range []string{"connect", "disconnect"} {
			m.abandoned.WithLabelValues(ns, hook)
		}
	}
	for _, name := range c.DomainEvents {
		m.outdated.WithLabelValues(name)
		for _, who := range []string{passenger, driver} {
			m.unaddressed.WithLabelValues(name, who)
		}
	}
}
