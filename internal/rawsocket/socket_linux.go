// Reads from and writes to a socket that may have become blocking.

//go:build !386

package rawsocket

import (
	"syscall"
	"unsafe"
)

// Read reads the bytes that have arrived. Its error is a syscall.Errno.
func Read(fd int, b []byte) (int, error) {
	return call(syscall.SYS_RECVFROM, fd, b, syscall.MSG_DONTWAIT)
}

// Write writes as many bytes as the send buffer takes. Its error is a syscall.Errno.
func Write(fd int, b []byte) (int, error) {
	return call(syscall.SYS_SENDTO, fd, b, syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL)
}

func call(number uintptr, fd int, b []byte, flags uintptr) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	//nolint:gosec // b stays reachable during the call
	n, _, errno := syscall.RawSyscall6(number, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), flags, 0, 0)
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}
