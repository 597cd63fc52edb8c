// Command bareepoll is the contract on system calls alone: one epoll loop, one
// thread, a frame parser of its own. It is what is left of the cost when neither
// a WebSocket library nor a goroutine per connection stands in the way.
package main

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"log"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"github.com/rodando/realtime/bench/peers/bare"
	"github.com/rodando/realtime/bench/peers/contract"
)

type conn struct {
	s      *server
	fd     int
	ws     bool // upgraded
	dead   bool
	wantW  bool
	in     []byte // of an unfinished frame or request
	out    []byte // that the kernel did not take yet
	client *bare.Client
}

type server struct {
	epoll   int
	conns   []*conn // by fd
	hub     *bare.Hub
	batch   bare.Batch
	scratch []byte
}

func main() {
	runtime.LockOSThread()
	s := &server{hub: bare.NewHub(false), scratch: make([]byte, 256<<10)}
	listener, err := listen(contract.Port())
	if err != nil {
		log.Fatal(err)
	}
	if s.epoll, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC); err != nil {
		log.Fatal(err)
	}
	s.control(syscall.EPOLL_CTL_ADD, listener, syscall.EPOLLIN)
	events := make([]syscall.EpollEvent, 1024)
	interval := contract.PingInterval() / 16
	beat, shard := time.Now(), 0
	for {
		// A look without waiting first: it needs no help of Go's scheduler.
		n, _, e := syscall.RawSyscall6(syscall.SYS_EPOLL_WAIT, uintptr(s.epoll), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 0, 0, 0)
		ready := int(n)
		if e != 0 || n == 0 {
			ready, _ = syscall.EpollWait(s.epoll, events, 50)
		}
		for i := range max(ready, 0) {
			if fd := int(events[i].Fd); fd == listener {
				s.accept(listener)
			} else if c := s.conns[fd]; c != nil {
				c.ready(events[i].Events)
			}
		}
		s.batch.Flush()
		if now := time.Now(); now.Sub(beat) > interval {
			beat = now
			s.hub.Beat(shard)
			shard++
		}
	}
}

func listen(port int) (int, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return 0, err
	}
	return fd, syscall.Listen(fd, 4096)
}

func (s *server) control(op, fd int, events uint32) {
	_ = syscall.EpollCtl(s.epoll, op, fd, &syscall.EpollEvent{Events: events, Fd: int32(fd)})
}

const reading = syscall.EPOLLIN | syscall.EPOLLRDHUP

func (s *server) accept(listener int) {
	for {
		fd, _, err := syscall.Accept4(listener, syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
		if err != nil {
			return
		}
		_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
		for len(s.conns) <= fd {
			s.conns = append(s.conns, nil)
		}
		s.conns[fd] = &conn{s: s, fd: fd}
		s.control(syscall.EPOLL_CTL_ADD, fd, reading)
	}
}

func (c *conn) ready(events uint32) {
	if events&syscall.EPOLLOUT != 0 && len(c.out) > 0 {
		if n, err := syscall.Write(c.fd, c.out); err == nil {
			c.out = c.out[:copy(c.out, c.out[n:])]
		}
		if len(c.out) == 0 {
			c.out = nil
			c.want(false)
		}
	}
	if events&^uint32(syscall.EPOLLOUT) != 0 {
		c.read()
	}
}

func (c *conn) want(w bool) {
	if c.wantW == w {
		return
	}
	c.wantW = w
	events := uint32(reading)
	if w {
		events |= syscall.EPOLLOUT
	}
	c.s.control(syscall.EPOLL_CTL_MOD, c.fd, events)
}

func (c *conn) write(b []byte) {
	if c.dead {
		return
	}
	if len(c.out) > 0 {
		c.out = append(c.out, b...)
		return
	}
	n, _, e := syscall.RawSyscall(syscall.SYS_WRITE, uintptr(c.fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	if e != 0 {
		if e != syscall.EAGAIN {
			return // the next read returns the error
		}
		n = 0
	}
	if int(n) < len(b) {
		c.out = append(c.out, b[n:]...)
		c.want(true)
	}
}

func (c *conn) close() {
	if c.dead {
		return
	}
	c.dead = true
	c.s.conns[c.fd] = nil
	_ = syscall.Close(c.fd)
	if c.client != nil {
		c.s.hub.Gone(c.client)
	}
	c.in, c.out = nil, nil
}

func (c *conn) read() {
	buf := c.s.scratch
	off := copy(buf, c.in)
	n, _, e := syscall.RawSyscall(syscall.SYS_READ, uintptr(c.fd), uintptr(unsafe.Pointer(&buf[off])), uintptr(len(buf)-off))
	if e == syscall.EAGAIN {
		return
	}
	if e != 0 || n == 0 {
		c.close()
		return
	}
	b := buf[:off+int(n)]
	used := 0
	if !c.ws {
		used = c.http(b)
	}
	if c.ws {
		used += c.frames(b[used:])
	}
	switch {
	case c.dead:
	case used == len(b):
		c.in = nil
	default:
		c.in = append(c.in[:0], b[used:]...)
	}
}

// frames handles the whole frames of b and returns their length.
func (c *conn) frames(b []byte) (used int) {
	for !c.dead {
		f := b[used:]
		if len(f) < 6 {
			break
		}
		head, n := 2, int(f[1]&0x7f)
		switch n {
		case 126:
			if len(f) < 8 {
				return used
			}
			head, n = 4, int(f[2])<<8|int(f[3])
		case 127: // the generator sends nothing so large
			c.close()
			return used
		}
		if len(f) < head+4+n {
			break
		}
		mask, p := f[head:head+4], f[head+4:head+4+n]
		for i := range p {
			p[i] ^= mask[i&3]
		}
		used += head + 4 + n
		if f[0]&0xf == 8 {
			c.write([]byte{0x88, 2, 3, 0xe8})
			c.close()
			break
		}
		c.s.hub.Text(c.client, p, &c.s.batch)
	}
	return used
}

// http answers the request at the start of b and returns its length, 0 when it
// is not complete.
func (c *conn) http(b []byte) int {
	head := bytes.Index(b, []byte("\r\n\r\n")) + 4
	if head < 4 {
		return 0
	}
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(b)))
	if err != nil {
		c.close()
		return 0
	}
	if strings.HasPrefix(r.URL.Path, "/socket.io/") {
		c.upgrade(r)
		return head
	}
	size := head + int(max(r.ContentLength, 0))
	if len(b) < size {
		return 0
	}
	out := []byte("ok")
	switch r.URL.Path {
	case "/bench/emit":
		contract.Emit(r, func(nsp, room, event string, i int) { c.s.hub.Emit(nsp, room, event, i, &c.s.batch) })
		c.s.batch.Flush()
	case "/bench/stats":
		out = contract.Stats(r)
	}
	c.write([]byte("HTTP/1.1 200 OK\r\nContent-Length: " + strconv.Itoa(len(out)) + "\r\n\r\n" + string(out)))
	return size
}

func (c *conn) upgrade(r *http.Request) {
	accept := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	c.write([]byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " +
		base64.StdEncoding.EncodeToString(accept[:]) + "\r\n\r\n"))
	c.ws = true
	c.client = &bare.Client{Write: c.write, Close: c.close}
	c.s.hub.Open(c.client)
}
