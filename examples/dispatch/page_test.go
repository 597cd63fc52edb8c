// The page's files, and what the server gives the page: people, reports, the drain.

package main

import (
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
)

// file requests a file of the page.
func (s *server) file(t *testing.T, path string) (body string, header http.Header) {
	t.Helper()
	resp, err := s.client.Get(s.url + path)
	require.NoError(t, err)
	data, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusOK, resp.StatusCode, path)
	return string(data), resp.Header
}

// Every file that one of the page's files names exists, and the policy lets nothing else in.
func TestPage_HasWhatItNeeds(t *testing.T) {
	t.Parallel()
	s := start(t)
	named := regexp.MustCompile(`(?:src|href)="([^"]+)"|from '\./([^']+)'|fetch\('([a-z.]+)'\)`)
	seen := map[string]bool{}
	for pending := []string{""}; len(pending) > 0; pending = pending[1:] {
		body, header := s.file(t, "/"+pending[0])
		require.Contains(t, header.Get("Content-Security-Policy"), "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'")
		require.NotContains(t, header.Get("Content-Security-Policy"), "unsafe")
		if strings.HasSuffix(pending[0], ".min.js") {
			require.Contains(t, body, "Released under the MIT License")
			continue
		}
		for _, match := range named.FindAllStringSubmatch(body, -1) {
			name := match[1] + match[2] + match[3]
			require.NotContains(t, name, "//", "only its own host's: %s", name)
			if !seen[name] && !strings.HasPrefix(name, "data:") {
				seen[name] = true
				pending = append(pending, name)
			}
		}
	}
	require.NoError(t, fs.WalkDir(pageFiles, "page", func(path string, d fs.DirEntry, err error) error {
		name := strings.TrimPrefix(path, "page/")
		if !d.IsDir() && !strings.HasSuffix(name, ".txt") && name != "index.html" {
			require.True(t, seen[name], "%s is not used", name)
		}
		return err
	}))
}

func TestPeople_HasNoCars(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *config) { c.cars = 2 })
	_, err := s.createCars(t.Context())
	require.NoError(t, err)
	status, answer := s.do(t, "GET", "/api/people", "", nil)
	require.Equal(t, http.StatusOK, status)
	require.Len(t, answer["people"], 5)
	require.Contains(t, answer["people"], map[string]any{"id": "driver-1", "type": "driver", "name": "Diego"})
}

// nextReport returns the next report for which f is true.
func (s socket) nextReport(f func(r report) bool) report {
	s.t.Helper()
	for end := time.Now().Add(30 * time.Second); ; {
		event, arg, err := s.next()
		require.NoError(s.t, err)
		require.True(s.t, time.Now().Before(end), "no such report")
		if event != demoReport.Name() {
			continue
		}
		var r report
		require.NoError(s.t, json.Unmarshal(arg, &r))
		if f(r) {
			return r
		}
	}
}

// The report says who received a domain event, and which calls were answered. It is for admins
// who have asked for it.
func TestWatch_Reports(t *testing.T) {
	t.Parallel()
	s := start(t)
	admin := s.connect(t, "/admin", s.login(t, "admin-1"))
	require.NoError(t, admin.emit(demoWatch.Name(), nil))
	driver := s.connect(t, "/drivers", s.login(t, "driver-1"))
	driver.goOnline(23.12, -82.38)
	admin.nextReport(func(r report) bool {
		for _, c := range r.Calls {
			require.NotEqual(t, realtime.DriverLocationPing.Name(), c.Event)
			if c.Event == realtime.DriverStatusUpdate.Name() {
				require.Equal(t, "driver-1", c.User)
				require.Empty(t, c.Code)
				return true
			}
		}
		return false
	})
	token := s.login(t, "passenger-1")
	s.connect(t, "/passengers", token)
	trip := s.post(t, "/api/trips", token, map[string]any{"pickup": capitol})
	var requested delivered
	r := admin.nextReport(func(r report) bool {
		i := slices.IndexFunc(r.Deliveries, func(d delivered) bool { return d.Event == "trip.requested" })
		if i >= 0 {
			requested = r.Deliveries[i]
		}
		return i >= 0
	})
	require.NotEmpty(t, r.Node)
	require.NotContains(t, jsonOf(t, r), "23.1", "no coordinates")
	require.Equal(t, []audienceCount{
		{"trip:requested", "/passengers passenger:passenger-1", 1},
		{"trip:requested", "/admin admin:all trip:" + trip["tripId"].(string), 1},
	}, requested.To)
	counted := admin.nextReport(func(r report) bool { return r.Counters != nil })
	require.Equal(t, map[string]int{"/admin": 1, "/drivers": 1, "/passengers": 1}, counted.Counters.Sockets)
}

func jsonOf(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	require.NoError(t, err)
	return string(data)
}

// The numbers are of one second, and the p99 of ten.
func TestWatch_TakeCounts(t *testing.T) {
	t.Parallel()
	w := newWatch()
	trace := w.trace()
	for i := range 100 {
		trace.Handled(t.Context(), realtime.HandledInfo{Event: realtime.DriverLocationPing.Name(), Duration: time.Duration(i+1) * time.Millisecond})
	}
	trace.Emitted(t.Context(), realtime.EmittedInfo{Event: "a", Receivers: 3, Bytes: 10})
	trace.Emitted(t.Context(), realtime.EmittedInfo{Event: demoReport.Name(), Receivers: 3, Bytes: 10})
	trace.Delivered(t.Context(), realtime.DeliveredInfo{DomainInfo: realtime.DomainInfo{Event: "driver_availability.location_updated"}})
	require.Equal(t, report{Node: w.node}, w.take(false), "positions are not reported")
	require.Equal(t, &counters{In: 100, Out: 3, OutBytes: 30, P99: 100}, w.take(true).Counters)
	for range 9 {
		require.Equal(t, &counters{P99: 100}, w.take(true).Counters)
	}
	require.Equal(t, &counters{}, w.take(true).Counters)

	for range maxReported + 10 {
		trace.Disconnected(t.Context(), realtime.DisconnectedInfo{})
	}
	require.Len(t, w.take(false).Ends, maxReported)
}

// Only admins get reports.
func TestWatch_IsForAdmins(t *testing.T) {
	t.Parallel()
	s := start(t)
	driver := s.connect(t, "/drivers", s.login(t, "driver-1"))
	require.NoError(t, driver.emit(demoWatch.Name(), nil))
	token := s.login(t, "passenger-1")
	status, code := s.refused(t, "POST", "/api/admin/drain", token, nil)
	require.Equal(t, http.StatusForbidden, status)
	require.Equal(t, "forbidden", code)
	count, err := s.rt.Admin().To(watchRoom).Count(t.Context())
	require.NoError(t, err)
	require.Zero(t, count)
	count, err = s.rt.Drivers().To(watchRoom).Count(t.Context())
	require.NoError(t, err)
	require.Zero(t, count)
}

// A drain tells every socket and closes it; the instance takes them back.
func TestDrain(t *testing.T) {
	t.Parallel()
	s := start(t)
	token := s.login(t, "admin-1")
	admin := s.connect(t, "/admin", token)
	driver := s.connect(t, "/drivers", s.login(t, "driver-1"))
	require.EqualValues(t, 2, s.post(t, "/api/admin/drain", token, nil)["closed"])
	for _, c := range []socket{admin, driver} {
		c.expect("server:drain")
		require.Error(t, c.end(), "closed")
	}
	s.connect(t, "/admin", token)
}

// The driver whom the passenger asks for gets the offer, though another one is nearer.
func TestRequest_AsksForADriver(t *testing.T) {
	t.Parallel()
	s := start(t)
	near := s.connect(t, "/drivers", s.login(t, "driver-1"))
	far := s.connect(t, "/drivers", s.login(t, "driver-2"))
	near.goOnline(23.1352, -82.3599)
	far.goOnline(23.14, -82.36)
	token := s.login(t, "passenger-1")
	s.post(t, "/api/trips", token, map[string]any{"pickup": capitol, "driverId": "driver-2"})
	far.expect("trip:assignment:offered")
}
