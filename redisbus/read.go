// Reading: the calls with which a session reads entries from its stream, waits for new ones,
// removes handled ones, and creates the group again.

package redisbus

import (
	"context"
	"strconv"
	"time"

	"github.com/redis/rueidis"
)

// exec runs a script on the partition's stream, as its owner.
func (s *session) exec(l *rueidis.Lua, args ...string) rueidis.RedisResult {
	ctx, cancel := within(s.going, s.b.timing.call)
	defer cancel()
	return l.Exec(ctx, s.client, []string{s.part.stream, s.part.owner}, append([]string{s.token, s.b.opts.Group}, args...))
}

// pending returns the first entries that a consumer of the group has read and not acknowledged,
// and sets the cursor to the last entry that was read.
func (s *session) pending() ([]entry, error) {
	last, entries, err := parseEntries(s.exec(pendingScript, strconv.Itoa(batch), strconv.Itoa(s.b.opts.MaxEvent), s.b.name))
	if err != nil {
		return nil, err
	}
	s.cursor = last
	return entries, nil
}

// fresh reads the next entries that no consumer of the group has read, and moves the cursor to
// the last of them. They are then pending.
func (s *session) fresh() ([]entry, error) {
	oldest, entries, err := parseEntries(s.exec(freshScript, strconv.Itoa(batch), strconv.Itoa(s.b.opts.MaxEvent), s.b.name))
	if err != nil || len(entries) == 0 {
		return nil, err
	}
	// The last handled entry is never removed, except by MaxWaiting or by hand.
	if s.cursor != (entryID{}) && oldest.after(s.cursor) {
		s.b.gap(s.part, "events were removed before they were handled: more than Options.MaxWaiting waited, or somebody removed them")
	}
	s.cursor = entries[len(entries)-1].id
	return entries, nil
}

// await waits until there is an entry after the cursor, at most timing.block.
func (s *session) await() error {
	ctx, cancel := within(s.going, s.b.timing.block+s.b.timing.call)
	defer cancel()
	// Pin: the client sends it again when the connection breaks, and must not use its memory for another
	// command then, because the writer of the broken connection may still read it.
	read := s.client.B().Xread().Count(1).Block(s.b.timing.block.Milliseconds()).Streams().Key(s.part.stream).Id(s.cursor.String()).Build().Pin()
	err := s.client.Do(ctx, read).Error()
	if rueidis.IsRedisNil(err) {
		return nil
	}
	return err
}

// trim removes the entries that every group has handled, at most once in timing.trim.
func (s *session) trim() {
	if time.Since(s.trimmed) < s.b.timing.trim {
		return
	}
	s.trimmed = time.Now()
	ctx, cancel := within(s.going, s.b.timing.call)
	defer cancel()
	if err := trimScript.Exec(ctx, s.client, []string{s.part.stream}, nil).Error(); err != nil && s.going.Err() == nil && !isNoGroup(err) {
		s.b.log.Warn("redisbus: handled events were not removed", "partition", s.part.name, "error", err)
	}
}

// restore creates the group again after it, or the stream, was deleted. Entries that this node
// has handled, and that are still in the stream, are not handled again.
func (s *session) restore() error {
	ctx, cancel := within(s.going, s.b.timing.call)
	defer cancel()
	position := s.m.handledLast(s.part)
	end, err := s.end(ctx)
	if err != nil {
		return err
	}
	if position.after(end) {
		position = entryID{}
	}
	err = enterScript.Exec(ctx, s.client, []string{s.part.stream}, []string{s.b.opts.Group, position.String()}).Error()
	if err != nil {
		return err
	}
	s.b.gap(s.part, "the stream or the group was deleted")
	return nil
}

// end returns the id of the stream's last entry.
func (s *session) end(ctx context.Context) (id entryID, err error) {
	info, err := s.client.Do(ctx, s.client.B().XinfoStream().Key(s.part.stream).Build()).AsMap()
	if isNoGroup(err) { // no such key
		return id, nil
	}
	if err != nil {
		return id, err
	}
	last := info["last-generated-id"]
	text, err := last.ToString()
	if err != nil {
		return id, err
	}
	return parseID(text)
}
