// Package realtimeprom has the metrics of a realtime.Server for Prometheus.
//
//	metrics := realtimeprom.New(realtimeprom.Options{})
//	rt, err := realtime.New(realtime.Options{Trace: metrics.Trace(), ...})
//	...
//	metrics.Watch(rt) // once its handlers are registered
//	prometheus.MustRegister(metrics)
//
// A host with a Trace of its own passes both to realtime.JoinTraces.
//
// # Metrics
//
// Those without a type are gauges that are read from Server.Stats at each scrape. Those of the adapter
// need one that is a realtime.AdapterReporter, such as redisadapter.
//
//	realtime_ready                            1 while Server.Check returns nil
//	realtime_connections                      by transport
//	realtime_unauthenticated_connections      connections without a socket
//	realtime_pending_handshakes               CONNECTs that are being decided
//	realtime_sockets                          by namespace, transport
//	realtime_rooms                            by namespace
//	realtime_outbox_messages                  unsent messages of all connections
//	realtime_outbox_bytes                     likewise
//	realtime_largest_outbox_bytes             of the connection with the most of them
//	realtime_incoming_buffer_bytes            messages that have not arrived completely
//	realtime_abandoned_calls                  calls of the host's code that hang, by call
//	realtime_trace_queue_calls                calls of Trace that wait
//	realtime_dropped_messages_total           counter: volatile messages and those of a Latest
//	realtime_replaced_messages_total          counter: unsent messages with a newer one of the same key
//
//	realtime_request_failures_total           counter, by reason: see realtime.RequestFailure
//	realtime_handshake_duration_seconds       histogram, by namespace, result: ok or the code
//	realtime_disconnects_total                counter, by namespace, reason
//	realtime_heartbeat_round_trip_seconds     histogram, by transport
//	realtime_call_duration_seconds            histogram, by namespace, event, code: ok or the code
//	realtime_call_received_bytes_total        counter, by namespace, event
//	realtime_call_ack_bytes_total             counter, by namespace, event
//	realtime_abandoned_handlers_total         counter, by namespace, event
//	realtime_emits_total                      counter, by namespace, event
//	realtime_emit_receivers_total             counter, by namespace, event
//	realtime_emitted_bytes_total              counter, by namespace, event: the sizes times the receivers
//	realtime_limited_total                    counter, by limit: see realtime.Limit
//
//	realtime_domain_event_age_seconds         histogram, by event: from Publish until it was emitted
//	realtime_unknown_domain_events_total      counter
//	realtime_outdated_domain_events_total     counter, by event
//	realtime_unaddressed_domain_events_total  counter, by event, receiver
//
//	realtime_adapter_receiving                gauge: 0 while the adapter receives nothing from other nodes
//	realtime_adapter_probe_age_seconds        how old what this node knows of the others is, at most
//	realtime_adapter_wait_seconds             how long received messages wait for the server, about
//	realtime_adapter_incoming_messages        those that wait for the server
//	realtime_adapter_incoming_bytes           likewise
//	realtime_adapter_outgoing_messages        those that wait to be sent to other nodes
//	realtime_adapter_outgoing_bytes           likewise
//	realtime_adapter_lost_messages_total      counter: messages that were not sent to other nodes
//	realtime_gaps_total                       counter: messages of other nodes may have been lost
//	realtime_gap_seconds_total                counter: the length of these periods
//	realtime_nodes_joined_total               counter
//	realtime_nodes_lost_total                 counter, by end: left or died
//	realtime_cluster_dropped_messages_total   counter, by reason: see realtime.DropReason
//	realtime_dropped_traces_total             counter: calls of Trace; the other counters lack them
//
// # Labels
//
// The value of a label is a name that the server or its host has registered, or a constant of package
// realtime. Everything else is "other": an event without a handler, a namespace that does not
// exist, an event that is neither in Server.Catalog nor in Options.Events, and a code that is not a
// constant. So the number of series does not depend on what clients send. No label has an id or
// an address.
//
// Counters of what happens rarely are 0 from the beginning for each value, so that a query sees the
// first time too.
//
// docs/grafana-dashboard.json, in the repository, is a dashboard for Grafana with all of them.
package realtimeprom
