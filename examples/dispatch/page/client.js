// One app: a user who is logged in over REST, and a stock socket.io-client with the user's token in
// the user's namespace. It comes back by itself after everything but the end of its session.

import { errorOf, inWords } from './words.js';

const namespaces = { passenger: '/passengers', driver: '/drivers', admin: '/admin' };
const ack = 5_000; // milliseconds that a call may take

const encoder = new TextEncoder();
const bytesOf = (text) => encoder.encode(text).length;

let password; // asked for once, if the server wants one

export class Client {
  // out: not logged in; connecting; online; cut: without a network, on purpose
  state = 'out';
  why = ''; // the reason of the state, in words
  #listeners = { event: [], change: [], online: [], answer: [] };
  #sizes = []; // of the events that have arrived and are not handed out yet

  constructor(person) {
    this.person = person;
    this.namespace = namespaces[person.type];
  }

  /** Calls f upon an event, a change of state, each time it is online, or an answered call. */
  on(what, f) {
    this.#listeners[what].push(f);
    return this;
  }

  #tell(what, ...args) {
    for (const f of this.#listeners[what]) f(...args);
  }

  #become(state, why = '') {
    this.state = state;
    this.why = why;
    this.#tell('change');
  }

  get online() {
    return this.state === 'online';
  }

  get transport() {
    return this.socket?.io.engine?.transport.name ?? '';
  }

  async api(method, path, body) {
    if (this.state === 'cut') throw new Error('This phone has no network.');
    const response = await fetch(path, {
      method,
      headers: this.token ? { Authorization: `Bearer ${this.token}` } : {},
      body: method === 'POST' ? JSON.stringify(body ?? {}) : undefined,
    });
    const answer = await response.json();
    if (!response.ok) throw errorOf(answer.error);
    return answer;
  }

  /** Emits an event and returns the data of its ack. */
  async call(event, ...args) {
    if (!this.online) throw new Error(this.state === 'cut' ? 'This phone has no network.' : 'This app is not connected.');
    const began = performance.now();
    const answer = await this.socket.timeout(ack).emitWithAck(event, ...args);
    this.#tell('answer', event, args[0], answer, performance.now() - began);
    if (!answer.ok) throw errorOf(answer.error);
    return answer.data;
  }

  async login() {
    this.socket?.disconnect();
    this.token = undefined;
    const attempt = () => this.api('POST', '/api/login', { userId: this.person.id, password });
    try {
      this.#keep(await attempt().catch((err) => {
        password = err.code === 'forbidden' ? prompt('The password of this demo') : undefined;
        if (!password) throw err;
        return attempt();
      }));
    } catch (err) {
      this.#become('out', inWords(err));
      throw err;
    }
    this.#connect();
  }

  #keep({ token, sid, expiresAt }) {
    Object.assign(this, { token, sid, expiresAt: Date.parse(expiresAt) });
  }

  #connect() {
    this.#become('connecting', 'Connecting…');
    // auth is called for each attempt, so that one after a long time has a fresh token.
    const socket = (this.socket = io(this.namespace, {
      forceNew: true,
      reconnectionDelay: 300,
      reconnectionDelayMax: 3_000,
      auth: (give) => this.#fresh().then(() => give({ token: this.token })),
    }));
    socket.io.on('open', () => {
      this.#sizes = [];
      socket.io.engine.on('packet', ({ type, data }) => {
        if (type === 'message' && typeof data === 'string' && data.startsWith('2')) this.#sizes.push(bytesOf(data) + 1);
      });
      socket.io.engine.on('upgrade', () => this.#tell('change'));
    });
    socket.on('connect', () => {
      // If so, everything that was sent meanwhile comes now, and then hello: what the app knows stays true.
      this.recovered = Boolean(socket.recovered);
      this.#become('online');
      this.#tell('online');
    });
    socket.on('disconnect', (reason) => {
      this.hello = undefined;
      if (this.state === 'cut') return;
      if (reason === 'io server disconnect') this.#become('out', this.revoked ?? 'The server has ended this session.');
      else if (reason !== 'io client disconnect') this.#become('connecting', this.drained ? 'The node drains: connecting again…' : 'Connecting again…');
      this.drained = false;
    });
    socket.on('connect_error', (err) => this.#refused(err));
    socket.onAny((event, payload) => {
      if (event === 'auth:session_revoked') this.revoked = 'The dispatcher has ended this session. Log in to go on.';
      if (event === 'hello') Object.assign(this, { hello: payload, revoked: undefined });
      if (event === 'server:drain') this.drained = true;
      this.#tell('event', event, payload, this.#sizes.shift() ?? 0);
    });
    clearInterval(this.renewing);
    this.renewing = setInterval(() => this.#renew(), 20_000);
  }

  #refused(err) {
    const code = err.data?.code;
    if (!code) {
      this.#become('connecting', inWords(err));
    } else if (code === 'token_expired' || code === 'access_expired') {
      this.#become('connecting', inWords(err));
      setTimeout(() => this.socket.connect(), 1_000);
    } else {
      this.#become('out', inWords(err));
    }
  }

  async #fresh() {
    if (Date.now() < this.expiresAt - 5_000) return;
    try {
      this.#keep(await this.api('POST', '/api/refresh'));
    } catch {
      // The server refuses the old token, and says why.
    }
  }

  /** Renews the token while the socket is connected, before it expires. */
  async #renew() {
    if (!this.online || Date.now() < this.expiresAt - 60_000) return;
    try {
      this.#keep(await this.api('POST', '/api/refresh'));
      await this.call('auth:refresh', { token: this.token });
    } catch {
      // The socket ends as expired, and comes back with what #fresh gets then.
    }
  }

  /** Takes the network away for some time: the connection breaks, and none can be made. */
  async cut(ms) {
    const { socket } = this;
    socket.io.reconnection(false);
    this.#become('cut', 'No network');
    socket.io.engine.close();
    await new Promise((resolve) => setTimeout(resolve, ms));
    socket.io.reconnection(true);
    this.#become('connecting', 'Connecting again…');
    socket.connect();
  }
}
