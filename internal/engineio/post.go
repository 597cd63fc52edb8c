// A POST of a polling session while its body arrives.

package engineio

import (
	"io"
	"net/http"
	"sync"
	"time"
)

// firstBody is what a body is read into at first.
const firstBody = 512

// post is a POST that is under way. Its session's end ends the reading of its body.
//
// post.mu guards everything below it. It is held while setting a deadline, which may
// block with a connection of the host's, so only the POST and a goroutine of cancel
// take it.
type post struct {
	s    *Session
	held int // what the body counts for; the POST's own

	mu       sync.Mutex
	rc       *http.ResponseController
	read     bool // nothing of the body is read any more
	canceled bool
}

// cancel ends the reading of the body.
func (p *post) cancel() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.canceled = true
	if p.rc != nil && !p.read { // else the connection may carry another request
		_ = p.rc.SetReadDeadline(time.Unix(1, 0)) // unsupported where nothing can be canceled
	}
}

// limit begins the reading of the body, unless it has been canceled.
func (p *post) limit(rc *http.ResponseController, d time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.canceled {
		return false
	}
	p.rc = rc
	// Unsupported where there is no connection, as in tests of a host.
	_ = rc.SetReadDeadline(time.Now().Add(d))
	return true
}

func (p *post) doneReading() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.read = true
}

// body reads a POST's body: no more than the payload limit, not longer than a silent
// client would be kept nor than the session lasts, and into no more memory than what
// has arrived needs, all of which is counted until release.
func (p *post) body(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	cfg := &p.s.srv.cfg
	limit := cfg.MaxPayload
	if r.ContentLength > int64(limit) {
		return nil, &http.MaxBytesError{Limit: int64(limit)}
	}
	if !p.limit(http.NewResponseController(w), cfg.PingInterval+cfg.PingTimeout) {
		return nil, io.ErrUnexpectedEOF
	}
	defer p.doneReading()
	in := http.MaxBytesReader(w, r.Body, int64(limit))
	b := make([]byte, 0, firstBody)
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
		if !p.hold(size) {
			return nil, errIncoming
		}
		b = append(make([]byte, 0, size), b...)
	}
}

// hold counts a buffer instead of the one before.
func (p *post) hold(size int) bool {
	n := countedSize(size)
	ok := n == p.held || p.s.srv.incoming.hold(p.s, n-p.held)
	p.held = n
	return ok
}

func (p *post) release() { p.hold(0) }
