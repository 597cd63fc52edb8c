// Command protocolserver is the server for the public test suites of the Engine.IO and
// Socket.IO protocols: an Engine.IO echo on /engine.io/, and two namespaces without
// authentication on /socket.io/.
package main

import (
	"flag"
	"log"
	"net/http"
	"time"

	"github.com/rodando/realtime/internal/engineio"
	"github.com/rodando/realtime/internal/socketio"
	"github.com/rodando/realtime/internal/timingwheel"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:3000", "address to listen on")
	flag.Parse()
	log.Fatal(http.ListenAndServe(*addr, handler()))
}

func handler() http.Handler {
	w := timingwheel.New(5 * time.Millisecond)
	engine := engineio.Config{
		PingInterval:   300 * time.Millisecond,
		PingTimeout:    200 * time.Millisecond,
		UpgradeTimeout: 10 * time.Second,
		CloseTimeout:   time.Second,
		WriteTimeout:   10 * time.Second,

		MaxPayload:        1e6,
		MaxPackets:        1000,
		MaxOutboxBytes:    16e6,
		MaxOutboxMessages: 10_000,
	}

	echoes := engine
	echoes.Wheel = w
	echoes.Accept = func(s *engineio.Session, _ *http.Request) (engineio.Handler, *engineio.Busy) { return &echo{s}, nil }

	sio := socketio.New(socketio.Config{
		Limits:          socketio.Limits{Attachments: 10, Depth: 64, Values: 10_000, EventName: 256, Namespace: 256},
		AttachmentBytes: 1e6,
		ConnectTimeout:  15 * time.Second,
		QueuedEvents:    1000,
		QueuedBytes:     1e6,
		Namespaces:      10,
		PendingAcks:     1000,
		Wheel:           w,
		Engine:          engine,
		Accept:          func(*http.Request, int) (any, *socketio.Busy) { return nil, nil },
		Closed:          func(any) {},
	})
	hooks := socketio.Hooks{Connect: connect, Event: event, Disconnect: func(*socketio.Socket, string) {}}
	sio.Namespace("/", hooks)
	sio.Namespace("/custom", hooks)

	mux := http.NewServeMux()
	mux.Handle("/engine.io/", engineio.NewServer(echoes))
	mux.Handle("/socket.io/", sio)
	return mux
}

// echo sends every message back.
type echo struct{ s *engineio.Session }

func (e *echo) Message(data []byte, binary bool) error {
	if binary {
		e.s.Send(engineio.BinaryMessage(data))
	} else {
		e.s.Send(engineio.TextMessage(append(engineio.TextBuffer(len(data)), data...)))
	}
	return nil
}

func (*echo) Opened() {}

func (*echo) Serve() {}

func (*echo) Closed(engineio.Reason) {}

// connect admits every client and sends its payload back.
func connect(s *socketio.Socket, payload []byte) {
	if payload == nil {
		payload = []byte("{}")
	}
	if s.Admit() {
		s.Open(socketio.EventMessage(s.Namespace().Name(), socketio.NoID, "auth", payload))
	}
}

func event(s *socketio.Socket, e *socketio.Event) {
	switch e.Name {
	case "message":
		s.Send(socketio.EventMessages(s.Namespace().Name(), socketio.NoID, "message-back", e.Args, e.Attachments)...)
	case "message-with-ack":
		e.Ack(e.Attachments, e.Args...)
	}
}
