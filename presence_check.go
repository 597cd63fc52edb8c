// Presence events that come back from the bus: whatever order the bus has given to the events of a
// user who moves between nodes, the node that has the user corrects the last one.

package realtime

import (
	"encoding/json"
	"sync"
	"time"

	"github.com/rodando/realtime/internal/timingwheel"
)

// presenceCheckDelay is how long a node waits, after it has handled presence.disconnected, for the
// user's next event.
const presenceCheckDelay = 200 * time.Millisecond

// presenceCheck compares the events that this node handles with the users of all nodes. An event
// may come late: a bus that did not answer may have accepted it, even after its publisher died.
// Its methods may be called concurrently and do not block.
type presenceCheck struct {
	rt *Server

	mu    sync.Mutex // guards the fields below
	last  map[presenceKey]handledDisconnect
	timer timingwheel.Timer // compares them
}

// handledDisconnect is a user whose last event was presence.disconnected.
type handledDisconnect struct {
	userType UserType
	at       time.Time // when it was handled
}

func (c *presenceCheck) init(rt *Server) {
	c.rt, c.last = rt, map[presenceKey]handledDisconnect{}
	c.timer.F = func() { go c.compare() } // it sends to the other nodes
}

// handled records an event from the bus.
func (c *presenceCheck) handled(env Envelope) {
	if !c.rt.presence.publishes {
		return
	}
	env, err := env.encoded()
	var e Presence
	if err != nil || json.Unmarshal(env.Data, &e) != nil {
		return
	}
	key := presenceKey{c.rt.lookup(e.Namespace), e.UserID}
	if key.ns == nil || !validID(e.UserID) || !e.UserType.valid() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if env.Name == presenceConnected {
		delete(c.last, key)
		return
	}
	if len(c.last) == 0 {
		c.rt.wheel.Arm(&c.timer, presenceCheckDelay)
	} else if len(c.last) == maxDisconnects {
		go c.compare()
	}
	c.last[key] = handledDisconnect{e.UserType, time.Now()}
}

// compare publishes the users who are here as connected again, and has the other nodes do so with
// theirs.
func (c *presenceCheck) compare() {
	c.mu.Lock()
	last := c.last
	c.last = map[presenceKey]handledDisconnect{}
	c.mu.Unlock()
	users := map[*Namespace][]sharedDisconnect{}
	for key, l := range last {
		c.rt.presence.onPeerDisconnected(key, l.userType, l.at, true)
		users[key.ns] = append(users[key.ns], sharedDisconnect{sharedUser{key.user, l.userType}, time.Since(l.at).Milliseconds(), true})
	}
	if !c.rt.clustered || c.rt.opts.Cluster.BusFanOut { // with BusFanOut each node handles the event
		return
	}
	for ns, all := range users {
		c.rt.peerUsers.disconnects.published(ns, all)
	}
}
