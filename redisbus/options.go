// Options: their defaults and checks, and the arguments of their functions.

package redisbus

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

// Options configures a Bus. Either URL or Client is required.
type Options struct {
	// URL is the address of Redis, in the syntax of rueidis.ParseURL: redis://, rediss://
	// or unix://, with ?master_set= for Sentinel and more ?addr= for a cluster.
	URL string
	// Client is the host's own client, in place of URL. The host closes it after
	// Bus.Close. Set its ConnWriteTimeout to 2 s, so that a dead connection is detected
	// sooner than with rueidis' default of 10 s.
	Client rueidis.Client

	// Key is the prefix of all keys in Redis. Defaults to "realtime".
	Key string
	// Group is the name of the nodes that share the events: one node of each group handles
	// an event. Processes that handle events for another purpose use another group.
	// Defaults to "realtime".
	Group string
	// Partitions is the number of streams over which the events are spread, by their
	// keys. Events of a partition are handled one after the other, so it is the maximum
	// number of nodes that share the work, and of events that are handled at once. It is
	// stored in Redis when a Key is first used, and every Bus with that Key must have the
	// same number; the package comment says how to change it. Events about a user's access
	// (realtime.AccessKey) have two more partitions of their own. At most 1024. Defaults to
	// 16.
	Partitions int
	// StartAlone makes Subscribe succeed while Redis is unreachable; the bus joins the
	// group later. Defaults to false: Subscribe returns an error.
	StartAlone bool
	// Name is the beginning of the consumer's name in Redis, for operators; a random id
	// follows it. Defaults to the host name.
	Name string

	// Attempts is how often a handler that fails is called for an event before the event
	// is set aside. An event is also set aside if its process ends that often, or once more,
	// while a handler runs. Defaults to 5.
	Attempts int
	// MaxEvent is the maximum size of an event's fields, in bytes. Publish returns an error
	// for a larger one. Defaults to 1 MiB.
	MaxEvent int
	// MaxWaiting is the maximum number of events of a partition that wait to be handled.
	// Beyond it the oldest are removed, and OnGap is called. Events that all groups have
	// handled are removed within seconds, so it is reached only if a group is slow or has no
	// nodes. Redis removes about a hundred at a time, so somewhat more may wait. Defaults to
	// 65536.
	MaxWaiting int
	// MaxSetAside is the maximum number of events of a group that are kept after they were
	// set aside; beyond it the oldest are removed. Defaults to 10000.
	MaxSetAside int

	// HandlerTimeout is the timeout of each call of a handler: its ctx ends then. A call that
	// has not returned a second later is abandoned: the bus does not wait for it any more, and
	// sets its event aside. As long as it runs, the handler is not called for the events of
	// its partition, which are set aside at once. A handler that fails is not called again
	// for an event once HandlerTimeout has passed since the first call. So a handler that
	// hangs delays the other handlers of its Bus once, and it has at most one abandoned call
	// for each partition. Defaults to 5 s.
	HandlerTimeout time.Duration

	// OnSetAside is called for each event that is set aside. Calls of OnSetAside and OnGap
	// are made one after another, and the partition's next events wait for its call. A
	// call that runs for one to two HandlerTimeouts is abandoned: the next one starts, and
	// events wait for no call until one has returned in time. While 4 calls are
	// abandoned, a further one that hangs makes the bus drop calls and log their number.
	// Defaults to none: the event is only logged.
	OnSetAside func(SetAside)
	// OnGap is called when events may have been removed before they were handled. It is
	// called as OnSetAside is. Defaults to none: the gap is only logged.
	OnGap func(Gap)
	// Logger receives the log. Defaults to slog.Default().
	Logger *slog.Logger
}

// SetAside is an event that is not delivered again: its handler failed too often, its process
// ended too often, or it cannot be read. It is kept in the stream "{Key}:aside:Group", with
// the same fields, at most the first 1000, and the fields reason, partition and entry.
type SetAside struct {
	// Event has the fields that could be read.
	Event     realtime.Envelope
	Partition string // its name, as in the keys
	Entry     string // its id in the partition's stream
	Reason    error  // why it was set aside, such as the handler's error
}

// Gap says that events of a partition may have been removed before they were handled.
type Gap struct {
	Partition string // its name, as in the keys
	// Reason says why, for the log.
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

	defaultHandlerTimeout = 5 * time.Second
	maxHandlerTimeout     = 365 * 24 * time.Hour

	maxPartitions = 1024
)

// complete returns o with its defaults, and an error that joins every mistake.
func (o Options) complete() (Options, error) {
	var errs []error
	mistake := func(format string, args ...any) { errs = append(errs, fmt.Errorf("redisbus: "+format, args...)) }
	if err := redisclient.CheckOptions(o.URL, o.Client); err != nil {
		mistake("%w", err)
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
	switch {
	case o.HandlerTimeout < 0:
		mistake("Options.HandlerTimeout is negative")
	case o.HandlerTimeout > maxHandlerTimeout:
		mistake("Options.HandlerTimeout is more than a year")
	case o.HandlerTimeout == 0:
		o.HandlerTimeout = defaultHandlerTimeout
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
