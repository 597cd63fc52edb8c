// Package redistest holds what the tests of the Redis packages share: a server in memory, a
// redis-server process, a path to either, and a child process. Tests and internal/cmd/stresscluster import it.
//
// The server in memory has pub/sub and a few commands for keys, and fails on demand. As with Redis, every connection
// receives the messages in the order in which they were published, by channel and by pattern.
package redistest

import (
	"bufio"
	"errors"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Server is a server on a port of the loopback interface. All methods may be
// called concurrently.
type Server struct {
	mu       sync.Mutex // guards the rest
	listener net.Listener
	addr     string
	conns    map[*conn]bool
	deaf     bool
	frozen   bool
	losing   int // publishes whose answers will be lost
	thawed   *sync.Cond
	commands map[string]int
	keys     map[string]stored
	said     []Message
	ended    []string
	handlers sync.WaitGroup
}

// stored is the value of a key.
type stored struct {
	value string
	until time.Time
}

// conn is a client's connection. Its fields are guarded by Server.mu.
type conn struct {
	net.Conn
	subscribed map[string]map[string]bool // by kind: "", "p", "s"
	out        []byte
	wake       *sync.Cond
	closed     bool
}

// Start starts a server.
func Start() (*Server, error) {
	s := &Server{conns: map[*conn]bool{}, commands: map[string]int{}, keys: map[string]stored{}, addr: "127.0.0.1:0"}
	s.thawed = sync.NewCond(&s.mu)
	return s, s.Restart()
}

// Addr returns the server's address, which Restart keeps.
func (s *Server) Addr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addr
}

// URL is Addr as a URL.
func (s *Server) URL() string { return "redis://" + s.Addr() }

// Restart starts the server again after Stop.
func (s *Server) Restart() error {
	l, err := net.Listen("tcp", s.Addr()) //nolint:noctx // it does not block
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.listener, s.addr = l, l.Addr().String()
	s.mu.Unlock()
	s.handlers.Add(1)
	go s.accept(l)
	return nil
}

// Stop ends the server and its connections, as a kill does.
func (s *Server) Stop() {
	s.mu.Lock()
	l := s.listener
	s.frozen = false
	s.thawed.Broadcast()
	s.mu.Unlock()
	_ = l.Close()
	s.Cut()
	s.handlers.Wait()
}

// Cut closes all connections.
func (s *Server) Cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		s.closeLocked(c)
	}
}

// CutAfter sends the first n bytes of a message to each subscriber, and closes its connection.
func (s *Server) CutAfter(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if len(c.subscribed[""])+len(c.subscribed["p"])+len(c.subscribed["s"]) == 0 {
			continue
		}
		msg := append([]byte(nil), push("message", "nowhere", strings.Repeat("x", n))[:n]...)
		_, _ = c.Write(msg)
		s.closeLocked(c)
	}
}

// LoseAnswer makes the server execute the next n publishes, and close their connections without
// an answer.
func (s *Server) LoseAnswer(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.losing = n
}

// Deafen makes the server answer commands and deliver no messages, as a former master does.
func (s *Server) Deafen(deaf bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deaf = deaf
}

// Freeze makes the server silent without closing anything, as SIGSTOP does.
func (s *Server) Freeze(frozen bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.frozen = frozen
	s.thawed.Broadcast()
}

// Message is something that a client has published.
type Message struct{ Channel, Text string }

// Published is what clients have published, in order.
func (s *Server) Published() []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.said)
}

// Commands is how often a command was called, such as "PUBLISH".
func (s *Server) Commands(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.commands[name]
}

// Ended is the commands with which clients have ended subscriptions, in order.
func (s *Server) Ended() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.ended)
}

// Publish publishes as a client does that is not under test.
func (s *Server) Publish(channel, msg string) (receivers int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.publishLocked(channel, msg) + s.deliverLocked("s", "smessage", channel, msg)
}

// Subscribers counts the subscribers of a channel, by name alone.
func (s *Server) Subscribers(channel string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.countLocked("", channel) + s.countLocked("s", channel)
}

func (s *Server) countLocked(kind, channel string) (n int) {
	for c := range s.conns {
		if c.subscribed[kind][channel] {
			n++
		}
	}
	return n
}

func (s *Server) accept(l net.Listener) {
	defer s.handlers.Done()
	for {
		nc, err := l.Accept()
		if err != nil {
			return
		}
		c := &conn{Conn: nc, subscribed: map[string]map[string]bool{"": {}, "p": {}, "s": {}}, wake: sync.NewCond(&s.mu)}
		s.mu.Lock()
		s.conns[c] = true
		s.mu.Unlock()
		s.handlers.Add(2)
		go s.read(c)
		go s.write(c)
	}
}

func (s *Server) closeLocked(c *conn) {
	c.closed = true
	c.wake.Broadcast()
	_ = c.Close()
	delete(s.conns, c)
}

func (s *Server) write(c *conn) {
	defer s.handlers.Done()
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		for len(c.out) == 0 && !c.closed {
			c.wake.Wait()
		}
		for s.frozen && !c.closed {
			s.thawed.Wait()
		}
		if c.closed {
			return
		}
		out := c.out
		c.out = nil
		s.mu.Unlock()
		_, err := c.Write(out)
		s.mu.Lock()
		if err != nil {
			return
		}
	}
}

func (s *Server) read(c *conn) {
	defer s.handlers.Done()
	r := bufio.NewReader(c)
	for {
		args, err := command(r)
		s.mu.Lock()
		for s.frozen && !c.closed && err == nil {
			s.thawed.Wait()
		}
		if err != nil {
			s.closeLocked(c)
			s.mu.Unlock()
			return
		}
		if c.closed { // as Redis drops what a client that it kills has still sent
			s.mu.Unlock()
			return
		}
		s.commands[strings.ToUpper(args[0])]++
		s.handleLocked(c, args)
		if strings.HasSuffix(strings.ToUpper(args[0]), "PUBLISH") && s.losing > 0 {
			s.losing--
			s.closeLocked(c)
		}
		c.wake.Broadcast()
		s.mu.Unlock()
	}
}

var errProtocol = errors.New("not a command")

func command(r *bufio.Reader) ([]string, error) {
	n, err := number(r, '*')
	if err != nil || n < 1 {
		return nil, errors.Join(err, errProtocol)
	}
	args := make([]string, n)
	for i := range args {
		size, err := number(r, '$')
		if err != nil {
			return nil, err
		}
		b := make([]byte, size+2)
		if _, err := io.ReadFull(r, b); err != nil {
			return nil, err
		}
		args[i] = string(b[:size])
	}
	return args, nil
}

func number(r *bufio.Reader, prefix byte) (int, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return 0, err
	}
	if line[0] != prefix {
		return 0, errProtocol
	}
	return strconv.Atoi(strings.TrimRight(line[1:], "\r\n"))
}
