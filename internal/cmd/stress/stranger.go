// Strangers: connections that never log in, and what they send.

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/cmd/internal/stresskit"
)

const (
	// loiterers is how many connections hold out without a login, more than a node
	// lets in, from so many networks that no address has too many.
	loiterers = unauthenticated + 200
	// loiterStep is how often each asks to be let in.
	loiterStep = time.Second
	// originSize is how long a foreign origin is.
	originSize = 200 << 10
)

// body is most of one that does not end.
var body = []byte(strings.Repeat("4", 900_000))

// stranger is one way to use a connection without logging in. It returns when it is
// done.
type stranger func(ctx context.Context, w *world, rng *rand.Rand, n *node)

// flood starts strangers until ctx ends, some of each kind on each node.
func (w *world) flood(ctx context.Context) {
	kinds := []stranger{floodConnects, unknownNamespaces, garbage, foreignOrigin, manyAddresses, floodNamespaces, endlessBody, unknownKeys}
	for i, kind := range kinds {
		if !strings.Contains(strangerNames[i], w.config.stranger) {
			continue
		}
		for k, n := range w.nodes {
			w.scenes.Go(func() {
				rng := w.rng(strangerStream, 2*i+k)
				for stresskit.Sleep(ctx, stresskit.Between(rng, 20*time.Millisecond, 200*time.Millisecond)) && w.calm(ctx) {
					kind(ctx, w, rng, n)
					w.count.Add("strangers: "+strangerNames[i], 1)
				}
			})
		}
	}
	for k, n := range w.nodes {
		if !strings.Contains(loitering, w.config.stranger) {
			break
		}
		w.scenes.Go(func() { w.keepConnectionsOpen(ctx, w.rng(strangerStream, 1000+k), n) })
	}
}

// loitering is the name of those who keep connections open.
const loitering = "loitering"

var strangerNames = []string{
	"refused in a loop", "unknown namespaces", "garbage", "foreign origins", "many addresses", "too many namespaces", "bodies without end", "unknown keys",
}

// strangerAddress returns a stranger's address: in one of a few IPv4 networks, or in one
// IPv6 /48.
func strangerAddress(rng *rand.Rand) string {
	if rng.IntN(2) == 0 {
		return fmt.Sprintf("2a0%d:db8:%x:%x::%x", rng.IntN(4), rng.IntN(4), rng.IntN(1<<16), 1+rng.IntN(1<<16))
	}
	return fmt.Sprintf("185.%d.%d.%d", rng.IntN(4), rng.IntN(256), 1+rng.IntN(250))
}

// keepConnectionsOpen keeps connections open by sending CONNECTs that are refused, and
// opens a new one for each that is closed.
func (w *world) keepConnectionsOpen(ctx context.Context, rng *rand.Rand, n *node) {
	all := make([]*raw, loiterers)
	defer func() {
		for _, c := range all {
			if c != nil {
				_ = c.Close()
			}
		}
	}()
	var mu sync.Mutex // guards all while several dial
	for ctx.Err() == nil {
		round := time.Now()
		var dialing sync.WaitGroup
		for part := range 4 {
			r := rand.New(rand.NewPCG(rng.Uint64(), 1))
			dialing.Go(func() {
				for i := part; i < len(all) && w.calm(ctx); i += 4 {
					mu.Lock()
					c := all[i]
					mu.Unlock()
					if c != nil && c.send("3", connectPacket(realtime.NamespaceDrivers, "forged")) == nil {
						continue
					}
					if c != nil {
						_ = c.Close()
					}
					c, err := webSocket(n, strangerAddress(r))
					if err != nil {
						c = nil
						w.count.Add("strangers: refused", 1)
					}
					mu.Lock()
					all[i] = c
					mu.Unlock()
				}
			})
		}
		dialing.Wait()
		w.count.Add("strangers: rounds of open connections", 1)
		stresskit.Sleep(ctx, loiterStep-time.Since(round))
	}
}

// visit opens a websocket, calls f, and closes the websocket a little later.
func visit(ctx context.Context, rng *rand.Rand, n *node, f func(c *raw)) {
	c, err := webSocket(n, strangerAddress(rng))
	if err != nil {
		return
	}
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	f(c)
	_ = c.Close()
}

// floodConnects sends thousands of CONNECTs at once, all of which are refused.
func floodConnects(ctx context.Context, w *world, rng *rand.Rand, n *node) {
	visit(ctx, rng, n, func(c *raw) {
		go func() { _ = c.until("nothing") }() // until it is closed; the answers are read
		batch := make([]string, 500)
		for i := range batch {
			batch[i] = connectPacket(realtime.NamespacePassengers, "forged")
		}
		for range 10 {
			if !w.calm(ctx) || c.send(batch...) != nil {
				return
			}
		}
		stresskit.Sleep(ctx, 100*time.Millisecond)
	})
}

func unknownNamespaces(ctx context.Context, _ *world, rng *rand.Rand, n *node) {
	visit(ctx, rng, n, func(c *raw) {
		go func() { _ = c.until("nothing") }() // until it is closed; the answers are read
		for i := range 1000 {
			if c.send(fmt.Sprintf("40/nowhere%d,", i), "40/"+strings.Repeat("n", 300)+",") != nil {
				return
			}
		}
		stresskit.Sleep(ctx, 100*time.Millisecond)
	})
}

// garbage sends invalid frames and packets.
func garbage(ctx context.Context, _ *world, rng *rand.Rand, n *node) {
	visit(ctx, rng, n, func(c *raw) {
		b := make([]byte, 1+rng.IntN(300))
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		_ = c.SetWriteDeadline(time.Now().Add(rawTimeout))
		switch rng.IntN(5) {
		case 0:
			_, _ = c.Write(b) // that it is taken is not what matters, here and below
		case 1:
			_, _ = c.Write(frame(2, string(b)))
		case 2:
			_ = c.send("4" + string(b))
		case 3:
			_ = c.send(`451-/drivers,["a",{"_placeholder":true,"num":0}]`, `40/drivers,{"token":`, "6", "1")
		case 4:
			_, _ = c.Write(frame(byte(rng.IntN(16)), "4"+string(b)))
		}
		stresskit.Sleep(ctx, 20*time.Millisecond)
	})
}

// foreignOrigin is a page of another site with a long name.
func foreignOrigin(_ context.Context, _ *world, rng *rand.Rand, n *node) {
	c, err := dialRaw(n, strangerAddress(rng))
	if err != nil {
		return
	}
	_ = c.SetDeadline(time.Now().Add(rawTimeout))
	_, _ = c.request(http.MethodGet, //nolint:bodyclose // the connection is closed instead
		"polling", "Origin: https://"+strings.Repeat("o", originSize)+".example\r\n", "") // it is refused, in whatever way
	_ = c.Close()
}

// manyAddresses makes handshakes over one connection, each from another address, as
// a proxy forwards them, and ends those sessions.
func manyAddresses(ctx context.Context, w *world, rng *rand.Rand, n *node) {
	c, err := dialRaw(n, "")
	if err != nil {
		return
	}
	defer func() { _ = c.Close() }()
	for i := 0; i < w.config.addresses && w.calm(ctx); i++ {
		c.from = fmt.Sprintf("%d.%d.%d.%d", 100+rng.IntN(80), rng.IntN(256), rng.IntN(256), 1+rng.IntN(250))
		sid, err := c.open()
		if err != nil {
			return
		}
		if c.post(sid, "1") != nil {
			return
		}
		w.count.Add("strangers: addresses", 1)
	}
}

// floodNamespaces connects to more namespaces than allowed, and does not read the
// refusals. It has an account.
func floodNamespaces(ctx context.Context, w *world, rng *rand.Rand, n *node) {
	user := "hog"
	w.users.Set(realtime.User{ID: user, Type: realtime.UserDriver, Active: true})
	_, token := w.login(user, int(w.guests.Add(1)))
	c, err := dialRaw(n, honest(rng.IntN(1000)))
	if err != nil {
		return
	}
	defer func() { w.vanished(); _ = c.Close() }()
	sid, err := c.open()
	if err != nil || c.post(sid, connectPacket(realtime.NamespaceDrivers, token)+"\x1e"+connectPacket(lab, token)) != nil {
		return
	}
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	for range 12 {
		if c.post(sid, strings.Repeat("40/passengers,\x1e", 900)+"40/passengers,") != nil {
			break
		}
	}
	stresskit.Sleep(ctx, connectTimeout)
}

// bodies is how many bodies that do not end each node is sent at most, so that the
// program's own end of them stays small.
var bodies atomic.Int64

const maxBodies = 800

// endlessBody sends a body except its end.
func endlessBody(ctx context.Context, w *world, _ *rand.Rand, n *node) {
	if bodies.Add(1) > maxBodies {
		bodies.Add(-1)
		return
	}
	w.scenes.Go(func() {
		defer bodies.Add(-1)
		c, err := dialRaw(n, strangerAddress(rand.New(rand.NewPCG(w.seed, uint64(w.guests.Add(1))))))
		if err != nil {
			return
		}
		defer func() { _ = c.Close() }()
		stop := context.AfterFunc(ctx, func() { _ = c.Close() })
		defer stop()
		sid, err := c.open()
		if err != nil || c.begin(http.MethodPost, "polling&sid="+sid, "Content-Type: text/plain\r\n", len(body)+1000) != nil {
			return
		}
		_, _ = c.Write(body) // the server may have had enough
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		_, _ = c.in.ReadByte() // until the server ends it
	})
}

// unknownKeys sends tokens whose keys cannot be looked up: the verifier hangs.
func unknownKeys(ctx context.Context, w *world, _ *rand.Rand, n *node) {
	if !w.has(hang) {
		stresskit.Sleep(ctx, time.Second)
		return
	}
	var all []*raw
	for i := 0; i < 60 && w.calm(ctx); i++ {
		c, err := webSocket(n, fmt.Sprintf("203.0.113.%d", 1+i%3))
		if err != nil {
			continue
		}
		all = append(all, c)
		_ = c.send(connectPacket(realtime.NamespacePassengers, fmt.Sprint("kid", w.guests.Add(1)))) // a refusal is as good
	}
	stresskit.Sleep(ctx, repoTimeout)
	for _, c := range all {
		_ = c.Close()
	}
}
