// Fuzzing of a connection: whatever a client sends, in any order, nothing panics, and
// at the end nothing of the connection is left.

package socketio

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rodando/realtime/internal/engineio"
	"github.com/rodando/realtime/internal/timingwheel"
)

// FuzzConn handles messages, one per line; lines that begin with b are binary.
func FuzzConn(f *testing.F) {
	for _, s := range []string{
		"0\n2[\"a\"]\n1", "0/a,{}\n0\n2/a,1[\"a\",2]\n1/a\n2/a,[\"late\"]\n0/a\n2[\"bye\"]\n2[\"b\"]",
		"0\n51-[\"a\",{\"_placeholder\":true,\"num\":0}]\nbxyz\n52-1[\"a\"]\nb\nb", "0/refuse\n2/refuse,[\"a\"]", "0/refuse\n0/refuse\n0/unknown\n0",
		"0\n0", "0/pending\n1/pending\n0/pending\n2/pending,[\"a\"]", "0\n2[\"out\"]\n2[\"a\"]\n0\n2[\"a\"]", "0\n2[\"ask\"]\n30[]\n30[]\n31[]",
		"0\n2[\"join\",\"r\"]\n2[\"emit\",\"r\"]\n2[\"leave\",\"r\"]\n2[\"join\",\"r\"]\n1",
		// Inputs that have crashed other servers.
		"0\n2[{\"toString\":\"foo\"}]", "0\n2[\"error\",1]\n2[\"connection\"]\n2[\"disconnect\"]", "0\n599999-[\"a\"]\nb\nb\nb",
		"0\n51-[\"a\",{\"_placeholder\":true,\"num\":\"length\"}]", "0\n51-[\"a\",{\"_placeholder\":true,\"num\":-1}]",
		"0\n51-[\"a\",{\"_placeholder\":true,\"num\":9999}]", "0\n51-[\"a\",{\"_placeholder\":true,\"num\":1.5}]",
		"2" + strings.Repeat("1", 1000), "0/" + strings.Repeat("n", 1000), "0/__proto__,\n0/constructor", "0\n2[\"__proto__\",{\"__proto__\":1}]", "bx",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(fuzzConn)
}

func fuzzConn(t *testing.T, in []byte) {
	var opened, closed atomic.Int64
	hooks := Hooks{
		Connect: func(s *Socket, _ []byte) {
			switch s.Namespace().Name() {
			case "/refuse":
				s.Refuse([]byte(`{}`), true)
			case "/pending":
			default:
				if s.Admit(s.Namespace().Name(), "r") && s.OpenThen(func() { opened.Add(1) }) {
					s.Send(msg(s.Namespace().Name(), "hello"))
				}
			}
		},
		Event: func(s *Socket, e *Event) {
			switch n := s.Namespace(); e.Name {
			case "out":
				s.Disconnect()
			case "ask":
				id := n.NextID()
				if s.Expect(id, func(Reply) { s.Leave("r") }) == nil {
					s.Send(EventMessage(n.Name(), id, "ask"))
				}
			case "join", "leave", "emit":
				for _, arg := range e.Args {
					switch e.Name {
					case "join":
						s.Join(string(arg))
					case "leave":
						s.Leave(string(arg))
					default:
						n.Emit(Target{Rooms: []string{string(arg)}}, msg(n.Name(), "x"))
					}
				}
			default:
				e.Ack(e.Attachments, e.Args...)
			}
		},
		Disconnect: func(*Socket, string) { closed.Add(1) },
	}
	q := newQuiet(Config{
		Limits: Limits{Attachments: 5, Depth: 8, Values: 50, EventName: 24, Namespace: 24}, AttachmentBytes: 100,
		QueuedEvents: 3, QueuedBytes: 1000,
	})
	for _, n := range []string{"/", "/a", "/refuse", "/pending"} {
		q.sio.Namespace(n, hooks)
	}
	c := q.conn()
	for line := range bytes.SplitSeq(in, []byte("\n")) {
		data, binary := bytes.CutPrefix(line, []byte("b"))
		if err := c.Message(data, binary); err != nil {
			c.session.Close(engineio.ReasonParseError) // as the engine does
			break
		}
		c.Serve()
		for c.deciding() {
			runtime.Gosched()
		}
	}
	c.Serve()
	q.close()
	if opened.Load() != closed.Load() {
		t.Fatalf("%d sockets opened, %d closed", opened.Load(), closed.Load())
	}
	b := c.backlog
	if c.partial != nil {
		b.bytes -= c.partial.event.size
	}
	if b.events != 0 || b.bytes != 0 || b.awaitedAcks != 0 || c.ready != nil || len(c.sockets) != 0 {
		t.Fatalf("left over: %+v, %v, %v", b, c.ready, c.sockets)
	}
	for _, n := range q.sio.namespaces {
		requireEmpty(t, n)
	}
}

// deciding reports whether a handshake is running, except in the namespace where none
// ever ends.
func (c *Conn) deciding() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.sockets {
		if s.handshaking() && s.ns.name != "/pending" {
			return true
		}
	}
	return false
}

// quiet is a server whose connections get their messages directly. Messages to a client
// wait until the test polls.
type quiet struct {
	sio    *Server
	engine *engineio.Server
	conns  []*Conn
	sids   map[*Conn]string
}

func newQuiet(sc Config) *quiet {
	q := &quiet{sids: map[*Conn]string{}}
	sc.Wheel = timingwheel.New(10 * time.Millisecond)
	sc.ConnectTimeout = time.Hour
	sc.Namespaces, sc.PendingAcks = 10, 1000
	sc.Accept = func(*http.Request, int) (any, *engineio.Busy) { return nil, nil }
	sc.Closed = func(any) {}
	q.sio = newServer(sc)
	q.engine = engineio.NewServer(engineio.Config{
		PingInterval: time.Hour, PingTimeout: time.Hour, UpgradeTimeout: time.Hour, CloseTimeout: time.Hour, WriteTimeout: time.Hour,
		MaxPayload: 1 << 30, MaxPackets: 1000, MaxOutboxBytes: 1 << 30, MaxOutboxMessages: 1 << 30, Wheel: sc.Wheel,
		Accept: func(s *engineio.Session, r *http.Request) (engineio.Handler, *engineio.Busy) {
			h, busy := q.sio.accept(s, r)
			q.conns = append(q.conns, h.(*Conn))
			return h, busy
		},
	})
	return q
}

// conn opens a connection.
func (q *quiet) conn() *Conn {
	open := httptest.NewRecorder()
	q.engine.ServeHTTP(open, httptest.NewRequest(http.MethodGet, "/?EIO=4&transport=polling", nil))
	c := q.conns[len(q.conns)-1]
	q.sids[c] = sidOf(open.Body.String())
	return c
}

// poll takes the messages to a connection; there must be one.
func (q *quiet) poll(c *Conn) {
	url := "/?EIO=4&transport=polling&sid=" + q.sids[c]
	q.engine.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, url, nil))
}

// close aborts all connections and waits for their hooks.
func (q *quiet) close() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = q.engine.Shutdown(ctx) // nothing has to be delivered
	q.sio.cfg.Wheel.Close()
	q.sio.Wait()
}
