// Tests of connections, of a type of the host's, whose methods panic, end the goroutine
// or return what they must not.

package engineio_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/engineio"
	"github.com/rodando/realtime/internal/testkit"
)

// overListener makes connections that have a NetConn.
type overListener struct{ *stuckListener }

func (l overListener) Accept() (net.Conn, error) {
	c, err := l.stuckListener.Accept()
	if err != nil {
		return nil, err
	}
	return overConn{c.(*stuckConn)}, nil
}

type overConn struct{ *stuckConn }

func (c overConn) NetConn() net.Conn { c.pass("NetConn"); return c.TCPConn }

// syncBuffer is a log.
type syncBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// faulty are the ways in which a method does not return.
var faulty = map[string]func(){
	"panic": func() { panic("planned") },
	"exit":  runtime.Goexit,
}

// onCall does it in one call: net/http calls the methods too, and dies of its own.
func onCall(number int32, do func()) func() {
	var calls atomic.Int32
	return func() {
		if calls.Add(1) == number {
			do()
		}
	}
}

// startFaulty starts a server whose connections a test can spoil. They are closed at its
// end, since the server may be unable to.
func startFaulty(t *testing.T, over bool, change ...func(*setup)) (*server, <-chan *stuckConn) {
	t.Helper()
	conns := make(chan *stuckConn, 20)
	c := carrier{"faulty", func(l net.Listener) net.Listener {
		if over {
			return overListener{&stuckListener{l, conns}}
		}
		return &stuckListener{l, conns}
	}}
	t.Cleanup(func() {
		close(conns)
		for c := range conns {
			_ = c.TCPConn.Close()
		}
	})
	s := start(t, c, append([]func(*setup){quiet, shortClose}, change...)...)
	return s, conns
}

// A connection whose methods panic or end the goroutine ends its own session only.
func TestNetLink_MethodsThatPanic(t *testing.T) {
	t.Parallel()
	for how, do := range faulty {
		for _, over := range []bool{false, true} {
			for _, method := range []string{"Read", "Write", "Close", "CloseWrite", "SetReadDeadline", "SetWriteDeadline", "NetConn", "all"} {
				t.Run(fmt.Sprint(how, " in ", method, ", over another: ", over), func(t *testing.T) {
					t.Parallel()
					s, conns := startFaulty(t, over, func(set *setup) {
						set.engine.PingInterval, set.engine.PingTimeout = 50*time.Millisecond, patience
					})
					sent, closed, probing := s.websocket(), s.websocket(), s.polling()
					_, _ = s.dialWebSocket("EIO=4&transport=websocket&sid=" + probing.sid)
					for i := range 4 {
						c := <-conns
						t.Cleanup(func() { _ = c.TCPConn.Close() })
						if i != 2 { // the requests' own is net/http's
							c.fault.Store(&fault{method, do})
						}
					}
					other := s.websocket()
					sent.send("4a", "4b")
					closed.h.Close(engineio.ReasonForcedClose)
					sent.h.Send(text("c"))
					other.send("4a")
					testkit.Eventually(t, "the other one is not answered", func() bool { return other.text() == "4a" })
					sent.h.Close(engineio.ReasonForcedClose)
					probing.h.PingNow()
					probing.h.PingNow()
					sent.h.ended(t)
					closed.h.ended(t)
					probing.h.ended(t)
					for range 3 {
						testkit.Eventually(t, "the other one gets no ping", func() bool { return other.text() == "2" })
						other.send("3")
					}
					testkit.Eventually(t, "sessions are left", func() bool { return s.Len() == 1 })
					require.NoError(t, other.conn.Close())
					require.NoError(t, s.Shutdown(t.Context()), "though no client closes its connection")
				})
			}
		}
	}
}

// The client sees the end of a connection that the server cannot close.
func TestNetLink_CloseThatPanics(t *testing.T) {
	t.Parallel()
	for how, do := range faulty {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			s, conns := startFaulty(t, false)
			ws := s.websocket()
			c := <-conns
			t.Cleanup(func() { _ = c.TCPConn.Close() })
			c.fault.Store(&fault{"Close", do})
			ws.h.PingNow()
			ws.h.PingNow() // the first ping was not answered
			require.Equal(t, engineio.ReasonPingTimeout, ws.h.ended(t))
			_ = ws.conn.SetReadDeadline(time.Now().Add(patience))
			_, err := io.ReadAll(ws.in)
			require.NoError(t, err)
			require.NoError(t, s.Shutdown(t.Context()))
		})
	}
}

// A panic is logged, with its text and where it happened.
func TestNetLink_LogsAPanic(t *testing.T) {
	t.Parallel()
	var logged syncBuffer
	s, conns := startFaulty(t, false, func(set *setup) {
		set.engine.Logger = slog.New(slog.NewTextHandler(&logged, nil))
	})
	ws := s.websocket()
	(<-conns).fault.Store(&fault{"Write", func() { panic(errors.New("planned")) }})
	ws.h.Send(text("a"))
	require.Equal(t, engineio.ReasonTransportError, ws.h.ended(t))
	require.Equal(t, 1, strings.Count(logged.String(), "level=ERROR"), logged.String())
	require.Contains(t, logged.String(), "planned")
	require.Contains(t, logged.String(), "stuckConn")
}

// silent is a panic value whose methods are worse than the panic.
type silent struct{ do func() }

func (s silent) Error() string { s.do(); return "" }

func TestNetLink_PanicWithoutText(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	t.Cleanup(func() { close(hold) })
	for name, do := range map[string]func(){
		"panic": func() { panic("again") }, "exit": runtime.Goexit, "hang": func() { <-hold },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, method := range []string{"Read", "Write"} {
				s, conns := startFaulty(t, false)
				ws := s.websocket()
				(<-conns).fault.Store(&fault{method, func() { panic(silent{do}) }})
				ws.send("4a")
				ws.h.ended(t)
				require.NoError(t, s.Shutdown(t.Context()))
			}
		})
	}
}

// nilError has methods that panic for a nil pointer.
type nilError struct{ err error }

func (e *nilError) Error() string { return e.err.Error() }
func (e *nilError) Unwrap() error { return e.err }

func TestNetLink_ImpossibleResults(t *testing.T) {
	t.Parallel()
	var none *nilError
	for name, r := range map[string]result{
		"negative": {count: -1}, "too many": {count: 1 << 30}, "typed nil": {err: none},
	} {
		for _, method := range []string{"Read", "Write"} {
			t.Run(name+" of "+method, func(t *testing.T) {
				t.Parallel()
				s, conns := startFaulty(t, false)
				odd := s.websocket()
				(<-conns).result.Store(&r)
				other := s.websocket()
				if method == "Read" {
					odd.send("4a")
				} else {
					odd.h.Send(text("b"))
				}
				require.Equal(t, engineio.ReasonTransportError, odd.h.ended(t))
				other.send("4a")
				other.expect("4a")
				require.NoError(t, other.conn.Close())
				require.NoError(t, s.Shutdown(t.Context()))
			})
		}
	}
}

// A connection that returns neither data nor an error, again and again, has ended. A few
// such reads end nothing.
func TestNetLink_EmptyReads(t *testing.T) {
	t.Parallel()
	s, conns := startFaulty(t, false)
	odd := s.websocket()
	c := <-conns
	c.result.Store(&result{})
	c.fault.Store(&fault{"Read", onCall(4, func() { c.result.Store(nil) })})
	testkit.Eventually(t, "nothing is read", func() bool {
		odd.send("4a")
		return c.result.Load() == nil
	})
	odd.send("4b")
	testkit.Eventually(t, "it is not answered", func() bool { return odd.text() == "4b" })
	c.result.Store(&result{})
	require.NoError(t, odd.conn.Close()) // from now on each read returns at once
	require.Equal(t, engineio.ReasonTransportError, odd.h.ended(t))
	require.NoError(t, s.Shutdown(t.Context()))
}

// A method that panics while the websocket is established ends the session, and the
// connection.
func TestServer_HandshakeWithAConnectionThatPanics(t *testing.T) {
	t.Parallel()
	for how, do := range faulty {
		// The first SetDeadline is net/http's, whose connection it is then.
		for method, number := range map[string]int32{"Write": 1, "SetWriteDeadline": 1, "SetDeadline": 2} {
			t.Run(how+" in "+method, func(t *testing.T) {
				t.Parallel()
				conns := make(chan *stuckConn, 1)
				s := start(t, carrier{"faulty", func(l net.Listener) net.Listener { return &stuckListener{l, conns} }}, quiet,
					func(set *setup) {
						set.admit = func(*http.Request) *engineio.Busy {
							(<-conns).fault.Store(&fault{method, onCall(number, do)})
							return nil
						}
					})
				conn, err := s.dial()
				require.NoError(t, err)
				t.Cleanup(func() { _ = conn.Close() })
				_, err = io.WriteString(conn, handshake("EIO=4&transport=websocket"))
				require.NoError(t, err)
				h := receive(t, s.sessions)
				require.Equal(t, engineio.ReasonTransportError, h.ended(t))
				_ = conn.SetReadDeadline(time.Now().Add(patience))
				_, err = io.ReadAll(bufio.NewReader(conn))
				require.False(t, isTimeout(err), "the connection is left open")
				require.Zero(t, s.Len())
				require.NoError(t, s.Shutdown(t.Context()))
			})
		}
	}
}

// faultyBody is the body that a middleware of the host's makes of a request's.
type faultyBody struct {
	io.ReadCloser
	left int // bytes until it fails
	do   func()
}

func (b *faultyBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		b.do()
	}
	n, err := b.ReadCloser.Read(p)
	b.left -= n
	return n, err
}

// A POST whose body panics ends its session, whose memory is free again.
func TestServer_PostWithABodyThatPanics(t *testing.T) {
	t.Parallel()
	for how, do := range faulty {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			var engine *engineio.Server
			reserved := make(chan int, 1)
			s := start(t, tcp, quiet, func(set *setup) {
				set.host.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.Method == http.MethodPost {
						r.Body = &faultyBody{r.Body, 200_000, func() { reserved <- engine.Incoming(); do() }}
					}
					engine.ServeHTTP(w, r)
				})
			})
			engine = s.Server
			p := s.polling()
			_, _, err := s.request(t.Context(), http.MethodPost, p.query(), strings.NewReader("4"+large(400_000)))
			require.Error(t, err)
			require.Greater(t, receive(t, reserved), 200_000)
			require.Equal(t, engineio.ReasonTransportError, p.h.ended(t))
			require.Zero(t, s.Incoming(), "its memory is still reserved")
			require.NoError(t, s.Shutdown(t.Context()))
		})
	}
}

// The end of a session whose POST is being read may find a connection that panics.
func TestServer_EndOfAPostWithAConnectionThatPanics(t *testing.T) {
	t.Parallel()
	for how, do := range faulty {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			s, conns := startFaulty(t, false)
			p := s.polling()
			<-conns
			conn, err := s.dial()
			require.NoError(t, err)
			t.Cleanup(func() { _ = conn.Close() })
			_, err = fmt.Fprintf(conn, "POST /?%s HTTP/1.1\r\nHost: engine.test\r\nContent-Length: 500000\r\n\r\n%s", p.query(), "4"+large(200_000))
			require.NoError(t, err)
			testkit.Eventually(t, "the body is not read", func() bool { return s.Incoming() > 200_000 })
			called := make(chan struct{})
			(<-conns).fault.Store(&fault{"SetReadDeadline", onCall(1, func() { close(called); do() })})
			p.h.PingNow()
			p.h.PingNow()
			require.Equal(t, engineio.ReasonPingTimeout, p.h.ended(t))
			receive(t, called)
			require.NoError(t, conn.Close())
			require.NoError(t, s.Shutdown(t.Context()))
		})
	}
}

// A panic of the layer above ends the session, whatever the methods of its value do.
func TestSession_PanicWithoutText(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	t.Cleanup(func() { close(hold) })
	for name, do := range map[string]func(){
		"panic": func() { panic("again") }, "exit": runtime.Goexit, "hang": func() { <-hold },
	} {
		for _, c := range []carrier{tcp, hidden} {
			t.Run(name+" over "+c.name, func(t *testing.T) {
				t.Parallel()
				s := start(t, c, quiet, func(set *setup) {
					set.message = func(*handler, []byte, bool) error { panic(silent{do}) }
				})
				p, ws := s.polling(), s.websocket()
				_, _ = p.post("4a")
				require.Equal(t, engineio.ReasonParseError, p.h.ended(t))
				ws.send("4a")
				require.Equal(t, engineio.ReasonParseError, ws.h.ended(t))
			})
		}
	}
}
