package socketio

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/engineio"
	"github.com/rodando/realtime/internal/testkit"
)

// dialEIO3 opens a connection of an EIO3 client.
func (s *server) dialEIO3() *client { return s.dial("EIO3 websocket") }

func serveOlder(t *testing.T) *server {
	return serve(t, func(c *Config, e *engineio.Config) { e.AllowEIO3, c.EIO3Query = true, 1000 })
}

func TestEIO3_Connect(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		s, l := serveOlder(t), &log{}
		ns := s.namespace("/a", events(l))
		old := s.dialEIO3()
		old.expect("0")
		old.text("0/a")
		<-s.opened
		old.expect("0/a,")
		recent, _ := s.join("websocket", "/a")
		ns.Emit(Target{Rooms: []string{"all"}}, msg("/a", "hi", "1"))
		old.expect(`2/a,["hi",1]`)
		recent.expect(`2/a,["hi",1]`)

		old.text(`2/a,["e",{"x":1}]`, `51-/a,["bin",{"_placeholder":true,"num":0}]`)
		old.binary("\x04\x01")
		require.Equal(t, []string{`e {"x":1}`, `bin {"_placeholder":true,"num":0}`}, l.take())
		ns.Emit(Target{All: true}, EventMessages("/a", NoID, "bin", [][]byte{[]byte(`{"_placeholder":true,"num":0}`)}, [][]byte{{9}})...)
		old.expect1(`51-/a,["bin",{"_placeholder":true,"num":0}]`)
		old.expectBinary("\x04\x09")

		old.text("1/a")
		require.Equal(t, []string{"/a " + ReasonClient}, s.reasons.take())
		old.text("0/none")
		old.expect(`4/none,{"message":"Invalid namespace"}`)
		old.text("0/a,")
		<-s.opened
		old.expect("0/a,")
	})
}

// If "/" exists, an EIO3 client is in it without a CONNECT.
func TestEIO3_InRoot(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		s, l := serveOlder(t), &log{}
		s.namespace("/", events(l))
		old := s.dialEIO3()
		<-s.opened
		old.expect("0")
		old.text("0", `2["e"]`) // a second CONNECT is harmless
		require.Equal(t, []string{"e "}, l.take())
		old.text("1")
		require.Equal(t, []string{"/ " + ReasonClient}, s.reasons.take())
	})
}

// If "/" does not exist, an EIO3 client is in no namespace, although it got the answer.
func TestEIO3_WithoutRoot(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		s := serveOlder(t)
		s.namespace("/a", Hooks{})
		old := s.dialEIO3()
		old.expect("0")
		old.text("0", `2["e"]`, `21["e"]`, "1", "31[]")
		old.expectNone()
		require.False(t, old.isClosed())
		time.Sleep(16 * time.Second)
		require.True(t, old.isClosed(), "the connect timeout")
	})
}

func TestQueryPayload(t *testing.T) {
	long := strings.Repeat("x", 900)
	for query, want := range map[string]string{
		"":                         "",
		"?":                        "",
		"?token=a%20b&x":           `{"token":"a b","x":""}`,
		"?a=1&a=2":                 `{"a":"1"}`,
		"?a=%zz":                   "",
		"?a=1;b=2":                 "",
		"?token=" + long:           `{"token":"` + long + `"}`,
		"?t=%22%3C%E2%98%83%00%FF": `{"t":"\"\u003c☃\u0000\ufffd"}`,
	} {
		t.Run(query, func(t *testing.T) {
			testkit.Bubble(t, func(t *testing.T) {
				s := serveOlder(t)
				payloads := make(chan string, 1)
				s.namespace("/a", Hooks{Connect: func(sock *Socket, payload []byte) {
					payloads <- string(payload)
					sock.Refuse([]byte(`{}`), false)
				}})
				old := s.dialEIO3()
				old.expect("0")
				old.text("0/a" + query + ",")
				require.Equal(t, want, <-payloads)
				old.expect("4/a,{}")
			})
		})
	}
	t.Run("too long", func(t *testing.T) {
		testkit.Bubble(t, func(t *testing.T) {
			s := serveOlder(t)
			old := s.dialEIO3()
			old.text("0/a?token=" + strings.Repeat("x", 1100))
			require.True(t, old.isClosed())
		})
	})
}
