package engineio_test

import (
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/rodando/realtime/internal/testkit"
	"github.com/stretchr/testify/require"
)

// An idle websocket on plain TCP has no goroutine and hardly any memory. The test is
// not parallel, because it measures the whole process.
func TestEpollLink_IdleHoldsNothing(t *testing.T) {
	s := start(t, tcp)
	const n = 400
	measure := func() (goroutines int, heap uint64) {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // sync.Pool drops its content after two collections
		runtime.ReadMemStats(&m)
		return runtime.NumGoroutine(), m.HeapAlloc
	}
	connect := func() net.Conn {
		conn, err := s.dial()
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		_, err = io.WriteString(conn, handshake("EIO=4&transport=websocket"))
		require.NoError(t, err)
		for seen := byte(0); seen != '}'; { // the end of the open packet
			b := make([]byte, 512)
			k, err := conn.Read(b)
			require.NoError(t, err)
			seen = b[k-1]
		}
		return conn
	}
	first := connect() // allocates what is allocated only once
	conns := make([]net.Conn, 0, n)
	goroutines, heap := measure()
	for range n {
		conns = append(conns, connect())
	}
	// Each connection has handled messages, and has received half a frame.
	for _, conn := range append(conns, first) {
		_, err := conn.Write(frameBytes(0x80|opText, "4a"))
		require.NoError(t, err)
		_, err = io.ReadFull(conn, make([]byte, 4))
		require.NoError(t, err)
	}
	for len(s.sessions) > 0 { // do not count the tests' handlers and their channels
		(<-s.sessions).in = nil
	}
	testkit.Eventually(t, "goroutines remain", func() bool { return runtime.NumGoroutine() <= goroutines+2 })
	time.Sleep(20 * time.Millisecond)
	_, now := measure()
	per := (int64(now) - int64(heap)) / n
	t.Logf("%d bytes of heap for each connection, both ends and the test's handler included", per)
	require.Less(t, per, int64(4096))
	require.Equal(t, n+1, s.Len())
}
