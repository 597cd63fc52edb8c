// Benchmarks of the codec on the most frequent packet, the location of a driver, and on
// malicious input.

package socketio

import (
	"strings"
	"testing"
)

const benchPacket = `2/drivers,12["driver:location:ping",{"lat":23.1136,"lng":-82.3666,"heading":90,"speed":8.3}]`

func BenchmarkPacketParse(b *testing.B) {
	for _, bm := range []struct{ name, in string }{
		{"event", benchPacket},
		{"ack", `3/drivers,12[{"ok":true}]`},
		{"connect", `0/drivers,{"token":"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc"}`},
		{"binary", `51-/drivers,12["photo",{"_placeholder":true,"num":0},{"type":"image/png"}]`},
		{"refused-digits", "2" + strings.Repeat("1", 1<<20)},
		{"refused-depth", "2" + strings.Repeat("[", 1<<20)},
	} {
		b.Run(bm.name, func(b *testing.B) {
			b.ReportAllocs()
			in := []byte(bm.in)
			var p Packet
			for b.Loop() {
				_ = p.Parse(in, testLimits)
			}
		})
	}
}

func BenchmarkAppendEvent(b *testing.B) {
	b.ReportAllocs()
	arg := []byte(`{"lat":23.1136,"lng":-82.3666,"heading":90,"speed":8.3}`)
	var dst []byte
	for b.Loop() {
		dst = eventPacket(dst[:0], "/drivers", NoID, 0, "driver:location:update", arg)
	}
}

func BenchmarkAppendAck(b *testing.B) {
	b.ReportAllocs()
	arg := []byte(`{"ok":true}`)
	var dst []byte
	for b.Loop() {
		dst = AppendAck(dst[:0], "/drivers", 12, 0, arg)
	}
}
