// A model of a cluster: nodes that emit, lose messages, die and begin, and clients that come back to any of
// them. Whatever happens, a client that recovers has every event once, in order. After a change, try many more
// seeds: the rarest fault that this has found came once in 25,000.

package eventlog_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/eventlog"
)

const (
	modelUnnoticed = 30 * time.Second
	modelBroken    = 15 * time.Second // a client that receives nothing for so long is away
	modelSlow      = 8 * time.Second  // a message arrives within this time
	modelSize      = 4                // nodes
)

// happened is an event.
type happened struct {
	id    int    // in the order in which they were emitted; 0: hello
	label string // what a client gets with it
}

type modelLog = eventlog.Log[happened]

// truth is what the model knows of an event.
type truth struct {
	room string
	key  string
	by   *modelNode
	at   uint64
	when time.Time
}

type modelNode struct {
	*modelLog
	name      int
	dead      bool
	cut, mute bool         // while it is cut, what arrives is lost; if it is mute too, also what it sends
	since     time.Time    // when it was cut
	late      []func()     // the gaps that it is to be told of
	has       map[int]bool // the events in its log, and those that have left it
	queues    map[*modelNode][]message
	lostFrom  map[*modelNode]bool // since the cut
	told      map[*modelNode]bool // since the last gap
	peers     map[*modelNode]bool // those that it knows, and does not know to be dead
	named     map[*modelNode]bool // those that have told of themselves, and are not known to be dead
	lost      map[*modelNode]time.Time
	inherits  bool // it may
	positions map[string]position
}

// position is the newest event of a key in the log of a node.
type position struct {
	id   int
	at   uint64
	room string
}

// message is under way from a node to another one.
type message struct {
	event int // 0: it is none
	at    time.Time
	apply func()
}

type modelClient struct {
	name    int
	id      eventlog.ID
	ids     byte
	rooms   []string
	node    *modelNode // nil while it is away
	former  *modelNode
	a       eventlog.Away // what its socket remembers
	ahead   []eventlog.Mark
	record  eventlog.Record // of its socket, when its node died
	made    time.Time       // when that was
	left    time.Time       // when it left that node; zero: it was connected then
	leftAt  uint64          // the newest position then
	began   int             // the newest event when it connected as a new one
	before  map[int]bool    // the events that its node had then
	offset  string
	got     []int
	pending []delivery   // queued, and not yet received
	missing map[int]bool // what was lost on its node while it was connected
	excused map[int]bool // the same, and it has received something since
}

type delivery struct {
	happened
	at      time.Time
	missing []int // missing then
}

type model struct {
	t         *testing.T
	seed      uint64
	random    *rand.Rand
	window    time.Duration
	kept      int // events that a node keeps
	now       time.Time
	names     int
	nodes     []*modelNode
	events    []truth // by id; the first one is none
	clients   []*modelClient
	recovered int
	returned  int
	parts     int
	keyed     int // the events with a key that clients got
	story     []string
}

func (w *model) logf(format string, args ...any) {
	w.story = append(w.story, fmt.Sprintf(format, args...))
}

func (w *model) chance(n int) bool { return w.random.IntN(n) == 0 }

func (w *model) failf(format string, args ...any) {
	w.t.Helper()
	for _, line := range w.story {
		w.t.Log(line)
	}
	w.t.Fatalf("seed %d: "+format, append([]any{w.seed}, args...)...)
}

// node starts a node.
func (w *model) node() *modelNode {
	w.names++
	n := &modelNode{
		name: w.names, has: map[int]bool{}, queues: map[*modelNode][]message{}, lostFrom: map[*modelNode]bool{}, told: map[*modelNode]bool{}, peers: map[*modelNode]bool{},
		positions: map[string]position{}, named: map[*modelNode]bool{}, lost: map[*modelNode]time.Time{}, inherits: true,
	}
	cfg := eventlog.Config[happened]{
		Everything: true, Window: w.window, Unnoticed: modelUnnoticed, Budget: eventlog.NewBudget[happened](w.kept<<w.random.IntN(2), 1<<30), Sockets: 10,
		First: 1 << 20, Catch: eventlog.Load{Messages: 1000, Bytes: 1 << 20}, Now: func() time.Time { return w.now },
	}
	copy(cfg.Emitter[:], fmt.Sprintf("N-%04d", n.name))
	n.modelLog = eventlog.New[happened](cfg)
	w.nodes = append(w.nodes, n)
	w.logf("%d begins", n.name)
	w.share(n)
	w.send(n, 0, func(to *modelNode) {
		to.peers[n] = true
		w.beat(to)
		w.share(to)
	})
	return n
}

func (w *model) others(n *modelNode) []*modelNode {
	return slices.DeleteFunc(slices.Clone(w.nodes), func(o *modelNode) bool { return o == n })
}

func pick[E any](w *model, from []E) E { return from[w.random.IntN(len(from))] }

// send sends a message to the other nodes.
func (w *model) send(n *modelNode, event int, apply func(to *modelNode)) {
	for _, to := range w.others(n) {
		if m := (message{event, w.now, func() { apply(to) }}); n.mute {
			w.lose(to, n, m)
		} else {
			to.queues[n] = append(to.queues[n], m)
		}
	}
}

// beat has a node tell the others that it runs.
func (w *model) beat(n *modelNode) { w.send(n, 0, func(to *modelNode) { to.peers[n] = true }) }

// share has a node tell the others what it has emitted, and of whom it has heard.
func (w *model) share(n *modelNode) {
	n.Pause()
	mark := n.Newest()
	n.End()
	mark.Emitter = n.Emitter()
	heard := n.Heard()
	w.send(n, 0, func(to *modelNode) {
		to.HearAll(mark)
		for _, m := range heard {
			to.HearOf(m)
		}
		to.told[n], to.named[n] = true, !n.dead
		w.running(to)
	})
}

// running has a node learn which others run, once all that it does not know to be dead have told.
func (w *model) running(n *modelNode) {
	var all []eventlog.Emitter
	for o := range n.peers {
		if !n.told[o] {
			return
		}
	}
	for o := range n.named {
		all = append(all, o.Emitter())
	}
	n.Running(all, w.now.Add(-modelSlow))
}

func (w *model) emit(n *modelNode, room string) {
	id := len(w.events)
	at := n.Begin()
	step := n.Step(at)
	w.keep(n, id, room, at, eventlog.Origin{})
	n.End()
	w.events = append(w.events, truth{room: room, by: n, at: at, when: w.now})
	w.logf("%d: %d emits to %s", id, n.name, room)
	w.deliver(n, id, room, at, step.Mark)
	w.send(n, id, func(to *modelNode) {
		at := to.Begin()
		to.Hear(step)
		w.keep(to, id, room, at, eventlog.Origin{Mark: step.Mark})
		to.End()
		w.deliver(to, id, room, at, step.Mark)
	})
}

// emitKeyed emits an event with a key. It has no label, and connected clients do not matter for it.
func (w *model) emitKeyed(n *modelNode, key, room string) {
	id := len(w.events)
	w.events = append(w.events, truth{room: room, key: key, by: n, when: w.now})
	w.logf("%d: %d emits %s to %s", id, n.name, key, room)
	w.keepKeyed(n, id)
	w.send(n, 0, func(to *modelNode) { w.keepKeyed(to, id) })
}

// keepKeyed keeps an event with a key if somebody waits for it.
func (w *model) keepKeyed(n *modelNode, id int) {
	e := w.events[id]
	to := eventlog.Target{Rooms: []string{e.room}}
	if !n.Awaited(to) {
		return
	}
	at := n.Begin()
	n.Keep(eventlog.Entry[happened]{Event: happened{id: id}, To: to, Key: e.key, Load: load("?")})
	n.End()
	n.positions[e.key] = position{id, at, e.room}
}

// newest returns the newest event of each key that came for a client while it was away from a node, in order.
func (w *model) newest(c *modelClient, n *modelNode) (ids []int) {
	var all []position
	for _, p := range n.positions {
		if p.at > c.leftAt && slices.Contains(c.rooms, p.room) {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b position) int { return int(a.at) - int(b.at) })
	for _, p := range all {
		ids = append(ids, p.id)
	}
	return ids
}

func (w *model) keep(n *modelNode, id int, room string, at uint64, o eventlog.Origin) {
	n.has[id] = true
	n.Keep(eventlog.Entry[happened]{Event: happened{id, string(n.AppendLabel(nil, at))}, To: eventlog.Target{Rooms: []string{room}}, Load: load("?"), Origin: o})
}

// deliver queues an event on the sockets of a node.
func (w *model) deliver(n *modelNode, id int, room string, at uint64, m eventlog.Mark) {
	for _, c := range w.clients {
		if c.node != n || !slices.Contains(c.rooms, room) {
			continue
		}
		if slices.ContainsFunc(c.ahead, func(k eventlog.Mark) bool { return k.Emitter == m.Emitter && k.At >= m.At }) {
			continue
		}
		n.Pause()
		n.Queued(&c.a.Trail, at)
		n.End()
		c.queue(w.now, happened{id, n.Label(at)})
	}
}

func (c *modelClient) queue(now time.Time, h happened) {
	d := delivery{happened: h, at: now}
	for id := range c.missing {
		d.missing = append(d.missing, id)
	}
	c.pending = append(c.pending, d)
}

// receive has a client receive the first n events that are queued for it.
func (w *model) receive(c *modelClient, n int) {
	for _, d := range c.pending[:n] {
		c.offset = d.label
		for _, id := range d.missing {
			c.excused[id] = true
		}
		if d.id == 0 {
			continue
		}
		w.check(c, d.id)
		c.got = append(c.got, d.id)
	}
	c.pending = c.pending[n:]
}

// check requires that a client may get an event after those that it has got.
func (w *model) check(c *modelClient, id int) {
	e := w.events[id]
	switch {
	case slices.Contains(c.got, id):
		w.failf("client %d got %d twice", c.name, id)
	case !slices.Contains(c.rooms, e.room):
		w.failf("client %d got %d, which was not for it", c.name, id)
	case c.before[id]:
		w.failf("client %d got %d, which came before it", c.name, id)
	}
	for _, other := range c.got {
		if o := w.events[other]; o.by == e.by && o.at > e.at || o.room == e.room && o.when.Sub(e.when) > 3*modelSlow && w.has(other) {
			w.failf("client %d got %d after %d", c.name, id, other)
		}
	}
}

// has reports whether a node has an event that still runs.
func (w *model) has(id int) bool {
	return slices.ContainsFunc(w.nodes, func(n *modelNode) bool { return n.has[id] })
}

// step delivers a message.
func (w *model) step(n *modelNode, from *modelNode) {
	queue := n.queues[from]
	if len(queue) == 0 {
		return
	}
	m := queue[0]
	n.queues[from] = queue[1:]
	if n.cut {
		w.lose(n, from, m)
		return
	}
	m.apply()
}

// lose loses a message.
func (w *model) lose(n, from *modelNode, m message) {
	n.lostFrom[from] = true
	if m.event == 0 {
		return
	}
	w.logf("%d loses %d", n.name, m.event)
	for _, c := range w.clients {
		if c.node == n {
			c.missing[m.event] = true
		}
	}
}

func (w *model) cut(n *modelNode) {
	n.cut, n.mute, n.since = true, w.chance(2), w.now
	w.logf("%d is cut off, mute: %v", n.name, n.mute)
	n.Silence(w.now)
}

// heal ends a cut.
func (w *model) heal(n *modelNode) {
	since := n.since
	n.cut, n.mute = false, false
	n.Silence(time.Time{})
	w.logf("%d is back", n.name)
	gap := func(of *modelNode, from *modelNode) {
		of.late = append(of.late, func() {
			e := eventlog.Emitter{}
			if from != nil {
				e = from.Emitter()
			}
			w.logf("%d hears of its gap", of.name)
			of.Gap(e, since)
			clear(of.told)
			w.beat(of)
			w.share(of)
			w.send(of, 0, func(to *modelNode) { w.share(to) })
		})
	}
	gap(n, nil)
	lost := slices.ContainsFunc(w.others(n), func(o *modelNode) bool { return o.lostFrom[n] })
	for _, o := range w.others(n) {
		if lost && !o.cut { // otherwise that is not heard either
			gap(o, n)
		}
		delete(o.lostFrom, n)
	}
}

// kill ends a node. The others hear of it after all that it has sent.
func (w *model) kill(n *modelNode) {
	for _, hear := range n.late { // otherwise nobody knows of it
		hear()
	}
	w.logf("%d dies", n.name)
	n.dead = true
	w.nodes = w.others(n)
	for _, c := range w.clients {
		if c.former == n && c.node == nil || c.node == n {
			a := w.away(c)
			if c.node == nil {
				a = n.Find(w.t.Context(), c.id)
			} else {
				w.breaks(c)
				c.left = time.Time{}
			}
			if a != nil {
				c.record, c.made = n.Record(a), w.now
			}
			c.node = nil
		}
	}
	died := w.now
	if n.mute { // the others have heard nothing of it since
		died = n.since
	}
	for _, to := range w.nodes {
		for _, m := range to.queues[n] {
			if to.cut {
				w.lose(to, n, m)
			} else {
				m.apply()
			}
		}
		delete(to.queues, n)
		to.late = append(to.late, func() {
			w.logf("%d hears that %d is dead", to.name, n.name)
			to.Lost(n.Emitter())
			delete(to.peers, n)
			delete(to.named, n)
			w.running(to)
			to.lost[n] = died
		})
	}
}

// inherit has a node take over the log of another one.
func (w *model) inherit(n, of *modelNode) {
	n.inherits = false
	events, _, state := of.Page(0, 1<<20, 1<<20)
	w.logf("%d inherits from %d", n.name, of.name)
	h := n.Heritage()
	for _, e := range events {
		h.Add(e)
	}
	h.Inherit(*state, func(e happened, label string) happened { return happened{e.id, label} })
	events, _, _ = n.Page(0, 1<<20, 1<<20)
	for _, e := range events {
		n.has[e.Event.id] = true
	}
}

// connect connects a client as a new one.
func (w *model) connect(c *modelClient, n *modelNode) {
	at, label := n.Reserve()
	c.ids++
	c.id = eventlog.ID{byte(c.name), c.ids}
	c.node, c.former, c.ahead = n, n, nil
	c.a = eventlog.Away{Base: at, Since: eventlog.Seen{At: at}, Label: label}
	c.a.Trail.Begin(at)
	c.began, c.before, c.got = len(w.events)-1, map[int]bool{}, nil
	for id := range n.has {
		c.before[id] = true
	}
	c.offset, c.pending = n.Label(at), nil
	c.missing, c.excused = map[int]bool{}, map[int]bool{}
	w.logf("client %d is new on %d", c.name, n.name)
}

// away returns the socket of a client.
func (w *model) away(c *modelClient) *eventlog.Away {
	a := c.a
	a.ID, a.Socket, a.Rooms = c.id, "socket", nil
	for _, name := range c.rooms {
		a.Rooms = append(a.Rooms, eventlog.Room{Name: name})
	}
	return &a
}

// breaks ends the connection of a client, which has received some of what was queued.
func (w *model) breaks(c *modelClient) {
	w.receive(c, w.random.IntN(len(c.pending)+1))
	c.pending = nil
}

// leave has a client lose its connection.
func (w *model) leave(c *modelClient) {
	w.breaks(c)
	a := w.away(c)
	c.node.Pause()
	c.node.Leave(a)
	c.node.End()
	c.leftAt = c.node.Head()
	c.node.Settle(a, nil)
	c.record, c.made = c.node.Record(a), w.now
	w.logf("client %d leaves %d, got %v", c.name, c.node.name, c.got)
	c.node, c.left = nil, w.now
}

// settled reports whether all nodes that a node can reach have told it of themselves since its last gap.
func (w *model) settled(n *modelNode) bool {
	return !slices.ContainsFunc(w.others(n), func(o *modelNode) bool { return !o.cut && !n.told[o] })
}

// back has a client come back to a node, which knows of each gap.
func (w *model) back(c *modelClient, n *modelNode) {
	w.returned++
	w.logf("client %d comes to %d with %s", c.name, n.name, c.offset)
	if !w.recover(c, n) {
		w.connect(c, n)
	}
}

// find returns the former socket of a client.
func (w *model) find(c *modelClient, n *modelNode) (a *eventlog.Away, heard time.Time) {
	f := c.former
	switch {
	case f.dead:
		if heard = n.lost[f]; heard.IsZero() {
			return nil, heard
		}
		if !c.left.IsZero() && c.left.Before(heard) {
			heard = c.left
		}
		r := c.record
		r.Ages(w.now.Sub(c.made))
		a, _ = n.Foreign(r, heard, nil)
		return a, heard
	case f == n:
		if a = n.Find(w.t.Context(), c.id); a != nil {
			heard = w.now.Add(-n.Left(a))
		}
		return a, heard
	case f.cut && !f.mute && len(f.late) == 0 && w.now.Sub(f.since) > modelSlow: // it does not answer, and has told of the socket
		r := c.record
		r.Ages(w.now.Sub(c.made))
		a, _ = n.Foreign(r, c.left, nil)
		return a, c.left
	case f.cut, len(f.late) > 0:
		return nil, heard
	}
	if a = f.Find(w.t.Context(), c.id); a == nil {
		return nil, heard
	}
	r, ok := f.Received(a, &c.offset, time.Time{})
	if !ok {
		return nil, heard
	}
	heard = w.now.Add(-f.Left(a))
	a, _ = n.Foreign(r, heard, nil)
	return a, heard
}

// part returns what another node has.
func (w *model) part(c *modelClient, n *modelNode, r eventlog.Record, heard time.Time) *eventlog.Part[happened] {
	for _, o := range w.others(n) {
		if o.cut || len(o.late) > 0 {
			continue
		}
		a, ok := o.OfRecord(r, heard, nil)
		if !ok {
			w.failf("no record")
		}
		if p, ok := o.PartOf(a, c.rooms, n.Emitter()); ok {
			p.Rooms, p.Load = c.rooms, eventlog.Load{Messages: len(p.Events), Bytes: len(p.Events)}
			w.logf("%d has a part: %v up to %s", o.name, p.Events, p.Upto)
			w.parts++
			return &p
		}
	}
	return nil
}

func (w *model) recover(c *modelClient, n *modelNode) bool {
	a, heard := w.find(c, n)
	if a == nil {
		return false
	}
	if ok, _ := n.Take(a, &c.offset); !ok {
		return false
	}
	r, lacks, ok := n.Lacks(a, time.Time{})
	var p *eventlog.Part[happened]
	if ok && lacks {
		p = w.part(c, n, r, heard)
	}
	n.Pause()
	got, caught := n.Catch(a, c.rooms, p)
	n.End()
	if !ok || !caught || lacks && p == nil {
		return false
	}
	if !c.former.dead {
		c.former.Forget(c.id, a.Turn+1)
	}
	w.recovered++
	w.logf("client %d recovers on %d: %v, it has got %v", c.name, n.name, got.Missed, c.got)
	missing := c.missing
	c.missing = map[int]bool{}
	for id := range missing {
		if !c.excused[id] {
			delete(missing, id)
		}
	}
	c.node, c.former, c.ahead = n, n, got.Ahead
	c.a = eventlog.Away{Base: got.Head, Since: got.Seen, Label: got.Label, Turn: a.Turn + 1, Beyond: got.Beyond, After: got.After}
	c.a.Trail.Begin(got.Head)
	var missed, keyed, newest []int
	for _, e := range got.Missed {
		if w.events[e.id].key != "" {
			keyed = append(keyed, e.id)
			continue
		}
		c.queue(w.now, e)
		missed = append(missed, e.id)
	}
	if a.Here() {
		newest = w.newest(c, n)
	}
	if !slices.Equal(keyed, newest) {
		w.failf("client %d gets %v of the events with a key, and not %v", c.name, keyed, newest)
	}
	w.keyed += len(keyed)
	c.queue(w.now, happened{0, n.Label(got.Head)})
	w.complete(c, n, missed)
	return true
}

// complete requires that a client which recovers gets all events.
func (w *model) complete(c *modelClient, n *modelNode, missed []int) {
	for id, e := range w.events {
		switch {
		case e.key != "", id <= c.began, c.excused[id], c.before[id], !slices.Contains(c.rooms, e.room), slices.Contains(c.got, id), slices.Contains(missed, id):
		case slices.ContainsFunc(n.queues[e.by], func(m message) bool { return m.event == id }): // it still comes
		case !w.has(id):
		case e.by.mute && !e.by.dead: // nobody knows yet that it cannot be heard
			c.missing[id] = true
		default:
			w.failf("client %d does not get %d", c.name, id)
		}
	}
}

// act lets something happen.
func (w *model) act() {
	w.now = w.now.Add(time.Duration(w.random.IntN(3000)) * time.Millisecond)
	for _, c := range w.clients { // what is queued for long has been received
		if c.node != nil {
			i := 0
			for i < len(c.pending) && w.now.Sub(c.pending[i].at) >= modelBroken {
				i++
			}
			w.receive(c, i)
		}
	}
	for _, n := range w.nodes {
		for _, from := range w.others(n) {
			for len(n.queues[from]) > 0 && w.now.Sub(n.queues[from][0].at) >= modelSlow {
				w.step(n, from)
			}
		}
	}
	n, c := pick(w, w.nodes), pick(w, w.clients)
	switch w.random.IntN(13) {
	case 0, 1:
		w.emit(n, pick(w, []string{"a", "b", "c"}))
	case 2, 3, 4, 5:
		for _, from := range w.others(n) {
			for range w.random.IntN(4) {
				w.step(n, from)
			}
		}
	case 6:
		if len(n.late) > 0 {
			i := w.random.IntN(len(n.late))
			n.late[i]()
			n.late = slices.Delete(n.late, i, i+1)
		}
	case 7, 8:
		switch {
		case c.node != nil:
			w.leave(c)
		case !n.cut && len(n.late) == 0 && w.settled(n):
			w.back(c, n)
		}
	case 9:
		switch {
		case n.cut:
			w.heal(n)
		case w.chance(4):
			w.cut(n)
		}
	case 10:
		if len(w.nodes) == modelSize && w.chance(6) {
			w.kill(n)
		} else if len(w.nodes) < modelSize {
			w.node()
		}
	case 11:
		if of := pick(w, w.others(n)); n.inherits && !n.cut && !of.cut && len(of.late) == 0 && !of.inherits && len(n.queues[of]) == 0 {
			w.inherit(n, of)
		} else {
			w.beat(n)
			w.share(n)
		}
	case 12:
		for range 1 + w.random.IntN(4) {
			w.emitKeyed(n, pick(w, []string{"car 1", "car 2"}), pick(w, []string{"a", "b", "c"}))
		}
	}
}

func newModel(t *testing.T, seed uint64) *model {
	t.Helper()
	w := &model{t: t, seed: seed, random: rand.New(rand.NewPCG(1, seed)), now: time.Unix(1e9, 0), events: []truth{{}}}
	w.window, w.kept = pick(w, []time.Duration{time.Minute, 400 * time.Second}), pick(w, []int{5, 20, 60})
	for range modelSize {
		w.node().inherits = false
	}
	for _, n := range w.nodes {
		for _, from := range w.others(n) {
			for len(n.queues[from]) > 0 {
				w.step(n, from)
			}
		}
	}
	for i, rooms := range [][]string{{"a"}, {"b"}, {"a", "b"}} {
		c := &modelClient{name: i, rooms: rooms}
		w.clients = append(w.clients, c)
		w.connect(c, pick(w, w.nodes))
	}
	return w
}

func TestModel(t *testing.T) {
	t.Parallel()
	recovered, returned, parts, keyed := 0, 0, 0, 0
	for seed := range uint64(500) {
		w := newModel(t, seed)
		for range 300 {
			w.act()
		}
		recovered, returned, parts = recovered+w.recovered, returned+w.returned, parts+w.parts
		keyed += w.keyed
	}
	require.Greater(t, recovered, returned/2)
	require.Greater(t, parts, returned/50)
	require.Greater(t, keyed, returned/50)
}
