// Entries of a stream: encoding and decoding an event's fields, and the order of entry ids. No
// call to Redis is made here.

package redisbus

import (
	"errors"
	"fmt"
	"maps"
	"slices"
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

	// headerPrefix begins the names of the fields that have the event's headers.
	headerPrefix = "header."
)

var (
	errTooLarge = errors.New("the event is larger than Options.MaxEvent")
	errRemoved  = errors.New("the event was removed before it was handled")
	errReply    = errors.New("not a reply of the script")
)

// fieldsOf returns the event as fields and values.
func fieldsOf(e realtime.Envelope) []string {
	fields := []string{
		fieldID, e.ID, fieldName, e.Name, fieldKey, e.Key,
		fieldAt, e.At.Format(time.RFC3339Nano), fieldData, string(e.Data),
	}
	for _, name := range slices.Sorted(maps.Keys(e.Headers)) {
		fields = append(fields, headerPrefix+name, e.Headers[name])
	}
	return fields
}

// sizeOf returns the bytes of fields and values.
func sizeOf(fields []string) (n int) {
	for _, f := range fields {
		n += len(f)
	}
	return n
}

// entry is an entry of a stream, as a script returns it.
type entry struct {
	id     entryID
	begun  int      // 0 for a new entry; else how often it was read or begun before without being acknowledged
	fields []string // names and values, alternating
	err    error    // why there are no fields
}

// removed reports whether the entry is no longer in the stream.
func (e entry) removed() bool { return errors.Is(e.err, errRemoved) }

// event returns the event of the entry. With an error, the event has the fields that could be
// read.
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
		default:
			if name, ok := strings.CutPrefix(e.fields[i], headerPrefix); ok {
				if env.Headers == nil {
					env.Headers = map[string]string{}
				}
				env.Headers[name] = value
			}
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

// entryID is the id of an entry in a stream. Redis orders entries by it.
type entryID struct{ ms, seq uint64 }

func parseID(s string) (id entryID, err error) {
	if s == "" { // some servers return this as the last id of an empty stream
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

// parseEntries decodes the reply of pendingScript and freshScript: an id, and entries.
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

// parseEntry decodes one entry of a reply: its id, how often it was begun, and its fields. In
// place of the fields there is their size if it exceeds Options.MaxEvent, and nothing if the
// entry was removed.
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
