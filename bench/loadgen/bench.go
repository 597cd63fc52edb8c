// What the modes share: connecting, waiting, asking the server for its figures.

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// A bench is one run of one mode.
type bench struct {
	cfg  config
	kind kind      // of the sockets
	rest []*target // the servers after the first
	l    *loop
	pids []int
	toks *tokens
	res  result
}

// runID makes the users of this run different from those of any other.
var runID = strconv.FormatInt(time.Now().UnixMilli()%1e7, 36) + strconv.FormatInt(int64(os.Getpid()), 36)

func newRole(nsp, userType, sub, sid string) *role {
	id := func(prefix string) func(int) string {
		return func(i int) string { return fmt.Sprintf("%s-%s-%06d", prefix, runID, i) }
	}
	return &role{nsp: nsp, userType: userType, sub: id(sub), sid: id(sid)}
}

func driverRole() *role    { return newRole("/drivers", "driver", "drv", "sd") }
func passengerRole() *role { return newRole("/passengers", "passenger", "pas", "sp") }
func adminRole() *role     { return newRole("/admin", "admin", "adm", "sa") }

func roleOf(nsp string) *role {
	switch nsp {
	case "/drivers":
		return driverRole()
	case "/admin":
		return adminRole()
	}
	return passengerRole()
}

func (b *bench) newConn(r *role, user int) *conn {
	c := &conn{kind: b.kind, to: r.to, role: r, user: user, lastSeq: -1}
	if i := user % (1 + len(b.rest)); r.spread && i > 0 {
		c.to = b.rest[i-1]
	}
	return c
}

// connectAll brings up n sockets of a role, at most conc handshakes at a time,
// and returns those that are ready and how long each took in nanoseconds.
func (b *bench) connectAll(r *role, n, conc int) (ready []*conn, took []int64, failed int) {
	if len(b.toks.cache[r]) < n {
		b.toks.prepare(r, n)
	}
	was := b.l.h
	defer func() { b.l.h = was }()
	pending := 0
	b.l.h = handler{
		ready: func(c *conn) {
			took = append(took, nanos()-c.started)
			pending--
		},
		closed: func(_ *conn, why string) {
			b.l.failures[why]++
			failed++
			pending--
		},
	}
	var list []*conn
	scanned := nanos()
	for next := 0; next < n || pending > 0; {
		for ; next < n && pending < conc; next++ {
			c := b.newConn(r, next)
			if err := b.l.open(c); err != nil {
				b.l.failures["open: "+err.Error()]++
				failed++
				continue
			}
			pending++
			list = append(list, c)
		}
		b.l.poll(100 * time.Millisecond)
		now := nanos()
		if now-scanned < int64(time.Second) {
			continue
		}
		scanned = now
		for _, c := range list {
			if c.state != stReady && c.state != stClosed && now-c.started > int64(b.cfg.handshake) {
				b.l.drop(c, "handshake timed out")
			}
		}
	}
	for _, c := range list {
		if c.state == stReady {
			ready = append(ready, c)
		}
	}
	return ready, took, failed
}

// crowd connects what a mode measures with; nothing useful follows without it.
func (b *bench) crowd(r *role, n int) []*conn {
	list, _, failed := b.connectAll(r, n, min(b.cfg.conc, 32))
	if failed > 0 || len(list) == 0 {
		b.res.bad("%d of %d failed to connect: %v", failed, n, b.l.failures)
	}
	return list
}

// warmup opens and closes sockets, so that what a server allocates once is there.
func (b *bench) warmup(r *role) {
	b.toks.prepare(r, max(b.cfg.conns, b.cfg.warmConns))
	if b.cfg.warmConns <= 0 {
		return
	}
	list, _, _ := b.connectAll(r, b.cfg.warmConns, 32)
	b.l.h = handler{}
	for _, c := range list {
		if c.state == stReady {
			b.l.dial.bye(b.l, c)
		}
	}
	b.until(3*time.Second, func() bool {
		for _, c := range list {
			if c.state != stClosed {
				return false
			}
		}
		return true
	})
	b.killAll(list)
	b.spin(1500 * time.Millisecond)
}

func (b *bench) killAll(list []*conn) {
	for _, c := range list {
		b.l.kill(c)
	}
}

// spin handles what happens for d.
func (b *bench) spin(d time.Duration) {
	for end := nanos() + int64(d); nanos() < end; {
		b.l.poll(time.Duration(end - nanos()))
	}
}

// until handles what happens until done, at most for limit.
func (b *bench) until(limit time.Duration, done func() bool) bool {
	for end := nanos() + int64(limit); !done(); {
		if nanos() > end {
			return false
		}
		b.l.poll(20 * time.Millisecond)
	}
	return true
}

// stats requests /bench/stats, after a collection; nil if the server has none.
func (b *bench) stats() map[string]float64 {
	client := http.Client{Timeout: 20 * time.Second}
	defer client.CloseIdleConnections()
	resp, err := client.Get(b.cfg.server + "/bench/stats?gc=1")
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	m := map[string]float64{}
	if resp.StatusCode != http.StatusOK || json.NewDecoder(resp.Body).Decode(&m) != nil {
		return nil
	}
	return m
}

// emit makes the server emit n events to each of the rooms and waits until done
// says that what it wants has arrived.
func (b *bench) emit(posts **conn, nsp string, n int, rooms []string, limit time.Duration, done func() bool) bool {
	path := "/bench/emit?ns=" + nsp + "&event=" + evTrip + "&n=" + strconv.Itoa(n)
	var body []byte
	if len(rooms) == 1 {
		path += "&room=" + rooms[0]
	} else {
		body = []byte(strings.Join(rooms, "\n"))
	}
	return b.post(posts, path, body, limit, done)
}

// stream makes the server emit n events to a room at a rate, and waits as emit does.
func (b *bench) stream(posts **conn, nsp, room string, n int, rate float64, limit time.Duration, done func() bool) bool {
	path := fmt.Sprintf("/bench/stream?ns=%s&event=%s&n=%d&room=%s&rate=%g", nsp, evTrip, n, room, rate)
	return b.post(posts, path, nil, limit, done)
}

func (b *bench) post(posts **conn, path string, body []byte, limit time.Duration, done func() bool) bool {
	status := 0
	if err := b.l.postTo(posts, path, body, func(s int, _ []byte) { status = s }); err != nil {
		b.res.bad("emit: %v", err)
		return false
	}
	all := b.until(limit, func() bool { return status == statusLost || status != 0 && done() })
	if status != 200 && status != 204 {
		b.res.bad("emit: HTTP %d", status)
		return false
	}
	return all
}
