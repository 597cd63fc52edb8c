package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// valuesOf are the metrics of a result by key.
func valuesOf(r *result) map[string]float64 {
	v := map[string]float64{}
	for _, m := range r.metrics {
		v[m.key] = m.val
	}
	return v
}

// offerBench makes offers to two clients, of whom the second one is cut for the first 10 s, against the
// test as their server.
func offerBench(t *testing.T, n int) (*offers, *wire) {
	w := newWire(t, sioDialect)
	o := newOffers(&bench{l: w.l, cfg: config{ttl: 20 * time.Second, offers: 1, dur: 60 * time.Second, store: t.TempDir()}},
		driverRole(), [][]cut{nil, {{at: 0, until: int64(10 * time.Second)}}})
	w.l.h = handler{event: func(c *conn, name string, data []byte) { o.event(c, name, data) }, ack: func(c *conn, id int, data []byte) { o.ack(c.user, id, data) }}
	for i := range n {
		o.next(int64(i) * int64(time.Second))
	}
	return o, w
}

// of gives the next connection to a client, and returns what it sends.
func (w *wire) of(user int, packets ...string) (sent string) {
	w.c = &conn{fd: -1, user: user, role: w.c.role, kept: &kept{}, state: stReady, wbuf: []byte{0}}
	for _, p := range packets {
		w.l.dial.message(w.l, w.c, []byte(p))
	}
	return string(w.c.wbuf)
}

func offered(n int, ack string) string {
	return fmt.Sprintf(`42/drivers,%s["trip:assignment:offered",{"assignmentId":%q,"eventId":"e"}]`, ack, offerID(n))
}

func TestOffers_EveryOtherOneIsForAClientThatIsCut(t *testing.T) {
	o, _ := offerBench(t, 2000)
	accepts := map[int]int{}
	for n, of := range o.list {
		cutNow := n < 10 && of.user == 1
		if of.away != cutNow || n < 10 && n%2 == 1 && of.user != 1 {
			t.Errorf("offer %d is for client %d, away %v", n, of.user, of.away)
		}
		accepts[of.accepts]++
	}
	if accepts[0] < 900 || accepts[1] < 400 || accepts[2] < 400 || len(accepts) != 3 {
		t.Errorf("they accept so often: %v", accepts)
	}
}

func TestOffers_AClientAnswersAsItsAppDoes(t *testing.T) {
	o, w := offerBench(t, 2)
	for n := range o.list {
		o.list[n].user, o.list[n].accepts = n, 2*n
	}
	if sent := w.of(0, offered(0, "7")); !strings.HasSuffix(sent, "43/drivers,7[]") {
		t.Errorf("an app that acks sent %q", sent)
	}
	sent := w.of(1, offered(1, "8"), offered(1, "8"))
	want := fmt.Sprintf(`["driver:offer:accept",{"assignmentId":%q}]`, offerID(1))
	if strings.Contains(sent, "43/drivers,8") || strings.Count(sent, "42/drivers,5"+want) != 1 || strings.Count(sent, "42/drivers,6"+want) != 1 {
		t.Errorf("an app that does not ack, and accepts twice, sent %q", sent)
	}
	// Without an ack it accepts once more on its next connection, with one it does not.
	o.list[1].at = nanos()
	w.of(1)
	if o.returned(w.c); !strings.Contains(string(w.c.wbuf), want) {
		t.Errorf("when it was back it sent %q", w.c.wbuf)
	}
	w.of(1, `43/drivers,6[{"ok":true,"data":{}}]`, offered(1, "9"))
	if o.returned(w.c); strings.Contains(string(w.c.wbuf), want) {
		t.Errorf("after the ack it sent %q", w.c.wbuf)
	}
	if of := o.list[1]; of.copies != 3 || of.late != 1 || !of.acked {
		t.Errorf("got %+v", of)
	}
	w.of(0, `43/drivers,1[{"ok":false,"error":{"code":"conflict"}}]`)
	if o.refused["conflict"] != 1 || o.misrouted != 0 {
		t.Errorf("refused %v, misrouted %d", o.refused, o.misrouted)
	}
	w.of(0, offered(1, ""), offered(7, ""), `42/drivers,["trip:assignment:offered",{"assignmentId":"other"}]`, `43/drivers,5[{"ok":true}]`)
	if o.misrouted != 4 {
		t.Errorf("%d of 4 that are for another one were found", o.misrouted)
	}
}

func TestOffers_CountWhatBecameOfThem(t *testing.T) {
	const s = int64(time.Second)
	o, w := offerBench(t, 8)
	for n := range o.list {
		o.list[n] = offer{user: 0, away: n%2 == 1, outcome: accepted, at: 100 * s}
	}
	o.list[0].received = 101 * s                       // in time
	o.list[1].received, o.list[1].copies = 107*s, 3    // in time, sent again, the backend was told before
	o.list[2].received = 121 * s                       // too late, and the backend was not told
	o.list[4].outcome = unanswered                     // does not count
	o.list[5].outcome = unpublished                    // likewise
	o.list[6].received, o.list[6].synced = 102*s, true // only by trip:sync
	o.list[7].received = 103 * s                       // the server takes it for received before it is
	o.list[6].accepted = map[string]struct{}{"e1": {}, "e2": {}}
	line := func(n int, what, by string, at int64) string {
		return fmt.Sprintf(`{"what":%q,"offer":%q,"by":%q,"clock":%d}`+"\n", what, offerID(n), by, at+sinceBoot)
	}
	var lines string
	for n := range o.list {
		lines += line(n, "offered", "", 100*s)
	}
	lines += line(0, "delivered", "ack", 102*s) + line(0, "accepted", "", 103*s) + line(0, "accepted", "", 104*s) +
		line(1, "undelivered", "", 103*s) + line(1, "undelivered", "", 104*s) + line(1, "delivered", "heartbeat", 108*s) +
		line(7, "delivered", "heartbeat", 102*s) + "cut off"
	if err := os.WriteFile(filepath.Join(o.b.cfg.store, "reports"), []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	o.pub.left, o.lastMade = 0, 100*s
	if o.done(103*s) || o.done(119*s) { // offer 3 may arrive
		t.Error("it is over too soon")
	}
	if !o.done(121 * s) {
		t.Error("it is not over")
	}
	r := &result{ok: true}
	o.report(r)
	got := valuesOf(r)
	for key, want := range map[string]float64{
		"offers": 6, "offers_unanswered": 1, "offers_received_pct": 100 * per(4, 6), "offers_missed": 2, "offers_count": 4, "offers_max_ms": 7000,
		"offers_here_count": 2, "offers_here_max_ms": 2000, "offers_away_count": 2, "offers_away_max_ms": 7000,
		"offers_told_count": 1, "offers_told_max_ms": 3000, "offers_untold": 2, "offers_only_synced": 1, "offers_sent_again": 2,
		"offers_receipts_ack": 1, "offers_receipts_heartbeat": 2, "offers_false_receipts": 1, "offers_reports_repeated": 1,
		"offers_acceptances": 2, "offers_accepted_twice": 2,
	} {
		if got[key] != want {
			t.Errorf("%s: %v, want %v", key, got[key], want)
		}
	}
	if !r.ok || len(w.got) > 0 {
		t.Errorf("%v %v", r.notes, w.got)
	}
	empty, _ := offerBench(t, 0)
	if empty.report(r); r.ok {
		t.Error("a run without offers is well")
	}
}

func TestOffers_TripSyncHasThem(t *testing.T) {
	o, w := offerBench(t, 2)
	for n := range o.list {
		o.list[n].user = 0
	}
	w.of(0, offered(0, "1"), fmt.Sprintf(`42/drivers,["trip:sync",{"trips":[],"offers":[{"assignmentId":%q},{"assignmentId":%q}]}]`, offerID(0), offerID(1)))
	if a, b := o.list[0], o.list[1]; a.synced || !b.synced || b.received == 0 || b.copies != 0 || o.misrouted != 0 {
		t.Errorf("got %+v and %+v", a, b)
	}
}

// TestServer_Offers makes offers under drops: each one arrives, the backend is told of each one that
// takes too long, and none is accepted twice.
func TestServer_Offers(t *testing.T) {
	store := t.TempDir()
	url := "http://" + serve(t, build(t), "RECOVERY=1", "STORE="+store)
	b, err := newBench(config{
		server: url, secret: "bench-secret", proto: "sio", transport: "websocket", eio: 4, srcIPs: 4, seed: 1,
		conns: 20, conc: 8, handshake: 10 * time.Second, dur: 6 * time.Second, rate: 20, up: 2 * time.Second, cut: 6 * time.Second, unseen: .5,
		offers: 40, store: store, ttl: 20 * time.Second,
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	b.dropsTo(new(strings.Builder))
	v := valuesOf(&b.res)
	for key, want := range map[string]float64{
		"offers": 240, "offers_received_pct": 100, "offers_only_synced": 0, "offers_untold": 0, "offers_false_receipts": 0, "offers_reports_repeated": 0,
		"offers_accepted_twice": 0, "offers_after_answer": 0, "delivered_pct": 100, "doubled": 0, "out_of_order": 0,
	} {
		if v[key] != want {
			t.Errorf("%s: %v, want %v", key, v[key], want)
		}
	}
	for _, key := range []string{"offers_told_count", "offers_sent_again", "offers_receipts_ack", "offers_receipts_heartbeat", "offers_acceptances", "offers_here_count", "offers_away_count"} {
		if v[key] == 0 {
			t.Errorf("nothing happened: %s is 0", key)
		}
	}
	if !b.res.ok || slices.ContainsFunc(b.res.notes, func(n string) bool { return strings.Contains(n, "refused") }) {
		t.Error(b.res.notes)
	}
}
