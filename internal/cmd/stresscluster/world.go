//go:build unix

// The world: Redis, the nodes, the database and the publishers, which all parts of a run share.

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/cmd/internal/offerbook"
	"github.com/rodando/realtime/internal/cmd/internal/rides"
	"github.com/rodando/realtime/internal/cmd/internal/stresskit"
	"github.com/rodando/realtime/internal/redistest"
	"github.com/rodando/realtime/redisbus"
)

// Streams of random numbers.
const (
	actorStream = iota
	dispatcherStream
	stormStream
	faultStream
	probeStream
	offerStream
)

// nodes is the number of nodes.
const nodes = 3

// publishTime is how long one attempt to publish may take.
const publishTime = 3 * time.Second

// world is what the actors share. Its fields are set before they start, and safe for concurrent
// use.
type world struct {
	config config
	oracle *oracle
	count  *stresskit.Counts
	lag    *lag
	rows   *database
	redis  *redistest.Process
	dir    string
	places [nodes]*place
	bus    *redisbus.Bus // publishes
	events *redisbus.Bus // receives every event, in a group of its own
	online *online
	book   *offerbook.Book

	running sync.WaitGroup // readers of processes
	frozen  sync.RWMutex   // held while trips must not change; dispatchers hold it for reading

	passengers, drivers rides.Pool // who are on no trip
	trips               tripSet
}

func (w *world) rng(stream, number int) *rand.Rand {
	return rand.New(rand.NewPCG(w.config.seed, uint64(stream)<<32|uint64(number)))
}

// newWorld starts Redis and the nodes.
func newWorld(cfg config) (w *world, err error) {
	w = &world{config: cfg, count: &stresskit.Counts{}, lag: newLag(), online: newOnline()}
	w.oracle = newOracle(cfg.seed, w.count, w.lag)
	w.oracle.recovery = cfg.recovery
	if cfg.verbose {
		w.oracle.out = cfg.out
	}
	w.book = offerbook.New(w.count, func(text string) { w.oracle.breachf("%s", text) }, w.oracle.slackOf)
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	if w.dir, err = os.MkdirTemp("", "stresscluster"); err != nil {
		return w, err
	}
	if w.redis, err = redistest.NewProcess(w.dir, "--appendonly", "yes", "--appendfsync", "always"); err != nil {
		return w, err
	}
	if w.rows, err = openDatabase(answers(w.answer)); err != nil {
		return w, err
	}
	for i := range w.places {
		w.places[i] = &place{name: fmt.Sprint("n", i)}
		if w.places[i].path, err = redistest.OpenPath(w.redis.Addr()); err != nil {
			return w, err
		}
	}
	quiet := redisbus.Options{URL: w.redis.URL(), Name: "the oracle", Logger: silent}
	if w.bus, err = redisbus.New(quiet); err != nil {
		return w, err
	}
	quiet.Group = "oracle"
	if w.events, err = redisbus.New(quiet); err != nil {
		return w, err
	}
	if _, err = w.events.Subscribe(w.heard); err != nil {
		return w, err
	}
	for _, p := range w.places {
		if _, err := w.launch(p); err != nil {
			return w, err
		}
	}
	return w, w.awaitNodes(startTime)
}

// heard is a handler of the bus, which hears every event.
func (w *world) heard(ctx context.Context, e realtime.Envelope) error {
	w.book.Heard(e)
	return w.online.handle(ctx, e)
}

// awaitNodes waits until every node has started.
func (w *world) awaitNodes(within time.Duration) error {
	deadline := time.Now().Add(within)
	for _, p := range w.places {
		for l := p.current(); l == nil || !l.isReady(); l = p.current() {
			if time.Now().After(deadline) {
				return fmt.Errorf("node %s does not start", p.name)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	return nil
}

// close ends what still runs. The nodes have ended before, if all is well.
func (w *world) close() {
	for _, p := range w.places {
		if p != nil && p.current() != nil {
			_ = p.current().cmd.Process.Kill()
		}
	}
	w.running.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, b := range []*redisbus.Bus{w.bus, w.events} {
		if b != nil {
			_ = b.Close(ctx)
		}
	}
	for _, p := range w.places {
		if p != nil && p.path != nil {
			p.path.Close()
		}
	}
	if w.redis != nil {
		w.redis.Kill()
	}
	if w.rows != nil {
		w.rows.close()
	}
	w.lag.close()
	_ = os.RemoveAll(w.dir)
}

// ready returns a random node that accepts clients, or nil.
func (w *world) ready(rng *rand.Rand) *life {
	var lives []*life
	for _, p := range w.places {
		if l := p.current(); l != nil && l.isReady() {
			lives = append(lives, l)
		}
	}
	if len(lives) == 0 {
		return nil
	}
	return lives[rng.IntN(len(lives))]
}

// publish publishes an event through a random node's bus, or that of a process that is no
// node, again and again until it was accepted. It reports whether it was.
func (w *world) publish(ctx context.Context, rng *rand.Rand, id string, e realtime.DomainEvent) bool {
	env, err := realtime.NewEnvelope(e)
	if err != nil {
		w.oracle.breachf("%s can't be encoded: %v", e.EventName(), err)
		return false
	}
	if id != "" {
		env.ID = id
	}
	for {
		err := w.publishOnce(rng, env)
		if err == nil {
			return true
		}
		w.count.Add("publishes: repeated", 1)
		w.oracle.publishesAgain(env.ID)
		if !stresskit.Sleep(ctx, 100*time.Millisecond) {
			return false
		}
	}
}

func (w *world) publishOnce(rng *rand.Rand, env realtime.Envelope) error {
	ctx, cancel := context.WithTimeout(context.Background(), publishTime)
	defer cancel()
	l := w.ready(rng)
	if l == nil || rng.IntN(2) == 0 {
		w.count.Add("publishes: by a process that is no node", 1)
		return w.bus.Publish(ctx, env)
	}
	w.count.Add("publishes: by a node", 1)
	deadline, _ := ctx.Deadline()
	return post(ctx, l.url+"/publish", map[string]any{"event": env, "deadline": deadline})
}

// post sends JSON.
func post(ctx context.Context, url string, body any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return ask(ctx, http.MethodPost, url, bytes.NewReader(b))
}

// ask sends a request to a node. Its error is what the node says.
func ask(ctx context.Context, method, url string, body io.Reader) error {
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(string(bytes.TrimSpace(text)))
	}
	return err
}
