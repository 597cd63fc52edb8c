// connect: what a handshake costs. idle: what a socket costs that does nothing.

package main

import "time"

func (b *bench) connect() {
	r := roleOf(b.cfg.ns)
	b.warmup(r)
	w := b.begin()
	list, took, failed := b.connectAll(r, b.cfg.conns, b.cfg.conc)
	s := b.end(w)
	n := int64(len(took))
	b.res.add("handshakes_per_s", float64(n)/s.wall, "/s")
	b.res.add("cpu_ms_per_handshake", per(s.cpu*1e3, n), "ms")
	b.res.latencies("", took)
	b.res.add("connected", float64(n), "")
	b.res.add("failed", float64(failed), "")
	b.res.add("bytes_in_per_handshake", per(float64(s.in), n), "B")
	b.res.usage("", s)
	if failed > 0 || len(list) != b.cfg.conns {
		b.res.bad("%d handshakes failed: %v", failed, b.l.failures)
	}
	b.killAll(list)
}

func (b *bench) idle() {
	r := roleOf(b.cfg.ns)
	b.warmup(r)
	b.spin(2 * time.Second)
	// The base is taken after a collection where the server offers one, so that
	// what the warm-up left behind does not hide a part of what the sockets take.
	stats0 := b.stats()
	b.spin(300 * time.Millisecond)
	m0 := memoryOf(b.pids)
	list, _, failed := b.connectAll(r, b.cfg.conns, b.cfg.conc)
	n := int64(len(list))
	gone := 0
	b.l.h = handler{closed: func(*conn, string) { gone++ }}
	atOnce := memoryOf(b.pids)
	b.spin(b.cfg.settle / 2)
	beats, w := b.l.beats, b.begin()
	b.spin(b.cfg.settle / 2)
	s := b.end(w)
	beats = b.l.beats - beats
	m1 := memoryOf(b.pids)
	b.res.add("sockets", float64(n), "")
	b.res.add("pss_per_socket", per(m1.pss-m0.pss, n), "B")
	b.res.add("rss_per_socket", per(m1.rss-m0.rss, n), "B")
	b.res.add("pss_per_socket_at_once", per(atOnce.pss-m0.pss, n), "B")
	if stats1 := b.stats(); stats0 != nil && stats1 != nil {
		b.res.add("pss_per_socket_after_gc", per(memoryOf(b.pids).pss-m0.pss, n), "B")
		for _, k := range []string{"heap", "stack", "goroutines", "handles"} {
			if v, ok := stats1[k]; ok {
				b.res.add(k+"_per_socket_after_gc", per(v-stats0[k], n), "")
			}
		}
	} else {
		b.res.note("no /bench/stats, so no figure after a collection")
	}
	b.res.add("base_pss_mib", m0.pss/(1<<20), "MiB")
	b.res.add("idle_core_pct", 100*s.cpu/s.wall, "%")
	b.res.add("heartbeats", float64(beats), "")
	if beats > 0 {
		b.res.add("cpu_us_per_heartbeat", per(s.cpu*1e6, beats), "us")
	}
	b.res.add("threads", m1.threads, "")
	b.res.add("failed", float64(failed+gone), "")
	b.res.add("noise_pct", s.noise, "%")
	if failed+gone > 0 {
		b.res.bad("%d failed, %d dropped while idle: %v", failed, gone, b.l.failures)
	}
	b.killAll(list)
}
