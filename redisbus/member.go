// A member: this node in its group. It sends a heartbeat to Redis, and acquires and releases
// partitions until the node has its share. session.go handles the events of each.

package redisbus

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	random "math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// member exists while the bus has subscriptions.
type member struct {
	b     *Bus
	asked time.Time       // when the host called Subscribe
	ctx   context.Context // ends when the node leaves the group
	leave context.CancelFunc
	quiet chan struct{} // closed when no session calls a handler, or a function of BeforeHandover or BeforeTakeover, any more

	sessions map[int]*session // by the partition's index; used by run alone
	tokens   map[int]string   // by the partition's index: tokens of leases that Redis may have given without an answer; used by run alone

	mu       sync.Mutex    // guards the rest
	began    []entryID     // by partition: the last entry when the member began; nil: not known yet
	reached  []entryID     // by partition: the last entry that this node has handled; initially began
	begun    []bool        // by partition: a handler was called, and since then no functions of BeforeHandover
	troubles map[int]error // the present errors, by the partition's index; ofBeat for the heartbeat
}

func newMember(b *Bus, began []entryID, asked time.Time) *member {
	m := &member{b: b, asked: asked, began: began, reached: slices.Clone(began), begun: make([]bool, len(b.keys.all)), sessions: map[int]*session{}, tokens: map[int]string{}, troubles: map[int]error{}, quiet: make(chan struct{})}
	m.ctx, m.leave = context.WithCancel(b.handling)
	return m
}

// waited reports whether an entry was published before the member began. No handler of this
// node existed then, so all of them receive it.
func (m *member) waited(p *partition, id entryID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.began == nil || !id.after(m.began[p.index])
}

// begin stores that a handler is called with an event of a partition, from which on it may emit.
func (m *member) begin(p *partition) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.begun[p.index] = true
}

// hasBegun reports whether the functions of BeforeHandover are to be called for a partition.
func (m *member) hasBegun(p *partition) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.begun[p.index]
}

// handedOver stores that they were.
func (m *member) handedOver(p *partition) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.begun[p.index] = false
}

// reach stores that the node has handled an entry.
func (m *member) reach(p *partition, id entryID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reached[p.index] = id // known before there is a session
}

// handledLast returns the id of the last entry of a partition that the node has handled.
func (m *member) handledLast(p *partition) entryID {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.reached[p.index]
}

// health returns nil if the node handles all events of its share, otherwise an error that says
// why it does not.
func (m *member) health() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.healthLocked()
}

func (m *member) healthLocked() error {
	if err := m.troubles[ofBeat]; err != nil {
		return err
	}
	for i, err := range m.troubles {
		return fmt.Errorf("partition %s: %w", m.b.keys.all[i].name, err)
	}
	return nil
}

// ofBeat is the key of the heartbeat's error in troubles, in place of a partition's index.
const ofBeat = -1

// note stores the result of the heartbeat or of a partition's session: an error, or nil. It logs
// when the node's health changes.
func (m *member) note(of int, err error) {
	m.mu.Lock()
	was := m.healthLocked()
	if err == nil {
		delete(m.troubles, of)
	} else {
		m.troubles[of] = err
	}
	is := m.healthLocked()
	m.mu.Unlock()
	switch {
	case m.ctx.Err() != nil:
	case is != nil && was == nil:
		m.b.log.Error("redisbus: not all events of this node's share are handled", "error", is)
	case is == nil && was != nil:
		m.b.log.Info("redisbus: the events of this node's share are handled again")
	}
}

// run sends heartbeats until the node leaves the group, then waits until all sessions have ended.
func (m *member) run() {
	tick := time.NewTicker(m.b.timing.beat)
	defer tick.Stop()
	for m.ctx.Err() == nil {
		m.note(ofBeat, m.beat())
		select {
		case <-tick.C:
		case <-m.ctx.Done():
		}
	}
	var resigning sync.WaitGroup
	resigning.Go(func() { // the handlers need not wait for Redis
		m.resign()
		m.giveUp()
	})
	for _, s := range m.sessions {
		s.release()
	}
	for _, s := range m.sessions {
		<-s.quiet
	}
	close(m.quiet)
	for _, s := range m.sessions {
		<-s.done
	}
	resigning.Wait()
}

// isQuiet reports whether quiet is closed.
func (m *member) isQuiet() bool {
	select {
	case <-m.quiet:
		return true
	default:
		return false
	}
}

// beat sends a heartbeat, then acquires or releases partitions.
func (m *member) beat() error {
	ctx, cancel := within(m.ctx, m.b.timing.call)
	defer cancel()
	client, err := m.b.connections.get(ctx)
	if err != nil {
		return err
	}
	if err := m.enter(); err != nil {
		return err
	}
	place, err := joinScript.Exec(ctx, client, []string{m.b.keys.members}, []string{m.b.name, ms(m.b.timing.lease)}).AsIntSlice()
	if err != nil {
		return err
	}
	if len(place) != 2 || place[0] < 1 {
		return errReply
	}
	nodes, before := int(place[0]), int(place[1])
	maps.DeleteFunc(m.sessions, func(_ int, s *session) bool { return s.ended() })
	// If the partitions cannot be divided equally, the first nodes have one more of the
	// ordinary ones, and the last nodes one more of the others.
	ordinary, access := m.b.keys.ordinary, m.b.keys.access
	return errors.Join(
		m.balance(client, ordinary, share(len(ordinary), nodes, before)),
		m.balance(client, access, share(len(access), nodes, nodes-1-before)))
}

// share returns how many of all partitions belong to a node, of which before others come first
// in the order of the nodes.
func share(all, nodes, before int) int {
	n := all / nodes
	if before < all%nodes {
		n++
	}
	return n
}

// enter creates the streams and the group, if Subscribe could not because Redis did not answer. A
// new group begins with what was published since Subscribe.
func (m *member) enter() error {
	m.mu.Lock()
	known := m.began != nil
	m.mu.Unlock()
	if known {
		return nil
	}
	ago := time.Since(m.asked) + m.b.timing.call // the call may take as long
	ends, err := m.b.enter(m.ctx, "ago", ms(ago))
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.began, m.reached = ends, slices.Clone(ends)
	return nil
}

// balance releases partitions of one kind if the node has more than its share, or acquires free
// ones if it has less.
func (m *member) balance(client rueidis.Client, all []partition, share int) (err error) {
	ctx, cancel := within(m.ctx, m.b.timing.call)
	defer cancel()
	owned := 0
	for i := range all {
		if s := m.sessions[all[i].index]; s != nil && !s.releasing() {
			if owned++; owned > share {
				s.release()
			}
		}
	}
	for _, i := range random.Perm(len(all)) { // a random order, so that nodes do not all try the same partition first
		p := &all[i]
		if owned >= share || ctx.Err() != nil {
			break
		}
		if m.sessions[p.index] != nil {
			continue
		}
		s, failed := m.acquire(ctx, client, p)
		if failed != nil {
			err = failed // go on: on a cluster, another partition may be on a server that answers
		}
		if s != nil {
			m.sessions[p.index] = s
			owned++
		}
	}
	return err
}

// acquire begins a session if the partition has no owner, and returns nil if it has one.
func (m *member) acquire(ctx context.Context, client rueidis.Client, p *partition) (*session, error) {
	if m.tokens[p.index] == "" {
		m.tokens[p.index] = m.b.name + ":" + rand.Text() // not a counter: a copy of this process would count alike
	}
	token, asked := m.tokens[p.index], time.Now()
	ok, err := acquireScript.Exec(ctx, client, []string{p.owner}, []string{token, ms(m.b.timing.lease)}).AsInt64()
	if err != nil {
		return nil, err
	}
	delete(m.tokens, p.index)
	if ok == 0 {
		return nil, nil
	}
	return newSession(m, client, p, token, asked), nil
}

// giveUp ends leases that Redis may have given without an answer. Otherwise their partitions
// would have no active owner until the leases end.
func (m *member) giveUp() {
	ctx, cancel := within(context.Background(), m.b.timing.call)
	defer cancel()
	client, err := m.b.connections.get(ctx)
	if err != nil {
		return
	}
	for i, token := range m.tokens {
		releaseScript.Exec(ctx, client, []string{m.b.keys.all[i].owner}, []string{token})
	}
}

// resign removes the node from the members of the group.
func (m *member) resign() {
	ctx, cancel := within(context.Background(), m.b.timing.call)
	defer cancel()
	client, err := m.b.connections.get(ctx)
	if err == nil {
		err = client.Do(ctx, client.B().Zrem().Key(m.b.keys.members).Member(m.b.name).Build()).Error()
	}
	if err != nil {
		m.b.log.Warn("redisbus: could not leave the group; the other nodes notice it later", "error", err)
	}
}

// ms returns a duration in milliseconds, as Redis expects it.
func ms(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
