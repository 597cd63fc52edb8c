// System calls that never block, issued with RawSyscall, which does not call
// entersyscall and exitsyscall. With these, the scheduler takes the processor away
// whenever a call lasts 20 µs, as a write on the loopback interface can, and starts
// another thread to go on with: in a broadcast to 10,000 that costs as much again as a
// third of the write. A collection waits for such a call, which is why nothing that
// can block may be made this way. That a descriptor is non-blocking is not enough:
// whoever else holds the connection, by net.TCPConn.File, can undo it at any time.

package engineio

import (
	"syscall"
	"unsafe"
)

// rawPoll returns the events that are there, without waiting for any.
func rawPoll(epoll int, events []syscall.EpollEvent) int {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 0, 0, 0)
	if errno != 0 {
		return 0
	}
	return int(n)
}
