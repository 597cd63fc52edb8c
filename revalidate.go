// Revalidation: a sweep looks the users and sessions of all sockets up again every
// Timeouts.SweepInterval, in case an event that revoked one was lost.

package realtime

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/rodando/realtime/internal/hostcall"
	"github.com/rodando/realtime/internal/socketio"
	"github.com/rodando/realtime/internal/timingwheel"
)

const (
	sweepBatch  = 200 // rows read between two pauses
	sweepAtOnce = 8   // concurrent calls, if the repository reads one row per call
)

// sweep looks up again who is connected. Between two rounds it is a timer.
//
// sweep.mu guards everything below it.
type sweep struct {
	rt *Server

	mu      sync.Mutex
	stopped bool
	timer   timingwheel.Timer
	cancel  context.CancelFunc // of the round under way
	done    chan struct{}      // closed when that has ended; nil when there is none
}

func (w *sweep) init(rt *Server) {
	w.rt = rt
	w.timer.F = w.begin
}

// start arms the timer. It is called once the server is complete, since a round may
// begin at any time after it.
func (w *sweep) start() {
	if w.rt.opts.Timeouts.SweepInterval > 0 {
		w.rt.wheel.Arm(&w.timer, w.next())
	}
}

// next returns the time until the next round. It is random, so that nodes that started
// together do not sweep together.
func (w *sweep) next() time.Duration {
	d := w.rt.opts.Timeouts.SweepInterval
	return d - d/5 + rand.N(2*d/5+1)
}

func (w *sweep) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return
	}
	ctx, cancel := context.WithCancel(w.rt.ctx)
	done := make(chan struct{})
	w.cancel, w.done = cancel, done
	go func() {
		defer close(done)
		defer cancel()
		w.round(ctx)
		w.mu.Lock()
		defer w.mu.Unlock()
		if !w.stopped {
			w.rt.wheel.Arm(&w.timer, w.next())
		}
	}()
}

// stop ends the round under way, and waits for that, within ctx.
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

// round is one sweep.
func (w *sweep) round(ctx context.Context) {
	users, sessions := map[string][]*Socket{}, map[string][]*Socket{}
	w.rt.each(func(ns *Namespace) {
		if ns.opts.Anonymous {
			return
		}
		for _, inner := range ns.inner.Select(socketio.Target{All: true}) {
			if s, ok := inner.Data.(*Socket); ok {
				id := s.Identity()
				users[id.UserID] = append(users[id.UserID], s)
				sessions[id.SessionID] = append(sessions[id.SessionID], s)
			}
		}
	})
	if len(users) == 0 {
		return
	}
	travelers := w.tripSockets()
	batches := (len(users)+sweepBatch-1)/sweepBatch + (len(sessions)+sweepBatch-1)/sweepBatch + (len(travelers)+sweepBatch-1)/sweepBatch
	pace := w.rt.opts.Timeouts.SweepInterval / 2 / time.Duration(batches)
	o := &w.rt.opts
	ofUsers := repoReader[User]{calls: w.rt.host.sweep.users, one: o.Users.FindUser, idOf: func(u User) string { return u.ID }}
	if many, ok := o.Users.(UserBatchRepo); ok {
		ofUsers.many = many.FindUsers
	}
	ofSessions := repoReader[Session]{calls: w.rt.host.sweep.sessions, one: o.Sessions.FindSession, idOf: func(s Session) string { return s.ID }}
	if many, ok := o.Sessions.(SessionBatchRepo); ok {
		ofSessions.many = many.FindSessions
	}
	t := sweepResult{}
	checkBatches(ctx, pace, users, &t, ofUsers, checkUser)
	checkBatches(ctx, pace, sessions, &t, ofSessions, checkSession)
	w.checkTrips(ctx, pace, travelers, &t)
	if t.failed > 0 && ctx.Err() == nil {
		w.rt.log.Error("realtime: sweep could not read all rows", withStack(t.err, "rows", t.failed, "error", t.err)...)
	}
	if t.ended > 0 {
		w.rt.log.Info("realtime: sweep disconnected sockets whose access has ended", "sockets", t.ended)
	}
}

// sweepResult counts the results of a sweep.
type sweepResult struct {
	ended, failed int
	err           error // one of those that failed
}

// repoReader reads rows of a repository for the sweep.
type repoReader[T any] struct {
	calls sweepCall
	one   func(ctx context.Context, id string) (T, error)
	many  func(ctx context.Context, ids []string) ([]T, error) // nil: one by one
	idOf  func(row T) string
}

// checkBatches reads the rows of sockets in batches and calls judge for each socket:
// nil stands for a row that does not exist. What could not be looked up is left
// as it is.
func checkBatches[T any](
	ctx context.Context, pace time.Duration, sockets map[string][]*Socket, t *sweepResult,
	from repoReader[T], judge func(s *Socket, row *T, until time.Time) bool,
) {
	// Collected, since a call that was abandoned may still read its part.
	for ids := range slices.Chunk(slices.Collect(maps.Keys(sockets)), sweepBatch) {
		ends := map[*Socket]time.Time{} // before the question: whoever has renewed itself meanwhile knows better
		for _, id := range ids {
			for _, s := range sockets[id] {
				ends[s] = s.ExpiresAt()
			}
		}
		rows, err := hostcall.Do(ctx, from.calls.batch, nil, func(ctx context.Context) (map[string]*T, error) { return from.rows(ctx, ids) })
		if err != nil {
			t.failed += len(ids)
			t.err = namingTimeout(err)
		}
		if errors.Is(err, hostcall.ErrTimeout) || errors.Is(err, hostcall.ErrAbandoned) || errors.Is(err, hostcall.ErrBusy) {
			return // it does not heed its context: no more of this repository now
		}
		for _, id := range ids {
			for _, s := range sockets[id] {
				if err == nil && judge(s, rows[id], ends[s]) {
					t.ended++
				}
			}
		}
		select {
		case <-time.After(pace):
		case <-ctx.Done():
			return
		}
	}
}

var errNobody = errors.New("the repository knows none of them")

// rows returns the rows that exist, by id.
func (from repoReader[T]) rows(ctx context.Context, ids []string) (map[string]*T, error) {
	var rows []T
	var err error
	if from.many != nil {
		rows, err = from.many(ctx, ids)
	} else {
		rows, err = from.fetchOneByOne(ctx, ids)
	}
	if err != nil {
		return nil, err
	}
	if from.many != nil && len(rows) == 0 && len(ids) > 1 {
		return nil, errNobody // treated as a repository error, not as the deletion of all
	}
	byID := make(map[string]*T, len(ids))
	for _, id := range ids {
		byID[id] = nil
	}
	for i := range rows {
		id := from.idOf(rows[i])
		if _, asked := byID[id]; !asked {
			return nil, errAnotherRow
		}
		byID[id] = &rows[i]
	}
	return byID, nil
}

// fetchOneByOne reads one row per call, sweepAtOnce calls at a time. One failure fails the
// batch.
func (from repoReader[T]) fetchOneByOne(ctx context.Context, ids []string) ([]T, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex // guards rows and failure
	var rows []T
	var failure error
	var asking sync.WaitGroup
	for _, id := range ids {
		asking.Go(func() {
			row, err := hostcall.Do(ctx, from.calls.row, nil, func(ctx context.Context) (T, error) { return from.one(ctx, id) })
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil && from.idOf(row) == id:
				rows = append(rows, row)
				return
			case errors.Is(err, ErrNotFound):
				return
			case err == nil:
				err = errAnotherRow
			}
			if failure == nil {
				failure = err
				cancel()
			}
		})
	}
	asking.Wait()
	return rows, failure
}

// checkUser disconnects a socket whose user is no longer allowed in the namespace. It
// reports whether it did.
func checkUser(s *Socket, u *User, _ time.Time) bool {
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

// checkSession ends a socket whose session is over, unless it has moved to
// another one meanwhile. Its authorisation lasted until then when the row was asked
// for.
func checkSession(s *Socket, row *Session, until time.Time) bool {
	id := s.Identity()
	switch {
	case row != nil && row.ID != id.SessionID:
		return false
	case row == nil || row.Revoked || row.UserID != id.UserID:
		return s.revoke(CodeInvalidSession, &id.SessionID)
	case row.AccessTokenExpiresAt.IsZero():
		return false
	}
	return s.expireBy(row.ID, until, row.AccessTokenExpiresAt)
}
