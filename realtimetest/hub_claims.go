// Claims of a Hub: which node recovers a socket.

package realtimetest

import (
	"context"
	"time"
)

// Claim implements realtime.Claimer. A node that is cut off cannot claim.
func (n *HubNode) Claim(_ context.Context, key string, d time.Duration) (first bool, err error) {
	h := n.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := n.reachesLocked(); err != nil {
		return false, err
	}
	now := time.Now()
	if until, ok := h.claims[key]; ok && now.Before(until) {
		return false, nil
	}
	h.claims[key] = now.Add(d)
	return true, nil
}

// Unclaim implements realtime.Claimer.
func (n *HubNode) Unclaim(_ context.Context, key string) error {
	h := n.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := n.reachesLocked(); err != nil {
		return err
	}
	delete(h.claims, key)
	return nil
}

// reachesLocked returns why a node does not reach the others, or nil.
func (n *HubNode) reachesLocked() error {
	if err := n.stateLocked(); err != nil || !n.cut && !n.killed {
		return err
	}
	return errCut
}
