// A Node server in a cluster over Redis, and an emitter, for the tests of
// redisadapter: it takes commands on stdin and answers on stdout, a JSON object
// a line. Arguments: the URL of Redis, of one of its servers with CLUSTER=1; classic
// or sharded; and the key.
//
// A Buffer is {"$binary": base64} on both.

import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import { createAdapter, createShardedAdapter } from '@socket.io/redis-adapter';
import { Emitter } from '@socket.io/redis-emitter';
import { createClient, createCluster } from 'redis';
import { io as connect } from 'sio4';
import { Server } from 'socket.io';

const [url, protocol, key] = process.argv.slice(2);
const pub = process.env.CLUSTER === '1' ? createCluster({ rootNodes: [{ url }] }) : createClient({ url });
const sub = pub.duplicate();
const plain = pub.duplicate();
for (const c of [pub, sub, plain]) c.on('error', (err) => console.error(String(err)));
await Promise.all([pub.connect(), sub.connect(), plain.connect()]);

const io = new Server(createServer(), {
  adapter: protocol === 'sharded'
    ? createShardedAdapter(pub, sub, { channelPrefix: key, subscriptionMode: 'static' })
    : createAdapter(pub, sub, { key, requestsTimeout: 2000, publishOnSpecificResponseChannel: process.env.SPECIFIC === '1' }),
});
const nsp = io.of('/drivers');
const emitter = new Emitter(plain, { key }).of('/drivers');
const clients = new Map();

const revive = (v) => JSON.parse(JSON.stringify(v ?? null), (_, x) => (x && typeof x === 'object' && '$binary' in x ? Buffer.from(x.$binary, 'base64') : x));
const plainly = (v) => {
  if (v instanceof ArrayBuffer || ArrayBuffer.isView(v)) return { $binary: Buffer.from(v).toString('base64') };
  if (Array.isArray(v)) return v.map(plainly);
  if (v && typeof v === 'object' && typeof v.toJSON !== 'function') return Object.fromEntries(Object.entries(v).map(([k, x]) => [k, plainly(x)]));
  return v;
};
const say = (o) => process.stdout.write(`${JSON.stringify(o)}\n`);

nsp.on('connection', (socket) => {
  socket.join(socket.handshake.auth.rooms ?? []);
  socket.data = socket.handshake.auth.data ?? {};
});
nsp.on('hello', (...args) => {
  const ack = typeof args.at(-1) === 'function' ? args.pop() : undefined;
  say({ server: ['hello', ...args.map(plainly)] });
  ack?.('from node');
});

/** The operator that a command is about: of the server, or of the emitter. */
function selected(from, { rooms = [], except = [], volatile = false }) {
  let to = from;
  if (rooms.length) to = to.to(rooms);
  if (except.length) to = to.except(except);
  return volatile ? to.volatile : to;
}

const commands = {
  async client({ name, rooms, data }) {
    const socket = connect(`http://127.0.0.1:${io.httpServer.address().port}/drivers`, { auth: { rooms, data, token: 'secret-token' }, forceNew: true, reconnection: false, transports: ['websocket'] });
    clients.set(name, socket);
    socket.onAny((event, ...args) => {
      const ack = typeof args.at(-1) === 'function' ? args.pop() : undefined;
      say({ client: name, args: [event, ...args.map(plainly)] });
      ack?.(`ack of ${name}`);
    });
    socket.on('disconnect', (reason) => say({ client: name, args: ['disconnect', reason] }));
    await new Promise((resolve, reject) => socket.once('connect', resolve).once('connect_error', reject));
    return socket.id;
  },
  emit: (c) => void selected(c.emitter ? emitter : nsp, c).emit(...revive(c.args)),
  join: (c) => void selected(c.emitter ? emitter : nsp, c).socketsJoin(c.targets),
  leave: (c) => void selected(c.emitter ? emitter : nsp, c).socketsLeave(c.targets),
  disconnect: (c) => void selected(c.emitter ? emitter : nsp, c).disconnectSockets(c.close),
  serverEmit: (c) => void (c.emitter ? emitter : nsp).serverSideEmit(...c.args),
  serverEmitWithAck: (c) => nsp.serverSideEmitWithAck(...c.args),
  async fetch(c) {
    const sockets = await selected(nsp, c).fetchSockets();
    return sockets.map(({ id, rooms, data, handshake }) => ({ id, rooms: [...rooms], data, auth: handshake.auth, headers: handshake.headers }));
  },
  ask: (c) => selected(nsp, c).timeout(c.timeout).emitWithAck(...revive(c.args)).then((acks) => acks.map(plainly)),
  async allRooms() { return [...await nsp.adapter.allRooms()]; },
  servers: () => nsp.adapter.serverCount(),
  async close() {
    for (const c of clients.values()) c.close();
    await io.close();
    await Promise.allSettled([pub.close(), sub.close(), plain.close()]);
    setTimeout(() => process.exit(0), 10);
  },
};

createInterface({ input: process.stdin }).on('line', async (line) => {
  const { id, command, ...c } = JSON.parse(line);
  try {
    say({ id, result: (await commands[command](c)) ?? null });
  } catch (err) {
    say({ id, error: String(err.message ?? err) });
  }
}).on('close', () => process.exit(0));
io.httpServer.listen(0, '127.0.0.1', () => say({ ready: true }));
