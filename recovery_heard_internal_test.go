// When the node of a socket was there for sure, if it has ended since.

package realtime

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPeerSockets_SurelyHeard(t *testing.T) {
	t.Parallel()
	now := time.Now()
	ago := func(seconds int) time.Time { return now.Add(-time.Duration(seconds) * time.Second) }
	for name, c := range map[string]struct {
		made, lacks, want time.Time
		deaf              bool
	}{
		"a while before it was missed":                  {made: ago(100), lacks: ago(200), want: now.Add(-unheard)},
		"it has told lately":                            {made: ago(5), lacks: ago(200), want: ago(5)},
		"after a gap, it is waited for again":           {made: ago(100), lacks: ago(10), want: ago(100)},
		"this node hears nothing: it may have lost all": {made: ago(100), lacks: ago(200), deaf: true, want: ago(100)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rt := &Server{clustered: c.deaf, opts: Options{Recovery: Recovery{Window: time.Minute}}}
			rt.cluster.disconnected = c.deaf
			p := &peerSockets{rt: rt, lacks: c.lacks}
			s := &peerSocket{made: c.made}
			p.losesNodeLocked(s, now)
			require.Equal(t, c.want, s.heard)
			require.Equal(t, now.Add(time.Minute), s.until)
			require.InDelta(t, time.Since(c.want).Milliseconds(), *s.share(time.Minute).HeardMS, 1000)

			left := &peerSocket{made: c.made, until: ago(-30)}
			p.losesNodeLocked(left, now)
			require.Zero(t, left.heard, "its client has left before")
			require.Equal(t, ago(-30), left.until)
			require.Nil(t, left.share(time.Minute).HeardMS)
		})
	}
}
