// Steady clients: honest clients that stay connected and measure what must happen in
// time.

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/cmd/internal/stresskit"
	"github.com/rodando/realtime/realtimetest"
)

// heartbeatWithin is how much later than its interval a heartbeat may come.
const heartbeatWithin = 1500 * time.Millisecond

// steady runs the steady clients until ctx ends.
func (w *world) steady(ctx context.Context) {
	for i, n := range w.nodes {
		for k := range 3 {
			w.scenes.Go(func() { w.steadyListener(ctx, n, fmt.Sprintf("q%d-%d", i, k)) })
		}
		w.scenes.Go(func() { w.steadyDriver(ctx, n, fmt.Sprint("qd", i)) })
	}
	w.scenes.Go(func() { w.loginAgainAndAgain(ctx) })
}

// steadyListener answers heartbeats, and measures when each arrives.
func (w *world) steadyListener(ctx context.Context, n *node, user string) {
	w.users.Set(realtime.User{ID: user, Type: realtime.UserPassenger, Active: true})
	for turn := 0; ctx.Err() == nil; turn++ {
		_, token := w.login(user, turn)
		c, err := webSocket(n, honest(int(w.guests.Add(1))))
		if err != nil { // how long that may go on, the doorman judges
			stresskit.Sleep(ctx, loginAgain)
			continue
		}
		stop := context.AfterFunc(ctx, func() { _ = c.Close() })
		err = w.heartbeats(ctx, c, token)
		stop()
		_ = c.Close()
		if err != nil && ctx.Err() == nil && !w.oracle.isDraining() {
			w.oracle.breachf("%s, who answers each heartbeat: %v", user, err)
		}
	}
}

// heartbeats uses a connection until it ends, and returns what was wrong with it, or nil
// if the login failed.
func (w *world) heartbeats(ctx context.Context, c *raw, token string) error {
	began := time.Now()
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	if c.send(connectPacket(realtime.NamespacePassengers, token)) != nil || c.until("40") != nil {
		return nil
	}
	w.count.Add("steady clients", 1)
	for {
		left := excused(pingInterval+heartbeatWithin, w.lag.since(began)) - time.Since(began)
		_ = c.SetReadDeadline(time.Now().Add(max(left, lagStep)))
		opcode, payload, err := c.read()
		switch {
		case ctx.Err() != nil || w.oracle.isDraining():
			return nil
		case isTimeout(err) && time.Since(began) <= excused(pingInterval+heartbeatWithin, w.lag.since(began)):
			continue // the machine was slow meanwhile; nothing has been read, or this is a breach anyhow
		case isTimeout(err) && w.lag.since(began) > tooBusy:
			return nil
		case isTimeout(err):
			return fmt.Errorf("no heartbeat for %v, at an interval of %v", time.Since(began).Round(time.Millisecond), pingInterval)
		case (err != nil || opcode == 8) && w.lag.since(began) > tooBusy:
			return nil
		case err != nil || opcode == 8:
			return errors.Join(errors.New("disconnected, by no fault of its own"), err)
		case string(payload) == "2":
			w.count.Add("heartbeats in time", 1)
			began = time.Now()
			if err := c.send("3"); err != nil {
				return fmt.Errorf("disconnected, by no fault of its own: %w", err)
			}
		}
	}
}

func isTimeout(err error) bool {
	t, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err)
	return ok && t.Timeout()
}

// steadyDriver updates its status repeatedly; each update must be acknowledged in time.
func (w *world) steadyDriver(ctx context.Context, n *node, user string) {
	if w.config.plant == "hung driver" {
		user = hungService + user
	}
	for ctx.Err() == nil {
		c := w.enter(ctx, n, user, realtime.UserDriver)
		if c == nil {
			stresskit.Sleep(ctx, loginAgain)
			continue
		}
		for ok := true; ok; {
			ok = stresskit.Sleep(ctx, 400*time.Millisecond) && w.driverActs(ctx, c, user)
		}
		c.Close()
	}
}

// driverActs sends one update, and reports whether the client continues.
func (w *world) driverActs(ctx context.Context, c *realtimetest.Client, user string) bool {
	online, began := true, time.Now()
	asking, cancel := context.WithTimeout(ctx, w.bound(w.patience()))
	defer cancel()
	_, err := realtimetest.Call(asking, c, realtime.DriverStatusUpdate, realtime.StatusUpdate{IsOnline: &online})
	if ctx.Err() != nil || w.oracle.isDraining() {
		return false
	}
	w.late(user+"'s status update", began, ackWithin)
	if err != nil && w.busy(began) {
		return c.Connected()
	}
	if err != nil {
		w.oracle.breachf("%s's status update: %v; connected: %v %s", user, err, c.Connected(), c.Reason())
		return false
	}
	w.count.Add("status updates in time", 1)
	return true
}

// loginAgainAndAgain logs in new users; each login must succeed in time.
func (w *world) loginAgainAndAgain(ctx context.Context) {
	for i := 0; stresskit.Sleep(ctx, 300*time.Millisecond); i++ {
		user, typ := fmt.Sprint("qn", i%50), realtime.UserPassenger
		if c := w.enter(ctx, w.nodes[i%len(w.nodes)], user, typ); c != nil {
			w.count.Add("logins in time", 1)
			c.Close()
		}
	}
}
