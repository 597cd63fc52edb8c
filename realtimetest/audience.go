// The exact audience of an event.

package realtimetest

import "testing"

// Audience maps clients by name to the events that they received. A client that
// received nothing is not in it.
type Audience map[string][]Received

// AudienceOf calls do, which for instance publishes an event, and returns the events
// that each client received because of it. Expect can still take them. To prove that
// nobody else receives an event, pass clients that must not receive it too.
//
// It waits as ExpectNone does, and fails the test when it cannot.
func AudienceOf(t testing.TB, clients map[string]*Client, do func()) Audience {
	t.Helper()
	before := map[string]int{}
	for name, c := range clients {
		if err := c.quiet(t.Context()); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		before[name] = len(c.Received())
	}
	do()
	got := Audience{}
	for name, c := range clients {
		if err := c.quiet(t.Context()); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if received := c.Received()[before[name]:]; len(received) > 0 {
			got[name] = received
		}
	}
	return got
}

// Events returns the names of the events that each client received, in order.
func (a Audience) Events() map[string][]string {
	events := map[string][]string{}
	for name, received := range a {
		for _, r := range received {
			events[name] = append(events[name], r.Event)
		}
	}
	return events
}
