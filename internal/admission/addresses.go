// The table of addresses: those with a connection, and idle ones whose rates have
// not refilled yet.

package admission

import (
	"time"

	"github.com/rodando/realtime/internal/ratelimit"
)

// address is the entry of one Network. The number of entries is at most the number of
// connections plus maxIdle.
type address struct {
	key             Network
	connections     int
	unauthenticated group
	handshakes      ratelimit.Bucket
	withoutLogin    ratelimit.Bucket // of Config.UnauthenticatedRate
	prev, next      *address         // links of the idle list, while connections is 0
}

// idleList holds the addresses without a connection, the longest idle first.
type idleList struct {
	n           int
	first, last *address
}

// useLocked counts one more connection of an address, and enters it into the table.
func (a *Control) useLocked(from *address, now time.Duration) {
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

// idleLocked puts an address whose last connection closed on the idle list.
func (a *Control) idleLocked(from *address) {
	a.idle.push(from)
	if a.idle.n > maxIdle {
		a.dropLocked(a.idle.first)
	}
}

// forgetLocked drops up to two idle addresses whose rate has refilled. It is called for
// each new address, so the idle list shrinks without a sweep that would delay a
// handshake.
func (a *Control) forgetLocked(now time.Duration) {
	for range 2 {
		from := a.idle.first
		if from == nil || !from.handshakes.Full(now) || !from.withoutLogin.Full(now) {
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
