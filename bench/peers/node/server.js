'use strict';
// Node's socket.io under the load generator's contract (../../README.md).
// REDIS_URL makes it a node of a cluster. TUNED=1 is what its documentation advises for memory, and a KeyObject for the
// secret: with a string, jsonwebtoken first tries to read a public key from it. RECOVERY=1 is its connection state
// recovery, in memory or, in a cluster, with the adapter over Redis' streams. SIGTERM shuts it down in order.

const crypto = require('crypto');
const http = require('http');
const jwt = require('jsonwebtoken');
const { createAdapter } = require('@socket.io/redis-adapter');
const streams = require('@socket.io/redis-streams-adapter');
const { createClient } = require('redis');
const { Server } = require('socket.io');

const tuned = Boolean(process.env.TUNED);
const recovery = Boolean(process.env.RECOVERY);
const secret = tuned ? crypto.createSecretKey(Buffer.from(process.env.JWT_SECRET)) : process.env.JWT_SECRET;

const server = http.createServer((req, res) => {
  const url = new URL(req.url, 'http://localhost');
  if (url.pathname === '/bench/emit' && req.method === 'POST') {
    let body = '';
    req.on('data', (chunk) => (body += chunk));
    req.on('end', () => {
      emit(url.searchParams, body);
      answer(res, 200, 'ok');
    });
  } else if (url.pathname === '/bench/stream' && req.method === 'POST') {
    req.resume();
    stream(url.searchParams, () => answer(res, 200, 'ok'));
  } else if (url.pathname === '/bench/stats') {
    answer(res, 200, stats(url.searchParams.get('gc')));
  } else {
    answer(res, 404, '');
  }
});

function answer(res, status, body) {
  res.writeHead(status, { 'content-length': Buffer.byteLength(body) });
  res.end(body);
}

function emit(query, body) {
  const ns = io.of(query.get('ns'));
  const event = query.get('event');
  const first = Number(query.get('first') || 0);
  const n = Number(query.get('n') || 1);
  const rooms = body ? body.split('\n').filter(Boolean) : [query.get('room')];
  for (let i = 0; i < n; i++) for (const room of rooms) ns.to(room).emit(event, trip(first + i));
}

// At a set rate: each millisecond what is due. Without a room it is for everybody.
function stream(query, done) {
  const ns = io.of(query.get('ns'));
  const room = query.get('room');
  const event = query.get('event');
  const n = Number(query.get('n') || 1);
  const rate = Number(query.get('rate'));
  const began = performance.now();
  let i = 0;
  const step = () => {
    const due = Math.min(n, Math.floor(((performance.now() - began) / 1000) * rate) + 1);
    for (; i < due; i++) (room ? ns.to(room) : ns).emit(event, trip(i, Number(process.hrtime.bigint())));
    if (i < n) setTimeout(step, 1);
    else done();
  };
  step();
}

function trip(i, clock) {
  return {
    seq: i,
    tripId: 'trip-000000000042',
    status: 'started',
    driver: { id: 'drv-1', name: 'Ana Maria', plate: 'P123456' },
    at: '2026-11-22T19:00:00.000Z',
    clock,
  };
}

function stats(gc) {
  if (gc && global.gc) {
    global.gc();
    global.gc();
  }
  const m = process.memoryUsage();
  return JSON.stringify({ heap: m.heapUsed + m.external, handles: process._getActiveHandles().length });
}

const options = { pingInterval: Number(process.env.PING_INTERVAL || 25000), pingTimeout: 20000 };
if (tuned) {
  options.transports = ['websocket'];
  options.serveClient = false;
}
if (recovery) options.connectionStateRecovery = {};
const io = new Server(server, options);
if (tuned) {
  io.engine.on('connection', (raw) => {
    raw.request = null;
  });
}

function authenticate(socket, next) {
  try {
    const { sub, sid, userType } = jwt.verify(socket.handshake.auth.token, secret, { algorithms: ['HS256'] });
    Object.assign(socket.data, { sub, sid, userType });
    next();
  } catch {
    next(new Error('unauthorized'));
  }
}

const drivers = io.of('/drivers');
const passengers = io.of('/passengers');
const admin = io.of('/admin');
for (const ns of [drivers, passengers, admin]) ns.use(authenticate);

drivers.on('connection', (socket) => {
  const { sub, sid } = socket.data;
  socket.join('driver:' + sub);
  socket.join('session:' + sid);
  socket.on('driver:location:ping', (position, ack) => {
    const update = {
      driverId: sub,
      lastLocation: { lat: position.lat, lng: position.lng },
      lastLocationTimestamp: new Date().toISOString(),
    };
    drivers.to('driver:' + sub).emit('driver:location:update', update);
    admin.to('admin:drivers').emit('driver:location:update', update);
    if (ack) ack({ ok: true });
  });
  socket.emit('hello', { ok: true, nsp: '/drivers' });
});

passengers.on('connection', (socket) => {
  socket.join('passenger:' + socket.data.sub);
  socket.join('session:' + socket.data.sid);
  socket.emit('hello', { ok: true, nsp: '/passengers' });
});

admin.on('connection', (socket) => {
  socket.join('admin:all');
  socket.join('admin:drivers');
  socket.emit('hello', { ok: true, nsp: '/admin' });
});

async function listen() {
  if (process.env.REDIS_URL) {
    const publisher = createClient({ url: process.env.REDIS_URL });
    const subscriber = publisher.duplicate();
    await Promise.all([publisher.connect(), subscriber.connect()]);
    io.adapter(recovery ? streams.createAdapter(publisher) : createAdapter(publisher, subscriber));
  }
  // Clients whose network has gone would keep the server from closing for half a minute, and Redis' connections for good.
  process.once('SIGTERM', () => {
    io.close();
    setTimeout(() => process.exit(0), 1000);
  });
  server.listen(Number(process.env.PORT), '127.0.0.1');
}

listen();
