// Entries of a stream: an event's fields, and ids in their order.

package redisbus

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/rodando/realtime"
)

// The fields of an entry. Any process may add entries: XADD with these fields, to the
// partition of the event's key.
const (
	fieldID   = "id"
	fieldName = "name"
	fieldKey  = "key"
	fieldAt   = "at" // RFC 3339
	fieldData = "data"
)

var (
	errTooLarge = errors.New("the event is larger than Options.MaxEvent")
	errRemoved  = errors.New("the event was removed before it was handled")
	errReply    = errors.New("not a reply of the script")
)

// fieldsOf returns the event as fields and values.
func fieldsOf(e realtime.Envelope) []string {
	return []string{
		fieldID, e.ID, fieldName, e.Name, fieldKey, e.Key,
		fieldAt, e.At.Format(time.RFC3339Nano), fieldData, string(e.Data),
	}
}

// sizeOf returns the bytes of fields and values.
func sizeOf(fields []string) (n int) {
	for _, f := range fields {
		n += len(f)
	}
	return n
}

// entry is what a script returns of an entry.
type entry struct {
	id     entryID
	begun  int // how often it was begun by an owner before, if that is known to have been interrupted
	fields []string
	err    error // why there are no fields
}

// removed reports whether the entry is not in the stream any more.
func (e entry) removed() bool { return errors.Is(e.err, errRemoved) }

// event returns the event that the entry holds, as far as it can be read.
func (e entry) event() (env realtime.Envelope, err error) {
	if e.err != nil {
		return env, e.err
	}
	if len(e.fields)%2 != 0 {
		return env, errors.New("a field has no value")
	}
	at := ""
	for i := 0; i < len(e.fields); i += 2 {
		switch value := e.fields[i+1]; e.fields[i] {
		case fieldID:
			env.ID = value
		case fieldName:
			env.Name = value
		case fieldKey:
			env.Key = value
		case fieldAt:
			at = value
		case fieldData:
			env.Data = []byte(value)
		}
	}
	if env.Name == "" {
		return env, errors.New("the event has no name")
	}
	if env.At, err = time.Parse(time.RFC3339Nano, at); err != nil {
		return env, errors.New("the event has no valid time")
	}
	return env, nil
}

// entryID is the id of an entry in a stream, in Redis' order.
type entryID struct{ ms, seq uint64 }

func parseID(s string) (id entryID, err error) {
	if s == "" { // as some servers call the last entry of an empty stream
		return id, nil
	}
	ms, seq, _ := strings.Cut(s, "-")
	if id.ms, err = strconv.ParseUint(ms, 10, 64); err != nil {
		return id, fmt.Errorf("the id of an entry: %w", errReply)
	}
	if id.seq, err = strconv.ParseUint(seq, 10, 64); err != nil {
		return id, fmt.Errorf("the id of an entry: %w", errReply)
	}
	return id, nil
}

func (id entryID) String() string {
	return strconv.FormatUint(id.ms, 10) + "-" + strconv.FormatUint(id.seq, 10)
}

func (id entryID) after(other entryID) bool {
	return id.ms > other.ms || id.ms == other.ms && id.seq > other.seq
}

// parseEntries reads what pendingScript and freshScript return: an id, and entries.
func parseEntries(reply rueidis.RedisResult) (id entryID, entries []entry, err error) {
	parts, err := reply.ToArray()
	if err != nil {
		return id, nil, err
	}
	if len(parts) != 2 {
		return id, nil, errReply
	}
	first, err := parts[0].ToString()
	if err != nil {
		return id, nil, err
	}
	if id, err = parseID(first); err != nil {
		return id, nil, err
	}
	list, err := parts[1].ToArray()
	if err != nil {
		return id, nil, err
	}
	for _, m := range list {
		e, err := parseEntry(m)
		if err != nil {
			return id, nil, err
		}
		entries = append(entries, e)
	}
	return id, entries, nil
}

// parseEntry reads an id, how often it was begun, and fields, or their size if that is
// too large, or nothing if the entry was removed.
func parseEntry(m rueidis.RedisMessage) (e entry, err error) {
	parts, err := m.ToArray()
	if err != nil || len(parts) < 2 {
		return e, errors.Join(errReply, err)
	}
	id, err := parts[0].ToString()
	if err != nil {
		return e, err
	}
	if e.id, err = parseID(id); err != nil {
		return e, err
	}
	begun, err := parts[1].AsInt64()
	if err != nil {
		return e, err
	}
	e.begun = int(begun)
	switch {
	case len(parts) == 2:
		e.err = errRemoved
	case parts[2].IsInt64():
		e.err = errTooLarge
	default:
		e.fields, err = parts[2].AsStrSlice()
	}
	return e, err
}
