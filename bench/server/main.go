// Command server is the library under the load generator: the public API, with
// repositories in memory, typed events, rooms, acks and the bus, and every limit
// as a host has it.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"log"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"time"

	_ "net/http/pprof"

	"github.com/rodando/realtime"
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

func (repo) FindSession(_ context.Context, sid string) (realtime.Session, error) {
	for prefix, owner := range map[string]string{"sd-": "drv-", "sp-": "pas-", "sa-": "adm-"} {
		if rest, ok := strings.CutPrefix(sid, prefix); ok {
			return realtime.Session{ID: sid, UserID: owner + rest}, nil
		}
	}
	return realtime.Session{}, realtime.ErrNotFound
}

// seq is what /bench/emit sends.
type seq struct {
	Seq  int    `json:"seq"`
	Trip string `json:"tripId"`
	At   string `json:"at"`
	From string `json:"previousStatus"`
	To   string `json:"currentStatus"`
	ID   string `json:"eventId"`
}

func main() {
	o := realtime.Options{
		Tokens:   realtime.NewJWTVerifier([]byte(os.Getenv("JWT_SECRET")), realtime.JWTOptions{Methods: []string{"HS256"}}),
		Users:    repo{},
		Sessions: repo{},
	}
	if ms, err := strconv.Atoi(os.Getenv("PING_INTERVAL")); err == nil {
		o.PingInterval = time.Duration(ms) * time.Millisecond
	}
	rt, err := realtime.New(o)
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle(realtime.Path, rt)
	mux.HandleFunc("POST /bench/emit", func(_ http.ResponseWriter, r *http.Request) { emit(rt, r) })
	mux.HandleFunc("GET /bench/stats", stats)
	if port, err := strconv.Atoi(os.Getenv("PORT")); err == nil && os.Getenv("PPROF") != "" {
		go func() { log.Print(http.ListenAndServe("127.0.0.1:"+strconv.Itoa(port+1000), nil)) }()
	}
	l, err := net.Listen("tcp", "127.0.0.1:"+os.Getenv("PORT"))
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal((&http.Server{Handler: mux}).Serve(l))
}

func emit(rt *realtime.Server, r *http.Request) {
	q := r.URL.Query()
	n, _ := strconv.Atoi(q.Get("n"))
	ns := map[string]*realtime.Namespace{
		realtime.NamespaceDrivers: rt.Drivers(), realtime.NamespacePassengers: rt.Passengers(), realtime.NamespaceAdmin: rt.Admin(),
	}[q.Get("ns")]
	event := realtime.NewEvent[seq](q.Get("event"))
	var rooms []realtime.Room
	lines := bufio.NewScanner(r.Body)
	for lines.Scan() {
		rooms = append(rooms, room(lines.Text()))
	}
	if len(rooms) == 0 {
		rooms = append(rooms, room(q.Get("room")))
	}
	for i := range n {
		p := seq{i, "6b8f1c52-0d6f-4a39-9f6e-2f0c5b1d7e11", "2026-01-02T03:04:05.678Z", "accepted", "in_progress", "0c9a7f64-3f1e-4a57-8f0d-93b1a0c6d2e4"}
		for _, to := range rooms {
			if err := event.Emit(ns.To(to), p); err != nil {
				log.Print(err)
			}
		}
	}
}

func room(name string) realtime.Room {
	kind, id, _ := strings.Cut(name, ":")
	return realtime.NewRoom(kind, id)
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
	_ = json.NewEncoder(w).Encode(map[string]uint64{
		"heap": s[0].Value.Uint64(), "stack": s[1].Value.Uint64(),
		"goroutines": uint64(runtime.NumGoroutine()), "handles": uint64(len(fds)),
	})
}
