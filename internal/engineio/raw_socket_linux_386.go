// Reading from and writing to a socket where package syscall has no call that takes
// flags: the descriptor is non-blocking, as adopt sets it. A call that the host makes
// blocking again may block, so the scheduler knows of these calls.

package engineio

import "syscall"

// rawRead reads what there is.
func rawRead(fd int, b []byte) (int, error) { return syscall.Read(fd, b) }

// rawWrite writes what there is room for.
func rawWrite(fd int, b []byte) (int, error) { return syscall.Write(fd, b) }
