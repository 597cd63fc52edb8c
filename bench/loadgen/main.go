// Command loadgen drives a Socket.IO server that keeps the contract in
// ../README.md, and says what each handshake, ack, delivery and idle socket
// costs that server. It needs nothing outside the standard library, runs on
// Linux only, and talks to the loopback interface only.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"
)

// config is what the flags say.
type config struct {
	server, others, secret, proto, transport, ns string

	eio, srcIPs  int
	conns, conc  int
	warmConns    int
	returns      int
	n            int
	burst        int
	bursts       int
	admins       int
	rate, abrupt float64
	busy         bool
	seed         uint64
	unseen       float64
	faults       bool
	offers       float64
	store        string

	dur, warm, settle, hold, handshake, up, cut, within, ttl time.Duration
}

// A mode is one thing to measure, with its own values for flags left at zero.
type mode struct {
	run         func(*bench)
	conns, n    int
	rate        float64
	dur, settle time.Duration
}

var modes = map[string]mode{
	"check":   {run: (*bench).check},
	"connect": {run: (*bench).connect, conns: 5000},
	"idle":    {run: (*bench).idle, conns: 5000, settle: 10 * time.Second},
	"pings":   {run: (*bench).pings, conns: 500, dur: 8 * time.Second},
	"fanout":  {run: (*bench).fanout, conns: 2000, n: 30},
	"unicast": {run: (*bench).unicast, conns: 2000, n: 20},
	"slow":    {run: (*bench).slow, conns: 2000, n: 30},
	"cluster": {run: (*bench).cluster, conns: 1, rate: 2000, dur: 5 * time.Second},
	"drops":   {run: (*bench).drops, conns: 500, rate: 100, dur: time.Minute},
	"hold":    {run: (*bench).hold, conns: 5000},
	"churn":   {run: (*bench).churn, conns: 1000, dur: 15 * time.Second, settle: 3 * time.Second},
}

func main() {
	var cfg config
	var pid, jsonOut, name, label string
	fs := flag.NewFlagSet("loadgen", flag.ExitOnError)
	fs.Usage = func() {
		fmt.Fprintf(fs.Output(), "usage: loadgen MODE [flags]; MODE is one of %s\n", modeNames())
		fs.PrintDefaults()
	}
	fs.StringVar(&cfg.server, "server", "http://127.0.0.1:3000", "base address of the server, on the loopback interface")
	fs.StringVar(&cfg.others, "others", "", "cluster, pings, drops: base addresses of the other nodes, by comma; hold: of those where closed sockets come back")
	fs.StringVar(&pid, "pid", "", "the server's process id, or several by comma; cluster: those of the nodes in order, then that of Redis")
	fs.StringVar(&cfg.secret, "secret", "bench-secret", "HS256 secret of the tokens")
	fs.StringVar(&cfg.proto, "proto", "sio", "sio or centrifuge")
	fs.StringVar(&cfg.transport, "transport", "websocket", "websocket or polling")
	fs.IntVar(&cfg.eio, "eio", 4, "Engine.IO version, 4 or 3")
	fs.StringVar(&cfg.ns, "ns", "/drivers", "connect, idle, churn: the namespace")
	fs.IntVar(&cfg.conns, "c", 0, "sockets (0: the mode's own number)")
	fs.IntVar(&cfg.conc, "conc", 64, "handshakes at a time; churn: sockets at a time")
	fs.IntVar(&cfg.returns, "returns", 1024, "hold: handshakes at a time of sockets that come back")
	fs.DurationVar(&cfg.within, "within", 2*time.Minute, "hold: how long sockets may take to come back")
	fs.IntVar(&cfg.n, "n", 0, "fanout, slow: paced broadcasts; unicast: emits to each room (0: the mode's own number)")
	fs.IntVar(&cfg.burst, "burst", 50, "fanout, cluster: broadcasts in a burst (0: no burst)")
	fs.IntVar(&cfg.bursts, "bursts", 1, "fanout: bursts, one after the other")
	fs.IntVar(&cfg.admins, "admins", 0, "pings: admins who watch")
	fs.Float64Var(&cfg.rate, "rate", 0, "pings: pings a second in all (0: closed loop, one in flight per driver); cluster: emits a second (0: 2000); drops: events a second (0: 100)")
	fs.Uint64Var(&cfg.seed, "seed", 1, "drops: says who gets which event, and who is cut when, for how long and how")
	fs.DurationVar(&cfg.up, "up", 12*time.Second, "drops: how long a client is connected between two cuts, ± half")
	fs.DurationVar(&cfg.cut, "cut", 10*time.Second, "drops: the longest cut; the shortest is a tenth of it")
	fs.Float64Var(&cfg.unseen, "unseen", 0.5, "drops: share of the cuts of which the server sees nothing, as when a phone loses its network")
	fs.BoolVar(&cfg.faults, "faults", false, "drops: ask for a restart of a server and for a kill, on standard output")
	fs.Float64Var(&cfg.offers, "offers", 0, "drops: offers a second, of a server with a STORE")
	fs.StringVar(&cfg.store, "store", "", "drops: the server's STORE, which says what it has learned of its offers")
	fs.DurationVar(&cfg.ttl, "ttl", 20*time.Second, "drops: how long an offer runs")
	fs.DurationVar(&cfg.dur, "t", 0, "pings, churn, cluster, drops: how long (0: the mode's own time)")
	fs.DurationVar(&cfg.warm, "warm", 2*time.Second, "pings, cluster: warm-up")
	fs.DurationVar(&cfg.settle, "settle", 0, "idle, churn: wait before measuring (0: the mode's own time)")
	fs.IntVar(&cfg.warmConns, "warm-conns", 500, "connect, idle, churn: sockets opened and closed first")
	fs.DurationVar(&cfg.hold, "hold", 20*time.Millisecond, "churn: how long a socket stays")
	fs.Float64Var(&cfg.abrupt, "abrupt", 0.5, "churn: share closed by RST instead of a goodbye")
	fs.DurationVar(&cfg.handshake, "hs-timeout", 20*time.Second, "time for one handshake")
	fs.IntVar(&cfg.srcIPs, "src-ips", 16, "loopback source addresses to spread over")
	fs.BoolVar(&cfg.busy, "busy", false, "never sleep while waiting (needs a core of its own)")
	fs.StringVar(&jsonOut, "json", "", "append one JSON line to this file")
	fs.StringVar(&name, "name", "", "the server's name in the JSON line")
	fs.StringVar(&label, "label", "", "a label for the run in the JSON line")
	what := arguments(fs, os.Args[1:])
	m, ok := modes[what]
	if !ok {
		die("the mode is one of %s", modeNames())
	}
	b, err := newBench(cfg.with(m), pids(pid))
	if err != nil {
		die("%v", err)
	}
	if len(b.pids) == 0 && what != "check" && what != "hold" {
		fmt.Fprintln(os.Stderr, "no -pid: the server's CPU and memory will read 0")
	}

	// One thread drives everything, and collections are rare: the generator
	// must cost less than any server it measures.
	runtime.LockOSThread()
	debug.SetGCPercent(400)
	m.run(b)
	if what == "hold" { // it has said everything
		return
	}

	fmt.Printf("%s %s %s\n", what, b.l.dial.name(), name)
	b.res.print(os.Stdout)
	if jsonOut != "" {
		if err := b.res.append(jsonOut, name, what, label); err != nil {
			die("%v", err)
		}
	}
	if !b.res.ok {
		os.Exit(1)
	}
}

// arguments parses flags that stand before or after the mode, which it returns.
func arguments(fs *flag.FlagSet, args []string) string {
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		_ = fs.Parse(args[1:]) // exits on an error
		return args[0]
	}
	_ = fs.Parse(args)
	what := fs.Arg(0)
	if fs.NArg() > 1 {
		_ = fs.Parse(fs.Args()[1:])
	}
	return what
}

// with fills in what the mode has values of its own for.
func (cfg config) with(m mode) config {
	if cfg.conns == 0 {
		cfg.conns = m.conns
	}
	if cfg.n == 0 {
		cfg.n = m.n
	}
	if cfg.dur == 0 {
		cfg.dur = m.dur
	}
	if cfg.rate == 0 {
		cfg.rate = m.rate
	}
	if cfg.settle == 0 {
		cfg.settle = m.settle
	}
	return cfg
}

func newBench(cfg config, pids []int) (*bench, error) {
	first, err := newTarget(cfg.server)
	if err != nil {
		return nil, err
	}
	var rest []*target
	for _, address := range addresses(cfg.others) {
		t, err := newTarget(address)
		if err != nil {
			return nil, err
		}
		rest = append(rest, t)
	}
	b := &bench{rest: rest, cfg: cfg, pids: pids, toks: &tokens{s: newSigner(cfg.secret), cache: map[*role][]string{}}}
	b.res.ok = true
	var d dialect
	switch cfg.proto {
	case "sio":
		d = &sio{eio: cfg.eio, toks: b.toks}
	case "centrifuge":
		d = &centrifuge{toks: b.toks}
	default:
		return nil, fmt.Errorf("unknown -proto %q", cfg.proto)
	}
	switch cfg.transport {
	case "websocket":
		b.kind = kindSocket
	case "polling":
		if cfg.proto != "sio" || cfg.eio != 4 {
			return nil, fmt.Errorf("-transport polling is for -proto sio -eio 4 only")
		}
		b.kind = kindPoll
	default:
		return nil, fmt.Errorf("unknown -transport %q", cfg.transport)
	}
	b.l, err = newLoop(first, d, cfg.srcIPs)
	if err != nil {
		return nil, err
	}
	b.l.busy = cfg.busy
	return b, nil
}

func newTarget(base string) (*target, error) {
	u, err := url.Parse(base)
	if err != nil {
		return nil, err
	}
	addr, err := net.ResolveTCPAddr("tcp4", u.Host)
	if err != nil {
		return nil, fmt.Errorf("server %q: %w", base, err)
	}
	if !addr.IP.IsLoopback() {
		return nil, fmt.Errorf("server %q is not on the loopback interface", base)
	}
	return &target{addr, addr.String()}, nil
}

func pids(list string) (ids []int) {
	for s := range strings.SplitSeq(list, ",") {
		if n, err := strconv.Atoi(s); err == nil {
			ids = append(ids, n)
		}
	}
	return ids
}

func modeNames() string { return strings.Join(slices.Sorted(maps.Keys(modes)), ", ") }

func die(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	os.Exit(2)
}

// append adds the result to a file, as one line of JSON.
func (r *result) append(file, name, what, label string) error {
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	values := map[string]float64{}
	for _, m := range r.metrics {
		values[m.key] = m.val
	}
	err = json.NewEncoder(f).Encode(map[string]any{
		"name": name, "mode": what, "label": label, "ok": r.ok, "notes": r.notes, "v": values,
	})
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}
