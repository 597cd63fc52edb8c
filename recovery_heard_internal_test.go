// When the node of a socket was there for sure, if it has ended since.

package realtime

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/testkit"
)

func TestPeerSockets_SurelyHeard(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		made, lacks, want time.Duration // ago
		deaf              bool
	}{
		"a while before it was missed":                  {made: 100 * time.Second, lacks: 200 * time.Second, want: unheard},
		"it has told lately":                            {made: 5 * time.Second, lacks: 200 * time.Second, want: 5 * time.Second},
		"after a gap, it is waited for again":           {made: 100 * time.Second, lacks: 10 * time.Second, want: 100 * time.Second},
		"this node hears nothing: it may have lost all": {made: 100 * time.Second, lacks: 200 * time.Second, deaf: true, want: 100 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			testkit.Bubble(t, func(t *testing.T) {
				now := time.Now()
				rt := &Server{clustered: c.deaf, opts: Options{Recovery: Recovery{Window: time.Minute}}}
				rt.cluster.disconnected = c.deaf
				p := &peerSockets{rt: rt, lacks: now.Add(-c.lacks)}
				s := &peerSocket{made: now.Add(-c.made)}
				p.losesNodeLocked(s, now)
				require.Equal(t, now.Add(-c.want), s.heard)
				require.Equal(t, now.Add(time.Minute), s.until)
				require.Equal(t, c.want.Milliseconds(), *s.share(time.Minute).HeardMS)

				ended := now.Add(30 * time.Second)
				left := &peerSocket{made: now.Add(-c.made), until: ended}
				p.losesNodeLocked(left, now)
				require.Zero(t, left.heard, "its client has left before")
				require.Equal(t, ended, left.until)
				require.Nil(t, left.share(time.Minute).HeardMS)
			})
		})
	}
}
