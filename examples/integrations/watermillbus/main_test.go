// No test of this package may leave a goroutine behind.

package watermillbus_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/rodando/realtime/examples/integrations/internal/pgtest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		pgtest.Stop()
		os.Exit(code)
	}))
}
