// What the tests of authentication have in common: the log, and a connection
// below the client of realtimetest.

package realtime_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobwas/ws/wsutil"
	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// inBubble runs f in a bubble of its own, beside other tests.
func inBubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, f)
}

// journal is a server's log, and what its Trace was told of handshakes. No token
// may be in it.
type journal struct {
	mu      sync.Mutex
	log     bytes.Buffer
	hook    func(line map[string]any) // called for each record, without the lock
	refused []string                  // namespace and code
	entered []string                  // namespaces
	tokens  []string
}

// Write takes one record, as JSON.
func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	j.log.Write(b)
	hook := j.hook
	j.mu.Unlock()
	if hook != nil {
		var line map[string]any
		if err := json.Unmarshal(b, &line); err != nil {
			return 0, err
		}
		hook(line)
	}
	return len(b), nil
}

// keep makes a server write the journal, in which no token may be found when
// the test ends.
func keep(t *testing.T) (*journal, func(o *realtime.Options)) {
	j := &journal{}
	t.Cleanup(func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		for _, token := range j.tokens {
			require.NotContains(t, j.log.String(), token)
		}
	})
	return j, func(o *realtime.Options) {
		o.Logger = slog.New(slog.NewJSONHandler(j, &slog.HandlerOptions{Level: slog.LevelDebug}))
		o.Trace = &realtime.Trace{
			Refused: func(_ context.Context, i realtime.RefusedInfo) {
				j.mu.Lock()
				defer j.mu.Unlock()
				j.refused = append(j.refused, i.Namespace+" "+string(i.Code))
			},
			Connected: func(_ context.Context, i realtime.ConnectedInfo) {
				j.mu.Lock()
				defer j.mu.Unlock()
				j.entered = append(j.entered, i.Namespace)
			},
		}
	}
}

// secret returns the token, which may not be found in the log.
func (j *journal) secret(token string) string {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.tokens = append(j.tokens, token)
	return token
}

// lines are the records with that message.
func (j *journal) lines(t *testing.T, message string) (found []map[string]any) {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	for b := range bytes.SplitSeq(bytes.TrimSpace(j.log.Bytes()), []byte("\n")) {
		var line map[string]any
		if len(b) > 0 {
			require.NoError(t, json.Unmarshal(b, &line))
		}
		if line["msg"] == message {
			found = append(found, line)
		}
	}
	return found
}

// refusals are what Trace.Refused was told.
func (j *journal) refusals() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.refused)
}

// The messages under which handshakes are logged.
const (
	logRefused   = "realtime: handshake refused"
	logUndecided = "realtime: handshake not decided"
	logFailed    = "realtime: handler failed"
)

// rawConn is a websocket on which a test says what no client would.
type rawConn struct {
	body  io.ReadWriteCloser
	done  chan struct{} // closed with the connection
	ended time.Time     // when that was, once it is done

	mu     sync.Mutex
	frames []string // but for the open packet and pings
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

// readRaw reads the websocket that a response has opened.
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
		if err == nil && string(b) == "2" {
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

// say sends packets and returns what the server says to that before time passes.
func (c *rawConn) say(t *testing.T, packets ...string) []string {
	t.Helper()
	for _, p := range packets {
		require.NoError(t, wsutil.WriteClientText(c.body, []byte(p)))
	}
	return c.heard()
}

// heard returns what the server has said since it was asked last.
func (c *rawConn) heard() []string {
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
