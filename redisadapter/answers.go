// This node's answers to the requests of other nodes.

package redisadapter

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/redisadapter/internal/wire"
)

// maxAskTime is the maximum time that another node's request waits for clients' acks.
const maxAskTime = 10 * time.Minute

// maxHeadStart is the maximum of headStart.
const maxHeadStart = 500 * time.Millisecond

// headStart is how long before the node that asks stops waiting a handler of OnServerAsk has to
// return, so that null arrives there in time. Both nodes have the same RequestTimeout.
func headStart(timeout time.Duration) time.Duration { return min(timeout/10, maxHeadStart) }

// answerTime returns how long this node may take to answer a request.
func (a *Adapter) answerTime(m *wire.Message) time.Duration {
	limit := a.opts.RequestTimeout
	switch {
	case m.Kind == wire.ServerEmit:
		return limit - headStart(limit)
	case m.Timeout > 0:
		return min(time.Duration(m.Timeout)*time.Millisecond, maxAskTime)
	}
	return limit
}

// answer lets the server answer a request of that size, in a goroutine of its own. Node waits for the
// answers of all servers that have received its request, so an empty answer is sent too.
func (a *Adapter) answer(m *wire.Message, size int) error {
	if !a.enter() {
		return nil
	}
	ctx, cancel := context.WithTimeout(a.ctx, a.answerTime(m))
	id := m.UID + " " + m.RequestID
	if !a.answering.begin(id, cancel) {
		cancel()
		a.leave()
		return errTwice
	}
	end := func() {
		cancel()
		a.answering.end(id)
		a.leave()
	}
	s := a.answering.slotsOf(m.Kind)
	if !s.enter(size) {
		a.refuse(m, s)
		end()
		return nil
	}
	go func() {
		defer end()
		defer s.leave(size)
		a.answerInTurn(ctx, m, s)
	}()
	return nil
}

// answerInTurn answers a request once there is a slot. When the node that asks no longer waits, or the
// adapter closes, it does not wait for one.
func (a *Adapter) answerInTurn(ctx context.Context, m *wire.Message, s *slots) {
	switch err := s.take(ctx); {
	case err == nil:
		defer s.release()
		a.answerNow(ctx, m)
	case errors.Is(err, context.DeadlineExceeded):
		a.refuse(m, s)
	default:
		a.answerNull(m)
	}
}

// refuse logs that a request is not answered. Its node gets an error, or null from OnServerAsk.
func (a *Adapter) refuse(m *wire.Message, s *slots) {
	a.log.Error("redisadapter: request of another node not answered: too many at once", "namespace", m.Namespace, "for", s.kind)
	a.answerNull(m)
}

// answerNull answers a request that is for an answer of the host.
func (a *Adapter) answerNull(m *wire.Message) {
	if m.Kind == wire.ServerEmit {
		a.reply(m, wire.Message{Kind: wire.Emitted})
	}
}

func (a *Adapter) answerNow(ctx context.Context, m *wire.Message) {
	switch m.Kind {
	case wire.Ask:
		a.answerAsk(ctx, m)
	case wire.ServerEmit:
		a.answerServerAsk(ctx, m)
	default:
		a.answerFetch(ctx, m)
	}
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
		a.answerNull(m)
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

// answerAsk sends AskDone behind the acks, unless one may be missing: the other node then knows that
// it has not got all.
func (a *Adapter) answerAsk(ctx context.Context, m *wire.Message) {
	counted, complete := false, true
	send := func(answer wire.Message) { complete = a.reply(m, answer) && complete }
	count := func(n int) {
		if !counted {
			counted = true
			send(wire.Message{Kind: wire.Asked, Count: n})
		}
	}
	a.guard("a request", func() {
		a.node.Answer(ctx, fromWire(m), func(r realtime.ClusterAnswer) {
			if r.Ack == nil {
				count(r.Asked)
				return
			}
			count(0)
			send(wire.Message{Kind: wire.Acked, Args: toArgs(*r.Ack)})
		})
	})
	count(0)
	if m.Native && complete && ctx.Err() == nil {
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
