//go:build unix

// What a node writes to its standard error: a log, in which no crash and no race may appear.

package main

import (
	"bytes"
	"log/slog"
	"os"
	"regexp"
	"sync"
)

// silent is the logger of what the parent uses itself.
var silent = slog.New(slog.DiscardHandler)

// crash is how a Go program, and the race detector, begin to say that something is broken.
var crash = regexp.MustCompile(`^(panic: |fatal error: |WARNING: DATA RACE|unexpected fault address|SIGSEGV)|^goroutine profile: total`)

// maxLine is the longest line that is looked at as a whole.
const maxLine = 64 << 10

// nodeOutput looks for crashes in what a node writes, and keeps it in a file if there is one. All
// methods may be called concurrently.
type nodeOutput struct {
	breach func(line string)
	file   *os.File

	mu   sync.Mutex // guards line
	line []byte     // without its end, which has not come yet
}

// Write implements io.Writer.
func (n *nodeOutput) Write(b []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.file != nil {
		_, _ = n.file.Write(b) // a full disk costs the log
	}
	n.line = append(n.line, b...)
	for {
		line, rest, ok := bytes.Cut(n.line, []byte("\n"))
		if !ok && len(n.line) < maxLine {
			return len(b), nil
		}
		if crash.Match(line) {
			n.breach(string(line))
		}
		n.line = append([]byte(nil), rest...)
	}
}

func (n *nodeOutput) close() {
	if n.file != nil {
		_ = n.file.Close()
	}
}
