// Package contract is what every Go peer shares: the token, the endpoints under
// /bench/ and the message of about 150 bytes. See ../../README.md.
package contract

import (
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	_ "net/http/pprof" // on the default mux, which only PPROF serves
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"github.com/golang-jwt/jwt/v5"
)

// Secret signs the tokens.
var Secret = []byte(os.Getenv("JWT_SECRET"))

// Port is where to listen; with PPROF set, profiles are served 1000 above it.
func Port() int {
	port, err := strconv.Atoi(os.Getenv("PORT"))
	if err != nil {
		log.Fatal("PORT: ", err)
	}
	if os.Getenv("PPROF") != "" {
		go func() { log.Print(http.ListenAndServe("127.0.0.1:"+strconv.Itoa(port+1000), nil)) }()
	}
	return port
}

// Addr is Port on the loopback interface.
func Addr() string { return "127.0.0.1:" + strconv.Itoa(Port()) }

// PingInterval is the heartbeat, 25 s unless PING_INTERVAL says otherwise in
// milliseconds.
func PingInterval() time.Duration {
	if ms, err := strconv.Atoi(os.Getenv("PING_INTERVAL")); err == nil {
		return time.Duration(ms) * time.Millisecond
	}
	return 25 * time.Second
}

// Claims are what a token says.
type Claims struct {
	SessionID string `json:"sid"`
	UserType  string `json:"userType"`
	jwt.RegisteredClaims
}

var parser = jwt.NewParser(jwt.WithValidMethods([]string{"HS256"}))

// Verify checks a token.
func Verify(token string) (*Claims, error) {
	var c Claims
	if _, err := parser.ParseWithClaims(token, &c, func(*jwt.Token) (any, error) { return Secret, nil }); err != nil {
		return nil, err
	}
	if c.Subject == "" {
		return nil, errors.New("no sub")
	}
	return &c, nil
}

// Rooms are what a socket joins in a namespace.
func Rooms(nsp, sub, sid string) [2]string {
	switch nsp {
	case "/drivers":
		return [2]string{"driver:" + sub, "session:" + sid}
	case "/passengers":
		return [2]string{"passenger:" + sub, "session:" + sid}
	}
	return [2]string{"admin:all", "admin:drivers"}
}

// A Trip is what /bench/emit sends.
type Trip struct {
	Seq    int    `json:"seq"`
	TripID string `json:"tripId"`
	Status string `json:"status"`
	Driver Driver `json:"driver"`
	At     string `json:"at"`
	Clock  int64  `json:"clock,omitempty"` // ns of CLOCK_MONOTONIC, which all processes share
}

// A Driver is a part of Trip.
type Driver struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Plate string `json:"plate"`
}

// NewTrip makes the i-th.
func NewTrip(i int) *Trip {
	return &Trip{i, "trip-000000000042", "started", Driver{"drv-1", "Ana Maria", "P123456"}, "2026-11-22T19:00:00.000Z", 0}
}

// A Position is the body of driver:location:ping.
type Position struct {
	Lat float64 `json:"lat"`
	Lng float64 `json:"lng"`
}

// An Update is the body of driver:location:update.
type Update struct {
	DriverID string   `json:"driverId"`
	Last     Position `json:"lastLocation"`
	At       string   `json:"lastLocationTimestamp"`
}

// TimeFormat is ISO 8601 in UTC with milliseconds.
const TimeFormat = "2006-01-02T15:04:05.000Z"

// NewUpdate is an update of now.
func NewUpdate(driver string, p Position) Update {
	return Update{driver, p, time.Now().UTC().Format(TimeFormat)}
}

// An Emitter sends NewTrip(i) as event to a room of a namespace.
type Emitter func(nsp, room, event string, i int)

// Emit handles a request to /bench/emit.
func Emit(r *http.Request, emit Emitter) {
	body, _ := io.ReadAll(r.Body) // of the generator: complete, or nobody waits
	q := r.URL.Query()
	n, _ := strconv.Atoi(q.Get("n"))
	first, _ := strconv.Atoi(q.Get("first"))
	rooms := []string{q.Get("room")}
	if len(body) > 0 {
		rooms = strings.Fields(string(body))
	}
	nsp, event := q.Get("ns"), q.Get("event")
	for i := range max(n, 1) {
		for _, room := range rooms {
			emit(nsp, room, event, first+i)
		}
	}
}

// Stream handles a request to /bench/stream: it emits at a set rate, each millisecond
// what is due, and says when.
func Stream(r *http.Request, emit func(nsp, room string, t *Trip)) {
	q := r.URL.Query()
	n, _ := strconv.Atoi(q.Get("n"))
	rate, _ := strconv.ParseFloat(q.Get("rate"), 64)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for i, began := 0, time.Now(); i < n; {
		for due := min(n, int(time.Since(began).Seconds()*rate)+1); i < due; i++ {
			t := NewTrip(i)
			t.Clock = monotonic()
			emit(q.Get("ns"), q.Get("room"), t)
		}
		if i < n {
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

// Mount adds the endpoints under /bench/ to mux; done, unless nil, is called
// when all is emitted.
func Mount(mux *http.ServeMux, emit Emitter, done func()) {
	mux.HandleFunc("POST /bench/emit", func(_ http.ResponseWriter, r *http.Request) {
		Emit(r, emit)
		if done != nil {
			done()
		}
	})
	mux.HandleFunc("GET /bench/stats", func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(Stats(r))
	})
}

// Stats answers /bench/stats.
func Stats(r *http.Request) []byte {
	if r.URL.Query().Get("gc") != "" {
		runtime.GC()
		debug.FreeOSMemory()
	}
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
	metrics.Read(s)
	fds, _ := os.ReadDir("/proc/self/fd")
	b, _ := json.Marshal(map[string]uint64{ // numbers only
		"heap": s[0].Value.Uint64(), "stack": s[1].Value.Uint64(),
		"goroutines": uint64(runtime.NumGoroutine()), "handles": uint64(len(fds)),
	})
	return b
}
