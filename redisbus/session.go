// A session: the time in which this node owns a partition. It handles the partition's
// events one after the other, the unacknowledged ones of earlier owners first.

package redisbus

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// batch is how many entries are read at once.
const batch = 32

// session owns a partition by a lease in Redis, which it renews. It begins no handler
// unless its own clock says that the lease lasts, and Redis hands it no event unless the
// lease is its own.
type session struct {
	b      *Bus
	m      *member
	client rueidis.Client
	part   *partition
	token  string

	owning   context.Context // ends when the lease is lost
	handling context.Context // of handlers; ends with owning, and when Close stops waiting
	lose     func()
	going    context.Context // ends with handling, and when the partition is to be given back
	release  context.CancelFunc
	detach   func() bool   // from the member's ctx
	done     chan struct{} // closed when the partition is not the node's any more

	mu    sync.Mutex // guards until
	until time.Time  // when the lease ends

	acks acker

	// Used by run alone.
	cursor  entryID   // the last entry that was read
	drained bool      // there seems to be nothing after the cursor
	trimmed time.Time // when handled entries were last removed
}

// newSession begins a session whose lease was asked for at that time.
func newSession(m *member, client rueidis.Client, p *partition, token string, asked time.Time) *session {
	s := &session{b: m.b, m: m, client: client, part: p, token: token, done: make(chan struct{})}
	var disown, interrupt context.CancelFunc
	s.owning, disown = context.WithCancel(context.Background())
	s.handling, interrupt = context.WithCancel(m.b.handling)
	s.lose = func() { disown(); interrupt() }
	s.going, s.release = context.WithCancel(s.handling)
	s.detach = context.AfterFunc(m.ctx, s.release)
	s.acks.send = s.acknowledge
	s.extend(asked)
	go s.run()
	return s
}

func (s *session) releasing() bool { return s.going.Err() != nil }

func (s *session) ended() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

func (s *session) extend(asked time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.until = asked.Add(s.b.timing.lease)
}

// owns reports whether the lease lasts, by the clock that runs on while the machine
// sleeps, too.
func (s *session) owns() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	return s.owning.Err() == nil && now.Before(s.until) && now.Round(0).Before(s.until.Round(0))
}

// run handles events until the partition is to be given back or the lease is lost.
func (s *session) run() {
	defer close(s.done)
	var keeping sync.WaitGroup
	ended := make(chan struct{})
	keeping.Go(func() { s.keep(ended) })
	s.handle()
	if err := s.acks.flush(); err != nil {
		s.b.log.Warn("redisbus: handled events are not acknowledged and will be delivered again", "partition", s.part.name, "error", err)
	}
	close(ended)
	keeping.Wait()
	s.giveBack()
	s.lose()
	s.detach()
}

// keep renews the lease until the session has ended, or loses it.
func (s *session) keep(ended <-chan struct{}) {
	tick := time.NewTicker(s.b.timing.beat)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			return
		case <-tick.C:
		}
		ctx, cancel := within(s.owning, s.b.timing.call)
		asked := time.Now()
		ok, err := renewScript.Exec(ctx, s.client, []string{s.part.owner}, []string{s.token, ms(s.b.timing.lease)}).AsInt64()
		cancel()
		switch {
		case err == nil && ok == 1:
			s.extend(asked)
		case err == nil || !s.owns():
			s.lose()
			return
		}
	}
}

// giveBack makes the partition free. If that fails, it is when the lease ends.
func (s *session) giveBack() {
	ctx, cancel := within(context.Background(), s.b.timing.call)
	defer cancel()
	releaseScript.Exec(ctx, s.client, []string{s.part.owner}, []string{s.token})
}

// handle handles events while the session goes on.
func (s *session) handle() {
	defer s.m.note(s.part.index, nil)
	recovering := true // what was handed out before comes first
	wait := time.Duration(0)
	for s.going.Err() == nil && s.owns() {
		more, err := s.step(recovering)
		if err == nil {
			if wait > 0 {
				s.m.note(s.part.index, nil)
			}
			recovering, wait = more && recovering, 0
			continue
		}
		recovering = true // Redis may have handed out events whose answer was lost
		if isNotOwner(err) {
			s.lose()
			return
		}
		if isNoGroup(err) {
			err = s.restore()
		}
		if err == nil || s.going.Err() != nil {
			continue
		}
		s.m.note(s.part.index, err)
		wait = min(max(2*wait, 10*time.Millisecond), s.b.timing.beat)
		sleep(s.going, wait)
	}
}

// step acknowledges, reads and handles some events, and reports whether there were any.
// It waits for them unless it is recovering.
func (s *session) step(recovering bool) (more bool, err error) {
	if err := s.acks.flush(); err != nil {
		return false, err
	}
	s.trim()
	if s.drained && !recovering {
		if err := s.await(); err != nil {
			return false, err
		}
	}
	var entries []entry
	if recovering {
		entries, err = s.pending()
	} else {
		entries, err = s.fresh()
	}
	if err != nil {
		return false, err
	}
	s.drained = len(entries) < batch && !recovering
	if slices.ContainsFunc(entries, entry.removed) {
		s.b.gap(s.part, "events that had been read were removed before they were handled")
	}
	for _, e := range entries {
		if e.removed() { // the script has acknowledged it
			continue
		}
		if err := s.handleEntry(e); err != nil {
			return false, err
		}
	}
	return len(entries) > 0, nil
}

// acknowledge tells Redis what was handled, also what was before the lease was lost.
func (s *session) acknowledge(ids []string) error {
	ctx, cancel := within(context.Background(), s.b.timing.call)
	defer cancel()
	return s.client.Do(ctx, s.client.B().Xack().Key(s.part.stream).Group(s.b.opts.Group).Id(ids...).Build()).Error()
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

var errStopped = errors.New("the session has ended")
