// Command server is the library under the load generator: the public API, with
// repositories in memory, typed events, rooms, acks and the bus; sizes are limited
// as by default, rates and numbers are not. It keeps the contract in ../README.md.
//
// REDIS_URL makes it a node of a cluster, RECOVERY=1 recovers clients. STORE, a folder, gives it a backend
// with offers; in a cluster they go over the bus of package redisbus. SIGTERM shuts it down in order.
//
// NETCONN=1 hides that connections are plain TCP, so that the library treats them
// as it treats TLS, and any connection on systems without epoll.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"log"
	"net"
	"net/http"
	_ "net/http/pprof" // on the default mux, which only PPROF serves
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/redisadapter"
)

// repo reads a user's type off the id, and a session's owner off the session's.
type repo struct{}

func (repo) FindUser(_ context.Context, id string) (realtime.User, error) {
	u := realtime.User{ID: id, Active: true}
	switch {
	case strings.HasPrefix(id, "drv-"):
		u.Type = realtime.UserDriver
	case strings.HasPrefix(id, "pas-"):
		u.Type = realtime.UserPassenger
	case strings.HasPrefix(id, "adm-"):
		u.Type = realtime.UserAdmin
	default:
		return u, realtime.ErrNotFound
	}
	return u, nil
}

var owners = map[string]string{"sd": "drv", "sp": "pas", "sa": "adm"}

func (repo) FindSession(_ context.Context, sid string) (realtime.Session, error) {
	kind, rest, _ := strings.Cut(sid, "-")
	if owner, ok := owners[kind]; ok {
		return realtime.Session{ID: sid, UserID: owner + "-" + rest}, nil
	}
	return realtime.Session{}, realtime.ErrNotFound
}

// trip is what /bench/emit sends.
type trip struct {
	Seq    int    `json:"seq"`
	TripID string `json:"tripId"`
	Status string `json:"status"`
	Driver driver `json:"driver"`
	At     string `json:"at"`
	Clock  int64  `json:"clock,omitempty"` // ns of CLOCK_MONOTONIC, which all processes share
}

type driver struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Plate string `json:"plate"`
}

func main() {
	port, err := strconv.Atoi(os.Getenv("PORT"))
	if err != nil {
		log.Fatal("PORT: ", err)
	}
	tokens, err := realtime.NewJWTVerifier([]byte(os.Getenv("JWT_SECRET")), realtime.JWTOptions{Methods: []string{"HS256"}, AllowShortSecret: true})
	if err != nil {
		log.Fatal(err)
	}
	o := realtime.Options{
		Tokens:   tokens,
		Users:    repo{},
		Sessions: repo{},

		Unlimited: true,
	}
	if ms, err := strconv.Atoi(os.Getenv("PING_INTERVAL")); err == nil {
		o.Timeouts.PingInterval = time.Duration(ms) * time.Millisecond
	}
	if url := os.Getenv("REDIS_URL"); url != "" {
		if o.Cluster.Adapter, err = redisadapter.New(redisadapter.Options{URL: url, Name: strconv.Itoa(port)}); err != nil {
			log.Fatal(err)
		}
	}
	o.Recovery.Enabled = os.Getenv("RECOVERY") != ""
	mux := http.NewServeMux()
	closeBus := func(context.Context) error { return nil }
	if dir := os.Getenv("STORE"); dir != "" {
		b, err := newBackend(dir, os.Getenv("REDIS_URL"), &o)
		if err != nil {
			log.Fatal(err)
		}
		mux.HandleFunc("POST /bench/offer", b.offer)
		closeBus = b.close
	}
	rt, err := realtime.New(o)
	if err != nil {
		log.Fatal(err)
	}
	mux.Handle(realtime.Path, rt)
	mux.HandleFunc("POST /bench/emit", func(w http.ResponseWriter, r *http.Request) { emit(rt, w, r) })
	mux.HandleFunc("POST /bench/stream", func(w http.ResponseWriter, r *http.Request) { stream(rt, w, r) })
	mux.HandleFunc("GET /bench/stats", stats)
	if os.Getenv("PPROF") != "" {
		go func() { log.Print(http.ListenAndServe("127.0.0.1:"+strconv.Itoa(port+1000), nil)) }()
	}
	l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
	if err != nil {
		log.Fatal(err)
	}
	if os.Getenv("NETCONN") != "" {
		l = hidden{l}
	}
	srv := &http.Server{Handler: mux}
	ended := make(chan error)
	go func() { ended <- endInOrder(srv, rt, closeBus) }()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
	if err := <-ended; err != nil {
		log.Fatal(err)
	}
}

// endInOrder waits for SIGTERM and shuts the server down, and then the bus.
func endInOrder(srv *http.Server, rt *realtime.Server, closeBus func(context.Context) error) error {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	<-stop
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return errors.Join(realtime.Shutdown(ctx, srv, rt), closeBus(ctx))
}

// hidden is a listener whose connections are any net.Conn, as those of TLS are.
type hidden struct{ net.Listener }

func (h hidden) Accept() (net.Conn, error) {
	c, err := h.Listener.Accept()
	return struct{ net.Conn }{c}, err
}

// An emission is what /bench/emit and /bench/stream are to send.
type emission struct {
	ns       *realtime.Namespace
	event    realtime.Event[trip]
	first, n int
}

// newEmission answers the request if it cannot be met, and returns nil then.
func newEmission(rt *realtime.Server, w http.ResponseWriter, r *http.Request) *emission {
	q := r.URL.Query()
	ns := map[string]*realtime.Namespace{
		realtime.NamespaceDrivers: rt.Drivers(), realtime.NamespacePassengers: rt.Passengers(), realtime.NamespaceAdmin: rt.Admin(),
	}[q.Get("ns")]
	if ns == nil {
		http.Error(w, "no such namespace", http.StatusBadRequest)
		return nil
	}
	n, _ := strconv.Atoi(q.Get("n"))
	first, _ := strconv.Atoi(q.Get("first"))
	return &emission{ns, realtime.NewEvent[trip](q.Get("event")), first, max(n, 1)}
}

// send emits the i-th event; to all sockets of the namespace where no room is named.
func (e *emission) send(i int, clock int64, to ...realtime.Room) error {
	b := e.ns.All()
	if len(to) > 0 {
		b = e.ns.To(to...)
	}
	p := trip{e.first + i, "trip-000000000042", "started", driver{"drv-1", "Ana Maria", "P123456"}, "2026-11-22T19:00:00.000Z", clock}
	err := e.event.Emit(b, p)
	if err != nil {
		log.Print(err)
	}
	return err
}

func emit(rt *realtime.Server, w http.ResponseWriter, r *http.Request) {
	e := newEmission(rt, w, r)
	if e == nil {
		return
	}
	var rooms []realtime.Room
	lines := bufio.NewScanner(r.Body)
	for lines.Scan() {
		rooms = append(rooms, room(lines.Text()))
	}
	if len(rooms) == 0 {
		rooms = append(rooms, room(r.URL.Query().Get("room")))
	}
	for i := range e.n {
		for _, to := range rooms {
			if err := e.send(i, 0, to); err != nil {
				http.Error(w, "not emitted", http.StatusServiceUnavailable)
				return
			}
		}
	}
}

// stream emits at a set rate, each millisecond what is due, and says when.
func stream(rt *realtime.Server, w http.ResponseWriter, r *http.Request) {
	e := newEmission(rt, w, r)
	if e == nil {
		return
	}
	var to []realtime.Room
	if name := r.URL.Query().Get("room"); name != "" {
		to = append(to, room(name))
	}
	rate, _ := strconv.ParseFloat(r.URL.Query().Get("rate"), 64)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for i, began := 0, time.Now(); i < e.n; {
		for due := min(e.n, int(time.Since(began).Seconds()*rate)+1); i < due; i++ {
			if err := e.send(i, monotonic(), to...); err != nil {
				http.Error(w, "not emitted", http.StatusServiceUnavailable)
				return
			}
		}
		if i < e.n {
			<-tick.C
		}
	}
}

func monotonic() int64 {
	const clockMonotonic = 1
	var ts syscall.Timespec
	syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clockMonotonic, uintptr(unsafe.Pointer(&ts)), 0)
	return ts.Nano()
}

func room(name string) (r realtime.Room) {
	if err := r.UnmarshalText([]byte(name)); err != nil {
		log.Print(err)
	}
	return r
}

func stats(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("gc") == "1" {
		runtime.GC()
		debug.FreeOSMemory()
	}
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
	metrics.Read(s)
	fds, _ := os.ReadDir("/proc/self/fd")
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]uint64{ // nobody is there to read it if this fails
		"heap": s[0].Value.Uint64(), "stack": s[1].Value.Uint64(),
		"goroutines": uint64(runtime.NumGoroutine()), "handles": uint64(len(fds)),
	})
}
