// Sending deliveries: an audience is one or several namespaces and the rooms in them, and each
// namespace gets one broadcast.

package realtime

import (
	"encoding/json"
	"slices"

	"github.com/rodando/realtime/internal/hostcall"
)

// send emits deliveries to the sockets of all nodes, or only of this node if local is true. It
// encodes each payload once, or not at all if no socket receives it.
func (rt *Server) send(ds []Delivery, local bool) {
	if !rt.debugs() {
		rt.sendEncoded(ds, local, marshal, nil)
		return
	}
	var heard []AudienceInfo
	rt.sendEncoded(ds, local, marshal, &heard)
	for _, a := range heard {
		rt.log.Debug("realtime: event emitted", "emitted", a.Event, "to", a.Audience, "receivers", a.Receivers, "otherNodes", a.OtherNodes)
	}
}

// sendEncoded is send with another way to encode a payload. heard, if not nil, receives what each
// audience has received.
func (rt *Server) sendEncoded(ds []Delivery, local bool, encode func(payload any) ([]byte, error), heard *[]AudienceInfo) {
	var arg []byte
	for i := range ds {
		d := &ds[i]
		if !d.again {
			arg = nil
		}
		to := d.to
		if overlap(to) {
			to = rt.perNamespace(to)
		}
		for _, a := range to {
			if a.namespace != "" {
				arg = rt.sendTo(d, a, arg, local, encode, heard)
				continue
			}
			rt.eachPart(a, func(part Audience) { arg = rt.sendTo(d, part, arg, local, encode, heard) })
		}
	}
}

// eachPart calls f for the part of an audience in each of its namespaces.
func (rt *Server) eachPart(a Audience, f func(part Audience)) {
	if a.namespace != "" {
		f(a)
		return
	}
	rt.each(func(ns *Namespace) {
		if !ns.opts.Anonymous {
			f(a.in(ns.name))
		}
	})
}

// perNamespace returns the union of audiences, as one audience in each namespace: a socket
// that is in several of them is to receive an event once.
func (rt *Server) perNamespace(all []Audience) []Audience {
	var union []Audience
	for _, a := range all {
		if a.nobody() {
			continue
		}
		rt.eachPart(a, func(part Audience) {
			i := slices.IndexFunc(union, func(u Audience) bool { return u.namespace == part.namespace })
			if i < 0 {
				part.more = slices.Clip(part.more) // the host's slice: do not append to its memory
				union = append(union, part)
				return
			}
			union[i].all = union[i].all || part.all
			union[i].more = append(append(union[i].more, part.room), part.more...)
		})
	}
	return union
}

// marshal encodes a payload. It returns a panic as an error, because the type may be the
// host's.
func marshal(payload any) (data []byte, err error) {
	err = hostcall.Guard(func() (err error) {
		data, err = json.Marshal(payload)
		return inspect(err)
	}, func(error) {})
	return data, err
}

// sendTo emits a delivery to one audience. arg is the encoded payload, or nil; sendTo returns
// it, encoded if it was needed.
func (rt *Server) sendTo(d *Delivery, a Audience, arg []byte, local bool, encode func(payload any) ([]byte, error), heard *[]AudienceInfo) []byte {
	if a.nobody() {
		return arg
	}
	if d.event == "" {
		rt.log.Error("realtime: event not emitted", "namespace", a.namespace, "error", errUndeclared)
		return arg
	}
	ns := rt.lookup(a.namespace)
	if ns == nil {
		rt.log.Error("realtime: event not emitted: no such namespace", "namespace", a.namespace, "event", d.event)
		return arg
	}
	b := Broadcast{ns: ns, local: local, all: a.all}
	if !a.all {
		b.rooms = names(append([]Room{a.room}, a.more...))
	}
	if d.momentary && b.remote() && !b.elsewhere() {
		b.local = true
	}
	receivers := 0
	if remote := b.remote(); remote || !b.emptyLocal() || d.tracked != nil {
		if d.latest != "" {
			b.key = d.event + " " + d.latest + " " + a.key()
		}
		var err error
		if arg == nil {
			arg, err = encode(d.payload)
		}
		switch {
		case err != nil:
		case d.tracked != nil:
			receivers, err = rt.offers.begin(b, d.tracked, d.event, arg)
		default:
			receivers, err = b.send(d.event, []json.RawMessage{arg}, nil)
		}
		if err != nil {
			rt.log.Error("realtime: event not emitted", "namespace", a.namespace, "event", d.event, "error", err)
		}
	}
	if heard != nil {
		*heard = append(*heard, AudienceInfo{Event: d.event, Audience: a.String(), Receivers: receivers, OtherNodes: b.remote()})
	}
	return arg
}

// key returns what tells the audience from others in the key of Delivery.Latest.
func (a Audience) key() string {
	if a.all {
		return "*"
	}
	if rooms := names(append([]Room{a.room}, a.more...)); len(rooms) > 0 {
		return rooms[0]
	}
	return ""
}
