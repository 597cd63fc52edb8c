// What the publisher says of messages that it has lost.

package redisadapter

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/rueidis"
	"github.com/stretchr/testify/require"
)

// The gap that is reported to the other nodes begins with the first lost message, also if it was
// lost because the queue was full, and also after an earlier failure.
func TestPublisher_LossesBeginWithTheFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var began time.Time
		p := &publisher{
			client: func() rueidis.Client { return struct{ rueidis.Client }{} },
			failed: func(int, error) {},
			healed: func(_ int, since time.Time) { began = since },
		}
		for range 2 {
			first := time.Now()
			require.ErrorIs(t, p.push(outgoing{}), errQueueFull) // maxMessages is 0
			time.Sleep(time.Minute)
			p.account(3, false, errors.New("down"))
			time.Sleep(time.Minute)
			p.account(0, true, nil)
			require.Equal(t, first, began)
			time.Sleep(time.Hour)
		}
	})
}
