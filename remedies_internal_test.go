// Each failure below CONNECT, and each limit, has a line that says what to do.

package realtime

import (
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// requireNames checks that what a remedy names exists.
func requireNames(t *testing.T, remedy string) {
	t.Helper()
	require.NotEmpty(t, remedy)
	for _, path := range regexp.MustCompile(`Options(\.[A-Z]\w*)+`).FindAllString(remedy, -1) {
		typ := reflect.TypeFor[Options]()
		for _, field := range strings.Split(path, ".")[1:] {
			f, ok := typ.FieldByName(field)
			require.True(t, ok, path)
			typ = f.Type
		}
	}
	for _, page := range regexp.MustCompile(`docs/\w+\.md`).FindAllString(remedy, -1) {
		require.FileExists(t, page)
	}
}

func TestRemedies_OfRequests(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("docs/log.md")
	require.NoError(t, err)
	reasons := slices.Collect(maps.Values(requestFailures))
	for _, reason := range append(reasons, FailureConnect, FailurePacket) {
		if reason == FailureLimit {
			continue
		}
		a, ok := requestAdvice[reason]
		require.True(t, ok, reason)
		requireNames(t, a.remedy)
		require.Contains(t, string(b), "| `"+string(reason)+"` | "+a.level.String()+" |", "docs/log.md")
	}
}

func TestRemedies_OfLimits(t *testing.T) {
	t.Parallel()
	all := []Limit{
		LimitRoomsPerSocket, LimitHandlers, LimitHandlersPerEvent, LimitSocketsPerUser,
		LimitRateLocation, LimitRateEvent, LimitRateEvents, LimitRateUser,
	}
	for _, l := range protocolLimits {
		all = append(all, l)
	}
	for _, l := range admissionLimits {
		all = append(all, l)
	}
	for _, l := range all {
		a := limitAdvice(l)
		requireNames(t, a.remedy)
		if l != LimitIncomingBytes && l != LimitNamespaceName { // both are fixed
			require.Contains(t, a.remedy, "raise Options.")
			require.Contains(t, a.remedy, string(l)) // Outbox is a part of OutboxBytes
		}
	}
}
