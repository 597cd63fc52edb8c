// Sampling by kind, the limit of all kinds together, and clipping.

package logsample_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rodando/realtime/internal/logsample"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open returns a logger that samples, its handler, and a function that returns the
// lines so far.
func open() (*slog.Logger, *logsample.Handler, func(t *testing.T) []map[string]any) {
	var b bytes.Buffer
	h := logsample.New(slog.NewJSONHandler(&b, nil))
	return slog.New(h), h, func(t *testing.T) (lines []map[string]any) {
		t.Helper()
		for line := range strings.Lines(b.String()) {
			var m map[string]any
			require.NoError(t, json.Unmarshal([]byte(line), &m))
			lines = append(lines, m)
		}
		b.Reset()
		return lines
	}
}

// count returns the number of lines, and the number that they say were suppressed.
func count(lines []map[string]any) (n, suppressed int) {
	for _, line := range lines {
		if s, ok := line["suppressed"].(float64); ok {
			suppressed += int(s)
		}
	}
	return len(lines), suppressed
}

// At Debug the host asks for every line. They take nothing from the others.
func TestHandler_DebugIsNotLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		log := slog.New(logsample.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug})))
		for range 10_000 {
			log.Debug("emitted", "event", strings.Repeat("x", 1000))
		}
		require.Equal(t, 10_000, strings.Count(b.String(), "msg=emitted"))
		require.NotContains(t, b.String(), strings.Repeat("x", 500))
		for i := range 500 {
			log.Info("refused", "code", i)
		}
		require.Equal(t, 100, strings.Count(b.String(), "msg=refused"))
		for i := range 400 {
			log.Info("refused", "code", strconv.Itoa(i))
		}
		require.Equal(t, 500, strings.Count(b.String(), "msg=refused"), "Debug has taken nothing of the limit of all kinds")
	})
}

func TestHandler_CountsSuppressedLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, h, lines := open()
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				for range 10_000 {
					log.Info("refused", "code", "invalid_token", "socket", "x")
				}
			})
		}
		all.Wait()
		n, suppressed := count(lines(t))
		require.Equal(t, 100, n)
		require.Zero(t, suppressed)
		time.Sleep(time.Second)
		log.Info("refused", "code", "invalid_token")
		n, suppressed = count(lines(t))
		require.Equal(t, 1, n)
		require.Equal(t, 100_000-100, suppressed)
		for range 12 {
			log.Info("refused", "code", "invalid_token")
		}
		require.Len(t, lines(t), 9)
		h.Flush(t.Context())
		left := lines(t)
		require.Len(t, left, 1)
		require.Equal(t, "refused", left[0]["line"])
		require.Equal(t, "invalid_token", left[0]["code"])
		require.InEpsilon(t, 3, left[0]["suppressed"], 0)
		h.Flush(t.Context())
		require.Empty(t, lines(t))
	})
}

func TestHandler_KindsDoNotCrowdEachOtherOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, h, lines := open()
		log = log.With("node", 1).WithGroup("g")
		for range 5000 {
			log.Info("refused", "code", "invalid_token")
		}
		lines(t)
		log.Info("refused", "code", "token_expired")
		log.Info("refused", "code", "invalid_token", "namespace", "/admin")
		log.Warn("refused", "code", "invalid_token")
		log.Info("another")
		log.Info("refused", "code", "invalid_token", "call", "Trace")
		require.Len(t, lines(t), 5)
		// Kinds that a client invents are bounded.
		for i := range 100_000 {
			log.Info("invented", "event", fmt.Sprint(i))
		}
		n, _ := count(lines(t))
		require.LessOrEqual(t, n, 1600)
		log.Info("refused", "code", "token_expired")
		h.Flush(t.Context())
		n, suppressed := count(lines(t))
		require.Equal(t, 3, n)
		require.Greater(t, suppressed, 97_000)
	})
}

// What to do about something is the same each time: lines that say it are few.
func TestHandler_FewLinesWithARemedy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, h, lines := open()
		for range 100 {
			for _, reason := range []string{"session", "hijack"} {
				log.Warn("request failed", "reason", reason, "remedy", "as "+reason+" needs")
			}
			log.Warn("request failed", "limit", "Connections", "remedy", "raise it")
			log.Warn("request failed", "reason", "session")
		}
		got := lines(t)
		n, _ := count(got)
		require.Equal(t, 3*10+100, n)
		time.Sleep(10*time.Second + time.Millisecond)
		for range 2 {
			log.Warn("request failed", "reason", "hijack", "remedy", "another")
		}
		got = lines(t)
		require.Len(t, got, 1)
		require.InEpsilon(t, 90, got[0]["suppressed"], 0)
		h.Flush(t.Context())
		left := map[any]any{}
		for _, line := range lines(t) {
			left[fmt.Sprint(line["reason"], line["limit"])] = line["suppressed"]
		}
		require.Equal(t, map[any]any{"session<nil>": 90.0, "hijack<nil>": 1.0, "<nil>Connections": 90.0}, left)
	})
}

// All kinds together are limited, and a line of each kind still passes once a second.
func TestHandler_BoundsAllKindsTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, h, lines := open()
		const kinds, rounds = 60, 10
		total := 0
		for round := range rounds {
			for range 200 {
				for i := range kinds {
					log.Error("does not return", "event", fmt.Sprint("e", i))
				}
			}
			passed := map[any]bool{}
			all := lines(t)
			for _, line := range all {
				passed[line["event"]] = true
			}
			require.Len(t, passed, kinds, "round %d", round)
			total += len(all)
			time.Sleep(time.Second)
		}
		require.LessOrEqual(t, total, 500+rounds*(50+kinds))
		h.Flush(t.Context())
		_, suppressed := count(lines(t))
		require.Positive(t, suppressed)
	})
}

// quoted is a value that is resolved only when it is logged.
type quoted struct{ s string }

func (q quoted) LogValue() slog.Value { return slog.StringValue(q.s) }

func TestHandler_ClipsStrings(t *testing.T) {
	t.Parallel()
	log, _, lines := open()
	for range 3 {
		log.Info("x", "origin", strings.Repeat("\x00", 1<<20), "stack", strings.Repeat("s\n", 1000), "n", 1, "host", "h", "value", quoted{"v"})
	}
	for _, line := range lines(t) {
		require.Less(t, len(line["origin"].(string)), 250)
		require.Contains(t, line["origin"], `\x00\x00`)
		require.Contains(t, line["origin"], "(1048576 bytes)")
		require.Len(t, line["stack"], 2000, "a stack is not clipped")
		require.Equal(t, "h", line["host"])
		require.Equal(t, "v", line["value"])
	}
}

// wrapping is an error with a text as long as what it quotes.
type wrapping struct{ s string }

func (w wrapping) Error() string { return "no car has the plate " + w.s }

// What clients say may be in a value of any kind.
func TestHandler_ClipsAllKinds(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("\x01", 1<<20)
	for name, c := range map[string]struct {
		attr slog.Attr
		most int
	}{
		"error":         {slog.Any("error", wrapping{long}), 1200},
		"panic":         {slog.Any("panic", any(fmt.Stringer(bytes.NewBufferString(long)))), 1200},
		"bytes":         {slog.Any("data", []byte(long)), 1200},
		"struct":        {slog.Any("row", struct{ Name string }{long}), 1200},
		"LogValuer":     {slog.Any("value", quoted{long}), 400},
		"group":         {slog.Group("g", slog.String("a", long), slog.Any("b", wrapping{long}), slog.Int("n", 1)), 1900},
		"nested groups": {slog.Group("g", slog.Group("g", slog.Group("g", slog.Group("g", slog.Group("g", slog.String("deep", long)))))), 400},
		"key":           {slog.Int(long, 1), 400},
		"stack":         {slog.String("stack", strings.ReplaceAll(long, "\x01", "s")), 17 << 10},
	} {
		var b bytes.Buffer
		log := slog.New(logsample.New(slog.NewTextHandler(&b, nil)))
		log.LogAttrs(t.Context(), slog.LevelInfo, "x", c.attr)
		require.Less(t, b.Len(), c.most, name)
		b.Reset()
		slog.New(log.Handler().WithAttrs([]slog.Attr{c.attr})).Info("x")
		require.Less(t, b.Len(), c.most, "With: %s", name)
		b.Reset()
		log.Info(long)
		require.Less(t, b.Len(), 1000, "message")
	}
	var b bytes.Buffer
	slog.New(logsample.New(slog.NewJSONHandler(&b, nil))).Info("x", "error", wrapping{"A-1"}, slog.Group("g", "n", 1, "at", time.Unix(0, 0).UTC()), "stack", "s\n")
	require.Contains(t, b.String(), `"error":"no car has the plate A-1","g":{"n":1,"at":"1970-01-01T00:00:00Z"},"stack":"s\n"`)
}

func TestClip(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                           "",
		"https://app.example.com":    "https://app.example.com",
		"zażółć":                     "zażółć",
		"a\nlevel=ERROR b":           `a\nlevel=ERROR b`,
		"\x1b[2J\u202e":              `\x1b[2J\u202e`,
		"\xff":                       `\ufffd`,
		strings.Repeat("a", 200):     strings.Repeat("a", 200),
		strings.Repeat("a", 201):     strings.Repeat("a", 200) + "... (201 bytes)",
		strings.Repeat("\x00", 1000): strings.Repeat(`\x00`, 50) + "... (1000 bytes)",
	} {
		require.Equal(t, want, logsample.Clip(in))
	}
}

func TestHandler_DisabledLevelIsNotCounted(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	h := logsample.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelError}))
	for range 1000 {
		slog.New(h).Info("x")
	}
	h.Flush(context.Background())
	require.Empty(t, b.String())
}

func BenchmarkSuppressed(b *testing.B) {
	log := slog.New(logsample.New(slog.NewTextHandler(new(bytes.Buffer), nil)))
	b.ReportAllocs()
	for b.Loop() {
		log.Info("realtime: handshake refused", "namespace", "/drivers", "event", "connect", "code", "invalid_token", "socket", "x", "user", "")
	}
}
