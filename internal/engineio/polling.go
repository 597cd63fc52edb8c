// The long-polling transport: a GET waits for messages, a POST sends some.

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

// maxPolled is the maximum number of packets in an answer to a poll. Python's client refuses
// more.
const maxPolled = 16

// servePolling answers a polling request of an existing session.
func (s *Session) servePolling(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet:
		s.servePoll(w, r)
	case http.MethodPost:
		s.servePost(w, r)
	default:
		s.srv.refuse(w, r, errMethod, FailedMethod)
	}
}

// servePoll waits until there is something to send, and sends it. A second poll while one
// is open ends the session.
func (s *Session) servePoll(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	if s.state == stateClosed || s.phase == phaseDiscard && s.ws == nil { // it is about to be removed
		s.mu.Unlock()
		s.srv.refuse(w, r, errSession, FailedSession)
		return
	}
	if s.ws != nil {
		s.mu.Unlock()
		s.srv.refuse(w, r, errRequest, FailedRequest)
		return
	}
	if s.poll != nil {
		s.mu.Unlock()
		s.abort(ReasonTransportError)
		s.srv.refuse(w, r, errRequest, FailedRequest)
		return
	}
	wake := make(chan struct{}, 1)
	s.poll = wake
	if s.pollArrived != nil {
		close(s.pollArrived)
		s.pollArrived = nil
	}
	a := s.answerLocked()
	s.mu.Unlock()
	answered := false
	defer func() { s.abortUnless(answered) }()
	if a.body == nil {
		// The host's http.Server may allow an answer less time than a poll takes.
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

	// Checked before the answer is written: a client without keep-alive closes the
	// connection as soon as it has read the answer.
	err := r.Context().Err()
	if err == nil {
		err = s.writePayload(w, a)
	}
	switch {
	case errors.Is(err, context.Canceled): // the client canceled the request
		s.abort(ReasonTransportClose)
	case err != nil:
		s.abort(ReasonTransportError)
	case a.last:
		s.polledLast()
	}
	answered = true
}

// pollAnswer is the answer to a poll.
type pollAnswer struct {
	body   []byte // nil: nothing to answer yet
	binary bool   // the body is not text
	last   bool   // it is the last answer of the session
	status int    // of an answer that is no payload; 0: 200
}

// answerLocked returns the answer to the open poll. The close packet is never in one
// payload with data: a client that closes when it reads the packet would lose the data. A
// client that is to come back finds its session unknown instead, because the Python one never
// comes back after a close packet. Clients of EIO3 do, but report an unknown session to the app
// as the error that a refusal is.
func (s *Session) answerLocked() pollAnswer {
	switch {
	case s.ws != nil || s.state == stateClosed && s.clientClosed:
		return s.controlPayload(packetNoop)
	case s.out.len() > 0: // not when it is closed
		return s.payloadLocked()
	case s.state == stateClosing && s.phase < phaseEnd:
		if s.phase == phaseDeliver {
			s.sentLocked()
		}
		return pollAnswer{}
	case s.state != stateOpen && (s.ending == endStayAway || s.eio3):
		return s.controlPayload(packetClose)
	case s.state != stateOpen:
		return pollAnswer{body: errSession.body(), last: true, status: http.StatusBadRequest}
	case s.probe != nil && s.probe.probeAnswered: // so that the client can stop polling
		return s.controlPayload(packetNoop)
	}
	return pollAnswer{}
}

// controlPayload returns an answer with one packet without data.
func (s *Session) controlPayload(packet byte) pollAnswer {
	return pollAnswer{body: s.singlePacketPayload([]byte{packet}), last: packet == packetClose}
}

// singlePacketPayload returns a payload of one text packet.
func (s *Session) singlePacketPayload(packet []byte) []byte {
	if s.eio3 {
		return appendTextEIO3(nil, packet)
	}
	return packet
}

// payloadLocked takes messages from the outbox: at least one, and as many as fit into a
// payload, which has at most maxPolled packets.
func (s *Session) payloadLocked() pollAnswer {
	if s.eio3 {
		return s.payloadEIO3Locked()
	}
	var b []byte
	m := s.out.first()
	for n := 0; m != nil && n < maxPolled; n++ {
		if n > 0 {
			if len(b)+1+m.polledLen() > s.srv.cfg.MaxPayload {
				break
			}
			b = append(b, separator)
		}
		b = m.appendPolled(b)
		s.out.shift()
		m = s.out.first()
	}
	return pollAnswer{body: b}
}

// writePayload writes and flushes the answer to a poll, so that a write error is
// returned here.
func (s *Session) writePayload(w http.ResponseWriter, a pollAnswer) error {
	s.limitWrite(w)
	h := w.Header()
	switch {
	case a.status != 0:
		h.Set("Content-Type", "application/json")
	case a.binary:
		h.Set("Content-Type", "application/octet-stream")
	default:
		h.Set("Content-Type", "text/plain; charset=UTF-8")
	}
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(len(a.body)))
	if a.status != 0 {
		w.WriteHeader(a.status)
	}
	if _, err := w.Write(a.body); err != nil {
		return err
	}
	if err := http.NewResponseController(w).Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// limitWrite sets WriteTimeout as the deadline of an answer, in place of a deadline
// that the host's http.Server set when the request began.
func (s *Session) limitWrite(w http.ResponseWriter) {
	// Not supported where there is no connection, as in tests of a host.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(s.srv.cfg.WriteTimeout))
}

// servePost handles the messages of a POST. It answers after all of them were passed to
// the handler, so that a client cannot send faster than its handlers work. While the
// session is closing, messages are read and dropped: a client whose POST fails would not
// poll for the remaining messages. Once it can have read the end, the answer breaks off: see breakOff.
// A second POST at the same time ends the session.
func (s *Session) servePost(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	if s.state == stateClosed { // it is about to be removed
		s.mu.Unlock()
		s.srv.refuse(w, r, errSession, FailedSession)
		return
	}
	if s.ws != nil {
		s.mu.Unlock()
		s.srv.refuse(w, r, errRequest, FailedRequest)
		return
	}
	if s.post != nil {
		s.mu.Unlock()
		s.abort(ReasonTransportError)
		s.srv.refuse(w, r, errRequest, FailedRequest)
		return
	}
	p := &post{s: s}
	s.post = p
	over := s.phase == phaseDiscard && s.ending == endComeBack && !s.eio3
	s.mu.Unlock()

	answered := false
	defer func() { s.abortUnless(answered) }()
	body, err := p.readBody(w, r)
	if err != nil {
		p.release()
		// Before the session ends: the client would take the answer to its poll for the cause.
		s.limitWrite(w)
		s.refusePost(w, r, err)
		_ = http.NewResponseController(w).Flush() // not supported where there is no connection
		s.abort(ReasonTransportError)
		return
	}
	if s.receivePayload(body, r.Header.Get("Content-Type") == "application/octet-stream") {
		go s.handler.Serve()
	}
	p.release()
	s.waitResumed()

	s.mu.Lock()
	s.post = nil
	aborted := s.state == stateClosed && !s.clientClosed
	over = over && !s.clientClosed
	s.mu.Unlock()
	s.limitWrite(w)
	if aborted {
		errRequest.write(w, r, http.StatusBadRequest) // the end of the session is reported, not this
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html")
	if !over {
		h.Set("Content-Length", "2")
	}
	_, _ = io.WriteString(w, "ok") // fails only if the client has disconnected; its polls fail too
	if over {
		s.breakOff(w)
	}
	answered = true
}

// breakOff ends the connection of a POST in the middle of the answer: its session has ended, and
// the client is to come back. Python's sends as long as that succeeds, even if its poll has failed,
// and stops for good when an answer has another status than 200. Most proxies pass this on, while
// they answer themselves for a connection without an answer.
func (s *Session) breakOff(w http.ResponseWriter) {
	rc := http.NewResponseController(w)
	if rc.Flush() != nil {
		return
	}
	if conn, _, err := rc.Hijack(); err == nil {
		s.srv.guardedConn(conn.Close)
	}
}

// receivePayload passes on the packets of a polling body, up to one that ends the
// session, and reports whether Handler.Serve must be called. binaryBody says that the
// body is not text, which only EIO3 allows.
func (s *Session) receivePayload(body []byte, binaryBody bool) (serve bool) {
	s.recv.Lock()
	defer s.unlockRecv()
	for n, more := 1, true; more; n++ {
		var p payloadPacket
		if s.eio3 {
			p = s.splitPayloadEIO3(body, binaryBody)
			body, more = p.rest, len(p.rest) > 0
		} else {
			p.data, body, more = bytes.Cut(body, []byte{separator})
			p.data, p.binary, p.ok = decodePolled(p.data)
		}
		if n > s.srv.cfg.MaxPackets {
			s.reportLimit(LimitPackets)
			p.ok = false
		}
		if !p.ok {
			s.malformed()
			break
		}
		if !s.receiveLocked(p.data, p.binary) {
			break
		}
		if more && s.isPaused() {
			s.waitForHandlerLocked()
		}
	}
	serve, s.needsServe = s.needsServe, false
	return serve
}

// waitForHandlerLocked waits, between two packets of a polling body, until the pause
// ends. It unlocks s.recv meanwhile.
func (s *Session) waitForHandlerLocked() {
	serve := s.needsServe
	s.needsServe = false
	s.recv.Unlock()
	if serve {
		go s.handler.Serve()
	}
	s.waitResumed()
	s.recv.Lock()
}

// decodePolled decodes a packet of a polling payload, in which binary data is base64. ok
// is false if the base64 of binary data, or the UTF-8 of text, is invalid.
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
