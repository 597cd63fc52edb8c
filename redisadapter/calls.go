// Calls: a key in Redis for each event with an idempotency key, so that all nodes together handle it once.

package redisadapter

import (
	"context"
	"errors"
	"time"

	"github.com/redis/rueidis"
)

// maxCallValue is the size of the largest value that realtime.CallKeeper speaks of. Of a larger one, which
// no node has stored, the adapter returns one byte more.
const maxCallValue = 8 << 10

var errCallChanges = errors.New("redisadapter: call: the value of the key comes and goes")

// ClaimCall implements realtime.CallKeeper, with SET NX. It asks for the value of the key in the same round trip: a client
// waits, and a node that has learned that another one has the key must not fail to learn more.
func (a *Adapter) ClaimCall(ctx context.Context, key string, value []byte, d time.Duration) (held []byte, err error) {
	client := a.current()
	if client == nil {
		return nil, errNotConnected
	}
	key = callKey(a.opts.Key, key)
	for range 3 { // a value may end between the two commands
		replies := client.DoMulti(ctx,
			client.B().Set().Key(key).Value(rueidis.BinaryString(value)).Nx().Px(d).Build(),
			client.B().Getrange().Key(key).Start(0).End(maxCallValue).Build(),
		)
		stored := replies[0].Error()
		if stored == nil {
			return nil, nil
		}
		if !rueidis.IsRedisNil(stored) {
			return nil, failedCommand("call", stored)
		}
		if held, err := callValue(replies[1]); err != nil || held != nil {
			return held, err
		}
	}
	return nil, errCallChanges
}

// callValue returns the value in the reply to GETRANGE, or nil.
func callValue(reply rueidis.RedisResult) (value []byte, err error) {
	value, err = reply.AsBytes()
	if err != nil || len(value) == 0 { // as of a key without a value
		return nil, failedCommand("call", err)
	}
	return value, nil
}

// FindCall implements realtime.CallKeeper.
func (a *Adapter) FindCall(ctx context.Context, key string) (value []byte, err error) {
	client := a.current()
	if client == nil {
		return nil, errNotConnected
	}
	return callValue(client.Do(ctx, client.B().Getrange().Key(callKey(a.opts.Key, key)).Start(0).End(maxCallValue).Build()))
}

// KeepCall implements realtime.CallKeeper.
func (a *Adapter) KeepCall(ctx context.Context, key string, value []byte, d time.Duration) error {
	client := a.current()
	if client == nil {
		return errNotConnected
	}
	set := client.B().Set().Key(callKey(a.opts.Key, key)).Value(rueidis.BinaryString(value)).Px(d).Build()
	return failedCommand("call", client.Do(ctx, set).Error())
}

// ForgetCall implements realtime.CallKeeper.
func (a *Adapter) ForgetCall(ctx context.Context, key string) error {
	return failedCommand("call", a.del(ctx, callKey(a.opts.Key, key)))
}

func callKey(prefix, key string) string { return prefix + "#call#" + key }
