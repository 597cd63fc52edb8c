// Socket.IO packets as a client reads and writes them. This codec is written from the
// protocol and shares no code with the server's, so that a mistake in one shows.

package realtimetest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/rodando/realtime"
)

// Packet types. parse returns a binary event or ack as an event or ack with attachments.
const (
	connectPacket      = '0'
	disconnectPacket   = '1'
	eventPacket        = '2'
	ackPacket          = '3'
	connectErrorPacket = '4'
	binaryEventPacket  = '5'
	binaryAckPacket    = '6'
)

// noID marks a packet without an ack id.
const noID = -1

// incoming is a packet from the server.
type incoming struct {
	kind        byte
	namespace   string
	id          int
	data        json.RawMessage // the JSON after the header
	event       string          // of events
	args        realtime.Raw    // of events and acks
	attachments int             // number announced in the header
}

// message returns a packet, a binary one if there are attachments.
func message(kind byte, namespace string, id int, data []byte, attachments int) packet {
	b := []byte{'4'}
	if attachments > 0 {
		b = append(b, kind+binaryEventPacket-eventPacket)
		b = append(strconv.AppendInt(b, int64(attachments), 10), '-')
	} else {
		b = append(b, kind)
	}
	if namespace != "/" {
		b = append(append(b, namespace...), ',')
	}
	if id != noID {
		b = strconv.AppendInt(b, int64(id), 10)
	}
	return packet{data: append(b, data...)}
}

var errPacket = errors.New("not a Socket.IO packet")

// parse decodes the text part of a packet.
func parse(b []byte) (*incoming, error) {
	if len(b) == 0 {
		return nil, errPacket
	}
	in := &incoming{kind: b[0], namespace: "/", id: noID}
	rest := b[1:]
	if in.kind == binaryEventPacket || in.kind == binaryAckPacket {
		count, tail, ok := bytes.Cut(rest, []byte("-"))
		n, err := strconv.Atoi(string(count))
		if !ok || err != nil {
			return nil, errPacket
		}
		in.kind, in.attachments, rest = in.kind-(binaryEventPacket-eventPacket), n, tail
	}
	if len(rest) > 0 && rest[0] == '/' {
		name, tail, _ := bytes.Cut(rest, []byte(","))
		in.namespace, rest = string(name), tail
	}
	if digits := len(rest) - len(bytes.TrimLeft(rest, "0123456789")); digits > 0 {
		n, err := strconv.Atoi(string(rest[:digits]))
		if err != nil {
			return nil, errPacket
		}
		in.id, rest = n, rest[digits:]
	}
	if len(rest) > 0 {
		if !json.Valid(rest) {
			return nil, errPacket
		}
		in.data = bytes.Clone(rest)
	}
	switch in.kind {
	case eventPacket, ackPacket:
		if err := json.Unmarshal(rest, &in.args.Args); err != nil {
			return nil, errors.Join(errPacket, err)
		}
		if in.kind == ackPacket {
			return in, nil
		}
		if len(in.args.Args) == 0 {
			return nil, errPacket
		}
		if err := json.Unmarshal(in.args.Args[0], &in.event); err != nil {
			return nil, errors.Join(errPacket, err)
		}
		in.args.Args = in.args.Args[1:]
	case connectPacket, disconnectPacket, connectErrorPacket:
	default:
		return nil, fmt.Errorf("%w: type %q", errPacket, in.kind)
	}
	return in, nil
}
