// Tests of the filter: what is dropped, what is not, and that the rest does not change.

package sift_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/redisadapter/internal/sift"
)

// pieces is a connection that reads as the test says.
type pieces struct {
	net.Conn
	rest []byte
	most func() int // bytes of the next read
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.rest[:min(p.most(), len(p.rest))])
	p.rest = p.rest[n:]
	return n, nil
}

func pmessage(channel, payload string) string {
	return fmt.Sprintf(">4\r\n$8\r\npmessage\r\n$3\r\na#*\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", len(channel), channel, len(payload), payload)
}

// filtered reads stream through a filter. A client that reads size bytes at a time gets what it
// returns.
func filtered(tb testing.TB, stream string, most func() int, size int, drops sift.Drops) string {
	tb.Helper()
	c := sift.New(&pieces{rest: []byte(stream), most: most}, drops)
	var out bytes.Buffer
	for p := make([]byte, size); ; {
		n, err := c.Read(p)
		out.Write(p[:n])
		if errors.Is(err, io.EOF) {
			return out.String()
		}
		require.NoError(tb, err)
		require.Positive(tb, n)
	}
}

func elsewhere(_, channel, _ []byte) bool { return bytes.Contains(channel, []byte("elsewhere")) }

// others are all kinds of elements that Redis sends, in which a message of pub/sub only seems to
// begin.
var others = []string{
	"+OK\r\n", "-ERR no\r\n", ":12\r\n", "_\r\n", "#t\r\n", ",1.5\r\n", "(123456789012345678901234567890\r\n",
	"$-1\r\n", "$0\r\n\r\n", "*0\r\n", "*-1\r\n", "=7\r\ntxt:abc\r\n", "!3\r\nERR\r\n",
	"*2\r\n$3\r\nabc\r\n*1\r\n:1\r\n", "%1\r\n$1\r\nk\r\n~2\r\n:1\r\n:2\r\n", "|1\r\n+k\r\n:1\r\n*1\r\n:7\r\n",
	">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n", ">3\r\n$7\r\nmessage\r\n$9\r\nelsewhere\r\n$2\r\nhi\r\n",
	fmt.Sprintf("$%d\r\n%s\r\n", len(pmessage("elsewhere", "x")), pmessage("elsewhere", "x")),
	">2\r\n$8\r\npmessage\r\n:1\r\n", ">4\r\n$8\r\npmessage\r\n:1\r\n:1\r\n:1\r\n", ">4\r\n$8\r\npmessage\r\n$1\r\nx\r\n$-1\r\n:1\r\n",
}

// A message is dropped with all its bytes, and nothing else changes, however the stream is cut.
func TestConn_DropsWholeMessages(t *testing.T) {
	t.Parallel()
	dropped := 0
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		var frames []string
		for range 40 {
			payload := strings.Repeat("x\r\n", r.IntN(40)*r.IntN(40))
			switch r.IntN(4) {
			case 0:
				frames = append(frames, others[r.IntN(len(others))])
			case 1:
				frames = append(frames, pmessage("here", payload))
			default:
				frames = append(frames, pmessage("elsewhere", payload))
			}
		}
		stream := strings.Join(frames, "")
		most := 1 << r.IntN(15)
		next := func() int { return 1 + r.IntN(most) }
		require.Equal(t, stream, filtered(t, stream, next, 1<<16, func(_, _, _ []byte) bool { return false }), "seed %d", seed)
		got := filtered(t, stream, next, 1<<16, elsewhere)
		for _, frame := range frames {
			if rest, ok := strings.CutPrefix(got, frame); ok {
				require.False(t, most == 1 && strings.HasPrefix(frame, pmessage("elsewhere", "")[:40]), "byte by byte each is judged")
				got = rest
				continue
			}
			require.Contains(t, frame[:min(len(frame), 50)], "a#*\r\n$9\r\nelsewhere", "seed %d", seed)
			dropped++
		}
		require.Empty(t, got, "seed %d", seed)
	}
	require.Greater(t, dropped, 300)
}

// Messages after one that the client has not handled yet are not judged: it may be a join to
// their room.
func TestConn_JudgesWhenTheClientHasHandledWhatCameBefore(t *testing.T) {
	t.Parallel()
	join := ">3\r\n$7\r\nmessage\r\n$3\r\nreq\r\n$4\r\njoin\r\n"
	emit := pmessage("elsewhere", "x")
	c := sift.New(&pieces{rest: []byte(emit + join + emit), most: func() int { return 1 << 20 }}, elsewhere)
	p := make([]byte, 1<<16)
	n, err := c.Read(p)
	require.NoError(t, err)
	require.Equal(t, join+emit, string(p[:n]))

	// Cut within the join, and at its end.
	for at := 1; at < len(join); at++ { // its first byte may begin a message that is judged
		steps := []string{(emit + join)[:len(emit)+at+1], (join + emit + emit)[at+1:]}
		c := sift.New(&pieces{rest: []byte(strings.Join(steps, "")), most: func() int { n := len(steps[0]); steps = steps[1:]; return n }}, elsewhere)
		n, err := c.Read(p)
		require.NoError(t, err)
		require.Equal(t, join[:at+1], string(p[:n]))
		n, err = c.Read(p)
		if at+1 == len(join) {
			require.ErrorIs(t, err, io.EOF)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, join[at+1:]+emit+emit, string(p[:n]))
	}
}

// A client that reads little gets everything.
func TestConn_SmallReads(t *testing.T) {
	t.Parallel()
	stream := pmessage("elsewhere", "x") + "+OK\r\n" + pmessage("elsewhere", strings.Repeat("x", 5000))
	require.Equal(t, stream, filtered(t, stream, func() int { return 100 }, 7, elsewhere))
}

// What is not RESP3 is passed on.
func TestConn_PassesOnWhatItDoesNotUnderstand(t *testing.T) {
	t.Parallel()
	emit := pmessage("elsewhere", "x")
	for _, bad := range []string{"?\r\n", "\n", "*?\r\n", "$9999999999999999999\r\n", "$-2\r\n", "*2000000000\r\n", ":" + strings.Repeat("1", 5000), ">4\r\n$8\r\npmessage\r\n$" + strings.Repeat("1", 5000)} {
		require.Equal(t, bad+emit+emit, filtered(t, bad+emit+emit, func() int { return 3 }, 1<<16, elsewhere), "%.20q", bad)
	}
}

func TestConn_Drops(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("0123456789", 20)
	var seen []string
	filtered(t, pmessage("here", "short")+pmessage("here", long), func() int { return 1 }, 1<<16, func(pattern, channel, head []byte) bool {
		seen = append(seen, string(pattern), string(channel), string(head))
		return false
	})
	require.Equal(t, []string{"a#*", "here", "short", "a#*", "here", long[:sift.HeadBytes]}, seen)
}

func FuzzConn(f *testing.F) {
	f.Add([]byte(pmessage("elsewhere", "x")+"+OK\r\n"+pmessage("here", "x")), 3)
	for _, o := range others {
		f.Add([]byte(o+pmessage("elsewhere", "x")), 5)
	}
	f.Fuzz(func(t *testing.T, stream []byte, most int) {
		n := func() int { return 1 + max(most, -most)&0xfff }
		require.Equal(t, string(stream), filtered(t, string(stream), n, 1<<14, func(_, _, _ []byte) bool { return false }))
		require.LessOrEqual(t, len(filtered(t, string(stream), n, 1<<14, elsewhere)), len(stream))
	})
}

func BenchmarkConn(b *testing.B) {
	stream := []byte(strings.Repeat(pmessage("socket.io#/drivers#elsewhere#", strings.Repeat("x", 300)), 100))
	src := &pieces{most: func() int { return 1 << 20 }}
	c := sift.New(src, elsewhere)
	p := make([]byte, 1<<19)
	b.ReportAllocs()
	for b.Loop() {
		src.rest = stream
		_, _ = c.Read(p)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/100, "ns/message")
}
