// A session: from the time when this node acquires a partition until it releases or loses it. A
// session handles the partition's events one after the other, first those that earlier owners
// read and did not acknowledge.

package redisbus

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// batch is the maximum number of entries in one read.
const batch = 32

// session owns a partition by a lease in Redis, which it renews. It calls a handler only while
// the lease has not ended by this node's clock, and Redis returns events only to the owner of
// the lease.
type session struct {
	b      *Bus
	m      *member
	client rueidis.Client
	part   *partition
	token  string

	owning   context.Context // ends when the lease is lost
	handling context.Context // of handlers; ends with owning, and when Close stops waiting
	lose     func()
	going    context.Context // ends with handling, and when the session is to release the partition
	release  context.CancelFunc
	detach   func() bool   // from the member's ctx
	quiet    chan struct{} // closed when it calls no handler, and no function of BeforeHandover or BeforeTakeover, any more
	done     chan struct{} // closed when the node no longer owns the partition

	mu     sync.Mutex  // guards until
	until  time.Time   // when the lease ends
	expiry *time.Timer // calls lose then

	acks acker

	// Used by run alone.
	cursor  entryID   // the last entry that was read
	drained bool      // the last read returned fewer entries than it could
	trimmed time.Time // when handled entries were last removed
}

// newSession begins a session with a lease that was requested at the time asked.
func newSession(m *member, client rueidis.Client, p *partition, token string, asked time.Time) *session {
	s := &session{b: m.b, m: m, client: client, part: p, token: token, quiet: make(chan struct{}), done: make(chan struct{})}
	var disown, interrupt context.CancelFunc
	s.owning, disown = context.WithCancel(context.Background())
	s.handling, interrupt = context.WithCancel(m.b.handling)
	s.lose = func() { disown(); interrupt() }
	s.going, s.release = context.WithCancel(s.handling)
	s.detach = context.AfterFunc(m.ctx, s.release)
	s.acks.send = s.acknowledge
	s.expiry = time.AfterFunc(m.b.timing.lease, s.lose)
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

// extend stores that the lease was begun or renewed, at the request of the time asked. Redis began
// to count later, so it does not give the partition to another node before until.
func (s *session) extend(asked time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.until = asked.Add(s.b.timing.lease)
	s.expiry.Reset(time.Until(s.until))
}

// owns reports whether the lease has not ended. It does not rely on expiry, which may fire late. It
// also compares the wall clock, because the monotonic clock may stop while the machine sleeps.
func (s *session) owns() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	return s.owning.Err() == nil && now.Before(s.until) && now.Round(0).Before(s.until.Round(0))
}

// run handles events until the partition is to be released or the lease is lost.
func (s *session) run() {
	defer close(s.done)
	var keeping sync.WaitGroup
	ended := make(chan struct{})
	keeping.Go(func() { s.keep(ended) })
	s.takeOver()
	s.handle()
	if err := s.acks.flush(); err != nil {
		s.b.log.Warn("redisbus: handled events are not acknowledged and will be delivered again", "partition", s.part.name, "error", err)
	}
	s.handOver()
	close(s.quiet)
	close(ended)
	keeping.Wait()
	s.giveBack()
	s.lose()
	s.expiry.Stop()
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

// giveBack ends the lease, so that another node can acquire the partition. If that fails, the
// lease ends by itself.
func (s *session) giveBack() {
	ctx, cancel := within(context.Background(), s.b.timing.call)
	defer cancel()
	releaseScript.Exec(ctx, s.client, []string{s.part.owner}, []string{s.token})
}

// handle handles events until the session ends. After an error it waits and tries again.
func (s *session) handle() {
	defer s.m.note(s.part.index, nil)
	recovering := true // pending entries come first
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
		recovering = true // Redis may have executed a read whose answer did not arrive
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

// acknowledge acknowledges entries. It does so even after the lease was lost: they were handled.
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
