// A session whose process was stopped: its lease has ended, and its timers have yet to fire.

package redisbus

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/hostcall"
)

// stoppedIn returns a session whose lease ends while its handler runs, and of which nothing has
// noticed that. It has no client: a call to Redis would panic.
func stoppedIn(t *testing.T, handler func(context.Context, realtime.Envelope) error) *session {
	t.Helper()
	b, err := New(Options{URL: "redis://127.0.0.1:1", Attempts: 1, HandlerTimeout: time.Minute, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	s := &session{
		b: b, m: newMember(b, make([]entryID, len(b.keys.all)), time.Now()), part: &b.keys.all[0],
		owning: t.Context(), handling: t.Context(), going: t.Context(), until: time.Now().Add(time.Hour),
	}
	b.subscriptions = []*subscription{{
		handler: func(ctx context.Context, e realtime.Envelope) error {
			s.mu.Lock()
			s.until = time.Now()
			s.mu.Unlock()
			return handler(ctx, e)
		},
		calls: hostcall.NewKind(hostcall.Limits{Timeout: time.Minute, Running: 1, Abandoned: 1, PerSource: 1}),
	}}
	return s
}

// hurry makes a session abandon its handler soon.
func (s *session) hurry() {
	s.b.opts.HandlerTimeout = 10 * time.Millisecond
	s.b.subscriptions[0].calls = hostcall.NewKind(hostcall.Limits{Timeout: 20 * time.Millisecond, Running: 1, Abandoned: 1, PerSource: 1})
}

// Another node handles the event that this one was handling when it was stopped: it is not this
// one's to set aside, however its handler ends.
func TestSession_LeaseLost_SetsNothingAside(t *testing.T) {
	t.Parallel()
	for name, handler := range map[string]func(abandoned <-chan struct{}) error{
		"the handler fails":   func(<-chan struct{}) error { return errors.New("failed") },
		"the handler is late": func(abandoned <-chan struct{}) error { <-abandoned; return nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			abandoned := make(chan struct{})
			s := stoppedIn(t, func(context.Context, realtime.Envelope) error { return handler(abandoned) })
			s.hurry()
			fields := fieldsOf(realtime.Envelope{ID: "1", Name: "trip.started", Key: "t1", At: time.Now(), Data: []byte("{}")})
			require.Equal(t, errStopped, s.handleEntry(entry{id: entryID{1, 0}, fields: fields}))
			close(abandoned)
			require.Empty(t, s.acks.ids)
			require.Equal(t, errStopped, s.handleEntry(entry{id: entryID{2, 0}, begun: 1, fields: fields}), "nor is one begun again")
			require.Equal(t, errStopped, s.handleEntry(entry{id: entryID{3, 0}, err: errTooLarge}), "or set aside unread")
			s.b.subscriptions[0].running.Wait()
		})
	}
}

// What the handler has done is acknowledged: another node need not repeat it, if it has not yet.
func TestSession_LeaseLost_AcknowledgesWhatIsDone(t *testing.T) {
	t.Parallel()
	s := stoppedIn(t, func(context.Context, realtime.Envelope) error { return nil })
	acknowledged := make(chan []string, 1)
	s.acks.send = func(ids []string) error { acknowledged <- ids; return nil }
	fields := fieldsOf(realtime.Envelope{ID: "1", Name: "trip.started", Key: "t1", At: time.Now(), Data: []byte("{}")})
	require.NoError(t, s.handleEntry(entry{id: entryID{1, 0}, fields: fields}))
	require.NoError(t, s.acks.flush())
	require.Equal(t, []string{"1-0"}, <-acknowledged)
}

// An event that is to be begun again when the node leaves is not begun: it would be set aside after some restarts.
func TestSession_Leaves_BeginsNothingAgain(t *testing.T) {
	t.Parallel()
	s := stoppedIn(t, func(context.Context, realtime.Envelope) error {
		t.Error("a handler was called")
		return nil
	})
	var leave context.CancelFunc
	s.going, leave = context.WithCancel(t.Context())
	leave()
	fields := fieldsOf(realtime.Envelope{ID: "1", Name: "trip.started", Key: "t1", At: time.Now(), Data: []byte("{}")})
	require.Equal(t, errStopped, s.handleEntry(entry{id: entryID{1, 0}, begun: 1, fields: fields}))
	require.Empty(t, s.acks.ids)
}

// The node leaves when one handler was called for an event: the others are called too, or another node would hand it to all
// again.
func TestSession_LeavesDuringDelivery_AllHandlersAreCalled(t *testing.T) {
	t.Parallel()
	s := stoppedIn(t, nil)
	s.b.opts.Attempts = 2
	calls := 0
	s.b.subscriptions[0].handler = func(context.Context, realtime.Envelope) error { calls++; return nil }
	var leave context.CancelFunc
	s.going, leave = context.WithCancel(t.Context())
	leave()
	require.NoError(t, s.deliver(realtime.Envelope{ID: "1"}, s.b.subscriptions))
	require.Equal(t, 1, calls)
	s.b.subscriptions[0].handler = func(context.Context, realtime.Envelope) error { calls++; return errors.New("failed") }
	require.Equal(t, errStopped, s.deliver(realtime.Envelope{ID: "1"}, s.b.subscriptions), "but not again")
	require.Equal(t, 2, calls)
}
