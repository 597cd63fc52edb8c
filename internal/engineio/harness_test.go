// A server under test, reached over each kind of connection, and two clients that speak
// the protocol byte by byte.

package engineio_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/engineio"
	"github.com/rodando/realtime/internal/testkit"
	"github.com/rodando/realtime/internal/timingwheel"
)

// patience is how long a test waits for something that must happen.
const patience = 10 * time.Second

// carrier is a kind of connection below HTTP.
type carrier struct {
	name string
	wrap func(net.Listener) net.Listener
}

// The kinds of connection. On Linux the first one uses epoll.
var (
	tcp    = carrier{"tcp", func(l net.Listener) net.Listener { return l }}
	hidden = carrier{"wrapped", func(l net.Listener) net.Listener { return hidingListener{l} }}
	secure = carrier{"tls", func(l net.Listener) net.Listener { return tls.NewListener(l, certificate()) }}
)

// onEach runs a test over each kind of connection.
func onEach(t *testing.T, f func(t *testing.T, c carrier)) {
	t.Parallel()
	for _, c := range []carrier{tcp, hidden, secure} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f(t, c)
		})
	}
}

// certificate is the certificate of httptest, which a server makes when it starts.
var certificate = sync.OnceValue(func() *tls.Config {
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	return &tls.Config{Certificates: s.TLS.Certificates}
})

// hidingListener hides from the server that its connections are TCP.
type hidingListener struct{ net.Listener }

func (l hidingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return hidingConn{c}, nil
}

type hidingConn struct{ net.Conn }

func (c hidingConn) CloseWrite() error { return c.Conn.(*net.TCPConn).CloseWrite() }

// bufferListener sets the size of the kernel's send buffers.
type bufferListener struct {
	net.Listener
	size int
}

func (l bufferListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil && l.size > 0 {
		err = c.(*net.TCPConn).SetWriteBuffer(l.size)
	}
	return c, err
}

// server is an Engine.IO server with its http.Server and a client.
type server struct {
	*engineio.Server
	t     testing.TB
	host  *http.Server
	http  *http.Client
	dial  func() (net.Conn, error)
	wheel *timingwheel.Wheel

	sessions chan *handler // the handler of each new session
	handling atomic.Int32  // requests that are being handled
}

// setup is what a test may change before a server starts.
type setup struct {
	engine engineio.Config
	host   http.Server
	// message is called for each message; nil: echo it.
	message func(h *handler, data []byte, binary bool) error
	serve   func(h *handler)
	// admit returns the reason to refuse a request; nil: admit all.
	admit func(r *http.Request) *engineio.Busy
	// wrap is what a middleware of the host's makes of a ResponseWriter; nil: nothing.
	wrap func(http.ResponseWriter) http.ResponseWriter
	// sendBuffer is the size of the kernel's send buffer of each connection; 0: the
	// default.
	sendBuffer int
}

// handler is a session's handler that records the session's end.
type handler struct {
	*engineio.Session
	set    *setup
	in     chan message
	closed chan engineio.Reason
}

type message struct {
	data   string
	binary bool
}

func (h *handler) Message(data []byte, binary bool) error {
	if h.set.message != nil {
		return h.set.message(h, data, binary)
	}
	h.echo(data, binary)
	return nil
}

func (h *handler) echo(data []byte, binary bool) {
	if binary {
		h.Send(engineio.BinaryMessage(data))
	} else {
		h.Send(text(string(data)))
	}
}

// record keeps a message for the test to read.
func (h *handler) record(data []byte, binary bool) error {
	h.in <- message{string(data), binary}
	return nil
}

func (h *handler) Serve() {
	if h.set.serve != nil {
		h.set.serve(h)
	}
}

func (h *handler) Opened() {}

func (h *handler) Closed(reason engineio.Reason) { h.closed <- reason }

// ended waits for the end of the session and returns the reason.
func (h *handler) ended(t testing.TB) engineio.Reason {
	t.Helper()
	return receive(t, h.closed)
}

// text makes a text message.
func text(s string) *engineio.Message {
	return engineio.TextMessage(append(engineio.TextBuffer(len(s)), s...))
}

// receive receives a value that must come from a channel.
func receive[T any](t testing.TB, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		require.FailNow(t, "nothing came in time")
		panic("unreachable")
	}
}

func defaults(tick time.Duration) *setup {
	return &setup{engine: engineio.Config{
		PingInterval:      25 * time.Second,
		PingTimeout:       20 * time.Second,
		UpgradeTimeout:    10 * time.Second,
		CloseTimeout:      time.Second,
		WriteTimeout:      10 * time.Second,
		MaxPayload:        1_000_000,
		MaxPackets:        1000,
		MaxOutboxBytes:    8 << 20,
		MaxOutboxMessages: 10_000,
		Wheel:             timingwheel.New(tick),
	}}
}

// start starts a server on loopback connections of a kind.
func start(t testing.TB, c carrier, change ...func(*setup)) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := l.Addr().String()
	set := defaults(2 * time.Millisecond)
	for _, f := range change {
		f(set)
	}
	return serve(t, set, c.wrap(bufferListener{l, set.sendBuffer}), func() (net.Conn, error) {
		conn, err := net.Dial("tcp", addr)
		if err != nil || c.name != secure.name {
			return conn, err
		}
		return tls.Client(conn, &tls.Config{InsecureSkipVerify: true}), nil
	})
}

// startInMemory starts a server on pipes, for use inside a synctest bubble.
func startInMemory(t testing.TB, change ...func(*setup)) *server {
	t.Helper()
	l := testkit.NewPipeListener()
	set := defaults(50 * time.Millisecond)
	for _, f := range change {
		f(set)
	}
	return serve(t, set, l, func() (net.Conn, error) { return l.DialContext(context.Background(), "", "") })
}

func serve(t testing.TB, set *setup, l net.Listener, dial func() (net.Conn, error)) *server {
	s := &server{t: t, dial: dial, wheel: set.engine.Wheel, sessions: make(chan *handler, 10_000)}
	set.engine.Accept = func(es *engineio.Session, r *http.Request) (engineio.Handler, *engineio.Busy) {
		if set.admit != nil {
			if busy := set.admit(r); busy != nil {
				return nil, busy
			}
		}
		h := &handler{Session: es, set: set, in: make(chan message, 10_000), closed: make(chan engineio.Reason, 2)}
		s.sessions <- h
		return h, nil
	}
	s.Server = engineio.NewServer(set.engine)
	if set.host.Handler == nil {
		set.host.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.handling.Add(1)
			defer s.handling.Add(-1)
			if set.wrap != nil {
				w = set.wrap(w)
			}
			s.ServeHTTP(w, r)
		})
	}
	s.host = &set.host
	s.host.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0) // tests break off handshakes on purpose
	transport := &http.Transport{
		DialContext:        func(context.Context, string, string) (net.Conn, error) { return dial() },
		DisableCompression: true,
		MaxIdleConns:       4,
	}
	s.http = &http.Client{Transport: transport}
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.host.Serve(l) })
	t.Cleanup(func() {
		// Do not wait for polling clients that no longer exist.
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		defer cancel()
		_ = s.Shutdown(ctx)
		transport.CloseIdleConnections()
		_ = s.host.Close()
		serving.Wait()
		s.wheel.Close()
	})
	return s
}

// over returns a ctx whose time is over: no client can have read the end by then, however busy the machine is.
func over(t *testing.T) context.Context {
	ctx, cancel := context.WithDeadline(t.Context(), time.Now())
	t.Cleanup(cancel)
	return ctx
}

// shutdown calls Shutdown, which may not return.
func (s *server) shutdown(ctx context.Context) <-chan error {
	done := make(chan error, 1)
	go func() { done <- s.Shutdown(ctx) }()
	return done
}

// request makes a polling request and returns status and body.
func (s *server) request(ctx context.Context, method, query string, body io.Reader) (int, string, error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://engine.test/?"+query, body)
	if err != nil {
		return 0, "", err
	}
	resp, err := s.http.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// problem returns the body of a refusal.
func problem(code int, message string) string {
	return fmt.Sprintf(`{"code":%d,"message":"%s"}`, code, message)
}

var (
	unknownTransport = problem(0, "Transport unknown")
	unknownSession   = problem(1, "Session ID unknown")
	badMethod        = problem(2, "Bad handshake method")
	badRequest       = problem(3, "Bad request")
	badVersion       = problem(5, "Unsupported protocol version")
)

// opened is the content of an open packet.
type opened struct {
	SID          string   `json:"sid"`
	Upgrades     []string `json:"upgrades"`
	PingInterval int      `json:"pingInterval"`
	PingTimeout  int      `json:"pingTimeout"`
	MaxPayload   int      `json:"maxPayload"`
}

func parseOpen(t testing.TB, packet string) opened {
	t.Helper()
	require.True(t, strings.HasPrefix(packet, "0{"), packet)
	var o opened
	require.NoError(t, json.Unmarshal([]byte(packet[1:]), &o))
	return o
}

// handler returns the handler of a session, and drops the handlers of earlier ones.
func (s *server) handler(sid string) *handler {
	s.t.Helper()
	for {
		if h := receive(s.t, s.sessions); h.ID() == sid {
			return h
		}
	}
}

// poller is a client on long-polling.
type poller struct {
	s   *server
	sid string
	h   *handler
}

func (s *server) polling() *poller {
	s.t.Helper()
	return s.pollingWith("EIO=4")
}

// pollingWith opens a session on long-polling with a query.
func (s *server) pollingWith(query string) *poller {
	s.t.Helper()
	status, body, err := s.request(context.Background(), http.MethodGet, query+"&transport=polling", nil)
	require.NoError(s.t, err)
	require.Equal(s.t, http.StatusOK, status)
	sid := parseOpen(s.t, body).SID
	return &poller{s: s, sid: sid, h: s.handler(sid)}
}

func (p *poller) query() string { return "EIO=4&transport=polling&sid=" + p.sid }

// poll makes one poll.
func (p *poller) poll() (int, string) {
	p.s.t.Helper()
	status, body, err := p.s.request(context.Background(), http.MethodGet, p.query(), nil)
	require.NoError(p.s.t, err)
	return status, body
}

// expect polls until it has these packets.
func (p *poller) expect(packets ...string) {
	p.s.t.Helper()
	var got []string
	for len(got) < len(packets) {
		status, body := p.poll()
		require.Equal(p.s.t, http.StatusOK, status, body)
		got = append(got, strings.Split(body, "\x1e")...)
	}
	require.Equal(p.s.t, packets, got)
}

// expectGone makes a poll, which finds that the server has closed the session.
func (p *poller) expectGone() {
	p.s.t.Helper()
	status, body := p.poll()
	require.Equal(p.s.t, unknownSession, body)
	require.Equal(p.s.t, http.StatusBadRequest, status)
}

// answer is the result of a request.
type answer struct {
	status int
	body   string
	err    error
}

// start starts a poll and does not wait for it.
func (p *poller) start(ctx context.Context) <-chan answer {
	c := make(chan answer, 1)
	go func() {
		status, body, err := p.s.request(ctx, http.MethodGet, p.query(), nil)
		c <- answer{status, body, err}
	}()
	return c
}

// open starts a poll and waits until the server holds it.
func (p *poller) open() <-chan answer {
	p.s.t.Helper()
	c := p.start(context.Background())
	testkit.Eventually(p.s.t, "the poll is not open", p.h.Polled)
	return c
}

func (p *poller) post(body string) (int, string) {
	p.s.t.Helper()
	status, got, err := p.s.request(context.Background(), http.MethodPost, p.query(), strings.NewReader(body))
	require.NoError(p.s.t, err)
	return status, got
}

func (p *poller) postOK(body string) {
	p.s.t.Helper()
	status, got := p.post(body)
	require.Equal(p.s.t, "ok", got)
	require.Equal(p.s.t, http.StatusOK, status)
}

// expectUnknown checks that the server no longer knows the session.
func (p *poller) expectUnknown() {
	p.s.t.Helper()
	status, body := p.post("4x")
	require.Equal(p.s.t, http.StatusBadRequest, status)
	require.Equal(p.s.t, unknownSession, body)
}

// Websocket opcodes.
const (
	opContinuation = 0
	opText         = 1
	opBinary       = 2
	opClose        = 8
	opPing         = 9
	opPong         = 10
)

// wsClient is a client on a websocket.
type wsClient struct {
	t    testing.TB
	conn net.Conn
	in   *bufio.Reader
	sid  string
	h    *handler
}

// handshake returns the request of a websocket handshake.
func handshake(query string) string {
	return "GET /?" + query + " HTTP/1.1\r\nHost: engine.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
}

// dialWebSocket opens a websocket, or returns the answer that refuses it.
func (s *server) dialWebSocket(query string) (*wsClient, *http.Response) {
	s.t.Helper()
	conn, err := s.dial()
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = conn.Close() })
	_, err = io.WriteString(conn, handshake(query))
	require.NoError(s.t, err)
	c := &wsClient{t: s.t, conn: conn, in: bufio.NewReader(conn)}
	resp, err := http.ReadResponse(c.in, nil)
	require.NoError(s.t, err)
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return nil, resp
	}
	require.Equal(s.t, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", resp.Header.Get("Sec-WebSocket-Accept"))
	return c, resp
}

// websocket opens a session on a websocket.
func (s *server) websocket() *wsClient {
	s.t.Helper()
	c, resp := s.dialWebSocket("EIO=4&transport=websocket")
	require.NotNil(s.t, c, resp.Status)
	c.sid = parseOpen(s.t, c.text()).SID
	c.h = s.handler(c.sid)
	return c
}

// frameBytes returns a masked frame; first is its first byte.
func frameBytes(first byte, payload string) []byte {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n <= 0xffff:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	mask := []byte{0x12, 0x34, 0x56, 0x78}
	b = append(b, mask...)
	for i := range len(payload) {
		b = append(b, payload[i]^mask[i%4])
	}
	return b
}

func (c *wsClient) write(b []byte) {
	c.t.Helper()
	_, err := c.conn.Write(b)
	require.NoError(c.t, err)
}

func (c *wsClient) send(packets ...string) {
	c.t.Helper()
	var b []byte
	for _, p := range packets {
		b = append(b, frameBytes(0x80|opText, p)...)
	}
	c.write(b)
}

func (c *wsClient) sendBinary(data string) {
	c.t.Helper()
	c.write(frameBytes(0x80|opBinary, data))
}

// frame reads one frame, which a server sends unmasked and unfragmented.
func (c *wsClient) frame() (op byte, payload []byte, err error) {
	_ = c.conn.SetReadDeadline(time.Now().Add(patience))
	var h [2]byte
	if _, err := io.ReadFull(c.in, h[:]); err != nil {
		return 0, nil, err
	}
	if h[0]&0xf0 != 0x80 || h[1]&0x80 != 0 {
		return 0, nil, fmt.Errorf("not a server's frame: %x", h)
	}
	n := uint64(h[1])
	switch n {
	case 126:
		var l uint16
		err = binary.Read(c.in, binary.BigEndian, &l)
		n = uint64(l)
	case 127:
		err = binary.Read(c.in, binary.BigEndian, &n)
	}
	if err != nil {
		return 0, nil, err
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(c.in, payload)
	return h[0] & 0xf, payload, err
}

// text reads a text frame.
func (c *wsClient) text() string {
	c.t.Helper()
	op, payload, err := c.frame()
	require.NoError(c.t, err)
	require.EqualValues(c.t, opText, op, string(payload))
	return string(payload)
}

// expect reads text frames, which must be these.
func (c *wsClient) expect(packets ...string) {
	c.t.Helper()
	for _, p := range packets {
		require.Equal(c.t, p, c.text())
	}
}

func (c *wsClient) expectBinary(data string) {
	c.t.Helper()
	op, payload, err := c.frame()
	require.NoError(c.t, err)
	require.EqualValues(c.t, opBinary, op)
	require.Equal(c.t, data, string(payload))
}

// expectClose reads a close frame with a status, and the end of the stream.
func (c *wsClient) expectClose(status int) {
	c.t.Helper()
	op, payload, err := c.frame()
	require.NoError(c.t, err)
	require.EqualValues(c.t, opClose, op, string(payload))
	require.Len(c.t, payload, 2)
	require.EqualValues(c.t, status, binary.BigEndian.Uint16(payload))
	c.expectEOF()
}

// expectEOF reads the orderly end of the stream. The end of a pipe is never orderly.
func (c *wsClient) expectEOF() {
	c.t.Helper()
	_ = c.conn.SetReadDeadline(time.Now().Add(patience))
	b, err := io.ReadAll(c.in)
	require.NoError(c.t, err)
	require.Empty(c.t, b)
}

// expectCut reads the end of the stream, orderly or not.
func (c *wsClient) expectCut() {
	c.t.Helper()
	_ = c.conn.SetReadDeadline(time.Now().Add(patience))
	b, err := io.ReadAll(c.in)
	require.False(c.t, errors.Is(err, context.DeadlineExceeded) || isTimeout(err), "the connection lives on")
	require.Empty(c.t, b)
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// upgrade upgrades a polling session to a websocket, while no poll is open.
func (p *poller) upgrade() *wsClient {
	p.s.t.Helper()
	c := p.probe()
	c.send("5")
	testkit.Eventually(p.s.t, "not upgraded", func() bool { return p.h.Transport() == "websocket" })
	return c
}

// probe opens a websocket for a polling session, sends the probe and reads its answer.
func (p *poller) probe() *wsClient {
	p.s.t.Helper()
	c, resp := p.s.dialWebSocket("EIO=4&transport=websocket&sid=" + p.sid)
	require.NotNil(p.s.t, c, resp.Status)
	c.send("2probe")
	c.expect("3probe")
	c.sid, c.h = p.sid, p.h
	return c
}

// numbered returns n packets with a number each.
func numbered(prefix string, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("%s%d", prefix, i)
	}
	return all
}

// joined returns a polling payload.
func joined(packets ...string) string { return strings.Join(packets, "\x1e") }

// large returns a text of n bytes whose content does not repeat at a power of two.
func large(n int) string {
	return string(bytes.Repeat([]byte("0123456789abcdefghijklmnopqrstuvwxyz-"), n/37+1)[:n])
}

// quiet discards the log lines that a test causes.
func quiet(set *setup) { set.engine.Logger = slog.New(slog.DiscardHandler) }

// skipResponse reads the answer to a handshake that was sent together with frames.
func (c *wsClient) skipResponse() {
	c.t.Helper()
	c.in = bufio.NewReader(c.conn)
	resp, err := http.ReadResponse(c.in, nil)
	require.NoError(c.t, err)
	require.Equal(c.t, http.StatusSwitchingProtocols, resp.StatusCode)
}

// shortClose shortens the close timeouts, for clients that do not close, or do not poll.
func shortClose(set *setup) {
	set.engine.CloseTimeout, set.engine.PingTimeout = 200*time.Millisecond, 200*time.Millisecond
}
