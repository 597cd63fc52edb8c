// Raw clients: plain connections for strangers, for crowds, and for clients that measure
// each heartbeat.

package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/rodando/realtime"
)

// rawTimeout is how long anything of a raw client may take.
const rawTimeout = 10 * time.Second

// raw is a connection to a node. Only one goroutine uses it, except that another one may
// call send while the first one reads.
type raw struct {
	net.Conn
	in   *bufio.Reader
	from string // its address, as the proxy has it
}

var errRefused = errors.New("refused")

// dialRaw opens a TCP connection.
func dialRaw(n *node, address string) (*raw, error) {
	c, err := net.DialTimeout("tcp", strings.TrimPrefix(n.url, "http://"), rawTimeout)
	if err != nil {
		return nil, err
	}
	return &raw{c, bufio.NewReaderSize(c, 512), address}, nil
}

// webSocket opens a websocket.
func webSocket(n *node, address string) (*raw, error) {
	c, err := dialRaw(n, address)
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Now().Add(rawTimeout))
	res, err := c.request(http.MethodGet, "websocket", "Connection: Upgrade\r\nUpgrade: websocket\r\n"+ //nolint:bodyclose // the connection is closed instead
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "")
	if err == nil && res.StatusCode != http.StatusSwitchingProtocols {
		err = fmt.Errorf("%w with %d", errRefused, res.StatusCode)
	}
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	_ = c.SetDeadline(time.Time{})
	return c, nil
}

// request sends an HTTP request, whose headers end in CRLF each, and returns the
// answer.
func (c *raw) request(method, query, headers, body string) (*http.Response, error) {
	if err := c.begin(method, query, headers, len(body)); err != nil {
		return nil, err
	}
	if _, err := io.WriteString(c, body); err != nil {
		return nil, err
	}
	return http.ReadResponse(c.in, nil)
}

// begin sends a request's head.
func (c *raw) begin(method, query, headers string, length int) error {
	_, err := fmt.Fprintf(c, "%s %s?EIO=4&transport=%s HTTP/1.1\r\nHost: stress\r\nX-Forwarded-For: %s\r\nContent-Length: %d\r\n%s\r\n",
		method, realtime.Path, query, c.from, length, headers)
	return err
}

// open is a polling session's handshake. It returns the session's id.
func (c *raw) open() (sid string, err error) {
	_ = c.SetDeadline(time.Now().Add(rawTimeout))
	res, err := c.request(http.MethodGet, "polling", "", "") //nolint:bodyclose // the connection is closed instead
	if err != nil {
		return "", err
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<16))
	if err != nil {
		return "", err
	}
	_, rest, found := strings.Cut(string(body), `"sid":"`)
	if res.StatusCode != http.StatusOK || !found {
		return "", fmt.Errorf("%w with %d", errRefused, res.StatusCode)
	}
	sid, _, _ = strings.Cut(rest, `"`)
	return sid, nil
}

// post sends packets on a polling session.
func (c *raw) post(sid, body string) error {
	_ = c.SetDeadline(time.Now().Add(rawTimeout))
	res, err := c.request(http.MethodPost, "polling&sid="+sid, "Content-Type: text/plain\r\n", body) //nolint:bodyclose // the connection is closed instead
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%w with %d", errRefused, res.StatusCode)
	}
	return err
}

// frame returns a client's frame. Its mask is zero.
func frame(opcode byte, payload string) []byte {
	b := []byte{0x80 | opcode}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	return append(append(b, 0, 0, 0, 0), payload...)
}

// send sends text, each string a frame.
func (c *raw) send(packets ...string) error {
	var b []byte
	for _, p := range packets {
		b = append(b, frame(1, p)...)
	}
	_ = c.SetWriteDeadline(time.Now().Add(rawTimeout))
	_, err := c.Write(b)
	return err
}

// read returns the next frame of the server.
func (c *raw) read() (opcode byte, payload []byte, err error) {
	head := make([]byte, 2, 8)
	if _, err := io.ReadFull(c.in, head); err != nil {
		return 0, nil, err
	}
	n := int(head[1] & 0x7f)
	if more := map[int]int{126: 2, 127: 8}[n]; more > 0 {
		wide := make([]byte, 8)
		if _, err := io.ReadFull(c.in, wide[8-more:]); err != nil {
			return 0, nil, err
		}
		n = int(binary.BigEndian.Uint64(wide))
	}
	if n < 0 || n > 1<<24 {
		return 0, nil, fmt.Errorf("a frame of %d bytes", n)
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(c.in, payload)
	return head[0] & 0x0f, payload, err
}

// connectPacket is a CONNECT with a token.
func connectPacket(namespace, token string) string {
	return fmt.Sprintf(`40%s,{"token":%q}`, namespace, token)
}

// until reads up to a text frame with that prefix, and answers heartbeats.
func (c *raw) until(prefix string) error {
	for {
		opcode, payload, err := c.read()
		switch {
		case err != nil:
			return err
		case opcode == 8:
			return io.EOF
		case opcode != 1:
		case strings.HasPrefix(string(payload), prefix):
			return nil
		case string(payload) == "2":
			if err := c.send("3"); err != nil {
				return err
			}
		}
	}
}

// newCanary returns a function that makes one round trip over loopback, to an idle
// server. It measures the machine.
func newCanary() (roundTrip, end func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer cancel()
		c, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = io.Copy(c, c) // until the other end closes
		_ = c.Close()
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return nil, nil, errors.Join(err, l.Close())
	}
	b := make([]byte, 1)
	return func() {
			_, _ = c.Write(b) // both ends are ours
			_, _ = io.ReadFull(c, b)
		}, func() {
			_ = c.Close()
			_ = l.Close()
			<-ctx.Done()
		}, nil
}
