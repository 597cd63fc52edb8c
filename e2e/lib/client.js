// A stock socket.io-client that writes down everything that happens to it.

import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import * as sio3 from 'sio3';
import * as sio4 from 'sio4';
import * as sio46 from 'sio46';
import * as sio47 from 'sio47';
import sio1 from 'socket.io-client-1';
import sio2 from 'socket.io-client-2';

/** How long a test waits for anything at all, in milliseconds. */
const patience = 20_000;

/** A version on websocket only, on long-polling only, and as it comes, which is polling and then an upgrade. */
const ways = ({ version, io, ...more }) => [
  { name: `${version} websocket`, version, io, options: { transports: ['websocket'] }, ends: 'websocket', ...more },
  { name: `${version} polling`, version, io, options: { transports: ['polling'] }, ends: 'polling', ...more },
  { name: `${version} default`, version, io, options: {}, ends: 'websocket', ...more },
];

/** The ways in which clients are set up: the current versions. */
export const settings = [
  { version: '4.8.4', io: sio4.io },
  { version: '3.1.3', io: sio3.io },
].flatMap(ways);

/** The versions that take part in recovery as the current one, but are not known by their first request. */
export const recoveringSettings = [
  { version: '4.7.5', io: sio47.io },
  { version: '4.6.2', io: sio46.io },
].flatMap(ways);

/**
 * The old versions, which speak Engine.IO 3. They live beside 4.8.4, in
 * `current`. On long-polling 1.x encodes text as UTF-8 twice, which `twice` says
 * for the sake of sizes.
 */
export const legacySettings = [
  { version: '2.5.0', io: sio2 },
  { version: '1.7.4', io: sio1 },
].flatMap((v) => ways({ ...v, legacy: true })).map((s) => ({
  ...s,
  current: settings.find((c) => c.ends === s.ends && c.version === '4.8.4'),
  twice: s.version === '1.7.4' && s.ends === 'polling',
}));

/** The settings that are websocket only, as the existing apps are. */
export const websocketOnly = settings.filter((s) => s.options.transports?.[0] === 'websocket');

export class Client {
  /**
   * What happened, in order: `{kind, name, args}` with kind `event` (name is
   * the event's), `connect`, `disconnect` (name is the reason) or `refused`
   * (args holds the error). Old clients tell a connection that failed from
   * that: `failed`; so do those in other languages, and what else fails there.
   */
  log = [];
  /**
   * What the server has sent behind each hello, `{sync, availability}` or, to a passenger, `{sync}`. It is
   * not in the log.
   */
  snapshots = [];
  /** How many events have brought nothing but an offset. They are not in the log. */
  offsets = 0;
  #synced = false; // the last event was trip:sync
  #known = false; // since the last disconnect an availability was taken for the snapshot's, or none comes
  #waiting = new Set();

  /**
   * Connects. Options are those of `io`; `multiplex: true` shares one
   * connection with the other clients of this URL that ask for it. Old clients
   * have no `auth`: its token goes into the Authorization header.
   */
  constructor(setting, url, namespace, { multiplex = false, ...options } = {}) {
    this.setting = setting;
    this.namespace = namespace;
    this.socket = setting.io(url + namespace, {
      ...setting.options,
      forceNew: !multiplex,
      reconnectionDelay: 20,
      reconnectionDelayMax: 200,
      ...(setting.legacy ? withHeader(options) : options),
    });
    this.socket.on('connect', () => this.#note('connect'));
    this.socket.on('disconnect', (reason) => this.#note('disconnect', reason));
    if (setting.legacy) {
      this.#listenLegacy();
      return;
    }
    // Without the function that acks it, which an offer has.
    this.socket.onAny((name, ...args) => this.#note('event', name, args.filter((arg) => typeof arg !== 'function')));
    this.socket.on('connect_error', (err) => this.#note('refused', err.message, [err]));
    if (setting.foreign) this.socket.on('failed', (what) => this.#note('failed', what));
  }

  /** An ERROR packet and a transport's error are one event there, and nothing hears all events. */
  #listenLegacy() {
    const { socket } = this;
    const onevent = socket.onevent;
    socket.onevent = (packet) => {
      const [name, ...args] = packet.data;
      this.#note('event', name, args);
      onevent.call(socket, packet);
    };
    for (const event of ['error', 'connect_error', 'connect_timeout']) {
      socket.on(event, (err) => (event === 'error' && !(err instanceof Error)
        ? this.#note('refused', err?.message ?? err, [err])
        : this.#note('failed', event, [err])));
    }
  }

  /** The token of the next attempt to connect. */
  set token(token) {
    if (this.setting.legacy) Object.assign(this.socket.io.opts, withHeader({ auth: { token } }));
    else this.socket.auth = { token };
  }

  #note(kind, name = '', args = []) {
    if (name === 'realtime:offset') { // what clients that may be old get in place of a further argument
      this.offsets++;
      return;
    }
    const offset = kind === 'event' && args.length > 1 && /^[-\w]{13,}\*?$/.test(args.at(-1)) ? { offset: args.at(-1) } : {}; // of recovery; every payload here is one argument
    if (offset.offset) args = args.slice(0, -1);
    if (!this.#noteSnapshot(kind, name, args)) this.log.push({ kind, name, args, ...offset });
    for (const check of [...this.#waiting]) check();
  }

  /** Keeps an event of a snapshot. In Python, unless it is `ordered`, its parts come in any order. */
  #noteSnapshot(kind, name, args) {
    const behind = this.#synced;
    this.#synced = kind === 'event' && name === 'trip:sync';
    if (this.#synced) {
      if (!this.setting.foreign) assert.deepEqual(this.log.at(-1)?.name, 'hello', `${this}: what is before trip:sync`);
      this.snapshots.push({ sync: args[0] });
      return true;
    }
    if (kind === 'disconnect') this.#known = false;
    if (name === 'hello' && args[0].recovered) this.#known = true; // no snapshot comes
    if (kind !== 'event' || name !== 'driver:availability:update' || this.#known || !(behind || this.setting.foreign)) return false;
    this.#known = true;
    if (behind) this.snapshots.at(-1).availability = args[0];
    return true;
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

  /**
   * The names of the events since the last hello, or only those that pass; without what admins
   * hear of receipts, which comes when it comes: receipts.test.js has it.
   */
  heard(passes = () => true) {
    const from = this.log.findLastIndex((e) => e.kind === 'event' && e.name === 'hello') + 1;
    const names = this.log.slice(from).filter((e) => e.kind === 'event').map((e) => e.name);
    return names.filter((name) => !/^trip:assignment:(un)?delivered$/.test(name) && passes(name));
  }

  /** How many events came before the last hello, on its connection: those that a client which recovers had missed. */
  get before() {
    const hello = this.log.findLastIndex((e) => e.kind === 'event' && e.name === 'hello');
    const connect = this.log.findLastIndex((e, i) => i < hello && e.kind === 'connect');
    return this.log.slice(connect, hello).filter((e) => e.kind === 'event').length;
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
    assert.ok(isDeepStrictEqual(Object.keys(ack).sort(), ['error', 'ok']) && ack.error.code === 'not_found', `${this}: ack of an unknown event is ${JSON.stringify(ack)}`);
  }

  /**
   * roundTrip after the client has come back. On a busy machine the writer of the connection that
   * Python's client had before takes the first packet with it.
   */
  async firstRoundTrip() {
    await this.roundTrip().catch((err) => {
      if (this.setting.version !== 'python-socketio') throw err;
      return this.roundTrip();
    });
  }

  /** Waits until the connection is on the transport where it is to end up. */
  async settled() {
    if (this.setting.foreign) {
      const deadline = Date.now() + patience;
      for (let name; name !== this.setting.ends; name = await this.socket.transport()) {
        assert.ok(Date.now() < deadline, `${this}: still on ${name}`);
        await sleep(20);
      }
      return;
    }
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

/** Options with the token where clients before version 3 can put it. */
function withHeader({ auth, ...options }) {
  if (!auth?.token) return options;
  const extraHeaders = { Authorization: `Bearer ${auth.token}` };
  return { extraHeaders, transportOptions: { polling: { extraHeaders }, websocket: { extraHeaders } }, ...options };
}
