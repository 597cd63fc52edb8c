// Exports for the external tests.

package redisadapter

import (
	"time"

	"github.com/rodando/realtime"
)

// Hurry makes an adapter send probes and heartbeats every d.
func (a *Adapter) Hurry(d time.Duration) {
	a.timing = timing{probe: d, subscribe: 10 * d, beat: d, forget: 4 * d, late: 10 * d}
}

// LimitAnswers sets how many requests of each kind are answered at the same time, how many wait for that,
// and the bytes of all of them.
func (a *Adapter) LimitAnswers(answered, waiting, bytes int) {
	a.answering.init(answered, answered, waiting, bytes)
}

// Answering returns how many requests of that kind are answered or wait for that.
func (a *Adapter) Answering(op realtime.ClusterOp) int {
	kind, _ := kindOf(op)
	s := a.answering.slotsOf(kind)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held
}

// Gap reports a gap.
func (a *Adapter) Gap(g realtime.Gap) { a.gap(g) }

// UID returns the adapter's id.
func (a *Adapter) UID() string { return a.uid }

// SetUID gives an adapter the id of another one, as a copy of its process has.
func (a *Adapter) SetUID(uid string) {
	a.uid = uid
	a.protocol = protocolOf(a.opts, a.limits, uid)
}

// Slot exports slot, and ProbeChannel probeChannel.
var (
	Slot         = slot
	ProbeChannel = probeChannel
)

// The channels of a namespace to which only Go nodes subscribe.
var (
	StateChannel = stateChannel
	NodesChannel = nodesChannel
)
