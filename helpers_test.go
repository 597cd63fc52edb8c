// Helpers of the tests: a recorder of the log, and a websocket below the client of
// realtimetest.

package realtime_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobwas/ws/wsutil"
	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/testkit"
	"github.com/rodando/realtime/realtimetest"
)

// inBubble runs f in a synctest bubble, in parallel with other tests.
var inBubble = testkit.Bubble

// logBuffer is a log that a test reads.
type logBuffer = testkit.Log

// logTo makes a server log into l.
func logTo(l *logBuffer) func(o *realtime.Options) {
	return func(o *realtime.Options) { o.Logger = slog.New(slog.NewTextHandler(l, nil)) }
}

// logRecorder records a server's log and the handshakes that its Trace reports.
type logRecorder struct {
	log logBuffer

	mu      sync.Mutex           // guards the fields below
	hook    func(message string) // called before each record is written
	refused []string             // namespace and code
	entered []string             // namespaces
	tokens  []string
}

// recorderHandler is the slog.Handler of a logRecorder. It calls the hook without a lock, so that
// something that is logged too may happen meanwhile.
type recorderHandler struct {
	slog.Handler
	r *logRecorder
}

func (h recorderHandler) Handle(ctx context.Context, line slog.Record) error {
	h.r.mu.Lock()
	hook := h.r.hook
	h.r.mu.Unlock()
	if hook != nil {
		hook(line.Message)
	}
	return h.Handler.Handle(ctx, line)
}

// recordLogs returns a recorder, and an option that makes a server write to it. When the
// test ends, the log must contain none of the values that were passed to secret.
func recordLogs(t *testing.T) (*logRecorder, func(o *realtime.Options)) {
	r := &logRecorder{}
	t.Cleanup(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, token := range r.tokens {
			require.NotContains(t, r.log.String(), token)
		}
	})
	return r, func(o *realtime.Options) {
		o.Logger = slog.New(recorderHandler{slog.NewJSONHandler(&r.log, &slog.HandlerOptions{Level: slog.LevelDebug}), r})
		o.Trace = &realtime.Trace{
			Refused: func(_ context.Context, i realtime.RefusedInfo) {
				r.mu.Lock()
				defer r.mu.Unlock()
				r.refused = append(r.refused, i.Namespace+" "+string(i.Code))
			},
			Connected: func(_ context.Context, i realtime.ConnectedInfo) {
				r.mu.Lock()
				defer r.mu.Unlock()
				r.entered = append(r.entered, i.Namespace)
			},
		}
	}
}

// secret returns the token. From now on the log must not contain it.
func (r *logRecorder) secret(token string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tokens = append(r.tokens, token)
	return token
}

// lines returns the log records with that message.
func (r *logRecorder) lines(t *testing.T, message string) (found []map[string]any) {
	t.Helper()
	for text := range strings.SplitSeq(strings.TrimSpace(r.log.String()), "\n") {
		var line map[string]any
		if text != "" {
			require.NoError(t, json.Unmarshal([]byte(text), &line))
		}
		if line["msg"] == message {
			found = append(found, line)
		}
	}
	return found
}

// refusals returns what Trace.Refused has reported, as "namespace code".
func (r *logRecorder) refusals() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.refused)
}

// The messages under which handshakes are logged.
const (
	logRefused   = "realtime: handshake refused"
	logUndecided = "realtime: handshake not decided"
	logFailed    = "realtime: handler failed"
)

// The messages of what fails below CONNECT.
const (
	logRequestFailed = "realtime: request failed"
	logLimit         = "realtime: limit reached"
	logOrigin        = "realtime: origin not allowed; if it should be, add it to Options.Origins.Allowed"
	logCallFailed    = "realtime: call of the host's code failed"
)

// rawConn is a websocket on which a test sends any packet, also invalid ones.
type rawConn struct {
	body  io.ReadWriteCloser
	done  chan struct{} // closed with the connection
	ended time.Time     // when that was, once it is done
	// silent keeps it from answering pings, which are frames then.
	silent atomic.Bool

	mu     sync.Mutex // guards frames
	frames []string   // but for the open packet and pings
}

func openRaw(t *testing.T, srv *realtimetest.Server, header ...string) *rawConn {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL()+realtime.Path+"?EIO=4&transport=websocket", nil)
	require.NoError(t, err)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", "websocket")
	r.Header.Set("Sec-WebSocket-Version", "13")
	r.Header.Set("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==")
	res, err := srv.HTTPClient().Do(r)
	require.NoError(t, err)
	require.Equal(t, http.StatusSwitchingProtocols, res.StatusCode)
	c := readRaw(t, res)
	synctest.Wait()
	require.Len(t, c.frames, 1)
	require.Equal(t, byte('0'), c.frames[0][0], "the open packet")
	c.frames = nil
	return c
}

// readRaw starts to read the websocket that a response has opened.
func readRaw(t *testing.T, res *http.Response) *rawConn {
	c := &rawConn{body: res.Body.(io.ReadWriteCloser), done: make(chan struct{})}
	var reading sync.WaitGroup
	reading.Go(c.read)
	t.Cleanup(func() {
		_ = c.body.Close() // closed already, where the server did it
		reading.Wait()
	})
	return c
}

func (c *rawConn) read() {
	for {
		b, err := wsutil.ReadServerText(c.body)
		if err == nil && string(b) == "2" && !c.silent.Load() {
			err = wsutil.WriteClientText(c.body, []byte("3"))
		} else if err == nil {
			c.mu.Lock()
			c.frames = append(c.frames, string(b))
			c.mu.Unlock()
		}
		if err != nil {
			c.ended = time.Now()
			close(c.done)
			return
		}
	}
}

// send sends packets and returns the frames that the server sends before time passes.
func (c *rawConn) send(t *testing.T, packets ...string) []string {
	t.Helper()
	for _, p := range packets {
		require.NoError(t, wsutil.WriteClientText(c.body, []byte(p)))
	}
	return c.received()
}

// received returns the frames that have arrived since the last call.
func (c *rawConn) received() []string {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	frames := c.frames
	c.frames = nil
	return frames
}

func (c *rawConn) closed() bool {
	synctest.Wait()
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// closedSoon is closed once a close by the server has had its time.
func (c *rawConn) closedSoon() bool {
	time.Sleep(1100 * time.Millisecond)
	return c.closed()
}

// closedAfter waits until the server closes the connection, at most limit, and
// returns how long that took.
func (c *rawConn) closedAfter(t *testing.T, limit time.Duration) time.Duration {
	t.Helper()
	start := time.Now()
	select {
	case <-c.done:
	case <-time.After(limit):
		require.Fail(t, "it is still open")
	}
	return c.ended.Sub(start)
}

// settleTime is the time from the last packet to a client that is to come back to the end of
// its connection.
const settleTime = 200 * time.Millisecond

// tick is how much too early a timer may be, and a little more.
const tick = 60 * time.Millisecond

// connectPacket is a CONNECT with a token.
func connectPacket(namespace, token string) string {
	return `40` + namespace + `,{"token":` + quote(token) + `}`
}

func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func refusalPacket(namespace string, code realtime.Code, message string) string {
	return fmt.Sprintf(`44%s,{"message":%q,"data":{"code":%q}}`, namespace, message, code)
}

func invalidSession(namespace string) string {
	return refusalPacket(namespace, realtime.CodeInvalidSession, "Invalid session")
}

// requireEntered checks that packets are the answer to a CONNECT that passed:
// the reply and hello, and nothing else.
func requireEntered(t *testing.T, packets []string, namespace, userID, sid string) {
	t.Helper()
	require.Len(t, packets, 2, "%v", packets)
	require.Regexp(t, `^40`+namespace+`,\{"sid":"[A-Za-z0-9_-]{20}"\}$`, packets[0])
	require.Equal(t, fmt.Sprintf(`42%s,["hello",{"ok":true,"nsp":%q,"sid":%q,"userId":%q,"serverTime":%q}]`,
		namespace, namespace, sid, userID, iso(time.Now())), packets[1])
}

func iso(at time.Time) string { return at.UTC().Format("2006-01-02T15:04:05.000Z") }

// requireRefused checks that a Dial or Join was answered by a CONNECT_ERROR.
func requireRefused(t *testing.T, err error, code realtime.Code, message string) {
	t.Helper()
	var refusal *realtimetest.ConnectError
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, realtimetest.ConnectError{Code: code, Message: message}, *refusal)
}
