// Clients that are not in JavaScript: programs in clients/, each in a process of its own. A
// program takes commands as lines of JSON and reports what happens as such. What this makes of
// one has the part of a JavaScript client's interface that lib/client.js uses.

import { spawn } from 'node:child_process';
import { EventEmitter } from 'node:events';
import { createInterface } from 'node:readline';
import { running } from './dispatch.js';
import { settings } from './client.js';

/**
 * How long these clients wait before they connect again, in milliseconds: the shortest that Python's
 * waits unless told otherwise. When it comes back at once, the reader of its former connection may
 * take the new one for its own; two polls at a time end it.
 */
const shortestWait = 500;

class ForeignSocket extends EventEmitter {
  #child;
  #acks = new Map();
  #transports = [];
  #listeners = [];

  /**
   * Beside the options of `io` there are two for Python: `wait` is how many seconds the first
   * connect waits for the server, and with `ordered` events come in their order.
   */
  constructor(command, url, { auth, transports, reconnectionDelay, wait = 20, ordered = false }) {
    super();
    const { origin, pathname } = new URL(url);
    this.#child = spawn(command[0], command.slice(1), { stdio: ['pipe', 'pipe', 'inherit'] });
    running.add(this.#child);
    this.#child.on('close', () => running.delete(this.#child));
    this.#child.stdin.on('error', () => {}); // it has ended already
    createInterface({ input: this.#child.stdout }).on('line', (line) => this.#report(JSON.parse(line)));
    this.#tell({ do: 'create', url: origin, namespace: pathname, token: auth.token, transports: transports ?? ['polling', 'websocket'], delay: Math.max(reconnectionDelay, shortestWait) / 1000, wait, ordered });
    this.connect();
    this.io = { reconnection: () => {} };
  }

  #tell(command) {
    this.#child.stdin.write(`${JSON.stringify(command)}\n`);
  }

  #report({ kind, name, args = [], id }) {
    if (kind === 'event') this.#listeners.forEach((f) => f(name, ...args));
    else if (kind === 'connect' || kind === 'disconnect') super.emit(kind, name);
    else if (kind === 'refused') super.emit('connect_error', Object.assign(new Error(args[0]?.message), args[0]));
    else if (kind === 'failed' && name) super.emit('failed', name); // without a name it is an attempt to connect, which is followed by another one
    else if (kind === 'ack') this.#acks.get(id)(...args);
    else if (kind === 'transport') this.#transports.shift()(name);
  }

  onAny(f) {
    this.#listeners.push(f);
  }

  /** The token of the next attempt to connect. */
  set auth({ token }) {
    this.#tell({ do: 'token', token });
  }

  connect() {
    this.#tell({ do: 'connect' });
  }

  emit(event, ...args) {
    const then = typeof args.at(-1) === 'function' ? args.pop() : undefined;
    const command = { do: 'emit', event, args };
    if (then) {
      command.ack = this.#acks.size;
      this.#acks.set(command.ack, then);
    }
    this.#tell(command);
  }

  /** The transport that is in use. */
  transport() {
    return new Promise((resolve) => {
      this.#transports.push(resolve);
      this.#tell({ do: 'transport' });
    });
  }

  disconnect() {
    this.#tell({ do: 'disconnect' });
    this.#child.stdin.end();
  }
}

const ways = ({ version, command }) => ['websocket', 'polling', 'default'].map((way) => ({
  name: `${version} ${way}`,
  version,
  foreign: true,
  io: (url, options) => new ForeignSocket(command, url, options),
  options: way === 'default' ? {} : { transports: [way] },
  ends: way === 'polling' ? 'polling' : 'websocket',
  current: settings.find((s) => s.version === '4.8.4' && s.ends === 'websocket'),
}));

/** Flags of a server for them: on long-polling the Go client sends nothing while its poll is open; a heartbeat ends one. */
export const heartbeats = ['-ping-interval', '500ms', '-ping-timeout', '10s'];

/** The ways in which these clients are set up. */
export const foreignSettings = [
  { version: 'python-socketio', command: ['/usr/bin/python3', new URL('../clients/python_client.py', import.meta.url).pathname] },
  { version: 'Go', command: [process.env.E2E_GOCLIENT] },
].flatMap(ways);
