// A POST of a polling session while its body arrives.

package engineio

import (
	"io"
	"net/http"
	"sync"
	"time"
)

// initialBodySize is the initial size of the buffer for a body.
const initialBodySize = 512

// post is a POST whose body is being read. The end of its session stops the reading.
//
// post.mu is held while a deadline is set, which may block with a connection type of
// the host's. Therefore only the POST itself and the goroutine of cancel take it.
type post struct {
	s        *Session
	reserved int // bytes reserved in Server.incoming; used by the POST only

	mu         sync.Mutex // guards the fields below
	controller *http.ResponseController
	bodyRead   bool // the body is no longer read
	canceled   bool
}

// cancel stops the reading of the body.
func (p *post) cancel() { p.s.srv.guardedConn(p.stopRequest) }

func (p *post) stopRequest() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.canceled = true
	if p.controller == nil || p.bodyRead { // then the connection may carry another request
		return nil
	}
	return p.controller.SetReadDeadline(time.Unix(1, 0)) // not supported where nothing can be canceled
}

// startReading sets the deadline for the body. It returns false if the POST was
// canceled.
func (p *post) startReading(rc *http.ResponseController, d time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.canceled {
		return false
	}
	p.controller = rc
	// Not supported where there is no connection, as in tests of a host.
	_ = rc.SetReadDeadline(time.Now().Add(d))
	return true
}

func (p *post) stopReading() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bodyRead = true
}

// readBody reads the body of a POST: at most MaxPayload bytes, for at most PingInterval
// plus PingTimeout, and not longer than the session lasts. Its buffer grows with the
// bytes that have arrived, and is reserved until release.
func (p *post) readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	cfg := &p.s.srv.cfg
	limit := cfg.MaxPayload
	if r.ContentLength > int64(limit) {
		return nil, &http.MaxBytesError{Limit: int64(limit)}
	}
	if !p.startReading(http.NewResponseController(w), cfg.PingInterval+cfg.PingTimeout) {
		return nil, io.ErrUnexpectedEOF
	}
	defer p.stopReading()
	in := http.MaxBytesReader(w, r.Body, int64(limit))
	b := make([]byte, 0, initialBodySize)
	for {
		n, err := in.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		switch {
		case err == io.EOF:
			return b, nil
		case err != nil:
			return nil, err
		case len(b) < cap(b):
			continue
		}
		size := min(2*cap(b), max(limit, cap(b))+1)
		if !p.reserve(size) {
			return nil, errIncoming
		}
		b = append(make([]byte, 0, size), b...)
	}
}

// reserve reserves a buffer of a size in place of the one before.
func (p *post) reserve(size int) bool {
	n := CountedSize(size)
	ok := n == p.reserved || p.s.srv.incoming.reserve(p.s, n-p.reserved)
	p.reserved = n
	return ok
}

func (p *post) release() { p.reserve(0) }
