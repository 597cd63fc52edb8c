package main

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// A wire is a connection whose server is the test.
type wire struct {
	t    *testing.T
	l    *loop
	c    *conn
	got  []string
	come int // hellos
}

func newWire(t *testing.T, d func(*tokens) dialect) *wire {
	toks := &tokens{s: newSigner("x"), cache: map[*role][]string{}}
	w := &wire{t: t}
	l, err := newLoop(nil, d(toks), 1)
	if err != nil {
		t.Fatal(err)
	}
	w.l = l
	r := driverRole()
	toks.cache[r] = []string{"TOKEN"}
	l.h = handler{
		event: func(_ *conn, name string, data []byte) { w.got = append(w.got, name+" "+string(data)) },
		ready: func(*conn) { w.come++ },
		closed: func(_ *conn, why string) {
			t.Errorf("closed: %s", why)
		},
	}
	w.c = &conn{role: r, kept: &kept{}}
	return w
}

// connect begins a new connection of the same client and returns what it sends first.
func (w *wire) connect(packets ...string) (sent string) {
	w.c = &conn{fd: -1, role: w.c.role, kept: w.c.kept, state: stOpen, wbuf: []byte{0}} // what it writes stays in wbuf
	w.l.dial.upgraded(w.l, w.c)
	for i, p := range packets {
		w.l.dial.message(w.l, w.c, []byte(p))
		if i == 0 {
			sent = string(w.c.wbuf)
		}
	}
	return sent
}

func sioDialect(toks *tokens) dialect { return &sio{eio: 4, toks: toks} }

func TestKept_AsksAsSocketIOClientDoes(t *testing.T) {
	w := newWire(t, sioDialect)
	sent := w.connect(`0{"sid":"e"}`, `40/drivers,{"sid":"a","pid":"P1"}`, `42/drivers,["hello",{"ok":true},"o1"]`, `42/drivers,["trip:started",{"seq":7},"o2"]`)
	if !strings.HasSuffix(sent, `40/drivers,{"token":"TOKEN"}`) {
		t.Errorf("first it sent %q", sent)
	}
	if w.come != 1 || !slices.Equal(w.got, []string{`trip:started {"seq":7}`}) || w.c.kept.recovered {
		t.Errorf("ready %d times, got %q, recovered %v", w.come, w.got, w.c.kept.recovered)
	}
	// It recovers: the missed come before hello.
	sent = w.connect(`0{"sid":"e"}`, `40/drivers,{"sid":"a","pid":"P1"}`, `42/drivers,["trip:started",{"seq":8},"o3"]`, `42/drivers,["hello",{"ok":true},"o4"]`)
	if !strings.HasSuffix(sent, `40/drivers,{"offset":"o2","pid":"P1","token":"TOKEN"}`) {
		t.Errorf("then it sent %q", sent)
	}
	if w.come != 2 || !slices.Equal(w.got, []string{`trip:started {"seq":7}`, `trip:started {"seq":8}`}) || !w.c.kept.recovered {
		t.Errorf("ready %d times, got %q, recovered %v", w.come, w.got, w.c.kept.recovered)
	}
	// The server does not recover: another pid, with which the offset stays as it is.
	sent = w.connect(`0{"sid":"e"}`, `40/drivers,{"sid":"b","pid":"P2"}`, `42/drivers,["hello",{"ok":true}]`)
	if !strings.HasSuffix(sent, `{"offset":"o4","pid":"P1","token":"TOKEN"}`) || w.c.kept.recovered || w.c.kept.pid != "P2" || w.c.kept.offset != "o4" {
		t.Errorf("it sent %q and keeps %+v", sent, w.c.kept)
	}
}

func TestKept_TheOffsetIsTheLastArgumentIfThatIsAString(t *testing.T) {
	for _, c := range []struct{ pid, event, want string }{
		{"", `["e",{},"o1"]`, "before"},                                // no recovery: a string is a string
		{"P", `["e",{},"o1"]`, "o1"},                                   //
		{"P", `["e",{}]`, "before"},                                    // volatile
		{"P", `["e","text"]`, "text"},                                  // which the client takes for an offset
		{"P", `["e"]`, "e"},                                            // that too
		{"P", `12["e",{},"o1"]`, "before"},                             // with an ack: the last argument is its function
		{"P", `["e",{},"o\"\u00e9"]`, "o\"\u00e9"},                     // escapes
		{"P", `["e",["x"]]`, "before"},                                 //
		{"P", `["e",{},"a, with \"quotes\"],"]`, `a, with "quotes"],`}, //
	} {
		w := newWire(t, sioDialect)
		w.c.kept.pid, w.c.kept.offset, w.c.state = c.pid, "before", stReady
		w.l.dial.message(w.l, w.c, []byte("42/drivers,"+c.event))
		if w.c.kept.offset != c.want || len(w.got) != 1 {
			t.Errorf("%s with pid %q: offset %q, want %q; got %q", c.event, c.pid, w.c.kept.offset, c.want, w.got)
		}
	}
}

func TestKept_EventsBeforeTheConnectReplyCount(t *testing.T) {
	w := newWire(t, sioDialect)
	w.c.kept.pid, w.c.kept.offset = "P", "o1"
	w.connect(`0{"sid":"e"}`, `42/drivers,["trip:started",{"seq":1},"o2"]`, `42/drivers,["trip:started",{"seq":2},"o3"]`)
	if len(w.got) != 0 {
		t.Errorf("handled before the CONNECT reply: %q", w.got)
	}
	w.l.dial.message(w.l, w.c, []byte(`40/drivers,{"sid":"a","pid":"P"}`))
	if !slices.Equal(w.got, []string{`trip:started {"seq":1}`, `trip:started {"seq":2}`}) || w.c.kept.offset != "o3" {
		t.Errorf("got %q, offset %q", w.got, w.c.kept.offset)
	}
}

func TestKept_AsksAsTheClientsOfCentrifugeDo(t *testing.T) {
	w := newWire(t, func(toks *tokens) dialect { return &centrifuge{toks: toks} })
	hello := `{"push":{"message":{"data":{"event":"hello","ok":true}}}}`
	push := func(seq, offset string) string {
		return `{"push":{"channel":"c#1","pub":{"data":{"seq":` + seq + `},"offset":` + offset + `}}}`
	}
	w.connect(`{"id":1,"connect":{"client":"x","subs":{"c#1":{"recoverable":true,"epoch":"E","offset":4},"c#2":{}}}}`, hello, push("1", "5"))
	if first := string(w.c.wbuf); strings.Contains(first, "subs") || w.c.kept.recovered {
		t.Errorf("first it sent %q", first)
	}
	w.connect(`{"id":1,"connect":{"client":"y","subs":{"c#1":{"recoverable":true,"recovered":true,"epoch":"E","offset":7,"publications":[`+
		`{"data":{"seq":2},"offset":6},{"data":{"seq":3},"offset":7}]}}}}`+"\n"+hello, push("4", "8"))
	if sent := string(w.c.wbuf); !strings.Contains(sent, `"subs":{"c#1":{"recover":true,"epoch":"E","offset":5}}`) {
		t.Errorf("then it sent %q", sent)
	}
	if want := []string{evTrip + ` {"seq":1}`, evTrip + ` {"seq":2}`, evTrip + ` {"seq":3}`, evTrip + ` {"seq":4}`}; !slices.Equal(w.got, want) || w.come != 2 || !w.c.kept.recovered {
		t.Errorf("got %q, ready %d times, recovered %v", w.got, w.come, w.c.kept.recovered)
	}
	w.connect(`{"id":1,"connect":{"client":"z","subs":{"c#1":{"recoverable":true,"epoch":"F","offset":1}}}}`, hello)
	if w.c.kept.recovered || w.c.kept.subs["c#1"] != (position{true, "F", 1}) {
		t.Errorf("after it was not recovered it keeps %+v", w.c.kept)
	}
}

func TestBackoff(t *testing.T) {
	for _, c := range []struct {
		failed      int
		least, most time.Duration
	}{
		{0, 500 * time.Millisecond, 1500 * time.Millisecond}, {1, time.Second, 3 * time.Second}, {2, 2 * time.Second, 5 * time.Second},
		{3, 4 * time.Second, 5 * time.Second}, {100, 5 * time.Second, 5 * time.Second},
	} {
		if least, most := time.Duration(backoff(c.failed, 0)), time.Duration(backoff(c.failed, 1)); least != c.least || most != c.most {
			t.Errorf("after %d failures: %v to %v, want %v to %v", c.failed, least, most, c.least, c.most)
		}
	}
}
