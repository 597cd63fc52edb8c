// Requests that arrive between the end of a session and its removal.

package engineio

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A session that has ended is unknown, also for a request that found it just before it was
// removed.
func TestSession_RequestsAfterTheEnd(t *testing.T) {
	t.Parallel()
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		var reported Failure
		s := &Session{srv: &Server{cfg: Config{Failed: func(_ *http.Request, f Failure) { reported = f }}}, state: stateClosed}
		w := httptest.NewRecorder()
		s.servePolling(w, httptest.NewRequest(method, "/", strings.NewReader("4x")))
		require.Equal(t, http.StatusBadRequest, w.Code, method)
		require.JSONEq(t, `{"code":1,"message":"Session ID unknown"}`, w.Body.String(), method)
		require.Equal(t, FailedSession, reported.Reason, method)
	}
}
