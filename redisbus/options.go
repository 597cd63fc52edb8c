// Options, their defaults and checks.

package redisbus

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/redis/rueidis"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/redisclient"
)

// Options configure a Bus. Set either URL or Client.
type Options struct {
	// URL is the address of Redis, as rueidis.ParseURL takes it: redis://, rediss://
	// or unix://, with ?master_set= for Sentinel and more ?addr= for a cluster.
	URL string
	// Client is the host's own client. The host closes it after the bus has closed. Set its
	// ConnWriteTimeout to 2 s instead of rueidis' 10 s, so that the bus detects a dead
	// connection sooner.
	Client rueidis.Client

	// Key is the prefix of all keys in Redis. Defaults to "realtime".
	Key string
	// Group names the nodes that share the work: each event is handled by one of them.
	// Processes that handle events for another purpose have a group of their own.
	// Defaults to "realtime".
	Group string
	// Partitions is the number of streams that the events are spread over, by their
	// keys. Events of a partition are handled one after the other, so it bounds how
	// many nodes share the work and how many handlers run at once. It is stored in
	// Redis when a Key is first used, and every Bus with that Key must have the same;
	// package redisbus says how to change it. Defaults to 16. Events about a user's
	// access (realtime.AccessKey) have two more partitions of their own.
	Partitions int
	// StartAlone lets Subscribe succeed while Redis is unreachable; the bus joins the
	// others later. By default Subscribe fails.
	StartAlone bool
	// Name is what operators see as the consumer's name, followed by an id. Defaults to
	// the host's name.
	Name string

	// Attempts is how often an event is handed to a handler that fails, and how often
	// an event is begun whose process ended before it was handled. After that it is
	// set aside. Defaults to 5.
	Attempts int
	// MaxEvent bounds an event, in bytes. Defaults to 1 MiB.
	MaxEvent int
	// MaxWaiting bounds the events of a partition that wait to be handled. Beyond it
	// the oldest are removed, and OnGap is called. What all groups have handled is
	// removed within seconds, so this is for consumers that are slow or absent.
	// Redis removes by blocks of about a hundred. Defaults to 65536.
	MaxWaiting int
	// MaxSetAside bounds the events of a group that were set aside; beyond it the
	// oldest are removed. Defaults to 10000.
	MaxSetAside int

	// OnSetAside is called for each event that is set aside. It may block, which holds
	// up the event's partition; calls may overlap.
	OnSetAside func(SetAside)
	// OnGap is called when events may have been removed before they were handled. It
	// may block, which holds up the partition; calls may overlap.
	OnGap func(Gap)
	// Logger gets what an operator should know. Defaults to slog.Default.
	Logger *slog.Logger
}

// SetAside is an event that is not handed out again: its handler kept failing, its
// processes kept ending, or it cannot be read. It waits in the stream
// "{Key}:aside:Group" with the same fields and its reason.
type SetAside struct {
	// Event is what could be read of it.
	Event     realtime.Envelope
	Partition string
	Entry     string // its id in the partition's stream
	Reason    error
}

// Gap says that events of a partition may have been removed before they were handled.
type Gap struct {
	Partition string
	// Reason is for logs.
	Reason string
}

const (
	defaultKey         = "realtime"
	defaultGroup       = "realtime"
	defaultPartitions  = 16
	defaultAttempts    = 5
	defaultMaxEvent    = 1 << 20
	defaultMaxWaiting  = 1 << 16
	defaultMaxSetAside = 10000

	maxPartitions = 1024
)

// complete returns o with its defaults, and an error that joins every mistake.
func (o Options) complete() (Options, error) {
	var errs []error
	mistake := func(format string, args ...any) { errs = append(errs, fmt.Errorf("redisbus: "+format, args...)) }
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
	for _, s := range []struct {
		name string
		v    *string
		def  string
	}{
		{"Key", &o.Key, defaultKey},
		{"Group", &o.Group, defaultGroup},
	} {
		if strings.ContainsAny(*s.v, "{}") { // they say what part of a key decides its place in a cluster
			mistake("Options.%s: %q contains a brace", s.name, *s.v)
		}
		if *s.v == "" {
			*s.v = s.def
		}
	}
	for _, n := range []struct {
		name string
		v    *int
		def  int
	}{
		{"Partitions", &o.Partitions, defaultPartitions},
		{"Attempts", &o.Attempts, defaultAttempts},
		{"MaxEvent", &o.MaxEvent, defaultMaxEvent},
		{"MaxWaiting", &o.MaxWaiting, defaultMaxWaiting},
		{"MaxSetAside", &o.MaxSetAside, defaultMaxSetAside},
	} {
		if *n.v < 0 {
			mistake("Options.%s is negative", n.name)
		}
		if *n.v == 0 {
			*n.v = n.def
		}
	}
	if o.Partitions > maxPartitions {
		mistake("Options.Partitions: %d is more than %d", o.Partitions, maxPartitions)
	}
	if o.Name == "" {
		o.Name, _ = os.Hostname() // a node without a name has its id
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o, errors.Join(errs...)
}
