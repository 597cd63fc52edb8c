// This node's answers to the requests of other nodes.

package redisadapter

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/redisadapter/internal/wire"
)

// maxAnswering is the maximum number of requests that are answered at the same time.
const maxAnswering = 256

// maxAsking is the maximum time that another node's request waits for clients' acks.
const maxAsking = 10 * time.Minute

// answering holds the requests that are being answered.
type answering struct {
	mu      sync.Mutex // guards cancels
	cancels map[string]context.CancelFunc
}

// begin registers a request. It returns false if there are too many, or the id is in use.
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

// cancel ends a request whose node no longer waits for the answer.
func (s *answering) cancel(id string) {
	s.mu.Lock()
	cancel := s.cancels[id]
	s.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}

// answer lets the server answer a request, in a goroutine of its own. Node waits for the
// answers of all servers that have received its request, so an empty answer is sent too.
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
		switch m.Kind {
		case wire.Ask:
			a.answerAsk(ctx, m)
		case wire.ServerEmit:
			a.answerServerAsk(ctx, m)
		default:
			a.answerFetch(ctx, m)
		}
	}()
}

// answerServerAsk replies null if the answer cannot be sent, because it is too large or
// too deep. Without any reply the other node would wait.
func (a *Adapter) answerServerAsk(ctx context.Context, m *wire.Message) {
	reply := wire.Message{Kind: wire.Emitted}
	if len(m.Args.Values) > 0 {
		a.guard("a request", func() {
			a.node.Answer(ctx, fromWire(m), func(r realtime.ClusterAnswer) {
				if r.Reply != nil {
					reply.Args = toArgs(*r.Reply)
				}
			})
		})
	}
	if !a.reply(m, reply) {
		a.reply(m, wire.Message{Kind: wire.Emitted})
	}
}

func (a *Adapter) answerFetch(ctx context.Context, m *wire.Message) {
	query := allSockets(m.Namespace)
	switch m.Kind {
	case wire.Fetch:
		query = fromWire(m)
	case wire.ListIDs:
		query.All, query.Rooms = len(m.Rooms) == 0, m.Rooms
	default: // ListRooms: all sockets
	}
	var sockets []wire.Socket
	count := 0
	a.guard("a request", func() {
		a.node.Answer(ctx, query, func(r realtime.ClusterAnswer) {
			count += r.Count
			if r.Socket != nil {
				sockets = append(sockets, toSocket(*r.Socket))
			}
		})
	})
	switch m.Kind {
	case wire.Fetch:
		a.reply(m, wire.Message{Kind: wire.Fetched, Sockets: sockets, Counts: m.Counts, Count: count})
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
	if m.Native && ctx.Err() == nil { // otherwise acks may be missing
		a.reply(m, wire.Message{Kind: wire.AskDone})
	}
}

// reply sends an answer to the node that asked. It returns false, and logs why, if it cannot.
func (a *Adapter) reply(to *wire.Message, m wire.Message) bool {
	m.UID, m.Namespace, m.RequestID = a.uid, to.Namespace, to.RequestID
	payload, err := a.protocol.Append(nil, &m)
	if err == nil {
		err = a.publisher.push(outgoing{channel: a.protocol.channel(&m, to.UID), payload: payload})
	}
	if err != nil {
		a.log.Error("redisadapter: answer not sent", "namespace", m.Namespace, "error", err)
	}
	return err == nil
}
