// Handling one event: calling its handlers until they succeed, or setting it aside; and calling
// the functions of Options.

package redisbus

import (
	"fmt"
	"strconv"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/hostcall"
	"github.com/rodando/realtime/internal/logsample"
)

// handleEntry delivers an entry until it was handled or set aside. With an error it is neither:
// the session has ended, or must read the entry again.
func (s *session) handleEntry(e entry) error {
	if s.going.Err() != nil || !s.owns() { // no attempt would be made: it must not count as begun
		return errStopped
	}
	env, err := e.event()
	if err != nil {
		return s.setAside(e, env, err)
	}
	if e.begun > s.b.opts.Attempts { // not >=: Redis counts the first read, even if no handler was called then
		return s.setAside(e, env, fmt.Errorf("it was begun %d times, and its process ended each time", e.begun))
	}
	to, err := s.b.recipients(s.m, s.part, e.id)
	if err != nil {
		return err
	}
	if e.begun > 0 {
		if err := s.again(e); err != nil {
			return err
		}
	}
	//nolint:errorlint // errors.Is would call methods of the handlers' errors
	switch err := s.deliver(env, to); err {
	case nil:
		s.handled(e.id)
		return nil
	case errStopped:
		return err
	default:
		return s.setAside(e, env, err)
	}
}

// handled acknowledges an entry.
func (s *session) handled(id entryID) {
	s.m.reach(s.part, id)
	s.acks.add(id.String())
}

// again stores in Redis that the entry is begun once more. Redis' own count of deliveries is not
// enough: a script that returns the entry to a new owner does not raise it.
func (s *session) again(e entry) error {
	ctx, cancel := within(s.going, s.b.timing.call)
	defer cancel()
	return s.client.Do(ctx, s.client.B().Xclaim().Key(s.part.stream).Group(s.b.opts.Group).Consumer(s.b.name).
		MinIdleTime("0").Id(e.id.String()).Retrycount(int64(e.begun+1)).Justid().Build()).Error()
}

// maxAsideFields is how many fields of an entry are kept when it is set aside. A script can pass
// only some thousand values to one command of Redis.
const maxAsideFields = 1000

// setAside moves an entry to the stream of entries that are not delivered again.
func (s *session) setAside(e entry, env realtime.Envelope, reason error) error {
	kept := min(len(e.fields)&^1, 2*maxAsideFields) // without a field that has no value
	args := append([]string{strconv.Itoa(s.b.opts.MaxSetAside)}, e.fields[:kept]...)
	args = append(args, "reason", clip(reason.Error()), "partition", s.part.name, "entry", e.id.String())
	for wait := s.b.timing.retry; ; wait = min(2*wait, s.b.timing.beat) {
		err := s.addAside(args)
		if err == nil {
			break
		}
		err = fmt.Errorf("setting event %s aside: %w", e.id, err)
		if s.going.Err() != nil || !s.owns() {
			return err
		}
		s.m.note(s.part.index, err) // the partition's events wait
		sleep(s.going, wait)
	}
	s.m.note(s.part.index, nil)
	s.handled(e.id)
	s.b.log.Error("redisbus: event set aside", "event", logsample.Clip(env.Name), "id", logsample.Clip(env.ID), "partition", s.part.name, "entry", e.id, "error", reason)
	if f := s.b.opts.OnSetAside; f != nil {
		s.b.notices.AddAndWait(func() { f(SetAside{Event: env, Partition: s.part.name, Entry: e.id.String(), Reason: reason}) })
	}
	return nil
}

func (s *session) addAside(args []string) error {
	ctx, cancel := within(s.going, s.b.timing.call)
	defer cancel()
	return asideScript.Exec(ctx, s.client, []string{s.b.keys.aside}, args).Error()
}

// clip cuts a text to 1000 bytes.
func clip(s string) string { return s[:min(len(s), 1000)] }

// gap logs that events may have been lost, and calls Options.OnGap.
func (b *Bus) gap(p *partition, reason string) {
	b.log.Error("redisbus: events may have been lost", "partition", p.name, "reason", reason)
	if f := b.opts.OnGap; f != nil {
		b.notices.AddAndWait(func() { f(Gap{Partition: p.name, Reason: reason}) })
	}
}

const (
	// maxNotices is how many calls of OnSetAside and OnGap may wait while one is overdue.
	// Each may hold an event. Before that, a session waits for its call.
	maxNotices = 128
	// maxAbandonedNotices is how many of them may be abandoned.
	maxAbandonedNotices = 4
)

// newNotices returns the queue of the calls of OnSetAside and OnGap.
func newNotices(o Options, partitions int) *hostcall.Queue {
	return hostcall.NewQueue(hostcall.QueueConfig{
		Size: partitions + maxNotices, Timeout: o.HandlerTimeout, Abandoned: maxAbandonedNotices,
		Failed: func(err error) {
			o.Logger.Error("redisbus: a call of Options.OnSetAside or Options.OnGap failed", "error", err)
		},
		Dropped: func(calls int) {
			o.Logger.Error("redisbus: Options.OnSetAside and Options.OnGap were not called, as earlier calls take too long", "calls", calls)
		},
	})
}
