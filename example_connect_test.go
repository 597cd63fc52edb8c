// Examples of what a host does when a client connects, and when a user is not connected any more.

package realtime_test

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// zoneOf stands for a host's database.
func zoneOf(context.Context, string) (zone string, ok bool) { return "havana", true }

// OnConnect puts a driver into the room of their zone, and sends what the app needs to begin.
func ExampleNamespace_OnConnect() {
	ctx := context.Background()
	b := start(realtime.Options{})
	defer b.stop()
	rt := b.rt

	rt.Drivers().OnConnect(func(ctx context.Context, s *realtime.Socket) error {
		zone, ok := zoneOf(ctx, s.Identity().UserID)
		if !ok { // the database does not answer
			s.Close() // the client comes back and tries again; an error would send it away for good
			return nil
		}
		s.Join(realtime.NewRoom("zone", zone))
		return Weather.Emit(s, "sun in "+zone) // arrives right after hello
	})

	ana := b.connect()
	fmt.Println(realtimetest.Next(ctx, ana, Weather))
	fmt.Println(rt.Drivers().To(realtime.NewRoom("zone", "havana")).Count(ctx))
	// Output:
	// sun in havana <nil>
	// 1 <nil>
}

// A host subscribes to its bus to learn who is connected.
func ExamplePresenceDisconnected() {
	bus := realtime.NewMemoryBus()
	b := start(realtime.Options{Bus: bus, Timeouts: realtime.Timeouts{PresenceGrace: time.Millisecond}})

	left := make(chan realtime.PresenceDisconnected, 1)
	cancel, err := bus.Subscribe(func(_ context.Context, e realtime.Envelope) error {
		var p realtime.PresenceDisconnected
		if e.Name != p.EventName() {
			return nil
		}
		if err := json.Unmarshal(e.Data, &p); err != nil {
			return err
		}
		left <- p // a host marks the driver offline here
		return nil
	})
	if err != nil {
		fmt.Println(err)
		return
	}

	b.connect().Close()
	p := <-left
	fmt.Println(p.UserID, "has left", p.Namespace)
	cancel()
	b.stop()
	fmt.Println(bus.Close(context.Background()))
	// Output:
	// ana has left /drivers
	// <nil>
}
