// A test of the first write to a websocket that counts TCP segments. On 386 package
// syscall has no getsockopt.

//go:build !386

package engineio_test

import (
	"encoding/binary"
	"net"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// receivedSegments returns how many segments with data a connection has received, which
// struct tcp_info of linux/tcp.h calls tcpi_data_segs_in.
func receivedSegments(t *testing.T, conn net.Conn) uint32 {
	t.Helper()
	const at = 152 // after 8 bytes, 24 times 4, 4 times 8 and 4 times 4
	raw, err := conn.(*net.TCPConn).SyscallConn()
	require.NoError(t, err)
	var info [256]byte
	size, errno := uint32(len(info)), syscall.Errno(0)
	require.NoError(t, raw.Control(func(fd uintptr) {
		_, _, errno = syscall.Syscall6(syscall.SYS_GETSOCKOPT, fd, syscall.IPPROTO_TCP, syscall.TCP_INFO,
			uintptr(unsafe.Pointer(&info[0])), uintptr(unsafe.Pointer(&size)), 0)
	}))
	require.Zero(t, errno)
	require.GreaterOrEqual(t, size, uint32(at+4))
	return binary.NativeEndian.Uint32(info[at:])
}

// On plain TCP too, the response to the handshake and the open packet leave in one write:
// they arrive in one segment. A write of its own is a segment of its own, because Go sets
// TCP_NODELAY. A kernel that waits long for an acknowledgment may send a segment twice, so
// one of several connections is enough.
func TestEpollLink_HandshakeIsOneSegment(t *testing.T) {
	t.Parallel()
	s := start(t, tcp)
	least := uint32(1000)
	for range 10 {
		ws := s.websocket()
		least = min(least, receivedSegments(t, ws.conn))
	}
	require.EqualValues(t, 1, least)
}
