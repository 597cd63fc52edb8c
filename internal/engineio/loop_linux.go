// Waiting for plain TCP connections by readiness: an idle one has no goroutine,
// no stack and no buffer, only its place in an epoll set.

package engineio

import (
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
)

// eventLoop hands readiness from one epoll set to the links in it. The set is
// itself waited for by Go's netpoller, so that no thread blocks in it.
//
// eventLoop.mu guards the fields below it.
type eventLoop struct {
	flushers []flusher
	workers  workers

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
	return newConnLink(conn, c)
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
		// Not to become standard output, should the host have closed that.
		if n, _, errno := syscall.Syscall(syscall.SYS_FCNTL, old, syscall.F_DUPFD_CLOEXEC, 3); errno == 0 {
			fd = int(n)
		}
	})
	if err != nil || fd < 0 {
		return nil
	}
	if unblock(fd) != nil {
		_ = syscall.Close(fd)
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

// unblock undoes what the host may have set, so that neither a call nor closing waits
// for the client. The flag is the connection's, and net.TCPConn.File with os.File.Fd,
// the usual way to set an option, clears it.
func unblock(fd int) error {
	if err := syscall.SetNonblock(fd, true); err != nil {
		return err
	}
	// Fails on a connection that has ended, which is no obstacle.
	_ = syscall.SetsockoptLinger(fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{})
	return nil
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
	e.workers.init()
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
			n = rawPoll(int(fd), events)
			return n > 0
		})
		if err != nil {
			return // closed
		}
		e.find(events[:n], ready)
		for i, l := range ready[:n] {
			if l != nil {
				l.ready(events[i].Events)
			}
		}
	}
}

// find looks up whose the events are: nobody's, for one that was reported before
// its connection was closed.
func (e *eventLoop) find(events []syscall.EpollEvent, links []*pollLink) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i, ev := range events {
		links[i] = nil
		if e.gens[ev.Fd] == ev.Pad {
			links[i] = e.slots[ev.Fd]
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
	e.workers.close()
}

func (e *eventLoop) forget(l *pollLink) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.slots[l.slot] = nil
	e.gens[l.slot]++
	e.free = append(e.free, l.slot)
}

// control adds or changes what the loop waits for on a link.
func (e *eventLoop) control(op int, l *pollLink, events uint32) error {
	e.mu.Lock()
	gen := e.gens[l.slot]
	e.mu.Unlock()
	return syscall.EpollCtl(e.fd, op, l.fd, &syscall.EpollEvent{Events: events, Fd: l.slot, Pad: gen})
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
