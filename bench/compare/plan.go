// What is measured: the servers, the modes, and the goals of the project.

package main

import "context"

// A peer is a server that keeps the generator's contract.
type peer struct {
	name  string
	about string
	cmd   []string
	dir   string   // where it runs, in bench/
	env   []string // settings of the server
	gen   []string // flags of the generator
	modes []string // labels
	wide  bool     // it may use every core but the generator's, both where there are two
	many  bool     // only where there are more than two cores
	offer bool     // it makes offers, in drops
}

const (
	ours   = "realtime"
	node   = "node"
	tuned  = "node-tuned"
	epoll  = "bare-epoll"
	conns  = "realtime-netconn"
	keeps  = "realtime-recovery"
	procs1 = "realtime-procs1"
	procs2 = "realtime-procs2"
	wide   = "realtime-procs2-wide"
	all    = "realtime-all-cores"
)

var (
	server = []string{"out/bin/server"}
	basic  = []string{"check", "connect", "pings", "pings-admin", "pings-rate4000", "fanout", "unicast", "idle", "churn"}
	drops  = []string{"drops", "drops-faults", "drops-nodes"}
	storms = []string{"storm", "storm-spread"}
	growth = []string{"rooms-100", "rooms-1000", "rooms-10000", "drivers-100", "drivers-1000", "drivers-10000"}
)

var peers = []peer{
	{name: node, about: "socket.io 4.8.4", cmd: []string{"node", "--expose-gc", "server.js"}, dir: "peers/node",
		modes: also(basic, "check-polling", "polling", "slow", "cluster", "cluster-pings", drops, storms)},
	{name: "node-recovery", about: "socket.io 4.8.4 with its connection state recovery; over Redis with @socket.io/redis-streams-adapter 0.3.1",
		cmd: []string{"node", "--expose-gc", "server.js"}, dir: "peers/node", env: []string{"RECOVERY=1"}, modes: drops},
	{name: tuned, about: "the same, set up for memory, with a KeyObject for the tokens' secret",
		cmd: []string{"node", "--expose-gc", "server.js"}, dir: "peers/node", env: []string{"TUNED=1"},
		modes: []string{"check", "connect", "pings", "idle"}},
	{name: "googollee", about: "go-socket.io v1.7.0, which speaks Socket.IO 2", cmd: []string{"out/bin/peers/googollee"}, gen: []string{"-eio", "3"},
		modes: []string{"connect", "pings", "fanout", "unicast", "idle"}},
	{name: "centrifuge", about: "v0.40.1, its own JSON protocol", cmd: []string{"out/bin/peers/centrifuge"}, gen: []string{"-proto", "centrifuge"},
		modes: also(basic, storms)},
	{name: "centrifuge-recovery", about: "centrifuge v0.40.1 with history and recovery", cmd: []string{"out/bin/peers/centrifuge"},
		gen: []string{"-proto", "centrifuge"}, env: []string{"RECOVERY=1"}, modes: drops},
	{name: "centrifuge-lowmem", about: "the same, set up for memory", cmd: []string{"out/bin/peers/centrifuge"}, gen: []string{"-proto", "centrifuge"},
		env: []string{"LOWMEM=1"}, modes: []string{"check", "pings", "idle"}},
	{name: "bare-gws", about: "gws v1.9.1 and nothing else", cmd: []string{"out/bin/peers/baregws"},
		modes: basic},
	{name: "bare-gws-coalesced", about: "the same, with what is queued joined into one write", cmd: []string{"out/bin/peers/baregws"},
		env: []string{"COALESCE=1"}, modes: []string{"check", "pings", "pings-admin", "fanout", "unicast"}},
	{name: epoll, about: "system calls and nothing else, coalesced", cmd: []string{"out/bin/peers/bareepoll"},
		env: []string{"COALESCE=1"}, modes: also(basic, growth)},
	{name: "bare-nbio", about: "nbio v1.6.5 and nothing else", cmd: []string{"out/bin/peers/barenbio"},
		modes: []string{"check", "idle"}},
	{name: "bare-gobwas", about: "gobwas/ws v1.5.0 and nothing else", cmd: []string{"out/bin/peers/baregobwas"},
		modes: []string{"check", "idle"}},
	{name: ours, about: "this library", cmd: server,
		modes: also(basic, growth, "check-polling", "polling", "slow", "cluster", "cluster-pings", "scale", "scale-spread", drops, storms), offer: true},
	{name: keeps, about: "this library with recovery", cmd: server, env: []string{"RECOVERY=1"}, modes: also("check", "fanout", "idle", drops, storms), offer: true},
	{name: conns, about: "this library on connections that are not plain TCP to it", cmd: server, env: []string{"NETCONN=1"},
		modes: []string{"check", "connect", "pings", "fanout", "unicast", "idle", "churn"}},
	{name: procs1, about: "this library, GOMAXPROCS=1", cmd: server, env: []string{"GOMAXPROCS=1"},
		modes: []string{"pings", "fanout"}},
	{name: procs2, about: "this library, GOMAXPROCS=2", cmd: server, env: []string{"GOMAXPROCS=2"},
		modes: []string{"pings", "fanout"}},
	{name: wide, about: "this library, GOMAXPROCS=2, not held on one core", cmd: server, env: []string{"GOMAXPROCS=2"}, wide: true,
		modes: []string{"pings", "fanout"}},
	{name: all, about: "this library, on all cores but the generator's", cmd: server, wide: true, many: true,
		modes: []string{"pings", "fanout"}},
}

// also joins words and lists of words.
func also(parts ...any) []string { return f(parts...) }

// A runMode measures one server in one mode.
type runMode func(r *runner, ctx context.Context, p peer, m mode) (run, error)

// A mode is one run of the generator.
type mode struct {
	label string
	args  []string
	quick []string // added for a quick run; of two equal flags the later one counts
	env   []string // settings of the server
	nodes int      // more than one: so many servers and a Redis, which they share
	once  bool     // one repeat says enough
	run   runMode  // nil: one generator says everything
	calm  bool     // what else the machine does shows in its figures
}

var modes = []mode{
	{label: "check", args: f("check"), once: true},
	{label: "check-polling", args: f("check", "-transport", "polling"), once: true},
	{label: "connect", calm: true, args: f("connect", "-c", "5000"), quick: f("-c", "1000", "-warm-conns", "100")},
	{label: "pings", calm: true, args: pings("500"), quick: short},
	{label: "pings-admin", calm: true, args: f(pings("500"), "-admins", "1"), quick: short},
	{label: "pings-rate4000", calm: true, args: f(pings("500"), "-rate", "4000"), quick: short},
	{label: "polling", calm: true, args: f(pings("500"), "-transport", "polling"), quick: short},
	{label: "fanout", calm: true, args: f("fanout", "-c", "2000", "-n", "30", "-bursts", "3"), quick: f("-c", "500", "-n", "10", "-bursts", "1")},
	{label: "unicast", calm: true, args: f("unicast", "-c", "2000", "-n", "20"), quick: f("-c", "500")},
	{label: "slow", args: f("slow", "-c", "2000", "-n", "30"), quick: f("-c", "300", "-n", "10")},
	{label: "rooms-100", calm: true, args: f("fanout", "-c", "100", "-n", "600", "-bursts", "60"), quick: f("-n", "100", "-bursts", "10")},
	{label: "rooms-1000", calm: true, args: f("fanout", "-c", "1000", "-n", "60", "-bursts", "6"), quick: f("-n", "10", "-bursts", "1")},
	{label: "rooms-10000", calm: true, args: f("fanout", "-c", "10000", "-n", "10", "-bursts", "1"), quick: f("-n", "2")},
	{label: "drivers-100", calm: true, args: pings("100"), quick: short},
	{label: "drivers-1000", calm: true, args: pings("1000"), quick: short},
	{label: "drivers-10000", calm: true, args: pings("10000"), quick: short},
	{label: "idle", args: f("idle", "-c", "5000", "-settle", "9s", "-warm-conns", "100"), env: []string{"PING_INTERVAL=4000"},
		quick: f("-c", "1000", "-settle", "2s")},
	{label: "churn", args: f("churn", "-c", "1000", "-conc", "128", "-t", "36s", "-settle", "2s"), once: true,
		quick: f("-c", "300", "-t", "3s", "-settle", "500ms")},
	{label: "cluster", calm: true, nodes: 3, args: f("cluster", "-t", "5s", "-warm", "2s"), quick: short},
	{label: "cluster-pings", calm: true, nodes: 3, args: f(pings("600"), "-rate", "2000", "-admins", "1"), quick: short},
	{label: "scale", nodes: 5, once: true, run: (*runner).scale, args: f("hold", "-c", "19000"), quick: f("-c", "500")},
	{label: "scale-spread", nodes: 5, once: true, run: (*runner).scaleSpread, args: f("hold", "-c", "15000"), quick: f("-c", "500")},
	{label: "drops", once: true, run: (*runner).drops, args: f("drops"), quick: fewDrops},
	{label: "drops-faults", once: true, run: (*runner).drops, args: f("drops", "-faults"), quick: fewDrops},
	{label: "drops-nodes", nodes: 2, once: true, run: (*runner).drops, args: f("drops", "-faults"), quick: fewDrops},
	{label: "storm", once: true, run: (*runner).storm, args: storm("10000"), env: broadcasts, quick: f("-c", "500")},
	{label: "storm-spread", nodes: 2, once: true, run: (*runner).stormSpread, args: storm("5000"), env: broadcasts, quick: f("-c", "500")},
}

// storm is so many sockets for each server; nothing holds them back when they return.
func storm(sockets string) []string { return f("hold", "-c", sockets, "-returns", sockets) }

// broadcasts make a server ready for an event to all, where that takes something.
var broadcasts = []string{"BROADCAST=1"}

// offersASecond are made in drops, by servers that do.
const offersASecond = "20"

var fewDrops = f("-c", "20", "-t", "10s", "-rate", "50", "-up", "3s", "-cut", "3s")

var short = f("-t", "1s", "-warm", "500ms")

func pings(drivers string) []string { return f("pings", "-c", drivers, "-t", "4s", "-warm", "2s") }

// f joins words and lists of words.
func f(parts ...any) (args []string) {
	for _, p := range parts {
		switch p := p.(type) {
		case string:
			args = append(args, p)
		case []string:
			args = append(args, p...)
		}
	}
	return args
}

// A figure is a row of the main table: what one thing costs, and at most how much
// of Node's cost in the same run is the goal.
type figure struct {
	name, unit string
	label, key string
	base       string // whose cost the ratio is to
	goal       float64
	server     string // whose figure the goal is for
}

var figures = []figure{
	{"handshake with an HS256 token", "CPU ms", "connect", "cpu_ms_per_handshake", tuned, 0.30, ours},
	{"ping: room emit and ack", "CPU µs", "pings", "cpu_us_per_ack", node, 0.36, ours},
	{"the same, one admin watching", "CPU µs", "pings-admin", "cpu_us_per_ack", node, 0.36, ours},
	{"broadcast to 2,000, paced", "CPU µs per delivery", "fanout", "paced_cpu_us_per_delivery", node, 0.65, ours},
	{"broadcast to 2,000, bursts of 50", "CPU µs per delivery", "fanout", "burst_cpu_us_per_delivery", node, 0.16, ours},
	{"emit to 2,000 rooms of one", "CPU µs per emit", "unicast", "cpu_us_per_emit", node, 0.18, ours},
	{"ping over long-polling", "CPU µs", "polling", "cpu_us_per_ack", node, 1, ours},
	{"emit on one node of three, 2,000/s, sender", "CPU µs per emit", "cluster", "rate_sender_cpu_us", node, 0.35, ours},
	{"the same, node with the room", "CPU µs per emit", "cluster", "rate_with_room_cpu_us", node, 0.35, ours},
	{"the same, node without it", "CPU µs per emit", "cluster", "rate_without_room_cpu_us", node, 0.35, ours},
	{"the same, from node to client, p99", "ms", "cluster", "rate_p99_ms", node, 1, ours},
	{"emit in bursts of 50, sender", "CPU µs per emit", "cluster", "burst_sender_cpu_us", node, 0.35, ours},
	{"the same, node with the room", "CPU µs per emit", "cluster", "burst_with_room_cpu_us", node, 0.35, ours},
	{"the same, node without it", "CPU µs per emit", "cluster", "burst_without_room_cpu_us", node, 0.35, ours},
	{"idle socket in two rooms", "bytes PSS", "idle", "pss_per_socket", node, 0.20, ours},
	{"the same, not plain TCP on Linux", "bytes PSS", "idle", "pss_per_socket", node, 0.40, conns},
}

// A slope compares how a cost grows with that of the bare server.
type slope struct {
	name, unit string
	key        string
	labels     [3]string // at 100, 1,000 and 10,000
}

const growthGoal = 1.2

var slopes = []slope{
	{"delivery in a room, paced", "CPU µs", "paced_cpu_us_per_delivery", [3]string{"rooms-100", "rooms-1000", "rooms-10000"}},
	{"delivery in a room, bursts of 50", "CPU µs", "burst_cpu_us_per_delivery", [3]string{"rooms-100", "rooms-1000", "rooms-10000"}},
	{"ping, so many drivers connected", "CPU µs", "cpu_us_per_ack", [3]string{"drivers-100", "drivers-1000", "drivers-10000"}},
}

const (
	procsGoal = 1.18 // CPU at GOMAXPROCS=2 to that at 1
	slowGoal  = 1.5  // p99 beside a slow reader to that without one
	outboxMiB = 4    // Limits.OutboxBytes, as it is by default
	heapGoal  = 1.05 // heap after the churn to that before

	recoveryGoal = 1.1 // CPU of a delivery in bursts with recovery to that without
	socketGoal   = 64  // bytes that an idle socket takes more with recovery
	missedGoal   = 0.1 // percent of the offers that their driver does not receive in time
	toldGoal     = 3.1 // seconds from an offer to undelivered: the default, and the ticks of the clocks
)

// multicore are the figures that two cores must not make dearer.
var multicore = []figure{
	{name: "ping", unit: "CPU µs", label: "pings", key: "cpu_us_per_ack"},
	{name: "delivery, paced", unit: "CPU µs", label: "fanout", key: "paced_cpu_us_per_delivery"},
	{name: "delivery, bursts of 50", unit: "CPU µs", label: "fanout", key: "burst_cpu_us_per_delivery"},
}
