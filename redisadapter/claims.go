// Claims: a key in Redis that one node takes, so that one client recovers a socket.

package redisadapter

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/rueidis"
)

// Claim implements realtime.Claimer, with SET NX.
func (a *Adapter) Claim(ctx context.Context, key string, d time.Duration) (first bool, err error) {
	client := a.current()
	if client == nil {
		return false, errNotConnected
	}
	err = client.Do(ctx, client.B().Set().Key(claimKey(a.opts.Key, key)).Value(a.uid).Nx().Px(d).Build()).Error()
	switch {
	case err == nil:
		return true, nil
	case rueidis.IsRedisNil(err):
		return false, nil
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return false, err
	}
	return false, fmt.Errorf("redisadapter: claim: %w", err)
}

// Unclaim implements realtime.Claimer.
func (a *Adapter) Unclaim(ctx context.Context, key string) error {
	client := a.current()
	if client == nil {
		return errNotConnected
	}
	if err := client.Do(ctx, client.B().Del().Key(claimKey(a.opts.Key, key)).Build()).Error(); err != nil {
		return fmt.Errorf("redisadapter: claim: %w", err)
	}
	return nil
}

func claimKey(prefix, key string) string { return prefix + "#claim#" + key }
