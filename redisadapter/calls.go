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

// ClaimCall implements realtime.CallKeeper, with SET NX. If the key has a value it asks for it with a second
// command.
func (a *Adapter) ClaimCall(ctx context.Context, key string, value []byte, d time.Duration) (held []byte, err error) {
	for range 3 { // a value may end between the two commands
		stored, err := a.setNew(ctx, callKey(a.opts.Key, key), rueidis.BinaryString(value), d)
		if err != nil {
			return nil, failedCommand("call", err)
		}
		if stored {
			return nil, nil
		}
		if held, err := a.FindCall(ctx, key); err != nil || held != nil {
			return held, err
		}
	}
	return nil, errCallChanges
}

// FindCall implements realtime.CallKeeper.
func (a *Adapter) FindCall(ctx context.Context, key string) (value []byte, err error) {
	client := a.current()
	if client == nil {
		return nil, errNotConnected
	}
	value, err = client.Do(ctx, client.B().Getrange().Key(callKey(a.opts.Key, key)).Start(0).End(maxCallValue).Build()).AsBytes()
	if err != nil || len(value) == 0 { // as of a key without a value
		return nil, failedCommand("call", err)
	}
	return value, nil
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
