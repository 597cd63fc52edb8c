// Arguments that have not been decoded, in either encoding.

package wire

import "encoding/json"

// packed is JSON values or a MessagePack value; at most one of the two is set.
type packed struct {
	msgpack string
	json    []json.RawMessage
}

// packedJSON is one JSON value, or nothing if v is empty.
func packedJSON(v json.RawMessage) packed {
	if len(v) == 0 {
		return packed{}
	}
	return packed{json: []json.RawMessage{v}}
}

func (p packed) isSet() bool { return p.json != nil || p.msgpack != "" }

// all decodes the arguments: the JSON values, or one MessagePack array.
func (p packed) all(l Limits) (a Args, err error) {
	if p.json == nil {
		return decodeArgs(p.msgpack, l)
	}
	a.Values, err = validValues(p.json, l)
	return a, err
}

// list decodes the arguments from one array, in JSON or MessagePack.
func (p packed) list(l Limits) (a Args, err error) {
	if len(p.json) == 0 {
		return decodeArgs(p.msgpack, l)
	}
	if json.Unmarshal(p.json[0], &a.Values) != nil {
		return Args{}, ErrMalformed
	}
	a.Values, err = validValues(a.Values, l)
	return a, err
}

// one decodes the single argument of an answer. Node leaves it out if it was undefined.
func (p packed) one(l Limits) (a Args, err error) {
	switch {
	case len(p.json) > 0:
		a.Values, err = validValues(p.json, l)
	case p.msgpack != "":
		return decodeArg(p.msgpack, l)
	}
	return a, err
}

// ackArgs decodes the arguments of an Acked. Node sends one, in packet; Go nodes send
// args too, if there is not exactly one.
func ackArgs(packet, args packed, l Limits) (Args, error) {
	if args.isSet() {
		return args.all(l)
	}
	return packet.one(l)
}

// Open decodes the arguments of a Broadcast or Ask into m.Args. It is a step of its own
// so that a node without a receiver does not pay for it.
func (m *Message) Open(l Limits) (err error) {
	if m.packed.isSet() {
		m.Args, err = m.packed.all(l)
		m.packed = packed{}
	}
	return err
}
