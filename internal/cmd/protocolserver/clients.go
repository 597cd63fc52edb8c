// What the suites of engine.io-client and socket.io-client expect of their server.

package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rodando/realtime/internal/engineio"
	"github.com/rodando/realtime/internal/socketio"
)

// bounce is an echo that greets, and answers a few messages in another way.
type bounce struct {
	echo
	posted *atomic.Pointer[http.Header] // of the server's last POST: a suite runs one test at a time
}

// Opened greets. The engine calls it when the open packet is queued, so that it comes first.
func (b *bounce) Opened() { b.sendText([]byte("hi")) }

func (b *bounce) Message(data []byte, binary bool) error {
	if binary {
		return b.echo.Message(data, binary)
	}
	switch string(data) {
	case "give binary":
		b.s.Send(engineio.BinaryMessage([]byte{0, 1, 2, 3, 4}))
	case "give utf8":
		b.sendText([]byte("пойду спать всем спокойной ночи"))
	case "sendHeaders":
		if h := b.posted.Load(); h != nil {
			b.sendText(toJSON(lowerCase(*h)))
		}
	default:
		b.sendText(data)
	}
	return nil
}

// admit refuses who asks for that, sets cookies of all kinds in the answer to a handshake, and
// records the headers of a POST.
func admit(next http.Handler, posted *atomic.Pointer[http.Header]) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		switch {
		case q.Has("deny"):
			engineio.Forbidden(w, r)
			return
		case !q.Has("sid"):
			for _, c := range []http.Cookie{
				{Name: "1", Value: "1", MaxAge: 86400},
				{Name: "2", Value: "2", Path: "/", HttpOnly: true, Secure: true, SameSite: http.SameSiteStrictMode},
				{Name: "3", Value: "3", MaxAge: -1},
				{Name: "4", Value: "4", Expires: time.Now().Add(-time.Second)},
			} {
				http.SetCookie(w, &c)
			}
		case r.Method == http.MethodPost:
			posted.Store(&r.Header)
		}
		next.ServeHTTP(w, r)
	})
}

// delay lets a client's connect timeout of 0 pass before a handshake is answered.
func delay(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !r.URL.Query().Has("sid") {
			time.Sleep(10 * time.Millisecond)
		}
		next.ServeHTTP(w, r)
	})
}

// handshake is what a client may ask for about its connection, in the names of Node's server.
type handshake struct {
	Headers map[string]string `json:"headers"`
	Time    string            `json:"time"`
	Address string            `json:"address"`
	XDomain bool              `json:"xdomain"`
	Secure  bool              `json:"secure"`
	Issued  int64             `json:"issued"`
	URL     string            `json:"url"`
	Query   map[string]string `json:"query"`
	Auth    json.RawMessage   `json:"auth"`
}

func newHandshake(r *http.Request) *handshake {
	now := time.Now()
	h := &handshake{
		Headers: lowerCase(r.Header), Time: now.Format(time.RFC1123), Address: r.RemoteAddr, XDomain: r.Header.Get("Origin") != "",
		Secure: r.TLS != nil, Issued: now.UnixMilli(), URL: r.URL.RequestURI(), Query: map[string]string{},
	}
	for key, values := range r.URL.Query() {
		h.Query[key] = values[0]
	}
	return h
}

func lowerCase(h http.Header) map[string]string {
	all := map[string]string{}
	for name, values := range h {
		all[strings.ToLower(name)] = strings.Join(values, ", ")
	}
	return all
}

// clientSocket is what a socket has: its handshake, and what came before.
type clientSocket struct {
	handshake handshake
	seen      []string // names of events that must come in an order
}

func addClientNamespaces(sio *socketio.Server) {
	add := func(name, refusal string, event func(*socketio.Socket, *socketio.Event)) {
		connect := func(s *socketio.Socket, payload []byte) {
			h, _ := s.Conn().Data.(*handshake)
			c := &clientSocket{handshake: *h}
			c.handshake.Auth = toJSON(json.RawMessage(payload))
			if payload == nil {
				c.handshake.Auth = json.RawMessage("{}")
			}
			s.Data = c
			why := refusal
			if name == "/" && h.Query["fail"] != "" {
				why = "Auth failed (main namespace)"
			}
			switch {
			case why != "":
				s.Refuse(toJSON(map[string]string{"message": why}), false)
			case !s.Admit():
			case name == "/abc":
				s.Open(message(s, "handshake", toJSON(c.handshake)))
			default:
				s.Open()
			}
		}
		sio.Namespace(name, socketio.Hooks{Connect: connect, Event: event, Disconnect: func(*socketio.Socket, string) {}})
	}
	ignore := func(*socketio.Socket, *socketio.Event) {}
	add("/", "", clientEvent)
	add("/foo", "", func(s *socketio.Socket, e *socketio.Event) {
		if e.Name == "getId" {
			e.Ack(nil, toJSON(s.ID()))
		}
	})
	for _, name := range []string{"/timeout_socket", "/valid", "/asd", "/abc"} {
		add(name, "", ignore)
	}
	add("/no", "Auth failed (custom namespace)", ignore)
}

func message(s *socketio.Socket, name string, args ...[]byte) *socketio.Message {
	return socketio.EventMessage(s.Namespace().Name(), socketio.NoID, name, args...)
}

func toJSON(v any) []byte {
	b, _ := json.Marshal(v) //nolint:errchkjson // cannot fail: strings, numbers, and JSON of the client's that was parsed
	return b
}
