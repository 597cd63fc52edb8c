// Rooms: which names the constructors make, and that no two of them are the same.

package realtime_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// The names are the contract's: nodes of other systems use them too.
func TestRoom_NamesOfTheContract(t *testing.T) {
	t.Parallel()
	for want, r := range map[string]realtime.Room{
		"driver:42": realtime.DriverRoom("42"), "passenger:42": realtime.PassengerRoom("42"), "admin:user:42": realtime.AdminUserRoom("42"),
		"session:42": realtime.SessionRoom("42"), "trip:42": realtime.TripRoom("42"), "user:42": realtime.UserRoom("42"),
		"admin:all": realtime.AdminAllRoom, "admin:drivers": realtime.AdminDriversRoom, "trip:a:b": realtime.TripRoom("a:b"),
	} {
		require.Equal(t, want, r.String())
	}
}

func TestNewRoom_IsNeverAnotherRoom(t *testing.T) {
	t.Parallel()
	ours := map[realtime.Room]string{realtime.AdminAllRoom: "", realtime.AdminDriversRoom: ""}
	words := []string{
		"driver", "passenger", "admin", "session", "trip", "user", "host", "all", "drivers", "user:x", "x", "a", "b", "c", "a:b", "b:c", ":", "::",
		"a:", ":b", "%", "%3A", "a%3Ab", "%25", "a%b", "host:a", "host:trip", "ñ",
	}
	for _, id := range words {
		for _, r := range []realtime.Room{
			realtime.DriverRoom(id), realtime.PassengerRoom(id), realtime.AdminUserRoom(id), realtime.SessionRoom(id), realtime.TripRoom(id), realtime.UserRoom(id),
		} {
			ours[r] = id
		}
	}
	made := map[realtime.Room]string{}
	for _, kind := range words {
		for _, id := range words {
			pair := fmt.Sprintf("%q %q", kind, id)
			r := realtime.NewRoom(kind, id)
			require.NotEqual(t, realtime.Room{}, r, pair)
			require.NotContains(t, ours, r, pair)
			require.NotContains(t, made, r, "%s and %s", pair, made[r])
			require.Contains(t, r.String(), ":", "a socket's id has none")
			made[r] = pair
		}
	}
	require.Equal(t, realtime.NewRoom("trip", "x"), realtime.NewRoom("trip", "x")) //nolint:testifylint // two rooms of one kind and id are equal
	for _, wrong := range []string{"", "a\x00", "a\xff", "\xed\xa0\x80", strings.Repeat("x", 257)} {
		require.Equal(t, realtime.Room{}, realtime.NewRoom(wrong, "x"))
		require.Equal(t, realtime.Room{}, realtime.NewRoom("x", wrong))
	}
}

func TestRoom_Text(t *testing.T) {
	t.Parallel()
	longest := realtime.NewRoom(strings.Repeat(":", 256), strings.Repeat("x", 256))
	rooms := []realtime.Room{realtime.TripRoom("ñ 1"), realtime.NewRoom("a:b", `"c"`), realtime.AdminAllRoom, {}, longest}
	text, err := json.Marshal(rooms[:4])
	require.NoError(t, err)
	require.JSONEq(t, `["trip:ñ 1", "host:a%3Ab:\"c\"", "admin:all", ""]`, string(text))
	text, err = json.Marshal(map[realtime.Room][]realtime.Room{rooms[0]: rooms})
	require.NoError(t, err)
	var back map[realtime.Room][]realtime.Room
	require.NoError(t, json.Unmarshal(text, &back))
	require.Equal(t, map[realtime.Room][]realtime.Room{rooms[0]: rooms}, back)

	// A name that a node of another system has given.
	r := realtime.TripRoom("1")
	require.NoError(t, r.UnmarshalText([]byte("blue")))
	require.Equal(t, "blue", r.String())
	for _, wrong := range []string{"trip:\x00", "trip:\xff", strings.Repeat("x", len(longest.String())+1)} {
		require.ErrorContains(t, r.UnmarshalText([]byte(wrong)), "realtime: ")
		require.Equal(t, "blue", r.String())
	}
}

// Nodes send rooms as text, which has no invalid UTF-8: there two ids that differ in it would
// be the same room.
func TestNewRoom_InvalidUTF8(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := realtimetest.NewCluster(t, 2)
		watcher := c[1].Driver(t, "d1")
		joined := realtime.NewRoom("zone", "caf\uFFFD")
		c[1].Realtime.Drivers().To(realtime.DriverRoom("d1")).Join(joined)
		for _, r := range []realtime.Room{realtime.NewRoom("zone", "caf\xe9"), realtime.NewRoom("zone", "caf\xe8")} {
			require.NoError(t, realtime.EventServerDrain.Emit(c[0].Realtime.Drivers().To(r), realtime.ServerDrainPayload{}))
		}
		realtimetest.ExpectNone(t, watcher)
		require.NoError(t, realtime.EventServerDrain.Emit(c[0].Realtime.Drivers().To(joined), realtime.ServerDrainPayload{}))
		realtimetest.Expect(t, watcher, realtime.EventServerDrain)
	})
}
