// The long-polling transport: a GET waits for messages, a POST brings some.

package engineio

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"
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
	body := s.answerLocked()
	for body == nil {
		s.mu.Unlock()
		select {
		case <-wake:
		case <-r.Context().Done():
			s.endPoll()
			s.abort(ReasonTransportClose)
			return
		}
		s.mu.Lock()
		body = s.answerLocked()
	}
	s.mu.Unlock()
	s.endPoll()

	err := writePayload(w, body)
	switch {
	case len(body) == 1 && body[0] == packetClose:
		s.abort(ReasonForcedClose)
	case err != nil:
		s.abort(ReasonTransportError)
	}
}

func (s *Session) endPoll() {
	s.mu.Lock()
	s.poll, s.pollSeen = nil, time.Now()
	s.mu.Unlock()
}

// answerLocked returns what the open poll is to be answered with, nil when it
// has to wait. The close packet never shares a payload with data: a client that
// closes on reading it would lose the data.
func (s *Session) answerLocked() []byte {
	switch {
	case s.ws != nil || s.state == stateClosed && s.left:
		return []byte{packetNoop}
	case s.state == stateClosed:
		return []byte{packetClose}
	case s.out.len() > 0:
		return s.payloadLocked()
	case s.state == stateClosing:
		return []byte{packetClose}
	case s.probe != nil && s.probe.probed: // let the client stop polling
		return []byte{packetNoop}
	}
	return nil
}

// payloadLocked takes messages out of the outbox, one at least, as many as a
// payload may hold.
func (s *Session) payloadLocked() []byte {
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
	return b
}

// writePayload answers a poll and sees the answer off, so that a failure to
// write it is known here.
func writePayload(w http.ResponseWriter, body []byte) error {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=UTF-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if _, err := w.Write(body); err != nil {
		return err
	}
	if err := http.NewResponseController(w).Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// servePost takes the messages of a POST. The answer comes when all are handed
// on, which holds back a client that sends faster than its handlers work.
func (s *Session) servePost(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	if s.ws != nil || s.state != stateOpen {
		s.mu.Unlock()
		errRequest.refuse(w)
		return
	}
	if s.posting {
		s.mu.Unlock()
		s.abort(ReasonTransportError)
		errRequest.refuse(w)
		return
	}
	s.posting = true
	s.mu.Unlock()

	body, err := s.readBody(w, r)
	if err != nil {
		s.abort(ReasonTransportError)
		status := http.StatusBadRequest
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			status = http.StatusRequestEntityTooLarge
		}
		errRequest.write(w, status)
		return
	}
	ok := s.receivePayload(body)
	go s.handler.Serve()
	s.waitResumed()

	s.mu.Lock()
	s.posting = false
	s.mu.Unlock()
	if !ok {
		errRequest.refuse(w)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html")
	h.Set("Content-Length", "2")
	_, _ = io.WriteString(w, "ok") // the client is gone if this fails; its polls will tell
}

// readBody reads a POST's body: no more than the payload limit, and not longer
// than a silent client would be kept.
func (s *Session) readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	limit := int64(s.srv.cfg.MaxPayload)
	if r.ContentLength > limit {
		return nil, &http.MaxBytesError{Limit: limit}
	}
	// Unsupported where there is no connection, as in tests of a host.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(s.srv.cfg.PingInterval + s.srv.cfg.PingTimeout))
	var b bytes.Buffer
	_, err := b.ReadFrom(http.MaxBytesReader(w, r.Body, limit))
	return b.Bytes(), err
}

// receivePayload hands on the packets of a polling body and reports whether
// they were well-formed.
func (s *Session) receivePayload(body []byte) bool {
	s.recv.Lock()
	defer s.recv.Unlock()
	for n := 1; ; n++ {
		packet, rest, more := bytes.Cut(body, []byte{separator})
		if n > s.srv.cfg.MaxPackets {
			return s.malformed()
		}
		data, binary, err := decodePolled(packet)
		if err != nil {
			return s.malformed()
		}
		if !s.receive(data, binary) {
			return !binary && len(packet) > 0 && packet[0] == packetClose
		}
		if !more {
			return true
		}
		body = rest
	}
}

// decodePolled undoes what polling does to binary packets.
func decodePolled(packet []byte) (data []byte, binary bool, err error) {
	if len(packet) == 0 || packet[0] != 'b' {
		return packet, false, nil
	}
	data = make([]byte, base64.StdEncoding.DecodedLen(len(packet)-1))
	n, err := base64.StdEncoding.Decode(data, packet[1:])
	return data[:n], true, err
}
