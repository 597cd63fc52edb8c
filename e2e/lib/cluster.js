// Several instances of examples/dispatch on one Redis, with a Node server beside them and a
// load balancer before them that has one of the files in examples/dispatch/deploy.

import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { Agent } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Dispatch, freePort } from './dispatch.js';
import { end, listening, start } from './process.js';
import { Redis } from './redis.js';

const deploy = (file) => fileURLToPath(new URL(`../../examples/dispatch/deploy/${file}`, import.meta.url));

/** The load balancers: the file of each, and the arguments with which it is started. */
export const balancers = {
  nginx: { file: 'nginx.conf', args: (dir, file) => ['-p', dir, '-c', file] },
  haproxy: { file: 'haproxy.cfg', args: (dir, file) => ['-db', '-f', file] },
};

/** A load balancer with one of those files, before one to three instances. */
export class Balancer {
  static async start(program, ports) {
    const { file, args } = balancers[program];
    const b = new Balancer();
    b.dir = await mkdtemp(join(tmpdir(), 'e2e-'));
    await chmod(b.dir, 0o755); // nginx' workers may be another user
    b.port = await freePort();
    const before = await readFile(deploy(file), 'utf8');
    // In one step: a port that was put in may begin with another one of the file.
    const conf = before.replace(/127\.0\.0\.1:(300[123]|8080)\b/g, (_, port) => `127.0.0.1:${port === '8080' ? b.port : ports[(port - 3001) % ports.length]}`);
    const path = join(b.dir, file);
    await writeFile(path, conf);
    b.child = start(program, args(b.dir, path));
    b.child.stdout.setEncoding('utf8').on('data', (text) => { b.child.output += text; });
    try {
      await listening(b.child, b.port);
    } catch (err) {
      await b.close();
      throw err;
    }
    return b;
  }

  get url() {
    return `http://127.0.0.1:${this.port}`;
  }

  get said() {
    return this.child.output;
  }

  async close() {
    await end(this.child);
    await rm(this.dir, { recursive: true });
  }
}

export class Cluster {
  /** The instances; one that was stopped can start again, on its port. */
  nodes = [];

  static async start(balancer, seed, n = 3) {
    const c = new Cluster();
    try {
      await c.#start(balancer, seed, n);
    } catch (err) {
      await c.close();
      throw err;
    }
    return c;
  }

  async #start(program, seed, n) {
    this.redis = await Redis.start();
    const { url } = this.redis;

    for (let i = 0; i < n; i++) {
      this.nodes.push(await Dispatch.start(seed, ['-offer-ttl', '60s'], { REDIS_URL: url, TRUSTED_PROXIES: '127.0.0.1' }));
    }
    this.node = await NodeServer.start(url);

    this.balancer = await Balancer.start(program, this.nodes.map((node) => node.port));
  }

  /** Of the load balancer. */
  get url() {
    return this.balancer.url;
  }

  /** What everybody has said, for a test that failed. */
  get said() {
    return [...this.nodes.map((n, i) => `instance ${i}:\n${n.said}`), `balancer:\n${this.balancer?.said}`, `Node:\n${this.node?.child.output}`].join('\n');
  }

  /** Makes a REST request through the load balancer. */
  rest = Dispatch.prototype.rest;

  /**
   * POSTs until an instance has answered: one that dies in the middle of it leaves a 502, or
   * a connection that ends.
   */
  async persist(path, token, body) {
    for (let i = 0; i < 100; i++) {
      const answer = await this.rest('POST', path, token, body).catch((err) => ({ status: 0, body: err }));
      if (answer.status !== 0 && ![502, 503, 504].includes(answer.status)) return answer;
      await sleep(100);
    }
    throw new Error(`POST ${path}: no instance answers`);
  }

  post = Dispatch.prototype.post;

  get = Dispatch.prototype.get;

  /** Ends everything and returns what is wrong with what the instances have logged. */
  async close() {
    const wrong = [];
    await this.balancer?.close();
    await end(this.node?.child);
    for (const node of this.nodes) wrong.push(...await node.close());
    await this.redis?.close();
    return wrong;
  }
}

/** A connection of its own, from an address of its own: the balancers tell clients apart by it. */
export const agentOf = (i) => new Agent({ localAddress: `127.0.1.${i + 1}` });

/** A Socket.IO server of Node in the same cluster, see redispeer.js. */
class NodeServer {
  #answers = new Map();

  /** What its clients have received: `{client, args}`. */
  received = [];

  static async start(url) {
    const s = new NodeServer();
    const child = start(process.execPath, [fileURLToPath(new URL('redispeer.js', import.meta.url)), url, 'classic', 'socket.io']);
    s.child = child;
    await new Promise((resolve, reject) => {
      createInterface({ input: child.stdout }).on('line', (line) => {
        const said = JSON.parse(line);
        if (said.ready) resolve();
        if (said.client) s.received.push(said);
        if (said.id) s.#answers.get(said.id)(said);
      });
      child.ended.then(() => reject(new Error(`the Node server ended: ${child.output}`)));
    });
    return s;
  }

  /** Gives it a command and returns the result. */
  async do(command, more = {}) {
    const id = this.#answers.size + 1;
    const answer = new Promise((resolve) => { this.#answers.set(id, resolve); });
    this.child.stdin.write(`${JSON.stringify({ id, command, ...more })}\n`);
    const { result, error } = await answer;
    if (error) throw new Error(`the Node server: ${command}: ${error}`);
    return result;
  }
}
