// The registry: the domain events that a server knows, and how each is published, read from
// the bus and documented.

package realtime

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/rodando/realtime/internal/hostcall"
)

// HostEvent is a domain event of the host's own: a struct that travels on the bus as
// JSON. When it has a method Validate() error, that is called before it is published
// and after it was read from the bus.
//
// Events of one EventKey are sent in the order in which they were published, those of
// a trip included when the key is its id.
type HostEvent interface {
	DomainEvent
	// Deliveries returns which audience receives which event. It must be a pure function:
	// no I/O, and the same result for the same event. It is called concurrently.
	Deliveries(m EventMeta) []Delivery
}

// EventMeta is what the payload of a host's domain event embeds. It is the same each
// time that a bus delivers an event, so that a client can drop repeats.
type EventMeta struct {
	EventID string `json:"eventId" doc:"a UUID, the same in every repeat of the event"`
	At      Time   `json:"at" doc:"when it was published"`
}

// DomainEventType is a kind of domain event, as a server knows it. NewDomainEvent
// makes one, for Options.Events.
type DomainEventType struct {
	name     string
	hosts    bool      // it is the host's own: its methods may do anything
	doc      string    // a sentence that says what happened
	examples []builtin // together they reach every audience that the event may have

	goTypes [2]reflect.Type // the struct, and the pointer to it
	known   reflect.Type    // what value and decode return
	// value returns a published event, or what it points to. It fails for a nil
	// pointer.
	value func(e DomainEvent) (builtin, error)
	// decode returns an event with an error when part of the data can be read.
	decode func(data []byte) (builtin, error)
	err    error // what is wrong with it
}

// NewDomainEvent declares a domain event of the host's own, for Options.Events. The
// documentation of the server's events contains doc, a sentence that says what happened,
// and the examples. Pass one example for each audience that the event may have: New calls
// their Deliveries and returns an error if one is invalid.
func NewDomainEvent[E HostEvent](doc string, examples ...E) DomainEventType {
	t := newDomainType(doc, func(e E) builtin { return hosted[E]{e} }, examples)
	t.hosts = true
	if t.err == nil && len(examples) == 0 {
		t.err = fmt.Errorf("realtime: domain event %q: NewDomainEvent needs an example", t.name)
	}
	return t
}

// domainType declares an event of the library's own.
func domainType[E builtin](doc string, examples ...E) DomainEventType {
	return newDomainType(doc, func(e E) builtin { return e }, examples)
}

func newDomainType[E DomainEvent](doc string, known func(E) builtin, examples []E) DomainEventType {
	t := DomainEventType{doc: doc, goTypes: [2]reflect.Type{reflect.TypeFor[E](), reflect.TypeFor[*E]()}}
	if t.goTypes[0].Kind() != reflect.Struct {
		t.err = fmt.Errorf("realtime: NewDomainEvent[%s]: it is for a struct, and neither for a pointer nor for an interface", t.goTypes[0])
		return t
	}
	var zero E
	t.name, t.known = zero.EventName(), reflect.TypeOf(known(zero))
	t.value = func(e DomainEvent) (builtin, error) {
		switch e := any(e).(type) {
		case E:
			return known(e), nil
		case *E:
			if e != nil {
				return known(*e), nil
			}
		}
		return nil, fmt.Errorf("%s: %w: nil pointer", t.name, errInvalidEvent)
	}
	t.decode = func(data []byte) (builtin, error) {
		var e E
		err := json.Unmarshal(data, &e)
		if err == nil {
			return known(e), nil
		}
		err = fmt.Errorf("%s: %w", t.name, err)
		if _, ok := errors.AsType[*json.SyntaxError](err); ok {
			return nil, err
		}
		return known(e), err
	}
	for _, e := range examples {
		t.examples = append(t.examples, known(e))
	}
	return t
}

// hosted wraps an event of the host's own as a builtin. The host's methods may panic.
type hosted[E HostEvent] struct{ e E }

// MarshalJSON implements json.Marshaler.
func (h hosted[E]) MarshalJSON() ([]byte, error) { return json.Marshal(h.e) }

// EventName implements DomainEvent.
func (h hosted[E]) EventName() string { return h.e.EventName() }

// EventKey implements DomainEvent.
func (h hosted[E]) EventKey() string { return h.e.EventKey() }

func (hosted[E]) about() subject { return subject{hosts: true} }

func (h hosted[E]) check() (err error) {
	v, ok := any(h.e).(interface{ Validate() error })
	if !ok {
		return nil
	}
	err = hostcall.Guard(v.Validate, func(error) {})
	if err != nil {
		err = fmt.Errorf("%s: %w: %w", h.e.EventName(), errInvalidEvent, err)
	}
	return err
}

func (h hosted[E]) deliver(f facts) []Delivery {
	return h.e.Deliveries(EventMeta{f.eventID, Time{f.at}})
}

// deliveriesOf maps an event to its deliveries. A panic of the host's code is an
// error.
func deliveriesOf(e builtin, f facts) (ds []Delivery, err error) {
	err = hostcall.Guard(func() error {
		ds = e.deliver(f)
		return nil
	}, func(error) {})
	return ds, err
}

// read returns the event in an envelope, checked. With an error it returns what could
// be read, nil when nothing could.
func (t *DomainEventType) read(env Envelope) (builtin, error) {
	if env.event != nil && reflect.TypeOf(env.event) == t.known {
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

// registry is the events that a server knows.
type registry struct {
	all    []DomainEventType
	byName map[string]*DomainEventType
	byType map[reflect.Type]*DomainEventType
}

// newRegistry returns the library's events and the host's, which must be valid.
func newRegistry(hosts []DomainEventType) *registry {
	r := &registry{all: slices.Concat(builtins, hosts), byName: map[string]*DomainEventType{}, byType: map[reflect.Type]*DomainEventType{}}
	for i := range r.all {
		t := &r.all[i]
		r.byName[t.name] = t
		r.byType[t.goTypes[0]], r.byType[t.goTypes[1]] = t, t
	}
	return r
}

// of returns the type of an event that is about to be published, and its value.
func (r *registry) of(e DomainEvent) (builtin, error) {
	if e == nil {
		return nil, errors.New("realtime: nil is no domain event")
	}
	t := r.byType[reflect.TypeOf(e)]
	if t == nil {
		return nil, fmt.Errorf("realtime: %T is no domain event that the server knows; declare it with NewDomainEvent and list it in Options.Events", e)
	}
	return t.value(e)
}

// checkEvents says what is wrong with the events that a host declares. namespaces are
// those that New makes.
func checkEvents(hosts []DomainEventType, namespaces map[string]bool) (errs []error) {
	known := map[string]bool{}
	for _, t := range builtins {
		known[t.name] = true
	}
	for i, t := range hosts {
		switch {
		case t.err != nil:
			errs = append(errs, t.err)
			continue
		case t.value == nil:
			errs = append(errs, fmt.Errorf("realtime: Options.Events[%d] is zero; NewDomainEvent makes one", i))
			continue
		case t.name == "" || known[t.name]:
			errs = append(errs, fmt.Errorf("realtime: domain event %q: the name is empty or another event's", t.name))
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
			errs = append(errs, errors.New("a delivery is of an event without a name; NewEvent declares one"))
		}
		if len(d.Audiences()) == 0 {
			errs = append(errs, fmt.Errorf("%s is for nobody", d.event))
		}
		for _, a := range d.Audiences() {
			if a.namespace != "" && !namespaces[a.namespace] {
				errs = append(errs, fmt.Errorf("%s is for the namespace %q, which does not exist; list it in Options.Namespaces", d.event, a.namespace))
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

// builtins lists every domain event of the library once. Each family stands at the
// top of its file.
var builtins = slices.Concat(tripEvents, offerEvents, rideEvents, tripAdminEvents, driverEvents, positionEvents, sessionEvents, presenceEvents)
