// The registry: the domain events that a server knows. Each has a DomainEventType, which
// says how the event is decoded, checked and documented.

package realtime

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/rodando/realtime/internal/hostcall"
)

// HostEvent is a domain event of the host's own: a struct, which the bus carries as JSON.
// EventName returns the same for every value. If the struct or its pointer has a method
// Validate() error, the server calls it before it publishes the event and after it has
// decoded an event from the bus.
//
// Events with the same EventKey are sent in the order in which they were published. If the
// key is a trip's id, the order includes the trip's own events.
type HostEvent interface {
	DomainEvent
	// Deliveries returns what each audience receives. It must be a pure function: no I/O,
	// and the same result for the same event. It is called concurrently.
	Deliveries(m EventMeta) []Delivery
}

// EventMeta is embedded in every payload of a host's domain event. It is the same each time
// that a bus delivers the event, so a client can drop repeats.
type EventMeta struct {
	EventID string `json:"eventId" doc:"a UUID, the same in every repeat of the event"`
	At      Time   `json:"at" doc:"when it was published"`
}

// DomainEventType describes a type of domain event to the server. NewDomainEvent returns
// one, for Options.Events.
type DomainEventType struct {
	name     string
	hosts    bool      // it is the host's own: its methods are the host's code
	doc      string    // a sentence that says what happened
	examples []builtin // together they have every audience that the event may have

	goTypes     [2]reflect.Type // the struct, and the pointer to it
	builtinType reflect.Type    // the type of what value and decode return
	// value returns a published event as a builtin. It returns an error for a nil pointer.
	value func(e DomainEvent) (builtin, error)
	// decode returns the event in the data. If only part of the data can be decoded, it
	// returns the event and an error.
	decode func(data []byte) (builtin, error)
	err    error // a mistake in the declaration, which New reports
}

// NewDomainEvent declares a domain event of the host's own, for Options.Events. doc is a
// sentence that says what happened. The documentation of the server's events contains doc
// and the examples. Pass one example for each audience that the event may have: New calls
// their Deliveries. New returns an error if doc is empty, or an example is missing or invalid.
func NewDomainEvent[E HostEvent](doc string, examples ...E) DomainEventType {
	t := newDomainType(doc, func(e E) builtin { return hosted[E]{e} }, examples)
	t.hosts = true
	switch {
	case t.err != nil:
	case strings.TrimSpace(doc) == "":
		t.err = fmt.Errorf("realtime: domain event %q: NewDomainEvent needs a sentence that says what happened", t.name)
	case len(examples) == 0:
		t.err = fmt.Errorf("realtime: domain event %q: NewDomainEvent needs an example", t.name)
	}
	return t
}

// domainType declares one of the library's own events.
func domainType[E builtin](doc string, examples ...E) DomainEventType {
	return newDomainType(doc, func(e E) builtin { return e }, examples)
}

// newDomainType declares an event. toBuiltin returns the event as a builtin.
func newDomainType[E DomainEvent](doc string, toBuiltin func(E) builtin, examples []E) DomainEventType {
	t := DomainEventType{doc: doc, goTypes: [2]reflect.Type{reflect.TypeFor[E](), reflect.TypeFor[*E]()}}
	if t.goTypes[0].Kind() != reflect.Struct {
		t.err = fmt.Errorf("realtime: NewDomainEvent[%s]: the type must be a struct, not a pointer or an interface", t.goTypes[0])
		return t
	}
	var zero E
	if err := hostcall.Guard(func() error { t.name = zero.EventName(); return nil }, func(error) {}); err != nil {
		t.err = fmt.Errorf("realtime: NewDomainEvent[%s]: EventName of the zero value: %w", t.goTypes[0], err)
		return t
	}
	t.builtinType = reflect.TypeOf(toBuiltin(zero))
	t.value = func(e DomainEvent) (builtin, error) {
		switch e := any(e).(type) {
		case E:
			return toBuiltin(e), nil
		case *E:
			if e != nil {
				return toBuiltin(*e), nil
			}
		}
		return nil, fmt.Errorf("%s: %w: nil pointer", t.name, errInvalidEvent)
	}
	t.decode = func(data []byte) (builtin, error) {
		var e E
		err := json.Unmarshal(data, &e)
		if err == nil {
			return toBuiltin(e), nil
		}
		err = fmt.Errorf("%s: %w", t.name, err)
		if _, ok := errors.AsType[*json.SyntaxError](err); ok {
			return nil, err
		}
		return toBuiltin(e), err
	}
	for _, e := range examples {
		t.examples = append(t.examples, toBuiltin(e))
	}
	return t
}

// hosted makes an event of the host's own a builtin. Its methods call the host's code,
// which may panic.
type hosted[E HostEvent] struct{ e E }

// MarshalJSON implements json.Marshaler.
func (h hosted[E]) MarshalJSON() ([]byte, error) { return json.Marshal(h.e) }

// EventName implements DomainEvent.
func (h hosted[E]) EventName() string { return h.e.EventName() }

// EventKey implements DomainEvent.
func (h hosted[E]) EventKey() string { return h.e.EventKey() }

func (hosted[E]) about() subject { return subject{hosts: true} }

func (h hosted[E]) check() error {
	var zero E // its name is the one that is registered
	err := hostcall.Guard(func() error {
		if name := h.e.EventName(); name != zero.EventName() {
			return fmt.Errorf("EventName returns %q for this value and %q for the zero value", name, zero.EventName())
		}
		if v, ok := any(&h.e).(interface{ Validate() error }); ok { // a pointer also has the methods of the value
			return v.Validate()
		}
		return nil
	}, func(error) {})
	if err != nil {
		err = fmt.Errorf("%s: %w: %w", zero.EventName(), errInvalidEvent, err)
	}
	return err
}

func (h hosted[E]) deliver(f facts) []Delivery {
	return h.e.Deliveries(EventMeta{f.eventID, Time{f.at}})
}

// deliveriesOf returns the deliveries of an event. It returns a panic of the host's code as
// an error.
func deliveriesOf(e builtin, f facts) (ds []Delivery, err error) {
	err = hostcall.Guard(func() error {
		ds = e.deliver(f)
		return nil
	}, func(error) {})
	return ds, err
}

// read returns the event in an envelope and checks it. With an error it returns the event
// if part of it could be decoded, otherwise nil.
func (t *DomainEventType) read(env Envelope) (builtin, error) {
	if env.event != nil && reflect.TypeOf(env.event) == t.builtinType {
		return env.event, nil // Publish has checked it
	}
	env, err := env.encoded()
	if err != nil {
		return nil, err
	}
	e, err := t.decode(env.Data)
	if err == nil {
		err = checkDomain(e)
	}
	return e, err
}

// registry holds the types of domain events that a server knows. It does not change, so it
// needs no lock.
type registry struct {
	all    []DomainEventType
	byName map[string]*DomainEventType
	byType map[reflect.Type]*DomainEventType // by the struct's type and the pointer's
}

// newRegistry returns a registry of the library's events and the host's. checkEvents must
// have found no mistake in the host's.
func newRegistry(hosts []DomainEventType) *registry {
	r := &registry{all: slices.Concat(builtins, hosts), byName: map[string]*DomainEventType{}, byType: map[reflect.Type]*DomainEventType{}}
	for i := range r.all {
		t := &r.all[i]
		r.byName[t.name] = t
		r.byType[t.goTypes[0]], r.byType[t.goTypes[1]] = t, t
	}
	return r
}

// valueOf returns an event that is to be published as a builtin. It returns an error if the
// event is nil or its type is not registered.
func (r *registry) valueOf(e DomainEvent) (builtin, error) {
	if e == nil {
		return nil, errNilEvent
	}
	t := r.byType[reflect.TypeOf(e)]
	if t == nil {
		return nil, fmt.Errorf("realtime: the server does not know the domain event %T; declare it with NewDomainEvent and list it in Options.Events", e)
	}
	return t.value(e)
}

// checkEvents returns the mistakes in the events of Options.Events. namespaces has the names
// of all namespaces that New creates.
func checkEvents(hosts []DomainEventType, namespaces map[string]bool) (errs []error) {
	known, library := map[string]bool{}, map[string]bool{}
	for _, t := range builtins {
		library[t.name] = true
	}
	for i, t := range hosts {
		switch {
		case t.err != nil:
			errs = append(errs, t.err)
			continue
		case t.value == nil:
			errs = append(errs, fmt.Errorf("realtime: Options.Events[%d] is the zero value; use NewDomainEvent", i))
			continue
		case t.name == "":
			errs = append(errs, fmt.Errorf("realtime: Options.Events[%d]: EventName returns an empty name", i))
		case library[t.name]:
			errs = append(errs, fmt.Errorf("realtime: domain event %q: the library has an event of that name; choose another", t.name))
		case known[t.name]:
			errs = append(errs, fmt.Errorf("realtime: domain event %q is in Options.Events twice", t.name))
		}
		known[t.name] = true
		for _, e := range t.examples {
			for _, err := range checkExample(e, namespaces) {
				errs = append(errs, errorf("domain event %q: %w", t.name, err))
			}
		}
	}
	return errs
}

// checkExample returns the mistakes in an example and its deliveries.
func checkExample(e builtin, namespaces map[string]bool) (errs []error) {
	if err := e.check(); err != nil {
		return []error{fmt.Errorf("the example is not valid: %w", err)}
	}
	ds, err := deliveriesOf(e, factsOf(e.about(), exampleEventID, exampleTime, TripParties{}, false))
	if err != nil {
		return []error{err}
	}
	for _, d := range ds {
		if d.event == "" {
			errs = append(errs, errors.New("the event of a delivery has no name; declare it with NewEvent"))
		}
		if len(d.Audiences()) == 0 {
			errs = append(errs, fmt.Errorf("the delivery of %s has no audience", d.event))
		}
		for _, a := range d.Audiences() {
			if a.namespace != "" && !namespaces[a.namespace] {
				errs = append(errs, fmt.Errorf("the delivery of %s is for the namespace %q, which does not exist; list it in Options.Namespaces", d.event, a.namespace))
			}
		}
		var meta struct {
			EventID string `json:"eventId"`
		}
		payload, err := json.Marshal(d.payload)
		if err != nil {
			errs = append(errs, fmt.Errorf("the payload of %s: %w", d.event, err))
		} else if json.Unmarshal(payload, &meta) != nil || meta.EventID != exampleEventID {
			errs = append(errs, fmt.Errorf("the payload of %s lacks its eventId; embed EventMeta and set it", d.event))
		}
	}
	return errs
}

// builtins lists the types of the library's own domain events. The list of each family is
// in its file, events_*.go.
var builtins = slices.Concat(tripEvents, offerEvents, receiptEvents, rideEvents, tripAdminEvents, driverEvents, positionEvents, sessionEvents, presenceEvents)
