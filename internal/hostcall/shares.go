// The shares of sources, and of groups of sources, in the calls of a kind: one source
// whose calls hang leaves the rest to the others.

package hostcall

import "time"

// Indexes of what a call is counted for besides its kind.
const (
	bySource = iota
	byGroup
	levels
)

// share counts the calls of a kind that are made for one source, or for one group. It
// exists while there are any.
type share struct {
	slots     chan struct{} // holds one element for each call that runs or is abandoned
	abandoned int
	tickets   int // calls that run or wait for a slot
}

// of returns the limits on shares.
func (l *Limits) of() [levels]int { return [levels]int{bySource: l.PerSource, byGroup: l.PerGroup} }

// names returns the keys of the shares of a source.
func (l *Limits) names(source any) (names [levels]any) {
	if source == nil {
		return names
	}
	if l.PerSource > 0 {
		names[bySource] = source
	}
	if l.PerGroup > 0 {
		names[byGroup] = l.Group(source)
	}
	return names
}

// shareLocked counts a call for its shares.
func (k *Kind) shareLocked(t *ticket) {
	for i, name := range t.names {
		if name == nil {
			continue
		}
		s := k.shares[i][name]
		if s == nil {
			if k.shares[i] == nil {
				k.shares[i] = map[any]*share{}
			}
			s = &share{slots: make(chan struct{}, k.limits.of()[i])}
			k.shares[i][name] = s
		}
		s.tickets++
		t.shares[i] = s
	}
}

// forgetLocked is the reverse of shareLocked.
func (k *Kind) forgetLocked(t *ticket) {
	for i, s := range t.shares {
		if s == nil {
			continue
		}
		if s.tickets--; s.tickets == 0 {
			delete(k.shares[i], t.names[i])
		}
	}
}

// fullLocked reports whether too many calls are abandoned, of the kind or of a share.
func (k *Kind) fullLocked(t *ticket) bool {
	full := k.closedLocked()
	for i, s := range t.shares {
		full = full || s != nil && s.abandoned >= k.limits.of()[i]
	}
	return full
}

// closedLocked reports whether too many calls of the kind are abandoned, and raises the
// limit when it is time.
func (k *Kind) closedLocked() bool {
	if k.abandoned < k.limits.Abandoned {
		k.raised = 0
		return false
	}
	if k.limits.Again <= 0 || k.abandoned < (k.raised+1)*k.limits.Abandoned {
		return k.limits.Again <= 0
	}
	if time.Since(k.lastLate) < doubled(k.limits.Again, k.raised) {
		return true
	}
	k.raised++
	return false
}

// doubled returns d after it was doubled a number of times, at most a year.
func doubled(d time.Duration, times int) time.Duration {
	const year = 365 * 24 * time.Hour
	for ; times > 0 && d < year; times-- {
		d *= 2
	}
	return min(d, year)
}

func (k *Kind) countAbandonedLocked(t *ticket, n int) {
	k.abandoned += n
	if n > 0 {
		k.lastLate = time.Now()
	}
	for _, s := range t.shares {
		if s != nil {
			s.abandoned += n
		}
	}
}

// acquire takes a slot of the share, if there is one, and reports false when ctx ended
// first.
func (s *share) acquire(ctx *Context) bool { return s == nil || acquire(ctx, s.slots) }

func (s *share) release() {
	if s != nil {
		<-s.slots
	}
}
