package socketio

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/engineio"
	"github.com/rodando/realtime/internal/testkit"
)

// overEvents is a namespace's hooks that write down events, and ack them.
func overEvents(l *log) Hooks {
	return Hooks{Event: func(_ *Socket, e *Event) {
		l.addf("%s %d args %d, attachments %d", e.Name, e.Over, len(e.Args), len(e.Attachments))
		e.Ack(nil, []byte(`"acked"`))
	}}
}

// An event that is whole, but exceeds a limit on what it contains, reaches the layer above
// without its content. The connection lives, and nothing is kept or counted.
func TestConn_EventsOverALimit(t *testing.T) {
	each(t, func(t *testing.T, transport string) {
		s := serve(t, func(sc *Config, _ *engineio.Config) { sc.AttachmentBytes = 50_000 })
		var l log
		s.namespace("/a", overEvents(&l))
		c, sockets := s.join(transport, "/a")
		big := strings.Repeat("x", 40_000)
		for _, tc := range []struct {
			packet string
			binary []string
			name   string
			limit  Limit
		}{
			{packet: `2/a,7["track"` + strings.Repeat(",1", 2000) + `]`, name: "track", limit: LimitValues},
			{packet: `2/a,7["track",` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `]`, name: "track", limit: LimitDepth},
			{packet: `2/a,7[` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `]`, limit: LimitDepth},
			{packet: `2/a,7["` + strings.Repeat("n", 65) + `"]`, limit: LimitEventName},
			{packet: `512-/a,7["photos"]`, binary: strings.Split(strings.Repeat("x", 12), ""), name: "photos", limit: LimitAttachments},
			{packet: `52-/a,7["photos"` + strings.Repeat(",1", 2000) + `]`, binary: []string{big, big}, name: "photos", limit: LimitValues},
			{packet: `53-/a,7["photos"]`, binary: []string{big, big, "x"}, name: "photos", limit: LimitAttachmentBytes},
			{packet: `52-/a,7["photos"]`, binary: []string{big, big}, name: "photos", limit: LimitAttachmentBytes},
		} {
			c.text(tc.packet)
			c.binary(tc.binary...)
			c.expect1(`3/a,7["acked"]`)
			require.Equal(t, []string{fmt.Sprintf("%s %d args 0, attachments 0", tc.name, tc.limit)}, l.take())
			require.Equal(t, backlog{}, waiting(sockets[0]))
		}
		c.text(`52-/a,7["photos"]`)
		c.binary("x", "y")
		c.expect1(`3/a,7["acked"]`)
		require.Equal(t, []string{"photos 0 args 0, attachments 2"}, l.take())
		require.False(t, c.isClosed())
	})
}

// An ack that exceeds a limit is ignored, and its attachments with it.
func TestConn_AcksOverALimit(t *testing.T) {
	each(t, func(t *testing.T, transport string) {
		s := serve(t, func(sc *Config, _ *engineio.Config) { sc.AttachmentBytes = 5000 })
		s.namespace("/", Hooks{Event: echo})
		c, sockets := s.join(transport, "/")
		id := sockets[0].Namespace().NextID()
		require.NoError(t, sockets[0].Expect(id, func(Reply) { t.Error("the ack was handled") }))
		c.text(fmt.Sprintf(`3%d[1%s]`, id, strings.Repeat(",1", 2000)))
		c.text(fmt.Sprintf(`611-%d[]`, id))
		c.binary(strings.Split(strings.Repeat("x", 11), "")...)
		c.text(fmt.Sprintf(`62-%d[]`, id))
		c.binary(strings.Repeat("x", 4000), strings.Repeat("x", 4000))
		c.text(`2["still here"]`)
		c.expect1(`2["still here"]`)
		sockets[0].Forget(id)
		require.Equal(t, backlog{}, waiting(sockets[0]))
	})
}

// What exceeds a limit and names no namespace of the client closes the connection, with a status
// that says what was wrong. So does a namespace's name.
func TestConn_OverALimitWithoutALogin(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		s := serve(t)
		s.namespace("/", Hooks{})
		for packet, status := range map[string]ws.StatusCode{
			`2["x"` + strings.Repeat(",1", 2000) + `]`: ws.StatusProtocolError,
			`511-["x"]`:                                       ws.StatusProtocolError,
			`0/` + strings.Repeat("n", 100) + `,`:             ws.StatusMessageTooBig,
			`0{"a":[1` + strings.Repeat(",1", 2000) + `]}`:    ws.StatusMessageTooBig,
			`0{"a":` + strings.Repeat(`[`, 40) + `1` + `]]]}`: ws.StatusMessageTooBig,
		} {
			c := s.dial("websocket")
			c.text(packet)
			require.True(t, c.isClosed(), packet)
			require.Equal(t, status, c.status, packet)
		}
	})
}
