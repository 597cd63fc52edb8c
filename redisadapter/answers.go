// Answers of this node to other nodes' requests.

package redisadapter

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/redisadapter/internal/wire"
)

// maxAnswering bounds how many requests are answered at once.
const maxAnswering = 256

// maxAsking bounds how long another node's request may wait for clients' acks.
const maxAsking = 10 * time.Minute

// answering holds the requests that are being answered.
type answering struct {
	mu      sync.Mutex // guards cancels
	cancels map[string]context.CancelFunc
}

// begin reports false when there are too many, or the id repeats.
func (s *answering) begin(id string, cancel context.CancelFunc) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, twice := s.cancels[id]; twice || len(s.cancels) >= maxAnswering {
		return false
	}
	if s.cancels == nil {
		s.cancels = map[string]context.CancelFunc{}
	}
	s.cancels[id] = cancel
	return true
}

func (s *answering) end(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.cancels, id)
}

// cancel ends a request that its node does not wait for any more.
func (s *answering) cancel(id string) {
	s.mu.Lock()
	cancel := s.cancels[id]
	s.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}

// answer has the server answer, in a goroutine of its own. Node waits for every
// server that its request has reached, so an empty answer is sent too.
func (a *Adapter) answer(m *wire.Message) {
	if !a.enter() {
		return
	}
	limit := a.opts.RequestTimeout
	if m.Timeout > 0 {
		limit = min(time.Duration(m.Timeout)*time.Millisecond, maxAsking)
	}
	ctx, cancel := context.WithTimeout(a.ctx, limit)
	id := m.UID + " " + m.RequestID
	if !a.answering.begin(id, cancel) {
		cancel()
		a.leave()
		a.malformed(m.Namespace, errBusy)
		return
	}
	go func() {
		defer a.leave()
		defer cancel()
		defer a.answering.end(id)
		if m.Kind == wire.Ask {
			a.answerAsk(ctx, m)
			return
		}
		a.answerFetch(ctx, m)
	}()
}

func (a *Adapter) answerFetch(ctx context.Context, m *wire.Message) {
	question := everybody(m.Namespace)
	switch m.Kind {
	case wire.Fetch:
		question = fromWire(m)
	case wire.ListIDs:
		question.All, question.Rooms = len(m.Rooms) == 0, m.Rooms
	default: // ListRooms is about all sockets
	}
	var sockets []wire.Socket
	a.guard("a request", func() {
		a.node.Answer(ctx, question, func(r realtime.ClusterAnswer) {
			if r.Socket != nil {
				sockets = append(sockets, toSocket(*r.Socket))
			}
		})
	})
	switch m.Kind {
	case wire.Fetch:
		a.reply(m, wire.Message{Kind: wire.Fetched, Sockets: sockets})
	case wire.ListIDs:
		var names []string
		for _, s := range sockets {
			names = append(names, s.ID)
		}
		a.reply(m, wire.Message{Kind: wire.ListedIDs, Names: names})
	case wire.ListRooms: // in Node a socket is in the room of its id
		var names []string
		for _, s := range sockets {
			names = append(append(names, s.ID), s.Rooms...)
		}
		slices.Sort(names)
		a.reply(m, wire.Message{Kind: wire.ListedRooms, Names: slices.Compact(names)})
	default: // the caller passes no other kind
	}
}

func (a *Adapter) answerAsk(ctx context.Context, m *wire.Message) {
	counted := false
	count := func(n int) {
		if !counted {
			counted = true
			a.reply(m, wire.Message{Kind: wire.Asked, Count: n})
		}
	}
	a.guard("a request", func() {
		a.node.Answer(ctx, fromWire(m), func(r realtime.ClusterAnswer) {
			if r.Ack == nil {
				count(r.Asked)
				return
			}
			count(0)
			a.reply(m, wire.Message{Kind: wire.Acked, Args: toArgs(*r.Ack)})
		})
	})
	count(0)
	if m.Native && ctx.Err() == nil { // else acks may be missing
		a.reply(m, wire.Message{Kind: wire.AskDone})
	}
}

// reply sends an answer to the node that asked.
func (a *Adapter) reply(to *wire.Message, m wire.Message) {
	m.UID, m.Namespace, m.RequestID = a.uid, to.Namespace, to.RequestID
	payload, err := a.protocol.Append(nil, &m)
	if err == nil {
		err = a.publisher.push(outgoing{channel: a.protocol.channel(&m, to.UID), payload: payload})
	}
	if err != nil {
		a.log.Error("redisadapter: answer not sent", "namespace", m.Namespace, "error", err)
	}
}
