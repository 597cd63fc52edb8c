// Connecting: the client and the links of a node, also of one that starts while Redis is away.

package redisadapter

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/redisclient"
)

// connect creates the client and the links, and waits until the links receive.
func (a *Adapter) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, a.timing.subscribe+writeTimeout)
	defer cancel()
	client, err := a.dial()
	if err != nil {
		return fmt.Errorf("redisadapter: %w", err)
	}
	a.startLinks(client)
	a.warnOfStreams(ctx, client)
	for _, name := range a.opts.Namespaces {
		if err := a.awaitSubscribed(ctx, name); err != nil {
			return errors.Join(a.Check(ctx), err)
		}
	}
	for tick := time.NewTicker(time.Millisecond); ; { // until a probe has arrived
		err := a.Check(ctx)
		if err == nil {
			tick.Stop()
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			tick.Stop()
			return err
		}
	}
}

// connectLater connects a node that has started alone at the time began. Start may have opened the
// links already.
func (a *Adapter) connectLater(began time.Time) {
	for wait := 100 * time.Millisecond; !a.links.opened(); wait = min(2*wait, time.Second) {
		if !a.sleep(wait) {
			return
		}
		if client, err := a.dial(); err == nil {
			a.startLinks(client)
		}
	}
	for a.Check(a.ctx) != nil { // until it receives
		if !a.sleep(10 * time.Millisecond) {
			return
		}
	}
	a.notify(notice{Op: opHello, Ago: int64(time.Since(began))})
	a.gap(realtime.Gap{Since: began, Until: time.Now(), Reason: "the node was alone"})
}

// sleep returns false if Close began first.
func (a *Adapter) sleep(d time.Duration) bool {
	select {
	case <-a.closing:
		return false
	case <-time.After(d):
		return true
	}
}

// dial returns the client, and creates it if there is none.
func (a *Adapter) dial() (rueidis.Client, error) {
	if c := a.current(); c != nil {
		return c, nil
	}
	c := a.opts.Client
	if c == nil {
		var err error
		if c, err = redisclient.Dial(a.opts.URL, a.filterMessages); err != nil {
			return nil, err
		}
	}
	if !a.client.CompareAndSwap(nil, &c) {
		if a.opts.Client == nil {
			a.release(c) // another link created one meanwhile
		}
		return a.dial()
	}
	if a.linked.Err() != nil { // Close ran before the client was stored
		a.renew(c)
		return nil, realtime.ErrClosed
	}
	return c, nil
}

func (a *Adapter) current() rueidis.Client {
	if c := a.client.Load(); c != nil {
		return *c
	}
	return nil
}

// renew closes a client whose connections do not work, so that the next call of dial
// creates a new one. It keeps the host's own client.
func (a *Adapter) renew(old rueidis.Client) {
	if a.opts.Client != nil {
		return
	}
	if c := a.client.Load(); c != nil && *c == old && a.client.CompareAndSwap(c, nil) {
		a.release(old)
	}
}

// release closes a client that the adapter has created. Closing may take a second.
func (a *Adapter) release(c rueidis.Client) { a.linking.start(c.Close) }

// warnOfStreams logs a warning if Node's streams adapter uses the same prefix: its
// messages would crash other Node processes.
func (a *Adapter) warnOfStreams(ctx context.Context, client rueidis.Client) {
	if a.opts.Sharded {
		return
	}
	found, err := client.Do(ctx, client.B().PubsubChannels().Pattern(literal(a.opts.Key)+"#*").Build()).AsStrSlice()
	if err == nil && len(found) > 0 {
		a.log.Warn("redisadapter: another kind of adapter uses the same prefix; give it one of its own", "channels", strings.Join(found[:min(len(found), 5)], " "))
	}
}
