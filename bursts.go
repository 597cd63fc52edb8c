// Bursts: rate limits of events. A client that was offline keeps what its app emits, and sends
// all of it when it connects. That is no breach, and of many positions only the newest is
// handled. A client that goes on sending too much is ended.

package realtime

import (
	"encoding/binary"
	"time"

	"github.com/rodando/realtime/internal/ratelimit"
	"github.com/rodando/realtime/internal/socketio"
	"github.com/rodando/realtime/internal/timingwheel"
)

const (
	// connectBurst is how long after its first event a socket may send what its client has kept. On a
	// slow line it takes longer: as long as the next event follows within connectPause, up to
	// connectLong.
	connectBurst = 10 * time.Second
	connectPause = 2 * time.Second
	connectLong  = 2 * time.Minute
	// burstPause is how long a position waits during that time for a newer one, and burstHeld the
	// most that one of them waits if they come all the time. A client that polls sends its first
	// event alone, and the others when that is answered: so one pause does not end the burst.
	burstPause = 100 * time.Millisecond
	burstHeld  = time.Second
	// breachMemory is how long a breach of a user is remembered: another one is a repeated one.
	breachMemory = 5 * time.Minute
)

// backlogRate is the rate of events of one user that are beyond their rates and count as kept. A
// phone that takes a position a second fills it in some hours.
var backlogRate = ratelimit.Rate{PerSecond: 10, Burst: 20_000}

// heldPosition is the newest position of a socket while it waits until its rate allows it, or for
// a newer one. It is made for the socket's first position that waits.
type heldPosition struct {
	answer
	taken time.Time // when the position was taken; zero: the client does not say
	since time.Time // when the first of these positions began to wait
	timer timingwheel.Timer
}

// serveWithin handles the event if its rates allow it.
func (a answer) serveWithin() {
	if ok, limit := a.allow(); ok {
		a.serve()
	} else {
		a.refuse(limit)
	}
}

// allow charges the event to its rates.
func (a answer) allow() (ok bool, limit string) {
	s := a.socket
	return s.ns.rt.limiter.Allow(&s.rates, s.Identity().UserID, a.name())
}

// refuse refuses an event that is beyond a rate, and ends the socket if that is a breach.
func (a answer) refuse(limit string) {
	s := a.socket
	s.limited(Limit(limit), a.name())
	a.reply(nil, Raw{}, errTooOften)
	l := s.ns.rt.limiter
	if !l.Kept(&s.rates, s.limitKey()) && l.Breach(&s.rates) {
		s.endAbusive(a.name())
	}
}

// limitKey identifies the user in the rate limiter, or the network of a client without a user. It
// is empty if neither is known.
func (s *Socket) limitKey() string {
	if user := s.Identity().UserID; user != "" {
		return user
	}
	n, ok := s.conn().Network()
	if !ok {
		return ""
	}
	return string(binary.BigEndian.AppendUint64([]byte{0}, uint64(n))) // no user's id contains NUL
}

// endAbusive ends a socket that has exceeded Rates.Breach: its client is to come back, unless that
// happens to the user again.
func (s *Socket) endAbusive(event string) {
	s.ended = true
	if s.holds.Load() {
		held := s.takeHeld()
		held.reply(nil, Raw{}, errTooOften)
	}
	repeated := s.ns.rt.limiter.Repeated(s.limitKey())
	s.limited(LimitRateBreach, event)
	s.ns.rt.log.Warn("realtime: client ended by Rates.Breach", "namespace", s.ns.name, "event", event, "socket", s.ID(), "user", s.Identity().UserID, "repeated", repeated)
	if repeated {
		s.Disconnect()
	} else {
		s.Close()
	}
}

// servePosition handles a driver's position if its rates allow it, or else holds it until they do.
// A newer position takes the place of the one that is held; without times, the one that comes later
// is newer. While the client sends what it had kept, each position waits for a newer one.
func (a answer) servePosition() {
	s := a.socket
	l := s.ns.rt.limiter
	if !s.settled {
		_, limits := l.Limits(a.name())
		s.settled = !limits || !l.Begins(&s.rates)
	}
	settling := !s.settled
	var allowed bool
	var limit string
	if !settling {
		if allowed, limit = a.allow(); allowed && !s.holds.Load() {
			a.serve()
			return
		}
	}
	taken, valid := a.takenAt()
	if !valid {
		if settling {
			allowed, limit = a.allow()
		}
		if allowed {
			a.serve() // acknowledges what is wrong with it
		} else {
			a.refuse(limit)
		}
		return
	}
	if s.holds.Load() && !taken.IsZero() && taken.Before(s.held.taken) {
		a, taken = s.exchangeHeld(a)
	}
	s.supersede()
	switch {
	case s.ended:
		a.reply(nil, Raw{}, errTooOften)
	case allowed:
		s.ns.rt.wheel.Stop(&s.held.timer)
		a.serve()
	default:
		s.hold(a, taken, settling)
	}
}

// takenAt returns when the event's position was taken, zero if the client does not say. ok is
// false if the position cannot be stored: it takes no other's place.
func (a answer) takenAt() (at time.Time, ok bool) {
	var in LocationPing
	if decodeBody(a.event, &in) != nil {
		return at, false
	}
	return in.LastLocationTimestamp.Time, true
}

// exchangeHeld puts a, which has just come, in the place of the position that is held, and returns
// that one as if it had come now.
func (s *Socket) exchangeHeld(a answer) (newer answer, taken time.Time) {
	h := s.held
	newer, h.answer = h.answer, a
	newer.start = a.start
	return newer, h.taken
}

// supersede acknowledges the position that is held, if any, because a newer one has come. As long
// as the client may have kept it, that is a success.
func (s *Socket) supersede() {
	if !s.holds.Load() {
		return
	}
	a := s.takeHeld()
	l := s.ns.rt.limiter
	if l.Kept(&s.rates, s.limitKey()) {
		a.reply(nil, ackOK, nil)
		return
	}
	limit, _ := l.Limits(a.name())
	s.limited(Limit(limit), a.name())
	a.reply(nil, Raw{}, errTooOften)
	if l.Breach(&s.rates) {
		s.endAbusive(a.name())
	}
}

// takeHeld returns the position that is held, which then is held no more.
func (s *Socket) takeHeld() answer {
	h := s.held
	a := h.answer
	h.answer = answer{}
	s.holds.Store(false)
	return a
}

// hold holds a position.
func (s *Socket) hold(a answer, taken time.Time, settling bool) {
	h, wheel := s.held, s.ns.rt.wheel
	if h == nil {
		h = &heldPosition{timer: timingwheel.Timer{F: s.inner.Wake}}
		s.held = h
	}
	h.answer, h.taken = a, taken
	if !wheel.Armed(&h.timer) {
		h.since = a.start
	}
	s.holds.Store(true)
	switch {
	case s.inner.Conn().Draining(): // wakeHeld may have been called before
		s.inner.Wake()
	case settling:
		wheel.Arm(&h.timer, min(burstPause, burstHeld-a.start.Sub(h.since)))
	case !wheel.Armed(&h.timer):
		s.armHeld()
	}
}

// armHeld wakes the socket when the rate of positions allows the one that is held.
func (s *Socket) armHeld() {
	h := s.held
	s.ns.rt.wheel.Arm(&h.timer, s.ns.rt.limiter.Wait(&s.rates, h.name()))
}

// mayRelease reports whether a position is held that its rates allow now. It is handled before the
// events that came later.
func (s *Socket) mayRelease() bool {
	if !s.holds.Load() {
		return false
	}
	ok, _ := s.held.allow()
	return ok
}

// release handles the position that is held.
func (s *Socket) release() {
	s.ns.rt.wheel.Stop(&s.held.timer)
	a := s.takeHeld()
	a.start = time.Now()
	a.run()
}

// woken is socketio's Hooks.Wake: no newer position has come, or the rate may allow the one that
// is held. Before the socket ends it is handled in any case.
func (ns *Namespace) woken(inner *socketio.Socket) {
	s, ok := socketOf(inner)
	if !ok || s.ended || !s.holds.Load() {
		return
	}
	if s.mayRelease() || inner.Closed() || inner.Conn().Draining() {
		s.release()
	} else {
		s.armHeld()
	}
}

// wakeHeld has the positions handled that are held of a connection that is draining.
func wakeHeld(c *socketio.Conn) {
	for _, inner := range c.Sockets() {
		if s, ok := socketOf(inner); ok && s.holds.Load() {
			inner.Wake()
		}
	}
}
