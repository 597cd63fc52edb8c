package realtime_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rodando/realtime"
)

// Recall asks the drivers of a vehicle to bring it in. Its receipts say whether it has arrived.
var Recall = realtime.NewTracked[string]("vehicle:recall")

// An event with receipts: whoever has not received it gets a call.
func ExampleTracked_Send() {
	b := start(realtime.Options{})
	defer b.stop()
	defer b.connect().Close() // the app's code, which needs none for this
	rt := b.rt

	receipts, err := Recall.Send(rt.Drivers().To(realtime.DriverRoom("ana")), "bring the car in")
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	r, err := receipts.Wait(ctx)
	switch {
	case errors.Is(err, realtime.ErrNotReceived):
		fmt.Println("nobody has received it: call them")
	case err == nil:
		fmt.Println(r.UserID, "has received it, by", r.By)
	}
	// Output: ana has received it, by heartbeat
}
