// The dashboard in docs/: it has every metric, and no other. e2e/test/dashboard.test.js runs its
// queries.

package realtimeprom_test

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/realtimeprom"
)

// panel is a panel of the dashboard.
type panel struct {
	ID      int    `json:"id"`
	Type    string `json:"type"`
	Title   string `json:"title"`
	GridPos struct {
		X, Y, W, H int
	} `json:"gridPos"`
	Targets []struct {
		Expr       string `json:"expr"`
		Datasource struct {
			UID string `json:"uid"`
		} `json:"datasource"`
	} `json:"targets"`
}

// namesOf returns the names of a collector's metrics.
func namesOf(c prometheus.Collector) map[string]bool {
	descs, names := make(chan *prometheus.Desc, 1000), map[string]bool{}
	c.Describe(descs)
	close(descs)
	for d := range descs {
		names[regexp.MustCompile(`fqName: "(\w+)"`).FindStringSubmatch(d.String())[1]] = true
	}
	return names
}

func TestDashboard(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/grafana-dashboard.json")
	require.NoError(t, err)
	var dashboard struct {
		Panels []panel `json:"panels"`
	}
	require.NoError(t, json.Unmarshal(text, &dashboard))
	ours := namesOf(realtimeprom.New(realtimeprom.Options{}))
	known := map[string]bool{}
	for _, c := range []prometheus.Collector{collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})} {
		for name := range namesOf(c) {
			known[name] = true
		}
	}
	shown, cells, ids := map[string]bool{}, map[[2]int]string{}, map[int]bool{}
	for _, p := range dashboard.Panels {
		require.False(t, ids[p.ID], p.Title)
		ids[p.ID] = true
		require.Equal(t, p.Type == "row", len(p.Targets) == 0, p.Title)
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			require.Less(t, x, 24, p.Title)
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				require.Empty(t, cells[[2]int{x, y}], p.Title)
				cells[[2]int{x, y}] = p.Title
			}
		}
		for _, target := range p.Targets {
			require.Equal(t, "${datasource}", target.Datasource.UID, p.Title)
			found := regexp.MustCompile(`(\w+){`).FindAllStringSubmatch(target.Expr, -1)
			require.NotEmpty(t, found, target.Expr)
			require.Equal(t, len(found), strings.Count(target.Expr, `{job=~"$job",instance=~"$instance"`), "%s is that of the chosen instances", target.Expr)
			for _, m := range found {
				name := regexp.MustCompile(`_(bucket|count|sum)$`).ReplaceAllString(m[1], "")
				require.True(t, ours[name] || known[name], m[1])
				shown[name] = true
			}
		}
	}
	for name := range ours {
		require.True(t, shown[name], "%s is on no panel", name)
	}
}
