// The log of both nodes: what it may contain, and how much.

package main

import (
	"context"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"time"
)

const (
	// logWindow is over how long log lines are counted, and logLines and logBytes how
	// many may come in one.
	logWindow = 2 * time.Second
	logLines  = 3000
	logBytes  = 4 << 20
	// logRecord is how long a record may be, a stack included.
	logRecord = 64 << 10
	// slowWithin is how long before a line the machine may have been busy.
	slowWithin = 5 * time.Second
	// logValue is how long one of its values may be, but for a stack.
	logValue = 4 << 10
)

// logHandler records a breach for every error that a server logs, unless it belongs to
// trouble, and for too many or too long lines.
type logHandler struct {
	slog.Handler
	w *world
}

// troubled is who may be in an error: users and trips of trouble.
var troubled = regexp.MustCompile(`\b(user|trip|id)=(hs|hl|xh|b[0-9])`)

// unanswered is how an error says that a call took too long, or was not made because
// others had.
const unanswered = `.*(no answer|not called: |deadline exceeded)`

// hung is what a log may say of others than trouble's own users when services hang: the
// sweep asks about many at once, a token of a stranger names nobody, and a listener
// belongs to none.
var hung = regexp.MustCompile(`(?s)^realtime: (sweep could not read all rows|handshake not decided .*code=unavailable` +
	`|call of the host's code failed .*(event=stress:|call=OnServerEmit|call=OnDisconnect))` + unanswered + `|^realtime: log lines were suppressed line=realtime: (lookup of a trip's parties failed|lookup of a driver's trips failed|handler does not return|call of the host's code failed|handshake not decided|handler failed)`)

// slow is what a log may say on a busy machine, where what should take a moment exceeds
// its time.
var slow = regexp.MustCompile(`(?s)^realtime: (call of the host's code failed .*call=(Adapter\.|Trace|OnServerEmit|OnDisconnect)|handshake not decided .*code=unavailable` +
	`|handler failed .*event=stress:quiz .*error=realtime: acknowledgment timed out|sweep could not read all rows|presence not published)` + unanswered)

// Enabled implements slog.Handler: the handler inside discards everything, and would have
// no line made.
func (*logHandler) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

// Handle implements slog.Handler.
func (h *logHandler) Handle(_ context.Context, r slog.Record) error {
	text := r.Message
	r.Attrs(func(a slog.Attr) bool {
		value := a.String()
		if len(value) > logValue && !strings.Contains(value, "goroutine") && !strings.Contains(value, ".go:") {
			h.w.oracle.breachf("a server logged %d bytes as %s of %q", len(value), a.Key, r.Message)
		}
		text += " " + value
		return true
	})
	h.w.meter.add(h.w.oracle, time.Now(), len(text))
	if h.w.config.deaf {
		return nil
	}
	h.w.host.ledger.logged(r, text)
	if r.Level >= slog.LevelError && !h.excused(text) {
		h.w.oracle.breachf("a server logged: %s", text)
	}
	return nil
}

// excused reports whether an error belongs to trouble.
func (h *logHandler) excused(text string) bool {
	w := h.w
	return w.has(panics) && (strings.Contains(text, planned) || strings.Contains(text, "goexit") || strings.Contains(text, "Goexit")) ||
		troubled.MatchString(text) && !strings.Contains(text, "runtime error") ||
		(w.has(hang) || w.has(panics) || w.has(strangers)) && hung.MatchString(text) ||
		slow.MatchString(text) && w.busy(time.Now().Add(-slowWithin))
}

// meter counts log lines. All methods may be called concurrently.
type meter struct {
	mu    sync.Mutex // guards all of it
	began time.Time
	lines int
	bytes int
	most  int // lines in one window
}

// add counts a record, and records a breach if there are too many.
func (m *meter) add(o *oracle, now time.Time, size int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if size > logRecord {
		o.breachf("a server logged %d bytes at once", size)
	}
	if now.Sub(m.began) > logWindow {
		m.began, m.lines, m.bytes = now, 0, 0
	}
	m.lines++
	m.bytes += size
	m.most = max(m.most, m.lines)
	if m.lines == logLines || m.bytes >= logBytes && m.bytes-size < logBytes {
		o.breachf("the servers logged %d lines, %d KiB, within %v", m.lines, m.bytes>>10, now.Sub(m.began).Round(time.Millisecond))
	}
}
