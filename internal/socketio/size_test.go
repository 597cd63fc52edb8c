//go:build amd64 || arm64

// What an idle connection costs in this package.

package socketio

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// There is one of each for an idle connection, with recovery also a memory. The allocator gives
// them as many bytes as stand here.
func TestConn_Size(t *testing.T) {
	t.Parallel()
	require.LessOrEqual(t, unsafe.Sizeof(Conn{}), uintptr(192))
	require.LessOrEqual(t, unsafe.Sizeof(Socket{}), uintptr(176))
	require.LessOrEqual(t, unsafe.Sizeof(memory{}), uintptr(64))
}
