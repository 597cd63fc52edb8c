// The errors of the exported API: their texts and what they wrap.

package realtime_test

import (
	"context"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// requirePrefix checks that every mistake in an error has the prefix exactly once.
func requirePrefix(t *testing.T, err error, what string) {
	t.Helper()
	require.Error(t, err, what)
	for line := range strings.SplitSeq(err.Error(), "\n") {
		require.True(t, strings.HasPrefix(line, "realtime: "), "%s: %q", what, line)
		require.Equal(t, 1, strings.Count(line, "realtime: "), "%s: %q", what, line)
	}
}

func TestErrors_Sentinels(t *testing.T) {
	t.Parallel()
	sentinels := map[string]error{
		"ErrNotFound": realtime.ErrNotFound, "ErrUnavailable": realtime.ErrUnavailable, "ErrTokenInvalid": realtime.ErrTokenInvalid,
		"ErrTokenExpired": realtime.ErrTokenExpired, "ErrClosed": realtime.ErrClosed, "ErrAckTimeout": realtime.ErrAckTimeout,
		"ErrTooManyAcks": realtime.ErrTooManyAcks, "ErrNotReceived": realtime.ErrNotReceived,
	}
	for name, err := range sentinels {
		requirePrefix(t, err, name)
	}
	packages, err := parser.ParseDir(token.NewFileSet(), ".", func(f fs.FileInfo) bool { return !strings.HasSuffix(f.Name(), "_test.go") }, 0) //nolint:staticcheck // build tags do not matter here
	require.NoError(t, err)
	for _, file := range packages["realtime"].Files {
		for _, decl := range file.Decls {
			if vars, ok := decl.(*ast.GenDecl); ok && vars.Tok == token.VAR {
				for _, spec := range vars.Specs {
					for _, name := range spec.(*ast.ValueSpec).Names {
						if strings.HasPrefix(name.Name, "Err") {
							require.Contains(t, sentinels, name.Name, "it is to be in this test")
						}
					}
				}
			}
		}
	}
}

// failingBus is a host's bus whose errors wrap ours.
type failingBus struct{ realtime.EventBus }

func (failingBus) Publish(context.Context, realtime.Envelope) error {
	return fmt.Errorf("broker: %w", realtime.ErrUnavailable)
}

func (failingBus) Subscribe(func(context.Context, realtime.Envelope) error) (func(), error) {
	return nil, fmt.Errorf("broker: %w", realtime.ErrUnavailable)
}

// publishFailsBus is a bus whose Subscribe works and whose Publish fails.
type publishFailsBus struct{ failingBus }

func (publishFailsBus) Subscribe(func(context.Context, realtime.Envelope) error) (func(), error) {
	return func() {}, nil
}

func TestErrors_BeginWithTheirPackageOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		broken := validOptions()
		broken.Bus = failingBus{}
		_, err := realtime.New(broken)
		requirePrefix(t, err, "New")
		require.ErrorIs(t, err, realtime.ErrUnavailable)
		broken = realtime.Options{Bus: (*realtime.MemoryBus)(nil), Namespaces: map[string]realtime.NamespaceOptions{"x": {}}, UserTypes: map[string][]realtime.UserType{"y": nil}}
		broken.Limits.Depth, broken.Timeouts.Ack, broken.Rates.User.Burst = -1, 1, 1
		broken.Rates.Events = map[string]realtime.Rate{"connect": {}}
		broken.Events = []realtime.DomainEventType{
			{}, realtime.NewDomainEvent[shiftStarted]("No example."), realtime.NewDomainEvent("Not valid.", shiftStarted{}),
			realtime.NewDomainEvent("Panics.", shiftStarted{DriverID: "d1", Zone: "panic"}),
		}
		_, err = realtime.New(broken)
		requirePrefix(t, err, "New")

		_, err = realtime.NewJWTVerifier("secret", realtime.JWTOptions{Methods: []string{"none", "x"}, Leeway: -1, MaxLength: 1, Claims: map[string]string{"a": ""}})
		requirePrefix(t, err, "NewJWTVerifier")
		verifier := newVerifier(t, jwtSecret, jwtOptions)
		_, err = verifier.VerifyToken(ended, sign(jwtSecret, hs256, `{}`), "/drivers")
		requirePrefix(t, err, "VerifyToken, ended")
		require.ErrorIs(t, err, context.Canceled)
		for _, token := range []string{"", "x.y.z", sign(jwtSecret, hs256, `{}`), sign(jwtSecret, hs256, `{"exp":1}`), sign([]byte("other"), hs256, `{"exp":1}`), strings.Repeat("x", 9000)} {
			_, err = verifier.VerifyToken(t.Context(), token, "/drivers")
			requirePrefix(t, err, "VerifyToken")
		}
		_, err = newVerifier(t, func(*jwt.Token) (any, error) { return nil, fmt.Errorf("keys: %w", realtime.ErrUnavailable) }, jwtOptions).
			VerifyToken(t.Context(), sign(jwtSecret, hs256, `{}`), "/drivers")
		requirePrefix(t, err, "VerifyToken without a key")
		require.ErrorIs(t, err, realtime.ErrUnavailable)

		bus := realtime.NewMemoryBus()
		requirePrefix(t, bus.Publish(ended, realtime.Envelope{}), "MemoryBus.Publish, ended")
		release := make(chan struct{})
		_, err = bus.Subscribe(func(context.Context, realtime.Envelope) error { <-release; return nil })
		require.NoError(t, err)
		require.NoError(t, bus.Publish(t.Context(), realtime.Envelope{Key: "k"}))
		requirePrefix(t, bus.Close(ended), "MemoryBus.Close")
		close(release)
		require.NoError(t, bus.Close(t.Context()))
		requirePrefix(t, bus.Publish(t.Context(), realtime.Envelope{}), "MemoryBus.Publish, closed")
		_, err = bus.Subscribe(func(context.Context, realtime.Envelope) error { return nil })
		requirePrefix(t, err, "MemoryBus.Subscribe, closed")
		_, err = realtime.NewEnvelope(nil)
		requirePrefix(t, err, "NewEnvelope")
		_, err = realtime.NewEnvelope(realtime.TripCompleted{FareTotal: math.NaN()})
		requirePrefix(t, err, "NewEnvelope of a number that JSON does not have")

		srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Bus = publishFailsBus{}; o.Limits.PendingAcks = 1 })
		for _, e := range []realtime.DomainEvent{
			nil, (*realtime.TripStarted)(nil), realtime.TripStarted{}, realtime.TripStarted{TripID: "\x00"}, realtime.TripStarted{TripID: "t1"}, shiftStarted{},
		} {
			requirePrefix(t, srv.Realtime.Publish(t.Context(), e), fmt.Sprintf("Publish of %#v", e))
		}
		require.ErrorIs(t, srv.Realtime.Publish(t.Context(), realtime.TripStarted{TripID: "t1"}), realtime.ErrUnavailable)
		_, err = srv.Realtime.Namespace("x", realtime.NamespaceOptions{Anonymous: true, UserTypes: []realtime.UserType{""}})
		requirePrefix(t, err, "Namespace")
		_, err = srv.Realtime.Namespace("/admin", realtime.NamespaceOptions{})
		requirePrefix(t, err, "Namespace that exists")
		_, err = srv.Realtime.Namespace("/lab", realtime.NamespaceOptions{Interceptors: []realtime.Interceptor{nil}})
		requirePrefix(t, err, "Namespace with an interceptor that is nil")

		sockets := make(chan *realtime.Socket, 1)
		srv.Realtime.Drivers().OnConnect(func(_ context.Context, s *realtime.Socket) error { sockets <- s; return nil })
		c := srv.Driver(t, "d1")
		s := <-sockets
		bad, question, number := realtime.NewEvent[float64]("bad"), realtime.NewQuery[float64, string]("question"), realtime.NewQuery[realtime.None, int]("number")
		room := srv.Realtime.Drivers().To(realtime.DriverRoom("d1"))
		requirePrefix(t, bad.Emit(s, math.NaN()), "Emit")
		requirePrefix(t, bad.Emit(room, math.NaN()), "Emit to a room")
		_, err = realtime.NewCall[realtime.None, float64]("bad").Result(math.NaN())
		requirePrefix(t, err, "Call.Result")
		_, err = question.Ask(t.Context(), s, math.NaN())
		requirePrefix(t, err, "Ask")
		_, err = question.AskAll(t.Context(), room, math.NaN())
		requirePrefix(t, err, "AskAll")
		requirePrefix(t, srv.Realtime.Drivers().ServerEmit(t.Context(), "bad", math.NaN()), "ServerEmit")
		short, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		_, err = question.AskAll(short, room, 1)
		requirePrefix(t, err, "AskAll that nobody answers")
		require.ErrorIs(t, err, realtime.ErrAckTimeout)
		go func() { _, _ = question.Ask(t.Context(), s, 1) }()
		synctest.Wait()
		_, err = question.Ask(t.Context(), s, 1)
		requirePrefix(t, err, "Ask too often")
		require.ErrorIs(t, err, realtime.ErrTooManyAcks)
		time.Sleep(time.Minute)
		c.AnswerRaw("number", func(realtime.Raw) realtime.Raw {
			return realtime.Raw{Args: []json.RawMessage{json.RawMessage(`"text"`)}}
		})
		_, err = number.Ask(t.Context(), s, realtime.None{})
		requirePrefix(t, err, "Ask with an answer of another type")
		_, err = number.AskAll(t.Context(), room, realtime.None{})
		requirePrefix(t, err, "AskAll with an answer of another type")
		s.Disconnect()
		synctest.Wait()
		requirePrefix(t, bad.Emit(s, 1), "Emit to a closed socket")
		requirePrefix(t, s.EmitRaw("bad", realtime.Raw{}), "EmitRaw to a closed socket")
		_, err = question.Ask(t.Context(), s, 1)
		requirePrefix(t, err, "Ask a closed socket")

		hang := make(chan struct{})
		slow := validOptions()
		slow.Trace = &realtime.Trace{}
		slow.Bus = hangingUnsubscribeBus{hang: hang}
		rt, err := realtime.New(slow)
		require.NoError(t, err)
		short, stop = context.WithTimeout(t.Context(), time.Second)
		defer stop()
		err = rt.Shutdown(short)
		requirePrefix(t, err, "Shutdown")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		close(hang)
	})
}

// Every constant is known, and nothing else is.
func TestCode_Known(t *testing.T) {
	t.Parallel()
	for name, code := range constantsOf(t, "errors.go", "Code") {
		require.True(t, realtime.Code(code).Known(), name)
	}
	require.False(t, realtime.Code("").Known())
	require.False(t, realtime.Code("invented").Known())
}

// TestError_HasNoPrefix holds the exception: what a client may read is no fault of a package.
func TestError_HasNoPrefix(t *testing.T) {
	t.Parallel()
	drivers := realtime.NewMemoryDrivers()
	online, available, offline := true, true, realtime.ReasonOffline
	_, contradicts := drivers.UpdateStatus(t.Context(), "d1", realtime.StatusUpdate{IsOnline: &online, AvailabilityReason: &offline})
	_, err := drivers.SetTrip(t.Context(), "d1", "t1")
	require.NoError(t, err)
	_, conflict := drivers.UpdateStatus(t.Context(), "d1", realtime.StatusUpdate{IsAvailableForTrips: &available})
	_, _, invalid := drivers.UpdateLocation(t.Context(), "d1", realtime.LocationPing{})
	_, input := realtime.DriverLocationPing.Input(&realtime.CallRequest{})
	for what, err := range map[string]error{
		"UpdateStatus that contradicts itself": contradicts, "UpdateStatus on a trip": conflict, "UpdateLocation": invalid,
		"Validate": realtime.LocationPing{}.Validate(), "Input": input, "Errorf": realtime.Errorf(realtime.CodeConflict, "taken"),
	} {
		var e *realtime.Error
		require.ErrorAs(t, err, &e, what)
		require.Equal(t, string(e.Code)+": "+e.Message, err.Error(), what)
	}
}

// hangingUnsubscribeBus is a bus whose unsubscribe function hangs until hang is closed.
type hangingUnsubscribeBus struct {
	failingBus
	hang chan struct{}
}

func (b hangingUnsubscribeBus) Subscribe(func(context.Context, realtime.Envelope) error) (func(), error) {
	return func() { <-b.hang }, nil
}

// A code is never empty: an empty one would be a success in Trace.
func TestError_WithoutCode(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var handled, refused realtime.Code
		srv := realtimetest.NewServer(t, func(o *realtime.Options) {
			o.Trace = &realtime.Trace{
				Handled: func(_ context.Context, i realtime.HandledInfo) { handled = i.Code },
				Refused: func(_ context.Context, i realtime.RefusedInfo) { refused = i.Code },
			}
			o.Namespaces = map[string]realtime.NamespaceOptions{"/lab": {Authorize: func(context.Context, realtime.AuthorizeRequest) error {
				return &realtime.Error{Message: "not here"}
			}}}
		})
		bad := realtime.NewCall[realtime.None, realtime.None]("bad")
		bad.Handle(srv.Realtime.Drivers(), func(context.Context, *realtime.Socket, realtime.None) (realtime.None, error) {
			return realtime.None{}, fmt.Errorf("wrapped: %w", &realtime.Error{Message: "no luck"})
		})
		_, err := realtimetest.Call(t.Context(), srv.Driver(t, "d1"), bad, realtime.None{})
		var got *realtime.Error
		require.ErrorAs(t, err, &got)
		require.Equal(t, realtime.Error{Code: realtime.CodeInternal, Message: "no luck"}, *got)
		_, err = srv.Dial(t.Context(), "/lab", realtimetest.Token(srv.Login("d1", realtime.UserDriver)))
		var refusal *realtimetest.ConnectError
		require.ErrorAs(t, err, &refusal)
		require.Equal(t, realtimetest.ConnectError{Code: realtime.CodeInternal, Message: "not here"}, *refusal)
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, realtime.CodeInternal, handled)
		require.Equal(t, realtime.CodeInternal, refused)
		require.Equal(t, realtime.CodeInternal, realtime.CodeOf(&realtime.Error{Message: "no luck"}))
	})
}
