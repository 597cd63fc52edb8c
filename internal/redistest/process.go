//go:build unix

// A process of redis-server or valkey-server, for tests on the real thing.

package redistest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Process is a redis-server, or with E2E_VALKEY=1 a valkey-server, on a port of the loopback
// interface. It keeps nothing on disk.
type Process struct {
	port  int
	claim io.Closer // of the port, also while the server is killed
	dir   string
	conf  string // a configuration file; empty: none
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
	return newProcess(dir, "", flags...)
}

func newProcess(dir, conf string, flags ...string) (*Process, error) {
	p := &Process{dir: dir, conf: conf, flags: flags}
	for try := 0; ; try++ {
		port, claim, err := freePort()
		if err != nil {
			return nil, err
		}
		p.port, p.claim = port, claim
		if err = p.Start(); err == nil || try == 5 { // somebody else takes the port each time
			return p, err
		}
		_ = claim.Close()
	}
}

// freePort returns a port of the loopback interface that nobody listens on, below those that the system gives to
// connections: a server that starts again finds it free. The claim, a UDP socket of the same number, keeps other
// callers of freePort from it.
func freePort() (port int, claim io.Closer, err error) {
	for range 1000 {
		port = 20_000 + rand.IntN(12_000)
		addr := "127.0.0.1:" + strconv.Itoa(port)
		if claim, err = net.ListenPacket("udp", addr); err != nil { //nolint:noctx // it does not block
			continue
		}
		var l net.Listener
		if l, err = net.Listen("tcp", addr); err == nil { //nolint:noctx // it does not block
			return port, claim, l.Close()
		}
		_ = claim.Close()
	}
	return 0, nil, err
}

// Addr returns the server's address, which a restart keeps.
func (p *Process) Addr() string { return "127.0.0.1:" + strconv.Itoa(p.port) }

// URL returns Addr as a URL.
func (p *Process) URL() string { return "redis://" + p.Addr() }

// Start starts the server again after Kill, and waits until it answers.
func (p *Process) Start() error {
	args := []string{"--port", strconv.Itoa(p.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", p.dir}
	if p.conf != "" {
		args = append([]string{p.conf}, args...)
	}
	p.cmd = exec.Command(program("server"), append(args, p.flags...)...) //nolint:gosec,noctx // it runs until Kill
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("%s, which these tests need: %w", program("server"), err)
	}
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if p.Answers() {
			return nil
		}
		if p.cmd.ProcessState != nil {
			break
		}
	}
	p.Kill()
	return fmt.Errorf("%s does not come up on port %d", program("server"), p.port)
}

// program returns the name of a program, such as redis-server. With E2E_VALKEY=1 it is Valkey's.
func program(name string) string {
	if os.Getenv("E2E_VALKEY") == "1" {
		return "valkey-" + name
	}
	return "redis-" + name
}

// Answers reports whether it is this process that listens on the port.
func (p *Process) Answers() bool {
	return strings.Contains(p.ask("INFO", "server"), fmt.Sprintf("process_id:%d\r", p.cmd.Process.Pid))
}

// ask sends a command and returns the answer, or nothing if there is none.
func (p *Process) ask(args ...string) string {
	answer, _ := p.try(args...) // the server may be starting
	return answer
}

// Pulse starts a Pulse that asks this server.
func (p *Process) Pulse(t testing.TB) *Pulse {
	t.Helper()
	return StartPulse(t, func() bool { return p.ask("PING") == "PONG" })
}

// Do sends a command and returns the answer, the parts of a list as lines. An error fails the test.
func (p *Process) Do(t testing.TB, args ...string) string {
	t.Helper()
	answer, err := p.try(args...)
	if err != nil {
		t.Fatalf("%s: %v", strings.Join(args[:min(len(args), 2)], " "), err)
	}
	return answer
}

func (p *Process) try(args ...string) (string, error) {
	c, err := net.Dial("tcp", p.Addr()) //nolint:noctx // it is the loopback interface
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	b := fmt.Appendf(nil, "*%d\r\n", len(args))
	for _, arg := range args {
		b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(arg), arg)
	}
	if _, err := c.Write(b); err != nil {
		return "", err
	}
	return reply(bufio.NewReader(c))
}

// reply reads an answer.
func reply(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	text := strings.TrimRight(line[1:], "\r\n")
	n, _ := strconv.Atoi(text)
	switch line[0] {
	case '+', ':':
		return text, nil
	case '$':
		b := make([]byte, max(n, 0)+2)
		if n >= 0 {
			_, err = io.ReadFull(r, b)
		}
		return string(b[:len(b)-2]), err
	case '*':
		parts := make([]string, max(n, 0))
		for i := range parts {
			if parts[i], err = reply(r); err != nil {
				return "", err
			}
		}
		return strings.Join(parts, "\n"), nil
	}
	return "", errors.New(text)
}

// Kill ends the process at once.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// Pause stops the process without closing anything.
func (p *Process) Pause() error { return stop(p.cmd.Process.Pid) }

// Resume lets a paused process go on.
func (p *Process) Resume() error { return p.cmd.Process.Signal(syscall.SIGCONT) }
