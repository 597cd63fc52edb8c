// A single-threaded epoll client: one OS thread drives all connections with raw
// non-blocking system calls, no goroutine per socket and no library. That keeps
// the generator's cost per message near one read, so that on a machine with two
// cores it is the server that is measured.

package main

import (
	"bytes"
	"errors"
	"net"
	"syscall"
	"time"
	"unsafe"
)

type kind uint8

const (
	kindSocket  kind = iota // a websocket
	kindPoll                // the polls of a long-polling session
	kindRequest             // plain HTTP requests, one after the other
)

type state uint8

const (
	stNew    state = iota
	stTCP          // connect(2) under way
	stHTTP         // waiting for the upgrade's answer; of a kindRequest: connected
	stOpen         // waiting for the Engine.IO open packet
	stNSP          // waiting for the namespace's CONNECT reply
	stHello        // waiting for the hello event
	stReady        // usable
	stClosed       // closed
)

func (s state) String() string {
	return [...]string{"new", "tcp", "http", "open", "connect", "hello", "ready", "closed"}[s]
}

// statusLost is the status of a request whose connection was lost.
const statusLost = -1

// A target is a server.
type target struct {
	addr *net.TCPAddr
	host string // the Host header
}

// A conn is one connection.
type conn struct {
	fd     int
	to     *target // nil: the first server
	kind   kind
	state  state
	wantW  bool // waiting for room to write
	narrow bool // with as little buffer as the system allows, on both sides
	role   *role
	user   int // number of the user, for the token

	rbuf []byte // bytes of an unfinished frame or header
	frag []byte // payload of an unfinished fragmented message
	wbuf []byte // bytes that the kernel did not take yet

	request []byte                        // kindRequest: what to send first
	answer  func(status int, body []byte) // kindRequest: set while a request is under way
	polling *polling                      // kindPoll
	kept    *kept                         // drops: what its user's client keeps

	started  int64 // ns: when connect(2) began
	sent     int64 // ns: when the last ping was sent, or due
	ackID    int
	inFlight bool
	lastSeq  int
	holdTill int64 // churn: when it is to go
	closing  bool
}

// A role is who connects where.
type role struct {
	to       *target // nil: the first server
	spread   bool    // over all servers
	nsp      string  // "/drivers"
	userType string
	sub, sid func(i int) string
}

// A handler is what a mode does with what happens.
type handler struct {
	ready  func(c *conn)
	event  func(c *conn, name string, data []byte) // data is valid during the call
	ack    func(c *conn, id int, data []byte)
	closed func(c *conn, why string)
}

type loop struct {
	epfd    int
	conns   []*conn // by fd
	events  []syscall.EpollEvent
	scratch []byte
	frames  []byte // reused for each frame sent
	first   *target
	dial    dialect
	h       handler
	now     int64
	srcIPs  int
	srcNext int
	busy    bool

	bytesIn  int64
	beats    int64 // heartbeats of the server
	failures map[string]int
}

func newLoop(first *target, d dialect, srcIPs int) (*loop, error) {
	ep, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	return &loop{
		epfd: ep, first: first, dial: d, srcIPs: srcIPs, now: nanos(),
		events: make([]syscall.EpollEvent, 4096), scratch: make([]byte, 256<<10), failures: map[string]int{},
	}, nil
}

var epoch = time.Now()

func nanos() int64 { return int64(time.Since(epoch)) }

func rawRead(fd int, b []byte) (int, syscall.Errno) {
	n, _, e := syscall.RawSyscall(syscall.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	return int(n), e
}

func rawWrite(fd int, b []byte) (int, syscall.Errno) {
	n, _, e := syscall.RawSyscall(syscall.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	return int(n), e
}

// target is the server of a connection.
func (l *loop) target(c *conn) *target {
	if c.to != nil {
		return c.to
	}
	return l.first
}

// open starts a connection, which goes on by itself as its kind demands.
func (l *loop) open(c *conn) error {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
	if c.narrow {
		// Small segments keep the server's send buffer small as well.
		_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096)
		_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, 536)
	}
	if l.srcIPs > 1 {
		// Several source addresses, so that ports do not run out.
		const ipBindAddressNoPort = 24
		_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_IP, ipBindAddressNoPort, 1)
		l.srcNext++
		if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 1, byte(1 + l.srcNext%l.srcIPs)}}); err != nil {
			_ = syscall.Close(fd)
			return err
		}
	}
	c.fd, c.state, c.started = fd, stTCP, nanos()
	to := l.target(c).addr
	err = syscall.Connect(fd, &syscall.SockaddrInet4{Port: to.Port, Addr: [4]byte(to.IP.To4())})
	if err != nil && !errors.Is(err, syscall.EINPROGRESS) {
		_ = syscall.Close(fd)
		return err
	}
	for len(l.conns) <= fd {
		l.conns = append(l.conns, nil)
	}
	l.conns[fd] = c
	c.wantW = true
	return syscall.EpollCtl(l.epfd, syscall.EPOLL_CTL_ADD, fd,
		&syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLOUT | syscall.EPOLLRDHUP, Fd: int32(fd)})
}

// want sets whether to wait for room to write.
func (l *loop) want(c *conn, w bool) {
	if c.wantW == w {
		return
	}
	c.wantW = w
	ev := syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLRDHUP, Fd: int32(c.fd)}
	if w {
		ev.Events |= syscall.EPOLLOUT
	}
	_ = syscall.EpollCtl(l.epfd, syscall.EPOLL_CTL_MOD, c.fd, &ev)
}

// ignore stops reading from a connection, without closing it.
func (l *loop) ignore(c *conn) {
	_ = syscall.EpollCtl(l.epfd, syscall.EPOLL_CTL_DEL, c.fd, &syscall.EpollEvent{})
}

func (l *loop) write(c *conn, b []byte) {
	if c.state == stClosed {
		return
	}
	if len(c.wbuf) > 0 {
		c.wbuf = append(c.wbuf, b...)
		return
	}
	n, e := rawWrite(c.fd, b)
	if e != 0 {
		if e != syscall.EAGAIN {
			l.drop(c, "write: "+e.Error())
			return
		}
		n = 0
	}
	if n < len(b) {
		c.wbuf = append(c.wbuf, b[n:]...)
		l.want(c, true)
	}
}

// drop closes the connection at once and notifies its user.
func (l *loop) drop(c *conn, why string) {
	if c.state == stClosed {
		return
	}
	was := c.state
	l.kill(c)
	switch {
	case c.kind != kindRequest:
		if l.h.closed != nil {
			l.h.closed(c, was.String()+": "+why)
		}
	case c.answer != nil:
		fn := c.answer
		c.answer = nil
		fn(statusLost, nil)
	}
}

// kill closes the connection by RST, so that nothing stays in TIME_WAIT.
func (l *loop) kill(c *conn) {
	if c.state == stClosed {
		return
	}
	c.state = stClosed
	_ = syscall.SetsockoptLinger(c.fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1, Linger: 0})
	l.conns[c.fd] = nil
	_ = syscall.Close(c.fd)
	c.rbuf, c.wbuf, c.frag = nil, nil, nil
	if c.polling != nil && c.polling.posts != nil {
		l.kill(c.polling.posts)
	}
}

// poll waits at most maxWait and handles what is ready.
func (l *loop) poll(maxWait time.Duration) {
	n := 0
	r, _, e := syscall.RawSyscall6(syscall.SYS_EPOLL_WAIT, uintptr(l.epfd), uintptr(unsafe.Pointer(&l.events[0])), uintptr(len(l.events)), 0, 0, 0)
	if e == 0 {
		n = int(r)
	}
	if n == 0 && maxWait > 0 && !l.busy {
		n, _ = syscall.EpollWait(l.epfd, l.events, int((maxWait+time.Millisecond-1)/time.Millisecond))
	}
	l.now = nanos()
	for i := range max(n, 0) {
		ev := &l.events[i]
		if c := l.conns[ev.Fd]; c != nil {
			l.handle(c, ev.Events)
		}
	}
}

func (l *loop) handle(c *conn, events uint32) {
	if c.state == stTCP {
		l.connected(c, events)
		return
	}
	if events&syscall.EPOLLOUT != 0 && len(c.wbuf) > 0 {
		n, e := rawWrite(c.fd, c.wbuf)
		if e != 0 && e != syscall.EAGAIN {
			l.drop(c, "write: "+e.Error())
			return
		}
		if e == 0 {
			c.wbuf = c.wbuf[:copy(c.wbuf, c.wbuf[n:])]
		}
		if len(c.wbuf) == 0 {
			l.want(c, false)
		}
	}
	if events&^syscall.EPOLLOUT != 0 {
		l.read(c)
	}
}

func (l *loop) connected(c *conn, events uint32) {
	if events&(syscall.EPOLLERR|syscall.EPOLLHUP) != 0 {
		v, _ := syscall.GetsockoptInt(c.fd, syscall.SOL_SOCKET, syscall.SO_ERROR)
		l.drop(c, "connect: "+syscall.Errno(v).Error())
		return
	}
	if events&syscall.EPOLLOUT == 0 {
		return
	}
	l.want(c, false)
	switch c.kind {
	case kindSocket:
		c.state = stHTTP
		l.write(c, l.dial.upgrade(l, c))
	case kindPoll:
		c.state = stOpen
		l.startPolling(c)
	case kindRequest:
		c.state = stHTTP
		l.write(c, c.request)
		c.request = nil
	}
}

func (l *loop) read(c *conn) {
	off := copy(l.scratch, c.rbuf)
	if off+4096 > len(l.scratch) {
		l.scratch = append(l.scratch, make([]byte, len(l.scratch))...)
	}
	n, e := rawRead(c.fd, l.scratch[off:])
	switch {
	case e == syscall.EAGAIN || e == syscall.EINTR:
		return
	case e != 0:
		l.drop(c, "read: "+e.Error())
		return
	case n == 0:
		l.drop(c, "EOF")
		return
	}
	l.bytesIn += int64(n)
	buf := l.scratch[:off+n]
	used := 0
	if c.kind == kindSocket {
		used = l.consumeSocket(c, buf)
	} else {
		used = l.consumeHTTP(c, buf)
	}
	switch {
	case c.state == stClosed:
	case used == len(buf):
		c.rbuf = nil
	default:
		c.rbuf = append(c.rbuf[:0], buf[used:]...)
	}
}

// consumeSocket takes the upgrade's answer and whole frames off b.
func (l *loop) consumeSocket(c *conn, b []byte) (used int) {
	if c.state == stHTTP {
		used = headerEnd(b)
		switch {
		case used == 0 && len(b) > 16<<10:
			l.drop(c, "header too long")
			return 0
		case used == 0:
			return 0
		case !bytes.HasPrefix(b, []byte("HTTP/1.1 101 ")):
			l.drop(c, "upgrade refused: "+string(b[:min(len(b), 60)]))
			return 0
		}
		c.state = stOpen
		l.dial.upgraded(l, c)
	}
	for c.state != stClosed {
		f, n := parseFrame(b[used:])
		if n == 0 {
			break
		}
		used += n
		l.frame(c, f)
	}
	return used
}
