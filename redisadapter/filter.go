// The filter of what Redis sends: most broadcasts of a cluster are for other nodes, and are
// dropped before the client parses them.

package redisadapter

import (
	"bytes"
	"context"
	"crypto/tls"
	"maps"
	"net"

	"github.com/redis/rueidis"

	"github.com/rodando/realtime/redisadapter/internal/sift"
)

// filterMessages adds the filter to a client's connections. Only messages of patterns pass
// through it, which the sharded protocol does not have.
func (a *Adapter) filterMessages(o *rueidis.ClientOption) {
	if a.opts.Sharded {
		return
	}
	dial := o.DialCtxFn
	o.DialCtxFn = func(ctx context.Context, address string, d *net.Dialer, secure *tls.Config) (net.Conn, error) {
		c, err := dial(ctx, address, d, secure)
		if err != nil {
			return nil, err
		}
		return sift.New(c, a.filters), nil
	}
}

// filterNamespace makes the filter know a namespace.
func (a *Adapter) filterNamespace(ns *namespace) {
	for _, s := range a.protocol.subscriptions(ns.name) {
		if !s.pattern {
			continue
		}
		for {
			old := a.patterns.Load()
			patterns := map[string]*namespace{}
			if old != nil {
				maps.Copy(patterns, *old)
			}
			patterns[s.name] = ns
			if a.patterns.CompareAndSwap(old, &patterns) {
				break
			}
		}
	}
}

// filters is called by a connection's reader. When it is called, ns.push has been called for
// all messages that came before.
func (a *Adapter) filters(pattern, channel, head []byte) bool {
	patterns := a.patterns.Load()
	if patterns == nil {
		return false
	}
	ns := (*patterns)[string(pattern)]
	if ns == nil {
		return false
	}
	return bytes.HasPrefix(head, a.head) || ns.idle() && ns.lacks(string(channel))
}
