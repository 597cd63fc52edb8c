// The namespace "/", which some clients always join.

package realtime_test

import (
	"context"
	"encoding/json"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// withRoot adds the namespace "/".
func withRoot(o *realtime.Options) {
	o.Namespaces = map[string]realtime.NamespaceOptions{"/": {Anonymous: true}}
}

// answerRoot makes "/" answer the call "ask".
func answerRoot(t *testing.T, srv *realtimetest.Server) *realtime.Namespace {
	t.Helper()
	root := srv.Realtime.Of("/")
	require.NotNil(t, root)
	root.HandleRaw("ask", func(context.Context, *realtime.Socket, realtime.Raw) (realtime.Raw, error) {
		return realtime.Raw{Args: []json.RawMessage{json.RawMessage(`"answer"`)}}, nil
	})
	return root
}

// The C++ client joins "/" before its own namespace, and closes late if that is refused.
func TestServer_RootNamespace(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		nodes := realtimetest.NewCluster(t, 2, withRoot)
		answerRoot(t, nodes[0])
		conn := openRaw(t, nodes[0])
		got := conn.send(t, "40")
		require.Contains(t, got[0], `40{"sid":"`)
		require.Equal(t, []string{`430["answer"]`}, conn.send(t, `420["ask"]`))
		requireEntered(t, conn.send(t, connectPacket(realtime.NamespaceDrivers, nodes[0].Login("d1", realtime.UserDriver))),
			realtime.NamespaceDrivers, "d1", realtimetest.SessionID("d1"))
		require.NoError(t, wireNote.Emit(nodes[1].Realtime.Of("/").All(), "to all"))
		synctest.Wait()
		require.Equal(t, []string{`42["test:note","to all"]`}, conn.received())

		require.Empty(t, conn.send(t, "41"))
		require.Empty(t, conn.send(t, `421["ask"]`), "it has left")
		require.NoError(t, wireNote.Emit(nodes[1].Realtime.Drivers().To(realtime.DriverRoom("d1")), "to the driver"))
		synctest.Wait()
		require.Equal(t, []string{`42/drivers,["test:note","to the driver"]`}, conn.received())
	})
}

// A client with a token may be asked for it in "/" too.
func TestServer_RootNamespaceWithUsers(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, func(o *realtime.Options) {
			o.Namespaces = map[string]realtime.NamespaceOptions{"/": {UserTypes: []realtime.UserType{realtime.UserDriver}}}
		})
		answerRoot(t, srv)
		c, err := srv.Dial(t.Context(), "/", realtimetest.Token(srv.Login("d1", realtime.UserDriver)))
		require.NoError(t, err)
		require.Equal(t, "/", realtimetest.Expect(t, c, realtime.EventHello).Namespace)
		ack, err := c.CallRaw(t.Context(), "ask", realtime.Raw{})
		require.NoError(t, err)
		require.Equal(t, `"answer"`, string(ack.Args[0]))
		_, err = srv.Dial(t.Context(), "/", realtimetest.Token(srv.Login("p1", realtime.UserPassenger)))
		requireRefused(t, err, realtime.CodeWrongUserType, "Wrong userType")
	})
}
