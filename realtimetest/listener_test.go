// The in-memory network, which must behave like TCP.

package realtimetest_test

import (
	"context"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/testkit"
	"github.com/rodando/realtime/realtimetest"
)

// pair returns both ends of a connection.
func pair(t *testing.T) (client, server net.Conn) {
	t.Helper()
	l := realtimetest.NewListener()
	accepted := make(chan net.Conn)
	go func() {
		c, _ := l.Accept()
		accepted <- c
	}()
	client, err := l.DialContext(t.Context(), "tcp", "anywhere:80")
	require.NoError(t, err)
	return client, <-accepted
}

func TestListener_TransfersBytes(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		client, server := pair(t)
		require.Equal(t, client.LocalAddr(), server.RemoteAddr())
		require.Equal(t, server.LocalAddr(), client.RemoteAddr())
		_, err := client.Write([]byte("hello"))
		require.NoError(t, err)
		b := make([]byte, 3)
		_, err = io.ReadFull(server, b)
		require.NoError(t, err)
		require.Equal(t, "hel", string(b))

		// Half-closed, what was sent still arrives, and an answer goes back.
		require.NoError(t, client.(interface{ CloseWrite() error }).CloseWrite())
		rest, err := io.ReadAll(server)
		require.NoError(t, err)
		require.Equal(t, "lo", string(rest))
		_, err = client.Write([]byte("x"))
		require.ErrorIs(t, err, net.ErrClosed)
		_, err = server.Write([]byte("bye"))
		require.NoError(t, err)
		require.NoError(t, server.Close())
		rest, err = io.ReadAll(client)
		require.NoError(t, err)
		require.Equal(t, "bye", string(rest))
	})
}

func TestListener_WriteBlocks(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		client, server := pair(t)
		type result struct {
			n   int
			err error
		}
		results := make(chan result, 1)
		write := func(size int) {
			n, err := client.Write(make([]byte, size))
			results <- result{n, err}
		}
		go write(100_000)
		synctest.Wait()
		require.Empty(t, results, "the write blocks while nothing is read")
		_, err := io.ReadFull(server, make([]byte, 100_000))
		require.NoError(t, err)
		require.Equal(t, result{100_000, nil}, <-results)

		require.NoError(t, client.SetWriteDeadline(time.Now().Add(time.Second)))
		start := time.Now()
		go write(100_000)
		r := <-results
		require.ErrorIs(t, r.err, os.ErrDeadlineExceeded)
		require.Equal(t, time.Second, time.Since(start))
		require.Positive(t, r.n)

		require.NoError(t, client.SetWriteDeadline(time.Time{}))
		go write(100_000)
		synctest.Wait()
		require.NoError(t, server.Close())
		require.Error(t, (<-results).err)
	})
}

func TestListener_ReadDeadline(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		client, server := pair(t)
		start := time.Now()
		require.NoError(t, client.SetDeadline(start.Add(time.Minute)))
		_, err := client.Read(make([]byte, 1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.Equal(t, time.Minute, time.Since(start))
		// A changed deadline wakes a read that already waits.
		require.NoError(t, client.SetReadDeadline(time.Time{}))
		errs := make(chan error, 1)
		go func() {
			_, err := client.Read(make([]byte, 1))
			errs <- err
		}()
		synctest.Wait()
		require.NoError(t, client.SetReadDeadline(time.Unix(1, 0)))
		require.ErrorIs(t, <-errs, os.ErrDeadlineExceeded)
		require.NoError(t, client.Close())
		_, err = client.Read(make([]byte, 1))
		require.ErrorIs(t, err, net.ErrClosed)
		_, err = server.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF)
	})
}

func TestListener_Close(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		l := realtimetest.NewListener()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := l.DialContext(ctx, "tcp", "x")
		require.ErrorIs(t, err, context.DeadlineExceeded, "no Accept")
		require.NoError(t, l.Close())
		require.NoError(t, l.Close())
		_, err = l.Accept()
		require.ErrorIs(t, err, net.ErrClosed)
		_, err = l.DialContext(t.Context(), "tcp", "x")
		require.ErrorIs(t, err, net.ErrClosed)
	})
}
