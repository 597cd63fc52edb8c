// A system call that never blocks, issued as those of package rawsocket, for their reasons.

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
