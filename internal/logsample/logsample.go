// Package logsample keeps strangers from filling a log: a slog.Handler that passes
// on a number of lines of each kind, counts the others, and clips what clients say.
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
	// MaxString is how many bytes of a string are logged.
	MaxString = 200
	// maxKinds bounds the kinds that are told apart; others count as one.
	maxKinds = 1024
)

// perKindAtLeast is how often a line of each kind passes, whatever the others do.
const perKindAtLeast = time.Second

var (
	// PerKind is how many lines of one kind pass: 10 a second, 100 at once.
	PerKind = ratelimit.Rate{PerSecond: 10, Burst: 100}
	// InAll is how many lines of all kinds do, but for one a second of each: 50 a
	// second, 500 at once.
	InAll = ratelimit.Rate{PerSecond: 50, Burst: 500}
)

// Suppressed is the key of the attribute that says how many lines of the same kind
// were left out since the last one.
const Suppressed = "suppressed"

// flushed is the message of Flush.
const flushed = "realtime: log lines were left out"

// stack is the key of what is long and no client's.
const stack = "stack"

// Handler is a slog.Handler. A line's kind is its message, its level, and what it
// has for "namespace", "event", "code" and "call".
type Handler struct {
	next slog.Handler
	*sampler
}

type sampler struct {
	quota, inAll ratelimit.Quota
	start        time.Time

	mu sync.Mutex
	// mu guards what follows.
	all   ratelimit.Bucket
	kinds map[kind]*lines
}

type kind struct {
	level                                 slog.Level
	message, namespace, event, code, call string
}

// lines are those of one kind.
type lines struct {
	bucket     ratelimit.Bucket
	passed     time.Duration // when the last one did, since the start; 0: none has
	suppressed int
}

// New returns a handler that passes lines on to next.
func New(next slog.Handler) *Handler {
	return &Handler{next, &sampler{quota: PerKind.Quota(), inAll: InAll.Quota(), start: time.Now(), kinds: map[kind]*lines{}}}
}

// Enabled implements slog.Handler.
func (h *Handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.next.Enabled(ctx, level)
}

// WithAttrs implements slog.Handler.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &Handler{h.next.WithAttrs(attrs), h.sampler}
}

// WithGroup implements slog.Handler.
func (h *Handler) WithGroup(name string) slog.Handler {
	return &Handler{h.next.WithGroup(name), h.sampler}
}

// Handle implements slog.Handler.
func (h *Handler) Handle(ctx context.Context, r slog.Record) error {
	k := kind{level: r.Level, message: r.Message}
	long := false
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
			}
		}
		long = long || clipped(a)
		return true
	})
	suppressed, ok := h.take(k)
	if !ok {
		return nil
	}
	if long {
		short := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
		r.Attrs(func(a slog.Attr) bool {
			if clipped(a) {
				a.Value = slog.StringValue(Clip(a.Value.String()))
			}
			short.AddAttrs(a)
			return true
		})
		r = short
	}
	if suppressed > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Int(Suppressed, suppressed))
	}
	return h.next.Handle(ctx, r)
}

// clipped reports whether a line may not have an attribute as it is.
func clipped(a slog.Attr) bool {
	return a.Value.Kind() == slog.KindString && a.Key != stack && unfit(a.Value.String())
}

// take reports whether a line passes, and how many did not before it.
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
	if !l.bucket.Allow(s.quota, now) || !s.all.Allow(s.inAll, now) && !due {
		l.suppressed++
		return 0, false
	}
	l.passed = now
	suppressed, l.suppressed = l.suppressed, 0
	return suppressed, true
}

// Flush logs how many lines were left out of the kinds that have had none since.
func (h *Handler) Flush(ctx context.Context) {
	h.mu.Lock()
	var left []slog.Record
	for k, l := range h.kinds {
		if l.suppressed == 0 {
			continue
		}
		r := slog.NewRecord(time.Now(), k.level, flushed, 0)
		r.AddAttrs(slog.String("line", k.message))
		for _, a := range []slog.Attr{slog.String("namespace", k.namespace), slog.String("event", k.event), slog.String("code", k.code), slog.String("call", k.call)} {
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
			_ = h.next.Handle(ctx, r) // as slog.Logger does
		}
	}
}

// Clip returns a string as it may be logged: its first MaxString bytes, quoted
// where they could be taken for anything but a value.
func Clip(s string) string {
	if !unfit(s) {
		return s
	}
	var b strings.Builder
	for _, r := range s { // of a megabyte only the beginning
		if fit(r) {
			b.WriteRune(r)
		} else {
			q := strconv.QuoteRuneToASCII(r)
			b.WriteString(q[1 : len(q)-1])
		}
		if b.Len() >= MaxString {
			break
		}
	}
	if len(s) > MaxString {
		b.WriteString("... (" + strconv.Itoa(len(s)) + " bytes)")
	}
	return b.String()
}

func unfit(s string) bool {
	return len(s) > MaxString || strings.ContainsFunc(s, func(r rune) bool { return !fit(r) })
}

func fit(r rune) bool { return r != utf8.RuneError && unicode.IsPrint(r) }
