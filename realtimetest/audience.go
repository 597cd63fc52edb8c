// Who receives an event, exactly.

package realtimetest

import "testing"

// Audience is what each of several clients has received. Those who have received
// nothing are not in it.
type Audience map[string][]Received

// AudienceOf does something, such as publishing an event, and returns what each of
// the clients received of it. It takes nothing from Expect. That nobody else received
// anything is proven by clients of everybody who could: give it more than the event is
// for.
//
// It waits as ExpectNone does.
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
