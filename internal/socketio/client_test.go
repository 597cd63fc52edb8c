// The helpers of the tests: a server, and clients that talk to it over in-memory
// connections, so that a test in a synctest bubble controls its time.

package socketio

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/engineio"
	"github.com/rodando/realtime/internal/testkit"
	"github.com/rodando/realtime/internal/timingwheel"
)

// server is a Server behind an http.Server. The test makes its namespaces; fill
// completes their hooks.
type server struct {
	t       *testing.T
	sio     *Server
	dialer  func(ctx context.Context, network, addr string) (net.Conn, error)
	opened  chan *Socket // by the Connect hook of fill
	reasons *log         // of Disconnect, "<namespace> <reason>"
	live    atomic.Int64 // sockets opened and not yet disconnected
}

func serve(t *testing.T, adjust ...func(*Config, *engineio.Config)) *server {
	t.Helper()
	ln := testkit.NewPipeListener()
	return serveOn(t, ln, ln.DialContext, adjust...)
}

// serveTCP is serve over TCP, which makes the engine use epoll. Its time is real.
func serveTCP(t *testing.T, adjust ...func(*Config, *engineio.Config)) *server {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return serveOn(t, ln, func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", ln.Addr().String())
	}, adjust...)
}

func serveOn(t *testing.T, ln net.Listener, dialer func(context.Context, string, string) (net.Conn, error),
	adjust ...func(*Config, *engineio.Config),
) *server {
	t.Helper()
	w := timingwheel.New(time.Millisecond)
	sc := Config{
		Limits:          Limits{Attachments: 10, Depth: 32, Values: 2000, EventName: 64, Namespace: 64},
		AttachmentBytes: 1e5,
		ConnectTimeout:  15 * time.Second,
		QueuedEvents:    100,
		QueuedBytes:     1e6,
		Namespaces:      10,
		PendingAcks:     1000,
		Wheel:           w,
		Accept:          func(r *http.Request, _ int) (any, *engineio.Busy) { return r.Header.Get("X-Test"), nil },
		Closed:          func(any) {},
	}
	ec := engineio.Config{
		PingInterval:      25 * time.Second,
		PingTimeout:       20 * time.Second,
		UpgradeTimeout:    10 * time.Second,
		CloseTimeout:      time.Second,
		WriteTimeout:      10 * time.Second,
		MaxPayload:        1e5,
		MaxPackets:        1000,
		MaxOutboxBytes:    1e7,
		MaxOutboxMessages: 10_000,
		Wheel:             w,
	}
	for _, f := range adjust {
		f(&sc, &ec)
	}
	s := &server{t: t, dialer: dialer, opened: make(chan *Socket, 1000), reasons: &log{}}
	sc.Engine = ec
	s.sio = New(sc)
	hs := &http.Server{Handler: s.sio}
	var serving sync.WaitGroup
	serving.Go(func() { _ = hs.Serve(ln) })
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		require.NoError(t, s.sio.Shutdown(ctx))
		s.sio.Wait()
		w.Close()
		require.NoError(t, hs.Close())
		serving.Wait()
		require.Zero(t, s.live.Load(), "a socket without its Disconnect hook")
		for _, n := range s.sio.namespaces {
			requireEmpty(t, n)
		}
	})
	return s
}

// fill completes hooks: every client is admitted, into the room "all", and opened.
func (s *server) fill(h Hooks) Hooks {
	if h.Connect == nil {
		h.Connect = func(sock *Socket, _ []byte) {
			if sock.Admit("all") && sock.Open() {
				s.opened <- sock
			}
		}
	}
	connect := h.Connect
	h.Connect = func(sock *Socket, payload []byte) {
		connect(sock, payload)
		sock.mu.Lock()
		if sock.state.Load() == socketOpen || sock.disconnectDue {
			s.live.Add(1)
		}
		sock.mu.Unlock()
	}
	if h.Event == nil {
		h.Event = func(*Socket, *Event) {}
	}
	disconnect := h.Disconnect
	h.Disconnect = func(sock *Socket, reason string) {
		s.live.Add(-1)
		s.reasons.addf("%s %s", sock.Namespace().Name(), reason)
		if disconnect != nil {
			disconnect(sock, reason)
		}
	}
	if h.Room == nil {
		h.Room = func(string) {}
	}
	return h
}

func (s *server) namespace(name string, h Hooks) *Namespace {
	return s.sio.Namespace(name, s.fill(h))
}

// requireEmpty checks that a namespace has no socket and no room.
func requireEmpty(t *testing.T, n *Namespace) {
	t.Helper()
	require.Zero(t, n.Len())
	for i := range n.shard {
		require.Empty(t, n.shard[i].rooms)
		require.Empty(t, n.shard[i].sockets)
	}
}

// log is a list of lines that several goroutines write.
type log struct {
	mu    sync.Mutex // guards the fields below
	lines []string
}

func (l *log) addf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprintf(format, args...))
}

// take waits until all goroutines are blocked, and returns the lines.
func (l *log) take() []string {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := l.lines
	l.lines = nil
	return lines
}

// packet is one Engine.IO message that a client received.
type packet struct {
	data   string
	binary bool
}

// client is one connection. Only the test's goroutine calls its methods, except those
// that send.
type client struct {
	t      *testing.T
	in     chan packet
	closed chan struct{}
	status ws.StatusCode // of the close frame; set before closed is closed
	silent atomic.Bool   // does not answer pings
	sid    string        // of the engine's session; set before the first packet
	read   chan struct{} // holds a token; a test that takes it stops the reading

	post func(payload string) bool // polling; reports whether the status was 200
	conn net.Conn                  // websocket
}

const transports = "websocket polling"

// each runs a test on every transport.
func each(t *testing.T, f func(t *testing.T, transport string)) {
	t.Helper()
	t.Parallel()
	for transport := range strings.FieldsSeq(transports) {
		t.Run(transport, func(t *testing.T) {
			testkit.Bubble(t, func(t *testing.T) { f(t, transport) })
		})
	}
}

// dial opens a connection.
func (s *server) dial(transport string) *client {
	s.t.Helper()
	c := &client{t: s.t, in: make(chan packet, 4096), closed: make(chan struct{}), read: make(chan struct{}, 1)}
	c.read <- struct{}{}
	switch transport {
	case "websocket":
		c.dialWebSocket(s, "4")
	case "EIO3 websocket":
		c.dialWebSocket(s, "3")
	default:
		c.dialPolling(s)
	}
	return c
}

// join opens a connection and a socket in each of the namespaces.
func (s *server) join(transport string, namespaces ...string) (*client, []*Socket) {
	s.t.Helper()
	c := s.dial(transport)
	var sockets []*Socket
	for _, n := range namespaces {
		sockets = append(sockets, s.enter(c, n))
	}
	return c, sockets
}

// enter opens a socket on a connection.
func (s *server) enter(c *client, namespace string) *Socket {
	s.t.Helper()
	c.text("0" + prefix(namespace))
	sock := <-s.opened
	c.expect1(`0` + prefix(namespace) + `{"sid":"` + sock.ID() + `"}`)
	return sock
}

// prefix returns the text that names a namespace in a packet.
func prefix(namespace string) string {
	if namespace == "/" {
		return ""
	}
	return namespace + ","
}

func (c *client) dialWebSocket(s *server, protocol string) {
	d := ws.Dialer{NetDial: s.dialer}
	conn, br, _, err := d.Dial(context.Background(), "ws://test/socket.io/?transport=websocket&EIO="+protocol)
	require.NoError(c.t, err)
	c.conn = conn
	rw := io.ReadWriter(conn)
	if br != nil {
		rw = struct {
			io.Reader
			io.Writer
		}{br, conn}
	}
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(c.closed)
		defer func() { _ = conn.Close() }()
		for {
			data, op, err := wsutil.ReadServerData(rw)
			if err != nil {
				var end wsutil.ClosedError
				errors.As(err, &end)
				c.status = end.Code
				return
			}
			c.read <- <-c.read
			if c.receive(string(data), op == ws.OpBinary) {
				c.write(ws.OpText, "3")
			}
		}
	})
	c.t.Cleanup(func() {
		_ = conn.Close()
		reading.Wait()
	})
}

// receive handles one Engine.IO packet and reports whether the client must send a pong.
func (c *client) receive(data string, binary bool) bool {
	switch {
	case binary:
		c.in <- packet{data, true}
	case data[0] == '0':
		c.sid = sidOf(data)
	case data[0] == '4':
		c.in <- packet{data[1:], false}
	case data == "2":
		return !c.silent.Load()
	}
	return false
}

func (c *client) dialPolling(s *server) {
	tr := &http.Transport{DialContext: s.dialer, DisableCompression: true}
	hc := &http.Client{Transport: tr}
	url := "http://test/socket.io/?EIO=4&transport=polling"
	ctx, cancel := context.WithCancel(context.Background())
	do := func(method, body string) (string, bool) {
		r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
		require.NoError(c.t, err)
		res, err := hc.Do(r)
		if err != nil {
			return "", false
		}
		defer func() { _ = res.Body.Close() }()
		b, err := io.ReadAll(res.Body)
		return string(b), err == nil && res.StatusCode == http.StatusOK
	}
	open, ok := do(http.MethodGet, "")
	require.True(c.t, ok)
	c.sid = sidOf(open)
	url += "&sid=" + c.sid
	posting := make(chan struct{}, 1) // one at a time
	c.post = func(payload string) bool {
		posting <- struct{}{}
		defer func() { <-posting }()
		_, ok := do(http.MethodPost, payload)
		return ok
	}
	var polling sync.WaitGroup
	polling.Go(func() {
		defer close(c.closed)
		for {
			body, ok := do(http.MethodGet, "")
			if !ok {
				return
			}
			c.read <- <-c.read
			for data := range strings.SplitSeq(body, "\x1e") {
				if data == "1" {
					return
				}
				if data[0] == 'b' {
					b, err := base64.StdEncoding.DecodeString(data[1:])
					if err != nil {
						return
					}
					c.receive(string(b), true)
				} else if c.receive(data, false) {
					c.post("3")
				}
			}
		}
	})
	c.t.Cleanup(func() {
		c.post("1") // a server that is shut down waits for a client that has just polled
		cancel()
		polling.Wait()
		tr.CloseIdleConnections()
	})
}

// text sends Socket.IO packets, one message each.
func (c *client) text(packets ...string) {
	c.t.Helper()
	if c.conn == nil {
		c.post("4" + strings.Join(packets, "\x1e4"))
		return
	}
	for _, p := range packets {
		c.write(ws.OpText, "4"+p)
	}
}

// binary sends an attachment.
func (c *client) binary(data ...string) {
	c.t.Helper()
	for _, d := range data {
		if c.conn == nil {
			c.post("b" + base64.StdEncoding.EncodeToString([]byte(d)))
		} else {
			c.write(ws.OpBinary, d)
		}
	}
}

// next returns the next packet.
func (c *client) next() packet {
	c.t.Helper()
	select {
	case p := <-c.in:
		return p
	case <-time.After(20 * time.Second):
		require.Fail(c.t, "nothing arrived")
	}
	return packet{}
}

// expect1 reads one packet, which must be this text.
func (c *client) expect1(text string) {
	c.t.Helper()
	require.Equal(c.t, packet{text, false}, c.next())
}

// expect reads packets, which must be these texts in order, and no more.
func (c *client) expect(texts ...string) {
	c.t.Helper()
	for _, want := range texts {
		c.expect1(want)
	}
	c.expectNone()
}

func (c *client) expectBinary(data ...string) {
	c.t.Helper()
	for _, want := range data {
		require.Equal(c.t, packet{want, true}, c.next())
	}
}

func (c *client) expectNone() {
	c.t.Helper()
	synctest.Wait()
	select {
	case p := <-c.in:
		require.Fail(c.t, "unexpected", "%+v", p)
	default:
	}
}

// isClosedSoon is isClosed once a close by the server has had its time.
func (c *client) isClosedSoon() bool {
	time.Sleep(1100 * time.Millisecond)
	return c.isClosed()
}

// isClosed waits until all goroutines are blocked, and reports whether the connection
// is closed.
func (c *client) isClosed() bool {
	synctest.Wait()
	select {
	case <-c.closed:
		return true
	default:
		return false
	}
}

// events returns hooks that log events as "<name> <args>".
func events(l *log) Hooks {
	return Hooks{Event: func(_ *Socket, e *Event) { l.addf("%s %s", e.Name, bytes.Join(e.Args, []byte(" "))) }}
}

func msg(namespace, name string, args ...string) *engineio.Message {
	var raw [][]byte
	for _, a := range args {
		raw = append(raw, []byte(a))
	}
	return EventMessage(namespace, NoID, name, raw...)
}

// raw sends an Engine.IO packet on a websocket.
func (c *client) raw(text string) { c.write(ws.OpText, text) }

// write sends a frame in one write, since the test, what it has begun and the pongs may
// write at once. The server may have closed the connection.
func (c *client) write(op ws.OpCode, data string) {
	_, _ = c.conn.Write(ws.MustCompileFrame(ws.MaskFrameInPlace(ws.NewFrame(op, true, []byte(data)))))
}

// sidOf returns the session id in an open packet.
func sidOf(open string) string {
	_, sid, _ := strings.Cut(open, `"sid":"`)
	sid, _, _ = strings.Cut(sid, `"`)
	return sid
}
