// What the page at / shows of the server: which domain events were delivered to how many sockets,
// which calls were answered, and numbers. Trace collects it, and the admins who have asked for it
// receive it.

package main

import (
	"context"
	"crypto/rand"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/rodando/realtime"
)

// watchRoom has the admins who have called demoWatch.
var watchRoom = realtime.NewRoom("demo", "watch")

var (
	demoWatch  = realtime.NewCall[realtime.None, realtime.None]("demo:watch")
	demoReport = realtime.NewEvent[report]("demo:report")
)

// report is what has happened on an instance since its last one. It has neither payloads nor
// positions.
type report struct {
	Node       string      `json:"node"`
	Deliveries []delivered `json:"deliveries"`
	Calls      []answered  `json:"calls"`
	Ends       []ended     `json:"ends"`
	Counters   *counters   `json:"counters"` // once a second
}

// delivered is a domain event; those about positions are only counted.
type delivered struct {
	Event string          `json:"event"`
	ID    string          `json:"id"`
	At    realtime.Time   `json:"at"` // when it was published
	To    []audienceCount `json:"to"`
}

type audienceCount struct {
	Event     string `json:"event"`
	Audience  string `json:"audience"`
	Receivers int    `json:"receivers"`
}

// answered is a call of a client, but for positions.
type answered struct {
	Namespace string  `json:"nsp"`
	User      string  `json:"userId"`
	Event     string  `json:"event"`
	Code      string  `json:"code"` // empty on success
	Millis    float64 `json:"ms"`
	Bytes     int     `json:"bytes"`
}

// ended is a socket that has disconnected.
type ended struct {
	Namespace string `json:"nsp"`
	User      string `json:"userId"`
	Reason    string `json:"reason"`
}

// counters are numbers about the last second, and of the moment.
type counters struct {
	Sockets  map[string]int `json:"sockets"` // by namespace
	In       float64        `json:"in"`      // events a second
	Out      float64        `json:"out"`     // events a second, one for each receiver
	OutBytes float64        `json:"outBytes"`
	P99      float64        `json:"p99"`    // milliseconds of answering an event, of the last ten seconds
	Unsent   int            `json:"unsent"` // messages that wait for slow clients
}

// maxReported is how many rows of a kind one report has at most.
const maxReported = 200

// watch collects what the next report has.
type watch struct {
	node string

	mu       sync.Mutex // guards the fields below
	next     report
	in       int
	out      int
	outBytes int
	times    [10][]float64 // milliseconds of answers, by second
	second   int
}

func newWatch() *watch { return &watch{node: rand.Text()[:8]} }

// trace returns the functions that collect.
func (w *watch) trace() *realtime.Trace {
	return &realtime.Trace{
		Delivered: func(_ context.Context, i realtime.DeliveredInfo) {
			if i.Event == (realtime.DriverLocationChanged{}).EventName() {
				return
			}
			d := delivered{Event: i.Event, ID: i.ID, At: realtime.Time{Time: time.Now().Add(-i.Age)}, To: []audienceCount{}}
			for _, a := range i.Audiences {
				d.To = append(d.To, audienceCount{a.Event, a.Audience, a.Receivers})
			}
			w.locked(func() { w.next.Deliveries = atMost(append(w.next.Deliveries, d)) })
		},
		Handled: func(_ context.Context, i realtime.HandledInfo) {
			ms := millis(i.Duration)
			w.locked(func() {
				w.in++
				w.times[w.second] = append(w.times[w.second], ms)
				if i.Event != realtime.DriverLocationPing.Name() {
					w.next.Calls = atMost(append(w.next.Calls, answered{i.Namespace, i.UserID, i.Event, string(i.Code), ms, i.Bytes}))
				}
			})
		},
		Emitted: func(_ context.Context, i realtime.EmittedInfo) {
			if i.Event == demoReport.Name() {
				return // or the page would count itself
			}
			w.locked(func() { w.out += i.Receivers; w.outBytes += i.Receivers * i.Bytes })
		},
		Disconnected: func(_ context.Context, i realtime.DisconnectedInfo) {
			w.locked(func() { w.next.Ends = atMost(append(w.next.Ends, ended{i.Namespace, i.UserID, string(i.Reason)})) })
		},
	}
}

func (w *watch) locked(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// atMost drops the oldest rows beyond maxReported.
func atMost[T any](rows []T) []T { return rows[max(0, len(rows)-maxReported):] }

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// take returns the report so far and begins a new one. With numbers it has those since the last
// one with numbers, which was a second ago.
func (w *watch) take(numbers bool) report {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.next
	w.next = report{}
	r.Node = w.node
	if numbers {
		r.Counters = &counters{In: float64(w.in), Out: float64(w.out), OutBytes: float64(w.outBytes), P99: percentile(slices.Concat(w.times[:]...), 0.99)}
		w.in, w.out, w.outBytes = 0, 0, 0
		w.second = (w.second + 1) % len(w.times)
		w.times[w.second] = w.times[w.second][:0]
	}
	return r
}

// percentile returns the smallest value that is not below a part of them, or 0 if there is none.
func percentile(values []float64, part float64) float64 {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[min(len(values)-1, int(part*float64(len(values))))]
}

// report emits a report four times a second, and one with numbers every second, until ctx ends.
func (w *watch) report(ctx context.Context, rt *realtime.Server) {
	ticker := time.NewTicker(250 * time.Millisecond)
	defer ticker.Stop()
	for n := 0; ; n++ {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		r := w.take(n%4 == 0)
		if r.Counters != nil {
			st := rt.Stats()
			r.Counters.Unsent, r.Counters.Sockets = st.Outbox.Messages, map[string]int{}
			for _, ns := range st.Namespaces {
				for _, count := range ns.Sockets {
					r.Counters.Sockets[ns.Name] += count
				}
			}
		}
		if r.Counters != nil || len(r.Deliveries)+len(r.Calls)+len(r.Ends) > 0 {
			_ = demoReport.Emit(rt.Admin().To(watchRoom).Volatile(), r) // it fails only if a report is too large, and the next one is not
		}
	}
}

// handle lets admins ask for the reports.
func (w *watch) handle(rt *realtime.Server) {
	demoWatch.Handle(rt.Admin(), func(_ context.Context, s *realtime.Socket, _ realtime.None) (realtime.None, error) {
		s.Join(watchRoom)
		return realtime.None{}, nil
	})
}

// drain does to the clients of this instance what a shutdown does: each socket receives
// server:drain, and its connection is closed, so that stock clients come back. The instance goes on.
func (a *app) drain(r *http.Request, _ caller) (any, error) {
	all := []realtime.Broadcast{a.rt.Drivers().All().Local(), a.rt.Passengers().All().Local(), a.rt.Admin().All().Local()}
	closed := 0
	for _, sockets := range all {
		n, err := sockets.Count(r.Context())
		if err == nil {
			err = realtime.EventServerDrain.Emit(sockets, realtime.ServerDrainPayload{})
		}
		if err != nil {
			return nil, err
		}
		closed += n
	}
	for _, sockets := range all {
		sockets.Close()
	}
	return map[string]int{"closed": closed}, nil
}
