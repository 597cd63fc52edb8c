// Cluster: the node that serves a request asks the others, with events between servers that no client
// receives.

package realtimeadmin

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rodando/realtime"
)

// The events between nodes, in /admin.
const (
	eventQuestion = "realtimeadmin:question"
	eventAnswer   = "realtimeadmin:answer"
)

// protocol is the version of questions and answers. A node ignores others, and so is silent for them.
const protocol = 1

// What a question asks for.
const (
	askOverview  = "overview"
	askUser      = "user"      // the sockets of ID, and what they did
	askTimeline  = "timeline"  // the domain events of ID
	askMeanwhile = "meanwhile" // what Users did, and what was emitted to Audiences
)

// question is what a node asks the others, and itself.
type question struct {
	Version   int       `json:"v"`
	Request   string    `json:"request"`
	Kind      string    `json:"kind"`
	ID        string    `json:"id,omitempty"`
	Users     []string  `json:"users,omitempty"`
	Audiences []string  `json:"audiences,omitempty"`
	Since     time.Time `json:"since,omitzero"`
	Until     time.Time `json:"until,omitzero"`
}

// answer is what a node answers.
type answer struct {
	Version int            `json:"v"`
	Request string         `json:"request"`
	Node    nodeName       `json:"node"`
	Failed  bool           `json:"failed,omitempty"` // a part is missing; the node's log says why
	Report  *nodeReport    `json:"report,omitempty"`
	Sockets []socketReport `json:"sockets,omitempty"`
	Entries []entry        `json:"entries,omitempty"`
	More    bool           `json:"more,omitempty"` // there are more than these
}

// nodeName is a realtime.Peer.
type nodeName struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// The sizes that are accepted from other nodes, and how many questions are under way at once.
const (
	maxQuestion    = 32 << 10
	maxAnswer      = 1 << 20
	answeredAtOnce = 4
	askedAtOnce    = 64
)

// cluster asks the other nodes and answers them. Its methods may be called concurrently.
type cluster struct {
	v         *View
	answering chan struct{} // has an element for each question that is being answered

	mu      sync.Mutex // guards waiting
	waiting map[string]chan answer
}

func (c *cluster) init(v *View) {
	c.v, c.answering, c.waiting = v, make(chan struct{}, answeredAtOnce), map[string]chan answer{}
}

// listen registers what the node does with questions and answers. Neither delays the server's other
// listeners: a question is answered on a goroutine of its own.
func (c *cluster) listen(rt *realtime.Server) {
	admin := rt.Admin()
	admin.OnServerEmit(eventQuestion, func(args realtime.Raw) {
		var q question
		if !decode(args, maxQuestion, &q) || q.Version != protocol || len(q.Request) > maxName || len(q.Users) > maxPeople || len(q.Audiences) > maxPeople {
			return
		}
		select {
		case c.answering <- struct{}{}:
		default:
			return // more than operators ask
		}
		go func() {
			defer func() { <-c.answering }()
			ctx, cancel := context.WithTimeout(context.Background(), c.v.opts.Timeout)
			defer cancel()
			a := c.v.answerGuarded(ctx, rt, q)
			if err := admin.ServerEmit(ctx, eventAnswer, a); err != nil {
				c.v.log.Warn("realtimeadmin: another node's question not answered", "error", err)
			}
		}()
	})
	admin.OnServerEmit(eventAnswer, func(args realtime.Raw) {
		var head struct {
			Request string `json:"request"`
		}
		if !decode(args, maxAnswer, &head) {
			return
		}
		c.mu.Lock()
		to := c.waiting[head.Request]
		c.mu.Unlock()
		var a answer
		if to == nil || !decode(args, maxAnswer, &a) || a.Version != protocol { // mostly an answer to another node
			return
		}
		select {
		case to <- a:
		default: // more answers than nodes
		}
	})
}

func decode(args realtime.Raw, most int, v any) bool {
	return len(args.Args) == 1 && len(args.Args[0]) <= most && json.Unmarshal(args.Args[0], v) == nil
}

// answerGuarded is View.answer, and turns a panic into an answer without content.
func (v *View) answerGuarded(ctx context.Context, rt *realtime.Server, q question) (a answer) {
	failed := false
	func() {
		defer v.recovered(&failed)
		a = v.answer(ctx, rt, q)
	}()
	a.Version, a.Request, a.Node, a.Failed = protocol, q.Request, v.nodeOf(rt), a.Failed || failed
	return a
}

// ask answers a question itself, asks the other nodes, and waits for them within ctx. silent are those
// that have not answered.
func (v *View) ask(ctx context.Context, rt *realtime.Server, q question) (answers []answer, silent []nodeName) {
	peers := v.peersOf(rt)
	if len(peers) == 0 {
		return []answer{v.answerGuarded(ctx, rt, q)}, nil
	}
	q.Version, q.Request = protocol, rand.Text()
	got := make(chan answer, len(peers))
	if !v.cluster.expect(q.Request, got) {
		return []answer{v.answerGuarded(ctx, rt, q)}, peers
	}
	defer v.cluster.forget(q.Request)
	err := rt.Admin().ServerEmit(ctx, eventQuestion, q)
	answers = append(answers, v.answerGuarded(ctx, rt, q))
	for len(peers) > 0 && err == nil {
		select {
		case a := <-got:
			i := slices.IndexFunc(peers, func(p nodeName) bool { return p.ID == a.Node.ID })
			if i >= 0 { // otherwise it has answered before, or nobody knows it
				a.Node = peers[i]
				answers = append(answers, a.capped())
				peers = slices.Delete(peers, i, i+1)
			}
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	slices.SortFunc(answers[1:], func(a, b answer) int { return a.Node.compare(b.Node) })
	return answers, peers
}

func (n nodeName) compare(o nodeName) int {
	if n.Name != o.Name {
		return strings.Compare(n.Name, o.Name)
	}
	return strings.Compare(n.ID, o.ID)
}

// capped returns the answer of another node with no more than a node sends.
func (a answer) capped() answer {
	a.Sockets, a.Entries = a.Sockets[:min(len(a.Sockets), maxSockets)], a.Entries[:min(len(a.Entries), maxEntries)]
	a.Entries = slices.DeleteFunc(a.Entries, func(e entry) bool { return e.Kind == kindEmitted && len(e.To) != 1 })
	return a
}

// expect makes answers to a request arrive in a channel, until forget. It reports whether there is
// room for one more.
func (c *cluster) expect(request string, to chan answer) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.waiting) >= askedAtOnce {
		return false
	}
	c.waiting[request] = to
	return true
}

func (c *cluster) forget(request string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waiting, request)
}
