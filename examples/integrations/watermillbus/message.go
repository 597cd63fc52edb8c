// Messages: an event as a message of Watermill, and back.

package watermillbus

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"

	"github.com/rodando/realtime"
)

// The metadata of a message.
const (
	metaName = "event_name"
	metaKey  = "event_key"
	metaAt   = "event_at" // RFC 3339
	metaID   = "event_id" // only if the message's UUID cannot be the event's id

	metaHeader = "header." // and the name of a header

	metaBus    = "bus"     // the Bus that published the message
	metaNumber = "bus_seq" // the number of the message among those of that Bus
)

// maxUUID is how long the UUID of a message may be: watermill-sql has a column of that size.
const maxUUID = 36

// Key returns the key of a message's event, encoded, for Pub/Subs with partitions of their own:
// messages with the same key have to be in the same partition.
func Key(msg *message.Message) string { return msg.Metadata.Get(metaKey) }

// encode returns an event as a message.
func encode(e realtime.Envelope) *message.Message {
	id := e.ID
	msg := message.NewMessage(id, e.Data)
	if escaped := url.PathEscape(id); escaped != id || len(id) > maxUUID {
		msg.UUID = uuid.NewSHA1(uuid.NameSpaceOID, []byte(id)).String() // the same for each repeat
		msg.Metadata.Set(metaID, escaped)
	}
	msg.Metadata.Set(metaName, url.PathEscape(e.Name))
	msg.Metadata.Set(metaKey, url.PathEscape(e.Key))
	msg.Metadata.Set(metaAt, e.At.Format(time.RFC3339Nano))
	for name, value := range e.Headers {
		msg.Metadata.Set(metaHeader+url.PathEscape(name), url.PathEscape(value))
	}
	return msg
}

// decode returns the event of a message. With an error, the event has what could be read.
func decode(msg *message.Message) (e realtime.Envelope, err error) {
	e = realtime.Envelope{ID: msg.UUID, Data: msg.Payload}
	if id := msg.Metadata.Get(metaID); id != "" {
		if e.ID, err = url.PathUnescape(id); err != nil {
			return e, fmt.Errorf("%s: %w", metaID, err)
		}
	}
	if e.Name, err = url.PathUnescape(msg.Metadata.Get(metaName)); err != nil {
		return e, fmt.Errorf("%s: %w", metaName, err)
	}
	if e.Name == "" {
		return e, errors.New("the message has no " + metaName)
	}
	if e.Key, err = url.PathUnescape(Key(msg)); err != nil {
		return e, fmt.Errorf("%s: %w", metaKey, err)
	}
	if e.At, err = time.Parse(time.RFC3339Nano, msg.Metadata.Get(metaAt)); err != nil {
		return e, errors.New("the message has no valid " + metaAt)
	}
	e.Headers = headersOf(msg)
	return e, nil
}

// headersOf returns the headers of a message's event. It leaves out one that it cannot read: an
// event is worth more than its trace.
func headersOf(msg *message.Message) map[string]string {
	var headers map[string]string
	for key, escaped := range msg.Metadata {
		name, ok := strings.CutPrefix(key, metaHeader)
		if !ok {
			continue
		}
		name, err := url.PathUnescape(name)
		value, err2 := url.PathUnescape(escaped)
		if err != nil || err2 != nil {
			continue
		}
		if headers == nil {
			headers = map[string]string{}
		}
		headers[name] = value
	}
	return headers
}

// stamp stores which Bus publishes a message, and its number.
func stamp(msg *message.Message, bus string, n uint64) {
	msg.Metadata.Set(metaBus, bus)
	msg.Metadata.Set(metaNumber, strconv.FormatUint(n, 10))
}

// numberOf returns the number of a message that a Bus has published, or 0 if another one has.
func numberOf(msg *message.Message, bus string) uint64 {
	if msg.Metadata.Get(metaBus) != bus {
		return 0
	}
	n, err := strconv.ParseUint(msg.Metadata.Get(metaNumber), 10, 64)
	if err != nil {
		return 0
	}
	return n
}
