// Benchmarks of an event: encoding, decoding, emitting, and a driver's position from its arrival
// to the ack. Connections are in memory, because one write to a real network costs more than all
// of this.

package realtime_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/socketio"
	"github.com/rodando/realtime/realtimetest"
)

var benchLocation = realtime.LocationPayload{
	EventID: "7f6d7f0e-9d0c-4c8e-9a55-0c6f0f1f7f10",
	LocationUpdate: realtime.LocationUpdate{
		DriverID: "1b4e28ba-2fa1-11d2-883f-0016d3cca427", LastLocation: realtime.Position{Lat: 23.1136, Lng: -82.3666},
		LastLocationTimestamp: realtime.Time{Time: tripAt}, Heading: new(90.5), Speed: new(12.5),
	},
}

const benchPing = `["driver:location:ping",{"lat":23.1136,"lng":-82.3666,"heading":90.5,"speed":12.5,"accuracyMeters":8,"lastLocationTimestamp":"2026-05-04T10:20:30.123Z"}]`

func BenchmarkEncode(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		arg, err := json.Marshal(benchLocation)
		if err != nil {
			b.Fatal(err)
		}
		socketio.EventMessage("/drivers", socketio.NoID, "driver:location:update", arg)
	}
}

func BenchmarkDecode(b *testing.B) {
	b.ReportAllocs()
	text := []byte("2/drivers,17" + benchPing)
	limits := socketio.Limits{Attachments: 10, Depth: 32, Values: 10_000, EventName: 128, Namespace: 256}
	for b.Loop() {
		var p socketio.Packet
		if err := p.Parse(text, limits); err != nil {
			b.Fatal(err)
		}
		var ping realtime.LocationPing
		if err := ping.UnmarshalJSON(p.Args[0]); err != nil {
			b.Fatal(err)
		}
	}
}

// benchConn is a client that reads frames and keeps nothing.
type benchConn struct {
	rwc  io.ReadWriteCloser
	read *bufio.Reader
}

// benchServer is a server without limits that a benchmark would hit.
func benchServer(b *testing.B, configure ...func(o *realtime.Options)) *realtimetest.Server {
	b.Helper()
	return realtimetest.NewServer(b, append(configure, func(o *realtime.Options) {
		o.Logger = slog.New(slog.DiscardHandler)
		o.Limits.OutboxMessages, o.Limits.OutboxBytes = 1<<30, 1<<30
	})...)
}

// benchDriver connects a driver and reads their hello.
func benchDriver(b *testing.B, srv *realtimetest.Server, user string) *benchConn {
	b.Helper()
	r, err := http.NewRequestWithContext(b.Context(), http.MethodGet, srv.URL()+realtime.Path+"?EIO=4&transport=websocket", nil)
	require.NoError(b, err)
	for name, value := range map[string]string{
		"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
	} {
		r.Header.Set(name, value)
	}
	res, err := srv.HTTPClient().Do(r) // its body is the connection, closed with the server
	require.NoError(b, err)
	require.Equal(b, http.StatusSwitchingProtocols, res.StatusCode)
	rwc, ok := res.Body.(io.ReadWriteCloser)
	require.True(b, ok)
	w := &benchConn{rwc: rwc, read: bufio.NewReader(rwc)}
	w.write(b, `40/drivers,{"token":"`+srv.Login(user, realtime.UserDriver)+`"}`)
	for range 3 { // the engine's open packet, CONNECT, hello
		_, err := w.frame()
		require.NoError(b, err)
	}
	return w
}

func (w *benchConn) write(b *testing.B, packet string) {
	frame, err := ws.CompileFrame(ws.MaskFrame(ws.NewTextFrame([]byte(packet))))
	require.NoError(b, err)
	_, err = w.rwc.Write(frame)
	require.NoError(b, err)
}

// frame reads a frame and returns the first bytes of its payload.
func (w *benchConn) frame() (head string, err error) {
	h, err := ws.ReadHeader(w.read)
	if err != nil {
		return "", err
	}
	if h.OpCode == ws.OpClose {
		return "", io.EOF
	}
	b, err := w.read.Peek(min(int(h.Length), 3))
	head = string(b)
	if err == nil {
		_, err = w.read.Discard(int(h.Length))
	}
	return head, err
}

// count counts the frames until the connection ends.
func (w *benchConn) count(b *testing.B, n *atomic.Int64) {
	for {
		if _, err := w.frame(); err != nil {
			if !errors.Is(err, io.EOF) {
				b.Error(err)
			}
			_ = w.rwc.Close() // it has ended
			return
		}
		n.Add(1)
	}
}

// benchEmit emits to a room, with at most ahead events that have not arrived.
func benchEmit(b *testing.B, drivers, ahead int) {
	srv := benchServer(b)
	var arrived atomic.Int64
	room := realtime.NewRoom("zone", "havana")
	for n := range drivers {
		user := fmt.Sprint("d", n)
		w := benchDriver(b, srv, user)
		srv.Realtime.Drivers().To(realtime.DriverRoom(user)).Join(room)
		go w.count(b, &arrived)
	}
	to := srv.Realtime.Drivers().To(room)
	var sent int64
	b.ReportAllocs()
	for b.Loop() {
		if err := realtime.EventDriverLocation.Emit(to, benchLocation); err != nil {
			b.Fatal(err)
		}
		sent++
		for arrived.Load() < (sent-int64(ahead))*int64(drivers) {
			time.Sleep(time.Microsecond)
		}
	}
	b.ReportMetric(float64(sent)*float64(drivers)/b.Elapsed().Seconds(), "deliveries/s")
}

func BenchmarkEmitToOne(b *testing.B) { benchEmit(b, 1, 256) }

func BenchmarkEmitTo1000(b *testing.B) { benchEmit(b, 1000, 4) }

// BenchmarkPingToAck is a driver's position: read, stored, sent to their sockets,
// acknowledged.
func BenchmarkPingToAck(b *testing.B) { benchPositions(b, benchServer(b)) }

// BenchmarkPingToAckInCluster is the same on a node of a cluster. Its adapter encodes what it
// publishes, and another node has no receiver, or an admin.
func BenchmarkPingToAckInCluster(b *testing.B) {
	for _, c := range []struct {
		name            string
		only, connected bool
	}{{"no receiver elsewhere", true, false}, {"an admin elsewhere", true, true}, {"perhaps Node servers", false, false}} {
		b.Run(c.name, func(b *testing.B) {
			hub := realtimetest.NewHub()
			hub.SetOnlyPeers(c.only)
			join := func(o *realtime.Options) { o.Cluster.Adapter = hub.Node() }
			srv, other := benchServer(b, join), benchServer(b, join)
			if c.connected {
				other.Admin(b, "a1")
			}
			time.Sleep(200 * time.Millisecond) // until the rooms are announced
			benchPositions(b, srv)
		})
	}
}

// BenchmarkJoin is a socket that joins a room and leaves it, alone and in a cluster, where both are
// announced.
func BenchmarkJoin(b *testing.B) {
	for nodes := 1; nodes <= 2; nodes++ {
		b.Run(fmt.Sprint(nodes, " nodes"), func(b *testing.B) {
			var join []func(o *realtime.Options)
			if nodes > 1 {
				hub := realtimetest.NewHub() // its adapter watches rooms; the struct hides that
				join = append(join, func(o *realtime.Options) { o.Cluster.Adapter = struct{ realtime.Adapter }{hub.Node()} })
				benchServer(b, join...)
			}
			srv := benchServer(b, join...)
			w := benchDriver(b, srv, "d1")
			to, rooms := srv.Realtime.Drivers().To(realtime.DriverRoom("d1")).Local(), make([]realtime.Room, 1000)
			for n := range rooms {
				rooms[n] = realtime.NewRoom("zone", fmt.Sprint(n))
			}
			time.Sleep(200 * time.Millisecond)
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				to.Join(rooms[n%len(rooms)])
				to.Leave(rooms[n%len(rooms)])
			}
			_ = w.rwc.Close() // the server sees it
		})
	}
}

// benchPositions reports positions of a driver, each after the ack of the previous one.
func benchPositions(b *testing.B, srv *realtimetest.Server) {
	b.Helper()
	w := benchDriver(b, srv, "d1")
	ping := fmt.Sprintf(`42/drivers,17["driver:location:ping",{"lat":23.1136,"lng":-82.3666,"heading":90.5,"speed":12.5,"lastLocationTimestamp":%q}]`,
		time.Now().UTC().Format(time.RFC3339))
	b.ReportAllocs()
	for b.Loop() {
		w.write(b, ping)
		for head := ""; head != "43/"; {
			var err error
			if head, err = w.frame(); err != nil {
				b.Fatal(err)
			}
		}
	}
	_ = w.rwc.Close() // the server sees it
}

// benchPublish publishes an event of a trip in process, with at most a hundred that have not
// arrived. connected says whether the trip's driver is connected.
func benchPublish(b *testing.B, connected bool) {
	var done atomic.Int64
	srv := realtimetest.NewServer(b, func(o *realtime.Options) {
		o.Logger = slog.New(slog.DiscardHandler)
		o.Limits.OutboxMessages, o.Limits.OutboxBytes = 1<<30, 1<<30
		o.Bus = nil
		o.Trace = &realtime.Trace{Delivered: func(context.Context, realtime.DeliveredInfo) { done.Add(1) }}
	})
	if connected {
		var arrived atomic.Int64
		w := benchDriver(b, srv, "d1")
		go w.count(b, &arrived)
	}
	require.NoError(b, srv.Realtime.Publish(b.Context(), realtime.DriverAssigned{TripID: "t1", PassengerID: "p1", DriverID: "d1"}))
	e := realtime.WaitingSurchargeApplied{TripID: "t1", PassengerID: "p1", DriverID: "d1", WaitingMinutes: 7, Amount: 50.5, Currency: "CUP"}
	sent := int64(1)
	b.ReportAllocs()
	for b.Loop() {
		if err := srv.Realtime.Publish(b.Context(), e); err != nil {
			b.Fatal(err)
		}
		sent++
		for done.Load() < sent-100 {
			time.Sleep(time.Microsecond)
		}
	}
}

func BenchmarkPublish(b *testing.B) {
	b.Run("nobody", func(b *testing.B) { benchPublish(b, false) })
	b.Run("driver", func(b *testing.B) { benchPublish(b, true) })
}
