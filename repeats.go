// Repeats: a client that has received no ack sends the event again, on the same socket or on a new one. With an
// idempotency key in its body such an event is handled once, and each repeat gets the first ack.
// repeats_nodes.go has the repeats that reach another node.

package realtime

import (
	"bytes"
	"encoding/binary"
	"hash"
	"hash/maphash"
	"time"

	"github.com/rodando/realtime/internal/jsonscan"
	"github.com/rodando/realtime/internal/repeats"
)

const (
	// keyName is the field with the idempotency key, maxKey the maximum length of a key in bytes.
	keyName = "idempotencyKey"
	maxKey  = 128
	// repeatMemory is how long an ack is remembered. A stock client goes on trying for longer only
	// while it is not connected.
	repeatMemory = 2 * time.Minute
	// shareOfUser: one user has at most 1/shareOfUser of Limits.RememberedCallBytes.
	shareOfUser = 64
)

// quotedKey finds the bodies that may have a key, so that the others cost only the search.
var quotedKey = []byte(`"` + keyName + `"`)

var (
	errBadKey    = &Error{Code: CodeInvalidPayload, Message: keyName + ": must be a string of at most 128 bytes", Fields: []string{keyName}}
	errOtherBody = &Error{Code: CodeConflict, Message: keyName + ": was used with another body", Fields: []string{keyName}}
)

// firstCall is a call with an idempotency key, which no node has made before.
type firstCall struct {
	once  *repeats.Call
	claim *callClaim // nil: the other nodes do not know of it
}

func (rt *Server) newRepeats() *repeats.Table {
	l := &rt.opts.Limits
	return repeats.New(repeats.Config{
		PerUser: l.RememberedCalls, Bytes: l.RememberedCallBytes, Share: max(1, l.RememberedCallBytes/shareOfUser), Keep: repeatMemory, Wheel: rt.wheel,
	})
}

// actsOnSocket reports whether the call of a client changes its socket. Upon another socket a repeat
// must be handled, and upon the same one it does no harm.
func actsOnSocket(event string) bool {
	switch event {
	case AuthRefresh.name, AdminTripJoin.name, AdminTripLeave.name, AdminDriversJoin.name, AdminDriversLeave.name:
		return true
	}
	return false
}

// key returns the idempotency key of the event, or "" if it has none.
func (a answer) key() (key string, err error) {
	if len(a.event.Args) == 0 || !bytes.Contains(a.event.Args[0], quotedKey) {
		return "", nil
	}
	return a.keyIn(a.event.Args[0])
}

func (a answer) keyIn(body []byte) (key string, err error) {
	rt := a.socket.ns.rt
	if rt.opts.Limits.RememberedCalls < 0 || a.socket.ns.opts.Anonymous || a.route.onSocket || bytes.TrimSpace(body)[0] != '{' {
		return "", nil
	}
	if err := jsonscan.Decode(body, jsonscan.Field{Name: keyName, To: &key}); err != nil || len(key) > maxKey {
		return "", errBadKey
	}
	return key, nil
}

// hash returns a hash of what the event carries, for this node.
func (a answer) hash() uint64 {
	var h maphash.Hash
	h.SetSeed(a.socket.ns.rt.repeatSeed)
	a.writeBody(&h)
	return h.Sum64()
}

// writeBody writes what the event carries to a hash.
func (a answer) writeBody(h hash.Hash) {
	for _, part := range [][][]byte{a.event.Args, a.event.Attachments} {
		for _, b := range part {
			writePart(h, b)
		}
	}
}

// writePart writes one of several parts to a hash, so that no other parts have the same hash.
func writePart[T string | []byte](h hash.Hash, part T) {
	_, _ = h.Write(binary.AppendUvarint(nil, uint64(len(part)))) // never fails
	_, _ = h.Write([]byte(part))
}

// isFirst reports whether the call is to be made. Otherwise the user has sent the event with this key
// before, and isFirst has answered it, after the first call has ended.
func (a answer) isFirst(c *call, key string) bool {
	s := a.socket
	user, id := s.Identity().UserID, repeats.ID{Namespace: s.ns.name, Event: a.event.Name, Key: key}
	once, first, same := s.ns.rt.repeats.Begin(user, id, a.hash())
	switch {
	case first && s.ns.rt.peerCalls.keeper != nil:
		return a.isFirstOfNodes(c, once, callKey(user, id))
	case first:
		c.first = &firstCall{once: once}
	case !same:
		a.reply(c, Raw{}, errOtherBody)
	default:
		if given, ok := once.Wait(c); ok {
			a.replyAgain(c, given)
		} else {
			a.reply(c, Raw{}, errUnavailable)
		}
	}
	return first
}

// replyAgain sends the ack that an earlier call has got.
func (a answer) replyAgain(c *call, given repeats.Answer) {
	if !c.end() {
		return // abandoned: the ack was sent already
	}
	ackBytes := 0
	if a.event.WantsAck() {
		ackBytes = a.socket.ns.rt.tracedBytes(given.Args, given.Attachments)
		a.event.Ack(given.Attachments, given.Args...)
	}
	a.socket.traceHandled(a.name(), time.Since(a.start), Code(given.Code), a.bytes, ackBytes)
}

// isOutcome reports whether an answer with that code is remembered: it does not say to try again.
func isOutcome(code Code) bool {
	return code != CodeUnavailable && code != CodeInternal && code != CodeRateLimited
}

// release lets any node make the call again, if the answer says to try again. It comes before the answer,
// so that the next try finds the key free.
func (c *call) release(code Code) {
	if c == nil || c.first == nil || c.first.claim == nil || isOutcome(code) {
		return
	}
	c.socket.ns.rt.peerCalls.release(c.first.claim)
	c.first.claim = nil
}

// remember ends the call for its repeats. It comes after the answer.
func (c *call) remember(ack Raw, code Code) {
	if c == nil || c.first == nil {
		return
	}
	c.release(code)
	given := repeats.Answer{Args: ack.bytes(), Attachments: ack.Attachments, Code: string(code)}
	forgotten := c.first.once.End(given, isOutcome(code))
	if c.first.claim != nil {
		c.socket.ns.rt.peerCalls.store(c.first.claim, given, forgotten)
	}
}
