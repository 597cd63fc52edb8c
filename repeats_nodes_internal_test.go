// What another node may have stored of a call.

package realtime

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzParseCall: whatever the adapter returns, a call that is taken from it can be answered, and stored again.
func FuzzParseCall(f *testing.F) {
	rt := &Server{opts: Options{}.defaults()}
	for _, value := range []string{
		"", "null", `{"node":"n","body":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}`,
		`{"node":"n","body":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","ended":true,"answer":{"args":["MQ=="],"code":"conflict"}}`,
		`{"node":"n","body":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","ended":true,"answer":{"args":["eyJfcGxhY2Vob2xkZXIiOnRydWUsIm51bSI6MH0="],"attachments":["AP8="]}}`,
	} {
		f.Add([]byte(value))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		c, err := rt.parseCall(value)
		if err != nil {
			require.Nil(t, c)
			return
		}
		if c.Answer != nil {
			require.NoError(t, rawOf(c.Answer.Args, c.Answer.Attachments).check())
		}
		again := c.value()
		require.LessOrEqual(t, len(again), maxCallValue)
		stored, err := rt.parseCall(again)
		require.NoError(t, err)
		require.Equal(t, c.Body, stored.Body)
		require.Equal(t, c.Ended, stored.Ended)
	})
}
