// Helpers of the tests of faults: a server on a real port with a healthy driver and a
// healthy admin, and connections on which a test writes bytes.

package faulttest_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/testkit"
	"github.com/rodando/realtime/realtimetest"
)

// patience is how long a test waits for something that must happen. A loaded machine is
// slow.
const patience = 30 * time.Second

// testServer is a server on a port of the loopback interface. A healthy driver and a
// healthy admin stay connected to it throughout the test.
type testServer struct {
	rt       *realtime.Server
	addr     string
	tokens   *realtimetest.Tokens
	users    *realtimetest.Users
	sessions *realtimetest.Sessions
	driver   *realtimetest.Client
	admin    *realtimetest.Client

	before     int    // goroutines before the server was started
	goroutines int    // with the healthy clients only
	heap       uint64 // with the healthy clients only
	trips      int

	mu           sync.Mutex
	limited      map[realtime.Limit]int
	disconnected map[string]int // reasons of disconnections
	refused      map[realtime.Code]int
	log          bytes.Buffer
}

// newTestServer starts a server, and stops it when the test ends; then no goroutine of
// it may be left. wrap, if not nil, wraps the server's listener.
func newTestServer(t *testing.T, wrap func(net.Listener) net.Listener, configure ...func(o *realtime.Options)) *testServer {
	t.Helper()
	s := &testServer{
		tokens: &realtimetest.Tokens{}, users: &realtimetest.Users{}, sessions: &realtimetest.Sessions{},
		limited: map[realtime.Limit]int{}, disconnected: map[string]int{}, refused: map[realtime.Code]int{},
		before: runtime.NumGoroutine(),
	}
	o := realtime.Options{
		Tokens: s.tokens, Users: s.users, Sessions: s.sessions, Timeouts: realtime.Timeouts{PresenceGrace: -1},
		// The healthy driver sends an event after each row of a table.
		Rates:  realtime.Rates{Events: map[string]realtime.Rate{realtime.DriverStatusUpdate.Name(): {PerSecond: 1000, Burst: 1000}}},
		Logger: slog.New(slog.NewTextHandler(s, nil)),
		Trace: &realtime.Trace{
			Limited: func(_ context.Context, i realtime.LimitInfo) { s.count(func() { s.limited[i.Limit]++ }) },
			Disconnected: func(_ context.Context, i realtime.DisconnectedInfo) {
				s.count(func() { s.disconnected[string(i.Reason)]++ })
			},
			Refused: func(_ context.Context, i realtime.RefusedInfo) { s.count(func() { s.refused[i.Code]++ }) },
		},
	}
	for _, f := range configure {
		f(&o)
	}
	var err error
	s.rt, err = realtime.New(o)
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s.addr = l.Addr().String()
	if wrap != nil {
		l = wrap(l)
	}
	mux := http.NewServeMux()
	mux.Handle(realtime.Path, s.rt)
	srv := &http.Server{Handler: mux, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0), ReadHeaderTimeout: 5 * time.Second}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = srv.Serve(l) // it ends with Close
	}()
	t.Cleanup(func() {
		for _, c := range []*realtimetest.Client{s.driver, s.admin} {
			if c != nil {
				c.Close()
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		require.NoError(t, s.rt.Shutdown(ctx))
		require.NoError(t, srv.Close())
		<-served
		require.True(t, testkit.Within(patience, func() bool { return runtime.NumGoroutine() <= s.before }), "goroutines outlive the server")
	})
	s.driver = s.dial(t, realtime.NamespaceDrivers, "healthy-driver", realtime.UserDriver)
	s.admin = s.dial(t, realtime.NamespaceAdmin, "healthy-admin", realtime.UserAdmin)
	s.requireHealthy(t)
	s.goroutines, s.heap = runtime.NumGoroutine(), heapInUse()
	return s
}

func (s *testServer) count(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// Write records the first megabyte of the server's log.
func (s *testServer) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.log.Len() < 1<<20 {
		s.log.Write(b)
	}
	return len(b), nil
}

func (s *testServer) logged() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

func countOf[K comparable](s *testServer, m map[K]int, key K) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return m[key]
}

func heapInUse() uint64 {
	// Twice: sync.Pool keeps its content over one collection.
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// login creates a user and their session and returns a token.
func (s *testServer) login(user string, typ realtime.UserType) string {
	s.users.Set(realtime.User{ID: user, Type: typ, Active: true})
	s.sessions.Set(realtime.Session{ID: realtimetest.SessionID(user), UserID: user})
	return s.tokens.Mint(user, realtimetest.SessionID(user), time.Hour)
}

func (s *testServer) dial(t *testing.T, namespace, user string, typ realtime.UserType, opts ...realtimetest.Option) *realtimetest.Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := realtimetest.Dial(ctx, "http://"+s.addr, namespace, append(opts, realtimetest.Token(s.login(user, typ)))...)
	require.NoError(t, err)
	c = c.Within(patience)
	realtimetest.Expect(t, c, realtime.EventHello)
	return c
}

// requireHealthy checks that the healthy driver gets their ack, and the healthy admin
// the event.
func (s *testServer) requireHealthy(t *testing.T) {
	t.Helper()
	s.trips++
	trip := "trip-" + strconv.Itoa(s.trips)
	got, err := realtimetest.Call(t.Context(), s.driver, realtime.DriverStatusUpdate, realtime.StatusUpdate{IsOnline: new(s.trips%2 == 0)})
	require.NoError(t, err)
	require.Equal(t, s.trips%2 == 0, got.IsOnline)
	require.Equal(t, s.trips%2 == 0, realtimetest.Expect(t, s.driver, realtime.EventDriverAvailability).IsOnline)
	for {
		seen := realtimetest.Expect(t, s.admin, realtime.EventAdminDriverAvailability)
		if seen.DriverID == "healthy-driver" {
			require.Equal(t, s.trips%2 == 0, seen.IsOnline)
			break
		}
	}
	require.NoError(t, s.rt.Publish(t.Context(), realtime.AssignmentOffered{TripID: trip, AssignmentID: "a-" + trip, DriverID: "healthy-driver", TTLSec: 10}))
	require.Equal(t, trip, realtimetest.Expect(t, s.driver, realtime.EventAssignmentOffered).TripID)
}

// requireNothingLeft checks that goroutines and memory are as before the faults.
func (s *testServer) requireNothingLeft(t *testing.T) {
	t.Helper()
	s.requireAtMostLeft(t, 0)
}

// requireAtMostLeft is requireNothingLeft for a test that itself holds so many bytes.
func (s *testServer) requireAtMostLeft(t *testing.T, held int) {
	t.Helper()
	most := s.heap + 8<<20 + uint64(held)
	// The pool of readers keeps one goroutine for each core.
	limit := s.goroutines + runtime.GOMAXPROCS(0)
	if !testkit.Within(patience, func() bool { return runtime.NumGoroutine() <= limit }) {
		stacks := make([]byte, 1<<20)
		t.Fatalf("%d goroutines, there were %d\n%s", runtime.NumGoroutine(), s.goroutines, stacks[:runtime.Stack(stacks, true)])
	}
	var heap uint64
	testkit.Within(patience, func() bool {
		heap = heapInUse()
		return heap < most
	})
	require.Less(t, heap, most, "bytes in use; there were %d", s.heap)
}

// rawConn is a TCP connection on which a test sends any bytes.
type rawConn struct {
	net.Conn
	t  *testing.T
	in *bufio.Reader
}

func (s *testServer) connect(t *testing.T) *rawConn {
	t.Helper()
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", s.addr)
	require.NoError(t, err)
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	return &rawConn{conn, t, bufio.NewReader(conn)}
}

// send writes. It ignores the error of a connection that the server has closed.
func (l *rawConn) send(b []byte) *rawConn {
	_, _ = l.Write(b)
	return l
}

// reset closes the connection with an RST.
func (l *rawConn) reset() {
	if tcp, ok := l.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = l.Close()
}

// response reads an HTTP response and its body.
func (l *rawConn) response() (status int, body string) {
	l.t.Helper()
	res, err := http.ReadResponse(l.in, nil)
	require.NoError(l.t, err)
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode == http.StatusSwitchingProtocols {
		return res.StatusCode, ""
	}
	b, err := io.ReadAll(res.Body)
	require.NoError(l.t, err)
	return res.StatusCode, string(b)
}

// waitForClose waits until the server has closed the connection, and closes it too.
func (l *rawConn) waitForClose() {
	l.t.Helper()
	_, err := io.Copy(io.Discard, l.in)
	if failed, ok := errors.AsType[net.Error](err); ok {
		require.False(l.t, failed.Timeout(), "the server keeps the connection open")
	}
	_ = l.Close()
}

// get returns the bytes of a GET request.
func get(query string, header ...string) []byte {
	return request(http.MethodGet, query, "", header...)
}

func request(method, query, body string, header ...string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s?%s HTTP/1.1\r\nHost: 127.0.0.1\r\n", method, realtime.Path, query)
	for _, h := range header {
		b.WriteString(h + "\r\n")
	}
	if method == http.MethodPost && len(header) == 0 {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
	}
	b.WriteString("\r\n" + body)
	return b.Bytes()
}

// upgrade returns the bytes of a websocket handshake.
func upgrade(query string, header ...string) []byte {
	return get(query, append([]string{
		"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
	}, header...)...)
}

const overWebSocket = "EIO=4&transport=websocket"

// websocket opens a websocket and reads the open packet.
func (s *testServer) websocket(t *testing.T, header ...string) *rawConn {
	t.Helper()
	l := s.connect(t).send(upgrade(overWebSocket, header...))
	status, body := l.response()
	require.Equal(t, http.StatusSwitchingProtocols, status, body)
	op, packet := l.frame()
	require.Equal(t, byte(1), op)
	require.Equal(t, byte('0'), packet[0])
	return l
}

// enter opens a websocket, connects a driver and reads hello.
func (s *testServer) enter(t *testing.T, driver string) *rawConn {
	t.Helper()
	return s.enterAs(t, realtime.NamespaceDrivers, driver, realtime.UserDriver)
}

func (s *testServer) enterAs(t *testing.T, namespace, user string, typ realtime.UserType) *rawConn {
	t.Helper()
	l := s.websocket(t).send(text(connectPacket(namespace, s.login(user, typ))))
	l.until("40" + namespace + ",")
	l.until("42" + namespace + `,["hello"`)
	return l
}

// until reads frames up to a packet with that prefix. It answers no pings.
func (l *rawConn) until(prefix string) string {
	l.t.Helper()
	for {
		op, data := l.frame()
		require.NotEqual(l.t, byte(8), op, "closed before %s: %q", prefix, data)
		if strings.HasPrefix(string(data), prefix) {
			return string(data)
		}
	}
}

// frame reads one frame.
func (l *rawConn) frame() (op byte, data []byte) {
	l.t.Helper()
	var head [10]byte
	_, err := io.ReadFull(l.in, head[:2])
	require.NoError(l.t, err)
	n := uint64(head[1])
	switch n {
	case 126:
		_, err = io.ReadFull(l.in, head[2:4])
		n = uint64(binary.BigEndian.Uint16(head[2:]))
	case 127:
		_, err = io.ReadFull(l.in, head[2:10])
		n = binary.BigEndian.Uint64(head[2:])
	}
	require.NoError(l.t, err)
	data = make([]byte, n)
	_, err = io.ReadFull(l.in, data)
	require.NoError(l.t, err)
	return head[0] & 0x0f, data
}

// masked returns a client's frame with that first byte. The mask is zero, so the payload
// is readable.
func masked(first byte, payload string) []byte {
	b := []byte{first}
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

func text(packet string) []byte { return masked(0x81, packet) }

// longFrame returns a header that announces a payload of n bytes, and rest.
func longFrame(first byte, n uint64, rest string) []byte {
	return append(binary.BigEndian.AppendUint64([]byte{first, 0xff}, n), "\x00\x00\x00\x00"+rest...)
}

// polling opens a session over long-polling and returns the query of its requests.
func (s *testServer) polling(t *testing.T) (query string) {
	t.Helper()
	l := s.connect(t).send(get("EIO=4&transport=polling", "Connection: close"))
	defer func() { _ = l.Close() }()
	status, body := l.response()
	require.Equal(t, http.StatusOK, status, body)
	_, rest, _ := strings.Cut(body, `"sid":"`)
	sid, _, _ := strings.Cut(rest, `"`)
	require.NotEmpty(t, sid)
	return "EIO=4&transport=polling&sid=" + sid
}

// enterEIO3 connects a driver as an EIO3 client does.
func (s *testServer) enterEIO3(t *testing.T, driver string) *rawConn {
	t.Helper()
	l := s.connect(t).send(upgrade("EIO=3&transport=websocket", "Authorization: Bearer "+s.login(driver, realtime.UserDriver)))
	status, body := l.response()
	require.Equal(t, http.StatusSwitchingProtocols, status, body)
	l.until("40")
	l.send(text("40/drivers,")).until(`42/drivers,["hello"`)
	return l
}

// pollingEIO3 opens an EIO3 session over polling and returns the query of its requests.
func (s *testServer) pollingEIO3(t *testing.T) (query string) {
	t.Helper()
	query = "EIO=3&transport=polling"
	status, body := s.request(t, get(query))
	require.Equal(t, http.StatusOK, status, body)
	_, rest, _ := strings.Cut(body, `"sid":"`)
	sid, _, _ := strings.Cut(rest, `"`)
	return query + "&sid=" + sid
}

// request sends one request on a connection of its own.
func (s *testServer) request(t *testing.T, request []byte) (status int, body string) {
	t.Helper()
	l := s.connect(t).send(request)
	defer func() { _ = l.Close() }()
	return l.response()
}

// connectPacket is a CONNECT with a token.
func connectPacket(namespace, token string) string {
	return `40` + namespace + `,{"token":` + quote(token) + `}`
}

func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}
