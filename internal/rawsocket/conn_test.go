// The connection behaves as the one that it wraps.

package rawsocket_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/rawsocket"
)

func pair(t testing.TB) (server, client *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	c, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	s, err := l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s.(*net.TCPConn), c.(*net.TCPConn)
}

// onBoth runs a test with a connection of this package, and with that of the standard library
// whose behavior is the pattern.
func onBoth(t *testing.T, f func(t *testing.T, c net.Conn, peer *net.TCPConn)) {
	t.Helper()
	t.Parallel()
	for name, wrap := range map[string]func(*net.TCPConn) net.Conn{
		"rawsocket": rawsocket.Conn,
		"net":       func(c *net.TCPConn) net.Conn { return c },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, peer := pair(t)
			f(t, wrap(c), peer)
		})
	}
}

// within fails the test if a call does not return.
func within(t *testing.T, what string, done <-chan error) error {
	t.Helper()
	select {
	case err := <-done:
		return err
	case <-time.After(20 * time.Second):
		require.Fail(t, what+" does not return")
		return nil
	}
}

// A write that is larger than all buffers waits for the reader, and everything arrives.
func TestConn_LargeWrite(t *testing.T) {
	onBoth(t, func(t *testing.T, c net.Conn, peer *net.TCPConn) {
		sent := make([]byte, 16<<20)
		_, _ = rand.Read(sent)
		wrote := make(chan error, 1)
		go func() {
			n, err := c.Write(sent)
			if err == nil && n != len(sent) {
				err = io.ErrShortWrite
			}
			_ = c.(interface{ CloseWrite() error }).CloseWrite()
			wrote <- err
		}()
		got, err := io.ReadAll(peer)
		require.NoError(t, err)
		require.NoError(t, within(t, "Write", wrote))
		require.True(t, bytes.Equal(sent, got))
	})
}

// What the peer sends in pieces is read to its end, which is io.EOF.
func TestConn_Read(t *testing.T) {
	onBoth(t, func(t *testing.T, c net.Conn, peer *net.TCPConn) {
		sent := make([]byte, 4<<20)
		_, _ = rand.Read(sent)
		go func() {
			for rest := sent; len(rest) > 0; {
				n, err := peer.Write(rest[:min(len(rest), 100_001)])
				if err != nil {
					break
				}
				rest = rest[n:]
			}
			_ = peer.Close()
		}()
		n, err := c.Read(nil)
		require.NoError(t, err)
		require.Zero(t, n)
		got, err := io.ReadAll(c)
		require.NoError(t, err)
		require.True(t, bytes.Equal(sent, got))
		_, err = c.Read(make([]byte, 1))
		require.Equal(t, io.EOF, err)
	})
}

// A deadline ends a call that waits, and one that begins later, until it is changed.
func TestConn_Deadlines(t *testing.T) {
	onBoth(t, func(t *testing.T, c net.Conn, peer *net.TCPConn) {
		require.NoError(t, c.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
		for range 2 {
			n, err := c.Read(make([]byte, 1))
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			require.Zero(t, n)
			netErr, ok := errors.AsType[net.Error](err)
			require.True(t, ok && netErr.Timeout(), "%v", err)
		}
		require.NoError(t, c.SetReadDeadline(time.Time{}))
		_, err := peer.Write([]byte("x"))
		require.NoError(t, err)
		n, err := c.Read(make([]byte, 10))
		require.NoError(t, err)
		require.Equal(t, 1, n)

		require.NoError(t, c.SetWriteDeadline(time.Now().Add(20*time.Millisecond)))
		b := make([]byte, 64<<20)
		n, err = c.Write(b) // nobody reads it
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.Less(t, n, len(b))
		written := n
		require.NoError(t, c.SetWriteDeadline(time.Time{}))
		require.NoError(t, c.(interface{ CloseWrite() error }).CloseWrite())
		arrived, err := io.Copy(io.Discard, peer)
		require.NoError(t, err)
		require.EqualValues(t, written, arrived, "Write counts what it has written")
	})
}

// Close ends calls that wait.
func TestConn_Close(t *testing.T) {
	onBoth(t, func(t *testing.T, c net.Conn, _ *net.TCPConn) {
		read, wrote := make(chan error, 1), make(chan error, 1)
		go func() {
			_, err := c.Read(make([]byte, 1))
			read <- err
		}()
		go func() {
			_, err := c.Write(make([]byte, 64<<20))
			wrote <- err
		}()
		time.Sleep(20 * time.Millisecond) // usually they wait then
		require.NoError(t, c.Close())
		require.ErrorIs(t, within(t, "Read", read), net.ErrClosed)
		require.ErrorIs(t, within(t, "Write", wrote), net.ErrClosed)
		_, err := c.Write([]byte("x"))
		require.ErrorIs(t, err, net.ErrClosed)
	})
}

// A connection that the peer has reset fails both calls.
func TestConn_Reset(t *testing.T) {
	onBoth(t, func(t *testing.T, c net.Conn, peer *net.TCPConn) {
		read := make(chan error, 1)
		go func() {
			_, err := c.Read(make([]byte, 1))
			read <- err
		}()
		require.NoError(t, peer.SetLinger(0))
		require.NoError(t, peer.Close())
		err := within(t, "Read", read)
		require.Error(t, err)
		opErr, ok := errors.AsType[*net.OpError](err)
		require.True(t, ok, "%v", err)
		require.Equal(t, "read", opErr.Op)
		require.Equal(t, c.RemoteAddr(), opErr.Addr)
		_, err = c.Write([]byte("x"))
		opErr, ok = errors.AsType[*net.OpError](err)
		require.True(t, ok, "%v", err)
		require.Equal(t, "write", opErr.Op)
	})
}

// Reads and writes allocate nothing.
func TestConn_Allocations(t *testing.T) {
	tcp, peer := pair(t)
	c, b := rawsocket.Conn(tcp), make([]byte, 100)
	allocations := testing.AllocsPerRun(100, func() {
		_, err := c.Write(b)
		require.NoError(t, err)
		_, err = io.ReadFull(peer, b)
		require.NoError(t, err)
		_, err = peer.Write(b)
		require.NoError(t, err)
		_, err = io.ReadFull(c, b)
		require.NoError(t, err)
	})
	require.Less(t, allocations, 1.0)
}
