// Clients that make one of the host's hooks panic, or end its goroutine.

package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/cmd/internal/stresskit"
	"github.com/rodando/realtime/realtimetest"
)

// lab is a namespace of the host's own.
const lab = "/lab"

var (
	// burst is answered by a handler that panics on 0, ends its goroutine on 1, writes
	// to a nil map on 2.
	burst = realtime.NewCall[int, int]("stress:burst")
	// quiz makes the server ask the client that calls it, which sends chaff behind.
	quiz     = realtime.NewCall[int, int]("stress:quiz")
	question = realtime.NewQuery[int, int]("stress:question")
	chaff    = realtime.NewCall[string, int]("stress:chaff")
)

// chaffSize is so large that not all of it is read at once.
const chaffSize = 2 << 10

// hooks registers the host's hooks and handlers on a node.
func (h *host) hooks(rt *realtime.Server, own *realtime.Namespace) {
	for _, ns := range []*realtime.Namespace{rt.Drivers(), rt.Passengers(), rt.Admin(), own} {
		echo.Handle(ns, func(_ context.Context, _ *realtime.Socket, n int) (int, error) { return n, nil })
		chaff.Handle(ns, func(_ context.Context, _ *realtime.Socket, in string) (int, error) { return len(in), nil })
		quiz.Handle(ns, question.Ask)
		burst.Handle(ns, func(_ context.Context, _ *realtime.Socket, n int) (int, error) {
			switch n {
			case 0:
				h.ledger.fired("a handler")
				panic(planned + "a handler")
			case 1:
				runtime.Goexit()
			}
			return n, errors.New("stress: an error with " + planned + "nobody")
		})
		ns.OnConnect(func(_ context.Context, s *realtime.Socket) error {
			return h.trouble(context.Background(), "OnConnect", s.Identity().UserID, "none")
		})
		ns.OnDisconnect(func(_ context.Context, s *realtime.Socket, _ realtime.DisconnectReason) {
			_ = h.trouble(context.Background(), "OnDisconnect", s.Identity().UserID, "none")
		})
		ns.OnServerEmit("stress:hang", func(realtime.Raw) { _ = h.hang(context.Background(), "a listener") })
		ns.OnServerEmit("stress:blow", func(realtime.Raw) { h.panicIn("a listener") })
	}
}

// authorize is the Authorize function of the namespace /lab.
func (h *host) authorize(ctx context.Context, r realtime.AuthorizeRequest) error {
	return h.trouble(ctx, "Authorize", r.Identity.UserID, "none")
}

// bombHooks are the hooks that bombs set off.
var bombHooks = []string{
	"OnConnect", "OnDisconnect", "FindUser", "FindSession", "ActiveTrips", "Authorize", "DriverService", "OfferService.AcceptOffer",
	"EventBus.Publish", "VerifyToken", "handler", "listener", "FindParties", "Adapter.Publish", "Adapter.Request",
}

// triggerHooks makes each of the host's hooks panic, in turn, until ctx ends.
func (w *world) triggerHooks(ctx context.Context) {
	rng := w.rng(bombStream, 0)
	for i := 0; stresskit.Sleep(ctx, stresskit.Between(rng, 20*time.Millisecond, 120*time.Millisecond)) && w.calm(ctx); i++ {
		w.triggerHook(ctx, w.nodes[i/len(bombHooks)%2], bombHooks[i%len(bombHooks)], i)
	}
}

// triggerHook makes one hook panic.
func (w *world) triggerHook(ctx context.Context, n *node, hook string, turn int) {
	user := fmt.Sprintf("%s%d-%s", bomb, turn, hook)
	switch hook {
	case "listener":
		_ = n.rt.Passengers().ServerEmit(ctx, "stress:blow") // the other node's listener blows
	case "FindParties":
		w.publish("", realtime.DriverEnRoute{TripID: user})
	case "Adapter.Publish":
		w.runApart(func() {
			_ = n.rt.Passengers().To(realtime.NewRoom("stress", "blow-publish")).EmitRaw("stress:blow", realtime.Raw{})
		})
	case "Adapter.Request":
		w.runApart(func() {
			_, err := n.rt.Passengers().To(realtime.NewRoom("stress", "blow-request")).Sockets(ctx)
			w.host.ledger.returned(err) // it is not logged
		})
	case "VerifyToken":
		// The log leaves out what is a part of the token, as the user's name is.
		w.triggerAsClient(ctx, n, hook, fmt.Sprint(bomb, turn), turn)
	default:
		w.triggerAsClient(ctx, n, hook, user, turn)
	}
}

// runApart runs f, which calls the adapter directly, on a goroutine of its own: an
// adapter that calls Goexit ends that goroutine.
func (w *world) runApart(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(w.patience()):
		w.oracle.breachf("a call of the adapter that panics has not returned after %v", patience)
	}
}

// triggerAsClient connects a client for which a hook panics.
func (w *world) triggerAsClient(ctx context.Context, n *node, hook, user string, turn int) {
	typ, namespace := realtime.UserPassenger, ""
	switch hook {
	case "DriverService", "OfferService.AcceptOffer":
		typ = realtime.UserDriver
	case "Authorize":
		namespace = lab
	}
	if namespace == "" {
		namespace = namespaceOf(typ)
	}
	w.users.Set(realtime.User{ID: user, Type: typ, Active: true})
	_, token := w.login(user, turn)
	if hook == "VerifyToken" {
		token = "blow" + token
	}
	dialing, cancel := context.WithTimeout(ctx, loginWithin)
	defer cancel()
	c, err := realtimetest.Dial(dialing, n.url, namespace, realtimetest.Token(token), from(honest(turn)))
	if err != nil {
		return // it is refused, or not answered
	}
	c = c.Within(w.patience())
	defer c.Close()
	switch hook {
	case "DriverService":
		online := true
		_, err := realtimetest.Call(ctx, c, realtime.DriverStatusUpdate, realtime.StatusUpdate{IsOnline: &online})
		w.requireAnswered(ctx, hook, c, err)
		_, err = realtimetest.Call(ctx, c, realtime.DriverLocationPing, realtime.LocationPing{Position: &realtime.Position{Lat: 1, Lng: 1}})
		w.requireAnswered(ctx, hook, c, err)
	case "OfferService.AcceptOffer":
		_, err := request(ctx, c, "driver:offer:accept", map[string]string{"assignmentId": "a1"})
		w.requireAnswered(ctx, hook, c, err)
	case "handler":
		_, err := realtimetest.Call(ctx, c, burst, turn/2%3)
		w.requireAnswered(ctx, hook, c, err)
	}
}

// requireAnswered records a breach if a call whose handler panicked was not acknowledged
// and the connection is still open.
func (w *world) requireAnswered(ctx context.Context, hook string, c *realtimetest.Client, err error) {
	if errors.Is(err, realtime.ErrAckTimeout) && c.Connected() && ctx.Err() == nil && !w.oracle.isDraining() {
		w.oracle.breachf("a call is not acknowledged: %s panicked %v ago", hook, patience)
	}
}

// queryBehindFullQueue makes a handler send a query to its own client. The client sends
// more events than the server queues before it answers.
func (w *world) queryBehindFullQueue(ctx context.Context) {
	var c *realtimetest.Client
	asked, sent := make(chan struct{}, 1), make(chan struct{}, 1)
	for i := 0; stresskit.Sleep(ctx, 2500*time.Millisecond); i++ {
		if c == nil || !c.Connected() {
			if c = w.enter(ctx, w.nodes[i%2], "qz", realtime.UserPassenger); c == nil {
				continue
			}
			realtimetest.Answer(c, question, func(n int) int {
				asked <- struct{}{}
				<-sent
				return n + 1
			})
		}
		asking, cancel := context.WithTimeout(ctx, w.patience())
		began := time.Now()
		answer := make(chan error, 1)
		go func() {
			got, err := realtimetest.Call(asking, c, quiz, i)
			if err == nil && got != i+1 {
				err = fmt.Errorf("answered %d", got)
			}
			answer <- err
		}()
		select {
		case <-asked:
			for range queuedEvents + 30 {
				_ = c.Emit(chaff.Name(), strings.Repeat("c", chaffSize)) // a client that is disconnected is judged below
			}
			sent <- struct{}{}
		case <-asking.Done():
		}
		err := <-answer
		cancel()
		if ctx.Err() != nil || w.oracle.isDraining() {
			break
		}
		if w.busy(began) {
			continue
		}
		w.late("a question to the client that asks", began, ackWithin)
		if err != nil {
			w.oracle.breachf("a query to the calling client, with %d events queued: %v; connected: %v", queuedEvents+30, err, c.Connected())
		}
		w.count.Add("quizzes", 1)
	}
	if c != nil {
		c.Close()
	}
}

// triggersAdapter reports whether a message must make the adapter panic.
func (h *host) triggersAdapter(m realtime.ClusterMessage, room string) bool {
	for _, r := range m.Rooms {
		if strings.Contains(r, room) {
			return true
		}
	}
	return false
}
