//go:build unix

// A redis-server process, for tests on the real thing.

package redistest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
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

// StartProcess starts a redis-server with further flags, which is killed when the test ends.
func StartProcess(t testing.TB, flags ...string) *Process {
	t.Helper()
	p, err := NewProcess(t.TempDir(), flags...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

// NewProcess is StartProcess for programs: the caller kills the server and removes its
// directory.
func NewProcess(dir string, flags ...string) (*Process, error) {
	p := &Process{dir: dir, flags: flags}
	for try := 0; ; try++ {
		port, err := freePort()
		if err != nil {
			return nil, err
		}
		p.port = port
		if err = p.Start(); err == nil || try == 5 { // somebody else takes the port each time
			return p, err
		}
	}
}

// StartCluster starts a cluster of three masters, waits until it works, and returns its URL.
func StartCluster(t testing.TB) (url string) {
	t.Helper()
	create := []string{"--cluster", "create", "--cluster-yes"}
	var nodes [3]*Process
	for i := range nodes {
		bus, err := freePort()
		if err != nil {
			t.Fatal(err)
		}
		nodes[i] = StartProcess(t, "--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(bus), "--cluster-node-timeout", "5000")
		create = append(create, nodes[i].Addr())
	}
	if out, err := exec.Command("redis-cli", create...).CombinedOutput(); err != nil { //nolint:noctx // it ends by itself
		t.Fatalf("redis-cli: %v: %s", err, out)
	}
	for _, p := range nodes {
		for deadline := time.Now().Add(20 * time.Second); !strings.Contains(p.ask("CLUSTER INFO"), "cluster_state:ok"); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the cluster does not come up")
			}
		}
	}
	return nodes[0].URL()
}

// freePort returns a port of the loopback interface that nobody uses just now.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it does not block
	if err != nil {
		return 0, err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port, nil //nolint:errcheck,forcetypeassert // it is TCP
}

// Addr returns the server's address, which a restart keeps.
func (p *Process) Addr() string { return "127.0.0.1:" + strconv.Itoa(p.port) }

// URL returns Addr as a URL.
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
	return strings.Contains(p.ask("INFO server"), fmt.Sprintf("process_id:%d\r", p.cmd.Process.Pid))
}

// ask sends a command and returns the answer, or nothing if there is none.
func (p *Process) ask(command string) string {
	c, err := net.Dial("tcp", p.Addr()) //nolint:noctx // it is the loopback interface
	if err != nil {
		return ""
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(time.Second))
	_, _ = io.WriteString(c, command+"\r\n")
	r := bufio.NewReader(c)
	size, err := number(r, '$')
	if err != nil {
		return ""
	}
	b := make([]byte, size)
	n, _ := io.ReadFull(r, b)
	return string(b[:n])
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
