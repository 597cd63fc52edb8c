// Event descriptors: Event, Call and Query, which declare an event's name and its Go types
// once. The library's own events are in events_*.go, one file for each family. A host
// declares its own events in the same way. The descriptors are immutable values: package
// variables that all goroutines may use.

package realtime

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/rodando/realtime/internal/jsonscan"
)

// Event describes an event that the server sends without an ack.
type Event[T any] struct{ name string }

// NewEvent declares a server-to-client event. T must marshal to JSON. It panics if the name is
// empty, longer than 256 bytes, not UTF-8, or reserved by Socket.IO: connect, connect_error,
// disconnect, disconnecting, newListener, removeListener.
func NewEvent[T any](name string) Event[T] { return Event[T]{declared("NewEvent", name)} }

// Name returns the event's name on the wire.
func (e Event[T]) Name() string { return e.name }

// Call describes an event that a client sends and the server acknowledges.
type Call[In, Out any] struct {
	name string
	doc  *CallDoc[In, Out]
}

// NewCall declares a client-to-server event. The server decodes In from the first argument and
// then calls its method Validate() error, if it has one. The client gets an *Error that Validate
// returns, such as Errorf(CodeInvalidPayload, "amount must be positive"); for any other error it
// gets CodeInvalidPayload without the error's text, which is not logged either. Out is the ack's
// data. NewCall panics for the names for which NewEvent panics.
func NewCall[In, Out any](name string) Call[In, Out] {
	return Call[In, Out]{name: declared("NewCall", name)}
}

// Name returns the event's name on the wire.
func (c Call[In, Out]) Name() string { return c.name }

// CallDoc documents a Call.
type CallDoc[In, Out any] struct {
	// Does is a sentence that says what the call does.
	Does string
	// Codes lists the codes with which this call may fail. Do not list CodeInvalidPayload,
	// CodeRateLimited, CodeUnavailable and CodeInternal, which every call has.
	Codes []Code
	// In and Out are examples of the body and of the ack's data.
	In  In
	Out Out
}

// Documented returns a copy of the call with its documentation, for Server.Catalog.
func (c Call[In, Out]) Documented(d CallDoc[In, Out]) Call[In, Out] {
	c.doc = &d
	return c
}

// Query describes an event that the server sends and the client acknowledges.
type Query[In, Out any] struct{ name string }

// NewQuery declares a server-to-client event with an ack. In is the payload, Out the ack's
// first argument. It panics for the names for which NewEvent panics.
func NewQuery[In, Out any](name string) Query[In, Out] {
	return Query[In, Out]{declared("NewQuery", name)}
}

// Name returns the event's name on the wire.
func (q Query[In, Out]) Name() string { return q.name }

// declared returns the name of an event. It panics if the name is invalid, because
// declarations are package variables and cannot return an error.
func declared(by, name string) string {
	if err := checkEventName(name); err != nil {
		panic("realtime: " + by + ": " + err.Error())
	}
	return name
}

// None is the In or Out of a Call or Query without a payload or without data.
type None struct{}

// Raw is a list of event arguments in wire format: JSON texts, in which
// {"_placeholder":true,"num":i} stands for Attachments[i].
type Raw struct {
	Args        []json.RawMessage
	Attachments [][]byte
}

// check returns an error if clients could not decode the arguments: they would disconnect.
func (r Raw) check() error {
	for i, arg := range r.Args {
		if err := jsonscan.Valid(arg, jsonscan.MaxDepth); err != nil {
			return fmt.Errorf("argument %d: %w", i, err)
		}
		if len(r.Attachments) == 0 {
			continue // {"_placeholder":true} is an ordinary object
		}
		if _, err := jsonscan.Placeholders(arg, len(r.Attachments)); err != nil {
			return fmt.Errorf("argument %d: %w", i, err)
		}
	}
	return nil
}

// Time is a time that clients receive in ISO 8601, UTC, with milliseconds.
type Time struct{ time.Time }

const timeLayout = "2006-01-02T15:04:05.000Z"

// MarshalJSON implements json.Marshaler; the zero Time is null.
func (t Time) MarshalJSON() ([]byte, error) {
	if t.IsZero() {
		return []byte("null"), nil
	}
	b := make([]byte, 0, 32) // AppendFormat writes nine digits of a second before it cuts them to three
	b = append(b, '"')
	b = t.UTC().AppendFormat(b, timeLayout)
	return append(b, '"'), nil
}

// handleBuiltins registers the handlers of the library's own calls, except auth:refresh.
func (rt *Server) handleBuiltins() {
	drivers, admin := rt.Drivers(), rt.Admin()
	DriverStatusUpdate.handle(drivers, rt.updateStatus)
	DriverLocationPing.handle(drivers, rt.updateLocation)
	drivers.route(DriverLocationPing.name).newest = true
	DriverTripSet.handle(drivers, rt.setTrip)
	DriverOfferAccept.Handle(drivers, rt.acceptOffer)
	DriverOfferReject.Handle(drivers, rt.rejectOffer)
	AdminTripJoin.Handle(admin, rt.joinTrip)
	AdminTripLeave.Handle(admin, rt.leaveTrip)
	AdminDriversJoin.Handle(admin, rt.joinDrivers)
	AdminDriversLeave.Handle(admin, rt.leaveDrivers)
}
