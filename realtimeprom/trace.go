// Trace: what is counted when it happens.

package realtimeprom

import (
	"context"

	"github.com/rodando/realtime"
)

// Trace returns the functions that count what happens, for Options.Trace of the server that is passed
// to Watch.
func (m *Metrics) Trace() *realtime.Trace {
	return &realtime.Trace{
		RequestFailed: func(_ context.Context, i realtime.RequestFailedInfo) {
			m.requestFailures.WithLabelValues(string(i.Reason)).Inc()
		},
		Connected: func(_ context.Context, i realtime.ConnectedInfo) {
			m.handshakes.WithLabelValues(given(i.Namespace), resultOf("")).Observe(i.Duration.Seconds())
		},
		Refused: func(_ context.Context, i realtime.RefusedInfo) {
			m.handshakes.WithLabelValues(given(i.Namespace), resultOf(i.Code)).Observe(i.Duration.Seconds())
		},
		Disconnected: func(_ context.Context, i realtime.DisconnectedInfo) {
			m.disconnects.WithLabelValues(given(i.Namespace), string(i.Reason)).Inc()
		},
		Heartbeat: func(_ context.Context, i realtime.HeartbeatInfo) {
			m.heartbeats.WithLabelValues(string(i.Transport)).Observe(i.RoundTrip.Seconds())
		},
		Handled: func(_ context.Context, i realtime.HandledInfo) {
			namespace, event := given(i.Namespace), given(i.Event)
			m.calls.WithLabelValues(namespace, event, resultOf(i.Code)).Observe(i.Duration.Seconds())
			m.callBytes.WithLabelValues(namespace, event).Add(float64(i.Bytes))
			m.ackBytes.WithLabelValues(namespace, event).Add(float64(i.AckBytes))
		},
		Abandoned: func(_ context.Context, i realtime.AbandonedInfo) {
			m.abandoned.WithLabelValues(given(i.Namespace), given(i.Event)).Inc()
		},
		Emitted: func(_ context.Context, i realtime.EmittedInfo) {
			namespace, event := given(i.Namespace), registered(*m.events.Load(), i.Event)
			m.emits.WithLabelValues(namespace, event).Inc()
			m.receivers.WithLabelValues(namespace, event).Add(float64(i.Receivers))
			m.emittedBytes.WithLabelValues(namespace, event).Add(float64(i.Receivers) * float64(i.Bytes))
		},
		Limited: func(_ context.Context, i realtime.LimitInfo) { m.limited.WithLabelValues(string(i.Limit)).Inc() },

		Delivered: func(_ context.Context, i realtime.DeliveredInfo) {
			m.age.WithLabelValues(m.domainEvent(i.DomainInfo)).Observe(i.Age.Seconds())
		},
		Unknown: func(context.Context, realtime.UnknownInfo) { m.unknown.Inc() },
		Outdated: func(_ context.Context, i realtime.OutdatedInfo) {
			m.outdated.WithLabelValues(m.domainEvent(i.DomainInfo)).Inc()
		},
		Unaddressed: func(_ context.Context, i realtime.UnaddressedInfo) {
			m.unaddressed.WithLabelValues(m.domainEvent(i.DomainInfo), i.Who).Inc()
		},

		ClusterDropped: func(_ context.Context, i realtime.ClusterDroppedInfo) {
			m.clusterDropped.WithLabelValues(string(i.Reason)).Inc()
		},
		AdapterChanged: func(_ context.Context, i realtime.AdapterChangedInfo) {
			if i.Err != nil {
				m.receiving.Set(0)
			} else {
				m.receiving.Set(1)
			}
		},
		Gap: func(_ context.Context, i realtime.GapInfo) {
			m.gaps.Inc()
			m.gapSeconds.Add(max(0, i.Until.Sub(i.Since).Seconds()))
		},
		PeerJoined: func(context.Context, realtime.PeerInfo) { m.nodesJoined.Inc() },
		PeerLost: func(_ context.Context, i realtime.PeerLostInfo) {
			end := left
			if i.Died {
				end = died
			}
			m.nodesLost.WithLabelValues(end).Inc()
		},
		TraceDropped: func(_ context.Context, i realtime.TraceDroppedInfo) { m.traceLosses.Add(float64(i.Calls)) },
	}
}

// given returns a name that Trace gives only if it is registered, and leaves empty otherwise: that
// of a namespace, or of an inbound event.
func given(name string) string {
	if name == "" {
		return other
	}
	return name
}

func (m *Metrics) domainEvent(i realtime.DomainInfo) string {
	return registered(*m.domain.Load(), i.Event)
}

// resultOf returns "ok" for no code, and other for one that is not a constant.
func resultOf(c realtime.Code) string {
	switch {
	case c == "":
		return "ok"
	case c.Known():
		return string(c)
	}
	return other
}
