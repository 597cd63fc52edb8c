//go:build unix

// A child process, for tests in which a node is killed or stopped.

package redistest

import (
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Child is the test binary, run once more as another program.
type Child struct {
	cmd *exec.Cmd
	out *os.File
}

// StartChild runs the test binary with an environment variable, in which an init function finds what
// to do. The child is killed when the test ends.
func StartChild(t testing.TB, env string) *Child {
	t.Helper()
	c := &Child{cmd: exec.Command(os.Args[0])} //nolint:gosec,noctx // it runs until Kill
	c.cmd.Env = append(os.Environ(), env)
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c.out, c.cmd.Stdout = out, in
	err = c.cmd.Start()
	_ = in.Close()
	t.Cleanup(func() { _ = out.Close() })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Kill)
	return c
}

// Expect reads that much of the child's output and fails the test if it is another text, or does
// not come within a minute.
func (c *Child) Expect(t testing.TB, text string) {
	t.Helper()
	if b := c.read(t, len(text)); b != text {
		t.Fatalf("the child wrote %q, not %q", b, text)
	}
}

// Line reads the next line of the child's output, within a minute.
func (c *Child) Line(t testing.TB) (line string) {
	t.Helper()
	for !strings.HasSuffix(line, "\n") {
		line += c.read(t, 1)
	}
	return strings.TrimSuffix(line, "\n")
}

func (c *Child) read(t testing.TB, n int) string {
	t.Helper()
	b := make([]byte, n)
	err := c.out.SetReadDeadline(time.Now().Add(time.Minute))
	if err == nil {
		n, err = io.ReadFull(c.out, b)
	}
	if err != nil {
		t.Fatalf("the child wrote %q, and then: %v", b[:n], err)
	}
	return string(b)
}

// Pause stops the child without closing anything.
func (c *Child) Pause() error { return stop(c.cmd.Process.Pid) }

// stop stops a child process and waits until all its threads are: on a busy machine that takes time.
func stop(pid int) error {
	err := syscall.Kill(pid, syscall.SIGSTOP)
	if err == nil {
		for {
			if _, err = syscall.Wait4(pid, nil, syscall.WUNTRACED, nil); err != syscall.EINTR {
				break
			}
		}
	}
	return err
}

// Resume lets a paused child go on.
func (c *Child) Resume() error { return c.cmd.Process.Signal(syscall.SIGCONT) }

// Kill ends the child at once.
func (c *Child) Kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}
