// The bounds of what a node remembers of other nodes.

package redisadapter

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
)

// Whoever sends heartbeats in ever new names fills no memory, neither while the nodes seem to live
// nor after they seem to have died.
func TestPeers_AreBounded(t *testing.T) {
	t.Parallel()
	var p peers
	now := time.Now()
	for round := range 3 {
		for n := range 2 * maxPeers {
			p.seenNow(realtime.Peer{ID: fmt.Sprint(round, " ", n)}, now)
		}
		require.Len(t, p.list(), maxPeers)
		now = now.Add(defaultTiming.forget + time.Second)
		require.Len(t, p.silent(now.Add(-defaultTiming.forget), now), maxPeers)
		require.LessOrEqual(t, len(p.dead), maxPeers)
	}
	now = now.Add(countedTime + time.Second)
	require.Empty(t, p.silent(now, now))
	require.Empty(t, p.dead, "also without a request that counts them")
}

// gapsNode keeps the gaps that an adapter reports.
type gapsNode struct {
	realtime.Node
	gaps chan realtime.Gap
}

func (n gapsNode) Gap(g realtime.Gap)       { n.gaps <- g }
func (n gapsNode) PeerJoined(realtime.Peer) {}

// A process that was stopped reads late what another node said meanwhile. What that node says about
// the past counts from when it may have said it.
func TestAdapter_NoticesAreReadLate(t *testing.T) {
	t.Parallel()
	a, err := New(Options{URL: "redis://127.0.0.1:1", Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	n := gapsNode{gaps: make(chan realtime.Gap, 8)}
	a.node = n
	next := func() realtime.Gap {
		select {
		case g := <-n.gaps:
			return g
		case <-time.After(30 * time.Second):
			require.Fail(t, "no gap")
			panic("unreachable")
		}
	}
	notice := func(op string, ago time.Duration, since time.Time) {
		a.receiveNotice("", fmt.Sprintf(`{"v":1,"uid":"realtime-other","op":%q,"ago":%d}`, op, ago), since)
	}
	stopped := time.Now().Add(-10 * time.Second)
	notice(opLost, time.Second, stopped)
	g := next()
	require.True(t, g.Since.Equal(stopped.Add(-time.Second)), g.Since)
	require.WithinRange(t, g.Until, stopped.Add(10*time.Second), time.Now())
	require.Equal(t, "realtime-other", g.Peer)

	own := realtime.Gap{Since: stopped, Until: stopped, Reason: "its own"}
	a.gap(own)
	require.Equal(t, own, next())
	notice(opHello, time.Second, time.Now().Add(2*time.Second)) // said when it had received what this node asked
	notice(opHello, 0, stopped)                                 // has started
	notice(opHello, time.Second, stopped)
	g = next()
	require.True(t, g.Since.Equal(stopped), g.Since)
	require.Equal(t, "realtime-other", g.Peer)
	a.running.wait(t.Context(), time.Minute)
	require.Empty(t, n.gaps)
}

// The heartbeats of others that arrived while this process was stopped have yet to be read.
func TestLinkSet_ReceivedUntil_CountsTheSlowestLink(t *testing.T) {
	t.Parallel()
	now := time.Now()
	first, second := newLink(), newLink()
	first.complete, second.complete = now.Add(-time.Second), now.Add(-10*time.Second)
	s := linkSet{links: map[uint16]*link{1: first, 2: second}}
	require.True(t, s.receivedUntil().Equal(second.complete))
}

// Only a probe of the same connection shows what was received, as of when it was published, and
// not after the connection has failed.
func TestSession_ProbesThatReturn(t *testing.T) {
	t.Parallel()
	began := time.Now()
	l := newLink()
	l.complete = began
	s := &session{link: l, sent: map[string]time.Time{"a": began.Add(1), "b": began.Add(2), "c": began.Add(3)}}
	s.returned("of an earlier connection")
	require.Equal(t, began, l.receivedUntil())
	require.Empty(t, l.arrived)
	s.returned("b")
	require.Equal(t, began.Add(2), l.receivedUntil())
	require.Equal(t, began.Add(2), s.since)
	require.Len(t, l.arrived, 1)
	s.returned("a") // overtaken
	require.Equal(t, began.Add(2), l.receivedUntil())
	s.close()
	s.returned("c")
	require.Equal(t, began.Add(2), l.receivedUntil())
	require.Len(t, s.sent, 1)
}

// The server stores the id of a sender of state, so that it must be one that a node can have.
func TestDecodeState_RefusesIDsThatNoNodeHas(t *testing.T) {
	t.Parallel()
	for uid, ok := range map[string]bool{
		nodePrefix + "abcdefgh": true, "": false, "emitter": false, strings.Repeat("a", 65): false, "with space": false, "with#": false,
	} {
		msg, err := json.Marshal(state{stateVersion, uid, realtime.ClusterMessage{Op: realtime.OpState}})
		require.NoError(t, err)
		_, _, err = decodeState(string(msg))
		require.Equal(t, ok, err == nil, uid)
	}
}

// A node that is slow gets the gaps for which there is no place as one of all nodes.
func TestAdapter_ManyGaps(t *testing.T) {
	t.Parallel()
	a, err := New(Options{URL: "redis://127.0.0.1:1", Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	n := gapsNode{gaps: make(chan realtime.Gap)}
	a.node = n
	began := time.Unix(1e9, 0)
	gap := func(i int) realtime.Gap {
		at := began.Add(time.Duration(i) * time.Second)
		return realtime.Gap{Since: at, Until: at.Add(time.Second), Peer: fmt.Sprint("node ", i)}
	}
	const all = 2 * maxGaps
	for i := range all {
		a.gap(gap(i))
	}
	covered := began // up to where gaps of single nodes or of all nodes leave nothing out
	ofAll := false
	for timeout := time.After(30 * time.Second); covered.Before(gap(all - 1).Until); {
		select {
		case g := <-n.gaps:
			require.False(t, g.Since.After(covered), "what had no place is left out")
			covered = g.Until
			ofAll = ofAll || g.Peer == ""
		case <-timeout:
			require.FailNow(t, "gaps are missing")
		}
	}
	require.True(t, ofAll, "they have waited one by one")
}
