// Setup of the tests: none may leak a goroutine.

package offerbook

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
