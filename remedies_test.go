// What fails below CONNECT, as a host and its operators meet it: the log says what to do.

package realtime_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// statusRecorder is what a host's middleware wraps an http.ResponseWriter in.
type statusRecorder struct{ http.ResponseWriter }

// outerRecorder is such a type that says what it wraps.
type outerRecorder struct{ http.ResponseWriter }

func (o outerRecorder) Unwrap() http.ResponseWriter { return o.ResponseWriter }

// oneLine returns the only log record with a message, and checks its level and remedy.
func oneLine(t *testing.T, logs *logRecorder, message, level, remedy string) map[string]any {
	t.Helper()
	synctest.Wait()
	lines := logs.lines(t, message)
	require.Len(t, lines, 1, logs.log.String())
	require.Equal(t, level, lines[0]["level"])
	require.Contains(t, lines[0]["remedy"], remedy)
	return lines[0]
}

func TestLog_TypeThatHidesHijack(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		logs, log := recordLogs(t)
		srv := realtimetest.NewServer(t, log)
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, realtime.Path+"?EIO=4&transport=websocket&token="+logs.secret("secret-token"), nil)
		r.RemoteAddr = "203.0.113.7:4242"
		r.Header.Set("Connection", "Upgrade")
		r.Header.Set("Upgrade", "websocket")
		r.Header.Set("Sec-WebSocket-Version", "13")
		r.Header.Set("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==")
		r.Header.Set("User-Agent", "rider/2.1")
		w := httptest.NewRecorder()
		srv.Realtime.ServeHTTP(outerRecorder{&statusRecorder{w}}, r)
		require.Equal(t, http.StatusInternalServerError, w.Code)
		line := oneLine(t, logs, logRequestFailed, "ERROR", "Unwrap() http.ResponseWriter")
		require.Equal(t, "*realtime_test.statusRecorder", line["detail"], "not the one that has Unwrap")
		require.Equal(t, "hijack", line["reason"])
		require.Equal(t, "203.0.113.7", line["address"])
		require.Equal(t, "rider/2.1", line["userAgent"])
	})
}

// http.TimeoutHandler cannot be given a method.
func TestLog_TimeoutHandler(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		logs, log := recordLogs(t)
		srv := realtimetest.NewServer(t, log)
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, realtime.Path+"?EIO=4&transport=websocket", nil)
		r.Header.Set("Connection", "Upgrade")
		r.Header.Set("Upgrade", "websocket")
		r.Header.Set("Sec-WebSocket-Version", "13")
		r.Header.Set("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==")
		w := httptest.NewRecorder()
		http.TimeoutHandler(srv.Realtime, time.Minute, "").ServeHTTP(w, r)
		require.Equal(t, http.StatusInternalServerError, w.Code)
		oneLine(t, logs, logRequestFailed, "ERROR", "mount the server outside of the http.TimeoutHandler")
	})
}

// A proxy that does not pass on Upgrade, or only one of the two headers, or that adds it to
// every request.
func TestLog_ProxyThatChangesUpgrade(t *testing.T) {
	for name, c := range map[string]struct {
		transport, upgrade, connection string
		reason, level, remedy          string
	}{
		"neither":         {"websocket", "", "close", "upgrade header", "WARN", "pass on the headers Upgrade and Connection"},
		"only Upgrade":    {"websocket", "websocket", "close", "handshake", "INFO", "pass on the headers Connection, Upgrade"},
		"always Upgrade":  {"polling", "websocket", "Upgrade", "upgrade header", "WARN", "must not add the header Upgrade"},
		"only Connection": {"websocket", "", "Upgrade", "upgrade header", "WARN", "pass on the headers Upgrade and Connection"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				logs, log := recordLogs(t)
				srv := realtimetest.NewServer(t, log)
				r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL()+realtime.Path+"?EIO=4&transport="+c.transport, nil)
				require.NoError(t, err)
				r.Header.Set("Sec-WebSocket-Version", "13")
				r.Header.Set("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==")
				r.Header.Set("Connection", c.connection)
				if c.upgrade != "" {
					r.Header.Set("Upgrade", c.upgrade)
				}
				res, err := srv.HTTPClient().Do(r)
				require.NoError(t, err)
				require.NoError(t, res.Body.Close())
				require.Equal(t, http.StatusBadRequest, res.StatusCode)
				require.Equal(t, c.reason, oneLine(t, logs, logRequestFailed, c.level, c.remedy)["reason"])
			})
		})
	}
}

// The line about a proxy that is not trusted has the address to add.
func TestLog_ProxyThatIsNotTrusted(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		logs, log := recordLogs(t)
		srv := realtimetest.NewServer(t, log)
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, realtime.Path+"?EIO=4&transport=polling", nil)
		r.RemoteAddr = "10.1.2.3:40000"
		r.Header.Set("X-Forwarded-For", "203.0.113.7")
		srv.Realtime.ServeHTTP(httptest.NewRecorder(), r)
		require.Contains(t, logs.log.String(), `limits per address do not apply","address":"10.1.2.3"`)
	})
}

// A name of the client's is in the line as far as somebody would read it.
func TestLog_UnknownNamespace(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		logs, log := recordLogs(t)
		srv := realtimetest.NewServer(t, log)
		conn := openRaw(t, srv)
		conn.send(t, "40/driver,")
		line := oneLine(t, logs, "realtime: CONNECT to a namespace that does not exist", "INFO", "Options.Namespaces")
		require.Equal(t, "/driver", line["name"])
		require.NotEmpty(t, line["address"])
		time.Sleep(17 * time.Second)
		require.True(t, conn.closed())
		require.Empty(t, logs.lines(t, logRequestFailed), "it has sent a CONNECT")
	})
}

// What a client sends that breaks the protocol is one failure, and one line, wherever it is
// noticed.
func TestLog_MalformedPackets(t *testing.T) {
	for name, c := range map[string]struct {
		polling bool
		before  string // a packet that is right
		packet  string
		detail  string
		limit   string // the limit that it exceeds, if it is another kind of line
	}{
		"engine, websocket":           {false, "", "x", "a malformed packet or frame", ""},
		"engine, polling":             {true, "", "x", "a malformed packet or frame", ""},
		"no UTF-8":                    {false, "", "4\xff", "a malformed packet or frame", ""},
		"packet, websocket":           {false, "", "4x", "invalid packet: unknown type", ""},
		"packet, polling":             {true, "", "4x", "invalid packet: unknown type", ""},
		"not joined":                  {false, "", `42/drivers,["x"]`, "packet for a namespace never joined", ""},
		"after a CONNECT":             {false, "/drivers", `40/drivers,`, "second connect of a namespace", ""},
		"too large":                   {false, "", "4" + strings.Repeat("x", 2000), "", "MaxPayload"},
		"long name of a namespace":    {false, "", "40/" + strings.Repeat("x", 300) + ",", "", "NamespaceName"},
		"plain text of another thing": {false, "", "hello", "a malformed packet or frame", ""},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				logs, log := recordLogs(t)
				failed := make(chan realtime.RequestFailure, 10)
				srv := realtimetest.NewServer(t, log, func(o *realtime.Options) {
					o.Limits.MaxPayload = 1000
					o.Trace = &realtime.Trace{RequestFailed: func(_ context.Context, i realtime.RequestFailedInfo) { failed <- i.Reason }}
				})
				if c.polling {
					client := originClient{srv: srv}
					_, sid := client.session(t, true)
					res, _ := client.request(t, true, http.MethodPost, overPolling+sid, c.packet)
					require.Equal(t, http.StatusBadRequest, res.StatusCode)
				} else {
					conn := openRaw(t, srv)
					if c.before != "" {
						conn.send(t, connectPacket(c.before, srv.Login("d1", realtime.UserDriver)))
					}
					conn.send(t, c.packet)
					require.True(t, conn.closedSoon())
				}
				synctest.Wait()
				if c.limit != "" {
					require.Equal(t, c.limit, oneLine(t, logs, logLimit, "WARN", "")["limit"])
					require.Empty(t, logs.lines(t, logRequestFailed))
					return
				}
				line := oneLine(t, logs, logRequestFailed, "INFO", "Socket.IO client")
				require.Equal(t, "packet", line["reason"])
				require.Equal(t, c.detail, line["detail"])
				require.NotEmpty(t, line["address"])
				require.Equal(t, realtime.FailurePacket, <-failed)
			})
		})
	}
}

// Many failures are a few lines, with the number of the others.
func TestLog_FailedRequestsAreFewLines(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		logs, log := recordLogs(t)
		failed := 0
		srv := realtimetest.NewServer(t, log, func(o *realtime.Options) {
			o.Trace = &realtime.Trace{RequestFailed: func(context.Context, realtime.RequestFailedInfo) { failed++ }}
		})
		sid := logs.secret(strings.Repeat("S", 20))
		const requests = 1000
		for range requests {
			w := httptest.NewRecorder()
			srv.Realtime.ServeHTTP(w, httptest.NewRequest(http.MethodGet, realtime.Path+"?EIO=4&transport=polling&sid="+sid, nil))
			require.Equal(t, http.StatusBadRequest, w.Code)
		}
		synctest.Wait()
		require.Equal(t, requests, failed)
		require.Len(t, logs.lines(t, logRequestFailed), 10)
		require.NoError(t, srv.Realtime.Shutdown(t.Context()))
		left := logs.lines(t, "realtime: log lines were suppressed")
		require.Len(t, left, 1)
		require.Equal(t, logRequestFailed, left[0]["line"])
		require.Equal(t, "session", left[0]["reason"])
		require.InEpsilon(t, requests-10, left[0]["suppressed"], 0)
	})
}

func TestLog_AddressWithTooManyConnections(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		logs, log := recordLogs(t)
		srv := realtimetest.NewServer(t, log, func(o *realtime.Options) { o.Unlimited, o.Limits.ConnectionsPerIP = false, 1 })
		openRaw(t, srv)
		status, _ := openSession(t, srv, "polling")
		require.Equal(t, http.StatusTooManyRequests, status)
		line := oneLine(t, logs, logLimit, "WARN", "Options.TrustedProxies")
		require.Equal(t, "ConnectionsPerIP", line["limit"])
		require.NotEmpty(t, line["address"])
		require.Empty(t, logs.lines(t, logRequestFailed), "one line")
	})
}

func TestLog_SlowConsumer(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		logs, log := recordLogs(t)
		srv := realtimetest.NewServer(t, log, func(o *realtime.Options) { o.Limits.OutboxMessages = 20 })
		admin := srv.Admin(t, "a1")
		admin.Stall()
		for range 2000 {
			require.NoError(t, memo.Emit(srv.Realtime.Admin().To(realtime.AdminUserRoom("a1")), strings.Repeat("x", 10_000)))
		}
		line := oneLine(t, logs, logLimit, "WARN", "Options.Limits.OutboxBytes")
		require.Equal(t, "Outbox", line["limit"])
		require.InEpsilon(t, 21, line["messages"], 0)
		require.Greater(t, line["bytes"], 210_000.0)
		require.Equal(t, "a1", line["user"])
		admin.Resume()
		admin.Disconnected(t)
	})
}

// A limit below what every client sends: nobody gets in, and no client knows why.
func TestLog_LimitThatNobodyMeets(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		logs, log := recordLogs(t)
		srv := realtimetest.NewServer(t, log, func(o *realtime.Options) { o.Limits.MaxPayload = 1000 })
		conn := openRaw(t, srv)
		require.Empty(t, conn.send(t, connectPacket(realtime.NamespaceDrivers, strings.Repeat("t", 1200))))
		line := oneLine(t, logs, logLimit, "WARN", "Options.Limits.MaxPayload")
		require.Equal(t, "MaxPayload", line["limit"])
		require.True(t, conn.closedSoon())
	})
}

// A limit whose client gets a code is information: the log of a busy server is not full of it.
func TestLog_LimitThatTheClientIsToldOf(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		logs, log := recordLogs(t)
		srv := realtimetest.NewServer(t, log, func(o *realtime.Options) { o.Unlimited, o.Rates.Event = false, realtime.Rate{PerSecond: 1, Burst: 1} })
		srv.Realtime.Drivers().HandleRaw("note", func(context.Context, *realtime.Socket, realtime.Raw) (realtime.Raw, error) {
			return realtime.Raw{}, nil
		})
		driver := srv.Driver(t, "d1")
		for range 2 {
			_, err := driver.CallRaw(t.Context(), "note", realtime.Raw{})
			if err != nil {
				require.Equal(t, "rate_limited", codeOf(err))
			}
		}
		line := oneLine(t, logs, logLimit, "INFO", "raise Options.Rates.Event")
		require.Equal(t, "note", line["event"])
		require.Equal(t, "d1", line["user"])
		time.Sleep(time.Second)
	})
}

// An event that no client can ever receive is the emitter's error: it disconnects nobody, here or
// on another node.
func TestEmit_EventThatNoClientCanReceive(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		logs, log := recordLogs(t)
		nodes := realtimetest.NewCluster(t, 2, log, func(o *realtime.Options) {
			o.Limits.OutboxBytes, o.Limits.OutboxMessages = 20_000, 16
		})
		sockets := make(chan *realtime.Socket, 1)
		srv := nodes[0]
		big, many := strings.Repeat("x", 20_000), realtime.Raw{Attachments: make([][]byte, 16)}
		answers := realtime.NewCall[string, string]("answers")
		answers.Handle(srv.Realtime.Drivers(), func(_ context.Context, s *realtime.Socket, _ string) (string, error) {
			sockets <- s
			return big, nil
		})
		d1, d2 := srv.Driver(t, "d1"), nodes[1].Driver(t, "d2")
		synctest.Wait()

		_, err := realtimetest.Call(t.Context(), d1, answers, "")
		require.Equal(t, "internal", codeOf(err), "its ack says that there is none")
		require.Contains(t, logs.lines(t, logFailed)[0]["error"], "Options.Limits.OutboxBytes")
		s, all := <-sockets, srv.Realtime.Drivers().All()
		for _, to := range []realtime.Emitter{s, all, all.Local()} {
			require.ErrorContains(t, wireNote.Emit(to, big), "Options.Limits.OutboxBytes")
		}
		require.ErrorContains(t, s.EmitRaw("x", many), "Options.Limits.OutboxMessages")
		require.ErrorContains(t, all.EmitRaw("x", many), "Options.Limits.OutboxMessages")
		_, err = whereAreYou.Ask(t.Context(), s, big)
		require.ErrorContains(t, err, "Options.Limits.OutboxBytes")
		_, err = whereAreYou.AskAll(t.Context(), all, big)
		require.ErrorContains(t, err, "Options.Limits.OutboxBytes")
		srv.Publish(t, realtime.TripCancelled{TripID: "t1", DriverID: "d1", PassengerID: "p1", CancelledBy: realtime.CancelledBySystem, Reason: big})
		synctest.Wait()
		require.Contains(t, logs.lines(t, "realtime: event not emitted")[0]["error"], "Options.Limits.OutboxBytes")

		synctest.Wait()
		require.True(t, d1.Connected())
		require.True(t, d2.Connected())
		require.NoError(t, wireNote.Emit(all, "small"))
		realtimetest.Expect(t, d1, wireNote)
		realtimetest.Expect(t, d2, wireNote)
	})
}

// A node with a lower limit than the emitter's drops the event, and disconnects nobody.
func TestEmit_EventThatNoClientOfAnotherNodeCanReceive(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		logs, log := recordLogs(t)
		hub := realtimetest.NewHub()
		a := realtimetest.NewServer(t, func(o *realtime.Options) { o.Cluster.Adapter = hub.Node() })
		b := realtimetest.NewServer(t, log, func(o *realtime.Options) {
			o.Cluster.Adapter, o.Limits.OutboxBytes = hub.Node(), 20_000
		})
		driver := b.Driver(t, "d1")
		synctest.Wait()
		all := a.Realtime.Drivers().All()
		require.NoError(t, wireNote.Emit(all, strings.Repeat("x", 20_000)))
		answers, err := whereAreYou.AskAll(t.Context(), all, strings.Repeat("x", 20_000))
		require.NoError(t, err)
		require.Empty(t, answers)
		synctest.Wait()
		require.Len(t, logs.lines(t, "realtime: event not emitted"), 2)
		require.True(t, driver.Connected())
	})
}
