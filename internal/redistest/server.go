// Package redistest holds what the tests of the Redis packages share: a server in memory, a
// redis-server process, a path to either, and a child process. Tests and internal/cmd/stresscluster import it.
//
// The server in memory has pub/sub and a few commands for keys, and fails on demand. As with Redis, every connection
// receives the messages in the order in which they were published, by channel and by pattern.
package redistest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
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

func (c *conn) sayf(format string, args ...any) { c.out = fmt.Appendf(c.out, format, args...) }

func (s *Server) handleLocked(c *conn, args []string) {
	name := strings.ToUpper(args[0])
	sub := ""
	if len(args) > 1 {
		sub = strings.ToUpper(args[1])
	}
	switch name {
	case "HELLO":
		c.sayf("%%3\r\n+server\r\n+redis\r\n+version\r\n+7.0.15\r\n+proto\r\n:3\r\n")
	case "PING":
		c.sayf("+PONG\r\n")
	case "CLIENT", "SELECT":
		c.sayf("+OK\r\n")
	case "CLUSTER":
		c.sayf("-ERR This instance has cluster support disabled\r\n")
	case "SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE":
		kind := strings.ToLower(strings.TrimSuffix(name, "SUBSCRIBE"))
		for _, ch := range args[1:] {
			c.subscribed[kind][ch] = true
			c.out = append(c.out, confirmation(strings.ToLower(name), ch, len(c.subscribed[kind]))...)
		}
	case "UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE":
		s.ended = append(s.ended, strings.Join(args, " "))
		s.unsubscribeLocked(c, strings.ToLower(name), strings.ToLower(strings.TrimSuffix(name, "UNSUBSCRIBE")), args[1:])
	case "PUBLISH":
		s.said = append(s.said, Message{args[1], args[2]})
		c.sayf(":%d\r\n", s.publishLocked(args[1], args[2]))
	case "SPUBLISH":
		s.said = append(s.said, Message{args[1], args[2]})
		c.sayf(":%d\r\n", s.deliverLocked("s", "smessage", args[1], args[2]))
	case "SET": // key value [NX] PX milliseconds
		ms, err := strconv.Atoi(args[len(args)-1])
		onlyNew := len(args) == 6 && strings.EqualFold(args[3], "NX")
		switch {
		case err != nil || len(args) != 5 && !onlyNew:
			c.sayf("-ERR syntax error\r\n")
		case onlyNew && s.valueLocked(args[1]) != "":
			c.sayf("_\r\n")
		default:
			s.keys[args[1]] = stored{args[2], time.Now().Add(time.Duration(ms) * time.Millisecond)}
			c.sayf("+OK\r\n")
		}
	case "GETRANGE": // key 0 end
		value := s.valueLocked(args[1])
		end, err := strconv.Atoi(args[3])
		if err != nil || args[2] != "0" {
			c.sayf("-ERR value is not an integer or out of range\r\n")
			return
		}
		value = value[:min(len(value), end+1)]
		c.sayf("$%d\r\n%s\r\n", len(value), value)
	case "DEL":
		delete(s.keys, args[1])
		c.sayf(":1\r\n")
	case "PUBSUB":
		switch sub {
		case "NUMSUB":
			c.sayf("*2\r\n$%d\r\n%s\r\n:%d\r\n", len(args[2]), args[2], s.countLocked("", args[2]))
		case "SHARDNUMSUB":
			c.sayf("*2\r\n$%d\r\n%s\r\n:%d\r\n", len(args[2]), args[2], s.countLocked("s", args[2]))
		case "CHANNELS":
			found := map[string]bool{}
			for other := range s.conns {
				for ch := range other.subscribed[""] {
					if match(args[2], ch) {
						found[ch] = true
					}
				}
			}
			c.sayf("*%d\r\n", len(found))
			for ch := range found {
				c.sayf("$%d\r\n%s\r\n", len(ch), ch)
			}
		}
	default:
		c.sayf("-ERR unknown command '%s'\r\n", args[0])
	}
}

func (s *Server) unsubscribeLocked(c *conn, reply, kind string, channels []string) {
	if len(channels) == 0 {
		for ch := range c.subscribed[kind] {
			channels = append(channels, ch)
		}
	}
	for _, ch := range channels {
		delete(c.subscribed[kind], ch)
		c.out = append(c.out, confirmation(reply, ch, len(c.subscribed[kind]))...)
	}
	if len(channels) == 0 {
		c.sayf(">3\r\n$%d\r\n%s\r\n_\r\n:0\r\n", len(reply), reply)
	}
}

// Unsubscribe ends all sharded subscriptions, as a slot that moves does.
func (s *Server) Unsubscribe() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		for ch := range c.subscribed["s"] {
			s.unsubscribeLocked(c, "sunsubscribe", "s", []string{ch})
		}
		c.wake.Broadcast()
	}
}

func (s *Server) publishLocked(channel, msg string) int {
	return s.deliverLocked("", "message", channel, msg) + s.deliverLocked("p", "pmessage", channel, msg)
}

func (s *Server) deliverLocked(kind, reply, channel, msg string) (n int) {
	for c := range s.conns {
		for ch := range c.subscribed[kind] {
			var out []byte
			switch {
			case kind == "p" && match(ch, channel):
				out = push(reply, ch, channel, msg)
			case kind != "p" && ch == channel:
				out = push(reply, channel, msg)
			default:
				continue
			}
			n++
			if !s.deaf {
				c.out = append(c.out, out...)
				c.wake.Broadcast()
			}
		}
	}
	return n
}

// valueLocked returns the value of a key, or "".
func (s *Server) valueLocked(key string) string {
	if v := s.keys[key]; time.Now().Before(v.until) {
		return v.value
	}
	return ""
}

func push(parts ...string) []byte {
	b := fmt.Appendf(nil, ">%d\r\n", len(parts))
	for _, p := range parts {
		b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(p), p)
	}
	return b
}

func confirmation(reply, channel string, n int) []byte {
	b := push(reply, channel)
	b = bytes.Replace(b, []byte(">2"), []byte(">3"), 1)
	return fmt.Appendf(b, ":%d\r\n", n)
}

// match is Redis' glob without character classes, which nothing here uses.
func match(pattern, s string) bool {
	for len(pattern) > 0 {
		switch pattern[0] {
		case '*':
			for i := 0; i <= len(s); i++ {
				if match(pattern[1:], s[i:]) {
					return true
				}
			}
			return false
		case '?':
			if s == "" {
				return false
			}
		case '\\':
			if len(pattern) > 1 {
				pattern = pattern[1:]
			}
			fallthrough
		default:
			if s == "" || s[0] != pattern[0] {
				return false
			}
		}
		pattern, s = pattern[1:], s[1:]
	}
	return s == ""
}
