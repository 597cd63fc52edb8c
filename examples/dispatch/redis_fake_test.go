// A Redis in memory, which does what miniredis does otherwise.

package main

import (
	"crypto/sha1"
	"encoding/hex"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	miniserver "github.com/alicebob/miniredis/v2/server"
	"github.com/redis/rueidis"
	"github.com/stretchr/testify/require"
)

func startRedis(t *testing.T) *miniredis.Miniredis {
	t.Helper()
	m := miniredis.NewMiniRedis()
	require.NoError(t, m.Start())
	likeRedis(m)
	t.Cleanup(m.Close)
	return m
}

// likeRedis makes a server that has just been started do what Redis does.
func likeRedis(m *miniredis.Miniredis) {
	scripts, messages := scriptsWithoutFlags(), messagesInOrder()
	m.Server().SetPreHook(func(c *miniserver.Peer, command string, args ...string) bool {
		command = strings.ToUpper(command)
		return scripts(c, command, args...) || messages(c, command, args...)
	})
}

// scriptsWithoutFlags removes the first line of the bus' scripts, which miniredis does not know.
func scriptsWithoutFlags() miniserver.Hook {
	var mu sync.Mutex
	known := map[string]string{} // the sum of a script without its first line, by its own; mu guards it
	sum := func(s string) string {
		h := sha1.Sum([]byte(s))
		return hex.EncodeToString(h[:])
	}
	return func(_ *miniserver.Peer, command string, args ...string) bool {
		mu.Lock()
		defer mu.Unlock()
		switch command {
		case "EVAL":
			if body, ok := strings.CutPrefix(args[0], "#!lua flags=allow-oom\n"); ok {
				known[sum(args[0])] = sum(body)
				args[0] = body
			}
		case "EVALSHA":
			if other, ok := known[args[0]]; ok {
				args[0] = other
			}
		}
		return false
	}
}

// messagesInOrder hands out messages in the order in which they were published. miniredis has a
// goroutine for a connection's channels and another one for its patterns.
func messagesInOrder() miniserver.Hook {
	var mu sync.Mutex
	subscribed := map[*miniserver.Peer]map[string]string{} // what a connection's channels and patterns begin with; mu guards it
	literal := strings.NewReplacer(`\`, "", "*", "")
	return func(c *miniserver.Peer, command string, args ...string) bool {
		mu.Lock()
		defer mu.Unlock()
		switch command {
		case "SUBSCRIBE", "PSUBSCRIBE":
			if subscribed[c] == nil {
				subscribed[c] = map[string]string{}
				c.OnDisconnect(func() {
					mu.Lock()
					defer mu.Unlock()
					delete(subscribed, c)
				})
			}
			for _, name := range args {
				subscribed[c][name] = literal.Replace(name)
			}
		case "UNSUBSCRIBE", "PUNSUBSCRIBE":
			for _, name := range args {
				delete(subscribed[c], name)
			}
		case "PUBLISH":
			n := 0
			for to, names := range subscribed {
				for name, prefix := range names {
					message := []string{"message", args[0], args[1]}
					switch {
					case name == args[0]:
					case strings.HasSuffix(name, "*") && strings.HasPrefix(args[0], prefix):
						message = []string{"pmessage", name, args[0], args[1]}
					default:
						continue
					}
					n++
					to.Block(func(w *miniserver.Writer) {
						w.WritePushLen(len(message))
						for _, part := range message {
							w.WriteBulk(part)
						}
						w.Flush()
					})
				}
			}
			c.WriteInt(n)
			return true
		}
		return false
	}
}

// A subscriber gets the messages of channels and patterns in the order in which they were published.
func TestStartRedis_KeepsTheOrder(t *testing.T) {
	t.Parallel()
	client, err := dialRedis("redis://" + startRedis(t).Addr())
	require.NoError(t, err)
	t.Cleanup(client.Close)
	const n = 1000
	received := make(chan string, n)
	c, release := client.Dedicate()
	defer release()
	c.SetPubSubHooks(rueidis.PubSubHooks{OnMessage: func(m rueidis.PubSubMessage) { received <- m.Message }})
	require.NoError(t, c.Do(t.Context(), c.B().Subscribe().Channel("state").Build()).Error())
	require.NoError(t, c.Do(t.Context(), c.B().Psubscribe().Pattern("rooms#*").Build()).Error())
	for i := range n {
		channel := []string{"state", "rooms#1"}[i%2]
		got, err := client.Do(t.Context(), client.B().Publish().Channel(channel).Message(strconv.Itoa(i)).Build()).AsInt64()
		require.NoError(t, err)
		require.EqualValues(t, 1, got)
	}
	for i := range n {
		select {
		case got := <-received:
			require.Equal(t, strconv.Itoa(i), got)
		case <-time.After(patience):
			require.FailNow(t, "a message is missing", "%d", i)
		}
	}
}
