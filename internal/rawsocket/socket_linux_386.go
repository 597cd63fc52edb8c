// Reads from and writes to a socket where package syscall has no calls with flags. The
// descriptor is non-blocking, unless somebody has changed that; then a call may block. So
// these are normal system calls, of which the scheduler knows.

package rawsocket

import "syscall"

// Read reads the bytes that have arrived. Its error is a syscall.Errno.
func Read(fd int, b []byte) (int, error) { return syscall.Read(fd, b) }

// Write writes as many bytes as the send buffer takes. Its error is a syscall.Errno.
func Write(fd int, b []byte) (int, error) { return syscall.Write(fd, b) }
