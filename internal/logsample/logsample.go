// Package logsample bounds how much clients can make a server log. Its slog.Handler
// passes on a limited number of lines of each kind, counts the suppressed ones, and
// clips long strings.
package logsample

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/rodando/realtime/internal/ratelimit"
)

const (
	// MaxString is the number of bytes of a string that are logged.
	MaxString = 200
	// MaxText is the number of bytes of an error, or of any other value's text, that
	// are logged.
	MaxText = 800
	// MaxStack is the number of bytes of a stack that are logged.
	MaxStack = 16 << 10
	// maxDepth is how deep groups are nested at most; deeper ones are left out.
	maxDepth = 4
	// maxKinds is the number of kinds that are counted separately; further kinds count
	// as one.
	maxKinds = 1024
)

// perKindAtLeast: a line of each kind passes this often, even when InAll is exhausted.
const perKindAtLeast = time.Second

var (
	// PerKind limits the lines of one kind: 10 a second, 100 at once.
	PerKind = ratelimit.Rate{PerSecond: 10, Burst: 100}
	// WithRemedy limits the lines of one kind that have a remedy: one in 10 seconds, 10 at
	// once. More of them do not say more about what to do.
	WithRemedy = ratelimit.Rate{PerSecond: 0.1, Burst: 10}
	// InAll limits the lines of all kinds together: 50 a second, 500 at once. One line
	// a second of each kind passes all the same.
	InAll = ratelimit.Rate{PerSecond: 50, Burst: 500}
)

// Suppressed is the key of the attribute with the number of suppressed lines of the
// same kind since the last one that passed.
const Suppressed = "suppressed"

// Remedy is the key of the attribute that says what to do.
const Remedy = "remedy"

// flushed is the message of the lines that Flush logs.
const flushed = "realtime: log lines were suppressed"

// stack is the key of the attribute that may be long: no client chooses its text.
const stack = "stack"

// Handler is a slog.Handler that limits lines by kind. The kind of a line is its level,
// its message, and its values of "namespace", "event", "code", "call", "reason" and "limit". Lines
// below slog.LevelInfo are not limited, only clipped: a host that asks for them asks for each. Its
// methods may be called concurrently.
type Handler struct {
	next slog.Handler
	*sampler
}

// sampler is the state that a Handler shares with those derived from it.
type sampler struct {
	quota, remedy, inAll ratelimit.Quota
	start                time.Time

	mu    sync.Mutex // guards the fields below, and all lines
	all   ratelimit.Bucket
	kinds map[kind]*lines
}

type kind struct {
	level                                                slog.Level
	message, namespace, event, code, call, reason, limit string
	remedy                                               bool // it has one
}

// lines counts the lines of one kind.
type lines struct {
	bucket     ratelimit.Bucket
	passed     time.Duration // when the last one passed, since the start; 0: none has
	suppressed int           // since then
}

// New returns a handler that passes lines on to next.
func New(next slog.Handler) *Handler {
	return &Handler{next, &sampler{
		quota: PerKind.Quota(), remedy: WithRemedy.Quota(), inAll: InAll.Quota(), start: time.Now(), kinds: map[kind]*lines{},
	}}
}

// Enabled implements slog.Handler.
func (h *Handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.next.Enabled(ctx, level)
}

// WithAttrs implements slog.Handler.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	short := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		short[i] = shorten(a, 0)
	}
	return &Handler{h.next.WithAttrs(short), h.sampler}
}

// WithGroup implements slog.Handler.
func (h *Handler) WithGroup(name string) slog.Handler {
	return &Handler{h.next.WithGroup(name), h.sampler}
}

// Handle implements slog.Handler.
func (h *Handler) Handle(ctx context.Context, r slog.Record) error {
	k := kind{level: r.Level, message: Clip(r.Message)}
	r.Attrs(func(a slog.Attr) bool {
		if a.Value.Kind() == slog.KindString || a.Value.Kind() == slog.KindAny {
			switch a.Key {
			case "namespace":
				k.namespace = Clip(a.Value.String())
			case "event":
				k.event = Clip(a.Value.String())
			case "code":
				k.code = Clip(a.Value.String())
			case "call":
				k.call = Clip(a.Value.String())
			case "reason":
				k.reason = Clip(a.Value.String())
			case "limit":
				k.limit = Clip(a.Value.String())
			case Remedy:
				k.remedy = true
			}
		}
		return true
	})
	suppressed, ok := 0, r.Level < slog.LevelInfo
	if !ok {
		suppressed, ok = h.take(k)
	}
	if !ok {
		return nil
	}
	short := slog.NewRecord(r.Time, r.Level, k.message, r.PC)
	r.Attrs(func(a slog.Attr) bool {
		short.AddAttrs(shorten(a, 0))
		return true
	})
	if suppressed > 0 {
		short.AddAttrs(slog.Int(Suppressed, suppressed))
	}
	return h.next.Handle(ctx, short)
}

// shorten returns an attribute with its texts clipped, because any of them may contain text of
// a client. depth is the number of groups that the attribute is in.
func shorten(a slog.Attr, depth int) slog.Attr {
	a.Key, a.Value = Clip(a.Key), a.Value.Resolve()
	switch a.Value.Kind() {
	case slog.KindString:
		if s := a.Value.String(); a.Key != stack {
			a.Value = slog.StringValue(Clip(s))
		} else {
			a.Value = slog.StringValue(s[:min(len(s), MaxStack)])
		}
	case slog.KindAny:
		text := a.Value.String()
		if err, ok := a.Value.Any().(error); ok {
			text = err.Error()
		}
		if !loggable(text, MaxText) {
			a.Value = slog.StringValue(clip(text, MaxText))
		}
	case slog.KindGroup:
		if depth == maxDepth {
			return slog.String(a.Key, "...")
		}
		short := make([]slog.Attr, 0, len(a.Value.Group()))
		for _, in := range a.Value.Group() {
			short = append(short, shorten(in, depth+1))
		}
		a.Value = slog.GroupValue(short...)
	default: // numbers and times
	}
	return a
}

// take reports whether a line passes, and how many of its kind were suppressed before.
func (s *sampler) take(k kind) (suppressed int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.kinds[k]
	if l == nil && len(s.kinds) >= maxKinds {
		k = kind{}
		l = s.kinds[k]
	}
	if l == nil {
		l = &lines{}
		s.kinds[k] = l
	}
	now := time.Since(s.start) + 1 // never 0
	due := l.passed == 0 || now-l.passed >= perKindAtLeast
	quota := s.quota
	if k.remedy {
		quota = s.remedy
	}
	if !l.bucket.Allow(quota, now) || !s.all.Allow(s.inAll, now) && !due {
		l.suppressed++
		return 0, false
	}
	l.passed = now
	suppressed, l.suppressed = l.suppressed, 0
	return suppressed, true
}

// Flush logs the number of suppressed lines of each kind since its last line.
func (h *Handler) Flush(ctx context.Context) {
	h.mu.Lock()
	var left []slog.Record
	for k, l := range h.kinds {
		if l.suppressed == 0 {
			continue
		}
		r := slog.NewRecord(time.Now(), k.level, flushed, 0)
		r.AddAttrs(slog.String("line", k.message))
		for _, a := range []slog.Attr{slog.String("namespace", k.namespace), slog.String("event", k.event), slog.String("code", k.code), slog.String("call", k.call), slog.String("reason", k.reason), slog.String("limit", k.limit)} {
			if a.Value.String() != "" {
				r.AddAttrs(a)
			}
		}
		r.AddAttrs(slog.Int(Suppressed, l.suppressed))
		l.suppressed = 0
		left = append(left, r)
	}
	h.mu.Unlock()
	for _, r := range left {
		if h.next.Enabled(ctx, r.Level) {
			_ = h.next.Handle(ctx, r) // slog.Logger drops the error too
		}
	}
}

// Clip returns the first MaxString bytes of s, and the length of s if it is longer. It
// escapes characters that are not printable, which could forge a log line.
func Clip(s string) string { return clip(s, MaxString) }

func clip(s string, most int) string {
	if loggable(s, most) {
		return s
	}
	var b strings.Builder
	for _, r := range s { // ends early: s may have megabytes
		if printable(r) {
			b.WriteRune(r)
		} else {
			q := strconv.QuoteRuneToASCII(r)
			b.WriteString(q[1 : len(q)-1])
		}
		if b.Len() >= most {
			break
		}
	}
	if len(s) > most {
		b.WriteString("... (" + strconv.Itoa(len(s)) + " bytes)")
	}
	return b.String()
}

func loggable(s string, most int) bool {
	return len(s) <= most && !strings.ContainsFunc(s, func(r rune) bool { return !printable(r) })
}

func printable(r rune) bool { return r != utf8.RuneError && unicode.IsPrint(r) }
