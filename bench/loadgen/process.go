// What the server's process costs: CPU, memory, descriptors; and what else the
// machine did meanwhile.

package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"unsafe"
)

// cpuNanos reads the CPU clock of other processes (user and system, threads that
// ended included) to the nanosecond; /proc/PID/stat counts in 10 ms.
func cpuNanos(pids []int) (sum int64) {
	for _, pid := range pids {
		const schedClock = 2 // the precise one of a process's clocks
		clock := int32(^pid<<3 | schedClock)
		var ts syscall.Timespec
		_, _, e := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, uintptr(clock), uintptr(unsafe.Pointer(&ts)), 0)
		if e == 0 {
			sum += ts.Nano()
		}
	}
	return sum
}

// cpuShares gives user and system time from /proc/PID/stat, in seconds.
func cpuShares(pids []int) (user, sys float64) {
	for _, pid := range pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		s := string(b)
		f := strings.Fields(s[strings.LastIndexByte(s, ')')+1:])
		if len(f) < 13 {
			continue
		}
		u, _ := strconv.ParseFloat(f[11], 64)
		k, _ := strconv.ParseFloat(f[12], 64)
		user += u / 100
		sys += k / 100
	}
	return user, sys
}

func selfCPU() int64 {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return r.Utime.Nano() + r.Stime.Nano()
}

// A memory holds bytes and counts of the measured processes.
type memory struct{ rss, pss, threads, fds float64 }

func memoryOf(pids []int) (m memory) {
	for _, pid := range pids {
		if f, err := os.Open(fmt.Sprintf("/proc/%d/smaps_rollup", pid)); err == nil {
			for lines := bufio.NewScanner(f); lines.Scan(); {
				w := strings.Fields(lines.Text())
				if len(w) < 2 {
					continue
				}
				kib, _ := strconv.ParseFloat(w[1], 64)
				switch w[0] {
				case "Rss:":
					m.rss += kib * 1024
				case "Pss:":
					m.pss += kib * 1024
				}
			}
			_ = f.Close()
		}
		if d, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid)); err == nil {
			m.threads += float64(len(d))
		}
		if d, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid)); err == nil {
			m.fds += float64(len(d))
		}
	}
	return m
}

// A machine is the whole machine's time from /proc/stat, in seconds.
type machine struct{ busy, steal, total float64 }

func machineNow() (m machine) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return m
	}
	line, _, _ := strings.Cut(string(b), "\n")
	for i, s := range strings.Fields(line) {
		v, _ := strconv.ParseFloat(s, 64)
		v /= 100
		switch {
		case i == 0 || i > 8: // the name; guests, which user time includes
			continue
		case i == 4 || i == 5: // idle, waiting for a disk
		case i == 8:
			m.steal += v
		default:
			m.busy += v
		}
		m.total += v
	}
	return m
}

// sendQueue returns how much of what the server wrote to c the kernel still
// holds, and whether the connection is up on the server's side.
func (l *loop) sendQueue(c *conn) (bytes int64, up bool) {
	sa, err := syscall.Getsockname(c.fd)
	if err != nil {
		return 0, false
	}
	own := sa.(*syscall.SockaddrInet4)
	server := l.target(c).addr.IP.To4()
	local := hexAddr([4]byte(server), l.target(c).addr.Port)
	remote := hexAddr(own.Addr, own.Port)
	// A server that listens on both families has its IPv4 connections in the
	// second table.
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(table)
		if err != nil {
			continue
		}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			w := strings.Fields(lines.Text())
			if len(w) > 4 && strings.HasSuffix(w[1], local) && strings.HasSuffix(w[2], remote) {
				q, _, _ := strings.Cut(w[4], ":")
				bytes, _ = strconv.ParseInt(q, 16, 64)
				up = w[3] == "01" || w[3] == "08" // established, or closed by the client
			}
		}
		_ = f.Close()
	}
	return bytes, up
}

// hexAddr writes an address as /proc/net/tcp does.
func hexAddr(ip [4]byte, port int) string {
	return fmt.Sprintf("%02X%02X%02X%02X:%04X", ip[3], ip[2], ip[1], ip[0], port)
}
