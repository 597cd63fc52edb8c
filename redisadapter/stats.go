// Stats: the nodes, and how far this one is behind the others, for metrics.

package redisadapter

import (
	"time"

	"github.com/rodando/realtime"
)

// AdapterStats implements realtime.AdapterReporter. It does not block.
func (a *Adapter) AdapterStats() (st realtime.AdapterStats) {
	now := time.Now()
	st.Node, st.Peers = realtime.Peer{ID: a.uid, Name: a.opts.Name}, a.Peers()
	a.mu.Lock()
	links := make([]*link, 0, len(a.health))
	for l := range a.health {
		links = append(links, l)
	}
	a.mu.Unlock()
	for _, l := range links {
		st.ProbeAge = max(st.ProbeAge, now.Sub(l.receivedUntil()))
	}
	a.namespaces.Range(func(_, v any) bool {
		ns := v.(*namespace) //nolint:errcheck,forcetypeassert // namespaces holds nothing else
		ns.mu.Lock()
		defer ns.mu.Unlock()
		st.Incoming += len(ns.queue)
		st.IncomingBytes += ns.bytes
		st.Wait = max(st.Wait, ns.waitLocked(now))
		return true
	})
	p := &a.publisher
	p.mu.Lock()
	defer p.mu.Unlock()
	st.Outgoing, st.OutgoingBytes, st.Lost = len(p.queue), p.bytes, p.lostAll
	return st
}
