// Handling one event: calling its handlers until they succeed, or setting it aside; and calling
// the functions of Options.

package redisbus

import (
	"fmt"
	"strconv"

	"github.com/rodando/realtime"
)

// handleEntry delivers an entry until it was handled or set aside. With an error it is neither:
// the session has ended, or must read the entry again.
func (s *session) handleEntry(e entry) error {
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
	wait := s.b.timing.retry
	for attempt := 1; ; attempt++ {
		if s.going.Err() != nil || !s.owns() {
			return errStopped
		}
		if to, err = s.b.deliver(s.handling, env, to); len(to) == 0 {
			s.handled(e.id)
			return nil
		}
		if err == errNobody || s.handling.Err() != nil { //nolint:errorlint // errors.Is would call methods of the handlers' errors
			return errStopped
		}
		if attempt >= s.b.opts.Attempts {
			return s.setAside(e, env, err)
		}
		sleep(s.going, wait)
		wait = min(2*wait, 10*s.b.timing.retry)
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

// setAside moves an entry to the stream of entries that are not delivered again.
func (s *session) setAside(e entry, env realtime.Envelope, reason error) error {
	args := append([]string{strconv.Itoa(s.b.opts.MaxSetAside)}, e.fields[:len(e.fields)&^1]...) // without a field that has no value
	args = append(args, "reason", clip(reason.Error()), "partition", s.part.name, "entry", e.id.String())
	for wait := s.b.timing.retry; ; wait = min(2*wait, s.b.timing.beat) {
		err := s.addAside(args)
		if err == nil {
			break
		}
		if s.going.Err() != nil || !s.owns() {
			return err
		}
		sleep(s.going, wait)
	}
	s.handled(e.id)
	s.b.log.Error("redisbus: event set aside", "event", env.Name, "id", env.ID, "partition", s.part.name, "entry", e.id, "error", reason)
	if f := s.b.opts.OnSetAside; f != nil {
		s.b.guard("OnSetAside", func() { f(SetAside{Event: env, Partition: s.part.name, Entry: e.id.String(), Reason: reason}) })
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
		b.guard("OnGap", func() { f(Gap{Partition: p.name, Reason: reason}) })
	}
}

// guard calls a function of Options and waits for it. The function may panic or end its
// goroutine.
func (b *Bus) guard(name string, f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if r := recover(); r != nil {
				b.log.Error("redisbus: Options."+name+" panicked", "panic", r)
			}
		}()
		f()
	}()
	<-done
}
