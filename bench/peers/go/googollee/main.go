// Command googollee is the contract on googollee/go-socket.io, which speaks
// Socket.IO 2: the token comes in the query.
package main

import (
	"io"
	"log"
	"net/http"
	"os"
	"time"

	socketio "github.com/googollee/go-socket.io"
	"github.com/googollee/go-socket.io/engineio"
	"github.com/googollee/go-socket.io/engineio/transport"
	"github.com/googollee/go-socket.io/engineio/transport/websocket"

	"github.com/rodando/realtime/bench/peers/contract"
)

func main() {
	log.SetOutput(io.Discard) // it logs each connection
	s := socketio.NewServer(&engineio.Options{
		PingInterval: contract.PingInterval(), PingTimeout: time.Minute,
		Transports: []transport.Transport{&websocket.Transport{CheckOrigin: func(*http.Request) bool { return true }}},
	})
	s.OnConnect("/", func(socketio.Conn) error { return nil })
	for _, nsp := range []string{"/drivers", "/passengers", "/admin"} {
		s.OnConnect(nsp, func(c socketio.Conn) error {
			u := c.URL()
			claims, err := contract.Verify(u.Query().Get("token"))
			if err != nil {
				return err
			}
			c.SetContext(claims)
			for _, room := range contract.Rooms(nsp, claims.Subject, claims.SessionID) {
				c.Join(room)
			}
			c.Emit("hello", map[string]any{"ok": true, "nsp": nsp})
			return nil
		})
		s.OnDisconnect(nsp, func(socketio.Conn, string) {})
		s.OnError(nsp, func(socketio.Conn, error) {})
	}
	s.OnEvent("/drivers", "driver:location:ping", func(c socketio.Conn, p contract.Position) map[string]any {
		id := c.Context().(*contract.Claims).Subject
		u := contract.NewUpdate(id, p)
		s.BroadcastToRoom("/drivers", "driver:"+id, "driver:location:update", u)
		s.BroadcastToRoom("/admin", "admin:drivers", "driver:location:update", u)
		return map[string]any{"ok": true}
	})
	go func() { _ = s.Serve() }() // ends with the process
	mux := http.NewServeMux()
	contract.Mount(mux, func(nsp, room, event string, i int) { s.BroadcastToRoom(nsp, room, event, contract.NewTrip(i)) }, nil)
	mux.Handle("/socket.io/", s)
	if err := http.ListenAndServe(contract.Addr(), mux); err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
}
