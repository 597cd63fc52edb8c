// A drain of a few hundred sockets.

package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDrain(t *testing.T) {
	var out bytes.Buffer
	require.Zero(t, drain(300, &out), "%s", &out)
	require.Contains(t, out.String(), "drained 300 of 300 sockets")
	require.Contains(t, out.String(), "breaches 0")
}
