// Command protocolserver is the server for public test suites: those of the Engine.IO and
// Socket.IO protocols, and with -clients those of engine.io-client and socket.io-client, whose
// support servers greet and answer in their own way. It serves an Engine.IO echo on
// /engine.io/, and namespaces without authentication on /socket.io/. Recovery of a
// connection's state and WebTransport, which two of the suites' tests need, it has not.
package main

import (
	"flag"
	"log"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/rodando/realtime/internal/engineio"
	"github.com/rodando/realtime/internal/socketio"
	"github.com/rodando/realtime/internal/timingwheel"
)

// settings are what the flags set.
type settings struct {
	pingInterval, pingTimeout time.Duration
	maxPayload                int
	clients                   bool
}

// defaults are what the suites of the protocols expect.
var defaults = settings{pingInterval: 300 * time.Millisecond, pingTimeout: 200 * time.Millisecond, maxPayload: 1e6}

func main() {
	set := defaults
	addr := flag.String("addr", "127.0.0.1:3000", "address to listen on")
	tlsAddr := flag.String("tls", "", "address to listen on with TLS too; the certificate is made at the start")
	flag.DurationVar(&set.pingInterval, "ping-interval", set.pingInterval, "time between heartbeats")
	flag.DurationVar(&set.pingTimeout, "ping-timeout", set.pingTimeout, "time that a client has for its answer")
	flag.IntVar(&set.maxPayload, "max-payload", set.maxPayload, "maximum bytes of a message; engine.io-client's suite expects 100")
	flag.BoolVar(&set.clients, "clients", false, "behave as the suites of engine.io-client and socket.io-client expect")
	flag.Parse()
	h := handler(set)
	if *tlsAddr != "" {
		config, err := selfSigned()
		if err != nil {
			log.Fatal(err)
		}
		l, err := net.Listen("tcp", *tlsAddr)
		if err != nil {
			log.Fatal(err)
		}
		log.Printf("listening on https://%s", l.Addr())
		s := &http.Server{Handler: h, TLSConfig: config, ReadHeaderTimeout: 10 * time.Second}
		go func() { log.Fatal(s.ServeTLS(l, "", "")) }()
	}
	l, err := net.Listen("tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("listening on http://%s", l.Addr())
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(s.Serve(l))
}

func handler(set settings) http.Handler {
	w := timingwheel.New(5 * time.Millisecond)
	engine := engineio.Config{
		PingInterval:   set.pingInterval,
		PingTimeout:    set.pingTimeout,
		UpgradeTimeout: 10 * time.Second,
		CloseTimeout:   time.Second,
		WriteTimeout:   10 * time.Second,

		MaxPayload:        set.maxPayload,
		MaxPackets:        1000,
		MaxOutboxBytes:    16e6,
		MaxOutboxMessages: 10_000,
	}

	bounces := engine
	bounces.Wheel = w
	var posted atomic.Pointer[http.Header]
	bounces.Accept = func(s *engineio.Session, _ *http.Request) (engineio.Handler, *engineio.Busy) {
		if set.clients {
			return &bounce{echo{s}, &posted}, nil
		}
		return &echo{s}, nil
	}

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
		Accept:          func(r *http.Request, _ int) (any, *socketio.Busy) { return newHandshake(r), nil },
		Closed:          func(any) {},
	})
	mux := http.NewServeMux()
	if set.clients {
		addClientNamespaces(sio)
		mux.Handle("/engine.io/", admit(engineio.NewServer(bounces), &posted))
		mux.Handle("/socket.io/", delay(sio))
		return mux
	}
	hooks := socketio.Hooks{Connect: connect, Event: event, Disconnect: func(*socketio.Socket, string) {}}
	sio.Namespace("/", hooks)
	sio.Namespace("/custom", hooks)
	mux.Handle("/engine.io/", engineio.NewServer(bounces))
	mux.Handle("/socket.io/", sio)
	return mux
}

// echo sends every message back.
type echo struct{ s *engineio.Session }

func (e *echo) Message(data []byte, binary bool) error {
	if binary {
		e.s.Send(engineio.BinaryMessage(data))
	} else {
		e.sendText(data)
	}
	return nil
}

func (e *echo) sendText(data []byte) {
	e.s.Send(engineio.TextMessage(append(engineio.TextBuffer(len(data)), data...)))
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
