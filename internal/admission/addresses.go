// The table of addresses: of each that has a connection, and of those without one
// as long as there is something to remember.

package admission

import (
	"time"

	"github.com/rodando/realtime/internal/ratelimit"
)

// address is what clients connect from. Each that has a connection has an entry of
// its own, so there are no more than connections and maxIdle.
type address struct {
	key         Network
	connections int
	strangers   group
	handshakes  ratelimit.Bucket
	prev, next  *address // on the idle list; unless a connection is there
}

// idleList is the addresses without a connection, the one that has been so longest
// first.
type idleList struct {
	n           int
	first, last *address
}

// occupyLocked has an address in the table, in use by one connection more.
func (a *Control) occupyLocked(from *address, now time.Duration) {
	if from.connections++; from.connections > 1 {
		return
	}
	if a.addresses[from.key] == from {
		a.idle.remove(from)
		return
	}
	a.addresses[from.key] = from
	a.forgetLocked(now)
}

// restLocked is for an address whose last connection has gone.
func (a *Control) restLocked(from *address) {
	a.idle.push(from)
	if a.idle.n > maxIdle {
		a.dropLocked(a.idle.first)
	}
}

// forgetLocked drops addresses that are like new ones: up to two for each that
// comes, so that no handshake waits for a sweep and there are soon none of them.
func (a *Control) forgetLocked(now time.Duration) {
	for range 2 {
		from := a.idle.first
		if from == nil || !from.handshakes.Full(now) {
			return
		}
		a.dropLocked(from)
	}
}

func (a *Control) dropLocked(from *address) {
	a.idle.remove(from)
	delete(a.addresses, from.key)
}

func (l *idleList) push(from *address) {
	l.n++
	from.prev = l.last
	if l.last != nil {
		l.last.next = from
	} else {
		l.first = from
	}
	l.last = from
}

func (l *idleList) remove(from *address) {
	l.n--
	if from.prev != nil {
		from.prev.next = from.next
	} else {
		l.first = from.next
	}
	if from.next != nil {
		from.next.prev = from.prev
	} else {
		l.last = from.prev
	}
	from.prev, from.next = nil, nil
}
