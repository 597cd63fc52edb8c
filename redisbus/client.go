// The client: made once Redis is needed, and kept.

package redisbus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/redisclient"
)

// connections makes the client. Calls wait for one attempt together.
type connections struct {
	opts Options
	keys keys

	mu      sync.Mutex // guards the rest
	client  rueidis.Client
	closed  bool
	attempt *attempt // under way
}

// errPartitions is a mistake of the configuration, which time does not mend.
var errPartitions = errors.New("the number of partitions cannot be changed in place")

type attempt struct {
	done   chan struct{} // closed when the fields below are set
	client rueidis.Client
	err    error
}

// get returns the client, within ctx.
func (c *connections) get(ctx context.Context) (rueidis.Client, error) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil, realtime.ErrClosed
	}
	if c.client != nil {
		defer c.mu.Unlock()
		return c.client, nil
	}
	a := c.attempt
	if a == nil {
		a = &attempt{done: make(chan struct{})}
		c.attempt = a
		go c.connect(a)
	}
	c.mu.Unlock()
	select {
	case <-a.done:
		return a.client, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (c *connections) connect(a *attempt) {
	a.client, a.err = c.open()
	c.mu.Lock()
	c.client, c.attempt = a.client, nil
	late := c.closed
	c.mu.Unlock()
	if late {
		c.release()
		a.client, a.err = nil, realtime.ErrClosed
	}
	close(a.done)
}

// bufferSize is what a connection of the bus' own reads and writes at once. There is a
// connection for each partition that the node owns.
const bufferSize = 32 << 10

// open returns a client that has shown that Redis answers and has as many partitions.
func (c *connections) open() (client rueidis.Client, err error) {
	client = c.opts.Client
	if client == nil {
		client, err = redisclient.Dial(c.opts.URL, func(o *rueidis.ClientOption) {
			o.ReadBufferEachConn, o.WriteBufferEachConn = bufferSize, bufferSize
		})
		if err != nil {
			return nil, err
		}
	}
	if err := c.agree(client); err != nil {
		if c.opts.Client == nil {
			client.Close()
		}
		return nil, err
	}
	return client, nil
}

// agree compares the number of partitions with the one that the others use, or stores it.
func (c *connections) agree(client rueidis.Client) error {
	ctx, cancel := context.WithTimeout(context.Background(), redisclient.WriteTimeout)
	defer cancel()
	stored, err := client.Do(ctx, client.B().Get().Key(c.keys.count).Build()).ToString()
	if rueidis.IsRedisNil(err) {
		if err := client.Do(ctx, client.B().Setnx().Key(c.keys.count).Value(strconv.Itoa(c.opts.Partitions)).Build()).Error(); err != nil {
			return err
		}
		stored, err = client.Do(ctx, client.B().Get().Key(c.keys.count).Build()).ToString()
	}
	if err != nil {
		return err
	}
	if stored != strconv.Itoa(c.opts.Partitions) {
		return fmt.Errorf("%w: Options.Partitions is %d, but the key %q is used with %.20q", errPartitions, c.opts.Partitions, c.opts.Key, stored)
	}
	return nil
}

// close makes get return ErrClosed, and closes a client of the bus' own.
func (c *connections) close() {
	c.mu.Lock()
	c.closed = true
	a := c.attempt
	c.mu.Unlock()
	if a != nil { // it closes its client
		<-a.done
		return
	}
	c.release()
}

func (c *connections) release() {
	c.mu.Lock()
	client := c.client
	c.client = nil
	c.mu.Unlock()
	if client != nil && c.opts.Client == nil {
		client.Close()
	}
}

// within returns a context that ends after d or with ctx. It hides its deadline, with
// which rueidis would wait for the deadline although ctx has ended before.
func within(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, d)
	return noDeadline{ctx}, cancel
}

type noDeadline struct{ context.Context }

func (noDeadline) Deadline() (time.Time, bool) { return time.Time{}, false }

// isNoGroup reports whether Redis says that the stream or the group was deleted.
func isNoGroup(err error) bool { return redisSays(err, "NOGROUP") || redisSays(err, "no such key") }

// isNotOwner reports whether a script was refused because the node is not the owner.
func isNotOwner(err error) bool { return redisSays(err, notOwner) }

// redisSays reports whether an error is an answer of Redis that contains a text; in a
// script's error Redis' own is somewhere within.
func redisSays(err error, text string) bool {
	var answer *rueidis.RedisError
	return errors.As(err, &answer) && strings.Contains(answer.Error(), text)
}
