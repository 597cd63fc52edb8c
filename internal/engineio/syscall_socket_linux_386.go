// Reads from and writes to a socket where package syscall has no calls with flags. The
// descriptor is non-blocking, as adopt sets it. If the host makes it blocking, a call
// may block; so these are normal system calls, of which the scheduler knows.

package engineio

import "syscall"

// rawRead reads the bytes that have arrived.
func rawRead(fd int, b []byte) (int, error) { return syscall.Read(fd, b) }

// rawWrite writes as many bytes as the send buffer takes.
func rawWrite(fd int, b []byte) (int, error) { return syscall.Write(fd, b) }
