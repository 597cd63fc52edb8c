// A Redis of one's own, in memory only.

import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from './dispatch.js';
import { end, listening, start } from './process.js';

export class Redis {
  #port;
  #dir;
  #child;

  static async start() {
    const r = new Redis();
    r.#port = await freePort();
    r.#dir = await mkdtemp(join(tmpdir(), 'e2e-'));
    r.#child = start('redis-server', ['--port', r.#port, '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--dir', r.#dir]);
    r.#child.stdout.resume();
    try {
      await listening(r.#child, r.#port);
    } catch (err) {
      await r.close();
      throw err;
    }
    return r;
  }

  get url() {
    return `redis://127.0.0.1:${this.#port}`;
  }

  /** Runs a command whose answer is OK. */
  async do(command) {
    const socket = connect(this.#port, '127.0.0.1');
    socket.write(`${command}\r\n`);
    const [answer] = await once(socket.setEncoding('utf8'), 'data');
    socket.destroy();
    if (answer !== '+OK\r\n') throw new Error(`${command}: ${answer}`);
  }

  async close() {
    await end(this.#child);
    await rm(this.#dir, { recursive: true });
  }
}
