// Queries to the sockets of a Broadcast: which ones there are, how many, and what their clients
// answer.

package realtime

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"

	"github.com/rodando/realtime/internal/hostcall"
	"github.com/rodando/realtime/internal/socketio"
)

// Sockets describes the selected sockets of all nodes. It blocks until every node has
// answered. If ctx ends before that, or a node cannot answer, it returns the sockets found so
// far and an error. Use SocketsPage for large selections.
func (b Broadcast) Sockets(ctx context.Context) ([]RemoteSocket, error) {
	return b.sockets(ctx, "", 0)
}

// SocketsPage describes at most n of the selected sockets of all nodes, in the order of
// their ids, beginning after the id after: "" for the first page, then the last id of the
// previous page. The last page has fewer than n sockets; if n is not positive, there are none.
// A socket that connects or closes between two pages is in one of them or in none. It blocks
// and fails as Sockets does.
func (b Broadcast) SocketsPage(ctx context.Context, after string, n int) ([]RemoteSocket, error) {
	if n <= 0 {
		return nil, nil
	}
	return b.sockets(ctx, after, n)
}

// pageSlack is how many more sockets than a page has are collected before the page is cut.
const pageSlack = 1024

func (b Broadcast) sockets(ctx context.Context, after string, n int) ([]RemoteSocket, error) {
	id := func(s RemoteSocket) string { return s.ID }
	found := b.socketsLocal(after, n)
	if !b.remote() {
		return found, nil
	}
	m := b.message(ClusterMessage{Op: OpFetchSockets, After: after, Limit: n})
	err := b.ns.rt.clusterRequest(ctx, m, func(a ClusterAnswer) {
		if a.Socket == nil {
			return
		}
		found = append(found, *a.Socket)
		if n > 0 && len(found)-n > max(n, pageSlack) { // a node may answer with more than n
			found = page(found, id, after, n)
		}
	})
	return page(found, id, after, n), prefixed(err)
}

// socketsLocal describes the selected sockets of this node, or one page of them if n > 0.
func (b Broadcast) socketsLocal(after string, n int) []RemoteSocket {
	var found []RemoteSocket
	for _, inner := range page(b.selectLocal(), (*socketio.Socket).ID, after, n) {
		s, ok := socketOf(inner)
		if !ok {
			continue
		}
		found = append(found, RemoteSocket{
			ID: s.ID(), Namespace: b.ns.name, Identity: s.Identity(), Rooms: s.Rooms(), Connecting: !inner.Opened(),
			ConnectedAt: int64(inner.Order()),
		})
	}
	return found
}

// page returns the n values with the lowest ids after the id after, in order, or all
// values unsorted if n is 0. It reuses the memory of all.
func page[T any](all []T, id func(T) string, after string, n int) []T {
	if n <= 0 {
		return all
	}
	byID := func(a, b T) int { return cmp.Compare(id(a), id(b)) }
	first, full := all[:0], false
	for _, v := range all {
		if id(v) <= after || full && id(v) > id(first[n-1]) {
			continue
		}
		if first = append(first, v); len(first) == 2*n {
			slices.SortFunc(first, byID)
			first, full = first[:n], true
		}
	}
	slices.SortFunc(first, byID)
	return first[:min(n, len(first))]
}

// Count returns the number of selected sockets, on all nodes. Like Sockets it includes
// those whose handshake is in progress. It blocks until every node has answered. If ctx ends
// before that, or a node cannot answer, it returns the number so far and an error. With Local,
// counting one room or All takes constant time.
func (b Broadcast) Count(ctx context.Context) (int, error) {
	n := b.countLocal()
	if !b.remote() {
		return n, nil
	}
	err := b.ns.rt.clusterRequest(ctx, b.message(ClusterMessage{Op: OpCount}), func(a ClusterAnswer) { n += max(0, a.Count) })
	return n, prefixed(err)
}

func (b Broadcast) countLocal() int {
	switch {
	case b.nobody():
		return 0
	case len(b.except) == 0 && b.all:
		return b.ns.inner.Len()
	case len(b.except) == 0 && len(b.rooms) == 1 && b.ns.inner.HasRoom(b.rooms[0]):
		return b.ns.inner.RoomLen(b.rooms[0])
	}
	return len(b.selectLocal())
}

// ask emits an event to the selected sockets of all nodes and returns their acks.
func (b Broadcast) ask(ctx context.Context, event string, arg []byte) ([]Raw, error) {
	if b.nobody() {
		return nil, nil
	}
	args := []json.RawMessage{arg}
	if err := b.fits(event, args, nil); err != nil {
		return nil, err
	}
	ctx, cancel := b.ns.rt.ackContext(ctx)
	defer cancel()
	var mu sync.Mutex // guards acks
	var acks []Raw
	collect := func(a ClusterAnswer) {
		if a.Ack != nil {
			mu.Lock()
			acks = append(acks, *a.Ack)
			mu.Unlock()
		}
	}
	var asking sync.WaitGroup
	var remoteErr error
	if b.remote() {
		m := b.message(ClusterMessage{Op: OpAsk, Event: packEvent(event, args, nil)})
		asking.Go(func() { remoteErr = b.ns.rt.clusterRequest(ctx, m, collect) })
	}
	missing, err := b.askLocal(ctx, event, args, nil, collect)
	asking.Wait()
	switch late := ctx.Err(); {
	case missing > 0 || late != nil && remoteErr != nil:
		late = cmp.Or(late, context.DeadlineExceeded)
		if remoteErr != nil {
			return acks, errorf("%w: %w: %w", ErrAckTimeout, late, remoteErr)
		}
		return acks, errorf("%w: %w", ErrAckTimeout, late)
	case err != nil:
		return acks, askError(err)
	}
	return acks, prefixed(remoteErr)
}

// askLocal emits an event to the selected sockets of this node and calls answer for each ack,
// one at a time. It returns the number of sockets that did not answer in time, without those
// that closed. err is socketio.ErrTooManyAcks if the event was not sent to one of them.
func (b Broadcast) askLocal(
	ctx context.Context, event string, args []json.RawMessage, attachments [][]byte, answer func(ClusterAnswer),
) (missing int, err error) {
	sockets := b.selectLocal()
	answer(ClusterAnswer{Asked: len(sockets)})
	id := b.ns.inner.NextID()
	replies := make(chan socketio.Reply, len(sockets))
	ms := socketio.EventMessages(b.ns.name, id, event, args, attachments)
	asked, receivers := 0, 0
	for _, s := range sockets {
		switch failed := s.Expect(id, func(r socketio.Reply) { replies <- r }); {
		case failed == nil:
			asked++
			if s.Send(ms...) { // otherwise the socket is closed, or about to be, and the reply is ErrClosed
				receivers++
			}
		case errors.Is(failed, socketio.ErrTooManyAcks):
			err = failed
		}
	}
	b.traceEmitted(event, receivers, socketio.SizeOf(ms))
	for n := asked; n > 0; n-- {
		select {
		case r := <-replies:
			if r.Err == nil {
				ack := rawOf(r.Args, r.Attachments)
				answer(ClusterAnswer{Ack: &ack})
			}
		case <-ctx.Done():
			for _, s := range sockets {
				s.Forget(id)
			}
			return n, nil
		}
	}
	return 0, err
}

// askError returns the error of the exported API for an error of an ask.
func askError(err error) error {
	switch {
	case errors.Is(err, socketio.ErrClosed):
		return ErrClosed
	case errors.Is(err, socketio.ErrTooManyAcks):
		return ErrTooManyAcks
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return errorf("%w: %w", ErrAckTimeout, hostcall.Original(err))
	}
	return prefixed(err)
}
