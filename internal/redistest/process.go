//go:build unix

// A redis-server process, for tests on the real thing.

package redistest

import (
	"fmt"
	"io"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Process is a redis-server on a port of the loopback interface, which keeps nothing on
// disk.
type Process struct {
	port  int
	dir   string
	flags []string
	cmd   *exec.Cmd
}

// StartProcess starts a redis-server with a working directory and further flags.
func StartProcess(dir string, flags ...string) (*Process, error) {
	p := &Process{dir: dir, flags: flags}
	for try := 0; ; try++ {
		var err error
		if p.port, err = FreePort(); err != nil {
			return nil, err
		}
		if err = p.Start(); err == nil {
			return p, nil
		}
		if try == 5 { // somebody else takes the port each time
			return nil, err
		}
	}
}

// FreePort returns a port of the loopback interface that nobody uses just now.
func FreePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it does not block
	if err != nil {
		return 0, err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port, nil //nolint:errcheck,forcetypeassert // it is TCP
}

// Addr is where the server is, after a restart too.
func (p *Process) Addr() string { return "127.0.0.1:" + strconv.Itoa(p.port) }

// URL is Addr as a URL.
func (p *Process) URL() string { return "redis://" + p.Addr() }

// Start starts the server again after Kill, and waits until it answers.
func (p *Process) Start() error {
	args := []string{"--port", strconv.Itoa(p.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", p.dir}
	p.cmd = exec.Command("redis-server", append(args, p.flags...)...) //nolint:gosec,noctx // it runs until Kill
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("redis-server, which these tests need: %w", err)
	}
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if p.answers() {
			return nil
		}
		if p.cmd.ProcessState != nil {
			break
		}
	}
	p.Kill()
	return fmt.Errorf("redis-server does not come up on port %d", p.port)
}

// answers reports whether it is this process that listens on the port.
func (p *Process) answers() bool {
	c, err := net.Dial("tcp", p.Addr()) //nolint:noctx // it is the loopback interface
	if err != nil {
		return false
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(time.Second))
	_, _ = io.WriteString(c, "INFO server\r\n")
	b := make([]byte, 4096)
	n, _ := io.ReadAtLeast(c, b, 1000)
	return strings.Contains(string(b[:n]), fmt.Sprintf("process_id:%d\r", p.cmd.Process.Pid))
}

// Kill ends the process at once.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// Pause stops the process without closing anything.
func (p *Process) Pause() error { return p.cmd.Process.Signal(syscall.SIGSTOP) }

// Resume lets a paused process go on.
func (p *Process) Resume() error { return p.cmd.Process.Signal(syscall.SIGCONT) }
