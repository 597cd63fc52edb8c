// Waiting for plain TCP connections by readiness: an idle one has no goroutine,
// no stack and no buffer, only its place in an epoll set.

package engineio

import (
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/rodando/realtime/internal/wheel"
)

// eventLoop hands readiness from one epoll set to the links in it. The set is
// itself waited for by Go's netpoller, so that no thread blocks in it.
//
// eventLoop.mu guards the fields below it.
type eventLoop struct {
	flushers []flusher

	mu     sync.Mutex
	file   *os.File // the epoll set; nil before the first connection
	fd     int
	closed bool
	slots  []*pollLink // by slot number, nil when free
	gens   []int32     // how often a slot was used: a late event meets no successor
	free   []int32
	done   chan struct{}
}

const edge = syscall.EPOLLIN | syscall.EPOLLRDHUP | 1<<31 // EPOLLET, whose constant is negative in package syscall

// newLink takes a connection over: by readiness if it is plain TCP, with a
// goroutine otherwise.
func (s *Server) newLink(conn net.Conn, c *wsConn) link {
	if tcp, ok := conn.(*net.TCPConn); ok {
		if l := s.loop.adopt(tcp, c); l != nil {
			return l
		}
	}
	return &connLink{c: c, conn: conn}
}

// adopt moves a connection from Go's netpoller to the loop; nil when it can't.
// It is not waited for before its link is started.
func (e *eventLoop) adopt(tcp *net.TCPConn, c *wsConn) *pollLink {
	raw, err := tcp.SyscallConn()
	if err != nil || !e.begin() {
		return nil
	}
	fd := -1
	err = raw.Control(func(old uintptr) {
		if n, _, errno := syscall.Syscall(syscall.SYS_FCNTL, old, syscall.F_DUPFD_CLOEXEC, 0); errno == 0 {
			fd = int(n)
		}
	})
	if err != nil || fd < 0 {
		return nil
	}
	_ = tcp.Close() // its descriptor; the connection lives on in ours
	l := &pollLink{c: c, e: e, fd: fd}
	l.refs.Store(1)
	e.mu.Lock()
	defer e.mu.Unlock()
	if n := len(e.free); n > 0 {
		l.slot, e.free = e.free[n-1], e.free[:n-1]
	} else {
		l.slot = int32(len(e.slots))
		e.slots, e.gens = append(e.slots, nil), append(e.gens, 0)
	}
	e.slots[l.slot] = l
	return l
}

// begin starts the loop with the first connection.
func (e *eventLoop) begin() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return false
	}
	if e.file != nil {
		return true
	}
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return false
	}
	_ = syscall.SetNonblock(fd, true) // what os.NewFile takes as the wish to be polled
	e.fd, e.file, e.done = fd, os.NewFile(uintptr(fd), "epoll"), make(chan struct{})
	raw, err := e.file.SyscallConn()
	if err != nil {
		_ = e.file.Close()
		e.file = nil
		return false
	}
	e.flushers = make([]flusher, min(runtime.GOMAXPROCS(0), 8))
	go e.run(raw)
	return true
}

func (e *eventLoop) run(raw syscall.RawConn) {
	defer close(e.done)
	events := make([]syscall.EpollEvent, 256)
	ready := make([]*pollLink, len(events))
	for {
		n := 0
		err := raw.Read(func(fd uintptr) bool {
			n, _ = syscall.EpollWait(int(fd), events, 0) // a failure is a wait in vain
			return n > 0
		})
		if err != nil {
			return // closed
		}
		e.mu.Lock()
		for i, ev := range events[:n] {
			ready[i] = nil
			if e.gens[ev.Fd] == ev.Pad {
				ready[i] = e.slots[ev.Fd]
			}
		}
		e.mu.Unlock()
		for i, l := range ready[:n] {
			if l != nil {
				l.ready(events[i].Events)
			}
		}
	}
}

// close ends the loop, which has no connections any more.
func (e *eventLoop) close() {
	e.mu.Lock()
	file := e.file
	e.closed, e.file = true, nil
	e.mu.Unlock()
	if file != nil {
		_ = file.Close()
		<-e.done
	}
}

func (e *eventLoop) forget(l *pollLink) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.slots[l.slot] = nil
	e.gens[l.slot]++
	e.free = append(e.free, l.slot)
}

// control adds or changes what the loop waits for on a link.
func (e *eventLoop) control(op int, l *pollLink, events uint32) {
	e.mu.Lock()
	gen := e.gens[l.slot]
	e.mu.Unlock()
	// Cannot fail on a descriptor that is held open; if it did, the heartbeat
	// would end the session.
	_ = syscall.EpollCtl(e.fd, op, l.fd, &syscall.EpollEvent{Events: events, Fd: l.slot, Pad: gen})
}

// flusher writes out what was queued for its share of the links. Its goroutine
// exists while there is work; in a burst of broadcasts it comes by when several
// messages are queued, and one system call takes them all.
//
// flusher.mu guards all of it.
type flusher struct {
	mu      sync.Mutex
	running bool
	queue   []*pollLink
	spare   []*pollLink
}

func (f *flusher) add(l *pollLink) {
	f.mu.Lock()
	f.queue = append(f.queue, l)
	start := !f.running
	f.running = true
	f.mu.Unlock()
	if start {
		go f.run()
	}
}

func (f *flusher) run() {
	f.mu.Lock()
	for len(f.queue) > 0 {
		batch := f.queue
		f.queue = f.spare[:0]
		f.mu.Unlock()
		for _, l := range batch {
			l.c.flush()
		}
		clear(batch)
		f.mu.Lock()
		f.spare = batch[:0]
	}
	f.running = false
	f.mu.Unlock()
}

// States of a pollLink's reading.
const (
	readIdle  = iota
	readBusy  // a goroutine reads
	readAgain // it is to look once more before it stops
)

// pollLink is a plain TCP connection in the event loop.
//
// refs counts who may use fd: the link itself until close, and each goroutine
// in a system call on it; whoever drops the last one closes fd. What is below
// reading belongs to the reader, of which reading lets there be one at a time.
type pollLink struct {
	c    *wsConn
	e    *eventLoop
	fd   int
	slot int32
	refs atomic.Int32

	ended   atomic.Bool
	hungUp  atomic.Bool  // the client has sent all it will
	stopped atomic.Bool  // the reader left because the session is paused
	stall   *wheel.Timer // since a write would have blocked; the session's mutex guards it
	reading atomic.Int32

	discard bool // input is of no interest any more
	early   []byte
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
	l.early = early
	if len(early) > 0 {
		l.reading.Store(readBusy)
		go l.read()
	}
	l.e.control(syscall.EPOLL_CTL_ADD, l, edge)
	l.release()
}

// ready is called by the loop.
func (l *pollLink) ready(events uint32) {
	if events&syscall.EPOLLOUT != 0 {
		l.wake()
	}
	if events&^uint32(syscall.EPOLLOUT) == 0 {
		return
	}
	if events&(syscall.EPOLLRDHUP|syscall.EPOLLHUP|syscall.EPOLLERR) != 0 {
		l.hungUp.Store(true)
	}
	if l.reading.CompareAndSwap(readIdle, readBusy) {
		l.spawn()
	} else if !l.reading.CompareAndSwap(readBusy, readAgain) {
		// The reader has stopped in between, or will look again anyway.
		if l.reading.CompareAndSwap(readIdle, readBusy) {
			l.spawn()
		}
	}
}

func (l *pollLink) spawn() {
	if l.acquire() {
		go l.read()
	}
}

// read takes what has arrived, then serves what it asked for. A connection that
// sends half a message is let go of until the other half comes.
func (l *pollLink) read() {
	r := readers.Get().(*reader)
	work, alive := false, true
	if l.early != nil {
		work, alive = l.feed(r, l.early)
		l.early = nil
	}
	for alive {
		n, err := syscall.Read(l.fd, r.buf[:])
		switch {
		case n > 0:
			var w bool
			w, alive = l.feed(r, r.buf[:n])
			work = work || w
			if n == len(r.buf) || l.hungUp.Load() {
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
			alive = false
		}
		if alive && l.reading.CompareAndSwap(readBusy, readIdle) {
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

// feed hands bytes on. Alive is false when the reader is to leave: somebody
// else starts it again when the pause ends.
func (l *pollLink) feed(r *reader, b []byte) (work, alive bool) {
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
		l.spawn()
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
		n, err := syscall.Write(l.fd, b[done:])
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
func (l *pollLink) notify() {
	s := l.c.s
	s.mu.Lock()
	if l.stall == nil && s.state == stateOpen {
		l.stall = &wheel.Timer{F: l.checkStall}
		s.srv.cfg.Wheel.Arm(l.stall, s.srv.cfg.WriteTimeout)
	}
	s.mu.Unlock()
	if l.acquire() {
		l.e.control(syscall.EPOLL_CTL_MOD, l, edge|syscall.EPOLLOUT)
		l.release()
	}
}

func (l *pollLink) checkStall() {
	s := l.c.s
	s.mu.Lock()
	l.stall = nil
	stuck := l.c.rest != nil && s.state == stateOpen
	s.mu.Unlock()
	if stuck {
		s.abort(ReasonSlowConsumer)
	}
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
