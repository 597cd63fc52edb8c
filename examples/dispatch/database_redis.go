// The database in Redis, for several instances. A transaction WATCHes what it reads and
// commits with MULTI and EXEC, so that of two that concern the same rows one runs again.
// All keys are in one slot of a Redis Cluster.

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/redis/rueidis"

	"github.com/rodando/realtime"
)

// redisDatabase is a database that instances share. The host closes client.
type redisDatabase struct {
	client  rueidis.Client
	log     *slog.Logger
	publish func(ctx context.Context, e realtime.Envelope) error // on the bus
	me      string                                               // in the lease of the relay
	lease   time.Duration                                        // how long the relay of a dead instance keeps the others from relaying
}

func newRedisDatabase(client rueidis.Client, publish func(context.Context, realtime.Envelope) error, log *slog.Logger) *redisDatabase {
	return &redisDatabase{client: client, log: log, publish: publish, me: uuid.NewString(), lease: 5 * time.Second}
}

// dialRedis connects to a URL such as redis://host:6379.
func dialRedis(url string) (rueidis.Client, error) {
	o, err := rueidis.ParseURL(url)
	if err != nil {
		return nil, errors.New("REDIS_URL is not a URL such as redis://localhost:6379") // without a password that is in it
	}
	o.DisableCache = true
	o.ConnWriteTimeout = 2 * time.Second // a dead connection is detected sooner than with the default of 10 s
	o.BlockingPoolSize = 64              // transactions at once; each has a connection of its own
	o.ReadBufferEachConn, o.WriteBufferEachConn = 32<<10, 32<<10
	client, err := rueidis.NewClient(o)
	if err != nil {
		return nil, fmt.Errorf("connecting to REDIS_URL: %w", err)
	}
	return client, nil
}

const (
	redisPrefix  = "{dispatch}:"
	redisOutbox  = redisPrefix + "outbox"
	redisRelayer = redisPrefix + "relayer"
)

// errBusy means that a transaction met another one each time.
var errBusy = errors.New("too many concurrent changes of the same rows")

// unanswered returns an error of Redis as one of a service that cannot answer now, so that apps
// try again; nil stays nil.
func unanswered(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", realtime.ErrUnavailable, err)
}

func (r *redisDatabase) change(ctx context.Context, f func(t *tx) error) error {
	for try := range 100 {
		committed, err := r.attempt(ctx, f)
		if err != nil || committed {
			return err
		}
		select {
		case <-time.After(rand.N(time.Duration(min(try+1, 20)) * time.Millisecond)):
		case <-ctx.Done():
			return unanswered(ctx.Err())
		}
	}
	return unanswered(errBusy)
}

// attempt runs a transaction once. It reports whether it took place: with its writes, or with
// an error of f as its result.
func (r *redisDatabase) attempt(ctx context.Context, f func(t *tx) error) (committed bool, err error) {
	c, release := r.client.Dedicate()
	defer release()
	t := newTx(func(keys []string) ([][]byte, error) {
		full := prefixed(keys)
		results := c.DoMulti(ctx, c.B().Watch().Key(full...).Build(), c.B().Mget().Key(full...).Build())
		if err := results[0].Error(); err != nil {
			return nil, unanswered(err)
		}
		return rowsOf(results[1])
	})
	refused := f(t)
	var commands rueidis.Commands
	if refused == nil && t.err == nil {
		commands, t.err = r.commands(c.B(), t)
	}
	if t.err != nil {
		c.Close() // and with it what it watches
		return false, t.err
	}
	// Without commands this only checks that f has seen one state.
	results := c.DoMulti(ctx, append(append(rueidis.Commands{c.B().Multi().Build()}, commands...), c.B().Exec().Build())...)
	answers, err := results[len(results)-1].ToArray()
	switch {
	case rueidis.IsRedisNil(err):
		return false, nil
	case err != nil:
		c.Close()
		return false, unanswered(err)
	}
	for _, a := range answers {
		if err := a.Error(); err != nil {
			return false, unanswered(err)
		}
	}
	return true, refused
}

// commands returns the commands of what a transaction writes.
func (r *redisDatabase) commands(b rueidis.Builder, t *tx) (commands rueidis.Commands, err error) {
	for _, w := range t.writes {
		key := redisPrefix + w.key
		switch {
		case w.key != "" && w.row == nil:
			commands = append(commands, b.Del().Key(key).Build())
		case w.key != "" && w.ttl > 0:
			commands = append(commands, b.Set().Key(key).Value(rueidis.BinaryString(w.row)).Px(w.ttl).Build())
		case w.key != "" && w.ttl == sameTTL:
			commands = append(commands, b.Set().Key(key).Value(rueidis.BinaryString(w.row)).Keepttl().Build())
		case w.key != "":
			commands = append(commands, b.Set().Key(key).Value(rueidis.BinaryString(w.row)).Build())
		case w.set:
			commands = append(commands, b.Zadd().Key(redisPrefix+string(w.in)).ScoreMember().ScoreMember(w.rank, w.id).Build())
		default:
			commands = append(commands, b.Zrem().Key(redisPrefix+string(w.in)).Member(w.id).Build())
		}
	}
	for _, e := range t.events {
		// With its id, so that it has the same one if it is published twice.
		env, err := realtime.NewEnvelope(e)
		if err != nil {
			return nil, err
		}
		data, err := json.Marshal(env)
		if err != nil {
			return nil, err
		}
		commands = append(commands, b.Xadd().Key(redisOutbox).Id("*").FieldValue().FieldValue("event", rueidis.BinaryString(data)).Build())
	}
	return commands, nil
}

func (r *redisDatabase) view(ctx context.Context, f func(t *tx) error) error {
	t := newTx(func(keys []string) ([][]byte, error) {
		return rowsOf(r.client.Do(ctx, r.client.B().Mget().Key(prefixed(keys)...).Build()))
	})
	return t.end(f(t))
}

func prefixed(keys []string) []string {
	full := make([]string, len(keys))
	for i, key := range keys {
		full[i] = redisPrefix + key
	}
	return full
}

func rowsOf(result rueidis.RedisResult) ([][]byte, error) {
	values, err := result.ToArray()
	if err != nil {
		return nil, unanswered(err)
	}
	rows := make([][]byte, len(values))
	for i := range values {
		if values[i].IsNil() {
			continue
		}
		if rows[i], err = values[i].AsBytes(); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

func (r *redisDatabase) lowest(ctx context.Context, in index, limit int) ([]member, error) {
	found, err := r.client.Do(ctx, r.client.B().Zrange().Key(redisPrefix+string(in)).Min("0").Max(strconv.Itoa(limit-1)).Withscores().Build()).AsZScores()
	members := make([]member, len(found))
	for i, z := range found {
		members[i] = member{z.Member, z.Score}
	}
	return members, unanswered(err)
}

// poll is how late an instance may look at a trip that another one has left behind.
func (*redisDatabase) poll() time.Duration { return 250 * time.Millisecond }

// leased takes the lease of the outbox if it is free, or renews it if it is this instance's,
// and removes from the outbox what is before ARGV[3]. It returns 0 if another instance has it.
var leased = rueidis.NewLuaScript(`
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if ARGV[3] ~= '' then redis.call('XTRIM', KEYS[2], 'MINID', ARGV[3]) end
return 1`)

// relinquish ends the lease, if it is this instance's.
var relinquish = rueidis.NewLuaScript(`
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0`)

// relay publishes the events of all instances while it has the lease, so that they keep their
// order; another instance takes over within r.lease when this one dies. What that one had
// published and not yet removed is then published twice, with the same id, by which the
// servers recognize it.
func (r *redisDatabase) relay(ctx context.Context, _ *realtime.Server) {
	next := "" // the id from which on the outbox was not published
	for ctx.Err() == nil {
		holds, err := r.hold(ctx, next)
		next = ""
		if err == nil && holds {
			next, err = r.relaySome(ctx)
		}
		switch {
		case ctx.Err() != nil:
		case err != nil:
			r.log.Warn("outbox not relayed", "error", err)
			sleep(ctx, time.Second)
		case !holds:
			sleep(ctx, r.lease/5)
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_, err := r.hold(ctx, next)
	if err = errors.Join(err, relinquish.Exec(ctx, r.client, []string{redisRelayer}, []string{r.me}).Error()); err != nil {
		r.log.Warn("the lease of the outbox not ended", "error", err)
	}
}

// hold takes or renews the lease, and removes the events before next from the outbox. It reports
// whether this instance has the lease.
func (r *redisDatabase) hold(ctx context.Context, next string) (bool, error) {
	return leased.Exec(ctx, r.client, []string{redisRelayer, redisOutbox},
		[]string{r.me, strconv.FormatInt(r.lease.Milliseconds(), 10), next}).AsBool()
}

// relaySome waits at most a fifth of the lease for events, publishes some, and returns the id
// from which on the outbox was not published.
func (r *redisDatabase) relaySome(ctx context.Context) (next string, err error) {
	started := time.Now()
	read := r.client.B().Xread().Count(100).Block((r.lease / 5).Milliseconds()).Streams().Key(redisOutbox).Id("0-0").Build()
	streams, err := r.client.Do(ctx, read).AsXRead()
	if rueidis.IsRedisNil(err) {
		return "", nil
	}
	for _, entry := range streams[redisOutbox] {
		if time.Since(started) > r.lease/2 { // the lease might end meanwhile
			return next, nil
		}
		var env realtime.Envelope
		if err := json.Unmarshal([]byte(entry.FieldValues["event"]), &env); err != nil {
			r.log.Error("event in the outbox cannot be read", "entry", entry.ID, "error", err)
		} else if err := r.publish(ctx, env); err != nil {
			return next, err
		}
		if next, err = after(entry.ID); err != nil {
			return "", err
		}
	}
	return next, err
}

// after returns the smallest id of a stream after another one.
func after(id string) (string, error) {
	var ms, n uint64
	if _, err := fmt.Sscanf(id, "%d-%d", &ms, &n); err != nil {
		return "", fmt.Errorf("id %q of the outbox: %w", id, err)
	}
	if n == math.MaxUint64 {
		return fmt.Sprintf("%d-0", ms+1), nil
	}
	return fmt.Sprintf("%d-%d", ms, n+1), nil
}

// sleep waits, within ctx.
func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
