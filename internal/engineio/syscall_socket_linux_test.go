// Calls to a socket that the host has made blocking, which have no flags on 386.

//go:build !386

package engineio

import (
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// If the host makes a connection blocking again, no call waits.
func TestRawRead_BlockingDescriptor(t *testing.T) {
	t.Parallel()
	conn, client := pair(t)
	fd := int(file(t, conn).Fd())
	require.NoError(t, syscall.SetNonblock(fd, false))
	require.True(t, isBlocking(t, fd))
	read, wrote := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := rawRead(fd, make([]byte, 10))
		read <- err
	}()
	go func() {
		b := make([]byte, 1<<20)
		for {
			if _, err := rawWrite(fd, b); err != nil {
				wrote <- err
				return
			}
		}
	}()
	for _, done := range []chan error{read, wrote} {
		select {
		case err := <-done:
			require.ErrorIs(t, err, syscall.EAGAIN)
		case <-time.After(5 * time.Second):
			_ = client.Close() // unblocks them
			require.Fail(t, "a call waits for the client")
		}
	}
}
