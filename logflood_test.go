// How many log lines unauthenticated clients can cause.

package realtime_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// logCounter counts the lines and bytes of a log, and the lines that the log reports as
// suppressed.
type logCounter struct {
	mu         sync.Mutex // guards the fields below
	lines      int
	bytes      int
	suppressed int
	last       string
}

func (l *logCounter) options(o *realtime.Options) {
	o.Logger = slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == "suppressed" {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.suppressed += int(a.Value.Int64())
		}
		return a
	}}))
}

func (l *logCounter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines++
	l.bytes += len(b)
	l.last = string(b)
	return len(b), nil
}

// A page of a foreign origin cannot fill the disk, neither with one request nor
// with many, whatever its Origin and Host are.
func TestServer_LogsForeignOriginsClippedAndSampled(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		log, failed := &logCounter{}, 0
		srv := realtimetest.NewServer(t, log.options, func(o *realtime.Options) {
			o.Trace = &realtime.Trace{RequestFailed: func(_ context.Context, i realtime.RequestFailedInfo) {
				require.Equal(t, realtime.FailureOrigin, i.Reason)
				failed++
			}}
		})
		ask := func(origin string) {
			r := httptest.NewRequest(http.MethodGet, realtime.Path+"?EIO=4&transport=polling", nil)
			r.Header["Origin"] = []string{origin, origin}
			r.Host = origin
			w := httptest.NewRecorder()
			srv.Realtime.ServeHTTP(w, r)
			require.Equal(t, http.StatusForbidden, w.Code)
		}
		ask(strings.Repeat("\x01\n", 1<<20))
		require.Equal(t, 1, log.lines)
		require.Less(t, log.bytes, 1500)
		const requests = 20_000
		for range requests - 2 {
			ask("https://evil.example")
		}
		require.LessOrEqual(t, log.lines, 1010)
		time.Sleep(time.Second)
		ask("https://evil.example")
		require.Contains(t, log.last, "evil.example")
		require.Equal(t, requests, log.lines+log.suppressed)
		synctest.Wait()
		require.Equal(t, requests, failed)
	})
}

// Handlers that a host hangs are as many as there are clients: not all are logged when
// they are abandoned.
func TestServer_LogsAbandonedHandlersSampled(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		log := &logCounter{}
		srv := realtimetest.NewServer(t, log.options)
		release := make(chan struct{})
		defer close(release)
		var inside atomic.Int64
		const each = 150
		events := []string{"one", "other", "third"}
		for _, event := range events {
			srv.Realtime.Drivers().HandleRaw(event, hang(&inside, release))
		}
		for n := range each * len(events) {
			require.NoError(t, srv.Driver(t, fmt.Sprint("d", n)).Emit(events[n%len(events)]))
		}
		synctest.Wait()
		require.EqualValues(t, each*len(events), inside.Load())
		time.Sleep(time.Minute)
		synctest.Wait() // the lines are written by other goroutines
		require.Contains(t, log.last, "does not return")
		require.LessOrEqual(t, log.lines, 100*len(events)+10)
	})
}

// A handler that asks its client, who leaves, has not failed: else each client could fill
// the log with that.
func TestServer_LogsNoErrorOfAClientThatLeft(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		log := &logBuffer{}
		srv := realtimetest.NewServer(t, logTo(log))
		failures := make(chan error, 1)
		question := realtime.NewQuery[int, int]("question")
		srv.Realtime.Drivers().HandleRaw("ask", func(ctx context.Context, s *realtime.Socket, _ realtime.Raw) (realtime.Raw, error) {
			_, err := question.Ask(ctx, s, 1)
			failures <- err
			return realtime.Raw{}, err
		})
		driver := srv.Driver(t, "d1")
		require.NoError(t, driver.Emit("ask"))
		synctest.Wait()
		driver.Close()
		require.ErrorIs(t, <-failures, realtime.ErrClosed)
		synctest.Wait()
		require.NotContains(t, log.String(), "level=ERROR")
	})
}

// Refused handshakes are counted all, and logged as far as somebody could read
// them.
func TestServer_LogsRefusedHandshakesSampled(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		log := &logCounter{}
		refused := 0
		srv := realtimetest.NewServer(t, log.options, func(o *realtime.Options) {
			o.Unlimited = true
			o.Trace = &realtime.Trace{Refused: func(context.Context, realtime.RefusedInfo) { refused++ }}
		})
		const connects, batch = 5000, 100
		conn := openRaw(t, srv)
		packets := make([]string, batch)
		for i := range packets {
			packets[i] = connectPacket(realtime.NamespaceDrivers, "bad")
		}
		for range (connects - 1) / batch {
			for _, p := range packets {
				conn.send(t, p)
			}
		}
		require.LessOrEqual(t, log.lines, 1010)
		time.Sleep(time.Second)
		for range batch {
			conn.send(t, packets[0])
		}
		synctest.Wait()
		require.Equal(t, connects, refused)
		require.Contains(t, log.last, "code=invalid_token")
		require.NoError(t, srv.Realtime.Shutdown(t.Context()))
		require.Equal(t, connects+1, log.lines+log.suppressed, "the last line is the one that counts the rest")
		require.LessOrEqual(t, log.lines, 1030)
	})
}
