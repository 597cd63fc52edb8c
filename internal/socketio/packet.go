// The codec of Socket.IO protocol 5 packets, the text inside one Engine.IO message:
//
//	<type>[<attachments>-][<namespace>,][<ack id>][<JSON>]
//
// Parse reads what a client may send and does not trust it. Its time is linear in the
// length of the input, and it normally allocates nothing. packet_append.go encodes.

package socketio

import (
	"bytes"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/rodando/realtime/internal/jsonscan"
)

// PacketType is the first digit of a packet.
type PacketType byte

// The packet types.
const (
	PacketConnect PacketType = iota
	PacketDisconnect
	PacketEvent
	PacketAck
	PacketConnectError
	PacketBinaryEvent
	PacketBinaryAck
)

// NoID is the ID of a packet without an ack id.
const NoID = -1

// Packet is a parsed packet. Its fields alias the input of Parse, except a Name that had
// escapes, and the Namespace if the packet names none.
type Packet struct {
	Type        PacketType // a binary type only if attachments follow
	Namespace   []byte     // "/" if the packet names none
	Query       []byte     // the query after the namespace, without '?'; nil if there is none
	ID          int64      // ack id, or NoID
	Attachments int        // number of binary attachments that follow
	Data        []byte     // raw JSON after the header, nil if there is none
	Name        []byte     // event name, unescaped; events only
	Args        [][]byte   // raw JSON of the arguments after the name (events), or of all arguments (acks)
}

// Limits limits the content of a packet. A zero allows none at all, so the caller sets
// every field.
type Limits struct {
	Attachments int // attachments of one packet; above 999 the codec's own limit holds
	Depth       int // nested arrays and objects, counting the argument array
	Values      int // array elements and object members, in total
	EventName   int // bytes, unescaped
	Namespace   int // bytes, with the query
}

// ErrPacket is wrapped by every error of Parse. The texts of the errors are fixed, so
// that they can be logged or sent back whatever the input was.
var ErrPacket = errors.New("invalid packet")

var (
	errEmpty         = packetError("empty")
	errType          = packetError("unknown type")
	errDirection     = packetError("not for clients to send")
	errAttachments   = packetError("bad attachment count")
	errTooMany       = packetError("too many attachments")
	errNamespace     = packetError("bad namespace")
	errLongNamespace = packetError("namespace too long")
	errID            = packetError("bad ack id")
	errNeedsID       = packetError("ack without id")
	errUnwantedID    = packetError("ack id on a type that has none")
	errPayload       = packetError("payload does not fit the type")
	errJSON          = packetError("payload is not valid json")
	errDepth         = packetError("payload nested too deep")
	errManyValues    = packetError("too many values in the payload")
	errPlaceholder   = packetError("bad placeholder")
	errName          = packetError("event name is not a string")
	errLongName      = packetError("event name too long")
	errReserved      = packetError("reserved event name")
)

// limitOf returns the limit that an error of Parse is about, or 0.
func limitOf(err error) Limit {
	switch err {
	case errTooMany: //nolint:errorlint // Parse returns the sentinels unwrapped
		return LimitAttachments
	case errDepth:
		return LimitDepth
	case errManyValues:
		return LimitValues
	case errLongName:
		return LimitEventName
	case errLongNamespace:
		return LimitNamespaceName
	}
	return 0
}

func packetError(reason string) error { return fmt.Errorf("%w: %s", ErrPacket, reason) }

const (
	maxCountDigits = 3
	maxIDDigits    = 16
	maxID          = 1<<53 - 1 // the largest integer that JavaScript represents exactly
	// keepArgs is the capacity of Args up to which it is kept for the next packet, so
	// that a packet with a megabyte of tiny arguments does not keep its memory.
	keepArgs = 64
)

// root is shared by all packets and never written to.
var root = []byte("/")

// Parse parses one text packet of a client into p. It reuses the backing array of
// p.Args. After an error the content of p is undefined, except that of a packet that overLimit
// returns a limit for.
func (p *Packet) Parse(b []byte, lim Limits) error {
	err := p.parse(b, lim)
	if p.overLimit(err) != 0 {
		p.Args, p.Name = nil, peekName(p.Data, lim.EventName)
	}
	return err
}

// overLimit returns the limit that an error of Parse is about if the packet is an event or an
// ack, whose content exceeds it, or 0. Such a packet has its header, and its Name if that can
// be told.
func (p *Packet) overLimit(err error) Limit {
	l := limitOf(err)
	if l == LimitNamespaceName || p.Type == PacketConnect {
		return 0
	}
	return l
}

// peekName returns the name of an event whose arguments are not parsed, or nil.
func peekName(b []byte, maxLen int) []byte {
	b = bytes.TrimLeft(b, " \t\r\n")
	if len(b) == 0 || b[0] != '[' {
		return nil
	}
	b = bytes.TrimLeft(b[1:], " \t\r\n")
	if len(b) == 0 || b[0] != '"' {
		return nil
	}
	end := jsonscan.Plain(b, 1) // a name with escapes is not one of the server's
	if end == len(b) || b[end] != '"' || end-1 > maxLen || Reserved(string(b[1:end])) {
		return nil
	}
	return b[1:end]
}

func (p *Packet) parse(b []byte, lim Limits) error {
	args := p.Args[:0]
	if cap(args) > keepArgs {
		args = nil
	}
	*p = Packet{Namespace: root, ID: NoID, Args: args}
	rest, err := p.parseHeader(b, lim)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		p.Data = rest
	}
	if p.Attachments > lim.Attachments {
		return errTooMany
	}
	switch p.Type {
	case PacketConnect:
		return p.checkConnect(lim)
	case PacketDisconnect:
		if p.ID != NoID {
			return errUnwantedID
		}
		if p.Data != nil {
			return errPayload
		}
		return nil
	case PacketEvent, PacketBinaryEvent:
		if err := p.parseArgs(lim); err != nil {
			return err
		}
		return p.takeName(lim)
	default: // the acks: parseHeader accepts no other type
		if p.ID == NoID {
			return errNeedsID
		}
		return p.parseArgs(lim)
	}
}

// parseHeader parses everything before the JSON and returns the rest. None of its loops
// runs longer than the limit of what it reads.
func (p *Packet) parseHeader(b []byte, lim Limits) (rest []byte, err error) {
	if len(b) == 0 {
		return nil, errEmpty
	}
	p.Type = PacketType(b[0] - '0')
	b = b[1:len(b):len(b)]
	switch p.Type {
	case PacketConnect, PacketDisconnect, PacketEvent, PacketAck:
	case PacketBinaryEvent, PacketBinaryAck:
		n, width := parseDigits(b, maxCountDigits)
		if width == 0 || width > maxCountDigits || width == len(b) || b[width] != '-' {
			return nil, errAttachments
		}
		b = b[width+1:]
		p.Attachments = int(n)
		// Without attachments the packet is complete, and like any other.
		if n == 0 {
			p.Type -= PacketBinaryEvent - PacketEvent
		}
	case PacketConnectError:
		return nil, errDirection
	default:
		return nil, errType
	}

	if len(b) > 0 && b[0] == '/' {
		// The comma may be missing if nothing follows.
		window := b[:min(len(b), lim.Namespace+1)]
		end := bytes.IndexByte(window, ',')
		next := end + 1
		if end < 0 {
			if len(b) > lim.Namespace {
				return nil, errLongNamespace
			}
			end, next = len(b), len(b)
		}
		if !isText(b[:end]) {
			return nil, errNamespace
		}
		p.Namespace = b[:end:end]
		if query := bytes.IndexByte(p.Namespace, '?'); query >= 0 {
			p.Query = p.Namespace[query+1:]
			p.Namespace = b[:query:query]
		}
		b = b[next:]
	}

	if n, width := parseDigits(b, maxIDDigits); width > 0 {
		if width > maxIDDigits || n > maxID {
			return nil, errID
		}
		p.ID = n
		b = b[width:]
	}
	return b, nil
}

// parseDigits parses the decimal digits at the start of b. It stops after one digit too
// many: then width is limit+1.
func parseDigits(b []byte, limit int) (n int64, width int) {
	for width < len(b) && width <= limit && b[width]-'0' <= 9 {
		n = n*10 + int64(b[width]-'0')
		width++
	}
	return n, width
}

// isText reports whether a namespace can be logged and sent back unchanged.
func isText(b []byte) bool {
	for _, c := range b {
		if c < ' ' || c == 0x7f {
			return false
		}
	}
	return utf8.Valid(b)
}

// checkConnect checks the payload of a CONNECT, an optional object with the
// credentials.
func (p *Packet) checkConnect(lim Limits) error {
	if p.ID != NoID {
		return errUnwantedID
	}
	if p.Data == nil {
		return nil
	}
	if jsonscan.Crowded(p.Data, lim.Values) {
		return errManyValues
	}
	if err := jsonscan.Valid(p.Data, lim.Depth); err != nil {
		return fromScanError(err)
	}
	if bytes.TrimLeft(p.Data, " \t\r\n")[0] != '{' {
		return errPayload
	}
	return nil
}

// parseArgs splits the payload of an event or ack into its arguments.
func (p *Packet) parseArgs(lim Limits) error {
	if p.Data == nil {
		return errPayload
	}
	if jsonscan.Crowded(p.Data, lim.Values) {
		return errManyValues
	}
	args, err := jsonscan.Array(p.Args, p.Data, lim.Depth)
	if err != nil {
		return fromScanError(err)
	}
	p.Args = args
	if p.Attachments > 0 {
		if _, err := jsonscan.Placeholders(p.Data, p.Attachments); err != nil {
			return fromScanError(err)
		}
	}
	return nil
}

// takeName removes the name of an event from the arguments.
func (p *Packet) takeName(lim Limits) error {
	if len(p.Args) == 0 {
		return errPayload
	}
	first := p.Args[0]
	if first[0] != '"' {
		return errName
	}
	// An escape takes at most six bytes for one, so this name is too long in any case
	// and is not unescaped.
	if (len(first)-len(`""`))/len(`\u0000`) > lim.EventName {
		return errLongName
	}
	name, _ := jsonscan.String(first)
	if len(name) > lim.EventName {
		return errLongName
	}
	if Reserved(string(name)) {
		return errReserved
	}
	p.Name = name
	// Move the arguments down instead of reslicing, to keep the capacity.
	p.Args = p.Args[:copy(p.Args, p.Args[1:])]
	return nil
}

// Reserved reports whether an event name belongs to the client libraries, which emit
// these events locally. A client must not send them, and a server cannot.
func Reserved(event string) bool {
	switch event {
	case "connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener":
		return true
	}
	return false
}

// fromScanError returns the error of Parse for an error of jsonscan.
func fromScanError(err error) error {
	switch err {
	case jsonscan.ErrDepth: //nolint:errorlint // jsonscan returns the sentinels unwrapped
		return errDepth
	case jsonscan.ErrNotArray:
		return errPayload
	case jsonscan.ErrPlaceholder:
		return errPlaceholder
	}
	return errJSON
}
