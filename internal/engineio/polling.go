// The long-polling transport: a GET waits for messages, a POST brings some.

package engineio

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"
	"unicode/utf8"
)

// lateUpgrade is how long a poll that comes during an upgrade waits for the
// upgrade packet, which was sent before it if the client has finished.
const lateUpgrade = 10 * time.Millisecond

// servePolling answers a polling request of an existing session.
func (s *Session) servePolling(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet:
		s.servePoll(w, r)
	case http.MethodPost:
		s.servePost(w, r)
	default:
		errMethod.refuse(w)
	}
}

// servePoll waits until there is something to say, and says it.
func (s *Session) servePoll(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	if s.probe != nil && s.probe.probed {
		// The upgrade may be complete on the other connection, not read yet.
		s.mu.Unlock()
		time.Sleep(lateUpgrade)
		s.mu.Lock()
	}
	if s.ws != nil || s.state == stateClosed {
		s.mu.Unlock()
		errRequest.refuse(w)
		return
	}
	if s.poll != nil {
		s.mu.Unlock()
		s.abort(ReasonTransportError)
		errRequest.refuse(w)
		return
	}
	wake := make(chan struct{}, 1)
	s.poll = wake
	if s.polled != nil {
		close(s.polled)
		s.polled = nil
	}
	a := s.answerLocked()
	s.mu.Unlock()
	if a.body == nil {
		// The host's http.Server may give an answer less time than a poll takes.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Time{})
	}
	for a.body == nil {
		select {
		case <-wake:
		case <-r.Context().Done():
			s.abort(ReasonTransportClose)
		}
		s.mu.Lock()
		a = s.answerLocked()
		s.mu.Unlock()
	}
	s.mu.Lock()
	s.poll, s.pollSeen = nil, time.Now()
	s.mu.Unlock()

	// Asked before the answer is written: a client that does not keep the
	// connection alive closes it as soon as it has read the answer.
	err := r.Context().Err()
	if err == nil {
		err = s.writePayload(w, a)
	}
	switch {
	case a.last:
		s.abort(ReasonForcedClose)
	case errors.Is(err, context.Canceled): // for nobody
		s.abort(ReasonTransportClose)
	case err != nil:
		s.abort(ReasonTransportError)
	}
}

// answer is what a poll is answered with.
type answer struct {
	body   []byte // nil: nothing yet
	octets bool   // the body is not text
	last   bool   // it is the close packet
}

// answerLocked returns what the open poll is to be answered with. The close packet
// never shares a payload with data: a client that closes on reading it would lose
// the data.
func (s *Session) answerLocked() answer {
	switch {
	case s.ws != nil || s.state == stateClosed && s.left:
		return s.bare(packetNoop)
	case s.state == stateClosed:
		return s.bare(packetClose)
	case s.out.len() > 0:
		return s.payloadLocked()
	case s.state == stateClosing:
		return s.bare(packetClose)
	case s.probe != nil && s.probe.probed: // let the client stop polling
		return s.bare(packetNoop)
	}
	return answer{}
}

// bare is an answer of one packet without data.
func (s *Session) bare(packet byte) answer {
	return answer{body: s.lone([]byte{packet}), last: packet == packetClose}
}

// lone returns a text packet as the only one of a payload.
func (s *Session) lone(packet []byte) []byte {
	if s.rev3 {
		return appendText3(nil, packet)
	}
	return packet
}

// payloadLocked takes messages out of the outbox, one at least, as many as a
// payload may hold.
func (s *Session) payloadLocked() answer {
	if s.rev3 {
		return s.payload3Locked()
	}
	var b []byte
	for m := s.out.first(); m != nil; m = s.out.first() {
		if len(b) > 0 {
			if len(b)+1+m.polledLen() > s.srv.cfg.MaxPayload {
				break
			}
			b = append(b, separator)
		}
		b = m.appendPolled(b)
		s.out.shift()
	}
	return answer{body: b}
}

// writePayload answers a poll and sees the answer off, so that a failure to
// write it is known here.
func (s *Session) writePayload(w http.ResponseWriter, a answer) error {
	s.limitWrite(w)
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=UTF-8")
	if a.octets {
		h.Set("Content-Type", "application/octet-stream")
	}
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(len(a.body)))
	if _, err := w.Write(a.body); err != nil {
		return err
	}
	if err := http.NewResponseController(w).Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// limitWrite gives an answer as long as the session gives any write, instead of
// what the host's http.Server may have set when the request began.
func (s *Session) limitWrite(w http.ResponseWriter) {
	// Unsupported where there is no connection, as in tests of a host.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(s.srv.cfg.WriteTimeout))
}

// servePost takes the messages of a POST. The answer comes when all are handed
// on, which holds back a client that sends faster than its handlers work. While
// the session closes, messages are taken and dropped: a client that is refused
// would not stay for what it is yet to be told.
func (s *Session) servePost(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	if s.ws != nil || s.state == stateClosed {
		s.mu.Unlock()
		errRequest.refuse(w)
		return
	}
	if s.post != nil {
		s.mu.Unlock()
		s.abort(ReasonTransportError)
		errRequest.refuse(w)
		return
	}
	p := &post{s: s}
	s.post = p
	s.mu.Unlock()

	body, err := p.body(w, r)
	if err != nil {
		p.release()
		s.abort(ReasonTransportError)
		s.refusePost(w, err)
		return
	}
	if s.receivePayload(body, r.Header.Get("Content-Type") == "application/octet-stream") {
		go s.handler.Serve()
	}
	p.release()
	s.waitResumed()

	s.mu.Lock()
	s.post = nil
	refused := s.state == stateClosed && !s.left
	s.mu.Unlock()
	s.limitWrite(w)
	if refused {
		errRequest.refuse(w)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html")
	h.Set("Content-Length", "2")
	_, _ = io.WriteString(w, "ok") // the client is gone if this fails; its polls will tell
}

// refusePost answers a POST whose body was not read to its end.
func (s *Session) refusePost(w http.ResponseWriter, err error) {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		s.srv.limited("Payload")
		errRequest.write(w, http.StatusRequestEntityTooLarge)
	case errors.Is(err, errIncoming):
		busy := Busy{Status: http.StatusServiceUnavailable, RetryAfter: s.srv.cfg.RetryAfter}
		busy.refuse(w)
	default:
		errRequest.refuse(w)
	}
}

// receivePayload hands on the packets of a polling body, up to one that ends
// the session, and reports whether the handler has something to serve. Octets says
// that the body is not text, which there is in revision 3 only.
func (s *Session) receivePayload(body []byte, octets bool) (work bool) {
	s.recv.Lock()
	defer s.handedOn()
	for n, more := 1, true; more; n++ {
		var data []byte
		var binary, ok bool
		if s.rev3 {
			data, binary, body, more, ok = s.cut3(body, octets)
		} else {
			data, body, more = bytes.Cut(body, []byte{separator})
			data, binary, ok = decodePolled(data)
		}
		if n > s.srv.cfg.MaxPackets {
			s.srv.limited("Packets")
			ok = false
		}
		if !ok {
			s.malformed()
			break
		}
		if !s.receive(data, binary) {
			break
		}
		if more && s.isPaused() {
			s.waitForHandler()
		}
	}
	work, s.work = s.work, false
	return work
}

// waitForHandler waits in the middle of a polling body until the handler wants the
// rest. s.recv is let go of meanwhile.
func (s *Session) waitForHandler() {
	work := s.work
	s.work = false
	s.recv.Unlock()
	if work {
		go s.handler.Serve()
	}
	s.waitResumed()
	s.recv.Lock()
}

// decodePolled undoes what polling does to binary packets; ok is false for what
// is neither base64 nor text.
func decodePolled(packet []byte) (data []byte, binary, ok bool) {
	if len(packet) == 0 || packet[0] != 'b' {
		return packet, false, utf8.Valid(packet)
	}
	return decodeBase64(packet[1:])
}

func decodeBase64(text []byte) (data []byte, binary, ok bool) {
	data = make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Decode(data, text)
	return data[:n], true, err == nil
}
