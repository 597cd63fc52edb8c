// Waiting for plain TCP connections with epoll: an idle one has no goroutine, no stack
// and no buffer, only its entry in an epoll set.

package engineio

import (
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
)

// eventLoop passes the events of one epoll set to the links in it. Go's netpoller waits
// for the epoll set itself, so that no thread blocks in it.
type eventLoop struct {
	flushers []flusher // made when the loop starts, then read without mu
	workers  workers

	mu          sync.Mutex // guards the fields below
	file        *os.File   // the epoll set; nil before the first connection
	fd          int        // of file; set when the loop starts, then read without mu
	closed      bool
	slots       []*epollLink  // by slot number; nil when free
	generations []int32       // how often a slot was freed, so that a late event does not reach the next link in the slot
	free        []int32       // numbers of free slots
	done        chan struct{} // closed when run has returned; set when the loop starts
}

// readInterest are the events of a link that does not wait for writability.
const readInterest = syscall.EPOLLIN | syscall.EPOLLRDHUP | 1<<31 // EPOLLET, whose constant is negative in package syscall

// newLink takes over a connection: with epoll if it is plain TCP, with a goroutine
// otherwise.
func (s *Server) newLink(conn net.Conn, c *wsConn) link {
	if tcp, ok := conn.(*net.TCPConn); ok {
		if l := s.loop.adopt(tcp, c); l != nil {
			return l
		}
	}
	return newNetLink(conn, c)
}

// adopt moves a connection from Go's netpoller to the loop. It returns nil if that is
// not possible. The loop does not wait for the connection before epollLink.start.
func (e *eventLoop) adopt(tcp *net.TCPConn, c *wsConn) *epollLink {
	raw, err := tcp.SyscallConn()
	if err != nil || !e.ensureStarted() {
		return nil
	}
	fd := -1
	err = raw.Control(func(old uintptr) {
		// Ask for a descriptor >= 3, in case the host closed stdin, stdout or stderr.
		if n, _, errno := syscall.Syscall(syscall.SYS_FCNTL, old, syscall.F_DUPFD_CLOEXEC, 3); errno == 0 {
			fd = int(n)
		}
	})
	if err != nil || fd < 0 {
		return nil
	}
	if setNonblocking(fd) != nil {
		_ = syscall.Close(fd)
		return nil
	}
	_ = tcp.Close() // closes its own descriptor; fd keeps the connection open
	l := &epollLink{c: c, e: e, fd: fd}
	l.refs.Store(1)
	e.mu.Lock()
	defer e.mu.Unlock()
	if n := len(e.free); n > 0 {
		l.slot, e.free = e.free[n-1], e.free[:n-1]
	} else {
		l.slot = int32(len(e.slots))
		e.slots, e.generations = append(e.slots, nil), append(e.generations, 0)
	}
	e.slots[l.slot] = l
	return l
}

// setNonblocking makes a connection non-blocking and clears SO_LINGER, whatever the
// host has set, so that neither a system call nor closing waits for the client. Both
// flags belong to the connection, not to a descriptor; net.TCPConn.File with
// os.File.Fd, the usual way to set a socket option, makes it blocking.
func setNonblocking(fd int) error {
	if err := syscall.SetNonblock(fd, true); err != nil {
		return err
	}
	// Fails on a connection that has ended, which does no harm.
	_ = syscall.SetsockoptLinger(fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{})
	return nil
}

// ensureStarted starts the loop with the first connection. It returns false if the loop
// is closed or cannot start.
func (e *eventLoop) ensureStarted() bool {
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
	_ = syscall.SetNonblock(fd, true) // os.NewFile registers a non-blocking descriptor with the netpoller
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
	ready := make([]*epollLink, len(events))
	for {
		n := 0
		err := raw.Read(func(fd uintptr) bool {
			n = rawEpollWait(int(fd), events)
			return n > 0
		})
		if err != nil {
			return // the loop is closed
		}
		e.lookup(events[:n], ready)
		for i, l := range ready[:n] {
			if l != nil {
				l.ready(events[i].Events)
			}
		}
	}
}

// lookup finds the links of events. A link is nil if its connection was closed after
// the event was reported.
func (e *eventLoop) lookup(events []syscall.EpollEvent, links []*epollLink) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i, ev := range events {
		links[i] = nil
		if e.generations[ev.Fd] == ev.Pad {
			links[i] = e.slots[ev.Fd]
		}
	}
}

// close ends the loop. It is called when there are no connections any more.
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

func (e *eventLoop) removeLink(l *epollLink) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.slots[l.slot] = nil
	e.generations[l.slot]++
	e.free = append(e.free, l.slot)
}

// epollCtl adds a link to the epoll set, or changes the events that the loop waits for.
func (e *eventLoop) epollCtl(op int, l *epollLink, events uint32) error {
	e.mu.Lock()
	gen := e.generations[l.slot]
	e.mu.Unlock()
	return syscall.EpollCtl(e.fd, op, l.fd, &syscall.EpollEvent{Events: events, Fd: l.slot, Pad: gen})
}

// flusher flushes the links of one share of the slots. Its goroutine exists only while
// links are queued. In a burst of broadcasts several messages are queued on a link when
// its turn comes, and one system call writes them all.
type flusher struct {
	mu      sync.Mutex // guards the fields below
	running bool       // run has been started and has not ended
	queue   []*epollLink
	spare   []*epollLink // memory of the batch before, for the next queue
}

func (f *flusher) add(l *epollLink) {
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
