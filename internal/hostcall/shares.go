// Shares: the limits of one source, and of a group of sources, on the calls of a kind. So one
// source whose calls hang does not use up the calls of the others.

package hostcall

import "time"

// Indexes of the shares of a call.
const (
	bySource = iota
	byGroup
	levels
)

// maxSpare is how many shares without calls are kept of each level. Otherwise nearly each call of
// a handshake would make a share of its own.
const maxSpare = 32

// share counts the calls of a kind that are made for one source, or for one group. It
// exists while there are any. Kind.mu guards its numbers.
type share struct {
	slots     chan struct{} // holds one element for each call that runs or is abandoned
	abandoned int
	tickets   int // calls that wait for a slot, run or are abandoned
}

// perShare returns the maximum number of calls of each share.
func (l *Limits) perShare() [levels]int {
	return [levels]int{bySource: l.PerSource, byGroup: l.PerGroup}
}

// names returns the keys of a source's shares; nil: no share.
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

// shareLocked adds a call to its shares. It creates shares that do not exist.
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
			s = k.newShareLocked(i)
			k.shares[i][name] = s
		}
		s.tickets++
		t.shares[i] = s
	}
}

// newShareLocked returns a share of a level, without calls.
func (k *Kind) newShareLocked(level int) *share {
	n := len(k.spare[level])
	if n == 0 {
		return &share{slots: make(chan struct{}, k.limits.perShare()[level])}
	}
	s := k.spare[level][n-1]
	k.spare[level] = k.spare[level][:n-1]
	return s
}

// forgetLocked removes a call from its shares. A share without calls has no name any more.
func (k *Kind) forgetLocked(t *ticket) {
	for i, s := range t.shares {
		if s == nil {
			continue
		}
		if s.tickets--; s.tickets > 0 {
			continue
		}
		delete(k.shares[i], t.names[i])
		if len(k.spare[i]) < maxSpare {
			k.spare[i] = append(k.spare[i], s)
		}
	}
}

// fullLocked reports whether too many calls of the kind, or of one of the call's shares, are
// abandoned.
func (k *Kind) fullLocked(t *ticket) bool {
	full := k.closedLocked()
	for i, s := range t.shares {
		full = full || s != nil && s.abandoned >= k.limits.perShare()[i]
	}
	return full
}

// closedLocked reports whether too many calls of the kind are abandoned. If Limits.Again has
// passed since the last one was, it raises the limit instead.
func (k *Kind) closedLocked() bool {
	if k.abandoned < k.limits.Abandoned {
		k.raised = 0
		return false
	}
	switch {
	case k.limits.Again <= 0:
		return true
	case k.abandoned < (k.raised+1)*k.limits.Abandoned: // the raised limit
		return false
	case time.Since(k.lastLate) < doubled(k.limits.Again, k.raised):
		return true
	}
	k.raised++
	return false
}

// doubled returns d doubled a number of times, at most a year.
func doubled(d time.Duration, times int) time.Duration {
	const year = 365 * 24 * time.Hour
	for ; times > 0 && d < year; times-- {
		d *= 2
	}
	return min(d, year)
}

// countAbandonedLocked adds n to the abandoned calls of the kind and of the call's shares.
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

// acquire takes a slot of the share. It reports false if ctx ended first. A nil share has any
// number of slots.
func (s *share) acquire(ctx *Context) bool { return s == nil || acquire(ctx, s.slots) }

// release frees a slot of the share.
func (s *share) release() {
	if s != nil {
		<-s.slots
	}
}
