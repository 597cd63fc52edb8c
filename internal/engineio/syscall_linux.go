// System calls that never block, issued with RawSyscall, which does not call
// entersyscall and exitsyscall. With these, the scheduler takes the processor away
// whenever a call takes 20 µs, as a write on the loopback interface can, and starts
// another thread: in a broadcast to 10,000 clients that costs a third of the writes
// again. The garbage collector waits for a raw call to return. Therefore a call that
// can block must not be raw. A non-blocking descriptor is not enough: other holders of
// the connection, by net.TCPConn.File, can make it blocking at any time.

package engineio

import (
	"syscall"
	"unsafe"
)

// rawEpollWait returns the events that are pending. It does not wait.
func rawEpollWait(epoll int, events []syscall.EpollEvent) int {
	//nolint:gosec // the events stay reachable during the call
	n, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 0, 0, 0)
	if errno != 0 {
		return 0
	}
	return int(n)
}
