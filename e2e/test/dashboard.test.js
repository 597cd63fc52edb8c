// The dashboard: a Prometheus scrapes two instances with a life, and each query of
// docs/grafana-dashboard.json has a result.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, settings } from '../lib/client.js';
import { Dispatch, freePort } from '../lib/dispatch.js';
import { Prometheus } from '../lib/prometheus.js';
import { Redis } from '../lib/redis.js';
import { people, tokenOf } from '../lib/scenario.js';
import { assign, goOnline, ping, pickup } from '../lib/trip.js';

/** What Grafana puts in place of its variables, with all jobs and instances selected. */
const filled = (query) => query.replaceAll('$job', '.*').replaceAll('$instance', '.*').replaceAll('$__rate_interval', '15s');

/** The queries, each with the labels that its legend shows. */
function queriesOf(dashboard) {
  const found = dashboard.panels.flatMap((panel) => (panel.targets ?? []).map(({ expr, legendFormat }) => ({
    title: panel.title, query: filled(expr), labels: [...legendFormat.matchAll(/{{(\w+)}}/g)].map(([, label]) => label),
  })));
  for (const { type, name, definition } of dashboard.templating.list) {
    if (type !== 'query') continue;
    const [, query, label] = definition.match(/^label_values\((.+), (\w+)\)$/);
    found.push({ title: `variable ${name}`, query: filled(query), labels: [label] });
  }
  return found;
}

/** Why a query has no result yet, or nothing. */
async function lack(prometheus, { query, labels }) {
  const series = await prometheus.query(query);
  if (!series.some(({ value }) => Number.isFinite(value))) return `${series.length} series without a number`;
  const label = labels.find((l) => !series.some(({ metric }) => metric[l]));
  return label && `no series has the label ${label}`;
}

/** Two instances on one Redis, with their metrics. */
async function startNodes(url, metrics) {
  const nodes = [];
  for (const port of metrics) {
    nodes.push(await Dispatch.start(people(), ['-metrics', `127.0.0.1:${port}`, '-ping-interval', '1s', '-offer-ttl', '60s'], { REDIS_URL: url }));
  }
  return nodes;
}

/** People who do everything that the graphs show, again and again. */
class Life {
  #clients = [];
  #ended = false;

  constructor([one, two]) {
    this.one = one;
    this.two = two;
  }

  client(setting, server, namespace, token) {
    const c = new Client(setting, server.url, namespace, { auth: { token } });
    this.#clients.push(c);
    return c;
  }

  async begin() {
    const [websocket, polling] = ['websocket', 'polling'].map((ends) => settings.find((s) => s.ends === ends && s.options.transports));
    this.driver = this.client(websocket, this.one, '/drivers', tokenOf('diego'));
    this.passenger = this.client(polling, this.two, '/passengers', tokenOf('paula'));
    this.client(websocket, this.two, '/admin', tokenOf('ana'));
    for (const c of this.#clients) await c.hello();
    await goOnline(this.driver);
    this.going = this.#go(websocket);
    this.going.catch((err) => { this.failure = err; });
  }

  async #go(setting) {
    while (!this.#ended) {
      await ping(this.driver, { lat: pickup.lat + Math.random() / 1000, lng: pickup.lng });
      await this.driver.call('driver:location:ping', { lat: 'north' });
      const refused = this.client(setting, this.one, '/drivers', 'no token');
      await refused.refused();
      refused.close();
      const other = this.client(setting, this.one, '/passengers', tokenOf('pedro'));
      await other.hello();
      other.close();
      const { tripId } = await assign(this.two, this.driver, this.passenger, tokenOf('paula'));
      for (const step of ['arriving', 'arrived', 'start', 'complete']) await this.one.post(`/api/trips/${tripId}/${step}`, tokenOf('diego'));
      await this.driver.until('the end of the trip', () => this.driver.payloads('trip:completed').some((p) => p.tripId === tripId));
      await sleep(200);
    }
  }

  async end() {
    this.#ended = true;
    try {
      await this.going;
    } finally {
      this.#clients.forEach((c) => c.close());
    }
  }
}

describe('dashboard', () => {
  it('has a result for every query', async () => {
    const dashboard = JSON.parse(await readFile(new URL('../../docs/grafana-dashboard.json', import.meta.url), 'utf8'));
    const queries = queriesOf(dashboard);
    assert.ok(queries.length > 50, `${queries.length} queries`);
    const metrics = [await freePort(), await freePort()];
    const redis = await Redis.start();
    let prometheus;
    let nodes = [];
    let life;
    const wrong = [];
    try {
      nodes = await startNodes(redis.url, metrics);
      prometheus = await Prometheus.start(metrics);
      life = new Life(nodes);
      await life.begin();
      let open = queries;
      for (let until = Date.now() + 90_000; open.length > 0; await sleep(500)) {
        const lacks = await Promise.all(open.map((q) => lack(prometheus, q)));
        open = open.filter((_, i) => lacks[i]);
        if (life.failure) throw life.failure;
        if (Date.now() > until) assert.fail(open.map((q, i) => `${q.title}: ${q.query}: ${lacks.filter(Boolean)[i]}`).join('\n'));
      }
      await life.end();
    } catch (err) {
      err.message += `\nPrometheus said:\n${prometheus?.said}\n${nodes.map((n, i) => `instance ${i}:\n${n.said}`).join('\n')}`;
      throw err;
    } finally {
      await life?.end().catch(() => {});
      for (const node of nodes) wrong.push(...await node.close());
      await prometheus?.close();
      await redis.close();
    }
    assert.deepEqual(wrong, []);
  });
});
