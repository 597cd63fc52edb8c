//go:build unix

// A recorder of everything that clients send to a server, for tests of what must not be in it.

package redistest

import (
	"bufio"
	"crypto/rand"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Monitor records the commands of all clients, with MONITOR: unlike a subscriber of the channels, it
// is no server whose answer others wait for.
type Monitor struct {
	server *Process

	mu    sync.Mutex // guards lines
	lines []string
}

// Monitor starts a recorder, which ends with the test.
func (p *Process) Monitor(t testing.TB) *Monitor {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr()) //nolint:noctx // it is the loopback interface
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := c.Write([]byte("MONITOR\r\n")); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	if _, err := reply(r); err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Time{})
	m := &Monitor{server: p}
	var reading sync.WaitGroup
	reading.Go(func() { m.read(r) })
	t.Cleanup(func() {
		_ = c.Close()
		reading.Wait()
	})
	return m
}

func (m *Monitor) read(r *bufio.Reader) {
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		m.mu.Lock()
		m.lines = append(m.lines, line)
		m.mu.Unlock()
	}
}

// Commands returns the commands until now of the clients that have selected a database, one a line,
// as MONITOR prints them: ASCII text is legible.
func (m *Monitor) Commands(t testing.TB, database int) (commands []string) {
	t.Helper()
	mark := rand.Text()
	m.server.Do(t, "ECHO", mark)
	var all []string
	Await(t, "MONITOR shows everything", func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		all = slices.Clone(m.lines)
		return slices.ContainsFunc(all, func(line string) bool { return strings.Contains(line, mark) })
	})
	for _, line := range all { // +1700000000.000000 [0 127.0.0.1:50000] "PUBLISH" ...
		if _, rest, _ := strings.Cut(line, " ["); strings.HasPrefix(rest, strconv.Itoa(database)+" ") {
			commands = append(commands, line)
		}
	}
	return commands
}
