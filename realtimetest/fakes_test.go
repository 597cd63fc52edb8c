// The fakes: rows, faults, tokens and the bus.

package realtimetest_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/testkit"
	"github.com/rodando/realtime/realtimetest"
)

func TestTokens(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		var tokens realtimetest.Tokens
		verify := func(token string) (realtime.Claims, error) {
			return tokens.VerifyToken(t.Context(), token, realtime.NamespaceDrivers)
		}
		token := tokens.Mint("d1", "s1", time.Minute)
		require.NotEqual(t, token, tokens.Mint("d1", "s1", time.Minute))
		c, err := verify(token)
		require.NoError(t, err)
		require.Equal(t, realtime.Claims{Subject: "d1", SessionID: "s1", ExpiresAt: time.Now().Add(time.Minute)}, c)
		time.Sleep(time.Minute)
		_, err = verify(token)
		require.ErrorIs(t, err, realtime.ErrTokenExpired)
		tokens.Set("t", realtime.Claims{Subject: "d1"})
		_, err = verify("t")
		require.NoError(t, err, "claims are used unchanged")
		tokens.Delete("t")
		_, err = verify("t")
		require.ErrorIs(t, err, realtime.ErrTokenInvalid)
	})
}

func TestRepositories(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	var (
		users    realtimetest.Users
		sessions realtimetest.Sessions
		trips    realtimetest.Trips
		parties  realtimetest.Parties
	)
	_, err := users.FindUser(ctx, "d1")
	require.ErrorIs(t, err, realtime.ErrNotFound)
	d1 := realtime.User{ID: "d1", Type: realtime.UserDriver, Active: true}
	users.Set(d1)
	u, err := users.FindUser(ctx, "d1")
	require.NoError(t, err)
	require.Equal(t, d1, u)
	users.Delete("d1")
	_, err = users.FindUser(ctx, "d1")
	require.ErrorIs(t, err, realtime.ErrNotFound)

	sessions.Revoke("s1") // no such session
	_, err = sessions.FindSession(ctx, "s1")
	require.ErrorIs(t, err, realtime.ErrNotFound)
	sessions.Set(realtime.Session{ID: "s1", UserID: "d1"})
	sessions.Revoke("s1")
	s, err := sessions.FindSession(ctx, "s1")
	require.NoError(t, err)
	require.True(t, s.Revoked)
	sessions.Delete("s1")
	_, err = sessions.FindSession(ctx, "s1")
	require.ErrorIs(t, err, realtime.ErrNotFound)

	ids, err := trips.ActiveTrips(ctx, "p1")
	require.NoError(t, err)
	require.Empty(t, ids)
	trips.Set("p1", "t1", "t2")
	ids, err = trips.ActiveTrips(ctx, "p1")
	require.NoError(t, err)
	require.Equal(t, []string{"t1", "t2"}, ids)

	_, err = parties.FindParties(ctx, "t1")
	require.ErrorIs(t, err, realtime.ErrNotFound)
	parties.Set("t1", realtime.TripParties{PassengerID: "p1", DriverID: "d1"})
	p, err := parties.FindParties(ctx, "t1")
	require.NoError(t, err)
	require.Equal(t, realtime.TripParties{PassengerID: "p1", DriverID: "d1"}, p)
	parties.Delete("t1")
	_, err = parties.FindParties(ctx, "t1")
	require.ErrorIs(t, err, realtime.ErrNotFound)
}

func TestFaults(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		var users realtimetest.Users
		users.Set(realtime.User{ID: "d1"})
		down := errors.New("down")
		users.Fail(down)
		_, err := users.FindUser(t.Context(), "d1")
		require.ErrorIs(t, err, down)
		users.Fail(nil)
		_, err = users.FindUser(t.Context(), "d1")
		require.NoError(t, err)

		entered, release := users.Block()
		errs := make(chan error, 2)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for _, ctx := range []context.Context{ctx, t.Context()} {
			go func() {
				_, err := users.FindUser(ctx, "d1")
				errs <- err
			}()
		}
		<-entered
		require.ErrorIs(t, <-errs, context.DeadlineExceeded, "a call returns when its ctx ends")
		users.Delete("d1")
		release()
		release()
		require.ErrorIs(t, <-errs, realtime.ErrNotFound, "it reads its answer when it continues")
	})
}

func TestMintJWT(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		secret := []byte("a secret of thirty-two bytes, yes")
		v, err := realtime.NewJWTVerifier(secret, realtime.JWTOptions{Methods: []string{"HS256"}, Issuer: "rodando"})
		require.NoError(t, err)
		exp := time.Now().Add(time.Hour)
		token := realtimetest.MintJWT(secret, map[string]any{"sub": "d1", "sid": "s1", "exp": exp, "iss": "rodando"})
		c, err := v.VerifyToken(t.Context(), token, realtime.NamespaceDrivers)
		require.NoError(t, err)
		require.Equal(t, "d1", c.Subject)
		require.Equal(t, "s1", c.SessionID)
		require.WithinDuration(t, exp, c.ExpiresAt, time.Second)
		_, err = v.VerifyToken(t.Context(), realtimetest.MintJWT([]byte("another"), map[string]any{"sub": "d1", "exp": exp}), "")
		require.ErrorIs(t, err, realtime.ErrTokenInvalid)
		require.Panics(t, func() { realtimetest.MintJWT(secret, map[string]any{"sub": func() {}}) })
	})
}

func TestBus_RecordsAndFails(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		b := realtimetest.NewBus()
		require.NoError(t, b.Wait(t.Context()))
		full := errors.New("full")
		b.Fail(full)
		require.ErrorIs(t, b.Publish(t.Context(), realtime.Envelope{ID: "0"}), full)
		b.Fail(nil)
		require.Empty(t, b.Published())

		release := make(chan struct{})
		cancel, err := b.Subscribe(func(context.Context, realtime.Envelope) error {
			<-release
			return errors.New("no")
		})
		require.NoError(t, err)
		data := []byte("abc")
		require.NoError(t, b.Publish(t.Context(), realtime.Envelope{ID: "1", Name: "n", Data: data}))
		data[0] = 'X'
		require.Equal(t, []realtime.Envelope{{ID: "1", Name: "n", Data: []byte("abc")}}, b.Published())
		brief, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		require.ErrorIs(t, b.Wait(brief), context.DeadlineExceeded)
		require.NoError(t, b.Err())
		close(release)
		require.NoError(t, b.Wait(t.Context()))
		require.ErrorContains(t, b.Err(), "n: no")
		cancel()
		synctest.Wait()
	})
}
