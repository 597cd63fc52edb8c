// The numbers of Server.Stats, and Traces that are joined.

package realtime_test

import (
	"context"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

func TestServer_Stats(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		before := srv.Realtime.Stats()
		none := map[realtime.Transport]int{realtime.TransportPolling: 0, realtime.TransportWebSocket: 0}
		require.Equal(t, none, before.Connections)
		require.Equal(t, []realtime.NamespaceStats{{"/admin", none, 0}, {"/drivers", none, 0}, {"/passengers", none, 0}}, before.Namespaces)

		admin := srv.Admin(t, "a1")
		srv.Driver(t, "d1")
		srv.Driver(t, "d2", realtimetest.Polling())
		openRaw(t, srv)
		entered, release := srv.Users.Block()
		pending := make(chan error, 1)
		token := srv.Login("p2", realtime.UserPassenger)
		go func() {
			_, err := srv.Dial(t.Context(), realtime.NamespacePassengers, realtimetest.Token(token))
			pending <- err
		}()
		<-entered
		synctest.Wait()
		st := srv.Realtime.Stats()
		require.Equal(t, map[realtime.Transport]int{realtime.TransportPolling: 1, realtime.TransportWebSocket: 4}, st.Connections)
		require.Equal(t, map[realtime.Transport]int{realtime.TransportPolling: 1, realtime.TransportWebSocket: 1}, st.Namespaces[1].Sockets)
		require.Equal(t, map[realtime.Transport]int{realtime.TransportPolling: 0, realtime.TransportWebSocket: 1}, st.Namespaces[0].Sockets)
		require.Equal(t, none, st.Namespaces[2].Sockets, "it is connecting")
		require.Equal(t, 4, st.Namespaces[1].Rooms, "those of two users, and of their sessions")
		require.Equal(t, 2, st.Unauthenticated)
		require.Equal(t, 1, st.Handshakes)
		release()
		require.NoError(t, <-pending)

		conn := openRaw(t, srv)
		require.Zero(t, st.IncomingBytes)
		require.NoError(t, ws.WriteHeader(conn.body, ws.Header{Fin: true, OpCode: ws.OpText, Masked: true, Length: 100_000}))
		_, err := conn.body.Write(make([]byte, 50_000))
		require.NoError(t, err)
		synctest.Wait()
		require.GreaterOrEqual(t, srv.Realtime.Stats().IncomingBytes, 50_000)

		admin.Stall()
		room := srv.Realtime.Admin().To(realtime.AdminUserRoom("a1"))
		for range 600 {
			require.NoError(t, memo.Emit(room, strings.Repeat("x", 1000)))
		}
		time.Sleep(time.Second) // the write that is under way counts as blocked
		for range 3 {
			require.NoError(t, memo.Emit(room.Volatile(), "dropped"))
			require.NoError(t, memo.Emit(room.Latest("k"), "replaced, but for the first"))
		}
		st = srv.Realtime.Stats()
		require.Positive(t, st.Outbox.Messages)
		require.Greater(t, st.Outbox.Bytes, 1000*(st.Outbox.Messages-1))
		require.Equal(t, st.Outbox.Bytes, st.Outbox.Largest, "the others read all")
		require.EqualValues(t, 3, st.Outbox.Dropped)
		require.EqualValues(t, 2, st.Outbox.Replaced)
		require.Zero(t, st.Handshakes)
		admin.Resume()
		synctest.Wait()
		st = srv.Realtime.Stats()
		require.Zero(t, st.Outbox.Messages+st.Outbox.Bytes+st.Outbox.Largest)
	})
}

// stuckUsers is a UserRepo whose calls for one id do not return until a channel is closed.
type stuckUsers struct {
	realtime.UserRepo
	id    string
	until <-chan struct{}
}

func (u stuckUsers) FindUser(ctx context.Context, id string) (realtime.User, error) {
	if id == u.id {
		<-u.until
	}
	return u.UserRepo.FindUser(ctx, id)
}

// A call that hangs is counted under its kind until it returns.
func TestServer_StatsOfAbandonedCalls(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		stuck := make(chan struct{})
		free := sync.OnceFunc(func() { close(stuck) })
		defer free()
		srv := realtimetest.NewServer(t, func(o *realtime.Options) {
			o.Users = stuckUsers{o.Users, "d2", stuck}
			o.Trace = &realtime.Trace{Unknown: func(context.Context, realtime.UnknownInfo) { <-stuck }}
		})
		drivers := srv.Realtime.Drivers()
		drivers.HandleRaw("hangs", func(context.Context, *realtime.Socket, realtime.Raw) (realtime.Raw, error) {
			<-stuck
			return realtime.Raw{}, nil
		})
		drivers.OnDisconnect(func(context.Context, *realtime.Socket, realtime.DisconnectReason) { <-stuck })
		require.NoError(t, srv.Driver(t, "d1").Emit("hangs"))
		for _, name := range []string{"1", "2"} {
			require.NoError(t, srv.Bus.Publish(t.Context(), realtime.Envelope{ID: name, Name: "unheard of", Key: "k", Data: []byte("{}")}))
		}
		synctest.Wait()
		require.Equal(t, 1, srv.Realtime.Stats().TraceQueue, "one runs, and one waits")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := srv.Dial(ctx, realtime.NamespaceDrivers, realtimetest.Token(srv.Login("d2", realtime.UserDriver)))
		require.Error(t, err)
		time.Sleep(time.Minute)
		want := map[realtime.HostCall]int{}
		for _, kind := range constantsOf(t, "stats.go", "HostCall") {
			want[realtime.HostCall(kind)] = 0
		}
		got := srv.Realtime.Stats().Abandoned
		want[realtime.HostCallHandler], want[realtime.HostCallDisconnect] = 1, 1
		want[realtime.HostCallUsers], want[realtime.HostCallTrace] = got[realtime.HostCallUsers], 2
		require.Equal(t, want, got)
		require.Positive(t, got[realtime.HostCallUsers], "the client has tried once or more often")
		free()
		synctest.Wait()
		for kind := range want {
			want[kind] = 0
		}
		require.Equal(t, want, srv.Realtime.Stats().Abandoned)
	})
}

// The round trip is that of the ping: neither another packet of the client nor a pong that nobody
// asked for is one.
func TestTrace_Heartbeat(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var got []realtime.HeartbeatInfo
		srv := realtimetest.NewServer(t, func(o *realtime.Options) {
			o.Trace = &realtime.Trace{Heartbeat: func(_ context.Context, i realtime.HeartbeatInfo) { got = append(got, i) }}
		})
		conn := openRaw(t, srv)
		conn.silent.Store(true)
		conn.send(t, connectPacket(realtime.NamespaceDrivers, srv.Login("d1", realtime.UserDriver)))
		synctest.Wait()
		conn.send(t, "3") // nobody asked
		time.Sleep(25*time.Second + 100*time.Millisecond)
		conn.send(t, `42/drivers,["an event"]`)
		synctest.Wait()
		require.Empty(t, got)
		time.Sleep(300 * time.Millisecond)
		conn.send(t, "3")
		conn.send(t, "3")
		synctest.Wait()
		require.Len(t, got, 1)
		require.Equal(t, realtime.TransportWebSocket, got[0].Transport)
		require.True(t, got[0].RemoteAddr.IsValid())
		require.InDelta(t, 0.4, got[0].RoundTrip.Seconds(), 0.06, "the ping leaves up to a tick early")
	})
}

// Every function of all Traces is called, in order, whatever the earlier ones do.
func TestJoinTraces(t *testing.T) {
	t.Parallel()
	var called []string
	traceOf := func(name string, panics bool) *realtime.Trace {
		tr := &realtime.Trace{}
		for _, f := range reflect.ValueOf(tr).Elem().Fields() {
			f.Set(reflect.MakeFunc(f.Type(), func([]reflect.Value) []reflect.Value {
				called = append(called, name)
				if panics {
					panic(name)
				}
				return nil
			}))
		}
		return tr
	}
	joined := realtime.JoinTraces(nil, traceOf("a", false), &realtime.Trace{}, traceOf("b", true), traceOf("c", false))
	v := reflect.ValueOf(joined).Elem()
	for i := range v.NumField() {
		called = nil
		f := v.Field(i)
		require.False(t, f.IsNil(), v.Type().Field(i).Name)
		require.PanicsWithValue(t, "b", func() {
			f.Call([]reflect.Value{reflect.ValueOf(t.Context()), reflect.Zero(f.Type().In(1))})
		})
		require.Equal(t, []string{"a", "b", "c"}, called, v.Type().Field(i).Name)
	}
	require.Equal(t, reflect.ValueOf(realtime.Trace{}).Interface(), *realtime.JoinTraces(nil, &realtime.Trace{}))
}
