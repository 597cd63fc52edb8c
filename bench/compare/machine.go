// The machine that the figures were taken on, without its name.

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
)

// describe returns the lines of the report's list.
func describe(ctx context.Context) []string {
	return []string{
		fmt.Sprintf("%s, %d cores, %s/%s", cpuModel(), runtime.NumCPU(), runtime.GOOS, runtime.GOARCH),
		"kernel " + kernel(),
		strings.Replace(runtime.Version(), "go", "Go ", 1),
		"Node " + nodeVersion(ctx),
	}
}

func cpuModel() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(b)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown CPU"
}

// kernel is the release's number, without what a distributor added.
func kernel() string {
	var u syscall.Utsname
	if syscall.Uname(&u) != nil {
		return "unknown"
	}
	var b strings.Builder
	for _, c := range u.Release {
		if c == 0 || c == '-' {
			break
		}
		b.WriteByte(byte(c))
	}
	return b.String()
}

func nodeVersion(ctx context.Context) string {
	b, err := exec.CommandContext(ctx, "node", "--version").Output()
	if err != nil {
		return "not there"
	}
	return strings.TrimPrefix(strings.TrimSpace(string(b)), "v")
}
