// Engine.IO 3 by hand, over long-polling: what old clients write, and what they
// have to read. Lengths of text are in UTF-16 code units, those of a binary
// payload in bytes.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';

/** What the old clients read payloads with. */
const parsers = ['1', '2'].map((v) => createRequire(new URL(`../node_modules/socket.io-client-${v}/package.json`, import.meta.url))('engine.io-parser'));

/** Joins packets, each a string or a Buffer of a message's data, the way of clients without binary. */
export const encode = (...packets) => packets.map((p) => {
  const text = typeof p === 'string' ? p : `b4${p.toString('base64')}`;
  return `${text.length}:${text}`;
}).join('');

/** The same, the way of browsers: 0 or 1 for text or binary, the digits of the length, 255. */
export const encodeBinary = (...packets) => Buffer.concat(packets.flatMap((p) => {
  const data = typeof p === 'string' ? Buffer.from(p) : Buffer.concat([Buffer.from([4]), p]);
  return [Buffer.from([typeof p === 'string' ? 0 : 1, ...String(data.length).split('').map(Number), 255]), data];
}));

function decode(text) {
  const packets = [];
  for (let i = 0; i < text.length;) {
    const colon = text.indexOf(':', i);
    const n = text.slice(i, colon);
    if (!/^[1-9][0-9]*$/.test(n) || colon + 1 + +n > text.length) throw new Error(`no payload: ${text.slice(i)}`);
    i = colon + 1 + +n;
    const packet = text.slice(colon + 1, i);
    packets.push(packet.startsWith('b4') ? Buffer.from(packet.slice(2), 'base64') : packet);
  }
  return packets;
}

function decodeBinary(bytes) {
  const packets = [];
  for (let i = 0; i < bytes.length;) {
    const end = bytes.indexOf(255, i);
    const n = +[...bytes.subarray(i + 1, end)].join('');
    const data = bytes.subarray(end + 1, end + 1 + n);
    if (data.length !== n || bytes[i] > 1 || (bytes[i] === 1 && data[0] !== 4)) throw new Error(`no payload: ${bytes.toString('hex')}`);
    packets.push(bytes[i] === 0 ? data.toString() : Buffer.from(data.subarray(1)));
    i = end + 1 + n;
  }
  for (const parser of parsers) {
    const read = [];
    parser.decodePayload(bytes, 'nodebuffer', ({ type, data = '' }) => {
      read.push(typeof data === 'string' ? `${parser.packets[type]}${data}` : Buffer.from(data));
    });
    assert.deepEqual(read, packets);
  }
  return packets;
}

/** How long a poll may take, in milliseconds: less than a heartbeat. */
const patience = 10_000;

/** A connection on long-polling. */
export class Polling {
  #url;
  #headers;
  #waiting = [];
  /** The types of the answers so far. */
  types = new Set();

  /** Opens one; `query` is more of the URL's. */
  static async open(url, { query = {}, headers = {} } = {}) {
    const p = new Polling();
    p.#url = `${url}/socket.io/?${new URLSearchParams({ EIO: '3', transport: 'polling', ...query })}`;
    p.#headers = headers;
    const [open, ...more] = await p.poll();
    if (open[0] !== '0') throw new Error(`no open packet: ${open}`);
    p.handshake = JSON.parse(open.slice(1));
    p.#waiting.push(...more);
    p.#url += `&sid=${encodeURIComponent(p.handshake.sid)}`;
    return p;
  }

  async poll() {
    const res = await fetch(this.#url, { headers: this.#headers, signal: AbortSignal.timeout(patience) });
    const type = res.headers.get('content-type').split(';')[0];
    const body = Buffer.from(await res.arrayBuffer());
    if (res.status !== 200) throw new Error(`GET: ${res.status} ${body}`);
    this.types.add(type);
    return type === 'application/octet-stream' ? decodeBinary(body) : decode(body.toString());
  }

  /** The next packet: a string, or a Buffer of a message's data. */
  async next() {
    while (this.#waiting.length === 0) this.#waiting.push(...await this.poll());
    return this.#waiting.shift();
  }

  /** Posts a payload, which must be taken. */
  async post(payload) {
    const type = typeof payload === 'string' ? 'text/plain;charset=UTF-8' : 'application/octet-stream';
    const res = await fetch(this.#url, { method: 'POST', body: payload, headers: { ...this.#headers, 'content-type': type } });
    const text = await res.text();
    if (res.status !== 200 || text !== 'ok') throw new Error(`POST: ${res.status} ${text}`);
  }
}
