// The operators' view of the example.

package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// operatorsRequest sends a request as the page does, and returns its status and body.
func (s *server) operatorsRequest(t *testing.T, path, token string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/operators"+path, nil)
	require.NoError(t, err)
	r.Header.Set("X-Realtime-Admin", "1")
	r.Header.Set("Authorization", "Bearer "+token)
	resp, err := s.client.Do(r)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(body)
}

// With -admin-view there is the operators' page, which shows a passenger's trip to whoever has the
// printed token. The tokens of users do not open it.
func TestAdminView(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *config) { c.admin = true })
	var out bytes.Buffer
	require.NoError(t, s.greet(t.Context(), &out, 3000))
	printed := regexp.MustCompile(`(?m)^operators: http://localhost:3000/operators/ (\w{52})$`).FindAllStringSubmatch(out.String(), -1)
	require.Len(t, printed, 1, out.String())
	token := printed[0][1]

	status, html := s.operatorsRequest(t, "/", "")
	require.Equal(t, 200, status)
	require.Contains(t, html, "view.js")
	status, _ = s.operatorsRequest(t, "/api/overview", s.login(t, "admin-1"))
	require.Equal(t, 401, status)
	status, body := s.operatorsRequest(t, "/api/overview", token)
	require.Equal(t, 200, status)
	require.Contains(t, body, `"ready":true`)

	passenger := "passenger-1"
	login := s.login(t, passenger)
	phone := s.connect(t, "/passengers", login)
	trip := s.post(t, "/api/trips", login, nil)["tripId"].(string)
	phone.expect("trip:requested")
	require.Eventually(t, func() bool {
		_, body = s.operatorsRequest(t, "/api/timeline?id="+trip, token)
		return strings.Contains(body, `"event":"trip:requested","audience":"/passengers passenger:`+passenger+`","receivers":1`)
	}, patience, 10*time.Millisecond)
	var user struct{ Sockets []struct{ Session string } }
	_, body = s.operatorsRequest(t, "/api/user?id="+passenger, token)
	require.NoError(t, json.Unmarshal([]byte(body), &user))
	require.Len(t, user.Sockets, 1)
}

// Without the flag there is no view, and with it no address that others reach.
func TestAdminView_OffByDefault(t *testing.T) {
	t.Parallel()
	s := start(t)
	status, _ := s.operatorsRequest(t, "/", "")
	require.Equal(t, 404, status)
	var out bytes.Buffer
	require.NoError(t, s.greet(t.Context(), &out, 3000))
	require.NotContains(t, out.String(), "operators")

	for host, ok := range map[string]bool{"": true, "localhost": true, "127.0.0.1": true, "::1": true, "0.0.0.0": false, "192.0.2.1": false} {
		_, err := configure([]string{"-admin-view"}, func(name string) string { return map[string]string{"HOST": host}[name] })
		require.Equal(t, ok, err == nil, host)
	}
}
