// The link for plain TCP: it reads and writes when the event loop says so.

package engineio

import (
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rodando/realtime/internal/timingwheel"
)

// States of a pollLink's reading.
const (
	readIdle  = iota
	readBusy  // a goroutine reads, or has left because the session is paused
	readAgain // it is to look once more before it stops
)

// maxTurns is how often a reader reads before it goes to the end of the queue: a
// client that sends without end is not to keep others waiting, nor its own
// messages from being served.
const maxTurns = 32

// pollLink is a plain TCP connection in the event loop.
//
// refs counts who may use fd: the link itself until close, and each goroutine
// in a system call on it; whoever drops the last one closes fd. Discard belongs
// to the reader, of which reading lets there be one at a time.
type pollLink struct {
	c    *wsConn
	e    *eventLoop
	fd   int
	slot int32
	refs atomic.Int32

	reading atomic.Int32
	ended   atomic.Bool
	hungUp  atomic.Bool // the client has sent all it will
	stopped atomic.Bool // the reader has left because the session is paused
	discard bool        // input is of no interest any more
	stall   *stall      // while writes would block; the session's mutex guards it
}

// stall watches over a client that does not read.
type stall struct {
	timer timingwheel.Timer
	since time.Time // when the client last took something
}

func (l *pollLink) acquire() bool {
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

func (l *pollLink) release() {
	if l.refs.Add(-1) > 0 {
		return
	}
	l.e.forget(l)
	_ = syscall.Close(l.fd)
	l.c.s.srv.running.Done()
}

func (l *pollLink) start(early []byte) {
	if !l.acquire() {
		return
	}
	defer l.release()
	if len(early) > 0 {
		l.reading.Store(readBusy)
		l.spawn(early)
	}
	if l.e.control(syscall.EPOLL_CTL_ADD, l, edge) != nil {
		l.c.gone(ReasonTransportError)
	}
}

// ready is called by the loop.
func (l *pollLink) ready(events uint32) {
	if events&syscall.EPOLLOUT != 0 {
		l.await(edge) // or every arrival would report room to write as well
		l.wake()
	}
	if events&^uint32(syscall.EPOLLOUT) == 0 {
		return
	}
	if events&(syscall.EPOLLRDHUP|syscall.EPOLLHUP|syscall.EPOLLERR) != 0 {
		l.hungUp.Store(true)
	}
	if l.reading.CompareAndSwap(readIdle, readBusy) {
		l.spawn(nil)
	} else if !l.reading.CompareAndSwap(readBusy, readAgain) {
		// The reader has stopped in between, or will look again anyway.
		if l.reading.CompareAndSwap(readIdle, readBusy) {
			l.spawn(nil)
		}
	}
}

// await changes what the loop waits for.
func (l *pollLink) await(events uint32) {
	if l.acquire() {
		// Cannot fail on a descriptor that is held open and was added.
		_ = l.e.control(syscall.EPOLL_CTL_MOD, l, events)
		l.release()
	}
}

func (l *pollLink) spawn(early []byte) {
	if l.acquire() {
		l.e.workers.run(job{l, early})
	}
}

// read takes what has arrived, then serves what it asked for. A connection that
// sends half a message is let go of until the other half comes.
func (l *pollLink) read(early []byte) {
	r := readers.Get().(*reader)
	work, on := false, true
	if len(early) > 0 {
		work, on = l.feed(r, early)
	}
	for turns := 0; on && !l.ended.Load(); turns++ {
		if turns == maxTurns {
			l.spawn(nil)
			break
		}
		n, err := rawRead(l.fd, r.buf[:])
		switch {
		case n > 0:
			var w bool
			w, on = l.feed(r, r.buf[:n])
			work = work || w
			if !on || n == len(r.buf) || l.hungUp.Load() {
				continue
			}
		case err == syscall.EINTR:
			continue
		case err != syscall.EAGAIN:
			reason := ReasonTransportClose
			if n < 0 {
				reason = ReasonTransportError
			}
			l.c.gone(reason)
			continue
		}
		if l.reading.CompareAndSwap(readBusy, readIdle) {
			break
		}
		l.reading.Store(readBusy)
	}
	readers.Put(r)
	l.release()
	if work {
		l.c.s.handler.Serve()
	}
}

// feed hands bytes on. On is false when the reader is to leave at once and
// touch nothing: another one starts when the pause ends, or has already.
func (l *pollLink) feed(r *reader, b []byte) (work, on bool) {
	if l.discard {
		return false, true
	}
	more, work := l.c.feed(r, b)
	l.discard = !more
	if more && l.c.s.isPaused() {
		l.stopped.Store(true)
		if l.c.s.isPaused() || !l.stopped.CompareAndSwap(true, false) {
			return work, false
		}
	}
	return work, true
}

func (l *pollLink) resume() {
	if l.stopped.CompareAndSwap(true, false) {
		l.spawn(nil)
	}
}

func (l *pollLink) wake() { l.e.flushers[int(l.slot)%len(l.e.flushers)].add(l) }

func (l *pollLink) flush() { l.c.flush() }

func (l *pollLink) write(b []byte) (int, error) {
	if !l.acquire() {
		return 0, net.ErrClosed
	}
	defer l.release()
	for done := 0; ; {
		n, err := rawWrite(l.fd, b[done:])
		done += max(n, 0)
		switch {
		case done == len(b) || err == syscall.EAGAIN:
			return done, nil
		case err != nil && err != syscall.EINTR:
			return done, err
		}
	}
}

// notify waits for room to write, though not for ever.
func (l *pollLink) notify(progress bool) {
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
	l.await(edge | syscall.EPOLLOUT)
}

// checkStall runs when a client has had the time of a write: it goes on if the
// client has taken anything meanwhile.
func (l *pollLink) checkStall() {
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

func (l *pollLink) stalled() bool { return false }

func (l *pollLink) finish() {
	if l.acquire() {
		_ = syscall.Shutdown(l.fd, syscall.SHUT_WR)
		l.release()
	}
}

func (l *pollLink) close() {
	if l.ended.CompareAndSwap(false, true) {
		l.release()
	}
}
