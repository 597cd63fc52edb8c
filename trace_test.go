// The arguments with which the server calls the functions of Trace.

package realtime_test

import (
	"cmp"
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobwas/ws/wsutil"
	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// constantsOf returns the values of a string type's constants, by their names.
func constantsOf(t *testing.T, file, typ string) map[string]string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	require.NoError(t, err)
	found := map[string]string{}
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if id, ok := spec.Type.(*ast.Ident); ok && id.Name == typ {
			v, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			require.NoError(t, err)
			found[spec.Names[0].Name] = v
		}
		return false
	})
	require.NotEmpty(t, found)
	return found
}

// A Limit is the name of what sets it, and no limit that refuses lacks one.
func TestLimit_NamesAField(t *testing.T) {
	t.Parallel()
	fields := map[string]bool{"Outbox": true, "NamespaceName": true, "IncomingBytes": true}
	for f := range reflect.TypeFor[realtime.Limits]().Fields() {
		fields[f.Name] = true
	}
	for f := range reflect.TypeFor[realtime.Rates]().Fields() {
		fields["Rates."+f.Name] = true
	}
	named := map[string]bool{}
	for name, value := range constantsOf(t, "trace_limits.go", "Limit") {
		require.True(t, fields[value], value)
		require.Equal(t, "Limit"+strings.Replace(value, "Rates.", "Rate", 1), name)
		named[value] = true
	}
	for _, refusesNobody := range []string{
		"OutboxBytes", "OutboxMessages", // both are LimitOutbox
		"RememberedEvents", "RememberedCalls", "RememberedCallBytes", "RepoConcurrency", "DrainRate", "RefuseExtraSockets",
	} {
		require.True(t, fields[refusesNobody], refusesNobody)
		named[refusesNobody] = true
	}
	for field := range fields {
		require.True(t, named[field], field)
	}
}

// failureRecorder receives what Trace.RequestFailed reports.
type failureRecorder chan realtime.RequestFailedInfo

func (f failureRecorder) options(o *realtime.Options) {
	o.Trace = &realtime.Trace{RequestFailed: func(_ context.Context, i realtime.RequestFailedInfo) { f <- i }}
}

// Each reason has a way to come about here. Each has one line in the log, with what to do.
func TestTrace_RequestFailed(t *testing.T) {
	upgrade := []string{
		"Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==",
	}
	polling, websocket := realtime.TransportPolling, realtime.TransportWebSocket
	type request struct {
		method, query, body string
		header              []string
		recorded            bool // by a ResponseWriter without a connection
	}
	rows := map[realtime.RequestFailure]struct {
		request
		set       func(o *realtime.Options)
		before    func(t *testing.T, srv *realtimetest.Server)
		status    int
		transport realtime.Transport
		silent    bool   // the client sends nothing
		line      string // the message of the line, if it is another one
		detail    string
	}{
		realtime.FailureTransport:     {request: request{query: "EIO=4&transport=pigeon"}, status: 400, detail: "Transport unknown"},
		realtime.FailureSession:       {request: request{query: "EIO=4&transport=polling&sid=x"}, status: 400, transport: polling, detail: "Session ID unknown"},
		realtime.FailureMethod:        {request: request{method: "PUT", query: "EIO=4&transport=polling"}, status: 400, transport: polling},
		realtime.FailureUpgradeHeader: {request: request{query: "EIO=4&transport=websocket"}, status: 400, transport: websocket},
		realtime.FailureRequest: {
			request: request{query: "EIO=3&j=0&transport=polling"},
			set:     func(o *realtime.Options) { o.Compat.AllowEIO3 = true }, status: 400, transport: polling,
		},
		realtime.FailureProtocol: {request: request{query: "EIO=3&transport=polling"}, status: 400, transport: polling, detail: "Unsupported protocol version"},
		realtime.FailureOrigin: {
			request: request{query: "EIO=4&transport=polling", header: []string{"Origin", "https://evil.example"}}, status: 403, transport: polling, line: logOrigin,
		},
		realtime.FailureLimit: {
			request: request{query: "EIO=4&transport=polling"},
			set:     func(o *realtime.Options) { o.Unlimited, o.Limits.Connections = false, 1 },
			before:  func(t *testing.T, srv *realtimetest.Server) { srv.Driver(t, "d1") }, status: 503, transport: polling, line: logLimit,
		},
		realtime.FailureConnContext: {
			request: request{query: "EIO=4&transport=polling"},
			set: func(o *realtime.Options) {
				o.ConnContext = func(context.Context, *http.Request) context.Context { panic("planned") }
			}, status: 500, transport: polling, line: logCallFailed,
		},
		realtime.FailureShutdown: {
			request: request{query: "EIO=4&transport=polling", recorded: true},
			before: func(t *testing.T, srv *realtimetest.Server) {
				require.NoError(t, srv.Realtime.Shutdown(t.Context()))
			}, status: 503, transport: polling,
		},
		realtime.FailureBody: {
			request: request{method: "POST", query: "EIO=4&transport=polling&sid=$SID", body: strings.Repeat("x", 2000)},
			set:     func(o *realtime.Options) { o.Limits.MaxPayload = 1000 }, status: 413, transport: polling, line: logLimit,
		},
		realtime.FailureHijack: {
			request: request{query: "EIO=4&transport=websocket", header: upgrade, recorded: true}, status: 500, transport: websocket,
			detail: "*httptest.ResponseRecorder",
		},
		realtime.FailureHandshake: {
			request: request{query: "EIO=4&transport=websocket", header: upgrade[:6]}, status: 400, transport: websocket,
			detail: `handshake error: bad "Sec-WebSocket-Key" header`,
		},
		realtime.FailureConnect: {
			request: request{query: "EIO=4&transport=websocket", header: upgrade}, silent: true, status: 101, transport: websocket,
			detail: "no CONNECT arrived",
		},
		realtime.FailurePacket: {
			request: request{query: "EIO=4&transport=websocket", header: upgrade}, status: 101, transport: websocket,
			detail: "invalid packet: unknown type",
		},
		realtime.FailureUpgrade: {
			request: request{query: "EIO=4&transport=websocket&sid=$SID", header: upgrade}, status: 101, transport: websocket,
		},
	}
	for name, why := range constantsOf(t, "trace_requests.go", "RequestFailure") {
		row, ok := rows[realtime.RequestFailure(why)]
		require.True(t, ok, name)
		t.Run(why, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				failed := make(failureRecorder, 10)
				set := row.set
				if set == nil {
					set = func(*realtime.Options) {}
				}
				logs, log := recordLogs(t)
				srv := realtimetest.NewServer(t, log, failed.options, set)
				query := row.query
				if strings.Contains(query, "$SID") {
					_, sid := originClient{srv: srv}.session(t, true)
					query = strings.Replace(query, "&sid=$SID", sid, 1)
				}
				if row.before != nil {
					row.before(t, srv)
				}
				method := row.method
				if method == "" {
					method = http.MethodGet
				}
				r := httptest.NewRequestWithContext(t.Context(), method, srv.URL()+realtime.Path+"?"+query, strings.NewReader(row.body))
				for i := 0; i < len(row.header); i += 2 {
					r.Header.Set(row.header[i], row.header[i+1])
				}
				var status int
				if row.recorded {
					w := httptest.NewRecorder()
					srv.Realtime.ServeHTTP(w, r)
					status = w.Code
				} else {
					r.RequestURI = ""
					res, err := srv.HTTPClient().Do(r)
					require.NoError(t, err)
					status = res.StatusCode
					switch {
					case row.silent:
						conn := readRaw(t, res)
						time.Sleep(17 * time.Second)
						require.True(t, conn.closed())
					case status == http.StatusSwitchingProtocols:
						require.NoError(t, wsutil.WriteClientText(readRaw(t, res).body, []byte("4no probe")))
					default:
						require.NoError(t, res.Body.Close())
					}
				}
				synctest.Wait()
				require.Equal(t, row.status, status)
				require.Len(t, failed, 1)
				got := <-failed
				require.True(t, got.RemoteAddr.IsValid())
				got.RemoteAddr = netip.Addr{}
				require.Equal(t, realtime.RequestFailedInfo{
					Reason: realtime.RequestFailure(why), Status: status, Method: method, Transport: row.transport,
				}, got)

				line := logs.lines(t, cmp.Or(row.line, logRequestFailed))
				require.Len(t, line, 1)
				if row.line == "" {
					require.Equal(t, why, line[0]["reason"])
					require.InEpsilon(t, float64(status), line[0]["status"], 0)
				}
				if detail := row.detail; detail != "" {
					require.Equal(t, detail, line[0]["detail"])
				}
				if row.line != logOrigin && row.line != logCallFailed { // their message, and the host's error, say it
					require.NotEmpty(t, line[0]["remedy"])
				}
				warned := 0
				for _, level := range []string{"WARN", "ERROR", "INFO"} {
					warned += strings.Count(logs.log.String(), `"level":"`+level+`"`)
				}
				require.Equal(t, 1, warned, "one line in all: %s", logs.log.String())
			})
		})
	}
}

func TestTrace_RefusedWithoutANamespace(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var refused []string
		srv := realtimetest.NewServer(t, func(o *realtime.Options) {
			o.Limits.Namespaces = 1
			o.Trace = &realtime.Trace{Refused: func(_ context.Context, i realtime.RefusedInfo) {
				refused = append(refused, fmt.Sprint(i.Namespace, i.SocketID, " ", i.Transport, " ", i.Code))
			}}
		})
		addNamespace(t, srv, "/support", realtime.NamespaceOptions{Anonymous: true})
		conn := openRaw(t, srv)
		conn.send(t, "40/invented,")
		conn.send(t, "40/support,")
		conn.send(t, connectPacket(realtime.NamespaceDrivers, srv.Login("d1", realtime.UserDriver)))
		synctest.Wait()
		require.Equal(t, []string{" websocket not_found", " websocket rate_limited"}, refused)
	})
}

// Trace.Emitted is called once for an emission, on each node that has receivers.
func TestTrace_Emitted(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		emitted := make(chan realtime.EmittedInfo, 100)
		nodes := realtimetest.NewCluster(t, 2, func(o *realtime.Options) {
			o.Trace = &realtime.Trace{Emitted: func(_ context.Context, i realtime.EmittedInfo) { emitted <- i }}
		})
		nodes[0].Driver(t, "d1")
		nodes[0].Driver(t, "d2")
		nodes[1].Driver(t, "d3")
		handled := make(chan *realtime.Socket, 1)
		nodes[0].Realtime.Drivers().HandleRaw("me", func(_ context.Context, s *realtime.Socket, _ realtime.Raw) (realtime.Raw, error) {
			handled <- s
			return realtime.Raw{}, nil
		})
		d4 := nodes[0].Driver(t, "d4")
		_, err := d4.CallRaw(t.Context(), "me", realtime.Raw{})
		require.NoError(t, err)
		drivers := nodes[0].Realtime.Drivers()
		synctest.Wait()
		require.Empty(t, emitted, "a hello is no emission")

		require.NoError(t, wireNote.Emit(drivers.To(realtime.DriverRoom("nobody")), "x"))
		require.NoError(t, wireNote.Emit(drivers.To(realtime.DriverRoom("d1"), realtime.DriverRoom("d2"), realtime.DriverRoom("d3")), "x"))
		s := <-handled
		require.NoError(t, wireNote.Emit(s, "x"))
		synctest.Wait()
		close(emitted)
		var got []string
		for i := range emitted {
			require.Equal(t, len(`42/drivers,["test:note","x"]`), i.Bytes)
			got = append(got, fmt.Sprint(i.Namespace, " ", i.UserID, " ", i.Event, " ", i.Receivers, " ", i.Audience))
		}
		slices.Sort(got)
		const rooms = "/drivers driver:d1 driver:d2 driver:d3"
		require.Equal(t, []string{"/drivers  test:note 1 " + rooms, "/drivers  test:note 2 " + rooms, "/drivers d4 test:note 1 nobody"}, got)
	})
}

func TestTrace_Abandoned(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var abandoned []string
		srv := realtimetest.NewServer(t, func(o *realtime.Options) {
			o.Trace = &realtime.Trace{Abandoned: func(_ context.Context, i realtime.AbandonedInfo) {
				abandoned = append(abandoned, fmt.Sprint(i.UserID, " ", i.Event, " ", i.Duration.Round(time.Second) >= 20*time.Second))
			}}
		})
		release := make(chan struct{})
		drivers := srv.Realtime.Drivers()
		drivers.HandleRaw("hangs", func(context.Context, *realtime.Socket, realtime.Raw) (realtime.Raw, error) {
			<-release
			return realtime.Raw{}, nil
		})
		drivers.OnDisconnect(func(context.Context, *realtime.Socket, realtime.DisconnectReason) { <-release })
		require.NoError(t, srv.Driver(t, "d1").Emit("hangs"))
		time.Sleep(time.Minute)
		synctest.Wait()
		close(release)
		require.Equal(t, []string{"d1 hangs true", "d1 disconnect true"}, abandoned)
	})
}

type tracedKey struct{}

// The values that the connection came with, or those of Publish, are in each ctx, which
// does not end with what happened.
func TestTrace_Context(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		got := make(chan string, 100)
		say := func(ctx context.Context, name string) {
			require.NoError(t, ctx.Err())
			require.Nil(t, ctx.Done())
			got <- fmt.Sprint(name, " ", ctx.Value(tracedKey{}))
		}
		srv := realtimetest.NewServer(t, func(o *realtime.Options) {
			o.Bus = nil
			o.ConnContext = func(ctx context.Context, _ *http.Request) context.Context {
				return context.WithValue(ctx, tracedKey{}, "connection")
			}
			o.Trace = &realtime.Trace{
				Connected:    func(ctx context.Context, _ realtime.ConnectedInfo) { say(ctx, "connected") },
				Refused:      func(ctx context.Context, _ realtime.RefusedInfo) { say(ctx, "refused") },
				Handled:      func(ctx context.Context, _ realtime.HandledInfo) { say(ctx, "handled") },
				Disconnected: func(ctx context.Context, _ realtime.DisconnectedInfo) { say(ctx, "disconnected") },
				Delivered:    func(ctx context.Context, _ realtime.DeliveredInfo) { say(ctx, "delivered") },
			}
		})
		_, err := srv.Dial(t.Context(), "/drivers", realtimetest.Token("bad"))
		require.Error(t, err)
		driver := srv.Driver(t, "d1")
		ackOf(t, driver, "nobody handles it")
		driver.Close()
		ctx, cancel := context.WithCancel(context.WithValue(t.Context(), tracedKey{}, "publish"))
		require.NoError(t, srv.Realtime.Publish(ctx, realtime.SessionRevoked{SessionID: "s9"}))
		cancel()
		synctest.Wait()
		close(got)
		var all []string
		for s := range got {
			all = append(all, s)
		}
		slices.Sort(all)
		require.Equal(t, []string{
			"connected connection", "delivered publish", "disconnected connection", "handled connection", "refused connection",
		}, all)
	})
}

// What Trace says about time: how long a socket was connected, and how long a domain event waited
// on the bus and in the server.
func TestTrace_Times(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		disconnected, delivered := make(chan realtime.DisconnectedInfo, 1), make(chan realtime.DeliveredInfo, 1)
		srv := realtimetest.NewServer(t, func(o *realtime.Options) {
			o.Trace = &realtime.Trace{
				Disconnected: func(_ context.Context, i realtime.DisconnectedInfo) { disconnected <- i },
				Delivered:    func(_ context.Context, i realtime.DeliveredInfo) { delivered <- i },
			}
		})
		start := time.Now()
		driver := srv.Driver(t, "d1")
		time.Sleep(time.Hour)
		driver.Close()
		d := <-disconnected
		require.WithinDuration(t, start, d.Time, time.Millisecond)
		require.InDelta(t, time.Hour, d.Duration, float64(time.Second))

		_, release := srv.Parties.Block()
		now := time.Now()
		e, err := realtime.NewEnvelope(realtime.TripStarted{TripID: "t1"})
		require.NoError(t, err)
		e.At = now.Add(-time.Minute)
		require.NoError(t, srv.Bus.Publish(t.Context(), e))
		time.Sleep(2 * time.Second)
		release()
		i := <-delivered
		require.Equal(t, now, i.Time)
		require.Equal(t, 2*time.Second, i.Duration)
		require.Equal(t, time.Minute+2*time.Second, i.Age)
	})
}

// Every call is made or counted, however long there was no room.
func TestTrace_Dropped(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const n = 70_000
		made, dropped := 0, 0
		srv := realtimetest.NewServer(t, func(o *realtime.Options) {
			o.Trace = &realtime.Trace{
				Unknown: func(context.Context, realtime.UnknownInfo) {
					if made++; made <= 3 {
						time.Sleep(900 * time.Millisecond)
					}
				},
				TraceDropped: func(_ context.Context, i realtime.TraceDroppedInfo) { dropped += i.Calls },
			}
		})
		for i := range n {
			require.NoError(t, srv.Bus.Publish(t.Context(), realtime.Envelope{ID: strconv.Itoa(i), Name: "x", Key: "k", Data: []byte("{}")}))
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Greater(t, dropped, n-1<<16-10)
		require.Equal(t, n, made+dropped)
	})
}

// Trace.Limited has the depth of the outbox of a slow consumer.
func TestTrace_OutboxOfASlowConsumer(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		limited := make(chan realtime.LimitInfo, 10)
		srv := realtimetest.NewServer(t, func(o *realtime.Options) {
			o.Limits.OutboxMessages = 20
			o.Trace = &realtime.Trace{Limited: func(_ context.Context, i realtime.LimitInfo) { limited <- i }}
		})
		admin := srv.Admin(t, "a1")
		admin.Stall()
		room := srv.Realtime.Admin().To(realtime.AdminUserRoom("a1"))
		for range 2000 {
			require.NoError(t, memo.Emit(room, strings.Repeat("x", 10_000)))
		}
		synctest.Wait()
		require.Len(t, limited, 1)
		i := <-limited
		require.Equal(t, realtime.LimitOutbox, i.Limit)
		require.Equal(t, realtime.TransportWebSocket, i.Transport)
		require.Equal(t, 21, i.OutboxMessages)
		require.Greater(t, i.OutboxBytes, 21*10_000)
		admin.Resume()
		admin.Disconnected(t)
	})
}
