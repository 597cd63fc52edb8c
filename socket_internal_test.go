//go:build amd64 || arm64

// What an idle connection costs in the root package.

package realtime

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// There is one of each for an idle connection: more bytes are more memory for all. The
// allocator gives both as many as stand here.
func TestSocket_Size(t *testing.T) {
	t.Parallel()
	require.LessOrEqual(t, unsafe.Sizeof(connState{}), uintptr(48))
	require.LessOrEqual(t, unsafe.Sizeof(Socket{}), uintptr(144))
	require.LessOrEqual(t, unsafe.Sizeof(call{}), uintptr(176))
}
