package engineio_test

import (
	"io"
	"net"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rodando/realtime/internal/engineio"
)

// position is a message like the location of a driver.
const position = `2/admin,["admin:driver:location:update",{"driverId":"2d1f7e5e-6a2f-4f43-9d59-0c8a9b0d2f11",` +
	`"lastLocation":{"lat":-0.180653,"lng":-78.467834},"lastLocationTimestamp":"2026-01-02T03:04:05.678Z"}]`

func encode() *engineio.Message {
	return engineio.TextMessage(append(engineio.TextBuffer(len(position)), position...))
}

func BenchmarkTextMessage(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		encode()
	}
}

func BenchmarkBinaryMessage(b *testing.B) {
	data := []byte(position)
	b.ReportAllocs()
	for b.Loop() {
		engineio.BinaryMessage(data)
	}
}

// counted reads a connection and counts the bytes.
func counted(conn net.Conn, n *atomic.Int64) {
	b := make([]byte, 64<<10)
	for {
		k, err := conn.Read(b)
		n.Add(int64(k))
		if err != nil {
			return
		}
	}
}

// openMany opens n websockets whose clients count the bytes that they receive.
func openMany(b *testing.B, c carrier, n int, change ...func(*setup)) (hs []*handler, arrived *atomic.Int64, conns []net.Conn) {
	s := start(b, c, change...)
	arrived = new(atomic.Int64)
	for range n {
		conn, err := s.dial()
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = conn.Close() })
		if _, err := io.WriteString(conn, handshake("EIO=4&transport=websocket")); err != nil {
			b.Fatal(err)
		}
		hs = append(hs, receive(b, s.sessions))
		conns = append(conns, conn)
		go counted(conn, arrived)
	}
	// Waits until the handshakes were received, so that they are not counted.
	for last := int64(-1); arrived.Load() != last; time.Sleep(20 * time.Millisecond) {
		last = arrived.Load()
	}
	return hs, arrived, conns
}

func waitFor(arrived *atomic.Int64, want int64) {
	for arrived.Load() < want {
		time.Sleep(20 * time.Microsecond)
	}
}

// BenchmarkSend sends to one client; each message after the previous one has arrived.
func BenchmarkSend(b *testing.B) {
	for _, c := range []carrier{tcp, hidden} {
		b.Run(c.name, func(b *testing.B) {
			hs, arrived, _ := openMany(b, c, 1)
			m := encode()
			size := int64(len(position) + 1 + 4)
			before := arrived.Load()
			b.ReportAllocs()
			n := int64(0)
			for b.Loop() {
				hs[0].Send(m)
				if n++; n%1000 == 0 {
					waitFor(arrived, before+n*size)
				}
			}
			waitFor(arrived, before+n*size)
		})
	}
}

// BenchmarkSendTo1000 sends one message to a thousand clients.
func BenchmarkSendTo1000(b *testing.B) {
	for _, c := range []carrier{tcp, hidden} {
		b.Run(c.name, func(b *testing.B) {
			hs, arrived, _ := openMany(b, c, 1000)
			size := int64(len(position) + 1 + 4)
			before := arrived.Load()
			b.ReportAllocs()
			n := int64(0)
			for b.Loop() {
				m := encode()
				for _, h := range hs {
					h.Send(m)
				}
				n += int64(len(hs))
				waitFor(arrived, before+n*size)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/delivery")
		})
	}
}

// BenchmarkBurstTo1000 sends fifty messages at once to a thousand clients; they should
// be written together.
func BenchmarkBurstTo1000(b *testing.B) {
	hs, arrived, _ := openMany(b, tcp, 1000)
	size := int64(len(position) + 1 + 4)
	before := arrived.Load()
	b.ReportAllocs()
	n := int64(0)
	for b.Loop() {
		for range 50 {
			m := encode()
			for _, h := range hs {
				h.Send(m)
			}
		}
		n += int64(50 * len(hs))
		waitFor(arrived, before+n*size)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/delivery")
}

// BenchmarkReceive reads one frame after the other from a connection.
func BenchmarkReceive(b *testing.B) {
	for _, c := range []carrier{tcp, hidden} {
		b.Run(c.name, func(b *testing.B) {
			var received atomic.Int64
			_, _, conns := openMany(b, c, 1, func(set *setup) {
				set.message = func(*handler, []byte, bool) error { received.Add(1); return nil }
			})
			frame := frameBytes(0x80|opText, "4"+position)
			b.SetBytes(int64(len(frame)))
			b.ReportAllocs()
			n := int64(0)
			for b.Loop() {
				if _, err := conns[0].Write(frame); err != nil {
					b.Fatal(err)
				}
				if n++; n%1000 == 0 {
					waitFor(&received, n)
				}
			}
			waitFor(&received, n)
		})
	}
}

// BenchmarkEcho measures a message of a client and the answer to it.
func BenchmarkEcho(b *testing.B) {
	for _, c := range []carrier{tcp, hidden} {
		b.Run(c.name, func(b *testing.B) {
			s := start(b, c)
			ws := s.websocket()
			frame := frameBytes(0x80|opText, "4"+strconv.Quote(position))
			b.ReportAllocs()
			for b.Loop() {
				ws.write(frame)
				ws.text()
			}
		})
	}
}

// BenchmarkPing measures a websocket ping and its pong.
func BenchmarkPing(b *testing.B) {
	for _, c := range []carrier{tcp, hidden} {
		b.Run(c.name, func(b *testing.B) {
			s := start(b, c)
			ws := s.websocket()
			frame := frameBytes(0x80|opPing, "")
			b.ReportAllocs()
			for b.Loop() {
				ws.write(frame)
				if _, _, err := ws.frame(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
