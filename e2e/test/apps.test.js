// Clients that are set up as the existing apps are: websocket only, reconnecting
// for ever, a fresh token put into auth before each attempt; and the dashboard,
// which listens to every event of trips by name and joins a trip without asking
// for an answer. They come back after all that is nobody's fault, and stay away
// when their session has ended.

import assert from 'node:assert/strict';
import { websocketOnly } from '../lib/client.js';
import { like, number } from '../lib/like.js';
import { scenario, tokenOf } from '../lib/scenario.js';
import { inSeconds } from '../lib/token.js';
import { assign, goOnline, ping } from '../lib/trip.js';

const broken = ['transport close', 'transport error'];
const existing = { reconnection: true, reconnectionAttempts: Infinity, reconnectionDelay: 50, reconnectionDelayMax: 300 };

/** An app of one of the people; its first token is special if it says so. */
function app(world, url, id, first = tokenOf(id)) {
  const c = world.as(id, { ...existing, url, token: first });
  c.socket.io.on('reconnect_attempt', () => {
    c.socket.auth = { token: tokenOf(id) };
  });
  return c;
}

const tripEventNames = [
  'trip:requested', 'trip:assigning_started', 'trip:assignment:offered', 'trip:driver_accepted', 'trip:assignment:accepted', 'trip:driver_assigned',
  'trip:assignment:rejected', 'trip:assignment:expired', 'trip:assignment:cancelled', 'trip:no_drivers_found', 'trip:arriving_started',
  'trip:driver_en_route', 'trip:driver_arrived_pickup', 'trip:started', 'trip:completed', 'trip:cancelled', 'trip:waiting_surcharge_applied',
  'trip:driver_location',
];

/** The dashboard: `shown` is what it has to show, in order. */
function dashboard(world, url, first) {
  const c = app(world, url, 'ana', first);
  c.shown = [];
  c.followed = new Set();
  for (const name of tripEventNames) c.socket.on(name, (payload) => c.shown.push([name, payload.tripId]));
  const join = (tripId) => c.socket.emit('admin:trip:join', { tripId });
  c.follow = (tripId) => {
    c.followed.add(tripId);
    join(tripId);
  };
  c.socket.on('connect', () => c.followed.forEach(join));
  return c;
}

/** Driver, passenger and dashboard, all connected. */
async function apps(world, url, token = () => undefined) {
  const driver = app(world, url, 'diego', token('diego'));
  const passenger = app(world, url, 'paula', token('paula'));
  const admin = dashboard(world, url, token('ana'));
  for (const c of [driver, passenger, admin]) await c.hello();
  return { driver, passenger, admin, all: [driver, passenger, admin] };
}

/** A whole trip works, and the dashboard shows all of it, once. */
async function wholeTrip(world, { driver, passenger, admin }) {
  admin.shown.length = 0;
  await goOnline(driver);
  const { tripId } = await assign(world.server, driver, passenger, tokenOf('paula'));
  admin.follow(tripId);
  await admin.roundTrip(); // the join has no answer of its own
  await ping(driver, { lat: 1, lng: 2 });
  await admin.until('position of the driver', () => admin.payloads('trip:driver_location').some((p) => p.tripId === tripId));
  for (const step of ['arriving', 'arrived', 'start', 'complete']) await world.server.post(`/api/trips/${tripId}/${step}`, tokenOf('diego'));
  for (const c of [driver, passenger, admin]) await c.until('end of the trip', () => c.payloads('trip:completed').some((p) => p.tripId === tripId));
  await admin.roundTrip();
  assert.deepEqual(admin.shown, [
    'trip:requested', 'trip:assigning_started', 'trip:assignment:offered', 'trip:assignment:accepted', 'trip:driver_assigned', 'trip:driver_location',
    'trip:arriving_started', 'trip:driver_en_route', 'trip:driver_arrived_pickup', 'trip:started', 'trip:completed',
  ].map((name) => [name, tripId]));
}

scenario('the apps come back after an expiry', async (world) => {
  const exp = inSeconds(6);
  const set = await apps(world, world.server.url, (id) => tokenOf(id, { exp }));
  for (const c of set.all) {
    assert.match(await c.disconnected(), /^transport (close|error)$/);
    assert.equal(c.count('event', 'auth:expired'), 1);
    await c.hello(2);
  }
  await wholeTrip(world, set);
  for (const c of set.all) assert.equal(c.count('connect'), 2);
}, { among: websocketOnly });

scenario('the apps come back after a network cut', async (world) => {
  const network = await world.network();
  const set = await apps(world, network.url);
  const { driver, passenger, admin, all } = set;
  await goOnline(driver);
  const { tripId } = await assign(world.server, driver, passenger, tokenOf('paula'));
  admin.follow(tripId);
  await admin.roundTrip();

  for (const n of [1, 2]) {
    const tries = network.accepted;
    network.cut();
    for (const c of all) assert.ok(broken.includes(await c.disconnected(n)), c.log.at(-1).name);
    // They keep trying while there is no network.
    await driver.until('attempts to reconnect', () => network.accepted >= tries + 1 || driver.count('refused') >= n * 2);
    network.heal();
    for (const c of all) await c.hello(n + 1);
    await admin.roundTrip();
    await ping(driver, { lat: n, lng: n });
    await passenger.event('trip:driver_location', n);
    await admin.event('trip:driver_location', n); // it has joined again
  }
  await world.server.post(`/api/trips/${tripId}/cancel`, tokenOf('diego'), { reason: 'no network' });
  for (const c of all) await c.event('trip:cancelled');
  await wholeTrip(world, set);
}, { among: websocketOnly });

scenario('the apps come back after restarts of the server', async (world) => {
  const set = await apps(world, world.server.url);
  await wholeTrip(world, set);

  assert.deepEqual(await world.server.stop('SIGTERM'), { code: 0, signal: null });
  for (const c of set.all) {
    assert.match(await c.disconnected(1), /^transport (close|error)$/);
    like(await c.event('server:drain'), { reconnectAfterMs: number });
  }
  await world.server.start();
  for (const c of set.all) await c.hello(2);
  await wholeTrip(world, set);

  await world.server.stop('SIGKILL');
  for (const c of set.all) assert.ok(broken.includes(await c.disconnected(2)), c.log.at(-1).name);
  await world.server.start();
  for (const c of set.all) await c.hello(3);
  await wholeTrip(world, set);
  for (const c of set.all) assert.equal(c.count('event', 'server:drain'), 1);
}, { among: websocketOnly });

scenario('the apps stay away after a revocation', async (world) => {
  const network = await world.network();
  const { driver, passenger, admin } = await apps(world, network.url);
  const control = app(world, network.url, 'dora');
  await control.hello();

  await world.server.post('/api/logout', tokenOf('diego'));
  await world.server.post('/api/admin/users/paula/ban', tokenOf('axel'));
  await world.server.post('/api/admin/sessions/ana%2Fa/revoke', tokenOf('axel'));
  const out = [driver, passenger, admin];
  for (const c of out) {
    assert.equal(await c.disconnected(), 'io server disconnect');
    assert.equal(c.count('event', 'auth:session_revoked'), 1);
  }

  // Twice such an app loses its network and reconnects. In all
  // that time they have not tried.
  for (const n of [1, 2]) {
    const tries = network.accepted;
    network.cut();
    await control.disconnected(n);
    network.heal();
    await control.hello(n + 1);
    await control.roundTrip();
    assert.ok(network.accepted > tries);
  }
  for (const c of out) {
    assert.deepEqual(c.log.map((e) => e.kind === 'event' ? e.name : e.kind), ['connect', 'hello', 'auth:session_revoked', 'disconnect'], `${c}`);
    assert.equal(c.socket.active, false);
  }
}, { among: websocketOnly });
