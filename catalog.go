// The catalog: a description of a server's events, of refusals, and of how connections end.
// Package realtimegen generates documentation and typed clients from it. It only reads what was registered.

package realtime

//go:generate go run ./internal/cmd/generate docs/events.md docs/asyncapi.yaml clients/typescript/events.ts clients/dart/events.dart clients/kotlin/Events.kt clients/swift/Events.swift

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Catalog describes the events, refusals and endings of the connections between a server and
// its clients.
type Catalog struct {
	Namespaces []string   // the built-in ones, then the host's own
	Events     []EventDoc // by namespace; in each, the events that clients send come first
	// DomainEvents has the names of all domain events that the server knows, also of those for which it
	// sends nothing: the library's, then the host's own.
	DomainEvents []string
	Refusals     []RefusalDoc
	Endings      []EndingDoc
}

// EventDoc describes an event in one namespace.
//
// Struct tags document the fields of Payload and AckData: doc:"..." has the meaning and the
// unit, null:"..." says what null means. A nil pointer, slice or map is null, unless the
// field has omitempty; null:"-" says that it never is. A string type with a method Values() []string
// has only these values.
type EventDoc struct {
	Namespace  string
	Event      string
	FromClient bool   // a client sends it, and the server acknowledges it
	Doc        string // a sentence that says what it means or does

	// DomainEvents lists the names of the domain events for which the server sends it. It is
	// empty for events of the connection itself.
	DomainEvents []string
	// Audience says in words who receives it.
	Audience string
	// NewestOnly says that a slow receiver gets only the newest one.
	NewestOnly bool

	Payload reflect.Type    // nil: none
	Example json.RawMessage // of the payload

	// Query says that the server asks, and a client answers with its ack: DescribeQuery.
	Query      bool
	AckData    reflect.Type // of an event that a client sends: the data of its ack; of a query: the argument of the client's ack; nil: none
	AckExample json.RawMessage
	Codes      []Code // of a failed ack
	// IdempotencyKey says that the event, which a client sends, may have the field idempotencyKey.
	IdempotencyKey bool
	Untyped        bool // the arguments and the ack of an event that a client sends have no type: Namespace.HandleRaw
}

// RefusalDoc describes a code of a refused CONNECT.
type RefusalDoc struct {
	Code    Code
	Message string
	Means   string
	Do      string // what a client does
}

// EndingDoc describes how a connection ends.
type EndingDoc struct {
	Cause string
	First string // what the server sends before it
	Then  string // what happens to the connection
	Do    string // what a client does
}

// DescribeEvent returns the description of an event that the host emits itself, without a
// domain event. The host adds it to Catalog.Events.
func DescribeEvent[T any](e Event[T], namespace, audience, doc string, example T) EventDoc {
	return EventDoc{
		Namespace: namespace, Event: e.name, Doc: doc, Audience: audience,
		Payload: payloadType(reflect.TypeFor[T]()), Example: exampleJSON(example),
	}
}

// DescribeQuery returns the description of a query, with an example of its payload and of the answer. The
// host adds it to Catalog.Events: a server does not know a query before it asks it. The ack's
// argument is an Out; an In that is None is an empty object.
func DescribeQuery[In, Out any](q Query[In, Out], namespace, audience, doc string, in In, out Out) EventDoc {
	d := EventDoc{
		Namespace: namespace, Event: q.name, Doc: doc, Audience: audience, Query: true,
		Payload: reflect.TypeFor[In](), Example: exampleJSON(in),
		AckData: payloadType(reflect.TypeFor[Out]()), AckExample: exampleJSON(out),
	}
	if d.Example == nil && payloadType(d.Payload) == nil {
		d.Example = json.RawMessage("{}")
	}
	return d
}

// Catalog returns a description of the server's events: those of the library, those of the
// host's domain events, and every call that has a handler now. Events and queries that the host emits
// by itself are not among them: DescribeEvent, DescribeQuery. It calls Deliveries of the
// examples in Options.Events. It may be called concurrently.
func (rt *Server) Catalog() Catalog {
	c := Catalog{Refusals: slices.Clone(refusalDocs), Endings: slices.Clone(endingDocs)}
	byName := map[string]*Namespace{}
	rt.each(func(ns *Namespace) { byName[ns.name] = ns })
	for _, b := range builtinNamespaces {
		c.Namespaces = append(c.Namespaces, b.name)
	}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		if builtinByName(name) == nil {
			c.Namespaces = append(c.Namespaces, name)
		}
	}
	for _, t := range rt.events.all {
		c.DomainEvents = append(c.DomainEvents, t.name)
	}
	sent := rt.sentDocs(c.Namespaces)
	for _, name := range c.Namespaces {
		c.Events = append(c.Events, byName[name].callDocs()...)
		c.Events = append(c.Events, connectionDocs(name)...)
		c.Events = append(c.Events, snapshotDocs(name)...)
		for _, d := range sent {
			if d.Namespace == name {
				c.Events = append(c.Events, d)
			}
		}
	}
	return c
}

// sentDocs describes the events that the server sends for domain events. It uses the
// deliveries of their examples, so the description matches the code.
func (rt *Server) sentDocs(namespaces []string) (docs []EventDoc) {
	type kind struct {
		namespace, event string
		payload          reflect.Type
	}
	at := map[kind]int{}
	add := func(t DomainEventType, namespace string, d Delivery, a Audience) {
		k := kind{namespace, d.event, reflect.TypeOf(d.payload)}
		i, known := at[k]
		if !known {
			i = len(docs)
			at[k] = i
			docs = append(docs, EventDoc{
				Namespace: namespace, Event: d.event, Doc: t.doc, Payload: payloadType(k.payload), Example: exampleJSON(d.payload),
				NewestOnly: d.latest != "",
			})
		}
		doc := &docs[i]
		if !slices.Contains(doc.DomainEvents, t.name) {
			doc.DomainEvents = append(doc.DomainEvents, t.name)
		}
		if words := a.words(); !strings.Contains(doc.Audience, words) {
			doc.Audience = strings.TrimPrefix(doc.Audience+"; "+words, "; ")
		}
	}
	for _, t := range rt.events.all {
		for _, e := range t.examples {
			f := factsOf(e.about(), exampleEventID, exampleTime, TripParties{}, false)
			f.trips = []string{exampleTrip}
			for _, d := range e.deliver(f) {
				for _, a := range d.Audiences() {
					if a.namespace != "" {
						add(t, a.namespace, d, a)
						continue
					}
					for _, name := range namespaces {
						if !rt.lookup(name).opts.Anonymous {
							add(t, name, d, a)
						}
					}
				}
			}
		}
	}
	return docs
}

// words describes the audience in words.
func (a Audience) words() string {
	switch {
	case a.all:
		return "everybody in the namespace"
	case a.session != "" && a.user != "":
		return "the sockets of the login session, and the other sockets of the user"
	case a.session != "":
		return "the sockets of the login session"
	case a.user != "":
		return "the user's sockets"
	}
	var all []string
	for _, r := range append([]Room{a.room}, a.more...) {
		kind, id, _ := strings.Cut(strings.TrimPrefix(r.name, hostPrefix), ":")
		switch {
		case strings.HasPrefix(r.name, hostPrefix):
			all = append(all, fmt.Sprintf("the room `%s:{id}`, such as `%s:%s`", kind, kind, id))
		case r == AdminAllRoom:
			all = append(all, "every admin")
		case r == AdminDriversRoom:
			all = append(all, "the admins who watch the drivers")
		case kind == "driver":
			all = append(all, "the driver")
		case kind == "passenger":
			all = append(all, "the passenger")
		case kind == "admin":
			all = append(all, "the admin")
		case kind == "user":
			all = append(all, "the user")
		case kind == "trip" && a.namespace == NamespaceAdmin && len(a.more) == 0:
			all = append(all, "the admins who follow the trip")
		case kind == "trip" && a.namespace == NamespaceAdmin:
			all[len(all)-1] += " (with `Options.AdminTripsByRoom`: those who follow the trip)"
		case kind == "trip":
			all = append(all, "the passenger and the driver of the trip, while it has a driver")
		}
	}
	return strings.Join(all, " and ")
}

// callDocs describes the calls of a namespace, sorted by name.
func (ns *Namespace) callDocs() (docs []EventDoc) {
	ns.mu.RLock()
	defer ns.mu.RUnlock()
	for _, event := range slices.Sorted(maps.Keys(ns.handlers)) {
		d := EventDoc{Doc: "Its arguments have no type.", Untyped: true}
		if describe := ns.handlers[event].describe; describe != nil {
			d = describe()
		}
		d.Namespace, d.Event, d.FromClient = ns.name, event, true
		d.IdempotencyKey = d.Payload != nil && !ns.opts.Anonymous && !ns.handlers[event].onSocket
		docs = append(docs, d)
	}
	return docs
}

// describe describes a call.
func (c Call[In, Out]) describe() EventDoc {
	d := EventDoc{Payload: payloadType(reflect.TypeFor[In]()), AckData: payloadType(reflect.TypeFor[Out]())}
	if d.Payload != nil {
		d.Codes = append(d.Codes, CodeInvalidPayload)
	}
	if c.doc != nil {
		d.Doc = c.doc.Does
		d.Codes = append(d.Codes, c.doc.Codes...)
		d.Example, d.AckExample = exampleJSON(c.doc.In), exampleJSON(c.doc.Out)
	}
	d.Codes = append(d.Codes, CodeRateLimited, CodeUnavailable, CodeInternal)
	return d
}

// payloadType returns the type, or nil for None.
func payloadType(t reflect.Type) reflect.Type {
	if t == reflect.TypeFor[None]() {
		return nil
	}
	return t
}

// exampleJSON returns the JSON of an example, or nil for None and for a value that cannot be
// encoded.
func exampleJSON(v any) json.RawMessage {
	if _, none := v.(None); none {
		return nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	return b
}

// connectionDocs describes the events of the connection itself.
func connectionDocs(namespace string) []EventDoc {
	at := Time{exampleTime}
	return []EventDoc{
		DescribeEvent(EventHello, namespace, "the socket that connected", "The first event after a successful connect. Only the events that a recovered client had missed come before it.",
			HelloPayload{OK: true, Namespace: namespace, SessionID: exampleSession, UserID: "user-1", ServerTime: at}),
		DescribeEvent(EventAuthExpired, namespace, "the socket that it concerns",
			"The token or the login session expired. The server then closes the connection.", AuthExpiredPayload{at}),
		DescribeEvent(EventServerDrain, namespace, "every socket of the node",
			"The node shuts down. The server then closes the connection. Stock clients do not know `reconnectAfterMs`: the app sets it as the client's delay, so that not all clients reconnect at once.", ServerDrainPayload{1500}),
		DescribeEvent(EventException, namespace, "the socket whose event failed, with `Options.Compat.EmitExceptions` only",
			"An event of the client has failed.", Exception{"error", "no such offer"}),
	}
}

// snapshotDocs describes what a socket of the namespace receives behind hello.
func snapshotDocs(namespace string) []EventDoc {
	who, ok := personOf(namespace, examplePassenger)
	if !ok {
		return nil
	}
	example := Snapshot{Trips: []TripSnapshot{{
		TripID: exampleTrip, Status: TripStatusArriving, At: exampleTime, PassengerID: examplePassenger, DriverID: exampleDriver, VehicleID: exampleVehicle,
		RequestedAt: exampleTime, Pickup: examplePlace, FareEstimatedTotal: new(350.5), Currency: "CUP", ETAMinutes: new(4.0), DriverPosition: examplePosition,
		Driver: exampleDriverCard, Vehicle: exampleVehicleCard, Passenger: examplePassengerCard,
	}}}
	also := ""
	if who.Driver {
		example.Offers = []AssignmentOffered{{TripID: "trip-2", AssignmentID: exampleAssignment, TTLSec: 20, Pickup: examplePlace, PriceEstimate: new(350.5), Currency: "CUP", At: exampleTime}}
		also = " `driver:availability:update` follows it."
	}
	return []EventDoc{DescribeEvent(EventTripSync, namespace, "the socket that connected, unless it recovers; with `Options.Snapshots` only",
		"What the user must know now: the app replaces what it knows of its trips and offers. It comes once, behind `hello` and before any event that happened later."+also+
			" An event that it contains already may still come.", example.payload(namespace, exampleTime))}
}
