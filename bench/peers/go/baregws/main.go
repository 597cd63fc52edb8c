// Command baregws is the contract on lxzan/gws alone: one goroutine reads each
// connection.
package main

import (
	"log"
	"net/http"

	"github.com/lxzan/gws"

	"github.com/rodando/realtime/bench/peers/bare"
	"github.com/rodando/realtime/bench/peers/contract"
)

type events struct {
	gws.BuiltinEventHandler
	hub *bare.Hub
}

func client(s *gws.Conn) *bare.Client {
	v, _ := s.Session().Load("client")
	return v.(*bare.Client)
}

func (e *events) OnOpen(s *gws.Conn) {
	conn := s.NetConn()
	c := &bare.Client{
		Write: func(b []byte) { _, _ = conn.Write(b) }, // the reader learns of errors
		Close: func() { _ = s.WriteClose(1000, nil) },
	}
	s.Session().Store("client", c)
	e.hub.Open(c)
}

func (e *events) OnClose(s *gws.Conn, _ error) { e.hub.Gone(client(s)) }

func (e *events) OnMessage(s *gws.Conn, m *gws.Message) {
	e.hub.HandleText(client(s), m.Bytes())
	_ = m.Close()
}

func main() {
	hub := bare.NewHub(true)
	up := gws.NewUpgrader(&events{hub: hub}, &gws.ServerOption{ReadBufferSize: 1024})
	mux := hub.Handle(func(w http.ResponseWriter, r *http.Request) {
		if s, err := up.Upgrade(w, r); err == nil {
			go s.ReadLoop()
		}
	})
	log.Fatal(http.ListenAndServe(contract.Addr(), mux))
}
