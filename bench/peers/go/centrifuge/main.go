// Command centrifuge is the contract on centrifugal/centrifuge in its own JSON
// protocol: rooms are server-side subscriptions named NAMESPACE#ROOM, the ping is
// an RPC. LOWMEM=1 is what its documentation offers to save memory. RECOVERY=1 keeps
// the history of each channel and recovers clients from it. REDIS_URL makes it a node
// of a cluster. BROADCAST=1 subscribes every client to NAMESPACE#, too, to which
// /bench/stream publishes without a room. SIGTERM shuts it down in order.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/centrifugal/centrifuge"

	"github.com/rodando/realtime/bench/peers/contract"
)

var (
	lowMemory = os.Getenv("LOWMEM") != ""
	recovery  = os.Getenv("RECOVERY") != ""
	broadcast = os.Getenv("BROADCAST") != ""
)

// What a channel keeps: as long as Node's connection state recovery, by default.
const (
	historySize = 10_000
	historyTime = 2 * time.Minute
)

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
	if url := os.Getenv("REDIS_URL"); url != "" {
		if err := useRedis(node, url); err != nil {
			log.Fatal(err)
		}
	}
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
	send := func(nsp, room string, t *contract.Trip) {
		data, _ := json.Marshal(t) // strings and numbers only
		publish(node, nsp+"#"+room, data)
	}
	contract.Mount(mux, func(nsp, room, _ string, i int) { send(nsp, room, contract.NewTrip(i)) }, nil)
	mux.HandleFunc("POST /bench/stream", func(_ http.ResponseWriter, r *http.Request) { contract.Stream(r, send) })
	mux.Handle("/connection/websocket", centrifuge.NewWebsocketHandler(node, ws))
	srv := &http.Server{Addr: contract.Addr(), Handler: mux}
	ended := make(chan error)
	go func() { ended <- endInOrder(srv, node) }()
	if err := srv.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
	if err := <-ended; err != nil {
		log.Fatal(err)
	}
}

// endInOrder waits for SIGTERM and shuts the server down: first who publishes, then
// the clients, of which those whose network has gone would keep it longer than that.
func endInOrder(srv *http.Server, node *centrifuge.Node) error {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	<-stop
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	err := errors.Join(srv.Shutdown(ctx), node.Shutdown(ctx))
	if errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

func useRedis(node *centrifuge.Node, url string) error {
	shard, err := centrifuge.NewRedisShard(node, centrifuge.RedisShardConfig{Address: url})
	if err != nil {
		return err
	}
	broker, err := centrifuge.NewRedisBroker(node, centrifuge.RedisBrokerConfig{Shards: []*centrifuge.RedisShard{shard}})
	if err != nil {
		return err
	}
	node.SetBroker(broker)
	return nil
}

func publish(node *centrifuge.Node, channel string, data []byte) {
	var options []centrifuge.PublishOption
	if recovery {
		options = append(options, centrifuge.WithHistory(historySize, historyTime))
	}
	if _, err := node.Publish(channel, data, options...); err != nil {
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
		subs[e.Name+"#"+room] = centrifuge.SubscribeOptions{EnableRecovery: recovery}
	}
	if broadcast {
		subs[e.Name+"#"] = centrifuge.SubscribeOptions{EnableRecovery: recovery}
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
