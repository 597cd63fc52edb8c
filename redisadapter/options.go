// Options, their defaults and checks.

package redisadapter

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/redisclient"
)

// Options are what New makes an Adapter of. One of URL and Client is needed.
type Options struct {
	// URL is the address of Redis, as rueidis.ParseURL takes it: redis://, rediss://
	// or unix://, with ?master_set= for Sentinel and more ?addr= for a cluster.
	URL string
	// Client is a client of the host's own instead, which the host closes after
	// the server has shut down. Its ConnWriteTimeout should be 2 s rather than
	// rueidis' 10, so that a dead connection is noticed sooner.
	Client rueidis.Client

	// Key is the prefix of all channels, `key` in Node's options (channelPrefix
	// with Sharded). Defaults to "socket.io".
	Key string
	// Namespaces are subscribed to by Start; others when their first socket
	// connects. Defaults to the built-in three.
	Namespaces []string
	// Sharded uses sharded pub/sub and speaks to Node's createShardedAdapter
	// with subscriptionMode "static". For Redis Cluster, and for servers without
	// PSUBSCRIBE. All nodes of a cluster have it, or none.
	Sharded bool
	// StartAlone lets the server start while Redis is unreachable and join the
	// others later. By default starting fails.
	StartAlone bool
	// Name is what other nodes call this one in errors and logs. Defaults to the
	// host's name.
	Name string

	// RequestTimeout bounds how long other nodes are waited for when they are
	// asked for sockets, and how long acks are when the caller sets no deadline.
	// Defaults to 5 s.
	RequestTimeout time.Duration
	// MaxMessage bounds a message, in bytes, in both directions. Defaults to
	// 16 MiB.
	MaxMessage int
	// MaxDepth bounds the nesting of an event's arguments. Defaults to 64.
	MaxDepth int
	// MaxAttachments bounds the binary values of an event. Defaults to 64.
	MaxAttachments int
	// QueuedMessages and QueuedBytes bound what waits: to be published, and for
	// each namespace to be delivered. Beyond them messages are lost, Publish
	// fails, and OnGap says so. Default to 65536 and 64 MiB.
	QueuedMessages int
	QueuedBytes    int

	// OnGap is called after messages from other nodes may have been lost, once
	// they arrive again. It may block; calls do not overlap.
	OnGap func(Gap)
	// Logger gets what an operator should know. Defaults to slog.Default.
	Logger *slog.Logger
}

// Gap is a time in which messages from other nodes may have been lost.
type Gap struct {
	Since, Until time.Time
	// Node is the node whose messages may have been lost, empty for all.
	Node string
	// Reason is for logs.
	Reason string
}

const (
	defaultKey            = "socket.io"
	defaultRequestTimeout = 5 * time.Second
	defaultMaxMessage     = 16 << 20
	defaultMaxDepth       = 64
	defaultMaxAttachments = 64
	defaultQueued         = 1 << 16
	defaultQueuedBytes    = 64 << 20

	writeTimeout = redisclient.WriteTimeout
)

// complete returns o with its defaults, and an error that joins every mistake.
func (o Options) complete() (Options, error) {
	var errs []error
	mistake := func(format string, args ...any) { errs = append(errs, fmt.Errorf("redisadapter: "+format, args...)) }
	switch {
	case o.URL == "" && o.Client == nil:
		mistake("set Options.URL or Options.Client")
	case o.URL != "" && o.Client != nil:
		mistake("set Options.URL or Options.Client, not both")
	case o.URL != "":
		if err := redisclient.CheckURL(o.URL); err != nil {
			mistake("Options.URL: %w", err)
		}
	}
	for _, ns := range o.Namespaces {
		if !strings.HasPrefix(ns, "/") {
			mistake("Options.Namespaces: %q does not begin with a slash", ns)
		}
	}
	for _, n := range []struct {
		name string
		v    *int
		def  int
	}{
		{"MaxMessage", &o.MaxMessage, defaultMaxMessage},
		{"MaxDepth", &o.MaxDepth, defaultMaxDepth},
		{"MaxAttachments", &o.MaxAttachments, defaultMaxAttachments},
		{"QueuedMessages", &o.QueuedMessages, defaultQueued},
		{"QueuedBytes", &o.QueuedBytes, defaultQueuedBytes},
	} {
		if *n.v < 0 {
			mistake("Options.%s is negative", n.name)
		}
		if *n.v == 0 {
			*n.v = n.def
		}
	}
	switch {
	case o.RequestTimeout == 0:
		o.RequestTimeout = defaultRequestTimeout
	case o.RequestTimeout < time.Millisecond:
		mistake("Options.RequestTimeout: %v is less than a millisecond", o.RequestTimeout)
	}
	if o.Key == "" {
		o.Key = defaultKey
	}
	if o.Namespaces == nil {
		o.Namespaces = []string{realtime.NamespaceDrivers, realtime.NamespacePassengers, realtime.NamespaceAdmin}
	}
	if o.Name == "" {
		o.Name, _ = os.Hostname() // a node without a name has its id
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o, errors.Join(errs...)
}
