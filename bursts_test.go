// Bursts: what a client sends at once, as when it connects.

package realtime_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobwas/ws/wsutil"
	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// entered opens a connection and enters a namespace as a user.
func entered(t *testing.T, srv *realtimetest.Server, namespace, user string, as realtime.UserType) *rawConn {
	t.Helper()
	conn := openRaw(t, srv)
	requireEntered(t, conn.send(t, connectPacket(namespace, srv.Login(user, as))), namespace, user, realtimetest.SessionID(user))
	return conn
}

// sendAtOnce sends packets in one write, as a client does that has kept them.
func (c *rawConn) sendAtOnce(t *testing.T, packets ...string) {
	t.Helper()
	var b bytes.Buffer
	for _, p := range packets {
		require.NoError(t, wsutil.WriteClientText(&b, []byte(p)))
	}
	_, err := c.body.Write(b.Bytes())
	require.NoError(t, err)
}

// calls returns the packets of n calls, with the ack ids from first on. %d in the body is the
// number of the call.
func calls(namespace, event, body string, first, n int) (packets []string) {
	for i := range n {
		packets = append(packets, fmt.Sprintf(`42%s,%d[%q,%s]`, namespace, first+i, event, strings.ReplaceAll(body, "%d", fmt.Sprint(i))))
	}
	return packets
}

// acksOf returns those of the packets that are acks, without their ids: how often each came.
func acksOf(packets []string) map[string]int {
	acks := map[string]int{}
	for _, p := range packets {
		if strings.HasPrefix(p, "43") {
			acks[p[strings.IndexByte(p, '['):]]++
		}
	}
	return acks
}

// A dashboard joins its trips whenever it connects, in each of its windows, and changes them. The
// limit is that on rooms.
func TestRates_TripsOfADashboard(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := &limitRecorder{}
		srv := realtimetest.NewServer(t, l.options)
		const crowded = `[{"ok":false,"error":{"code":"rate_limited","message":"too many trips at once; leave some"}}]`
		ok := func(packets []string) (n int) {
			for ack, times := range acksOf(packets) {
				if strings.HasPrefix(ack, `[{"ok":true`) {
					n += times
				}
			}
			return n
		}
		trips := func(event string, first, n int) []string {
			return calls("/admin", event, `{"tripId":"trip-%d"}`, first, n)
		}
		var windows []*rawConn
		for range 3 {
			w := entered(t, srv, realtime.NamespaceAdmin, "a1", realtime.UserAdmin)
			w.sendAtOnce(t, trips("admin:trip:join", 0, 100)...)
			require.Equal(t, 100, ok(w.received()))
			windows = append(windows, w)
		}
		w := windows[0]
		w.sendAtOnce(t, trips("admin:trip:leave", 0, 100)...)
		require.Equal(t, 100, ok(w.received()))
		require.Empty(t, l.take())
		time.Sleep(10 * time.Second)
		w.sendAtOnce(t, trips("admin:trip:join", 0, 100)...)
		require.Equal(t, 100, ok(w.received()))
		time.Sleep(3 * time.Second)
		require.Equal(t, map[string]int{crowded: 25}, acksOf(w.send(t, calls("/admin", "admin:trip:join", `{"tripId":"more-%d"}`, 0, 25)...)))
		require.Equal(t, []realtime.Limit{realtime.LimitRoomsPerSocket}, l.take())
		w.sendAtOnce(t, calls("/admin", "admin:drivers:leave", `null`, 0, 20)...)
		require.Equal(t, map[string]int{`[{"ok":true}]`: 20}, acksOf(w.received()), "joins do not count for the user")
		require.False(t, slices.ContainsFunc(windows, (*rawConn).closed))
	})
}

// The budget follows Limits.RoomsPerSocket, and Rates.Events replaces it.
func TestRates_TripsOfADashboard_Options(t *testing.T) {
	for name, c := range map[string]struct {
		set  func(o *realtime.Options)
		want int
	}{
		"more rooms": {func(o *realtime.Options) { o.Limits.RoomsPerSocket = 500 }, 500},
		"few rooms":  {func(o *realtime.Options) { o.Limits.RoomsPerSocket = 5 }, 5},
		"no rate":    {func(o *realtime.Options) { o.Rates.Event.PerSecond = -1 }, 100},
		"a rate of it": {func(o *realtime.Options) {
			o.Rates.Events = map[string]realtime.Rate{"admin:trip:join": {PerSecond: 1, Burst: 7}}
		}, 7},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Unlimited = false; c.set(o) })
				w := entered(t, srv, realtime.NamespaceAdmin, "a1", realtime.UserAdmin)
				w.sendAtOnce(t, calls("/admin", "admin:trip:join", `{"tripId":"trip-%d"}`, 0, c.want+10)...)
				joined := 0
				for ack, n := range acksOf(w.received()) {
					if strings.HasPrefix(ack, `[{"ok":true`) {
						joined += n
					}
				}
				require.Equal(t, c.want, joined)
				require.False(t, w.closed())
			})
		})
	}
}

// line returns n positions of a driver who moves, as a client sends them that has kept them. The
// last one is at latitude n-1 thousandths.
func line(first, n int) []string {
	var packets []string
	for i := range n {
		packets = append(packets, fmt.Sprintf(`42/drivers,%d["driver:location:ping",{"lat":%g,"lng":2}]`, first+i, float64(i)/1000))
	}
	return packets
}

// latitudes returns the latitudes that the client has received since the last call, in
// thousandths.
func latitudes(c *realtimetest.Client, since *int) (all []int) {
	received := c.Received()
	for _, e := range received[*since:] {
		if e.Event == realtime.EventAdminDriverLocation.Name() {
			var p realtime.LocationPayload
			if err := json.Unmarshal(e.Args[0], &p); err != nil {
				panic(err)
			}
			all = append(all, int(p.LastLocation.Lat*1000+0.5))
		}
	}
	*since = len(received)
	return all
}

const okAck = `[{"ok":true}]`

// A driver was in a tunnel, and the client sends at once what it has kept: of the positions the
// newest is stored and emitted, all are acknowledged, and the event behind them is handled after
// them.
func TestBurst_Tunnel(t *testing.T) {
	for _, n := range []int{2, 11, 150, 3000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				l := &limitRecorder{}
				srv := realtimetest.NewServer(t, l.options)
				admin := srv.Admin(t, "a1")
				seen := 0
				driver := entered(t, srv, realtime.NamespaceDrivers, "d1", realtime.UserDriver)
				driver.sendAtOnce(t, append(line(0, n), `42/drivers,9999["driver:status:update",{"isOnline":true,"isAvailableForTrips":true}]`)...)
				packets := driver.received()
				require.Equal(t, n, acksOf(packets)[okAck])
				status := slices.IndexFunc(packets, func(p string) bool { return strings.HasPrefix(p, "43/drivers,9999[") })
				require.Equal(t, len(packets)-1, status, "the status comes after the positions")
				require.Contains(t, packets[status], fmt.Sprintf(`"lastLocation":{"lat":%g,`, float64(n-1)/1000))
				synctest.Wait()
				require.Equal(t, []int{n - 1}, latitudes(admin, &seen))
				time.Sleep(time.Second)
				require.Empty(t, latitudes(admin, &seen))
				require.Empty(t, l.take())
				require.False(t, driver.closed())
			})
		})
	}
}

// Nothing comes behind the positions, they arrive in pieces, and the client wants no acks.
func TestBurst_InPieces(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := &limitRecorder{}
		srv := realtimetest.NewServer(t, l.options)
		admin := srv.Admin(t, "a1")
		seen := 0
		driver := entered(t, srv, realtime.NamespaceDrivers, "d1", realtime.UserDriver)
		kept := line(0, 300)
		for i := range kept {
			kept[i] = strings.Replace(kept[i], kept[i][:strings.IndexByte(kept[i], '[')], "42/drivers,", 1)
		}
		for piece := range slices.Chunk(kept, 50) {
			driver.sendAtOnce(t, piece...)
			require.Empty(t, driver.received())
			time.Sleep(40 * time.Millisecond)
		}
		time.Sleep(time.Second)
		require.Equal(t, []int{299}, latitudes(admin, &seen))
		// A client that polls, and a slow line: the burst seems to end, and goes on.
		for piece := range slices.Chunk(line(1, 300), 30) {
			driver.sendAtOnce(t, piece...)
			time.Sleep(600 * time.Millisecond)
		}
		require.Equal(t, map[string]int{okAck: 300}, acksOf(driver.received()))
		all := latitudes(admin, &seen)
		require.True(t, slices.IsSorted(all))
		require.Equal(t, 299, all[len(all)-1])
		require.Len(t, all, 10, "one of each piece")
		require.Empty(t, l.take())
		require.False(t, driver.closed())
		time.Sleep(10 * time.Second) // what comes then waits for nothing
		require.Equal(t, map[string]int{okAck: 1}, acksOf(driver.send(t, line(0, 1)...)))
		require.Equal(t, []int{0}, latitudes(admin, &seen))
	})
}

// A slow line carries what a client has kept for a minute: all are acknowledged, and the status behind
// them is handled.
func TestBurst_SlowLine(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := &limitRecorder{}
		srv := realtimetest.NewServer(t, l.options)
		driver := entered(t, srv, realtime.NamespaceDrivers, "d1", realtime.UserDriver)
		for piece := range slices.Chunk(line(0, 1400), 25) {
			driver.sendAtOnce(t, piece...)
			time.Sleep(time.Second)
		}
		driver.sendAtOnce(t, `42/drivers,9999["driver:status:update",{"isOnline":true,"isAvailableForTrips":true}]`)
		time.Sleep(time.Second)
		packets := driver.received()
		require.Equal(t, 1400, acksOf(packets)[okAck])
		require.Contains(t, packets[len(packets)-1], `"lastLocation":{"lat":1.399,`)
		require.Empty(t, l.take())
		require.False(t, driver.closed())
	})
}

// Of the positions that wait the newest is the one that was taken last, in whatever order a client
// sends what it has kept. If a client does not say when, it is the one that comes last.
func TestBurst_NewestByTime(t *testing.T) {
	const all, few = 150, 80 // so many are a breach, and so few are none
	for name, c := range map[string]struct {
		age     func(i int) int // seconds; negative: not given
		newest  int
		settled bool
	}{
		"the newest first": {age: func(i int) int { return i }, newest: 0},
		"in any order":     {age: func(i int) int { return (i*67 + 10) % all }, newest: 20},
		"in order":         {age: func(i int) int { return all - i }, newest: all - 1},
		"the same time":    {age: func(int) int { return 5 }, newest: all - 1},
		"no times":         {age: func(int) int { return -1 }, newest: all - 1},
		"a last one without": {age: func(i int) int {
			if i == all-1 {
				return -1
			}
			return i
		}, newest: all - 1},
		"long after the connect": {age: func(i int) int { return (i*67 + 10) % few }, newest: 50, settled: true},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				srv := realtimetest.NewServer(t, (&limitRecorder{}).options)
				admin := srv.Admin(t, "a1")
				seen, n := 0, all
				driver := entered(t, srv, realtime.NamespaceDrivers, "d1", realtime.UserDriver)
				if c.settled {
					n = few
					driver.send(t, `42/drivers,["driver:location:ping",{"lat":5,"lng":2}]`)
					time.Sleep(15 * time.Second)
					require.Equal(t, []int{5000}, latitudes(admin, &seen))
				}
				packets, now := line(0, n), time.Now()
				for i, p := range packets {
					if age := c.age(i); age >= 0 {
						packets[i] = strings.TrimSuffix(p, "}]") + fmt.Sprintf(`,"lastLocationTimestamp":%d}]`, now.Add(-time.Duration(age)*time.Second).UnixMilli())
					}
				}
				driver.sendAtOnce(t, packets...)
				time.Sleep(5 * time.Second)
				acks := 0
				for _, times := range acksOf(driver.received()) {
					acks += times
				}
				require.Equal(t, n, acks)
				emitted := latitudes(admin, &seen)
				require.Equal(t, c.newest, emitted[len(emitted)-1])
				if !c.settled {
					require.Len(t, emitted, 1)
				}
				require.False(t, driver.closed())
			})
		})
	}
}

// A client that polls sends its first event alone, and the others when that is answered.
func TestBurst_FirstAlone(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, (&limitRecorder{}).options)
		admin := srv.Admin(t, "a1")
		seen := 0
		driver := entered(t, srv, realtime.NamespaceDrivers, "d1", realtime.UserDriver)
		kept := append(line(0, 150), `42/drivers,9999["driver:status:update",{"isOnline":true}]`)
		driver.send(t, kept[0])
		time.Sleep(700 * time.Millisecond)
		driver.sendAtOnce(t, kept[1:]...)
		packets := driver.received()
		require.Equal(t, 150, acksOf(packets)[okAck])
		require.Contains(t, packets[len(packets)-1], `"lastLocation":{"lat":0.149,`)
		require.Equal(t, []int{0, 149}, latitudes(admin, &seen))
	})
}

// Positions that cannot be stored are acknowledged with what is wrong with them, and take no
// other's place.
func TestBurst_InvalidPositions(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, (&limitRecorder{}).options)
		admin := srv.Admin(t, "a1")
		seen := 0
		driver := entered(t, srv, realtime.NamespaceDrivers, "d1", realtime.UserDriver)
		driver.sendAtOnce(t, append(line(0, 20), `42/drivers,20["driver:location:ping",{"lat":91,"lng":2}]`, `42/drivers,21["driver:location:ping"]`)...)
		time.Sleep(time.Second)
		acks := acksOf(driver.received())
		require.Equal(t, 20, acks[okAck])
		require.Equal(t, 1, acks[`[{"ok":false,"error":{"code":"invalid_payload","message":"lat: must be a number from -90 to 90","fields":["lat"]}}]`], acks)
		require.Len(t, acks, 3)
		require.Equal(t, []int{19}, latitudes(admin, &seen))
	})
}

// Of other events those within their rate are handled, and the others are refused: that is no
// breach either.
func TestBurst_OtherEvents(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := &limitRecorder{}
		srv := realtimetest.NewServer(t, l.options)
		driver := entered(t, srv, realtime.NamespaceDrivers, "d1", realtime.UserDriver)
		driver.sendAtOnce(t, append(calls("/drivers", "driver:trip:set", `{}`, 0, 400), calls("/drivers", "auth:refresh", `{"token":"x"}`, 400, 200)...)...)
		acks := acksOf(driver.received())
		require.Equal(t, 380+195, acks["["+tooOften+"]"])
		require.Equal(t, []realtime.Limit{realtime.LimitRateEvent, realtime.LimitRateEvents}, l.take())
		require.False(t, driver.closed())
	})
}

// Also without a connect a line may be stalled, and then carry many positions at once: the newest
// is stored and emitted, as soon as the rate allows it.
func TestBurst_StalledLine(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := &limitRecorder{}
		srv := realtimetest.NewServer(t, l.options)
		admin := srv.Admin(t, "a1")
		seen := 0
		driver := entered(t, srv, realtime.NamespaceDrivers, "d1", realtime.UserDriver)
		driver.send(t, line(0, 1)...)
		time.Sleep(time.Minute)
		require.Equal(t, []int{0}, latitudes(admin, &seen))
		driver.received()
		driver.sendAtOnce(t, append(line(0, 45), `42/drivers,45["driver:status:update",{"isOnline":true}]`)...)
		acks := acksOf(driver.received())
		require.Equal(t, 10, acks[okAck])
		require.Equal(t, 34, acks["["+tooOften+"]"])
		require.Len(t, acks, 3, "the status does not wait for the position")
		require.Equal(t, []realtime.Limit{realtime.LimitRateLocation}, l.take())
		require.Equal(t, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, latitudes(admin, &seen))
		time.Sleep(600 * time.Millisecond)
		require.Equal(t, map[string]int{okAck: 1}, acksOf(driver.received()))
		require.Equal(t, []int{44}, latitudes(admin, &seen))
		require.False(t, driver.closed())
	})
}

// A position that waits is handled before its socket ends, whatever ends it.
func TestBurst_HeldPositionAtTheEnd(t *testing.T) {
	const leaves = "41/drivers,"
	for name, end := range map[string]func(t *testing.T, srv *realtimetest.Server, driver *rawConn){
		"the client leaves the namespace": func(t *testing.T, _ *realtimetest.Server, driver *rawConn) { driver.send(t, leaves) },
		"in one write": func(t *testing.T, _ *realtimetest.Server, driver *rawConn) {
			driver.sendAtOnce(t, append(line(0, 30), leaves)...)
		},
		"the line is cut": func(t *testing.T, _ *realtimetest.Server, driver *rawConn) { require.NoError(t, driver.body.Close()) },
		"the server shuts down": func(t *testing.T, srv *realtimetest.Server, driver *rawConn) {
			require.NoError(t, srv.Realtime.Shutdown(t.Context()))
			packets := driver.received()
			ack := slices.Index(packets, "43/drivers,29"+okAck)
			require.GreaterOrEqual(t, ack, 0, packets)
			require.Less(t, ack, slices.IndexFunc(packets, func(p string) bool { return strings.Contains(p, "server:drain") }))
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				drivers := realtime.NewMemoryDrivers()
				srv := realtimetest.NewServer(t, (&limitRecorder{}).options, func(o *realtime.Options) { o.Drivers = drivers })
				driver := entered(t, srv, realtime.NamespaceDrivers, "d1", realtime.UserDriver)
				if name != "in one write" {
					driver.sendAtOnce(t, line(0, 30)...)
					require.Equal(t, map[string]int{okAck: 29}, acksOf(driver.received()), "the last one waits for a newer one")
				}
				end(t, srv, driver)
				synctest.Wait()
				a, ok := drivers.Snapshot("d1")
				require.True(t, ok)
				require.InDelta(t, 0.029, a.LastLocation.Lat, 1e-9)
			})
		})
	}
}

// However the handler of the position ends that was held, the event behind it is handled, or the
// connection is closed and OnDisconnect called once.
func TestBurst_HandlerFails(t *testing.T) {
	for name, c := range map[string]struct {
		fault  func(ctx context.Context)
		closes bool
	}{
		"exits":  {func(context.Context) { runtime.Goexit() }, false},
		"panics": {func(context.Context) { panic("planted") }, false},
		"hangs":  {nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				release := make(chan struct{})
				defer close(release)
				srv := realtimetest.NewServer(t, (&limitRecorder{}).options, func(o *realtime.Options) {
					o.Timeouts.Handler = time.Second
					o.Interceptors = []realtime.Interceptor{func(next realtime.CallFunc) realtime.CallFunc {
						return func(ctx context.Context, r *realtime.CallRequest) (realtime.Raw, error) {
							if r.Event() == realtime.DriverLocationPing.Name() {
								if c.fault == nil {
									<-release
								} else {
									c.fault(ctx)
								}
							}
							return next(ctx, r)
						}
					}}
				})
				var ended atomic.Int32
				srv.Realtime.Drivers().OnDisconnect(func(context.Context, *realtime.Socket, realtime.DisconnectReason) { ended.Add(1) })
				driver := entered(t, srv, realtime.NamespaceDrivers, "d1", realtime.UserDriver)
				driver.sendAtOnce(t, append(line(0, 30), calls("/drivers", "driver:trip:set", `{}`, 30, 1)...)...)
				time.Sleep(5 * time.Second)
				acks := acksOf(driver.received())
				require.Equal(t, 29, acks[okAck])
				if c.closes {
					require.Equal(t, 1, acks[`[{"ok":false,"error":{"code":"unavailable","message":"not available, try again"}}]`], acks)
					require.Len(t, acks, 2, "what is queued behind it is dropped")
					require.True(t, driver.closed())
					require.EqualValues(t, 1, ended.Load())
					return
				}
				require.Equal(t, 1, acks[`[{"ok":false,"error":{"code":"internal","message":"internal error"}}]`], acks)
				require.Len(t, acks, 3)
				require.False(t, driver.closed())
			})
		})
	}
}

// A host that wants every position sets no rate for them.
func TestBurst_WithoutARate(t *testing.T) {
	for name, set := range map[string]func(r *realtime.Rates){
		"Location": func(r *realtime.Rates) { r.Location.PerSecond = -1 },
		"Events":   func(r *realtime.Rates) { r.Events = map[string]realtime.Rate{"driver:location:ping": {PerSecond: -1}} },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				l := &limitRecorder{}
				srv := realtimetest.NewServer(t, l.options, func(o *realtime.Options) { set(&o.Rates) })
				admin := srv.Admin(t, "a1")
				seen := 0
				driver := entered(t, srv, realtime.NamespaceDrivers, "d1", realtime.UserDriver)
				driver.sendAtOnce(t, line(0, 100)...)
				require.Equal(t, map[string]int{okAck: 100}, acksOf(driver.received()))
				require.Len(t, latitudes(admin, &seen), 100)
				require.Empty(t, l.take())
			})
		})
	}
}
