// Inheritance: a node that begins gets the events that another one keeps. So a client that comes to it recovers
// also when the nodes from before are gone, as in a rolling update.

package realtime

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/rodando/realtime/internal/socketio"
)

const (
	// inheritTries is how often a node asks the others for a log, inheritPause apart: they may not be
	// known yet, or have begun as well.
	inheritTries = 6
	inheritPause = 500 * time.Millisecond
	// pageTime is how long a node waits for the next page, pageEvents the maximum number of events in one,
	// and pageBytes about their maximum size. pagesWaiting are the pages that can wait for the node.
	pageTime     = 3 * time.Second
	pageEvents   = 128
	pageBytes    = 64 << 10
	pagesWaiting = 1024
	// pageRate is how many bytes of events, rooms and sockets one node sends in pages in a second at most, of all namespaces and to all that
	// ask it: each node gets the pages, and what is emitted meanwhile must not wait behind them. Several nodes that send do so at this rate each.
	pageRate = 12 << 20
	// logsTime is how long a node that shuts down goes on with the logs that it sends.
	logsTime = 10 * time.Second
	// logFactor is how much more than Recovery.Events and Recovery.Bytes a log may be that is sent: events come
	// meanwhile.
	logFactor = 2
)

// logRequest asks a node for the log of a namespace, or gives up one that was asked for.
type logRequest struct {
	Log   string   `json:"log"`             // an id for the answers
	Node  string   `json:"node"`            // who is asked; empty with Stop, so that older nodes do not take it for a request
	Peers []string `json:"peers,omitempty"` // which the sender knows: they have told of their sockets
	Stop  bool     `json:"stop,omitempty"`
}

// logPage is one of the answers to a logRequest. The last one has State; without it and anything else, that
// node has no log yet.
type logPage struct {
	Log    string             `json:"log"`
	N      int                `json:"n"` // how many came before it
	Lost   []knownSocket      `json:"lost,omitempty"`
	Events []keptEvent        `json:"events,omitempty"`
	State  *socketio.LogState `json:"state,omitempty"`
}

// pace says when a node sends the next page, so that all of its pages keep to pageRate together. Its methods may be
// called concurrently.
type pace struct {
	mu   sync.Mutex
	free time.Time // when what was sent so far has had its time; guarded by mu
}

// after returns how long whoever has sent a page of a size waits. However much the others have sent, it is short enough that
// the node which waits for the next page does not give up.
func (p *pace) after(size int) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	wait := max(0, p.free.Sub(now)) + max(usersPause, time.Duration(size)*time.Second/pageRate)
	wait = min(wait, pageTime/2)
	p.free = now.Add(wait)
	return wait
}

// keptEvent is an event of a log.
type keptEvent struct {
	Event   Raw      `json:"event"` // as packEvent makes it, with the offset as the last argument
	All     bool     `json:"all,omitempty"`
	Rooms   []string `json:"rooms,omitempty"`
	Except  []string `json:"except,omitempty"`
	Mark    string   `json:"mark"`
	Here    bool     `json:"here,omitempty"`
	Unknown bool     `json:"unknown,omitempty"`
	AgoMS   int64    `json:"agoMs"`
}

// inherit gets the log of another node for a namespace, as long as this node has a place for it. When it returns, this
// node answers those that ask it.
func (p *peerSockets) inherit(ns *Namespace) {
	defer ns.inheriting.Store(false)
	pause := usersDelay
	for range inheritTries {
		if !p.rt.pause(pause) {
			return
		}
		for _, node := range p.settled(p.rt.ctx, ns) {
			if !ns.inner.Inherits() || p.askLog(p.rt.ctx, ns, node) {
				return
			}
		}
		pause = inheritPause
	}
}

// askLog takes over the log of a node. It reports whether that is all: it did, or what this node cannot send, or is too
// much for it, comes from the other nodes too. If it does not take over all, that node need not send the rest.
func (p *peerSockets) askLog(ctx context.Context, ns *Namespace, node string) (over bool) {
	id, pages, done := p.logs.open(pagesWaiting)
	defer done()
	p.rt.shareState(ns.name, stateContent{LogOf: &logRequest{Log: id, Node: node, Peers: p.knownPeers()}})
	over, ended := p.takeLog(ctx, ns, pages)
	if !ended && ctx.Err() == nil {
		p.rt.shareState(ns.name, stateContent{LogOf: &logRequest{Log: id, Stop: true}})
	}
	return over
}

// takeLog takes over the pages of a log. over is the result of askLog, and ended says that no page follows.
func (p *peerSockets) takeLog(ctx context.Context, ns *Namespace, pages <-chan *logPage) (over, ended bool) {
	timer := time.NewTimer(pageTime)
	defer timer.Stop()
	heritage, events, size := ns.inner.Heritage(), 0, 0
	for n := 0; ; n++ {
		select {
		case page := <-pages:
			more, ok := ns.keptEvents(page.Events)
			events += len(more)
			for _, e := range more {
				size += e.Size()
			}
			p.inheritSockets(ns, page.Lost)
			ended = page.State != nil || len(page.Events)+len(page.Lost) == 0
			switch {
			case !ok, p.rt.opts.Recovery.exceeded(events, size):
				return true, ended
			case page.N != n, !ns.inner.Inherits(), page.State == nil && ended, !heritage.Add(more):
				return false, ended
			case ended:
				return heritage.Inherit(*page.State), ended
			}
			timer.Reset(pageTime)
		case <-timer.C:
			return false, false
		case <-ctx.Done():
			return false, false
		}
	}
}

// exceeded reports whether these are too many events, or bytes, of a log that is sent.
func (r *Recovery) exceeded(events, bytes int) bool {
	return events/logFactor > r.Events || bytes/logFactor > r.Bytes
}

// keptEvents returns the events of a page. ok is false if one cannot be sent.
func (ns *Namespace) keptEvents(page []keptEvent) (events []socketio.KeptEvent, ok bool) {
	for _, k := range page {
		e, ok := ns.replayed([]Raw{k.Event})
		if !ok {
			return nil, false
		}
		events = append(events, socketio.KeptEvent{
			Replayed: e[0], To: socketio.Target{All: k.All, Rooms: k.Rooms, Except: k.Except},
			Mark: k.Mark, Here: k.Here, Unknown: k.Unknown, Ago: milliseconds(k.AgoMS),
		})
	}
	return events, true
}

// sentLog is a log that this node sends to a peer, or has sent last.
type sentLog struct {
	id   string
	stop context.CancelFunc
}

// logOf answers a logRequest of a peer, if this node is asked. It reports whether the question is valid.
func (p *peerSockets) logOf(ns *Namespace, peer string, q *logRequest) bool {
	if !validID(q.Log) {
		return false
	}
	if peer == "" || !ns.inner.Keeps() {
		return true
	}
	key := nodeKey{ns.name, peer}
	if q.Stop {
		p.stopLog(key, q.Log)
	} else if ns.inner.IsNode(q.Node) {
		if ctx, stop := p.beginLog(key, q.Log); ctx != nil {
			p.serve(func() {
				defer p.endLog(key, stop)
				p.sendLog(ctx, ns, q)
			})
		}
	}
	return true
}

// beginLog returns a context that ends when a peer is lost, gives up what it has asked for, or asks anew. It returns nil
// if the peer is lost, or this is what it has asked for last.
func (p *peerSockets) beginLog(key nodeKey, id string) (context.Context, context.CancelFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	former, asked := p.sends[key]
	if _, gone := p.gone[key.peer]; gone || asked && former.id == id {
		return nil, nil
	}
	if asked {
		former.stop()
	}
	ctx, stop := context.WithCancel(p.rt.ctx)
	p.sends[key] = sentLog{id, stop}
	return ctx, stop
}

// endLog is called when the log of beginLog was sent. Its id is remembered as long as the peer is there.
func (p *peerSockets) endLog(key nodeKey, stop context.CancelFunc) {
	stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, known := p.peers[key.peer]; !known {
		delete(p.sends, key)
	}
}

// stopLog ends the sending of a log that a peer has given up.
func (p *peerSockets) stopLog(key nodeKey, id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s, ok := p.sends[key]; ok && s.id == id {
		s.stop()
	}
}

// stopLogsLocked ends the sending of all logs to a peer that was lost.
func (p *peerSockets) stopLogsLocked(peer string) {
	for key, s := range p.sends {
		if key.peer == peer {
			s.stop()
			delete(p.sends, key)
		}
	}
}

// sendLog sends the sockets of lost nodes, and the log of a namespace, in pages. It stops when ctx ends, and when more
// comes than it sends.
func (p *peerSockets) sendLog(ctx context.Context, ns *Namespace, q *logRequest) {
	p.sending.Add(1)
	defer p.sending.Add(-1)
	page := &logPage{Log: q.Log}
	send := func(size int) (goOn bool) {
		if ctx.Err() != nil {
			return false
		}
		p.rt.shareState(ns.name, stateContent{LogPage: page})
		page = &logPage{Log: q.Log, N: page.N + 1}
		return pauseIn(ctx, p.pace.after(size))
	}
	if ns.inheriting.Load() {
		send(0)
		return
	}
	for lost := p.socketsBut(ns, q.Peers); len(lost) > 0; {
		var size int
		page.Lost, size = p.lostPage(lost)
		lost = lost[len(page.Lost):]
		if !send(size) {
			return
		}
	}
	after, sent, bytes := uint64(0), 0, 0
	for !p.rt.opts.Recovery.exceeded(sent, bytes) {
		var events []socketio.KeptEvent
		events, after, page.State = ns.inner.LogPage(after, pageEvents, pageBytes)
		size := 0 // with the rooms, which exceeded does not count
		for _, e := range events {
			page.Events = append(page.Events, keptEvent{
				Event: *packEvent(e.Name, e.Args, e.Attachments), All: e.To.All, Rooms: e.To.Rooms, Except: e.To.Except,
				Mark: e.Mark, Here: e.Here, Unknown: e.Unknown, AgoMS: e.Ago.Milliseconds(),
			})
			size, bytes = size+e.Sent(), bytes+e.Size()
		}
		sent += len(events)
		if end := page.State != nil; !send(size) || end {
			return
		}
	}
}

// logsSent waits, within ctx, until no log is being sent: whoever receives a part of one throws it away, and nobody else may
// have it.
func (p *peerSockets) logsSent(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, logsTime)
	defer cancel()
	for p.sending.Load() > 0 {
		if !pauseIn(ctx, settlePause) {
			return ctx.Err()
		}
	}
	return nil
}

// lostPage describes those of the sockets that come first, as many as there are in a page. size is about their size.
func (p *peerSockets) lostPage(sockets []*peerSocket) (page []knownSocket, size int) {
	window := p.rt.opts.Recovery.Window
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range sockets {
		if len(page) == pageEvents || size >= pageBytes {
			break
		}
		page = append(page, s.share(window))
		size += len(s.record)
	}
	return page, size
}

func (p *peerSockets) knownPeers() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Keys(p.peers))
}

// socketsBut returns the sockets of other nodes that are known, but for those of some peers. mu guards what they are.
func (p *peerSockets) socketsBut(ns *Namespace, peers []string) (all []*peerSocket) {
	but := map[string]bool{}
	for _, peer := range peers {
		but[peer] = true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, s := range p.known {
		if key.namespace == ns.name && !but[s.peer] {
			all = append(all, s)
		}
	}
	return all
}

// inheritSockets records sockets of peers that are gone.
func (p *peerSockets) inheritSockets(ns *Namespace, sockets []knownSocket) {
	window, now := p.rt.opts.Recovery.Window, time.Now()
	for _, k := range sockets {
		id, s, ok := k.known(ns, window)
		if !ok {
			continue // it is one of this node
		}
		p.mu.Lock()
		if _, runs := p.peers[k.Peer]; !runs && s.until.IsZero() {
			s.until, s.heard = now.Add(window), s.made
		}
		key := socketKey{ns.name, id}
		if old := p.known[key]; old == nil && p.spaceLocked(now) || old != nil && old.turn < s.turn {
			p.known[key] = &s
		}
		p.mu.Unlock()
	}
}
