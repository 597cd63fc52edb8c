// The registry: which domain events a server knows, how each is read from the bus,
// and what its documentation says.

package realtime

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// DomainEventType is a kind of domain event, as a server knows it.
type DomainEventType struct {
	name     string
	doc      string    // a sentence that says what happened
	examples []builtin // together they reach every audience that the event may have
	// decode returns an event with an error when part of the data can be read.
	decode func(data []byte) (DomainEvent, error)
}

// domainType registers an event of the library's own.
func domainType[E builtin](doc string, examples ...E) DomainEventType {
	var zero E
	t := DomainEventType{name: zero.EventName(), doc: doc, decode: func(data []byte) (DomainEvent, error) {
		var e E
		err := json.Unmarshal(data, &e)
		if err == nil {
			return e, nil
		}
		err = fmt.Errorf("%s: %w", e.EventName(), err)
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return nil, err
		}
		return e, err
	}}
	for _, e := range examples {
		t.examples = append(t.examples, e)
	}
	return t
}

// builtins lists every domain event of the library once. Each family stands at the
// top of its file.
var builtins = slices.Concat(tripEvents, offerEvents, tripAdminEvents, driverEvents, sessionEvents, presenceEvents)

var builtinsByName = func() map[string]DomainEventType {
	m := make(map[string]DomainEventType, len(builtins))
	for _, t := range builtins {
		m[t.name] = t
	}
	return m
}()

// decodeDomain reads the data of an envelope into the struct of that name, as
// a value. An unknown name is a host's own event: nil, nil. Unknown fields are
// ignored; wrong types are errors, with what could be read: a session whose
// revocation has a bad date is still revoked. Required fields are checkDomain's
// business.
func decodeDomain(name string, data []byte) (DomainEvent, error) {
	t, ok := builtinsByName[name]
	if !ok {
		return nil, nil
	}
	return t.decode(data)
}
