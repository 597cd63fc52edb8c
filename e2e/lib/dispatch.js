// One running examples/dispatch, and its REST API.

import { spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { minted, secret } from './token.js';

export class Dispatch {
  /** What the process has written to stdout and stderr, over all starts. */
  output = '';

  /** The end of that, without the tokens that it offers at its start. */
  get said() {
    return this.output.replace(/^(user |operators:).*\n/gm, '').slice(-5000);
  }

  #dir;
  #args;
  #env;
  #child;
  #exited;

  /**
   * Starts the program on a free port, with a seed and further flags; without a seed as a newcomer
   * does.
   *
   * @param {{users: object[], sessions: object[]} | null} seed
   * @param {string[]} [flags]
   * @param {Record<string, string>} [env]
   */
  static async start(seed, flags = [], env = {}) {
    const d = new Dispatch();
    d.port = await freePort();
    d.#dir = await mkdtemp(join(tmpdir(), 'e2e-'));
    const file = join(d.#dir, 'seed.json');
    await writeFile(file, JSON.stringify(seed));
    d.#args = [...(seed ? ['-seed', file, '-no-rate-limit'] : []), ...flags];
    d.#env = { PATH: process.env.PATH, JWT_SECRET: secret, ...env };
    try {
      await d.start();
    } catch (err) {
      await rm(d.#dir, { recursive: true });
      throw err;
    }
    return d;
  }

  get url() {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Starts the process, again after stop, and waits until it listens. */
  async start() {
    const program = process.env.E2E_DISPATCH;
    if (!program) throw new Error('E2E_DISPATCH is not set; start the tests with e2e/run');
    const child = spawn(program, this.#args, { env: { ...this.#env, PORT: String(this.port) }, stdio: ['ignore', 'pipe', 'pipe'] });
    this.#child = child;
    running.add(child);
    const from = this.output.length;
    let ended = false;
    this.#exited = once(child, 'close').then(([code, signal]) => {
      ended = true;
      running.delete(child);
      return { code, signal };
    });
    await new Promise((resolve, reject) => {
      for (const stream of [child.stdout, child.stderr]) {
        stream.setEncoding('utf8').on('data', (text) => {
          this.output += text;
          if (this.output.includes('listening on ', from)) resolve();
        });
      }
      child.once('error', reject);
      this.#exited.then(() => reject(new Error(`dispatch ended: ${this.output.slice(from)}`)));
      setTimeout(() => ended || reject(new Error(`dispatch does not listen: ${this.output.slice(from)}`)), 20_000).unref();
    });
  }

  /** Sends the process a signal and returns its exit code and signal. */
  async stop(signal) {
    this.#child.kill(signal);
    return this.#exited;
  }

  /** How many files and connections the process has open; undefined where the system does not say. */
  async descriptors() {
    return (await readdir(`/proc/${this.#child.pid}/fd`).catch(() => undefined))?.length;
  }

  /** Ends the process with SIGQUIT, which makes it say what its goroutines do, and returns their stacks. */
  async stacks() {
    const from = this.output.length;
    await this.stop('SIGQUIT');
    const dump = this.output.slice(from);
    this.output = this.output.slice(0, from);
    return dump.split('\n\n').filter((stack) => stack.startsWith('goroutine '));
  }

  /** Ends everything and returns what is wrong with what was logged, but for lines that match `allowed`. */
  async close(allowed) {
    await this.stop('SIGKILL');
    await rm(this.#dir, { recursive: true });
    const wrong = [];
    const lines = this.output.split('\n').filter((line) => !allowed?.test(line)).join('\n');
    for (const sign of ['panic', 'goroutine ', 'DATA RACE', 'level=ERROR', ' ERROR ']) {
      if (lines.includes(sign)) wrong.push(`the log says "${sign}"`);
    }
    if ([...minted].some((token) => this.output.includes(token))) wrong.push('the log shows a token');
    return wrong;
  }

  /**
   * Makes a REST request.
   *
   * @param {string} token the caller's access token, empty for none
   * @returns {Promise<{status: number, body: any}>}
   */
  async rest(method, path, token, body, headers = {}) {
    const text = body === undefined ? '' : JSON.stringify(body);
    const req = request(this.url + path, {
      method,
      agent: false,
      headers: { 'content-type': 'application/json', ...(token && { authorization: `Bearer ${token}` }), ...headers },
    });
    req.end(text);
    req.once('upgrade', (res, socket) => socket.destroy(new Error(`${method} ${path}: ${res.statusCode}`)));
    const [res] = await once(req, 'response');
    let answer = '';
    for await (const chunk of res.setEncoding('utf8')) answer += chunk;
    return { status: res.statusCode, body: answer && JSON.parse(answer) };
  }

  /** POSTs what must succeed and returns the answer. */
  async post(path, token, body) {
    const { status, body: answer } = await this.rest('POST', path, token, body);
    if (status >= 300) throw new Error(`POST ${path}: ${status} ${JSON.stringify(answer)}`);
    return answer;
  }

  /** GETs what must be there. */
  async get(path, token) {
    const { status, body: answer } = await this.rest('GET', path, token);
    if (status !== 200) throw new Error(`GET ${path}: ${status} ${JSON.stringify(answer)}`);
    return answer;
  }
}

/** Processes that must not outlive this one. */
export const running = new Set();
process.on('exit', () => running.forEach((child) => child.kill('SIGKILL')));

/**
 * A port that nobody listens on, below those that the system gives to outgoing
 * connections: a server that restarts finds it free again, and no client that
 * tries in between gets connected to itself. Until this process ends, a UDP socket
 * of the same number keeps other tests from it.
 */
export async function freePort() {
  for (;;) {
    const port = 20_000 + Math.floor(Math.random() * 12_000);
    const claim = createSocket('udp4').bind(port, '127.0.0.1').unref();
    try {
      await once(claim, 'listening');
    } catch {
      continue;
    }
    const server = createServer().listen(port);
    try {
      await once(server, 'listening');
    } catch {
      claim.close();
      continue;
    }
    server.close();
    await once(server, 'close');
    return port;
  }
}
