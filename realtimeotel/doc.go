// Package realtimeotel has spans and metrics of a realtime.Server for OpenTelemetry.
//
//	telemetry, err := realtimeotel.New(realtimeotel.Options{})
//	...
//	rt, err := realtime.New(realtime.Options{
//		ConnContext:  realtimeotel.ConnContext,
//		Interceptors: []realtime.Interceptor{telemetry.Interceptor()},
//		Bus:          telemetry.Bus(bus),
//		Trace:        telemetry.Trace(),
//		...
//	})
//	...
//	telemetry.Watch(rt)
//
// It uses the API of OpenTelemetry; the host chooses an SDK and exporters. A host with a Trace of its
// own passes both to realtime.JoinTraces. Each part works without the others.
//
// # Spans
//
//	CONNECT /drivers              server    a handshake, from the CONNECT to its answer
//	/drivers driver:offer:accept  server    a call of a client, from Interceptor: interceptors after it, and the handler
//	publish trip.started          producer  Publish of the bus, from Bus
//	deliver trip.started          consumer  a domain event, from when the server received it until it was emitted
//
// A handshake is a child of the span of its HTTP request, if ConnContext is set and the host has such
// a span. A call begins a trace, because a connection lasts for hours, and has a link to that span.
// The context of what a handler does has the span of its call, so an event that it publishes belongs
// to the call's trace. Bus writes the context of the publication as W3C Trace Context into
// Envelope.Headers and reads it from there, so the span "deliver" is in the same trace on whichever
// node handles the event; it has an event for each audience, with the number of sockets that
// were reached on that node. So one trace shows a driver's call, what it published, and who heard of it.
//
// A call that a limit refuses, and an event without a handler, has no span; the metrics count it.
// A span has error.type, with the code that the client got, if something failed; its status is Error
// if the server or the host is to blame: for unavailable and internal.
//
// # Metrics
//
// The first two have the shape of OpenTelemetry's stable metrics for SignalR: their units, buckets,
// and values of status and transport. A connection is a socket: a client in one namespace.
//
//	socketio.server.connection.duration  histogram      s             socketio.namespace, socketio.connection.status, socketio.transport
//	socketio.server.active_connections   updowncounter  {connection}  socketio.namespace, socketio.transport
//	socketio.server.handshake.duration   histogram      s             socketio.namespace, socketio.transport, error.type
//	socketio.server.call.duration        histogram      s             socketio.namespace, socketio.event, error.type
//	realtime.domain_event.age            histogram      s             realtime.event.name: from Publish until it was emitted
//	realtime.trace.dropped               counter        {call}        calls of Trace; the other metrics lack them
//
// The second one is read from Server.Stats, after Watch. The values of attributes are names that
// the server or its host has registered, or constants; any other is "_OTHER". So the number of series
// does not depend on what clients send. Package realtimeprom has more metrics.
package realtimeotel
