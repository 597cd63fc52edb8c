//go:build amd64 || arm64

// The memory that an idle connection takes in the root package.

package realtime

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// There is one of the first two for an idle connection, and a call for each event: more
// bytes are more memory for all. The allocator gives them as many as stand here.
func TestSocket_Size(t *testing.T) {
	t.Parallel()
	require.LessOrEqual(t, unsafe.Sizeof(connState{}), uintptr(48))
	require.LessOrEqual(t, unsafe.Sizeof(Socket{}), uintptr(144))
	require.LessOrEqual(t, unsafe.Sizeof(call{}), uintptr(192))
}
