// Calls of a Hub: which events with an idempotency key its nodes handle, and the acks.

package realtimetest

import (
	"bytes"
	"context"
	"time"
)

// hubCall is the value of a key.
type hubCall struct {
	value []byte
	until time.Time
}

// ClaimCall implements realtime.CallKeeper. For a node that is cut off, it and the methods below fail.
func (n *HubNode) ClaimCall(_ context.Context, key string, value []byte, d time.Duration) (held []byte, err error) {
	n.hub.mu.Lock()
	defer n.hub.mu.Unlock()
	if err := n.reachesLocked(); err != nil {
		return nil, err
	}
	if held := n.hub.callLocked(key); held != nil {
		return held, nil
	}
	n.hub.calls[key] = hubCall{bytes.Clone(value), time.Now().Add(d)}
	return nil, nil
}

// FindCall implements realtime.CallKeeper.
func (n *HubNode) FindCall(_ context.Context, key string) (value []byte, err error) {
	n.hub.mu.Lock()
	defer n.hub.mu.Unlock()
	if err := n.reachesLocked(); err != nil {
		return nil, err
	}
	return n.hub.callLocked(key), nil
}

// KeepCall implements realtime.CallKeeper.
func (n *HubNode) KeepCall(_ context.Context, key string, value []byte, d time.Duration) error {
	n.hub.mu.Lock()
	defer n.hub.mu.Unlock()
	if err := n.reachesLocked(); err != nil {
		return err
	}
	n.hub.calls[key] = hubCall{bytes.Clone(value), time.Now().Add(d)}
	return nil
}

// ForgetCall implements realtime.CallKeeper.
func (n *HubNode) ForgetCall(_ context.Context, key string) error {
	n.hub.mu.Lock()
	defer n.hub.mu.Unlock()
	if err := n.reachesLocked(); err != nil {
		return err
	}
	delete(n.hub.calls, key)
	return nil
}

// callLocked returns a copy of the value of a key, or nil.
func (h *Hub) callLocked(key string) []byte {
	c := h.calls[key]
	if !time.Now().Before(c.until) {
		return nil
	}
	return bytes.Clone(c.value)
}
