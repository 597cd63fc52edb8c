// Command centrifuge is the contract on centrifugal/centrifuge in its own JSON
// protocol: rooms are server-side subscriptions named NAMESPACE#ROOM, the ping is
// an RPC. LOWMEM=1 is what its documentation offers to save memory.
package main

import (
	"context"
	"encoding/json"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/centrifugal/centrifuge"

	"github.com/rodando/realtime/bench/peers/contract"
)

var lowMemory = os.Getenv("LOWMEM") != ""

func main() {
	node, err := centrifuge.New(centrifuge.Config{
		ClientQueueMaxSize: 10 << 20,
		LogLevel:           centrifuge.LogLevelError,
		LogHandler:         func(e centrifuge.LogEntry) { log.Println(e.Message, e.Fields) },
	})
	if err != nil {
		log.Fatal(err)
	}
	node.OnConnecting(connecting)
	node.OnConnect(func(c *centrifuge.Client) { connected(node, c) })
	if err := node.Run(); err != nil {
		log.Fatal(err)
	}
	interval := contract.PingInterval()
	ws := centrifuge.WebsocketConfig{
		UseWriteBufferPool: true,
		CheckOrigin:        func(*http.Request) bool { return true },
		PingPongConfig:     centrifuge.PingPongConfig{PingInterval: interval, PongTimeout: min(10*time.Second, interval/2)},
	}
	if lowMemory {
		ws.ReadBufferSize = 512
		ws.ProcessCommandsOffReadLoop = true
	}
	mux := http.NewServeMux()
	contract.Mount(mux, func(nsp, room, _ string, i int) {
		data, _ := json.Marshal(contract.NewTrip(i)) // strings and numbers only
		publish(node, nsp+"#"+room, data)
	}, nil)
	mux.Handle("/connection/websocket", centrifuge.NewWebsocketHandler(node, ws))
	log.Fatal(http.ListenAndServe(contract.Addr(), mux))
}

func publish(node *centrifuge.Node, channel string, data []byte) {
	if _, err := node.Publish(channel, data); err != nil {
		log.Print(err)
	}
}

func connecting(_ context.Context, e centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
	claims, err := contract.Verify(e.Token)
	if err != nil {
		return centrifuge.ConnectReply{}, centrifuge.ErrorUnauthorized
	}
	subs := map[string]centrifuge.SubscribeOptions{}
	for _, room := range contract.Rooms(e.Name, claims.Subject, claims.SessionID) {
		subs[e.Name+"#"+room] = centrifuge.SubscribeOptions{}
	}
	return centrifuge.ConnectReply{
		Credentials: &centrifuge.Credentials{UserID: claims.Subject}, Subscriptions: subs,
		ReplyWithoutQueue: lowMemory, Storage: map[string]any{"nsp": e.Name},
	}, nil
}

func connected(node *centrifuge.Node, c *centrifuge.Client) {
	id := c.UserID()
	storage, release := c.AcquireStorage()
	nsp, _ := storage["nsp"].(string)
	release(storage)
	if nsp == "/drivers" {
		ok := []byte(`{"ok":true}`)
		c.OnRPC(func(e centrifuge.RPCEvent, reply centrifuge.RPCCallback) {
			var p contract.Position
			if err := json.Unmarshal(e.Data, &p); err != nil {
				reply(centrifuge.RPCReply{}, centrifuge.ErrorBadRequest)
				return
			}
			data, _ := json.Marshal(contract.NewUpdate(id, p)) // a position that was JSON
			publish(node, "/drivers#driver:"+id, data)
			publish(node, "/admin#admin:drivers", data)
			reply(centrifuge.RPCReply{Data: ok}, nil)
		})
	}
	if err := c.Send([]byte(`{"event":"hello","ok":true,"nsp":"` + nsp + `"}`)); err != nil {
		log.Print(err)
	}
}
