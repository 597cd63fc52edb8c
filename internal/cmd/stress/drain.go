// The drain of many sockets at once: a server with nothing but idle connections shuts
// down, and each client is to be sent server:drain before its connection ends.

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

const (
	// drainOverTCP is how many of the sockets have a TCP connection, at most. One takes
	// two descriptors, and a process has few; the others are connections in memory.
	drainOverTCP = 1500
	// drainTime is how long the shutdown may take, and what each connection gets.
	drainTime = 10 * time.Second
	// dialsAtOnce is how many clients connect at a time.
	dialsAtOnce = 64
)

// crowd is many minimal clients that only receive.
type crowd struct {
	mu      sync.Mutex // guards what follows
	waits   map[int64]bool
	drained int // clients that were sent server:drain
	closed  int // by the end of the stream, behind it
	failed  []error
}

// drain connects n drivers to a server, shuts it down, prints the result and returns the
// number of breaches.
func drain(n int, out io.Writer) (breaches int) {
	before := runtime.NumGoroutine()
	lag, err := newLag()
	if err != nil {
		fmt.Fprintln(out, "the machine's lag can't be measured:", err)
		return 1
	}
	began := time.Now()
	c := &crowd{waits: map[int64]bool{}}
	took, shutdownErr, err := c.live(n)
	held := lag.since(began)
	lag.close()
	var found []string
	breach := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	if err != nil {
		breach("the sockets can't be connected: %v", err)
	}
	if shutdownErr != nil {
		breach("shutting down: %v", shutdownErr)
	}
	if bound := excused(drainTime, held); took > bound {
		breach("the shutdown took %v, but may take %v", took.Round(time.Millisecond), bound)
	}
	if c.drained != n || c.closed != n {
		breach("%d of %d sockets received server:drain, %d were closed after it", c.drained, n, c.closed)
	}
	for _, err := range c.failed[:min(len(c.failed), 10)] {
		breach("a client failed: %v", err)
	}
	// Of 5001 times to come back, spread evenly: n draws miss few of them.
	if want := min(n/2, 4000); len(c.waits) < want {
		breach("there are %d different values of reconnectAfterMs, but should be %d", len(c.waits), want)
	}
	for end := time.Now().Add(excused(leakTime, held)); runtime.NumGoroutine() > before && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
	}
	if left := runtime.NumGoroutine() - before; left > 0 {
		breach("%d goroutines are left", left)
	}
	fmt.Fprintf(out, "drained %d of %d sockets in %v; the machine's longest recent lag: %v\nbreaches %d\n",
		c.drained, n, took.Round(time.Millisecond), held.Round(time.Millisecond), len(found))
	for _, b := range found {
		fmt.Fprintln(out, "breach:", b)
	}
	return len(found)
}

// live connects n clients and shuts the server down.
func (c *crowd) live(n int) (took time.Duration, shutdownErr, err error) {
	tokens, users, sessions := &realtimetest.Tokens{}, &realtimetest.Users{}, &realtimetest.Sessions{}
	rt, err := realtime.New(realtime.Options{
		Tokens: tokens, Users: users, Sessions: sessions, Unlimited: true, Logger: slog.New(slog.DiscardHandler),
		Timeouts: realtime.Timeouts{PresenceGrace: -1, PingInterval: 5 * time.Minute, Connect: 5 * time.Minute, Repo: time.Minute, Close: drainTime},
	})
	if err != nil {
		return 0, nil, err
	}
	memory := realtimetest.NewListener()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, nil, errors.Join(err, rt.Shutdown(context.Background()))
	}
	srv := &http.Server{Handler: rt, ReadHeaderTimeout: time.Minute}
	var serving, lives sync.WaitGroup
	for _, l := range []net.Listener{memory, tcp} {
		serving.Go(func() { _ = srv.Serve(l) }) // ends with Close
	}
	slots, ready := make(chan struct{}, dialsAtOnce), sync.WaitGroup{}
	for i := range n {
		user := strconv.Itoa(i)
		users.Set(realtime.User{ID: user, Type: realtime.UserDriver, Active: true})
		sessions.Set(realtime.Session{ID: "s" + user, UserID: user})
		token := tokens.Mint(user, "s"+user, time.Hour)
		dial := func() (net.Conn, error) { return memory.DialContext(context.Background(), "", "") }
		if i%(1+n/drainOverTCP) == 0 {
			dial = func() (net.Conn, error) { return net.Dial("tcp", tcp.Addr().String()) }
		}
		slots <- struct{}{}
		ready.Add(1)
		lives.Go(func() {
			entered := sync.OnceFunc(func() { <-slots; ready.Done() })
			defer entered()
			if err := c.listen(dial, token, entered); err != nil {
				c.mu.Lock()
				c.failed = append(c.failed, err)
				c.mu.Unlock()
			}
		})
	}
	ready.Wait()
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), 6*drainTime) // by which it only measures
	defer cancel()
	shutdownErr = rt.Shutdown(ctx)
	took = time.Since(began)
	lives.Wait()
	err = srv.Close()
	serving.Wait()
	return took, shutdownErr, err
}

// listen connects one client and reads up to the end of the stream.
func (c *crowd) listen(dial func() (net.Conn, error), token string, entered func()) error {
	conn, err := dial()
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	in := bufio.NewReaderSize(conn, 512)
	if err := enterDrivers(conn, in, token); err != nil {
		return err
	}
	drained := false
	for {
		b, err := wsutil.ReadServerText(struct {
			io.Reader
			io.Writer
		}{in, conn})
		switch packet := string(b); {
		case errors.Is(err, io.EOF) && drained:
			c.mu.Lock()
			c.closed++
			c.mu.Unlock()
			return nil
		case err != nil:
			return fmt.Errorf("sent server:drain: %v: %w", drained, err)
		case strings.HasPrefix(packet, `42/drivers,["hello"`):
			entered()
		case strings.HasPrefix(packet, `42/drivers,["server:drain",`):
			var event string
			var payload realtime.ServerDrainPayload
			if err := json.Unmarshal(b[len("42/drivers,"):], &[]any{&event, &payload}); err != nil {
				return err
			}
			drained = true
			c.mu.Lock()
			c.drained++
			c.waits[payload.ReconnectAfterMS] = true
			c.mu.Unlock()
		case strings.HasPrefix(packet, "44"):
			return errors.New(packet)
		}
	}
}

// enterDrivers opens a websocket and connects to /drivers.
func enterDrivers(conn io.Writer, in *bufio.Reader, token string) error {
	_, err := fmt.Fprintf(conn, "GET %s?EIO=4&transport=websocket HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\n"+
		"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n", realtime.Path)
	if err != nil {
		return err
	}
	res, err := http.ReadResponse(in, nil) //nolint:bodyclose // a switched protocol has none
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("%w with %d", errRefused, res.StatusCode)
	}
	return wsutil.WriteClientMessage(conn, ws.OpText, []byte(`40`+realtime.NamespaceDrivers+`,{"token":`+strconv.Quote(token)+`}`))
}
