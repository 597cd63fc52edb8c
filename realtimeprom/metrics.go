// Metrics: the collector, and what a host configures.

package realtimeprom

import (
	"slices"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rodando/realtime"
)

// other is the value of a label whose name is not registered.
const other = "other"

// Options configures Metrics.
type Options struct {
	// Events lists the names of events that the host emits itself, with Event.Emit, and that are
	// not in Server.Catalog. Those of calls and of domain events need not be listed. Defaults to
	// none: other events are counted under "other".
	Events []string
	// Buckets has the upper bounds of the histograms, in seconds, ascending. Defaults to
	// 1, 2.5, 5, 10, 25, 50, 100, 250 and 500 ms and 1, 2.5, 5, 10 and 20 s.
	Buckets []float64
}

// Metrics collects the metrics of one server. It is a prometheus.Collector. New returns one; the
// zero value is not usable. All methods may be called concurrently. For two servers in one process,
// register each with labels of its own: see prometheus.WrapRegistererWith.
type Metrics struct {
	opts   Options
	server atomic.Pointer[realtime.Server] // nil before Watch
	events atomic.Pointer[map[string]bool] // the names that emitted events may have as a label
	domain atomic.Pointer[map[string]bool] // likewise, of domain events

	requestFailures                                     *prometheus.CounterVec
	handshakes, heartbeats                              *prometheus.HistogramVec
	disconnects                                         *prometheus.CounterVec
	calls                                               *prometheus.HistogramVec
	callBytes, ackBytes, abandoned                      *prometheus.CounterVec
	emits, receivers, emittedBytes                      *prometheus.CounterVec
	limited                                             *prometheus.CounterVec
	age                                                 *prometheus.HistogramVec
	unknown, gaps, gapSeconds, nodesJoined, traceLosses prometheus.Counter
	outdated, unaddressed, nodesLost, clusterDropped    *prometheus.CounterVec
	receiving                                           prometheus.Gauge

	traced []prometheus.Collector // all of them
}

// defaultBuckets are for handshakes, calls and round trips of phones.
var defaultBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 20}

// New returns metrics without a server. Pass its Trace to realtime.New, and the server to Watch.
func New(o Options) *Metrics {
	o.Events = slices.Clone(o.Events)
	if len(o.Buckets) == 0 {
		o.Buckets = defaultBuckets
	}
	m := &Metrics{opts: o}
	m.requestFailures = m.counter("request_failures_total", "HTTP requests and connections that failed before a CONNECT.", "reason")
	m.handshakes = m.histogram("handshake_duration_seconds", "Time from a CONNECT to its answer.", "namespace", "result")
	m.disconnects = m.counter("disconnects_total", "Sockets that have disconnected.", "namespace", "reason")
	m.heartbeats = m.histogram("heartbeat_round_trip_seconds", "Time from a ping to the client's pong.", "transport")
	m.calls = m.histogram("call_duration_seconds", "Time from the begin of an inbound event's handling to its answer.", "namespace", "event", "code")
	m.callBytes = m.counter("call_received_bytes_total", "Size of the arguments of inbound events.", "namespace", "event")
	m.ackBytes = m.counter("call_ack_bytes_total", "Size of the acks of inbound events.", "namespace", "event")
	m.abandoned = m.counter("abandoned_handlers_total", "Handlers and hooks that did not return in time.", "namespace", "event")
	m.emits = m.counter("emits_total", "Events that were emitted to sockets of this node.", "namespace", "event")
	m.receivers = m.counter("emit_receivers_total", "Sockets of this node that events were queued for.", "namespace", "event")
	m.emittedBytes = m.counter("emitted_bytes_total", "Size of emitted events times their receivers.", "namespace", "event")
	m.limited = m.counter("limited_total", "What was refused or closed because of a limit.", "limit")
	m.age = m.histogram("domain_event_age_seconds", "Time from the publication of a domain event until it was emitted.", "event")
	m.outdated = m.counter("outdated_domain_events_total", "Domain events that were not emitted, or only to admins, because the server knows something newer.", "event")
	m.unaddressed = m.counter("unaddressed_domain_events_total", "Domain events that a receiver did not get because the server does not know who that is.", "event", "receiver")
	m.nodesLost = m.counter("nodes_lost_total", "Other nodes that have left or died.", "end")
	m.clusterDropped = m.counter("cluster_dropped_messages_total", "Messages of other nodes that this node does not understand.", "reason")
	m.unknown = m.single("unknown_domain_events_total", "Events of the bus that are not registered.")
	m.gaps = m.single("gaps_total", "Periods in which messages of other nodes may have been lost.")
	m.gapSeconds = m.single("gap_seconds_total", "Length of the periods in which messages of other nodes may have been lost.")
	m.nodesJoined = m.single("nodes_joined_total", "Other nodes that were found.")
	m.traceLosses = m.single("dropped_traces_total", "Calls of Trace that were dropped: the other counters lack them.")
	m.receiving = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: prefix + "adapter_receiving", Help: "Whether the adapter receives messages of other nodes, 1 or 0. Without an adapter it is 1.",
	})
	m.receiving.Set(1)
	m.traced = append(m.traced, m.receiving)
	m.setNames(realtime.Catalog{})
	m.zero()
	return m
}

const prefix = "realtime_"

func (m *Metrics) counter(name, help string, labels ...string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + name, Help: help}, labels)
	m.traced = append(m.traced, c)
	return c
}

func (m *Metrics) single(name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: prefix + name, Help: help})
	m.traced = append(m.traced, c)
	return c
}

func (m *Metrics) histogram(name, help string, labels ...string) *prometheus.HistogramVec {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: prefix + name, Help: help, Buckets: m.opts.Buckets}, labels)
	m.traced = append(m.traced, h)
	return h
}

// Watch makes the metrics those of rt: gauges come from its Stats, and the events in its Catalog
// have their names as labels. Call it after the host has registered its handlers, and before the
// server is mounted.
func (m *Metrics) Watch(rt *realtime.Server) {
	c := rt.Catalog()
	m.setNames(c)
	m.zeroNames(c)
	m.server.Store(rt)
}

func (m *Metrics) setNames(c realtime.Catalog) {
	events, domain := map[string]bool{}, map[string]bool{}
	for _, name := range m.opts.Events {
		events[name] = true
	}
	for _, d := range c.Events {
		events[d.Event] = true
	}
	for _, name := range c.DomainEvents {
		domain[name] = true
	}
	m.events.Store(&events)
	m.domain.Store(&domain)
}

// registered returns the name, or other if it is not in names.
func registered(names map[string]bool, name string) string {
	if names[name] {
		return name
	}
	return other
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.traced {
		c.Describe(ch)
	}
	for _, d := range sampled {
		ch <- d
	}
}

// Collect implements prometheus.Collector. It visits every connection of the server, and asks its
// adapter: see realtime.Server.Stats and Check.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.traced {
		c.Collect(ch)
	}
	if rt := m.server.Load(); rt != nil {
		sample(rt, ch)
	}
}
