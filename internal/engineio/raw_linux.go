// System calls that never block, made without a word to Go's scheduler. Told of
// each, it takes the processor away whenever one lasts 20 µs, as a write on the
// loopback interface can, and starts another thread to go on with: in a broadcast
// to 10,000 that costs as much again as a third of the write. A collection waits
// for such a call, which is why nothing that can block may be made this way.

package engineio

import (
	"syscall"
	"unsafe"
)

// rawRead reads from a non-blocking descriptor.
func rawRead(fd int, b []byte) (int, error) { return raw(syscall.SYS_READ, fd, b) }

// rawWrite writes to a non-blocking descriptor.
func rawWrite(fd int, b []byte) (int, error) { return raw(syscall.SYS_WRITE, fd, b) }

func raw(call uintptr, fd int, b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	n, _, errno := syscall.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}

// rawPoll returns the events that are there, without waiting for any.
func rawPoll(epoll int, events []syscall.EpollEvent) int {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 0, 0, 0)
	if errno != 0 {
		return 0
	}
	return int(n)
}
