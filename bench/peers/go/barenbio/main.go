// Command barenbio is the contract on lesismal/nbio alone: an event loop that
// comes with a WebSocket implementation of its own.
package main

import (
	"log"
	"net/http"

	"github.com/lesismal/nbio/logging"
	"github.com/lesismal/nbio/nbhttp"
	"github.com/lesismal/nbio/nbhttp/websocket"

	"github.com/rodando/realtime/bench/peers/bare"
	"github.com/rodando/realtime/bench/peers/contract"
)

func main() {
	logging.SetLevel(logging.LevelError)
	hub := bare.NewHub(true)
	up := websocket.NewUpgrader()
	up.KeepaliveTime = 0
	up.CheckOrigin = func(*http.Request) bool { return true }
	up.OnOpen(func(s *websocket.Conn) {
		c := &bare.Client{
			Write: func(b []byte) { _, _ = s.Conn.Write(b) }, // OnClose learns of errors
			Close: func() { _ = s.Close() },
		}
		s.SetSession(c)
		hub.Open(c)
	})
	up.OnMessage(func(s *websocket.Conn, _ websocket.MessageType, p []byte) {
		hub.HandleText(s.Session().(*bare.Client), p)
	})
	up.OnClose(func(s *websocket.Conn, _ error) { hub.Gone(s.Session().(*bare.Client)) })
	mux := hub.Handle(func(w http.ResponseWriter, r *http.Request) { _, _ = up.Upgrade(w, r, nil) })
	e := nbhttp.NewEngine(nbhttp.Config{
		Network: "tcp", Addrs: []string{contract.Addr()}, MaxLoad: 1e6, ReleaseWebsocketPayload: true, Handler: mux,
	})
	if err := e.Start(); err != nil {
		log.Fatal(err)
	}
	select {}
}
