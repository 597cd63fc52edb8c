// The client: connecting to Redis when it is first needed, and the errors that it answers.

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

// connections makes the client. Concurrent calls wait for the same attempt; after a failed one,
// the next call makes another.
type connections struct {
	opts Options
	keys keys

	mu      sync.Mutex // guards the rest
	client  rueidis.Client
	closed  bool
	attempt *attempt // the running attempt, or nil
}

// errPartitions is a mistake of the configuration: trying again does not help.
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

// bufferSize is the size in bytes of the read and of the write buffer of each connection that
// the bus opens. There is a connection for each partition that the node owns.
const bufferSize = 32 << 10

// open returns a client, after Redis has answered and the number of partitions was checked.
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

// agree compares Options.Partitions with the number that is stored in Redis, or stores it if
// there is none. It returns errPartitions if they differ.
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

// close makes get return ErrClosed, and closes the client, unless it is Options.Client.
func (c *connections) close() {
	c.mu.Lock()
	c.closed = true
	a := c.attempt
	c.mu.Unlock()
	if a != nil { // the attempt closes its client itself
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

// within returns a context that ends after d or with ctx. It hides its deadline: if a context
// has one, rueidis waits for the deadline even if ctx is canceled before.
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

// redisSays reports whether an error is an answer of Redis that contains a text. The error of a
// script contains the text of the command's error.
func redisSays(err error, text string) bool {
	var answer *rueidis.RedisError
	return errors.As(err, &answer) && strings.Contains(answer.Error(), text)
}
