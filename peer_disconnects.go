// The users whom nodes have published as disconnected: nodes tell each other, so that the node
// that has the user publishes them as connected again. A node that has missed messages asks its
// peers, and publishes all of its users again if one of them cannot answer any more.

package realtime

import (
	"slices"
	"sync"
	"time"

	"github.com/rodando/realtime/internal/roster"
	"github.com/rodando/realtime/internal/timingwheel"
)

const (
	// maxDisconnects is how many of the users that it has published as disconnected a node
	// remembers.
	maxDisconnects = 1 << 15
	// gapSlack is how much earlier than the gap a user may have been published whom the other
	// node missed: the first lost message and the request were under way for some time.
	gapSlack = 5 * time.Second
	// answerTime is how long a node waits for the answers of its peers after a gap until it asks
	// again, and answerTries how often it asks. It loses a peer that has died earlier than that.
	answerTime  = 5 * time.Second
	answerTries = 6
)

// usersRequest asks the other nodes for all of their users, and for those in the message's
// namespace whom they have published as disconnected lately.
type usersRequest struct {
	Node   string `json:"node"`            // the sender's peerUsers.id
	AgoMS  int64  `json:"agoMs"`           // how long ago the gap began, in milliseconds
	Number int64  `json:"number"`          // the last message of the answer carries it
	Again  bool   `json:"again,omitempty"` // only for those whom they have published as disconnected
}

// sharedDisconnects are users whom the sender has published as disconnected.
type sharedDisconnects struct {
	For        string             `json:"for,omitempty"` // the peerUsers.id of the only receiver; empty: all nodes
	Users      []sharedDisconnect `json:"users,omitempty"`
	Incomplete bool               `json:"incomplete,omitempty"` // the sender has forgotten some
	Answers    int64              `json:"answers,omitempty"`    // the number of the request whose answer ends here
	LostPeer   bool               `json:"lostPeer,omitempty"`   // with Answers: the sender has lost a node since the gap began
}

type sharedDisconnect struct {
	sharedUser
	AgoMS   int64 `json:"agoMs,omitempty"`   // how long ago it was published, in milliseconds
	Handled bool  `json:"handled,omitempty"` // the sender has not published it, but has handled it then, see presenceCheck
}

// disconnects holds whom this node has published as disconnected, and whom it asks after a gap.
// Its methods may be called concurrently and do not block.
type disconnects struct {
	rt *Server
	id string // of this node: peerUsers.id

	mu       sync.Mutex // guards the fields below
	ring     []disconnectedUser
	next     int       // the index of the oldest, once ring has maxDisconnects
	lostPeer time.Time // when the last peer was lost
	number   int64     // of the last request whose answers are due
	gap      openGap
	asked    time.Time // when the peers were last asked
	answers  map[*Namespace]*usersAnswer
}

// usersAnswer collapses the requests about the users of a namespace.
type usersAnswer struct {
	answering, again collapsed
	due              map[string]dueAnswer // by the peerUsers.id of the node that asks; disconnects.mu guards it
}

type dueAnswer struct {
	number int64
	since  time.Time // when the gap began
}

// maxDueAnswers is the maximum number of nodes that wait for an answer. Further ones, which are
// probably inventions, are not answered and ask again.
const maxDueAnswers = 1024

type disconnectedUser struct {
	key      presenceKey
	userType UserType
	at       time.Time
	handled  bool
}

// openGap is a gap about which peers are still to be asked, or have to answer. disconnects.mu
// guards it.
type openGap struct {
	open    bool
	since   time.Time
	all     bool            // messages of all nodes may have been lost, not only of those in due
	due     map[string]bool // the ids of the peers that have not answered
	unknown bool            // a node that cannot be asked may have published users as disconnected
	asked   int
	timer   timingwheel.Timer // asks
}

func (d *disconnects) init(u *peerUsers) {
	d.rt, d.id, d.gap.due, d.answers = u.rt, u.id, map[string]bool{}, map[*Namespace]*usersAnswer{}
	d.gap.timer.F = func() { go d.ask() } // it takes milliseconds for many users
}

// missed opens a gap. Only a peer whose messages may have been lost has to answer.
func (d *disconnects) missed(g Gap, peers []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.gap.open || d.gap.asked > 0 { // otherwise it is about to ask
		d.gap.asked = 0
		d.rt.wheel.Arm(&d.gap.timer, max(usersDelay, answerEvery-time.Since(d.asked)))
	}
	if !d.gap.open || g.Since.Before(d.gap.since) {
		d.gap.open, d.gap.since = true, g.Since
	}
	for _, peer := range peers {
		if g.Peer == "" || g.Peer == peer {
			d.gap.due[peer] = true
		}
	}
	if g.Peer == "" {
		d.gap.all = true
		d.gap.unknown = d.gap.unknown || d.lostPeer.After(g.Since)
	}
}

// ask asks the peers of an open gap, again and again until they have answered. After some tries it
// gives up.
func (d *disconnects) ask() {
	d.mu.Lock()
	if !d.gap.open || d.rt.stopping.Load() {
		d.mu.Unlock()
		return
	}
	if d.gap.asked == answerTries {
		d.gap.unknown = true
		clear(d.gap.due)
		unknown := d.closeGapLocked()
		d.mu.Unlock()
		d.publishAgain(unknown)
		return
	}
	d.gap.asked++
	d.asked = time.Now()
	d.number++
	r, since := usersRequest{Node: d.id, Number: d.number, Again: d.gap.asked > 1}, d.gap.since
	d.rt.wheel.Arm(&d.gap.timer, answerTime)
	unknown := d.closeGapLocked()
	d.mu.Unlock()
	d.publishAgain(unknown)
	d.request(r, since)
}

// request sends a request in all namespaces and, unless it is sent again, whom this node has
// published: the other nodes may have had a gap too, and have asked in vain.
func (d *disconnects) request(r usersRequest, since time.Time) {
	ago := max(0, time.Since(since))
	r.AgoMS = ago.Milliseconds()
	d.rt.each(func(ns *Namespace) {
		d.rt.shareState(ns.name, stateContent{UsersOf: &r})
		if !r.Again {
			users, incomplete := d.since(ns, ago)
			d.share(ns, sharedDisconnects{Incomplete: incomplete}, users)
		}
	})
}

// lost records that a peer has left or died: it answers no more.
func (d *disconnects) lost(peer string) {
	d.mu.Lock()
	d.lostPeer = time.Now()
	d.gap.unknown = d.gap.unknown || d.gap.due[peer]
	delete(d.gap.due, peer)
	unknown := d.closeGapLocked()
	d.mu.Unlock()
	d.publishAgain(unknown)
}

// answered records the answer of a peer.
func (d *disconnects) answered(peer string, s *sharedDisconnects) {
	d.mu.Lock()
	d.gap.unknown = d.gap.unknown || d.gap.due[peer] && (s.Incomplete || s.LostPeer && d.gap.all)
	if s.Answers == d.number { // an earlier request may have been about less
		delete(d.gap.due, peer)
	}
	unknown := d.closeGapLocked()
	d.mu.Unlock()
	d.publishAgain(unknown)
}

// closeGapLocked closes the gap if no answer is due. It reports whether the users of this node are
// to be published again.
func (d *disconnects) closeGapLocked() (unknown bool) {
	if !d.gap.open || len(d.gap.due) > 0 || d.gap.asked == 0 {
		return false
	}
	d.rt.wheel.Stop(&d.gap.timer)
	unknown = d.gap.unknown
	d.gap.open, d.gap.all, d.gap.unknown = false, false, false
	return unknown
}

func (d *disconnects) publishAgain(unknown bool) {
	if unknown {
		d.rt.log.Warn("realtime: presence of all users published again: a node cannot be asked whom it published as disconnected")
		d.rt.each(d.publishAgainIn)
	}
}

// publishAgainIn publishes that the users of a namespace are connected, at most once in againEvery.
func (d *disconnects) publishAgainIn(ns *Namespace) {
	d.answerIn(ns).again.soon(d.rt, 0, againEvery, func() { d.rt.presence.publishAgain(ns) })
}

func (d *disconnects) answerIn(ns *Namespace) *usersAnswer {
	d.mu.Lock()
	defer d.mu.Unlock()
	a := d.answers[ns]
	if a == nil {
		a = &usersAnswer{due: map[string]dueAnswer{}}
		d.answers[ns] = a
	}
	return a
}

// answer answers a request of another node, at most once in answerEvery together with those of
// other nodes. It does not wait for the adapter.
func (d *disconnects) answer(ns *Namespace, r *usersRequest) {
	a := d.answerIn(ns)
	due := dueAnswer{r.Number, time.Now().Add(-time.Duration(min(r.AgoMS, 1<<40)) * time.Millisecond)}
	d.mu.Lock()
	before, again := a.due[r.Node]
	if again && before.since.Before(due.since) {
		due.since = before.since
	}
	if again || len(a.due) < maxDueAnswers {
		a.due[r.Node] = due
	}
	d.mu.Unlock()
	a.answering.soon(d.rt, 0, answerEvery, func() { d.sendAnswers(ns, a) })
}

// sendAnswers answers the nodes that have asked, always in one namespace, otherwise if there is
// anything to say. If several have, the users are sent to all nodes.
func (d *disconnects) sendAnswers(ns *Namespace, a *usersAnswer) {
	d.mu.Lock()
	due := a.due
	a.due = map[string]dueAnswer{}
	d.mu.Unlock()
	first := time.Now()
	for _, one := range due {
		if one.since.Before(first) {
			first = one.since
		}
	}
	users, incomplete := d.since(ns, time.Since(first))
	if len(due) > 1 {
		d.share(ns, sharedDisconnects{}, users)
		users = nil
	}
	for node, one := range due {
		s := sharedDisconnects{For: node}
		if ns.name == everyShareNamespace {
			d.mu.Lock()
			s.Answers, s.Incomplete, s.LostPeer = one.number, incomplete, d.lostPeer.After(one.since)
			d.mu.Unlock()
		}
		d.share(ns, s, users)
	}
}

// since returns the users of a namespace whom this node has published as disconnected since a gap
// began, each once, although it may also have handled the event. incomplete says that it has
// forgotten some.
func (d *disconnects) since(ns *Namespace, ago time.Duration) (users []sharedDisconnect, incomplete bool) {
	since := time.Now().Add(-min(ago, 24*time.Hour) - gapSlack)
	d.mu.Lock()
	defer d.mu.Unlock()
	index := map[string]int{} // in users
	for _, l := range d.ring {
		if l.key.ns != ns || l.at.Before(since) {
			continue
		}
		ago := time.Since(l.at).Milliseconds()
		if i, ok := index[l.key.user]; ok {
			users[i].AgoMS, users[i].Handled = min(users[i].AgoMS, ago), users[i].Handled || l.handled
		} else {
			index[l.key.user] = len(users)
			users = append(users, sharedDisconnect{sharedUser{l.key.user, l.userType}, ago, l.handled})
		}
	}
	return users, len(d.ring) == maxDisconnects && d.ring[d.next].at.After(since)
}

// share sends users whom this node has published as disconnected. The last message has what s
// says. It sends nothing if there is nothing to say.
func (d *disconnects) share(ns *Namespace, s sharedDisconnects, users []sharedDisconnect) {
	for ; len(users) > usersBatch; users = users[usersBatch:] {
		d.rt.shareState(ns.name, stateContent{Disconnects: &sharedDisconnects{For: s.For, Users: users[:usersBatch]}})
		if !d.rt.pause(usersPause) {
			return
		}
	}
	if s.Users = users; len(users) > 0 || s.Incomplete || s.Answers != 0 {
		d.rt.shareState(ns.name, stateContent{Disconnects: &s})
	}
}

// published records users whom this node has published as disconnected, and sends them to the
// other nodes.
func (d *disconnects) published(ns *Namespace, users []sharedDisconnect) {
	now := time.Now()
	d.mu.Lock()
	for _, l := range users {
		left := disconnectedUser{presenceKey{ns, l.ID}, l.Type, now.Add(-time.Duration(l.AgoMS) * time.Millisecond), l.Handled}
		if len(d.ring) < maxDisconnects {
			d.ring = append(d.ring, left)
			continue
		}
		d.ring[d.next] = left
		d.next = (d.next + 1) % maxDisconnects
	}
	d.mu.Unlock()
	for batch := range slices.Chunk(users, usersBatch) {
		d.rt.shareState(ns.name, stateContent{Disconnects: &sharedDisconnects{Users: batch}})
	}
}

// apply handles users whom another node has published as disconnected. from is the id of its Peer,
// or empty. It reports whether the message is valid.
func (d *disconnects) apply(ns *Namespace, from string, s *sharedDisconnects) bool {
	if len(s.Users) > usersBatch || slices.ContainsFunc(s.Users, func(l sharedDisconnect) bool { return !validID(l.ID) || l.AgoMS < 0 || !l.Type.valid() }) {
		return false
	}
	if s.For != "" && s.For != d.id {
		return true
	}
	now := time.Now()
	for _, l := range s.Users {
		at := now.Add(-time.Duration(min(l.AgoMS, 1<<40)) * time.Millisecond)
		if s.For == "" {
			d.rt.peerUsers.roster.Disconnected(roster.User{Namespace: ns.name, ID: l.ID}, at)
		}
		d.rt.presence.onPeerDisconnected(presenceKey{ns, l.ID}, l.Type, at, l.Handled)
	}
	switch {
	case s.For != "":
		d.answered(from, s)
	case s.Incomplete:
		d.publishAgainIn(ns)
	}
	return true
}
