// What -h prints.

package main

import (
	"bytes"
	"flag"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestUsage_ListsTheEnvironment: -h is no mistake, and names each variable that configure reads.
func TestUsage_ListsTheEnvironment(t *testing.T) {
	t.Parallel()
	asked := map[string]bool{}
	_, err := configure([]string{"-h"}, func(name string) string { asked[name] = true; return "" })
	require.ErrorIs(t, err, flag.ErrHelp)
	require.NotEmpty(t, asked)

	var out bytes.Buffer
	f := flag.NewFlagSet("dispatch", flag.ContinueOnError)
	f.SetOutput(&out)
	usage(f)
	doc, err := os.ReadFile("main.go")
	require.NoError(t, err)
	for name := range asked {
		require.Regexp(t, `(?m)^  `+name+` `, out.String())
		require.Regexp(t, `(?m)^//\t`+name+` `, string(doc))
	}
}
