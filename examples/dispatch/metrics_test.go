// The metrics: where they are, and where not.

package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// get returns the status and the body of a GET.
func get(t *testing.T, url string) (int, string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(body)
}

func TestRun_Metrics(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	out, stdout := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, config{
			port: "0", secret: secret, cars: 1, offerTTL: time.Second, tokenTTL: time.Minute, metrics: "127.0.0.1:0",
		}, stdout)
	}()
	var url, metrics string
	for lines := bufio.NewScanner(out); metrics == ""; {
		require.True(t, lines.Scan())
		if at, ok := strings.CutPrefix(lines.Text(), "listening on "); ok {
			url = at
		}
		metrics, _ = strings.CutPrefix(lines.Text(), "metrics at ")
		if !strings.HasPrefix(metrics, "http://127.0.0.1:") {
			metrics = ""
		}
	}
	want := []string{
		"realtime_ready 1", `realtime_sockets{namespace="/drivers",transport="websocket"} 1`,
		`realtime_call_duration_seconds_count{code="ok",event="driver:location:ping",namespace="/drivers"} `, "go_goroutines ", "process_cpu_seconds_total ",
	}
	require.Eventually(t, func() bool {
		_, text := get(t, metrics)
		return !slices.ContainsFunc(want, func(line string) bool { return !strings.Contains(text, "\n"+line) })
	}, 30*time.Second, 50*time.Millisecond)
	_, text := get(t, url+"/metrics")
	require.NotContains(t, text, "realtime_", "clients do not see the metrics")
	stop()
	require.NoError(t, <-ended)
}

// An address that cannot be used is an error at once, and nothing goes on.
func TestRun_MetricsAddress(t *testing.T) {
	t.Parallel()
	err := run(t.Context(), config{
		port: "0", secret: secret, offerTTL: time.Second, tokenTTL: time.Minute, metrics: "127.0.0.1:none",
	}, io.Discard)
	require.ErrorContains(t, err, "-metrics: ")
}
