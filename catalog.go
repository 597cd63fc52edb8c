// The catalog: a description of a server's events. Package realtimegen generates
// documentation from it.

package realtime

//go:generate go run ./internal/cmd/eventdocs docs/events.md

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Catalog describes what goes over the wire between a server and its clients.
type Catalog struct {
	Namespaces []string   // the built-in ones, then the host's own
	Events     []EventDoc // by namespace: what clients send, then what the server sends
	Refusals   []RefusalDoc
	Endings    []EndingDoc
}

// EventDoc describes an event in one namespace.
//
// The fields of Payload and AckData say more about themselves in tags: doc:"..." has
// the meaning and the unit, null:"..." says when a value is null. A pointer, slice or
// map may be null too, unless it is left out then. A string type that has a method
// Values() []string takes these values.
type EventDoc struct {
	Namespace  string
	Event      string
	FromClient bool   // a client sends it, and the server acknowledges it
	Doc        string // what it says or does

	// DomainEvents are the events on the bus that it follows from. What belongs to
	// the connection itself follows from none.
	DomainEvents []string
	// Audience says in words who receives it.
	Audience string
	// NewestOnly says that a slow receiver gets the newest one only.
	NewestOnly bool

	Payload reflect.Type    // nil: none
	Example json.RawMessage // of the payload

	AckData    reflect.Type // of an event that a client sends; nil: none
	AckExample json.RawMessage
	Codes      []Code // of a failed ack
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
	First string // what the server sends before
	Then  string // what happens to the connection
	Do    string // what a client does
}

// DescribeEvent describes an event that the host emits by itself, and not for a
// domain event, so that it can be added to a Catalog.
func DescribeEvent[T any](e Event[T], namespace, audience, doc string, example T) EventDoc {
	return EventDoc{
		Namespace: namespace, Event: e.name, Doc: doc, Audience: audience,
		Payload: payloadType(reflect.TypeFor[T]()), Example: exampleJSON(example),
	}
}

// Catalog describes the events of the server: those of the library, the host's domain
// events, and every call that a handler is registered for.
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
	sent := rt.sentDocs(c.Namespaces)
	for _, name := range c.Namespaces {
		c.Events = append(c.Events, byName[name].callDocs()...)
		c.Events = append(c.Events, connectionDocs(name)...)
		for _, d := range sent {
			if d.Namespace == name {
				c.Events = append(c.Events, d)
			}
		}
	}
	return c
}

// sentDocs describes the events that domain events are delivered as. It uses the
// deliveries of their examples, so that the description matches the code.
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
	case a.session != "" && a.user != "":
		return "the sockets of the login session, and the user's others"
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
			all = append(all, "the people of the trip, while it has a driver")
		}
	}
	return strings.Join(all, " and ")
}

// callDocs describes the calls of a namespace, by name.
func (ns *Namespace) callDocs() (docs []EventDoc) {
	ns.mu.RLock()
	defer ns.mu.RUnlock()
	for _, event := range slices.Sorted(maps.Keys(ns.handlers)) {
		d := EventDoc{Doc: "Its arguments have no type."}
		if describe := ns.handlers[event].describe; describe != nil {
			d = describe()
		}
		d.Namespace, d.Event, d.FromClient = ns.name, event, true
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

// payloadType is nil for None.
func payloadType(t reflect.Type) reflect.Type {
	if t == reflect.TypeFor[None]() {
		return nil
	}
	return t
}

// exampleJSON is nil for None, and for what can't be encoded.
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
		DescribeEvent(EventHello, namespace, "the socket that connected", "The first event after a successful connect.",
			HelloPayload{OK: true, Namespace: namespace, SID: exampleSession, UserID: "user-1", ServerTime: at}),
		DescribeEvent(EventAuthExpired, namespace, "the socket that it concerns",
			"The token or the session expired. The connection is closed next.", AuthExpiredPayload{at}),
		DescribeEvent(EventServerDrain, namespace, "every socket of the node",
			"The node shuts down. The connection is closed next.", ServerDrainPayload{1500}),
		DescribeEvent(EventException, namespace, "the socket whose event failed, with `Options.Compat.EmitExceptions` only",
			"An event that the client sent has failed.", Exception{"error", "no such offer"}),
	}
}
