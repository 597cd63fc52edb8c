// The link for plain TCP: it reads and writes when epoll reports the connection ready.

package engineio

import (
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rodando/realtime/internal/rawsocket"
	"github.com/rodando/realtime/internal/timingwheel"
)

// States of the reader of an epollLink.
const (
	readIdle  = iota
	readBusy  // a reader runs or is queued, or has stopped because of a pause
	readAgain // the reader must read once more before it stops
)

// maxTurns is how many times a reader reads before it goes to the end of the workers'
// queue. So a client that sends without a break does not make others wait, and
// Handler.Serve is called for its own messages.
const maxTurns = 32

// epollLink is a plain TCP connection in the event loop.
//
// refs counts the users of fd: the link itself until close, each reader, queued ones
// included, and each other goroutine in a system call on it. The last one closes fd. Only
// the reader uses discard; the field reading ensures that there is one reader at a time.
type epollLink struct {
	c    *wsConn
	e    *eventLoop
	fd   int
	slot int32
	refs atomic.Int32

	reading        atomic.Int32
	closed         atomic.Bool
	peerClosed     atomic.Bool // the client has closed its write direction
	stoppedByPause atomic.Bool // the reader stopped because the session is paused
	discard        bool        // input is dropped
	stall          *stall      // set while its timer is armed; guarded by Session.mu
}

// stall is the timeout of a client that does not read.
type stall struct {
	timer timingwheel.Timer
	since time.Time // when the client last read something
}

func (l *epollLink) acquire() bool {
	for {
		n := l.refs.Load()
		if n == 0 {
			return false
		}
		if l.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (l *epollLink) release() {
	if l.refs.Add(-1) > 0 {
		return
	}
	l.e.removeLink(l)
	_ = syscall.Close(l.fd)
	l.c.s.srv.running.Done()
}

func (l *epollLink) start(early []byte) {
	if !l.acquire() {
		return
	}
	defer l.release()
	if len(early) > 0 {
		l.reading.Store(readBusy)
		l.startReader(early)
	}
	if l.e.epollCtl(syscall.EPOLL_CTL_ADD, l, readInterest) != nil {
		l.c.onConnError(ReasonTransportError)
		return
	}
	s := l.c.s
	s.mu.Lock()
	blocked := l.c.blocked // a write before ADD, as by Shutdown: its setInterest had no effect
	s.mu.Unlock()
	if blocked {
		l.wake()
	}
}

// ready is called by the event loop.
func (l *epollLink) ready(events uint32) {
	if events&syscall.EPOLLOUT != 0 {
		l.setInterest(readInterest) // otherwise every arrival would report writability as well
		l.wake()
	}
	if events&^uint32(syscall.EPOLLOUT) == 0 {
		return
	}
	if events&(syscall.EPOLLRDHUP|syscall.EPOLLHUP|syscall.EPOLLERR) != 0 {
		l.peerClosed.Store(true)
	}
	if l.reading.CompareAndSwap(readIdle, readBusy) {
		l.startReader(nil)
	} else if !l.reading.CompareAndSwap(readBusy, readAgain) {
		// The reader has stopped meanwhile, or will read again anyway.
		if l.reading.CompareAndSwap(readIdle, readBusy) {
			l.startReader(nil)
		}
	}
}

// setInterest changes the events that the loop waits for.
func (l *epollLink) setInterest(events uint32) {
	if l.acquire() {
		// refs keeps fd open. It fails only before start has added fd to the epoll set;
		// then start flushes again.
		_ = l.e.epollCtl(syscall.EPOLL_CTL_MOD, l, events)
		l.release()
	}
}

func (l *epollLink) startReader(early []byte) {
	if l.acquire() {
		l.e.workers.run(job{l, early})
	}
}

// read reads the bytes that have arrived and then calls Handler.Serve if needed. While
// a message is incomplete no goroutine waits for the rest.
func (l *epollLink) read(early []byte) {
	r := getFrameReader()
	serve, more := false, true
	if len(early) > 0 {
		res := l.feed(r, early)
		serve, more = res.serve, res.more
	}
	for turns := 0; more && !l.closed.Load(); turns++ {
		if turns == maxTurns {
			l.startReader(nil)
			break
		}
		n, err := rawsocket.Read(l.fd, r.buf[:])
		switch {
		case n > 0:
			res := l.feed(r, r.buf[:n])
			serve, more = serve || res.serve, res.more
			if !more || n == len(r.buf) || l.peerClosed.Load() {
				continue
			}
		case err == syscall.EINTR: //nolint:errorlint // Read returns a syscall.Errno
			continue
		case err != syscall.EAGAIN: //nolint:errorlint // Read returns a syscall.Errno
			reason := ReasonTransportClose
			if n < 0 {
				reason = ReasonTransportError
			}
			l.c.onConnError(reason)
			more = false // what is queued may still be sent; then the link is not closed yet
			continue
		}
		if l.reading.CompareAndSwap(readBusy, readIdle) {
			break
		}
		l.reading.Store(readBusy)
	}
	frameReaders.Put(r)
	l.release()
	if serve {
		l.c.s.handler.Serve()
	}
}

// feed passes bytes on. If more is false, the reader must return at once and use none of
// the reader's fields: another reader starts when the pause ends, or has started already.
func (l *epollLink) feed(r *frameReader, b []byte) inputResult {
	if l.discard {
		return inputResult{more: true}
	}
	res := l.c.readInput(r, b)
	l.discard = !res.more
	if res.more && l.c.s.isPaused() {
		l.stoppedByPause.Store(true)
		if l.c.s.isPaused() || !l.stoppedByPause.CompareAndSwap(true, false) {
			return inputResult{serve: res.serve}
		}
	}
	res.more = true
	return res
}

func (l *epollLink) resume() {
	if l.stoppedByPause.CompareAndSwap(true, false) {
		l.startReader(nil)
	}
}

func (l *epollLink) wake() { l.e.flushers[int(l.slot)%len(l.e.flushers)].add(l) }

func (l *epollLink) flush() { l.c.flush() }

func (l *epollLink) write(b []byte) (int, error) {
	if !l.acquire() {
		return 0, net.ErrClosed
	}
	defer l.release()
	for done := 0; ; {
		n, err := rawsocket.Write(l.fd, b[done:])
		done += max(n, 0)
		switch {
		case done == len(b) || err == syscall.EAGAIN: //nolint:errorlint // Write returns a syscall.Errno
			return done, nil
		case err != nil && err != syscall.EINTR: //nolint:errorlint // Write returns a syscall.Errno
			return done, err
		}
	}
}

// notifyWritable makes the loop report when the connection is writable. The session ends
// after WriteTimeout without progress.
func (l *epollLink) notifyWritable(progress bool) {
	s := l.c.s
	s.mu.Lock()
	switch {
	case l.stall == nil && s.state == stateOpen:
		l.stall = &stall{since: time.Now()}
		l.stall.timer.F = l.checkStall
		s.srv.cfg.Wheel.Arm(&l.stall.timer, s.srv.cfg.WriteTimeout)
	case l.stall != nil && progress:
		l.stall.since = time.Now()
	}
	s.mu.Unlock()
	l.setInterest(readInterest | syscall.EPOLLOUT)
}

// checkStall is the callback of the stall timer. It closes the session, unless the
// client has read something within WriteTimeout.
func (l *epollLink) checkStall() {
	s := l.c.s
	s.mu.Lock()
	if !l.c.blocked || s.state != stateOpen {
		l.stall = nil
		s.mu.Unlock()
		return
	}
	if left := s.srv.cfg.WriteTimeout - time.Since(l.stall.since); left > 0 {
		s.srv.cfg.Wheel.Arm(&l.stall.timer, left)
		s.mu.Unlock()
		return
	}
	s.abortSoonLocked(ReasonSlowConsumer)
	s.mu.Unlock()
}

func (l *epollLink) stalled() bool { return false }

func (l *epollLink) finish() {
	if l.acquire() {
		_ = syscall.Shutdown(l.fd, syscall.SHUT_WR)
		l.release()
	}
}

func (l *epollLink) close() {
	if l.closed.CompareAndSwap(false, true) {
		l.release()
	}
}
