// What the external tests need of the inside.

package redisadapter

import "time"

// Hurry makes an adapter probe and beat every d.
func (a *Adapter) Hurry(d time.Duration) {
	a.timing = timing{probe: d, subscribe: 10 * d, beat: d, forget: 4 * d}
}

// Gap reports a gap.
func (a *Adapter) Gap(g Gap) { a.gap(g) }

// UID is the adapter's id.
func (a *Adapter) UID() string { return a.uid }

// Slot exports slot.
var Slot = slot

// Channels of a namespace that only Go nodes hear.
var (
	StateChannel = stateChannel
	NodesChannel = nodesChannel
)
