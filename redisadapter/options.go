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
	"github.com/rodando/realtime/internal/logsample"
	"github.com/rodando/realtime/internal/redisclient"
)

// Options configure an Adapter. Set either URL or Client.
type Options struct {
	// URL is the address of Redis, as rueidis.ParseURL takes it: redis://, rediss://
	// or unix://, with ?master_set= for Sentinel and more ?addr= for a cluster.
	URL string
	// Client is the host's own client. The host closes it after the server has shut down.
	// Set its ConnWriteTimeout to 2 s instead of rueidis' 10 s, so that the adapter
	// detects a dead connection sooner.
	Client rueidis.Client

	// Key is the prefix of all channels, `key` in Node's options (channelPrefix
	// with Sharded). Defaults to "socket.io".
	Key string
	// Namespaces are the namespaces that Start subscribes to. The adapter subscribes to
	// other namespaces when their first socket connects. Defaults to the three built-in
	// namespaces.
	Namespaces []string
	// Sharded uses sharded pub/sub, and the protocol of Node's createShardedAdapter with
	// subscriptionMode "static". It is for Redis Cluster, and for Redis servers without
	// PSUBSCRIBE. All nodes must have the same value. Defaults to false.
	Sharded bool
	// StartAlone lets the server start while Redis is unreachable; it connects to the
	// others later. Defaults to false: Start returns an error.
	StartAlone bool
	// Name is this node's name in the errors and logs of other nodes. Defaults to the
	// host name.
	Name string

	// RequestTimeout is how long the adapter waits for other nodes' answers when it
	// requests their sockets or asks them with ServerAsk, and for acks when the caller's ctx has no
	// deadline. It also bounds the answer to another node's request that gives no time of its own;
	// a handler of OnServerAsk has a tenth of it less, at most 0.5 s, so that the other node still
	// gets null when the handler takes too long. So all nodes should have the same value.
	// Defaults to 5 s.
	RequestTimeout time.Duration
	// MaxMessage is the maximum size of a message in bytes, in both directions.
	// Defaults to 16 MiB.
	MaxMessage int
	// MaxDepth is the maximum nesting depth of an event's arguments. Defaults to 64.
	MaxDepth int
	// MaxAttachments is the maximum number of binary values in an event. Defaults to 64.
	MaxAttachments int
	// QueuedMessages and QueuedBytes are the maximum length and size of a queue: of the
	// messages to publish, and of the received messages of each namespace. When the first
	// is full, Publish returns an error; when the second is full, messages are dropped and
	// a gap is reported to the server. QueuedBytes also bounds the other nodes' requests of each
	// kind that are answered at the same time. Default to 65536 and 64 MiB.
	QueuedMessages int
	QueuedBytes    int

	// Logger receives the adapter's log records. Defaults to slog.Default.
	Logger *slog.Logger
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
	if err := redisclient.CheckOptions(o.URL, o.Client); err != nil {
		mistake("%w", err)
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
		o.Name, _ = os.Hostname() // without a name, others use the node's id
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	o.Logger = slog.New(logsample.New(o.Logger.Handler())) // other nodes can cause records too
	return o, errors.Join(errs...)
}
