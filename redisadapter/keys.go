// Keys: the commands for what the adapter stores in Redis.

package redisadapter

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/rueidis"
)

// setNew stores a value, for d, if the key has none.
func (a *Adapter) setNew(ctx context.Context, key, value string, d time.Duration) (stored bool, err error) {
	client := a.current()
	if client == nil {
		return false, errNotConnected
	}
	err = client.Do(ctx, client.B().Set().Key(key).Value(value).Nx().Px(d).Build()).Error()
	if rueidis.IsRedisNil(err) {
		return false, nil
	}
	return err == nil, err
}

// del removes a key.
func (a *Adapter) del(ctx context.Context, key string) error {
	client := a.current()
	if client == nil {
		return errNotConnected
	}
	return client.Do(ctx, client.B().Del().Key(key).Build()).Error()
}

// failedCommand returns the error of a command, with what it was for. The end of a ctx and the absence of
// Redis are as they are.
func failedCommand(what string, err error) error {
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, errNotConnected):
		return err
	}
	return fmt.Errorf("redisadapter: %s: %w", what, err)
}
