//go:build unix

// A node's process as the parent sees it: it is started, stopped, killed, and read.

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/rodando/realtime/internal/redistest"
)

// startTime is how long a node may take to start.
const startTime = 30 * time.Second

// place is where a node runs: it has a path to Redis, and one process after another.
type place struct {
	name string
	path *redistest.Path

	mu  sync.Mutex // guards now
	now *life      // the process that runs, or nil

	bad []span // when the path was in trouble; the oracle's mu guards it
}

// life is one process of a node.
type life struct {
	place *place
	name  string // such as "n1.3"
	cmd   *exec.Cmd
	stdin io.Closer
	url   string
	began time.Time
	ready chan struct{} // closed when it is ready or has ended
	ended chan struct{} // closed when its process has ended, and everything it wrote was read

	// What it reported. The oracle's mu guards it.
	gaps    []report
	over    time.Time // when it ended; zero while it runs
	killed  bool      // by the parent
	leaving bool      // the parent has sent SIGTERM
	clean   bool      // it reported that it ends
	bad     []span    // when it was in trouble
	late    []delay   // when it was late
}

// span is a period. A zero end means that it goes on.
type span struct {
	from, to time.Time
	what     string
}

// meets reports whether the span overlaps a period.
func (s span) meets(from, to time.Time) bool {
	return s.from.Before(to) && (s.to.IsZero() || s.to.After(from))
}

// current returns the process that runs, or nil.
func (p *place) current() *life {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now
}

// launch starts a process at a place, and does not wait until it is ready.
func (w *world) launch(p *place) (*life, error) {
	settings, err := json.Marshal(nodeSettings{Name: p.name, Redis: p.path.URL(), Rows: w.rows.url, LooksUp: w.config.seed%2 == 1, Recovery: w.config.recovery})
	if err != nil {
		return nil, err
	}
	number := w.count.Add("nodes started", 1)
	l := &life{place: p, name: fmt.Sprintf("%s.%d", p.name, number), began: time.Now(), ready: make(chan struct{}), ended: make(chan struct{})}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	l.cmd = exec.Command(self)
	l.cmd.Env = append(os.Environ(), nodeEnv+"="+string(settings))
	stdin, err := l.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	l.stdin = stdin
	out, err := l.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	logs := &nodeOutput{breach: func(line string) { w.oracle.breachf("node %s wrote: %s", l.name, line) }}
	if w.config.logs != "" {
		if logs.file, err = os.Create(filepath.Join(w.config.logs, l.name+".log")); err != nil {
			return nil, err
		}
	}
	l.cmd.Stderr = logs
	w.oracle.begins(l)
	if err := l.cmd.Start(); err != nil {
		return nil, err
	}
	p.mu.Lock()
	p.now = l
	p.mu.Unlock()
	w.running.Go(func() {
		w.read(l, out)
		err := l.cmd.Wait()
		logs.close()
		p.mu.Lock()
		if p.now == l {
			p.now = nil
		}
		p.mu.Unlock()
		w.oracle.ends(l, err)
		close(l.ended)
	})
	return l, nil
}

// read passes a node's reports on.
func (w *world) read(l *life, out io.Reader) {
	ready := sync.OnceFunc(func() { close(l.ready) })
	defer ready()
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r report
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			if !w.oracle.wasKilled(l) { // a kill may end it in the middle of a line
				w.oracle.breachf("node %s reports nonsense: %.200q", l.name, lines.Text())
			}
			continue
		}
		if r.Kind == reportReady {
			l.url = r.URL
			ready()
			continue
		}
		if r.Kind == reportHandled {
			w.book.Handled(r.ID, r.At)
		}
		w.oracle.reported(l, r)
	}
}

// signal sends a signal, and ignores that the process may have ended.
func (l *life) signal(s syscall.Signal) { _ = l.cmd.Process.Signal(s) }

// isReady reports whether clients can connect.
func (l *life) isReady() bool {
	select {
	case <-l.ready:
		return l.url != ""
	default:
		return false
	}
}
