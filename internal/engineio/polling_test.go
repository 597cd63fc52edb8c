package engineio_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/engineio"
	"github.com/rodando/realtime/internal/testkit"
)

func recordMessages(set *setup) { set.message = (*handler).record }

func TestSession_PollingBothWays(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c, recordMessages)
		p := s.polling()
		require.Equal(t, "polling", p.h.Transport())
		p.postOK(joined("4", "4a", "bAQIDBA==", "4ünï ☃ \U0001f600", "6", "4{\"a\":[1]}", "b"))
		for _, want := range []message{
			{"", false}, {"a", false}, {"\x01\x02\x03\x04", true}, {"ünï ☃ \U0001f600", false}, {`{"a":[1]}`, false}, {"", true},
		} {
			require.Equal(t, want, receive(t, p.h.in))
		}
		require.True(t, p.h.Send(text(""), text("ü"), engineio.BinaryMessage([]byte{1, 2, 3, 4}), engineio.BinaryMessage(nil)))
		status, body := p.poll()
		require.Equal(t, http.StatusOK, status)
		require.Equal(t, joined("4", "4ü", "bAQIDBA==", "b"), body)
		require.Empty(t, p.h.in)
	})
}

func TestSession_PollingHeaders(t *testing.T) {
	t.Parallel()
	s := start(t, tcp)
	p := s.polling()
	p.h.Send(text("a"))
	for _, tc := range []struct{ method, contentType, cache string }{
		{http.MethodGet, "text/plain; charset=UTF-8", "no-store"},
		{http.MethodPost, "text/html", ""},
	} {
		r, err := http.NewRequestWithContext(t.Context(), tc.method, "http://engine.test/?"+p.query(), strings.NewReader("4a"))
		require.NoError(t, err)
		resp, err := s.http.Do(r)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, tc.contentType, resp.Header.Get("Content-Type"))
		require.Equal(t, tc.cache, resp.Header.Get("Cache-Control"))
		require.EqualValues(t, 2, resp.ContentLength)
	}
}

func TestSession_PollWaitsForMessages(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c)
		p := s.polling()
		for i := range 20 {
			poll := p.open()
			require.True(t, p.h.Writable())
			p.h.Send(text(fmt.Sprint(i)))
			got := receive(t, poll)
			require.NoError(t, got.err)
			require.Equal(t, fmt.Sprint("4", i), got.body)
		}
	})
}

// A payload is not longer than the maxPayload that the client knows, unless a single
// packet is.
func TestSession_PayloadsAreSplit(t *testing.T) {
	t.Parallel()
	s := start(t, tcp, func(set *setup) { set.engine.MaxPayload = 100 })
	p := s.polling()
	a, b, c := large(60), large(39), large(300)
	p.h.Send(text(a), text(b), text(b), text("x"), engineio.BinaryMessage([]byte(a)), text(c), text("y"))
	for _, want := range []string{"4" + a, joined("4"+b, "4"+b, "4x"), "b" + base64.StdEncoding.EncodeToString([]byte(a)), "4" + c, "4y"} {
		if len(want) < 100 && strings.Count(want, "\x1e") == 2 {
			require.Len(t, want, 84)
		}
		status, body := p.poll()
		require.Equal(t, http.StatusOK, status)
		require.Equal(t, want, body)
	}
}

func TestSession_SecondPollEndsIt(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c)
		p := s.polling()
		first := p.open()
		status, body := p.poll()
		require.Equal(t, http.StatusBadRequest, status)
		require.Equal(t, badRequest, body)
		got := receive(t, first)
		require.NoError(t, got.err)
		require.Equal(t, http.StatusBadRequest, got.status)
		require.Equal(t, unknownSession, got.body)
		require.Equal(t, engineio.ReasonTransportError, p.h.ended(t))
		p.expectUnknown()
	})
}

func TestSession_SecondPostEndsIt(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c, recordMessages)
		p := s.polling()
		poll := p.open()
		body, more := io.Pipe()
		first := make(chan answer, 1)
		go func() {
			status, got, err := s.request(context.Background(), http.MethodPost, p.query(), body)
			first <- answer{status, got, err}
		}()
		testkit.Eventually(t, "the POST is not under way", p.h.Posting)
		status, got := p.post("4second")
		require.Equal(t, http.StatusBadRequest, status)
		require.Equal(t, badRequest, got)
		require.Equal(t, engineio.ReasonTransportError, p.h.ended(t))
		require.Equal(t, unknownSession, receive(t, poll).body)

		_, _ = io.WriteString(more, "4first") // the server may have closed the connection
		_ = more.Close()
		if a := receive(t, first); a.err == nil {
			require.Equal(t, http.StatusBadRequest, a.status)
		}
		require.Empty(t, p.h.in)
		p.expectUnknown()
	})
}

func TestSession_CanceledPollEndsIt(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c)
		p := s.polling()
		ctx, cancel := context.WithCancel(t.Context())
		poll := p.start(ctx)
		testkit.Eventually(t, "the poll is not open", p.h.Polled)
		cancel()
		require.ErrorIs(t, receive(t, poll).err, context.Canceled)
		require.Equal(t, engineio.ReasonTransportClose, p.h.ended(t))
		p.expectUnknown()
	})
}

// A client that is disconnected while its poll is answered loses the answer. So the
// session ends, and does not continue with a gap.
func TestSession_PollOfAClientThatReset(t *testing.T) {
	t.Parallel()
	s := start(t, tcp)
	for range 20 {
		p := s.polling()
		conn, err := s.dial()
		require.NoError(t, err)
		_, err = fmt.Fprintf(conn, "GET /?%s HTTP/1.1\r\nHost: engine.test\r\n\r\n", p.query())
		require.NoError(t, err)
		testkit.Eventually(t, "the poll is not open", p.h.Polled)
		require.NoError(t, conn.(*net.TCPConn).SetLinger(0))
		require.NoError(t, conn.Close())
		require.Contains(t, []engineio.Reason{engineio.ReasonTransportClose, engineio.ReasonTransportError}, p.h.ended(t))
		p.expectUnknown()
	}
}

// A client without keep-alive keeps its session.
func TestSession_PollsWithoutKeepAlive(t *testing.T) {
	t.Parallel()
	s := start(t, tcp)
	s.http.Transport.(*http.Transport).DisableKeepAlives = true
	p := s.polling()
	for i := range 20 {
		want := fmt.Sprint("4", i)
		p.postOK(want)
		p.expect(want)
		poll := p.open()
		p.postOK(want)
		require.Equal(t, want, receive(t, poll).body)
	}
}

func TestSession_ClientClosesPolling(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c, recordMessages)
		t.Run("with a poll open", func(t *testing.T) {
			p := s.polling()
			poll := p.open()
			p.postOK(joined("4last", "1", "4too late"))
			require.Equal(t, "6", receive(t, poll).body)
			require.Equal(t, engineio.ReasonTransportClose, p.h.ended(t))
			require.Equal(t, message{"last", false}, receive(t, p.h.in))
			require.Empty(t, p.h.in)
			p.expectUnknown()
		})
		t.Run("with no poll", func(t *testing.T) {
			p := s.polling()
			p.postOK("1")
			require.Equal(t, engineio.ReasonTransportClose, p.h.ended(t))
			p.expectUnknown()
			status, body := p.poll()
			require.Equal(t, http.StatusBadRequest, status)
			require.Equal(t, unknownSession, body)
		})
		// A poll and a close packet sent together on two connections may arrive in
		// either order.
		t.Run("with a poll at the same time", func(t *testing.T) {
			for range 10 {
				p := s.polling()
				poll := p.start(t.Context())
				p.postOK("1")
				require.Equal(t, "6", receive(t, poll).body)
			}
		})
	})
}

func TestSession_ServerClosesPolling(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c)
		t.Run("with a poll open", func(t *testing.T) {
			p := s.polling()
			poll := p.open()
			p.h.Close(engineio.ReasonForcedClose)
			require.Equal(t, answer{http.StatusBadRequest, unknownSession, nil}, receive(t, poll))
			require.Equal(t, engineio.ReasonForcedClose, p.h.ended(t))
			require.False(t, p.h.Send(text("too late")))
			require.False(t, p.h.Writable())
			testkit.Eventually(t, "the session is still known", func() bool { return s.Len() == 0 })
			p.expectUnknown()
		})
		t.Run("with data", func(t *testing.T) {
			p := s.polling()
			poll := p.open()
			p.h.Cork()
			p.h.Send(text("sent"))
			p.h.Send(text("first"))
			p.h.Close(engineio.ReasonForcedClose)
			p.h.Uncork()
			require.Equal(t, joined("4sent", "4first"), receive(t, poll).body)
			require.Equal(t, engineio.ReasonForcedClose, p.h.ended(t))
			p.expectGone()
			testkit.Eventually(t, "the session is still known", func() bool { return s.Len() == 0 })
			p.expectUnknown()
		})
		t.Run("while the client sends", func(t *testing.T) {
			p := s.polling()
			p.h.Send(text("sent first"))
			p.h.Close(engineio.ReasonForcedClose)
			p.postOK("4a client that is refused would not poll again")
			p.expect("4sent first")
			p.expectGone()
			require.Empty(t, p.h.in)
		})
		t.Run("in the middle of a body", func(t *testing.T) {
			s := start(t, c, func(set *setup) {
				set.message = func(h *handler, data []byte, binary bool) error {
					h.echo(data, binary)
					h.Close(engineio.ReasonForcedClose)
					return nil
				}
			})
			p := s.polling()
			p.postOK(joined("4a", "4b"))
			p.expect("4a")
			p.expectGone()
		})
	})
}

// A close waits for a poll: up to a heartbeat if the client polled within one, so that an
// answer may be on its way to it, and otherwise a second. Then the session is removed.
func TestSession_CloseWithoutAPoll(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		silent, wait time.Duration
		known        bool
	}{
		{0, pingTimeout, true},
		{pingTimeout - time.Second, pingTimeout, true},
		{pingTimeout + time.Second, time.Second, true},
		{0, time.Second, false}, // nothing limits how many such sessions close
	} {
		synctest.Test(t, func(t *testing.T) {
			s := startInMemory(t)
			p := s.polling()
			p.h.SetKnown(tc.known)
			p.h.SetKnown(false) // the last socket has left
			time.Sleep(tc.silent)
			p.h.Send(text("a"))
			p.h.Close(engineio.ReasonForcedClose)
			synctest.Wait()
			require.Equal(t, engineio.ReasonForcedClose, <-p.h.closed)
			time.Sleep(tc.wait - 2*tick)
			require.Equal(t, 1, s.Len())
			time.Sleep(2*tick + 1)
			synctest.Wait()
			require.Zero(t, s.Len())
			require.Equal(t, 1, s.Cut())
			p.expectUnknown()
		})
	}
}

func TestSession_MalformedPolling(t *testing.T) {
	t.Parallel()
	tooMany := strings.Repeat("4\x1e", 1000) + "4"
	for name, body := range map[string]string{
		"empty body":            "",
		"empty packet":          "4a\x1e",
		"empty first packet":    "\x1e4a",
		"only a separator":      "\x1e",
		"unknown type":          "7",
		"no type":               "abc",
		"a letter":              "x4",
		"open":                  `0{"sid":"x"}`,
		"ping":                  "2",
		"probe":                 "2probe",
		"upgrade":               "5",
		"bad base64":            "b@@@@",
		"base64 cut short":      "bAQI",
		"base64 for URLs":       "b_-_-",
		"invalid UTF-8":         "4\xff\xfe",
		"overlong UTF-8":        "4\xc0\xaf",
		"UTF-8 surrogate":       "4\xed\xa0\x80",
		"NUL":                   "\x00",
		"length prefix of v3":   "2:4a",
		"handler's own verdict": "4refuse me",
		"too many packets":      tooMany,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, tcp, func(set *setup) {
				set.message = func(_ *handler, data []byte, _ bool) error {
					if string(data) == "refuse me" {
						return errors.New("refused")
					}
					return nil
				}
			})
			p := s.polling()
			poll := p.open()
			status, got := p.post(body)
			require.Equal(t, http.StatusBadRequest, status)
			require.Equal(t, badRequest, got)
			require.Equal(t, unknownSession, receive(t, poll).body)
			require.Equal(t, engineio.ReasonParseError, p.h.ended(t))
			p.expectUnknown()
		})
	}
	t.Run("as many packets as allowed", func(t *testing.T) {
		t.Parallel()
		s := start(t, tcp, recordMessages)
		p := s.polling()
		p.postOK(strings.TrimSuffix(tooMany, "\x1e4"))
		require.Len(t, p.h.in, 1000)
	})
}

func TestPost_BodyOverMaxPayload(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c, recordMessages)
		const limit = 1_000_000
		chunked := func(r io.Reader) io.Reader { return struct{ io.Reader }{r} } // hides the length
		for name, body := range map[string]io.Reader{
			"by length":         strings.NewReader("4" + large(limit)),
			"chunked":           chunked(strings.NewReader("4" + large(limit))),
			"chunked and large": chunked(io.LimitReader(endless{}, 20*limit)),
		} {
			p := s.polling()
			poll := p.open()
			status, got, err := s.request(t.Context(), http.MethodPost, p.query(), body)
			require.NoError(t, err, name)
			require.Equal(t, http.StatusRequestEntityTooLarge, status, name)
			require.Empty(t, got)
			require.Equal(t, unknownSession, receive(t, poll).body)
			require.Equal(t, engineio.ReasonTransportError, p.h.ended(t))
			require.Empty(t, p.h.in)
			p.expectUnknown()
		}
		p := s.polling()
		for _, body := range []io.Reader{strings.NewReader("4" + large(limit-1)), chunked(strings.NewReader("4" + large(limit-1)))} {
			status, got, err := s.request(t.Context(), http.MethodPost, p.query(), body)
			require.NoError(t, err)
			require.Equal(t, http.StatusOK, status)
			require.Equal(t, "ok", got)
			require.Equal(t, message{large(limit - 1), false}, receive(t, p.h.in))
		}
		// The same in the other direction.
		p.h.Send(text(large(limit-1)), engineio.BinaryMessage([]byte(large(limit))))
		p.expect("4"+large(limit-1), "b"+base64.StdEncoding.EncodeToString([]byte(large(limit))))
	})
}

type endless struct{}

func (endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = '4'
	}
	return len(b), nil
}

// The server waits for a body no longer than for a silent client, and allocates nothing
// for an announced length.
func TestPost_SlowBody(t *testing.T) {
	t.Parallel()
	s := start(t, tcp, func(set *setup) {
		set.engine.PingInterval, set.engine.PingTimeout = 100*time.Millisecond, 100*time.Millisecond
	})
	p := s.polling()
	conn, err := s.dial()
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	_, err = fmt.Fprintf(conn, "POST /?%s HTTP/1.1\r\nHost: engine.test\r\nContent-Length: 900000\r\n\r\n4", p.query())
	require.NoError(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusBadRequest, resp.StatusCode)
	p.expectUnknown()
}

// The time limits of the host's http.Server are for ordinary requests. They affect
// neither a poll nor a POST that waits, nor later requests on their connection.
func TestSession_TimeLimitsOfTheHost(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		const limit = 500 * time.Millisecond // enough for a handshake on a busy machine
		s := start(t, c, recordMessages, func(set *setup) {
			set.host.ReadTimeout, set.host.WriteTimeout = limit, limit
		})
		p := s.polling()
		poll := p.open()
		p.h.Pause()
		posted := make(chan answer, 1)
		go func() {
			status, body, err := s.request(context.Background(), http.MethodPost, p.query(), strings.NewReader("4a"))
			posted <- answer{status, body, err}
		}()
		receive(t, p.h.in)
		ws := s.websocket()
		time.Sleep(limit + limit/3)

		p.h.Send(text("late"))
		got := receive(t, poll)
		require.NoError(t, got.err)
		require.Equal(t, "4late", got.body)
		p.h.Resume()
		require.Equal(t, answer{http.StatusOK, "ok", nil}, receive(t, posted))
		// The connections still work.
		poll = p.open()
		p.postOK("4b")
		receive(t, p.h.in)
		p.h.Send(text("again"))
		require.Equal(t, "4again", receive(t, poll).body)

		ws.send("4a")
		receive(t, ws.h.in)
		ws.h.Send(text("b"))
		ws.expect("4b")
	})
}

// A client that does not read the answer to its poll occupies a handler of the host for
// at most WriteTimeout.
func TestSession_PollThatIsNotRead(t *testing.T) {
	t.Parallel()
	s := start(t, tcp, func(set *setup) { set.engine.WriteTimeout = 200 * time.Millisecond })
	p := s.polling()
	conn, err := s.dial()
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	require.NoError(t, conn.(*net.TCPConn).SetReadBuffer(4096))
	huge := text(large(7 << 20))
	p.h.Send(huge)
	_, err = fmt.Fprintf(conn, "GET /?%s HTTP/1.1\r\nHost: engine.test\r\n\r\n", p.query())
	require.NoError(t, err)
	require.Equal(t, engineio.ReasonTransportError, p.h.ended(t))
}

func TestSession_PostWaitsForHandlers(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c, recordMessages)
		p := s.polling()
		p.h.Pause()
		posted := make(chan answer, 1)
		post := func() {
			status, body, err := s.request(context.Background(), http.MethodPost, p.query(), strings.NewReader("4a"))
			posted <- answer{status, body, err}
		}
		go post()
		receive(t, p.h.in)
		select {
		case a := <-posted:
			require.Fail(t, "answered during a pause", a)
		case <-time.After(30 * time.Millisecond):
		}
		p.h.Send(text("b")) // the other direction still works
		p.expect("4b")
		p.h.Resume()
		require.Equal(t, answer{http.StatusOK, "ok", nil}, receive(t, posted))

		p.h.Pause()
		go post()
		receive(t, p.h.in)
		p.h.Close(engineio.ReasonForcedClose)
		require.Equal(t, answer{http.StatusOK, "ok", nil}, receive(t, posted))
		p.expectGone()
	})
}

// A panic in the layer above ends its session and nothing else.
func TestSession_PanicInTheHandler(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c, quiet, func(set *setup) {
			set.message = func(h *handler, data []byte, binary bool) error {
				if string(data) == "panic" {
					panic("on purpose")
				}
				h.echo(data, binary)
				return nil
			}
		})
		p, ws, other := s.polling(), s.websocket(), s.websocket()
		status, _ := p.post("4panic")
		require.Equal(t, http.StatusBadRequest, status)
		require.Equal(t, engineio.ReasonParseError, p.h.ended(t))
		p.expectUnknown()
		ws.send("4panic")
		require.Equal(t, engineio.ReasonParseError, ws.h.ended(t))
		ws.expectCut()
		other.send("4a")
		other.expect("4a")
	})
}
