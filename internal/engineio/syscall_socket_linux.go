// Reads from and writes to a socket that may have become blocking.

//go:build !386

package engineio

import (
	"syscall"
	"unsafe"
)

// rawRead reads the bytes that have arrived.
func rawRead(fd int, b []byte) (int, error) {
	return rawSocket(syscall.SYS_RECVFROM, fd, b, syscall.MSG_DONTWAIT)
}

// rawWrite writes as many bytes as the send buffer takes.
func rawWrite(fd int, b []byte) (int, error) {
	return rawSocket(syscall.SYS_SENDTO, fd, b, syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL)
}

func rawSocket(call uintptr, fd int, b []byte, flags uintptr) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	//nolint:gosec // b stays reachable during the call
	n, _, errno := syscall.RawSyscall6(call, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), flags, 0, 0)
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}
