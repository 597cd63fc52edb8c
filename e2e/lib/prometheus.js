// A Prometheus of one's own, which scrapes servers each second.

import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from './dispatch.js';
import { end, listening, start } from './process.js';

export class Prometheus {
  #port;
  #dir;
  #child;

  /** @param {number[]} ports those of the metrics, on this machine */
  static async start(ports) {
    const p = new Prometheus();
    p.#port = await freePort();
    p.#dir = await mkdtemp(join(tmpdir(), 'e2e-'));
    const config = join(p.#dir, 'prometheus.yml');
    const targets = ports.map((port) => `127.0.0.1:${port}`);
    // JSON is YAML too.
    await writeFile(config, JSON.stringify({
      global: { scrape_interval: '1s', scrape_timeout: '1s' },
      scrape_configs: [{ job_name: 'dispatch', static_configs: [{ targets }] }],
    }));
    p.#child = start('prometheus', [
      `--config.file=${config}`, `--storage.tsdb.path=${join(p.#dir, 'data')}`, `--web.listen-address=127.0.0.1:${p.#port}`,
    ]);
    p.#child.stdout.resume();
    try {
      await listening(p.#child, p.#port);
    } catch (err) {
      await p.close();
      throw err;
    }
    return p;
  }

  /** The end of what it has written. */
  get said() {
    return this.#child.output.slice(-2000);
  }

  /**
   * Evaluates a query now.
   *
   * @returns {Promise<{metric: Record<string, string>, value: number}[]>} its series
   */
  async query(query) {
    const res = await fetch(`http://127.0.0.1:${this.#port}/api/v1/query?${new URLSearchParams({ query })}`);
    const { status, data, error } = await res.json();
    if (status !== 'success') throw new Error(`${query}: ${error}`);
    return data.result.map(({ metric, value }) => ({ metric, value: Number(value[1]) }));
  }

  async close() {
    await end(this.#child);
    await rm(this.#dir, { recursive: true });
  }
}
