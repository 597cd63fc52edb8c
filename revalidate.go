// Revalidation: every Timeouts.SweepInterval, and after a gap, a sweep reads the users and
// sessions of all sockets again, in case an event that revoked one was lost. It disconnects
// sockets; revalidate_trips.go corrects their trip rooms.

package realtime

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/rodando/realtime/internal/socketio"
	"github.com/rodando/realtime/internal/timingwheel"
)

const (
	sweepBatch       = 200 // rows in a batch; the sweep pauses after each
	sweepConcurrency = 8   // concurrent calls, if the repository reads one row per call

	// An urgent round, after a gap, pauses for urgentPause after each batch, and for
	// urgentPauses at most in all.
	urgentPause  = 50 * time.Millisecond
	urgentPauses = 3 * time.Second
	// An urgent round that could not read all rows is repeated after minSweepRetry. The
	// time doubles up to maxSweepRetry.
	minSweepRetry = time.Second
	maxSweepRetry = 30 * time.Second
)

// sweep reads the rows of all sockets again, in rounds. Between two rounds it holds only an
// armed timer. Its methods may be called concurrently.
type sweep struct {
	rt *Server

	mu      sync.Mutex // guards the fields below
	started bool
	stopped bool
	running bool
	urgent  bool          // the next round is an urgent one
	retry   time.Duration // the time until that round
	timer   timingwheel.Timer
	cancel  context.CancelFunc // cancels the round that began last
	done    chan struct{}      // closed when the last round has ended; nil before the first
}

func (w *sweep) init(rt *Server) {
	w.rt = rt
	w.timer.F = w.begin
}

// start arms the timer. It is called once the server is complete, since a round may
// begin at any time after it.
func (w *sweep) start() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.started = true
	w.armLocked()
}

// armLocked arms the timer for the next round, unless SweepInterval is negative and the next
// round is not urgent.
func (w *sweep) armLocked() {
	d := w.rt.opts.Timeouts.SweepInterval
	if d > 0 {
		d = d - d/5 + rand.N(2*d/5+1) // random, so that nodes that started together do not sweep together
	}
	if w.urgent && (d <= 0 || d > w.retry) {
		d = w.retry
	}
	if d > 0 {
		w.rt.wheel.Arm(&w.timer, d)
	}
}

// now starts an urgent round at once. If a round is running, which may have read its rows
// already, the urgent one follows it.
func (w *sweep) now() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.started || w.stopped { // before start there are no sockets
		return
	}
	w.urgent, w.retry = true, 0
	if !w.running {
		w.rt.wheel.Stop(&w.timer)
		w.beginLocked()
	}
}

// begin starts a round.
func (w *sweep) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.stopped && !w.running {
		w.beginLocked()
	}
}

// beginLocked starts a round in a goroutine, which then starts the next one or arms the
// timer for it.
func (w *sweep) beginLocked() {
	ctx, cancel := context.WithCancel(w.rt.ctx)
	done := make(chan struct{})
	w.cancel, w.done, w.running = cancel, done, true
	urgent, retry := w.urgent, w.retry
	w.urgent, w.retry = false, 0
	go func() {
		defer close(done)
		defer cancel()
		complete := w.round(ctx, urgent)
		w.mu.Lock()
		defer w.mu.Unlock()
		w.running = false
		switch {
		case w.stopped:
		case w.urgent:
			w.beginLocked()
		default:
			if urgent && !complete {
				w.urgent, w.retry = true, min(max(2*retry, minSweepRetry), maxSweepRetry)
			}
			w.armLocked()
		}
	}()
}

// stop cancels the running round and waits, within ctx, until it has ended.
func (w *sweep) stop(ctx context.Context) error {
	w.mu.Lock()
	w.stopped = true
	w.rt.wheel.Stop(&w.timer)
	cancel, done := w.cancel, w.done
	w.mu.Unlock()
	if done == nil {
		return nil
	}
	cancel()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// round checks all sockets once, and reports whether it could read all rows. The pauses
// between its batches take half of the interval, or are short if it is urgent.
func (w *sweep) round(ctx context.Context, urgent bool) (complete bool) {
	users, sessions := map[string][]*Socket{}, map[string][]*Socket{}
	w.rt.each(func(ns *Namespace) {
		if ns.opts.Anonymous {
			return
		}
		for _, inner := range ns.inner.Select(socketio.Target{All: true}) {
			if s, ok := socketOf(inner); ok {
				id := s.Identity()
				users[id.UserID] = append(users[id.UserID], s)
				if !w.rt.opts.TokenSessions {
					sessions[id.SessionID] = append(sessions[id.SessionID], s)
				}
			}
		}
	})
	if len(users) == 0 {
		return true
	}
	travelers := w.tripSockets()
	batches := (len(users)+sweepBatch-1)/sweepBatch + (len(sessions)+sweepBatch-1)/sweepBatch + (len(travelers)+sweepBatch-1)/sweepBatch
	pause := w.rt.opts.Timeouts.SweepInterval / 2 / time.Duration(batches)
	if urgent {
		pause = min(urgentPause, urgentPauses/time.Duration(batches))
	}
	o := &w.rt.opts
	userRows := repoReader[User]{calls: &w.rt.host.sweep.users, one: o.Users.FindUser, idOf: func(u User) string { return u.ID }}
	if many, ok := o.Users.(UserBatchRepo); ok {
		userRows.many = many.FindUsers
	}
	sessionRows := repoReader[Session]{calls: &w.rt.host.sweep.sessions, one: o.Sessions.FindSession, idOf: func(s Session) string { return s.ID }}
	if many, ok := o.Sessions.(SessionBatchRepo); ok {
		sessionRows.many = many.FindSessions
	}
	res := sweepResult{}
	checkBatches(ctx, pause, users, &res, userRows, checkUser)
	checkBatches(ctx, pause, sessions, &res, sessionRows, checkSession)
	w.checkTrips(ctx, pause, travelers, &res)
	if res.err != nil && ctx.Err() == nil {
		w.rt.log.Error("realtime: sweep could not read all rows", withStack(res.err, "rows", res.failed, "error", res.err)...)
	}
	if res.ended > 0 {
		w.rt.log.Info("realtime: sweep disconnected sockets whose access has ended", "sockets", res.ended)
	}
	return res.failed == 0 && ctx.Err() == nil
}

// sweepResult is the result of a round.
type sweepResult struct {
	ended  int   // sockets that were disconnected
	failed int   // rows that could not be read
	err    error // the last error
}

// checkBatches reads the rows of sockets in batches and calls check for each socket, with a
// nil row if it does not exist. It leaves the sockets of rows that could not be read as
// they are. Every id in sockets has at least one socket.
func checkBatches[T any](
	ctx context.Context, pause time.Duration, sockets map[string][]*Socket, res *sweepResult,
	from repoReader[T], check func(s *Socket, id string, row *T, expiresAt time.Time) (ended bool),
) {
	// The chunks share a new slice, because an abandoned call may still read its chunk.
	for ids := range slices.Chunk(slices.Collect(maps.Keys(sockets)), sweepBatch) {
		expires := map[*Socket]time.Time{} // read before the rows: a socket may be renewed meanwhile
		for _, id := range ids {
			for _, s := range sockets[id] {
				expires[s] = s.ExpiresAt()
			}
		}
		rows, err := from.read(ctx, ids)
		if err != nil {
			res.failed += len(ids) - len(rows)
			res.err = namingTimeout(err)
		}
		for id, row := range rows {
			for _, s := range sockets[id] {
				if check(s, id, row, expires[s]) {
					res.ended++
				}
			}
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

// checkUser disconnects a socket whose user does not exist, is inactive or has another type
// than at its handshake. It reports whether it did.
func checkUser(s *Socket, _ string, u *User, _ time.Time) bool {
	switch {
	case u == nil:
		return s.revoke(CodeUserNotFound, nil)
	case u.Type != s.Identity().UserType:
		return s.revoke(CodeWrongUserType, nil)
	case !u.Active:
		return s.revoke(CodeUserInactive, nil)
	}
	return false
}

// checkSession disconnects a socket whose session is revoked or belongs to another user, and
// closes one whose session has expired, or does not exist: it may have been replaced, and the
// client comes back to a handshake that decides. It reports whether it did. It does nothing if the
// socket has changed its session meanwhile, or if the grace time of a replaced session runs.
// sessionID is the row that was read, and expiresAt when the socket was to expire before that.
func checkSession(s *Socket, sessionID string, row *Session, expiresAt time.Time) bool {
	switch {
	case s.ns.rt.replaced.inGrace(sessionID):
		return false
	case row == nil:
		return s.expireMissing(sessionID)
	case row.Revoked || row.UserID != s.Identity().UserID:
		return s.revoke(CodeInvalidSession, &sessionID)
	case row.AccessTokenExpiresAt.IsZero():
		return false
	}
	return s.expireBy(sessionID, expiresAt, row.AccessTokenExpiresAt)
}
