// Benchmarks of what recovery costs where nothing is to be recovered: a burst to a room, and a socket
// that does nothing. The clients discard what they get, so that the server is all that is measured.

package realtime_test

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"runtime/metrics"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// withRecovery runs a benchmark without recovery and with it.
func withRecovery(b *testing.B, run func(b *testing.B, s *sinks)) {
	for _, enabled := range []bool{false, true} {
		b.Run(fmt.Sprintf("recovery=%t", enabled), func(b *testing.B) {
			srv := benchServer(b, func(o *realtime.Options) {
				o.Recovery.Enabled = enabled
				o.Timeouts.PingInterval = 10 * time.Minute // nobody answers pings
			})
			s := &sinks{Listener: realtimetest.NewListener(), srv: srv}
			h := &http.Server{Handler: srv.Realtime, ReadHeaderTimeout: time.Minute}
			served := make(chan struct{})
			go func() {
				defer close(served)
				_ = h.Serve(s) // returns after Close
			}()
			b.Cleanup(func() {
				for _, c := range s.clients {
					_ = c.Close()
				}
				_ = h.Close()
				<-served
			})
			run(b, s)
		})
	}
}

// sinks are the connections of one server.
type sinks struct {
	*realtimetest.Listener

	srv      *realtimetest.Server
	clients  []net.Conn   // the clients' ends
	newest   *sink        // of connect, which makes one at a time
	received atomic.Int64 // the messages that were discarded
}

// Accept implements net.Listener.
func (s *sinks) Accept() (net.Conn, error) {
	c, err := s.Listener.Accept()
	if err != nil {
		return nil, err
	}
	s.newest = &sink{Conn: c, received: &s.received}
	return s.newest, nil
}

// sink is the server's end of a connection. When it is open it discards what is written, and counts
// the messages.
type sink struct {
	net.Conn

	open     atomic.Bool
	received *atomic.Int64

	mu    sync.Mutex // guards frame
	frame int        // the bytes that the last frame still has
}

// Write implements net.Conn. A frame's header comes in one piece.
func (s *sink) Write(p []byte) (int, error) {
	if !s.open.Load() {
		return s.Conn.Write(p)
	}
	n, messages := len(p), int64(0)
	s.mu.Lock()
	for len(p) > 0 {
		if s.frame == 0 {
			messages++
			head := 2
			if s.frame = int(p[1]); s.frame == 126 {
				s.frame = int(binary.BigEndian.Uint16(p[2:]))
				head = 4
			}
			p = p[head:]
		}
		k := min(s.frame, len(p))
		s.frame -= k
		p = p[k:]
	}
	s.mu.Unlock()
	s.received.Add(messages)
	return n, nil
}

// SetWriteDeadline implements net.Conn.
func (s *sink) SetWriteDeadline(t time.Time) error {
	if s.open.Load() {
		return nil
	}
	return s.Conn.SetWriteDeadline(t)
}

// connect connects a driver, as a stock client that begins with a websocket does.
func (s *sinks) connect(b *testing.B, user string) {
	c, err := s.DialContext(b.Context(), "tcp", "")
	require.NoError(b, err)
	s.clients = append(s.clients, c)
	_, err = io.WriteString(c, "GET "+realtime.Path+"?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"+
		"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
	require.NoError(b, err)
	r := bufio.NewReaderSize(c, 512)
	res, err := http.ReadResponse(r, nil)
	require.NoError(b, err)
	require.NoError(b, res.Body.Close())
	require.Equal(b, http.StatusSwitchingProtocols, res.StatusCode)
	frame, err := ws.CompileFrame(ws.MaskFrame(ws.NewTextFrame([]byte(`40/drivers,{"token":"` + s.srv.Login(user, realtime.UserDriver) + `"}`))))
	require.NoError(b, err)
	_, err = c.Write(frame)
	require.NoError(b, err)
	for hello := false; !hello; {
		h, err := ws.ReadHeader(r)
		require.NoError(b, err)
		text := make([]byte, h.Length)
		_, err = io.ReadFull(r, text)
		require.NoError(b, err)
		hello = strings.Contains(string(text), `"hello"`)
	}
	s.newest.open.Store(true)
}

// BenchmarkRecovery_Burst is a delivery in a burst of fifty events to a room of a thousand.
func BenchmarkRecovery_Burst(b *testing.B) {
	const sockets, burst = 1000, 50
	withRecovery(b, func(b *testing.B, s *sinks) {
		room := realtime.NewRoom("zone", "havana")
		for n := range sockets {
			s.connect(b, fmt.Sprint("d", n))
		}
		s.srv.Realtime.Drivers().All().Join(room)
		event, to := realtime.NewEvent[realtime.LocationPayload]("zone:alarm"), s.srv.Realtime.Drivers().To(room)
		before, sent := s.received.Load(), int64(0)
		b.ReportAllocs()
		for b.Loop() {
			for range burst {
				if err := event.Emit(to, benchLocation); err != nil {
					b.Fatal(err)
				}
			}
			sent += sockets * burst
			for s.received.Load()-before < sent {
				time.Sleep(20 * time.Microsecond)
			}
		}
		if got := s.received.Load() - before; got != sent {
			b.Errorf("%d messages of %d", got, sent)
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(sent), "ns/delivery")
	})
}

// BenchmarkRecovery_Idle is a handshake, and says what its socket takes when it does nothing. The
// connection in memory, of which both ends count, is the same with and without recovery.
func BenchmarkRecovery_Idle(b *testing.B) {
	const warm = 200
	withRecovery(b, func(b *testing.B, s *sinks) {
		for n := range warm {
			s.connect(b, fmt.Sprint("warm", n))
		}
		heap, stack := live()
		n := 0.0
		b.ReportAllocs()
		for b.Loop() {
			s.connect(b, fmt.Sprint("d", n))
			n++
		}
		heapNow, stackNow := live()
		b.ReportMetric((heapNow-heap)/n, "heap-B/socket")
		b.ReportMetric((stackNow-stack)/n, "stack-B/socket")
	})
}

// live returns the bytes that are in use after a collection.
func live() (heap, stack float64) {
	runtime.GC()
	runtime.GC() // what finalizers and pools held
	list := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
	metrics.Read(list)
	return float64(list[0].Value.Uint64()), float64(list[1].Value.Uint64())
}
