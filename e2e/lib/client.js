// A stock socket.io-client that writes down everything that happens to it.

import assert from 'node:assert/strict';
import { isDeepStrictEqual } from 'node:util';
import * as sio3 from 'sio3';
import * as sio4 from 'sio4';

/** How long a test waits for anything at all, in milliseconds. */
const patience = 20_000;

/**
 * The ways in which clients are set up: both versions, each on websocket only,
 * on long-polling only, and as it comes, which is polling and then an upgrade.
 */
export const settings = [
  { version: '4.8.4', io: sio4.io },
  { version: '3.1.3', io: sio3.io },
].flatMap(({ version, io }) => [
  { name: `${version} websocket`, version, io, options: { transports: ['websocket'] }, ends: 'websocket' },
  { name: `${version} polling`, version, io, options: { transports: ['polling'] }, ends: 'polling' },
  { name: `${version} default`, version, io, options: {}, ends: 'websocket' },
]);

/** The settings that are websocket only, as the existing apps are. */
export const websocketOnly = settings.filter((s) => s.options.transports?.[0] === 'websocket');

export class Client {
  /**
   * What happened, in order: `{kind, name, args}` with kind `event` (name is
   * the event's), `connect`, `disconnect` (name is the reason) or `refused`
   * (args holds the error).
   */
  log = [];
  #waiting = new Set();

  /**
   * Connects. Options are those of `io`; `multiplex: true` shares one
   * connection with the other clients of this URL that ask for it.
   */
  constructor(setting, url, namespace, { multiplex = false, ...options } = {}) {
    this.setting = setting;
    this.namespace = namespace;
    this.socket = setting.io(url + namespace, {
      ...setting.options,
      forceNew: !multiplex,
      reconnectionDelay: 20,
      reconnectionDelayMax: 200,
      ...options,
    });
    this.socket.onAny((name, ...args) => this.#note('event', name, args));
    this.socket.on('connect', () => this.#note('connect'));
    this.socket.on('disconnect', (reason) => this.#note('disconnect', reason));
    this.socket.on('connect_error', (err) => this.#note('refused', err.message, [err]));
  }

  #note(kind, name = '', args = []) {
    this.log.push({ kind, name, args });
    for (const check of [...this.#waiting]) check();
  }

  /** Waits until `probe()` is neither false nor undefined, and returns it. */
  async until(what, probe, ms = patience) {
    let found = probe();
    if (found !== undefined && found !== false) return found;
    return new Promise((resolve, reject) => {
      const check = () => {
        found = probe();
        if (found === undefined || found === false) return;
        done();
        resolve(found);
      };
      const timer = setTimeout(() => {
        done();
        reject(new Error(`${this}: no ${what} within ${ms / 1000} s; so far:\n${this.story()}`));
      }, ms);
      const done = () => {
        clearTimeout(timer);
        this.#waiting.delete(check);
      };
      this.#waiting.add(check);
    });
  }

  /** Waits for the nth entry of the log of that kind and name. */
  #nth(kind, name, n) {
    return this.until(`${kind} ${name ?? ''} (${n})`, () => this.log.filter((e) => e.kind === kind && (name === undefined || e.name === name))[n - 1]);
  }

  /** Waits for an event, the nth of that name, and returns its only argument. */
  async event(name, n = 1) {
    const { args } = await this.#nth('event', name, n);
    assert.equal(args.length, 1, `${this}: arguments of ${name}`);
    return args[0];
  }

  /** Waits until the client has been welcomed n times; returns the last hello. */
  hello(n = 1) {
    return this.event('hello', n);
  }

  /** Waits for the nth disconnect and returns its reason. */
  async disconnected(n = 1) {
    return (await this.#nth('disconnect', undefined, n)).name;
  }

  /** Waits for the nth connect_error and returns it. */
  async refused(n = 1) {
    return (await this.#nth('refused', undefined, n)).args[0];
  }

  /** How often something of that kind has happened. */
  count(kind, name) {
    return this.log.filter((e) => e.kind === kind && (name === undefined || e.name === name)).length;
  }

  /** The names of the events since the last hello, or only those that pass. */
  heard(passes = () => true) {
    const from = this.log.findLastIndex((e) => e.kind === 'event' && e.name === 'hello') + 1;
    return this.log.slice(from).filter((e) => e.kind === 'event' && passes(e.name)).map((e) => e.name);
  }

  /** The payloads of all events of that name. */
  payloads(name) {
    return this.log.filter((e) => e.kind === 'event' && e.name === name).map((e) => e.args[0]);
  }

  /** Emits an event and returns the arguments of its ack. */
  ask(event, ...args) {
    return new Promise((resolve, reject) => {
      const done = (then, value) => {
        clearTimeout(timer);
        this.socket.off('disconnect', lost);
        then(value);
      };
      const fail = (why) => done(reject, new Error(`${this}: ${why}, no ack of ${event}; so far:\n${this.story()}`));
      const lost = (reason) => fail(reason);
      const timer = setTimeout(() => fail(`${patience / 1000} s`), patience);
      this.socket.on('disconnect', lost);
      this.socket.emit(event, ...args, (...answer) => done(resolve, answer));
    });
  }

  /** Emits an event and returns its ack, which has one argument. */
  async call(event, ...args) {
    const answer = await this.ask(event, ...args);
    assert.equal(answer.length, 1, `${this}: arguments of the ack of ${event}`);
    return answer[0];
  }

  /** Emits an event that must succeed and returns its data. */
  async must(event, ...args) {
    const ack = await this.call(event, ...args);
    assert.equal(ack.ok, true, `${this}: ${event} got ${JSON.stringify(ack)}`);
    return ack.data;
  }

  /**
   * Goes to the server and back. What the server had sent to this client before
   * has arrived then.
   */
  async roundTrip() {
    const ack = await this.call('e2e:round-trip');
    assert.ok(isDeepStrictEqual(Object.keys(ack), ['ok', 'error']) && ack.error.code === 'not_found', `${this}: ack of an unknown event is ${JSON.stringify(ack)}`);
  }

  /** Waits until the connection is on the transport where it is to end up. */
  async settled() {
    const { engine } = this.socket.io;
    if (engine.transport.name !== this.setting.ends) {
      await new Promise((resolve, reject) => {
        const timer = setTimeout(() => reject(new Error(`${this}: still on ${engine.transport.name}`)), patience);
        engine.once('upgrade', () => {
          clearTimeout(timer);
          resolve();
        });
      });
    }
    assert.equal(engine.transport.name, this.setting.ends, `${this}: transport`);
  }

  close() {
    this.socket.io.reconnection(false);
    this.socket.disconnect();
    this.socket.io.engine?.close();
  }

  toString() {
    return `client ${this.setting.name} in ${this.namespace}`;
  }

  /** The log, readable. */
  story() {
    const short = (v) => {
      const s = JSON.stringify(v) ?? String(v);
      return s.length > 300 ? `${s.slice(0, 300)}…` : s;
    };
    return this.log.map((e) => `  ${e.kind} ${e.name} ${e.args.map((a) => short(a instanceof Error ? a.data : a)).join(', ')}`).join('\n') || '  nothing';
  }
}
