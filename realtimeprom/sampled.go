// Sampled: what is read at each scrape.

package realtimeprom

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rodando/realtime"
)

// The descriptions of what is read from Server.Check and Server.Stats.
var (
	descReady           = desc("ready", "Whether Server.Check returns no error, 1 or 0.")
	descConnections     = desc("connections", "Connections of clients.", "transport")
	descUnauthenticated = desc("unauthenticated_connections", "Connections without a socket.")
	descHandshakes      = desc("pending_handshakes", "CONNECTs that are being decided.")
	descSockets         = desc("sockets", "Connected sockets.", "namespace", "transport")
	descRooms           = desc("rooms", "Rooms with a socket of this node.", "namespace")
	descOutboxMessages  = desc("outbox_messages", "Unsent messages of all connections.")
	descOutboxBytes     = desc("outbox_bytes", "Size of the unsent messages of all connections.")
	descLargestOutbox   = desc("largest_outbox_bytes", "Size of the unsent messages of the connection with the most of them.")
	descIncoming        = desc("incoming_buffer_bytes", "Size of the messages and bodies that have not arrived completely.")
	descAbandoned       = desc("abandoned_calls", "Calls of the host's code that exceeded their time and still run.", "call")
	descTraceQueue      = desc("trace_queue_calls", "Calls of Trace that wait.")
	descDropped         = desc("dropped_messages_total", "Volatile messages, and those of a Latest, that were dropped.")
	descReplaced        = desc("replaced_messages_total", "Unsent messages that a newer one of the same key has replaced.")

	descProbeAge        = desc("adapter_probe_age_seconds", "Time since the newest message was published that has certainly arrived, with all before it.")
	descWait            = desc("adapter_wait_seconds", "About how long a received message of another node waits for the server.")
	descIncomingCluster = desc("adapter_incoming_messages", "Messages of other nodes that wait for the server.")
	descIncomingBytes   = desc("adapter_incoming_bytes", "Size of the messages of other nodes that wait for the server.")
	descOutgoingCluster = desc("adapter_outgoing_messages", "Messages that wait to be sent to the other nodes.")
	descOutgoingBytes   = desc("adapter_outgoing_bytes", "Size of the messages that wait to be sent to the other nodes.")
	descLost            = desc("adapter_lost_messages_total", "Messages that were not sent to the other nodes.")

	sampled = []*prometheus.Desc{
		descReady, descConnections, descUnauthenticated, descHandshakes, descSockets, descRooms, descOutboxMessages, descOutboxBytes,
		descLargestOutbox, descIncoming, descAbandoned, descTraceQueue, descDropped, descReplaced,
		descProbeAge, descWait, descIncomingCluster, descIncomingBytes, descOutgoingCluster, descOutgoingBytes, descLost,
	}
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prefix+name, help, labels, nil)
}

// sample sends what is true now.
func sample(rt *realtime.Server, ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	count := func(d *prometheus.Desc, v uint64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v))
	}
	ready := 0
	if rt.Check(context.Background()) == nil {
		ready = 1
	}
	gauge(descReady, ready)
	st := rt.Stats()
	for transport, n := range st.Connections {
		gauge(descConnections, n, string(transport))
	}
	for _, ns := range st.Namespaces {
		for transport, n := range ns.Sockets {
			gauge(descSockets, n, ns.Name, string(transport))
		}
		gauge(descRooms, ns.Rooms, ns.Name)
	}
	for call, n := range st.Abandoned {
		gauge(descAbandoned, n, string(call))
	}
	gauge(descUnauthenticated, st.Unauthenticated)
	gauge(descHandshakes, st.Handshakes)
	gauge(descOutboxMessages, st.Outbox.Messages)
	gauge(descOutboxBytes, st.Outbox.Bytes)
	gauge(descLargestOutbox, st.Outbox.Largest)
	gauge(descIncoming, st.IncomingBytes)
	gauge(descTraceQueue, st.TraceQueue)
	count(descDropped, st.Outbox.Dropped)
	count(descReplaced, st.Outbox.Replaced)
	if a := st.Adapter; a != nil {
		ch <- prometheus.MustNewConstMetric(descProbeAge, prometheus.GaugeValue, a.ProbeAge.Seconds())
		ch <- prometheus.MustNewConstMetric(descWait, prometheus.GaugeValue, a.Wait.Seconds())
		gauge(descIncomingCluster, a.Incoming)
		gauge(descIncomingBytes, a.IncomingBytes)
		gauge(descOutgoingCluster, a.Outgoing)
		gauge(descOutgoingBytes, a.OutgoingBytes)
		count(descLost, a.Lost)
	}
}
