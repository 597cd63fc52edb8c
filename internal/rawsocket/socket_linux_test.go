// Calls to a socket that somebody has made blocking, which have no flags on 386.

//go:build !386

package rawsocket_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/rawsocket"
)

// If a holder of the connection makes it blocking, no call waits.
func TestRead_BlockingDescriptor(t *testing.T) {
	t.Parallel()
	conn, client := pair(t)
	f, err := conn.File()
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.Close() })
	fd := int(f.Fd())
	require.NoError(t, syscall.SetNonblock(fd, false))
	read, wrote := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := rawsocket.Read(fd, make([]byte, 10))
		read <- err
	}()
	go func() {
		b := make([]byte, 1<<20)
		for {
			if _, err := rawsocket.Write(fd, b); err != nil {
				wrote <- err
				return
			}
		}
	}()
	for _, done := range []chan error{read, wrote} {
		select {
		case err := <-done:
			require.ErrorIs(t, err, syscall.EAGAIN)
		case <-time.After(20 * time.Second):
			_ = client.Close() // unblocks them
			require.Fail(t, "a call waits for the client")
		}
	}
}
