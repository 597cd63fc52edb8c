// Package comeback has what clients of the stress programs do to get their socket back, as stock
// clients of Socket.IO 4.6 and later do, and how often that succeeds.
package comeback

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/cmd/internal/stresskit"
	"github.com/rodando/realtime/realtimetest"
)

// Claim is what a client that has lost its connection claims, and what it had received then.
type Claim struct {
	ID, PID, Offset string
	Received        []realtimetest.Received
}

// Of returns the claim of a client, whose connection may still receive: its offset is that of the newest
// event of Received that has one. ok is false if the server has given it no pid.
func Of(c *realtimetest.Client) (k Claim, ok bool) {
	for {
		k = Claim{ID: c.ID(), PID: c.PID(), Offset: c.Offset()}
		k.Received = c.Received()
		if c.Offset() == k.Offset && len(c.Received()) == len(k.Received) {
			return k, k.PID != "" && k.Offset != ""
		}
	}
}

// Auth is the CONNECT payload of a client that comes back with a token.
func (k Claim) Auth(token string) map[string]string {
	return map[string]string{"token": token, "pid": k.PID, "offset": k.Offset}
}

// KnowsOffsets makes a client look like one that stores offsets, also if it begins with polling.
func KnowsOffsets() realtimetest.Option { return realtimetest.Query("t=mf3k9x1a") }

// Payload returns the one argument of an event: with recovery an offset, a string, may be behind it. ok
// is false if there are more or none.
func Payload(args []json.RawMessage, recovery bool) (payload json.RawMessage, ok bool) {
	if n := len(args); recovery && n == 2 && len(args[1]) > 0 && args[1][0] == '"' {
		args = args[:1]
	}
	if len(args) != 1 {
		return nil, false
	}
	return args[0], true
}

// Greeting returns the payload of a client's hello, and the number of events before it. ok is false if
// there is none that can be read.
func Greeting(received []realtimetest.Received) (hello realtime.HelloPayload, before int, ok bool) {
	for i, r := range received {
		if r.Event == realtime.EventHello.Name() && len(r.Args) > 0 {
			return hello, i, json.Unmarshal(r.Args[0], &hello) == nil
		}
	}
	return hello, 0, false
}

// Recovered reports whether a hello says that the client has its former socket.
func Recovered(hello realtime.HelloPayload) bool { return hello.Recovered != nil && *hello.Recovered }

// Kind is where a client comes back to.
type Kind string

// The kinds.
const (
	SameNode    Kind = "to the same node"
	Unnoticed   Kind = "to the same node, which had not noticed the loss"
	AnotherNode Kind = "to another node, its own still running"
	AfterKill   Kind = "after its node was killed"
	AfterLeave  Kind = "after its node shut down"
)

// Count counts a client that came back.
func Count(c *stresskit.Counts, k Kind, hello realtime.HelloPayload) {
	c.Add("came back "+string(k), 1)
	if Recovered(hello) && hello.Missed != nil {
		c.Add("came back "+string(k)+": recovered", 1)
		c.Add("events that were missed and recovered", *hello.Missed)
	}
}

// Print writes which share of those who came back has recovered.
func Print(out io.Writer, c *stresskit.Counts) {
	for _, k := range []Kind{SameNode, Unnoticed, AnotherNode, AfterKill, AfterLeave} {
		if all := c.Of("came back " + string(k)); all > 0 {
			n := c.Of("came back " + string(k) + ": recovered")
			fmt.Fprintf(out, "recovery %s: %d of %d, %d %%\n", k, n, all, 100*n/all)
		}
	}
}
