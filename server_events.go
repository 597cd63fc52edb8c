// Events between the nodes of a cluster, which no client receives: ServerEmit and its listeners,
// ServerAsk and its handler.

package realtime

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/rodando/realtime/internal/hostcall"
)

// OnServerEmit adds a listener for the events that other nodes send with ServerEmit or
// ServerAsk. The listeners of a namespace are called one at a time, in the order of the
// events. A call that does not return within about twice Timeouts.Handler is abandoned. While
// 4096 events wait in a namespace, the server drops further ones and logs an error.
// OnServerEmit panics if ns or f is nil, and if the name is one that ServerEmit refuses.
func (ns *Namespace) OnServerEmit(event string, f func(args Raw)) {
	ns.mustHear("OnServerEmit", event, f != nil)
	ns.mu.Lock()
	defer ns.mu.Unlock()
	ns.listeners[event] = append(ns.listeners[event], f)
}

// OnServerAsk sets the handler that answers an event that other nodes send with ServerAsk, and
// Node servers with serverSideEmitWithAck. It replaces a former handler of the event. The
// result is encoded as JSON; if it does not marshal or is too large for the adapter, or the handler
// returns an error, panics, or does not return in time, an error is logged and the answer is null.
// It has Timeouts.Handler, and less if the other node does not wait as long: with package redisadapter
// 0.5 s less than its Options.RequestTimeout, so 4.5 s by default. When the other node gives up, or the
// adapter of this one is closed, ctx ends, the answer is null, and nothing is logged.
// The handler may be called concurrently, and not in the order of the events. Shutdown waits for it.
// OnServerAsk panics if ns or f is nil, and if the name is one that ServerEmit refuses.
func (ns *Namespace) OnServerAsk(event string, f func(ctx context.Context, args Raw) (any, error)) {
	ns.mustHear("OnServerAsk", event, f != nil)
	ns.mu.Lock()
	defer ns.mu.Unlock()
	ns.answerers[event] = f
}

// mustHear panics if a listener or handler of events between nodes cannot be registered.
func (ns *Namespace) mustHear(method, event string, given bool) {
	ns.mustExist(method)
	if !given {
		panic("realtime: " + method + ": the function is nil")
	}
	if err := checkServerEvent(event); err != nil {
		panic("realtime: " + method + ": " + err.Error())
	}
}

// ServerEmit sends an event to the OnServerEmit listeners of the other nodes. No client
// receives it, nor does this node. It waits until the adapter has accepted the event, and
// does not use ctx. The server logs an error of the adapter; the returned error says that an
// argument does not marshal, that the adapter's queue is full, or that the name is empty or
// reserved by Socket.IO for nodes: connect, connection, new_namespace. It panics if ns is nil.
func (ns *Namespace) ServerEmit(_ context.Context, event string, args ...any) error {
	ns.mustExist("ServerEmit")
	e, err := packServerEvent("ServerEmit", event, args)
	if err != nil {
		return err
	}
	return ns.rt.clusterPublish(ClusterMessage{Op: OpServerEmit, Namespace: ns.name, Event: e})
}

// ServerAsk sends an event to the other nodes and returns what their OnServerAsk handlers
// answer, in no order: one Raw with one argument for each node, null for a node without such a
// handler, whose handler failed, or which shuts down. A Node server answers by the ack of its
// listener. This node does not ask itself. ServerAsk blocks until every node has answered, with
// package redisadapter at most for its Options.RequestTimeout. If ctx or that time ends before, or a
// node cannot answer or has left without an answer, it returns the answers so far and an error, which
// names such nodes as far as the adapter knows them. A node that has died before is not asked, which is no
// error. The error also says that an argument does not marshal, or what ServerEmit says of the name. It
// panics if ns is nil.
func (ns *Namespace) ServerAsk(ctx context.Context, event string, args ...any) ([]Raw, error) {
	ns.mustExist("ServerAsk")
	e, err := packServerEvent("ServerAsk", event, args)
	if err != nil {
		return nil, err
	}
	var answers []Raw
	err = ns.rt.clusterRequest(ctx, ClusterMessage{Op: OpServerAsk, Namespace: ns.name, Event: e}, func(a ClusterAnswer) {
		if a.Reply != nil {
			answers = append(answers, a.Reply.only())
		}
	})
	return answers, prefixed(err)
}

// only returns the one argument of a node's answer. A Node server whose listener acknowledges
// without an argument sends none.
func (r Raw) only() Raw {
	if len(r.Args) == 0 {
		return Raw{Args: []json.RawMessage{json.RawMessage("null")}}
	}
	return Raw{Args: r.Args[:1], Attachments: r.Attachments}
}

// packServerEvent checks and packs an event for other nodes.
func packServerEvent(method, event string, args []any) (*Raw, error) {
	if err := checkServerEvent(event); err != nil {
		return nil, errorf("%s: %w", method, err)
	}
	raw := make([]json.RawMessage, len(args))
	for i, a := range args {
		b, err := json.Marshal(a)
		if err != nil {
			return nil, errorf("encoding %s: %w", event, err)
		}
		raw[i] = b
	}
	return packEvent(event, raw, nil), nil
}

// listenerQueue is the maximum number of events of other nodes that wait in a namespace.
const listenerQueue = 4096

// listen queues an event of another node for the host's listeners. It reports whether the
// event is well-formed.
func (ns *Namespace) listen(e *Raw) bool {
	name, args, ok := unpackEvent(e)
	if !ok {
		return false
	}
	ns.mu.RLock()
	listeners := ns.listeners[name]
	ns.mu.RUnlock()
	for _, f := range listeners {
		ns.listening.Add(func() { f(Raw{Args: args, Attachments: e.Attachments}) })
	}
	return true
}

// answerServer calls the host's handler of another node's ServerAsk. It always has an answer,
// so that the other node does not wait for a handler that does not exist or has failed.
func (ns *Namespace) answerServer(ctx context.Context, e *Raw) *Raw {
	null := Raw{}.only()
	name, args, _ := unpackEvent(e)
	ns.mu.RLock()
	f := ns.answerers[name]
	ns.mu.RUnlock()
	if f == nil {
		return &null
	}
	release, ok := ns.answering.Hold()
	if !ok {
		return &null
	}
	defer release()
	answer, err := hostcall.Do(ctx, ns.answering, nil, func(ctx context.Context) (json.RawMessage, error) {
		v, err := f(ctx, Raw{Args: args, Attachments: e.Attachments})
		if err != nil {
			return nil, err
		}
		return json.Marshal(v) // its methods are the host's code
	})
	if err != nil {
		if !gaveUp(ctx, err) {
			ns.rt.hostFailed("OnServerAsk", err, "namespace", ns.name, "event", name)
		}
		return &null
	}
	return &Raw{Args: []json.RawMessage{answer}}
}

// gaveUp reports whether a call of the host's code failed because nobody waits for it any more. A panic
// is the host's fault all the same.
func gaveUp(ctx context.Context, err error) bool {
	return errors.Is(ctx.Err(), context.Canceled) && hostcall.Stack(err) == ""
}
