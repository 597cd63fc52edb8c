//go:build unix

// Access: which sessions and users were revoked, and until when that may take effect.

package main

import "time"

// revoke records that the end of a session was published.
func (o *oracle) revoke(sid string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.revoked[sid] = time.Now()
}

// ban records that the ban of a user was published.
func (o *oracle) ban(user string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.bans[user] = time.Now()
}

// banArrives reports whether the ban of a user, who is admitted again, may still have been under
// way then. When it arrives at a node it refuses the user's handshakes in progress, with the code of
// a session, whatever they have read: that may be older than the ban.
func (o *oracle) banArrives(user string, then time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	at, ok := o.bans[user]
	if !ok {
		return false
	}
	by, ok := o.wholeByLocked(at)
	return !ok || then.Before(by)
}

// deadline returns when a revoked session must be served no more: when the cluster was without
// trouble for healing since the revocation. ok is false if that is not known yet, or if the
// session is not revoked.
func (o *oracle) deadline(sid string) (by time.Time, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.deadlineLocked(sid)
}

func (o *oracle) deadlineLocked(sid string) (by time.Time, ok bool) {
	at, ok := o.revoked[sid]
	if !ok {
		return at, false
	}
	return o.wholeByLocked(at)
}

// wholeByLocked returns when the cluster was without trouble for healing since then. ok is false if
// that is not known yet.
func (o *oracle) wholeByLocked(at time.Time) (by time.Time, ok bool) {
	by = at.Add(healing)
	for again := true; again; {
		again = false
		for _, s := range o.spansLocked() {
			if !s.meets(at, by) {
				continue
			}
			if s.to.IsZero() {
				return at, false
			}
			if later := s.to.Add(healing); later.After(by) {
				by, again = later, true
			}
		}
	}
	return by, true
}
