//go:build unix

// Online: what the presence events say about who is connected, as a host would keep it.

package main

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/rodando/realtime"
)

// online is the last presence event of each user. All methods may be called concurrently.
type online struct {
	mu     sync.Mutex // guards last and events
	last   map[userKey]presence
	events int
}

// userKey is a user in a namespace.
type userKey struct{ namespace, user string }

type presence struct {
	here bool
	at   time.Time // when the event came
	why  string
}

func newOnline() *online { return &online{last: map[userKey]presence{}} }

// handle is a handler of the bus.
func (o *online) handle(_ context.Context, e realtime.Envelope) error {
	here := e.Name == realtime.PresenceConnected{}.EventName()
	if !here && e.Name != (realtime.PresenceDisconnected{}).EventName() {
		return nil
	}
	var p realtime.Presence
	if err := json.Unmarshal(e.Data, &p); err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.events++
	o.last[userKey{p.Namespace, p.UserID}] = presence{here, time.Now(), string(p.Reason)}
	return nil
}

// of returns what the last event of a user said.
func (o *online) of(key userKey) presence {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.last[key]
}

// count returns the number of events.
func (o *online) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.events
}
