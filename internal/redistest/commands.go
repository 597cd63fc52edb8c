// The commands that a Server understands, and its pub/sub.

package redistest

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"
)

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
