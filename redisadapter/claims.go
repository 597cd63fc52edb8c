// Claims: a key in Redis that one node takes, so that one client recovers a socket.

package redisadapter

import (
	"context"
	"time"
)

// Claim implements realtime.Claimer, with SET NX.
func (a *Adapter) Claim(ctx context.Context, key string, d time.Duration) (first bool, err error) {
	first, err = a.setNew(ctx, claimKey(a.opts.Key, key), a.uid, d)
	return first, failedCommand("claim", err)
}

// Unclaim implements realtime.Claimer.
func (a *Adapter) Unclaim(ctx context.Context, key string) error {
	return failedCommand("claim", a.del(ctx, claimKey(a.opts.Key, key)))
}

func claimKey(prefix, key string) string { return prefix + "#claim#" + key }
