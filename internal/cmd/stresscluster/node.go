//go:build unix

// A node: the child process, which runs one server until its standard input or SIGTERM ends it.

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"runtime/pprof"
	"sync"
	"syscall"
	"time"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/redisadapter"
	"github.com/rodando/realtime/redisbus"
)

// nodeEnv makes the program a node; its value is nodeSettings as JSON.
const nodeEnv = "STRESSCLUSTER_NODE"

// nodeSettings is what a node is given.
type nodeSettings struct {
	Name     string `json:"name"`
	Redis    string `json:"redis"`   // URL
	Rows     string `json:"rows"`    // URL of the repositories
	LooksUp  bool   `json:"looksUp"` // there are a TripLookup and a PartyLookup
	Recovery bool   `json:"recovery"`
}

const (
	pingInterval = 3 * time.Second
	pingTimeout  = 4 * time.Second
	// presenceGrace is Timeouts.PresenceGrace of the nodes.
	presenceGrace = 2 * time.Second
	// nodeShutdown is how long a node has to shut down, and nodeLeak how long its goroutines
	// have to end then.
	nodeShutdown = 10 * time.Second
	nodeLeak     = 5 * time.Second
)

var (
	// echo is answered with what was asked.
	echo = realtime.NewCall[int, int]("stress:echo")
	// probe is emitted to the room of a trip.
	probe = realtime.NewEvent[probePayload]("stress:probe")
)

type probePayload struct {
	Probe string `json:"probe"`
	Trip  string `json:"tripId"`
}

// Kinds of reports of a node.
const (
	reportReady     = "ready"
	reportHandled   = "handled"   // a domain event was emitted
	reportGap       = "gap"       // messages of other nodes may have been lost
	reportReceiving = "receiving" // the adapter receives again, or not any more
	reportPeer      = "peer"      // another node joined or was lost
	reportDropped   = "dropped"   // a message of another node was not understood
	reportBusGap    = "busGap"    // the bus lost events
	reportSetAside  = "setAside"  // the bus gave up on an event
	reportUnaddress = "unaddressed"
	reportTrace     = "traceDropped"
	reportLate      = "late" // the node was late, by so much
	reportLog       = "log"  // an error
	reportFailed    = "failed"
	reportEnded     = "ended"
)

// shuttingDown is how the report begins that a node could not do everything when it shut down.
const shuttingDown = "shutting down: "

// report is a line that a node writes to its standard output.
type report struct {
	Kind       string    `json:"kind"`
	At         time.Time `json:"at"`
	URL        string    `json:"url,omitempty"`
	ID         string    `json:"id,omitempty"`
	Since      time.Time `json:"since,omitzero"`
	Until      time.Time `json:"until,omitzero"`
	Text       string    `json:"text,omitempty"`
	Goroutines int       `json:"goroutines,omitempty"` // that are left
	Heap       int64     `json:"heap,omitempty"`       // bytes
	Late       int64     `json:"late,omitempty"`       // ns
	Fine       bool      `json:"fine,omitempty"`
}

// reporter writes reports. All methods may be called concurrently.
type reporter struct {
	mu  sync.Mutex // guards out
	out io.Writer
}

func (r *reporter) say(x report) {
	x.At = time.Now()
	line, err := json.Marshal(x)
	if err != nil {
		panic(err) // cannot happen
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	_, _ = r.out.Write(append(line, '\n')) // who does not read has ended, and ends this process
}

// member is the server of a node, with what it needs.
type member struct {
	settings nodeSettings
	reports  *reporter
	rt       *realtime.Server
	bus      *redisbus.Bus
	http     *http.Server
	url      string
	over     chan struct{} // closed when http has ended
}

// runNode runs a node, and returns the exit status of the process.
func runNode(settings string) int {
	reports := &reporter{out: os.Stdout}
	m := &member{reports: reports}
	if err := json.Unmarshal([]byte(settings), &m.settings); err != nil {
		reports.say(report{Kind: reportFailed, Text: err.Error()})
		return 1
	}
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(3) // the parent has died
	}()
	before, heapBefore := runtime.NumGoroutine(), heap()
	if err := m.start(); err != nil {
		reports.say(report{Kind: reportFailed, Text: err.Error()})
		return 1
	}
	reports.say(report{Kind: reportReady, URL: m.url})
	m.watch(end)
	if err := m.stop(); err != nil {
		reports.say(report{Kind: reportFailed, Text: shuttingDown + err.Error()})
	}
	http.DefaultClient.CloseIdleConnections()
	for deadline := time.Now().Add(nodeLeak); runtime.NumGoroutine() > before && time.Now().Before(deadline); {
		time.Sleep(20 * time.Millisecond)
	}
	left := runtime.NumGoroutine() - before
	if left > 0 {
		_ = pprof.Lookup("goroutine").WriteTo(os.Stderr, 1)
	}
	reports.say(report{Kind: reportEnded, Goroutines: left, Heap: heap() - heapBefore})
	return 0
}

func (m *member) start() (err error) {
	logger := slog.New(&nodeLog{Handler: slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo}), reports: m.reports})
	say := m.reports.say
	m.bus, err = redisbus.New(redisbus.Options{
		URL: m.settings.Redis, Name: m.settings.Name, StartAlone: true, Logger: logger,
		OnGap: func(g redisbus.Gap) { say(report{Kind: reportBusGap, Text: g.Partition + ": " + g.Reason}) },
		OnSetAside: func(s redisbus.SetAside) {
			say(report{Kind: reportSetAside, ID: s.Event.ID, Text: fmt.Sprint(s.Reason)})
		},
	})
	if err != nil {
		return err
	}
	adapter, err := redisadapter.New(redisadapter.Options{URL: m.settings.Redis, Name: m.settings.Name, StartAlone: true, Logger: logger})
	if err != nil {
		return err
	}
	rows := &rows{url: m.settings.Rows}
	o := realtime.Options{
		Tokens: rows, Users: rows, Sessions: rows, Offers: rows, ExpireOffers: true, Bus: m.bus, Cluster: realtime.Cluster{Adapter: adapter},
		Logger: logger, Trace: m.trace(),
		Timeouts: realtime.Timeouts{
			PingInterval: pingInterval, PingTimeout: pingTimeout, PresenceGrace: presenceGrace, SweepInterval: 10 * time.Minute,
			UnavailableDelay: 500 * time.Millisecond, DrainDelay: time.Second,
		},
		Recovery: recoveryOptions(m.settings.Recovery),
		Limits:   realtime.Limits{SocketsPerUser: 50}, // sockets of a stopped node count until it goes on
		Rates:    realtime.Rates{Handshake: realtime.Rate{PerSecond: -1}},
	}
	if m.settings.LooksUp {
		o.Trips, o.Parties = rows, rows
	}
	if m.rt, err = realtime.New(o); err != nil {
		return err
	}
	for _, ns := range []*realtime.Namespace{m.rt.Drivers(), m.rt.Passengers(), m.rt.Admin()} {
		echo.Handle(ns, func(_ context.Context, _ *realtime.Socket, n int) (int, error) { return n, nil })
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle(realtime.Path, m.rt)
	mux.HandleFunc("POST /publish", m.publish)
	mux.HandleFunc("POST /probe", m.probe)
	mux.HandleFunc("GET /check", m.check)
	m.url, m.over = "http://"+l.Addr().String(), make(chan struct{})
	m.http = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
	go func() {
		defer close(m.over)
		_ = m.http.Serve(l) // it ends with Close
	}()
	return nil
}

// A node that has much to do, as when another one has started, is late although the machine is not.
const (
	lateStep  = 50 * time.Millisecond  // how often it looks
	lateLeast = 100 * time.Millisecond // what it reports
	probeStep = time.Second            // the age of the adapter's newest probe when nothing is late
)

// watch reports by how much the node is late until end: how long messages of other nodes wait, how far behind it
// reads them, and by how much longer than asked it sleeps.
func (m *member) watch(end <-chan os.Signal) {
	for {
		began := time.Now()
		select {
		case <-end:
			return
		case <-time.After(lateStep):
		}
		slept := time.Since(began)
		st := m.rt.Stats().Adapter
		if late := max(slept-lateStep, st.Wait, st.ProbeAge-probeStep); late >= lateLeast {
			m.reports.say(report{Kind: reportLate, Late: int64(late)})
		}
	}
}

// stop shuts the server down, and then the bus.
func (m *member) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), nodeShutdown)
	defer cancel()
	err := errors.Join(realtime.Shutdown(ctx, m.http, m.rt), m.bus.Close(ctx), m.http.Close())
	<-m.over
	return err
}

// trace reports what the oracle needs to know.
func (m *member) trace() *realtime.Trace {
	say := m.reports.say
	return &realtime.Trace{
		Delivered: func(_ context.Context, i realtime.DeliveredInfo) { say(report{Kind: reportHandled, ID: i.ID}) },
		Outdated: func(_ context.Context, i realtime.OutdatedInfo) {
			say(report{Kind: reportHandled, ID: i.ID, Text: "outdated"})
		},
		Unaddressed: func(_ context.Context, i realtime.UnaddressedInfo) {
			say(report{Kind: reportUnaddress, ID: i.ID, Text: i.Who})
		},
		Gap: func(_ context.Context, i realtime.GapInfo) {
			say(report{Kind: reportGap, ID: i.Peer, Since: i.Since, Until: i.Until, Text: i.Reason})
		},
		AdapterChanged: func(_ context.Context, i realtime.AdapterChangedInfo) {
			say(report{Kind: reportReceiving, Fine: i.Err == nil, Text: fmt.Sprint(i.Err)})
		},
		PeerJoined: func(_ context.Context, i realtime.PeerInfo) { say(report{Kind: reportPeer, Fine: true, Text: i.Name}) },
		PeerLost: func(_ context.Context, i realtime.PeerLostInfo) {
			say(report{Kind: reportPeer, Text: fmt.Sprintf("%s, died: %v", i.Name, i.Died)})
		},
		ClusterDropped: func(_ context.Context, i realtime.ClusterDroppedInfo) {
			say(report{Kind: reportDropped, Text: fmt.Sprint(i.Op, " ", i.State, " in ", i.Namespace, ": ", i.Reason)})
		},
		TraceDropped: func(context.Context, realtime.TraceDroppedInfo) { say(report{Kind: reportTrace}) },
	}
}

// publish publishes an event on the node's bus. The parent says until when: a node that was
// stopped must not publish what somebody else has published meanwhile.
func (m *member) publish(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Event    realtime.Envelope `json:"event"`
		Deadline time.Time         `json:"deadline"`
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithDeadline(r.Context(), in.Deadline)
	defer cancel()
	if err := errors.Join(ctx.Err(), m.bus.Publish(ctx, in.Event)); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
}

// probe emits a probe to the room of a trip.
func (m *member) probe(w http.ResponseWriter, r *http.Request) {
	var in probePayload
	err := json.NewDecoder(r.Body).Decode(&in)
	for _, ns := range []*realtime.Namespace{m.rt.Drivers(), m.rt.Passengers()} {
		if err == nil {
			err = probe.Emit(ns.To(realtime.TripRoom(in.Trip)), in)
		}
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// check is a health endpoint.
func (m *member) check(w http.ResponseWriter, r *http.Request) {
	if err := errors.Join(m.rt.Check(r.Context()), m.bus.Check(r.Context())); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
}

// nodeLog reports errors, besides writing them.
type nodeLog struct {
	slog.Handler
	reports *reporter
}

// Handle implements slog.Handler.
func (h *nodeLog) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelError {
		text := r.Message
		r.Attrs(func(a slog.Attr) bool {
			text += " " + a.String()
			return true
		})
		h.reports.say(report{Kind: reportLog, Text: text})
	}
	return h.Handler.Handle(ctx, r)
}

// heap returns the bytes in use after a collection.
func heap() int64 {
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc)
}
