// Writes golden.json: what notepack.io, @socket.io/redis-adapter and
// @socket.io/redis-emitter really write. Run it in e2e/, after npm ci:
//
//   node ../redisadapter/internal/wire/testdata/golden.mjs
import { EventEmitter } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const require = createRequire(join(process.cwd(), 'package.json'));
const { encode } = require('notepack.io');
const { createAdapter, createShardedAdapter } = require('@socket.io/redis-adapter');
const { Emitter } = require('@socket.io/redis-emitter');

const values = [];
/** A value in notepack.io, and what JSON.stringify makes of it, Buffers as placeholders. */
function value(name, v) {
  const attachments = [];
  const json = JSON.stringify(v, function (key, val) {
    const raw = this[key];
    if (raw instanceof ArrayBuffer || ArrayBuffer.isView(raw)) {
      attachments.push(Buffer.from(raw).toString('base64'));
      return { _placeholder: true, num: attachments.length - 1 };
    }
    return val;
  });
  values.push({ name, hex: encode(v).toString('hex'), json: json ?? 'null', attachments });
}
for (const n of [0, 1, 127, 128, 255, 256, 65535, 65536, 4294967295, 4294967296, Number.MAX_SAFE_INTEGER]) {
  value(`int ${n}`, n);
  value(`int ${-n}`, -n);
}
for (const n of [-32, -33, -129, -32769, -2147483649]) value(`int ${n}`, n);
for (const n of [0.1, -0.5, 23.13333333333333, 1e-7, 1.5e-9, 5e-324, 123456.789e3]) value(`float ${n}`, n);
value('1e3', 1e3);
value('NaN', NaN);
value('Infinity', Infinity);
for (const n of [0, 31, 32, 255, 256]) value(`string of ${n}`, 'x'.repeat(n));
value('letters', 'ñ 🚕 \u0000\u001f "quoted" \\ \n\r\t\b\f \u2028 \u007f');
for (const n of [0, 1, 15, 16]) value(`array of ${n}`, Array(n).fill(1));
for (const n of [0, 1, 15, 16]) value(`object of ${n}`, Object.fromEntries(Array.from({ length: n }, (_, i) => [`k${i}`, i])));
value('nested', { a: [1, { b: [[], {}, null, true, false] }], 'clé': { '': 'empty key' } });
value('keys that are numbers', { 7: 1, 1.5: 2 });
value('undefined', [undefined, { gone: undefined, kept: 1 }]);
value('null', null);
value('date', new Date(Date.UTC(2026, 10, 26, 12, 0, 0, 0)));
value('date with ms', new Date(Date.UTC(2026, 10, 26, 12, 0, 0, 123)));
value('date before 1970', new Date(-1));
value('date far ahead', new Date(8.64e15));
value('date far back', new Date(-8.64e15));
value('date beyond 2106', new Date(Date.UTC(2600, 0, 1)));
value('year 12000', new Date(Date.UTC(12000, 0, 1)));
value('buffer', Buffer.from([0, 1, 0xff]));
value('buffers', { a: Buffer.alloc(0), b: [Buffer.alloc(256, 7), new Uint8Array([1, 2])], c: new Uint8Array([9]).buffer });
value('toJSON', { at: { toJSON: () => 'as json' } });
value('function', { f() {}, g: 1 });

/** How long values begin; the rest is n times the unit. */
const heads = [];
for (const n of [65535, 65536]) {
  for (const [unit, v] of [['string', 'x'.repeat(n)], ['array', Array(n).fill(1)], ['binary', Buffer.alloc(n)],
    ['object', Object.fromEntries(Array.from({ length: n }, (_, i) => [`k${i}`, 1]))]]) {
    heads.push({ unit, n, hex: encode(v).subarray(0, 5).toString('hex') });
  }
}

/** What notepack.io 2.x wrote, and anything else that today's reads. */
const old = [
  ['undefined', 'd40000', 'null'],
  ['undefined in an array', '92d4000001', '[null,1]'],
  ['undefined in a map', '82a161d40000a16201', '{"b":1}'],
  ['date', 'd700000001756ed4a07b', JSON.stringify(new Date(0x1756ed4a07b))],
  ['date before 1970', 'd700ffffffffffffffff', JSON.stringify(new Date(-1))],
  ['invalid date', 'd7007ff8000000000000', 'null'],
  ['ArrayBuffer', 'c70300010203', '{"_placeholder":true,"num":0}', ['AQID']],
  ['ArrayBuffer of 16 bits', 'c8000300010203', '{"_placeholder":true,"num":0}', ['AQID']],
  ['ArrayBuffer of 32 bits', 'c90000000300010203', '{"_placeholder":true,"num":0}', ['AQID']],
  ['float32', 'ca3fc00000', '1.5'],
  ['an extension of another type', 'd50501ff', '[5,{"_placeholder":true,"num":0}]', ['Af8=']],
  ['int64', 'd3fffffffffffffffe', '-2'],
].map(([name, hex, json, attachments = []]) => ({ name, hex, json, attachments }));

/** Messages, as the packages publish them on a client that only listens. */
const messages = [];
let name;
class Client extends EventEmitter {
  publish(channel, message) {
    messages.push({ name, channel, hex: Buffer.from(message).toString('hex') });
    return Promise.resolve(1);
  }
  spublish(channel, message) { return this.publish(channel, message); }
  psubscribe() {}
  subscribe() {}
  ssubscribe() {}
  send_command(_command, [, channel], done) {
    if (done) return done(null, [channel, 3]);
    return Promise.resolve([channel, 3]);
  }
}
const namespace = () => ({
  name: '/drivers',
  _ids: 0,
  sockets: new Map([['sid1', {
    id: 'sid1',
    handshake: { headers: { authorization: 'Bearer secret' }, auth: { token: 'secret' }, address: '10.0.0.1', sessionStore: {} },
    rooms: new Set(['sid1', 'driver:1']),
    data: { userId: 'u1', phone: '+5355555555', sid: 's1', nested: { token: 'secret' } },
    join() {}, leave() {}, disconnect() {}, acks: new Map(), client: { writeToEngine() {} },
  }]]),
  server: { encoder: { encode: () => [''] }, opts: {} },
  _onServerSideEmit(args) { if (typeof args.at(-1) === 'function') args.at(-1)({ ok: Buffer.from([1]) }); },
});
const photo = Buffer.from([0, 1, 0xff]);
const packet = (...data) => ({ type: 2, data });
const opts = (rooms = [], except = [], flags = {}) => ({ rooms: new Set(rooms), except: new Set(except), flags });
const wait = () => new Promise((resolve) => setTimeout(resolve, 5));

for (const [protocol, adapter] of [
  ['classic', createAdapter(new Client(), new Client())(namespace())],
  ['sharded', createShardedAdapter(new Client(), new Client(), { subscriptionMode: 'static' })(namespace())],
]) {
  adapter.uid = 'nodeuid';
  adapter.addAll('sid1', new Set(['sid1', 'driver:1']));
  const say = async (what, f) => {
    name = `${protocol}: ${what}`;
    f();
    await wait();
  };
  await say('broadcast to all', () => adapter.broadcast(packet('news', { a: 1, at: 'ñ' }), opts()));
  await say('broadcast to one room', () => adapter.broadcast(packet('news', 1), opts(['driver:1'])));
  await say('broadcast to two rooms but one', () => adapter.broadcast(packet('news'), opts(['driver:1', 'trip:2'], ['sid1'])));
  await say('volatile broadcast', () => adapter.broadcast(packet('news', null), opts(['driver:1'], [], { volatile: true, compress: false })));
  await say('binary broadcast', () => adapter.broadcast(packet('photo', { photo, n: [photo] }), opts(['driver:1'])));
  await say('numeric room', () => adapter.broadcast(packet('news'), opts([7, 8])));
  await say('join', () => adapter.addSockets(opts(['driver:1'], ['x']), ['trip:1', 'trip:2']));
  await say('leave', () => adapter.delSockets(opts(['driver:1']), ['trip:1']));
  await say('disconnect', () => adapter.disconnectSockets(opts(['driver:1']), false));
  await say('disconnect and close', () => adapter.disconnectSockets(opts([]), true));
  await say('fetch', () => adapter.fetchSockets(opts(['driver:1'], ['x'])).catch(() => {}));
  await say('server emit', () => adapter.serverSideEmit(['hello', { n: 1 }]));
  await say('server emit with ack', () => adapter.serverSideEmit(['hello', 1, () => {}]));
  await say('binary server emit', () => adapter.serverSideEmit(['hello', photo]));
  await say('ask', () => adapter.broadcastWithAck(packet('where', { q: 1 }), opts(['driver:1'], [], { timeout: 50 }), () => {}, () => {}));
  await say('binary ask', () => adapter.broadcastWithAck(packet('where', photo), opts([], [], { timeout: 50, expectSingleResponse: false }), () => {}, () => {}));
  if (protocol === 'classic') {
    await say('all rooms', () => adapter.allRooms().catch(() => {}));
    const request = (r) => adapter.onrequest('socket.io-request#/drivers#', Buffer.from(typeof r === 'object' && !Buffer.isBuffer(r) ? JSON.stringify(r) : r));
    await say('answer to fetch', () => request({ uid: 'go', requestId: 'r1', type: 5, opts: { rooms: [], except: [] } }));
    await say('answer to list ids', () => request({ uid: 'go', requestId: 'r2', type: 0, rooms: [] }));
    await say('answer to list rooms', () => request({ uid: 'go', requestId: 'r3', type: 1 }));
    await say('answer to server emit', () => request({ uid: 'go', requestId: 'r4', type: 6, data: ['hello'] }));
    await say('answer to ask', () => {
      request(encode({ uid: 'go', requestId: 'r5', type: 7, packet: packet('q'), opts: { rooms: [], except: [], flags: {} } }));
      for (const ack of [...adapter.nsp.sockets.get('sid1').acks.values()].slice(-1)) { ack({ photo }); ack('text'); ack(); }
    });
  } else {
    const message = (m) => adapter.onRawMessage(Buffer.from(JSON.stringify({ uid: 'go', nsp: '/drivers', ...m })), Buffer.from(adapter.channel));
    await say('answer to fetch', () => message({ type: 7, data: { requestId: 'r1', opts: { rooms: [], except: [], flags: {} } } }));
    await say('answer to server emit', () => message({ type: 9, data: { requestId: 'r4', packet: ['hello'] } }));
    await say('answer to ask', () => {
      message({ type: 3, data: { requestId: 'r5', packet: packet('q'), opts: { rooms: [], except: [], flags: {} } } });
      for (const ack of [...adapter.nsp.sockets.get('sid1').acks.values()].slice(-1)) { ack({ photo }); ack('text'); ack(); }
    });
  }
}
const emitter = new Emitter(new Client()).of('drivers');
name = 'emitter: broadcast'; emitter.emit('news', { a: [1.5] });
name = 'emitter: to one room'; emitter.to('driver:1').volatile.emit('news', photo);
name = 'emitter: to two rooms but one'; emitter.to(['a', 'b']).except('c').emit('news');
name = 'emitter: join'; emitter.in('driver:1').socketsJoin('trip:1');
name = 'emitter: leave'; emitter.in('driver:1').socketsLeave(['trip:1', 'trip:2']);
name = 'emitter: disconnect'; emitter.in('driver:1').disconnectSockets(true);
name = 'emitter: server emit'; emitter.serverSideEmit('hello', 'world');

writeFileSync(new URL('golden.json', import.meta.url), JSON.stringify({ values, heads, old, messages }, null, 1) + '\n');
process.exit(0);
