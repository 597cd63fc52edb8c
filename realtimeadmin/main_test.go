// No test of this package may leave a goroutine behind.

package realtimeadmin_test

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
