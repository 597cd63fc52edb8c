// Trace join: several Traces as one.

package realtime

import "context"

// JoinTraces returns a Trace that calls the functions of several, each in the order of the
// arguments, for instance those of realtimeprom and the host's own. A panic of one does not keep
// the next from being called. Arguments that are nil, and nil functions, cost nothing.
func JoinTraces(ts ...*Trace) *Trace {
	all := &Trace{}
	for _, t := range ts {
		if t == nil {
			continue
		}
		all = &Trace{
			RequestFailed:  join(all.RequestFailed, t.RequestFailed),
			Connected:      join(all.Connected, t.Connected),
			Refused:        join(all.Refused, t.Refused),
			Disconnected:   join(all.Disconnected, t.Disconnected),
			Heartbeat:      join(all.Heartbeat, t.Heartbeat),
			Handled:        join(all.Handled, t.Handled),
			Abandoned:      join(all.Abandoned, t.Abandoned),
			Emitted:        join(all.Emitted, t.Emitted),
			Limited:        join(all.Limited, t.Limited),
			Delivered:      join(all.Delivered, t.Delivered),
			Unknown:        join(all.Unknown, t.Unknown),
			Outdated:       join(all.Outdated, t.Outdated),
			Unaddressed:    join(all.Unaddressed, t.Unaddressed),
			ClusterDropped: join(all.ClusterDropped, t.ClusterDropped),
			AdapterChanged: join(all.AdapterChanged, t.AdapterChanged),
			Gap:            join(all.Gap, t.Gap),
			PeerJoined:     join(all.PeerJoined, t.PeerJoined),
			PeerLost:       join(all.PeerLost, t.PeerLost),
			TraceDropped:   join(all.TraceDropped, t.TraceDropped),
		}
	}
	return all
}

func join[Info any](first, then func(context.Context, Info)) func(context.Context, Info) {
	switch {
	case first == nil:
		return then
	case then == nil:
		return first
	}
	return func(ctx context.Context, i Info) {
		defer then(ctx, i)
		first(ctx, i)
	}
}
