// hold: one of several generators of compare's scale. It connects drivers, keeps them, brings
// back those that are closed as a stock client does, and says on standard output what happens,
// a line of JSON each, until standard input ends.

package main

import (
	"encoding/json"
	"io"
	"math/rand/v2"
	"os"
	"time"
)

const (
	holdStep   = 20 * time.Millisecond
	quietAfter = 15 * time.Second // after which what is missing of a broadcast is lost
	firstDelay = time.Second
	mostDelay  = 5 * time.Second
)

// backoff is what socket.io-client waits before it connects again, in ns: a second, doubled by each
// attempt that failed, ± half, at most five. random is from 0 to 1.
func backoff(failed int, random float64) int64 {
	return int64(min(float64(firstDelay<<min(failed, 8))*(0.5+random), float64(mostDelay)))
}

// A holder keeps the sockets.
type holder struct {
	b     *bench
	out   *json.Encoder
	ready int

	got     int     // copies of the broadcast under way
	lat     []int64 // their latencies
	gotLast int64

	looked int64 // when it looked for handshakes that take too long

	wait []waiting // those that are to connect again
	lost int       // sockets closed since all were ready
	from int64     // when the first of them was closed
	back []int64   // ns from the loss of each one until it was ready again
}

type waiting struct {
	user, attempt int
	lost, due     int64
}

// A said is a line of what a holder says.
type said struct {
	What   string  `json:"what"` // in, broadcast or back
	Count  int     `json:"count"`
	Failed int     `json:"failed,omitempty"`
	P50    float64 `json:"p50,omitempty"` // ms
	P99    float64 `json:"p99,omitempty"`
	Max    float64 `json:"max,omitempty"`
}

func (b *bench) hold() { b.holdUntil(os.Stdin, os.Stdout) }

// holdUntil holds until in ends.
func (b *bench) holdUntil(in io.Reader, out io.Writer) {
	h := &holder{b: b, out: json.NewEncoder(out)}
	r := driverRole()
	began := nanos()
	list, _, failed := b.connectAll(r, b.cfg.conns, b.cfg.conc)
	h.ready = len(list)
	h.say(said{What: "in", Count: h.ready, Failed: failed, Max: seconds(nanos()-began) * 1e3})
	if failed > 0 {
		b.res.bad("%d failed to connect: %v", failed, b.l.failures)
		return
	}
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, in)
		close(ended)
	}()
	pending := map[*conn]waiting{}
	b.l.h = handler{
		event: func(_ *conn, name string, data []byte) {
			if name == evTrip {
				h.got++
				h.gotLast = b.l.now
				h.lat = append(h.lat, b.l.now+sinceBoot-clockOf(data))
			}
		},
		ready: func(c *conn) {
			h.ready++
			h.back = append(h.back, b.l.now-pending[c].lost)
			delete(pending, c)
		},
		closed: func(c *conn, _ string) {
			w, again := pending[c]
			delete(pending, c)
			if !again {
				h.ready--
				if h.lost == 0 {
					h.from = b.l.now
				}
				h.lost++
				w = waiting{user: c.user, lost: b.l.now}
			}
			h.again(w)
		},
	}
	for {
		select {
		case <-ended:
			return
		default:
		}
		b.l.poll(holdStep)
		h.connectDue(r, pending)
		h.report()
	}
}

// again makes a user connect again after the delay of a stock client.
func (h *holder) again(w waiting) {
	w.due = h.b.l.now + backoff(w.attempt, rand.Float64())
	w.attempt++
	h.wait = append(h.wait, w)
}

// connectDue opens the connections that are due, each time to another of the servers.
func (h *holder) connectDue(r *role, pending map[*conn]waiting) {
	now := nanos()
	h.dropSlow(pending, now)
	kept := h.wait[:0]
	due := h.wait
	h.wait = nil
	for _, w := range due {
		if w.due > now || len(pending) >= h.b.cfg.returns {
			kept = append(kept, w)
			continue
		}
		c := h.b.newConn(r, w.user)
		if n := len(h.b.rest); n > 0 {
			c.to = h.b.rest[(w.user+w.attempt)%n]
		}
		pending[c] = w
		if err := h.b.l.open(c); err != nil {
			delete(pending, c)
			h.again(w)
		}
	}
	h.wait = append(kept, h.wait...)
}

// dropSlow ends handshakes that take too long, as a client does.
func (h *holder) dropSlow(pending map[*conn]waiting, now int64) {
	if now-h.looked < int64(time.Second) {
		return
	}
	h.looked = now
	for c := range pending {
		if now-c.started > int64(h.b.cfg.handshake) {
			h.b.l.drop(c, "handshake timed out")
		}
	}
}

// report says what is complete.
func (h *holder) report() {
	now := nanos()
	if h.got >= h.ready && h.got > 0 || h.got > 0 && now-h.gotLast > int64(quietAfter) {
		h.say(said{What: "broadcast", Count: h.got, P50: quantile(h.lat, .5), P99: quantile(h.lat, .99), Max: quantile(h.lat, 1)})
		h.got, h.lat = 0, nil
	}
	if h.lost > 0 && (h.ready == h.b.cfg.conns || now-h.from > int64(h.b.cfg.within)) {
		h.say(said{What: "back", Count: h.lost, Failed: h.b.cfg.conns - h.ready, P50: quantile(h.back, .5), P99: quantile(h.back, .99), Max: quantile(h.back, 1)})
		h.lost, h.back = 0, nil
	}
}

func (h *holder) say(s said) { _ = h.out.Encode(s) } // compare notices when it does not read it
