// The zero values that a host can write down: none of them panics.

package realtime_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
)

func TestBroadcast_ZeroSelectsNoSocket(t *testing.T) {
	t.Parallel()
	room, event, query := realtime.DriverRoom("d1"), realtime.NewEvent[int]("n"), realtime.NewQuery[int, int]("q")
	for name, b := range map[string]realtime.Broadcast{
		"zero":            {},
		"To":              realtime.Broadcast{}.To(room),
		"To no room":      realtime.Broadcast{}.To(),
		"Except":          realtime.Broadcast{}.Except(room).To(room),
		"ExceptSocket":    realtime.Broadcast{}.ExceptSocket(&realtime.Socket{}).To(room),
		"how it is sent":  realtime.Broadcast{}.To(room).Volatile().Latest("k"),
		"Local":           realtime.Broadcast{}.Local().To(room),
		"To, then Except": realtime.Broadcast{}.To(room, room).Except(room),
	} {
		require.NotPanics(t, func() {
			require.NoError(t, event.Emit(b, 1), name)
			require.NoError(t, b.EmitRaw("n", realtime.Raw{}), name)
			b.Join(room)
			b.Leave(room)
			b.Disconnect()
			b.Close()
			n, err := b.Count(t.Context())
			require.NoError(t, err, name)
			require.Zero(t, n, name)
			found, err := b.Sockets(t.Context())
			require.NoError(t, err, name)
			require.Empty(t, found, name)
			found, err = b.SocketsPage(t.Context(), "", 1)
			require.NoError(t, err, name)
			require.Empty(t, found, name)
			answers, err := query.AskAll(t.Context(), b, 1)
			require.NoError(t, err, name)
			require.Empty(t, answers, name)
		}, name)
	}
}

func TestSocket_ZeroIsClosed(t *testing.T) {
	t.Parallel()
	var s realtime.Socket
	key := realtime.NewSocketKey[int]()
	require.NotPanics(t, func() {
		require.Empty(t, s.ID())
		require.Nil(t, s.Namespace())
		require.Zero(t, s.Identity())
		require.Zero(t, s.ExpiresAt())
		require.Equal(t, netip.Addr{}, s.RemoteAddr())
		require.Empty(t, s.Transport())
		require.False(t, s.Connected())
		require.False(t, s.Join(realtime.DriverRoom("d1")))
		s.Leave(realtime.DriverRoom("d1"))
		require.Empty(t, s.Rooms())
		require.ErrorIs(t, s.EmitRaw("n", realtime.Raw{}), realtime.ErrClosed)
		require.ErrorIs(t, realtime.NewEvent[int]("n").Emit(&s, 1), realtime.ErrClosed)
		_, err := realtime.NewQuery[int, int]("q").Ask(t.Context(), &s, 1)
		require.ErrorIs(t, err, realtime.ErrClosed)
		key.Set(&s, 7)
		v, ok := key.Get(&s)
		require.True(t, ok)
		require.Equal(t, 7, v)
		key.Delete(&s)
		s.Disconnect()
		s.Close()
	})
}

func TestCallRequest_ZeroHasNoArguments(t *testing.T) {
	t.Parallel()
	var r realtime.CallRequest
	require.NotPanics(t, func() {
		require.Nil(t, r.Socket())
		require.Nil(t, r.Namespace())
		require.Empty(t, r.Args())
		require.False(t, r.WantsAck())
		_, err := realtime.NewCall[realtime.TripRef, realtime.None]("c").Input(&r)
		require.Error(t, err)
	})
}

func TestZeroValues_OfNames(t *testing.T) {
	t.Parallel()
	require.NotPanics(t, func() {
		var e realtime.Event[int]
		require.Empty(t, e.Name())
		requirePrefix(t, e.Emit(&realtime.Socket{}, 1), "Emit")
		requirePrefix(t, e.Emit(realtime.Broadcast{}, 1), "Emit")
		var q realtime.Query[int, int]
		require.Empty(t, q.Name())
		_, err := q.Ask(t.Context(), &realtime.Socket{}, 1)
		requirePrefix(t, err, "Ask")
		_, err = q.AskAll(t.Context(), realtime.Broadcast{}, 1)
		requirePrefix(t, err, "AskAll")
		require.Empty(t, realtime.Call[int, int]{}.Name())
		require.Empty(t, e.Deliver(1, realtime.Audience{}).Latest("").Audiences())
		require.Empty(t, realtime.Delivery{}.Event())
		require.Nil(t, realtime.Delivery{}.Payload())
		require.Empty(t, realtime.Delivery{}.Audiences())
		require.Equal(t, "nobody", realtime.Audience{}.String())
		require.Empty(t, realtime.Room{}.String())
		text, err := realtime.Time{}.MarshalJSON()
		require.NoError(t, err)
		require.Equal(t, "null", string(text))
		require.NotEmpty(t, (&realtime.Error{}).Error())
	})
}
