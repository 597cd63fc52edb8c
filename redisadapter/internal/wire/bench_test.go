// Benchmarks of a broadcast: for the sender, a node with the room, and one without.

package wire_test

import (
	"testing"

	"github.com/rodando/realtime/redisadapter/internal/wire"
)

var position = wire.Message{
	Kind: wire.Broadcast, UID: "realtime-0123456789abcdef", Namespace: "/admin", Rooms: []string{"admin:drivers"}, Latest: "driver:location:update 42",
	Args: args(`"driver:location:update"`, `{"driverId":"5f0c9be1-8f0a-4b0e-9d5a-0b6f6a6f0d11","lat":23.13333333333333,"lng":-82.38333,"heading":271,"speed":12.5,"accuracyMeters":5,"at":"2026-11-26T12:00:00.000Z","tripId":null}`),
}

func BenchmarkAppend(b *testing.B) {
	for name, encode := range map[string]func([]byte, *wire.Message) ([]byte, error){"classic": classic.Append, "sharded": sharded.Append} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := encode(nil, &position); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	packed, err := classic.Append(nil, &position)
	if err != nil {
		b.Fatal(err)
	}
	text, err := sharded.Append(nil, &position)
	if err != nil {
		b.Fatal(err)
	}
	for name, f := range map[string]func() (*wire.Message, error){
		"classic": func() (*wire.Message, error) { return classic.Broadcast(string(packed)) },
		"sharded": func() (*wire.Message, error) { return sharded.Message(string(text)) },
	} {
		for _, open := range []bool{true, false} {
			suffix := ", for a room of several that is here"
			if !open {
				suffix = ", for rooms that are not"
			}
			b.Run(name+suffix, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					m, err := f()
					if err == nil && open {
						err = m.Open(limits)
					}
					if err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkSender(b *testing.B) {
	packed, err := classic.Append(nil, &position)
	if err != nil {
		b.Fatal(err)
	}
	msg := string(packed)
	b.ReportAllocs()
	for b.Loop() {
		if classic.Sender(msg) != position.UID {
			b.Fatal("another sender")
		}
	}
}
