// drops: clients whose network goes away and comes back at times that a seed says, while events
// are published, each to one of them, and offers are made. What of it arrives, once and in order,
// and when?

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"time"
)

const (
	dropsStep = 5 * time.Millisecond
	// After so long without an event and with all clients connected, nothing more comes.
	dropsQuiet = 3 * time.Second
	dropsLimit = time.Minute // for all to come back at the end
	cutSpread  = 10          // the longest cut to the shortest
)

// A cut is a time without network.
type cut struct {
	at, until int64 // ns from the start
	unseen    bool  // the server does not see the connection end
}

// cuts returns those of one client in the order of time: it is connected for up, half as long to
// half as long again, then cut for most at most and a tenth of that at least.
func cuts(rnd *rand.Rand, whole, up, most time.Duration, unseen float64) (list []cut) {
	at := up.Seconds() * rnd.Float64()
	for at < whole.Seconds() {
		d := most.Seconds() * (1 + (cutSpread-1)*rnd.Float64()) / cutSpread
		list = append(list, cut{int64(at * 1e9), int64((at + d) * 1e9), rnd.Float64() < unseen})
		at += d + up.Seconds()*(0.5+rnd.Float64())
	}
	return list
}

// A dropped is one client.
type dropped struct {
	user    int
	kept    kept
	conn    *conn // nil while it waits
	cuts    []cut // those that are to come
	next    int64 // when it connects
	failed  int   // attempts in a row
	opened  int   // connections in all
	wasHere bool  // it was connected before
}

// A dropper runs the mode.
type dropper struct {
	b       *bench
	say     *json.Encoder
	role    *role
	clients []*dropped
	ledger  *ledger
	pub     *publisher
	offers  *offers // nil if there are none
	rnd     *rand.Rand
	began   int64
	unseen  []*conn // cut, and open: the server must not see them end

	recovered, returns int
}

func (b *bench) drops() { b.dropsTo(os.Stdout) }

// dropsTo runs the mode, and says to out when servers are to be restarted and killed.
func (b *bench) dropsTo(out io.Writer) {
	n := max(1, int(b.cfg.rate*b.cfg.dur.Seconds()))
	d := &dropper{
		b: b, say: json.NewEncoder(out), role: driverRole(), ledger: newLedger(b.cfg.conns, n),
		rnd: rand.New(rand.NewPCG(b.cfg.seed, 1)),
	}
	b.toks.prepare(d.role, b.cfg.conns)
	for i := range b.cfg.conns {
		// Each client's times are its own, whatever the others do.
		rnd := rand.New(rand.NewPCG(b.cfg.seed, 2+uint64(i)))
		d.clients = append(d.clients, &dropped{user: i, cuts: cuts(rnd, b.cfg.dur, b.cfg.up, b.cfg.cut, b.cfg.unseen)})
	}
	d.publish(n)
	b.l.h = handler{event: d.event, ack: d.ack, ready: d.ready, closed: d.closed}
	if !d.connectAll() {
		b.res.bad("not all of %d connected: %v", b.cfg.conns, b.l.failures)
		return
	}
	w := b.begin()
	d.began = nanos()
	d.run()
	s := b.end(w)
	b.res.add("clients", float64(b.cfg.conns), "")
	b.res.add("seconds", b.cfg.dur.Seconds(), "s")
	d.ledger.report(&b.res)
	if d.offers != nil {
		d.offers.report(&b.res)
	}
	b.res.add("recovered_pct", 100*per(float64(d.recovered), int64(d.returns)), "%")
	b.res.add("publish_retries", float64(d.pub.retries), "")
	b.res.usage("", s)
	for _, c := range d.clients {
		if c.conn == nil || c.conn.state != stReady {
			b.res.bad("client %d did not come back: %v", c.user, b.l.failures)
			break
		}
	}
	for _, c := range d.clients {
		if c.conn != nil {
			b.l.kill(c.conn)
		}
	}
	b.killAll(d.unseen)
}

// publish prepares to publish n events, and the offers.
func (d *dropper) publish(n int) {
	rnd := rand.New(rand.NewPCG(d.b.cfg.seed, 0))
	d.pub = newPublisher(d.b, d.b.cfg.rate, n)
	d.pub.next = func(int64) int { return d.ledger.add(rnd.IntN(d.b.cfg.conns)) }
	d.pub.path = func(n int) string {
		return fmt.Sprintf("/bench/emit?ns=%s&room=driver:%s&event=%s&first=%d", d.role.nsp, d.role.sub(d.ledger.events[n].user), evTrip, n)
	}
	d.pub.published = func(n int, _ int64, how outcome) { d.ledger.published(n, how) }
	if d.b.cfg.offers == 0 {
		return
	}
	var all [][]cut
	for _, c := range d.clients {
		all = append(all, c.cuts)
	}
	d.offers = newOffers(d.b, d.role, all)
}

// connectAll brings all up, some at a time.
func (d *dropper) connectAll() bool {
	return d.b.until(dropsLimit, func() bool {
		ready, under := 0, 0
		for _, c := range d.clients {
			switch {
			case c.conn == nil && under < d.b.cfg.conc && nanos() >= c.next:
				d.open(c)
				under++
			case c.conn != nil && c.conn.state == stReady:
				ready++
			case c.conn != nil:
				under++
			}
		}
		return ready == len(d.clients)
	})
}

// run lets everything happen until all is published and has arrived, or nothing more arrives.
func (d *dropper) run() {
	faults := []struct {
		at   int64
		what string
	}{{int64(d.b.cfg.dur) / 3, "restart"}, {int64(d.b.cfg.dur) * 2 / 3, "kill"}}
	if !d.b.cfg.faults {
		faults = nil
	}
	limit := d.began + int64(d.b.cfg.dur) + int64(d.b.cfg.cut) + int64(dropsLimit)
	if d.offers != nil {
		limit += int64(d.b.cfg.ttl)
	}
	for now := nanos(); now < limit; now = nanos() {
		if len(faults) > 0 && now-d.began >= faults[0].at {
			_ = d.say.Encode(said{What: faults[0].what}) // compare notices when it does not read it
			faults = faults[1:]
		}
		connected := true
		for _, c := range d.clients {
			d.step(c, now)
			connected = connected && c.conn != nil && c.conn.state == stReady && len(c.cuts) == 0
		}
		d.pub.step(now - d.began)
		if d.offers != nil {
			d.offers.pub.step(now - d.began)
		}
		if d.pub.done() && connected && len(faults) == 0 && (d.ledger.complete() || now-d.ledger.touched > int64(dropsQuiet)) &&
			(d.offers == nil || d.offers.done(now)) {
			return
		}
		d.b.l.poll(dropsStep)
	}
}

// step does what is due for one client.
func (d *dropper) step(c *dropped, now int64) {
	if len(c.cuts) > 0 && now-d.began >= c.cuts[0].at {
		d.cut(c, c.cuts[0])
		c.cuts = c.cuts[1:]
	}
	switch {
	case c.conn == nil && now >= c.next:
		d.open(c)
	case c.conn != nil && c.conn.state != stReady && now-c.conn.started > int64(d.b.cfg.handshake):
		d.b.l.drop(c.conn, "handshake timed out")
	}
}

// cut takes the network away from a client.
func (d *dropper) cut(c *dropped, x cut) {
	why := cutSeen
	if x.unseen {
		why = cutUnseen
	}
	d.ledger.left(c.user, why, d.began+x.until)
	c.next, c.failed = d.began+x.until, 0
	if c.conn == nil {
		return
	}
	if x.unseen {
		// What the server sends from now on nobody reads, and it is not refused.
		d.b.l.ignore(c.conn)
		d.unseen = append(d.unseen, c.conn)
	} else {
		d.b.l.kill(c.conn)
	}
	c.conn = nil
}

// open connects to the next of the servers, as behind a balancer.
func (d *dropper) open(c *dropped) {
	k := d.b.newConn(d.role, c.user)
	if i := (c.user + c.opened) % (1 + len(d.b.rest)); i > 0 {
		k.to = d.b.rest[i-1]
	}
	k.kept, k.user = &c.kept, c.user
	c.kept.early = nil
	c.opened++
	c.conn = k
	if err := d.b.l.open(k); err != nil {
		d.b.l.failures["open: "+err.Error()]++
		d.later(c)
	}
}

func (d *dropper) later(c *dropped) {
	c.conn = nil
	c.next = nanos() + backoff(c.failed, d.rnd.Float64())
	c.failed++
}

func (d *dropper) ready(k *conn) {
	c := d.clients[k.user]
	c.failed = 0
	if c.wasHere {
		d.returns++
		if c.kept.recovered {
			d.recovered++
		}
	}
	c.wasHere = true
	d.ledger.returned(c.user, c.kept.recovered, nanos())
	if d.offers != nil {
		d.offers.returned(k)
	}
}

func (d *dropper) closed(k *conn, why string) {
	d.b.l.failures[why]++
	c := d.clients[k.user]
	if c.conn != k {
		return
	}
	if d.began > 0 {
		d.ledger.left(c.user, ended, nanos())
	}
	d.later(c)
}

func (d *dropper) event(k *conn, name string, data []byte) {
	switch {
	case d.clients[k.user].conn != k: // it is cut
	case name == evTrip:
		d.ledger.received(k.user, sequence(data), nanos())
	case d.offers != nil:
		d.offers.event(k, name, data)
	}
}

func (d *dropper) ack(k *conn, id int, data []byte) {
	if d.clients[k.user].conn == k && d.offers != nil {
		d.offers.ack(k.user, id, data)
	}
}
